//! One column's conversion: planned once, then applied to each value.

use std::borrow::Cow;

use super::Form;
use super::kind::{Affinity, ColumnType, Kind};
use super::made::Server;
use super::plan::{Plan, Reading};
use super::time::Stamp;
use super::{plan, sqlite};
use crate::cell::{Cell, Class};
use crate::sqlite_type::natural_class;
use crate::table::Dialect;

/// No value of one type, or not every value, could be told apart in the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("values of type {source_type} cannot be kept exactly in a column of type {target_type}")]
pub struct Mismatch {
    /// The source's type.
    pub source_type: String,
    /// The type of the target's column.
    pub target_type: String,
}

/// Why a value cannot be held by the target's column. Names no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unholdable {
    /// Too large, too small, or negative in an unsigned column.
    #[error("the value is out of range")]
    Range,
    /// The server would round.
    #[error("the value has more digits after the point than the column keeps")]
    Scale,
    /// The server would round.
    #[error("the value has a finer fraction of a second than the column keeps")]
    Fraction,
    /// A binary float would be another number.
    #[error("the value is not exact as a number of the column's type")]
    Inexact,
    /// `NaN`
    #[error("the value is NaN")]
    NotANumber,
    /// `Infinity`, `infinity`.
    #[error("the value is infinite")]
    Infinite,
    /// `-0`
    #[error("the value is a negative zero")]
    NegativeZero,
    /// Too long.
    #[error("the value is longer than the column allows")]
    Length,
    /// `BINARY(n)` would be filled up.
    #[error("the value is shorter than the column, which would add bytes")]
    Filled,
    /// `char(n)` drops them.
    #[error("the value ends with blanks, which the column does not keep")]
    Blanks,
    /// PostgreSQL's text has no U+0000, nor has `jsonb`.
    #[error("the text contains the character U+0000")]
    Nul,
    /// The column's charset lacks a character.
    #[error("the text has characters that the column's character set lacks")]
    Charset,
    /// BC, or a year above 9999.
    #[error("the year lies outside of what the column keeps")]
    Year,
    /// `0000-00-00`, `2024-00-10`.
    #[error("year, month or day is zero; `as = \"null_if_zero\"` in a [[map]] makes it NULL")]
    ZeroDate,
    /// The 31st of February.
    #[error("the date is not in the calendar")]
    Calendar,
    /// `-01:00:00`, `30:00:00`.
    #[error("the time lies outside of a day")]
    BeyondDay,
    /// A span that counts days or months.
    #[error("the interval has days or months")]
    Months,
    /// Neither `Z` nor `+00`.
    #[error("the time is not given in UTC")]
    Offset,
    /// A point in time needs a zone.
    #[error("the text has no time zone; `as = \"utc\"` in a [[map]] takes it as UTC")]
    NoZone,
    /// No label of the enum or set.
    #[error("the value is none of the column's labels")]
    Label,
    /// An address with mask, or of another version.
    #[error("the address has a mask or another version than the column keeps")]
    Address,
    /// Not what the type's texts look like.
    #[error("the text is no value of the column's type")]
    NotOfType,
    /// JSON object with a key twice.
    #[error("the JSON has a key twice, of which the column would keep one")]
    DuplicateKey,
    /// The target's affinity would turn the text into a number.
    #[error("the text looks like a number, which the column's affinity would make of it")]
    Affinity,
    /// A SQLite value of another class than its column declares.
    #[error("a value of class {} lies in a column declared otherwise; `as = \"text\"` in a [[map]] writes its text", class_name(*.0))]
    Class(Class),
    /// Text that is not UTF-8.
    #[error("the text is not valid UTF-8")]
    RawText,
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Integer => "INTEGER",
        Class::Real => "REAL",
        Class::Text | Class::RawText => "TEXT",
        Class::Blob => "BLOB",
    }
}

/// How the values of one column get into another.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    target: ColumnType,
    natural: Class,
    steps: Steps,
    null_if_zero: bool,
    keeps_order: bool,
    /// MariaDB makes 0 of a negative zero, MySQL keeps it.
    negative_zero: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Steps {
    /// All values are of one kind.
    One(Plan),
    /// SQLite: by class, with the class of an untagged value.
    Classes { untagged: Class, plans: [Result<Plan, Unholdable>; 4] },
}

fn slot(class: Class) -> Option<usize> {
    Some(match class {
        Class::Integer => 0,
        Class::Real => 1,
        Class::Text => 2,
        Class::Blob => 3,
        Class::RawText => return None,
    })
}

impl Conversion {
    /// Plans how values of `source` are written into a column of type `target`.
    ///
    /// # Errors
    /// Types that have no exact conversion.
    pub fn between(source: &ColumnType, target: &ColumnType) -> Result<Self, Mismatch> {
        Self::with(source, target, None)
    }

    /// The same, with what the operator asks for.
    ///
    /// # Errors
    /// As [`Self::between`]; or a form that makes no sense for the types.
    pub fn with(source: &ColumnType, target: &ColumnType, form: Option<Form>) -> Result<Self, Mismatch> {
        let mismatch = || Mismatch { source_type: source.shown(), target_type: target.shown() };
        let natural = natural_class(&target.name);
        let null_if_zero = form == Some(Form::NullIfZero);
        let is_text = match target.kind {
            Kind::Text { .. } => true,
            Kind::Dynamic(affinity) => matches!(affinity, Affinity::Text | Affinity::Blob),
            _ => false,
        };
        let fits = match form {
            None => true,
            Some(Form::Text) => is_text,
            Some(Form::Utc) => matches!(source.kind, Kind::Timestamp(_) | Kind::Dynamic(_)),
            Some(Form::NullIfZero) => {
                source.dialect == Dialect::Mysql
                    && matches!(source.kind, Kind::Date | Kind::Timestamp(_) | Kind::Timestamptz(_))
            }
        };
        if !fits {
            return Err(mismatch());
        }
        let steps = if let Kind::Dynamic(affinity) = source.kind {
            let plans = sqlite::plans(affinity, source, target, form);
            if plans.iter().all(Result::is_err) {
                return Err(mismatch());
            }
            let untagged = natural_class(&source.name);
            // A column none of whose ordinary values fits is a mismatch, not a series of errors. Without a declared type no
            // class is the ordinary one.
            if slot(untagged).is_some_and(|slot| plans[slot].is_err())
                && affinity != Affinity::Numeric
                && !source.name.trim().is_empty()
            {
                return Err(mismatch());
            }
            Steps::Classes { untagged, plans }
        } else {
            let reading = match (form, Reading::of(&source.kind)) {
                (Some(Form::Text), _) => Reading::Text,
                (Some(Form::Utc), _) => Reading::Utc,
                (_, reading) => reading,
            };
            let plan = if form == Some(Form::Text) {
                Plan { reading, same: false }
            } else {
                plan::plan(source, reading, target).ok_or_else(mismatch)?
            };
            Steps::One(plan)
        };
        let ordered = |plan: &Plan| plan.keeps_order(source.dialect, target);
        let keeps_order = match &steps {
            Steps::One(plan) => ordered(plan),
            Steps::Classes { untagged, plans } => {
                slot(*untagged).and_then(|slot| plans[slot].as_ref().ok()).is_some_and(ordered)
            }
        };
        Ok(Self { target: target.clone(), natural, steps, null_if_zero, keeps_order, negative_zero: true })
    }

    /// The same for the column of a server: MariaDB's holds less than MySQL's.
    #[must_use]
    pub fn at(mut self, server: Server) -> Self {
        self.negative_zero = server != Server::Mariadb || !matches!(self.target.kind, Kind::Float { .. });
        self
    }

    /// Whether every value is written as it came.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        matches!(self.steps, Steps::One(Plan { same: true, .. }))
            && self.target.dialect != Dialect::Sqlite
            && !self.null_if_zero
    }

    /// Whether the target orders these values as the source does, so that a range of keys is the same range there.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        self.keeps_order
    }

    /// Converts one value. Borrows where the text is the same.
    ///
    /// # Errors
    /// A value that the column cannot hold exactly.
    pub fn convert<'a>(&self, cell: Cell<'a>) -> Result<Cell<'a>, Unholdable> {
        let (class, text) = match cell {
            Cell::Null => return Ok(Cell::Null),
            Cell::Text(text) => (None, text),
            Cell::Classed(class, text) => (Some(class), text),
        };
        let plan = match (&self.steps, class) {
            (Steps::One(plan), None) => plan,
            // Only SQLite has classes.
            (Steps::One(_), Some(_)) => return Err(Unholdable::NotOfType),
            (Steps::Classes { untagged, plans }, class) => {
                let class = class.unwrap_or(*untagged);
                let slot = slot(class).ok_or(Unholdable::RawText)?;
                plans[slot].as_ref().map_err(|unholdable| *unholdable)?
            }
        };
        if self.null_if_zero
            && let Some(Stamp::Finite(stamp)) = Stamp::parse(&text)
            && stamp.has_zero()
        {
            return Ok(Cell::Null);
        }
        let converted = match text {
            Cow::Borrowed(text) => self.written(plan, text)?,
            Cow::Owned(text) => {
                let (class, converted) = self.written(plan, &text)?;
                match converted {
                    Cow::Borrowed(same) if same == text => (class, Cow::Owned(text)),
                    other => (class, Cow::Owned(other.into_owned())),
                }
            }
        };
        if !self.negative_zero && converted.1 == "-0" {
            return Err(Unholdable::NegativeZero);
        }
        Ok(match converted {
            (class, text) if class == self.natural || self.target.dialect != Dialect::Sqlite => {
                Cell::Text(text)
            }
            (class, text) => Cell::Classed(class, text),
        })
    }

    fn written<'a>(&self, plan: &Plan, text: &'a str) -> Result<(Class, Cow<'a, str>), Unholdable> {
        match self.target.kind {
            Kind::Dynamic(affinity) => sqlite::write(plan.reading, affinity, text),
            _ if plan.same => Ok((Class::Text, Cow::Borrowed(text))),
            _ => Ok((Class::Text, plan::write(plan.reading, &self.target, text)?)),
        }
    }

    /// What to tell of a value that cannot be held.
    #[must_use]
    pub fn refusal(&self, why: Unholdable) -> String {
        format!("{why}; the target's column is of type {}", self.target.shown())
    }
}
