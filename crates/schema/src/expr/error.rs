//! What is wrong with a program, where, and what to write instead; and why a row has no result.

use std::fmt;

use super::Type;
use crate::class::{Class, Classified};

/// Bytes of a program's text, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last one.
    pub end: usize,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    pub(super) fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }
}

/// A program that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ExprError {
    /// Where in the text.
    pub span: Span,
    /// What is wrong, with the way out.
    pub problem: Problem,
}

impl ExprError {
    pub(super) fn new(span: Span, problem: Problem) -> Self {
        Self { span, problem }
    }

    /// Line and column of the place, both from 1 on, the column in characters.
    #[must_use]
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The line of the place, and below it a mark under the place: for terminals.
    #[must_use]
    pub fn excerpt(&self, text: &str) -> String {
        let (line, column) = self.line_column(text);
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        let marked = text.get(self.span.start..self.span.end).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count().max(1);
        format!("{shown}\n{:>column$}{}", "^", "^".repeat(width - 1))
    }
}

/// What is wrong with a program. Texts come from the program itself, never from a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each variant's message says what it is, and its fields are what the message names.
pub enum Problem {
    #[error("the expression is empty (write a condition, such as `op == 'insert'`)")]
    Empty,
    #[error("the expression has {bytes} bytes, more than {most} (split it over several endpoints)")]
    TooLong { bytes: usize, most: usize },
    #[error("the expression is nested more than {most} levels deep (write `x in [..]` instead of chains)")]
    TooDeep { most: u16 },
    #[error("unexpected character {found:?}{}", .write.map_or(String::new(), |write| format!(" ({write})")))]
    Character { found: char, write: Option<&'static str> },
    #[error("`{found}` is no operator (write {write})")]
    Operator { found: &'static str, write: &'static str },
    #[error("`{found}` means nothing here (write {write})")]
    Word { found: String, write: &'static str },
    #[error(
        "the string does not end (close it with {quote}; one that spans lines has three quotes at both ends)"
    )]
    UnclosedString { quote: &'static str },
    #[error("`\\{found}` is no escape (write `\\\\` for a backslash, or a raw string such as r'\\d+')")]
    Escape { found: char },
    #[error(
        "this escape names no character (`\\xHH`, `\\uHHHH`, `\\UHHHHHHHH` and `\\ooo` name a Unicode character)"
    )]
    EscapeCode,
    #[error("not a number (write 12, 12.5, 1.5e3 or 0x1F; names do not begin with a digit)")]
    Number,
    #[error(
        "the number is too large (its exponent is at most {most}, a hexadecimal one has at most 32 digits)"
    )]
    NumberSize { most: usize },
    #[error("{what} have no place in filters ({instead})")]
    Unsupported { what: &'static str, instead: &'static str },
    #[error("expected {expected}, found {found}")]
    Expected { expected: &'static str, found: String },
    #[error("`{open}` is not closed")]
    Unclosed { open: char },
    #[error("there is no function `{name}`{}", way_out(.nearest.as_deref()))]
    UnknownFunction { name: String, nearest: Option<String> },
    #[error("there is no function `{name}` (write {write})")]
    OtherFunction { name: String, write: &'static str },
    #[error("`{name}` takes other arguments (write `{form}`)")]
    Arguments { name: &'static str, form: &'static str },
    #[error("not a pattern: {detail}")]
    Pattern { detail: String },
    #[error("there is no variable `{name}`{}", way_out(.nearest.as_deref()))]
    UnknownVariable { name: String, nearest: Option<String> },
    #[error("`{name}` is a column (write `after.{name}` for its new value, `before.{name}` for its old one)")]
    BareColumn { name: String },
    #[error("table {table} has no column `{name}`{}", way_out(.nearest.as_deref()))]
    UnknownColumn { table: String, name: String, nearest: Option<String> },
    #[error("a message has no `{name}`{}", way_out(.nearest.as_deref()))]
    NotOfMessage { name: String, nearest: Option<String> },
    #[error("`{name}` is no key column of table {table} (its key: {})", .key.join(", "))]
    NotKey { table: String, name: String, key: Vec<String> },
    #[error("{left} and {right} cannot be compared{}", .write.map_or(String::new(), |write| format!(" ({write})")))]
    Compare { left: Type, right: Type, write: Option<&'static str> },
    #[error("{found} has no order (write `==`, `!=` or `in`)")]
    NoOrder { found: Type },
    #[error("`{text}` is no time (write it as 2024-01-31T23:59:59Z, 2024-01-31 23:59:59 or 2024-01-31)")]
    NotTimestamp { text: String },
    #[error("`{text}` is no duration (write it as 1h30m, 90s or 500ms)")]
    NotDuration { text: String },
    #[error("`op` is never '{found}' (it is insert, update, delete, read, truncate or message)")]
    NotOp { found: String },
    #[error("expected {expected}, found {found}{}", .write.map_or(String::new(), |write| format!(" ({write})")))]
    Operand { expected: &'static str, found: Type, write: Option<&'static str> },
    #[error("the name of a column must be a string in quotes")]
    ColumnName,
    #[error("{found} has no fields{}", .write.map_or(String::new(), |write| format!(" ({write})")))]
    NoField { found: Type, write: Option<&'static str> },
    #[error("both results of `? :` must be of one type, found {left} and {right}")]
    Branches { left: Type, right: Type },
    #[error("a condition must be true or false, this is {found} (compare it, such as `after.total > 100`)")]
    NotCondition { found: Type },
    #[error("{found} cannot be a column's value{}", .write.map_or(String::new(), |write| format!(" ({write})")))]
    NotColumn { found: Type, write: Option<&'static str> },
}

fn way_out(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

/// Why a row has no result. Never holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{failure} at byte {} of the expression", .span.start)]
pub struct EvalError {
    /// Which part of the program.
    pub span: Span,
    /// What failed.
    pub failure: Failure,
}

/// What failed on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// `x / 0`, `x % 0`
    #[error("division by zero")]
    DivisionByZero,
    /// A number has more digits than are calculated with.
    #[error("a number with more than 1000 digits")]
    TooManyDigits,
    /// A point in time or a duration that no calendar has.
    #[error("a time beyond all calendars")]
    TimeRange,
    /// What a function was asked to read is none.
    #[error("a value that is no {expected}")]
    Conversion {
        /// `number`, `time`, `duration`.
        expected: &'static str,
    },
    /// A value of a column without one type (SQLite, JSON) is of another type than needed.
    #[error("expected {expected}, found {found}")]
    Operand {
        /// What the operation takes.
        expected: &'static str,
        /// What the row has.
        found: Type,
    },
}

impl Classified for EvalError {
    fn class(&self) -> Class {
        match self.failure {
            Failure::DivisionByZero
            | Failure::TooManyDigits
            | Failure::TimeRange
            | Failure::Conversion { .. }
            | Failure::Operand { .. } => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self.failure {
            Failure::DivisionByZero => "Guard the division: `after.n != 0 && after.total / after.n > 5`.".to_owned(),
            Failure::TooManyDigits | Failure::TimeRange => "Leave such rows out by a comparison before it.".to_owned(),
            Failure::Conversion { .. } | Failure::Operand { .. } => {
                "The value has not the form that the expression needs: guard it by a comparison or by matches().".to_owned()
            }
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Timestamp => "a time",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Json => "JSON",
            Self::Row => "a row",
            Self::Any => "a value of any type",
        })
    }
}
