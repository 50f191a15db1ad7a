//! SQLite: values with a class of their own, and columns with an affinity.

use std::borrow::Cow;

use super::conversion::Unholdable;
use super::kind::{Affinity, ColumnType, Kind};
use super::number::{Decimal, double};
use super::plan::{Plan, Reading};
use super::time::Stamp;
use super::{Form, bytes, plan, text};
use crate::cell::Class;
use crate::sqlite_type::push_real;
use crate::table::Dialect;

/// A plan for each class (INTEGER, REAL, TEXT, BLOB) of a column of this affinity.
///
/// What a value looks like must tell its class at the target too. Where the affinity takes care of that (a text that
/// looks like a number is none in a NUMERIC column), numbers may go into text columns.
pub(super) fn plans(
    affinity: Affinity,
    source: &ColumnType,
    target: &ColumnType,
    form: Option<Form>,
) -> [Result<Plan, Unholdable>; 4] {
    let to_text = matches!(target.kind, Kind::Text { .. })
        || matches!(target.kind, Kind::Dynamic(Affinity::Text | Affinity::Blob));
    [
        (Class::Integer, Reading::Integer),
        (Class::Real, Reading::Float),
        (Class::Text, Reading::Text),
        (Class::Blob, Reading::Hex),
    ]
    .map(|(class, reading)| {
        if form == Some(Form::Text) {
            return Ok(Plan { reading: Reading::Text, same: false });
        }
        let reading = if form == Some(Form::Utc) && class == Class::Text { Reading::Utc } else { reading };
        let told_apart = match class {
            Class::Integer | Class::Real if to_text => affinity != Affinity::Blob,
            Class::Text if !to_text => affinity != Affinity::Blob || !is_number(&target.kind),
            Class::Blob => !to_text,
            _ => true,
        };
        if !told_apart {
            return Err(Unholdable::Class(class));
        }
        let of_class = ColumnType { kind: kind(class), ..source.clone() };
        plan::plan(&of_class, reading, target).ok_or(Unholdable::Class(class))
    })
}

fn is_number(kind: &Kind) -> bool {
    matches!(kind, Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Float { .. } | Kind::Year | Kind::Bool)
}

fn kind(class: Class) -> Kind {
    use super::kind::{Charset, Limit};
    match class {
        Class::Integer => Kind::Integer { bits: 64, unsigned: false },
        Class::Real => Kind::Float { bits: 64, scale: None, unsigned: false },
        Class::Text | Class::RawText => {
            Kind::Text { limit: Limit::None, padded: false, charset: Charset::Utf8 }
        }
        Class::Blob => Kind::Bytes { limit: Limit::None, fixed: false },
    }
}

/// The class and text that a column of this affinity keeps as they are.
pub(super) fn write(
    reading: Reading,
    affinity: Affinity,
    text: &str,
) -> Result<(Class, Cow<'_, str>), Unholdable> {
    match reading {
        Reading::Bool => match (affinity, text) {
            (Affinity::Text, _) => Ok((Class::Text, text.into())),
            (_, "t") => integer(affinity, "1"),
            (_, "f") => integer(affinity, "0"),
            _ => Err(Unholdable::NotOfType),
        },
        Reading::Integer => integer(affinity, text),
        Reading::Year => {
            let digits = text.trim_start_matches('0');
            integer(affinity, if digits.is_empty() { "0" } else { digits })
        }
        Reading::Decimal => decimal(affinity, text),
        Reading::Float | Reading::Single => float(affinity, text),
        Reading::Bytes => blob(text, true),
        Reading::Hex | Reading::Geometry => blob(text, false),
        // SQLite's own functions read `Z`, not `+00`.
        Reading::Timestamptz | Reading::Utc => {
            let text = match Stamp::parse(text) {
                Some(Stamp::Finite(stamp)) if stamp.zone.is_none() && reading == Reading::Utc => {
                    Cow::Owned(stamp.text(Dialect::Sqlite, Some(0), "Z"))
                }
                Some(Stamp::Finite(_)) => Cow::Owned(text.replacen("+00", "Z", 1)),
                _ => Cow::Borrowed(text),
            };
            characters(affinity, text)
        }
        _ => characters(affinity, text.into()),
    }
}

fn integer(affinity: Affinity, text: &str) -> Result<(Class, Cow<'_, str>), Unholdable> {
    match affinity {
        Affinity::Text => Ok((Class::Text, text.into())),
        Affinity::Integer | Affinity::Numeric | Affinity::Blob => {
            text.parse::<i64>().map_err(|_| Unholdable::Range)?;
            Ok((Class::Integer, text.into()))
        }
        Affinity::Real => {
            let number: i128 = text.parse().map_err(|_| Unholdable::Range)?;
            let value = number as f64;
            if value as i128 != number {
                return Err(Unholdable::Inexact);
            }
            Ok((Class::Real, real(value).into()))
        }
    }
}

fn real(value: f64) -> String {
    let mut out = String::new();
    push_real(&mut out, value);
    out
}

fn decimal(affinity: Affinity, text: &str) -> Result<(Class, Cow<'_, str>), Unholdable> {
    if matches!(affinity, Affinity::Text | Affinity::Blob) {
        return Ok((Class::Text, text.into()));
    }
    if text == "NaN" {
        return Err(Unholdable::NotANumber);
    }
    if matches!(text, "Infinity" | "-Infinity") {
        return Ok((Class::Real, text.into()));
    }
    let number = Decimal::parse(text).ok_or(Unholdable::NotOfType)?;
    if affinity != Affinity::Real
        && let Ok(whole) = number.integer()
        && let Ok(whole) = i64::try_from(whole)
    {
        return Ok((Class::Integer, whole.to_string().into()));
    }
    let value = double(text).ok_or(Unholdable::Range)?;
    let same = Decimal::parse(&format!("{value:e}")).is_some_and(|kept| kept.equals(&number));
    if same { Ok((Class::Real, real(value).into())) } else { Err(Unholdable::Inexact) }
}

fn float(affinity: Affinity, text: &str) -> Result<(Class, Cow<'_, str>), Unholdable> {
    let value = double(text).ok_or(Unholdable::NotOfType)?;
    match affinity {
        Affinity::Text => return Ok((Class::Text, text.into())),
        // SQLite makes NULL of it.
        _ if value.is_nan() => return Err(Unholdable::NotANumber),
        // Such columns keep whole numbers as integers on disk, REAL columns too: the sign would be lost.
        Affinity::Integer | Affinity::Numeric | Affinity::Real
            if value == 0.0 && value.is_sign_negative() =>
        {
            return Err(Unholdable::NegativeZero);
        }
        _ => {}
    }
    Ok((Class::Real, real(value).into()))
}

fn blob(text: &str, prefixed: bool) -> Result<(Class, Cow<'_, str>), Unholdable> {
    let digits = bytes::digits(text, prefixed).ok_or(Unholdable::NotOfType)?;
    Ok((Class::Blob, digits.into()))
}

fn characters(affinity: Affinity, text: Cow<'_, str>) -> Result<(Class, Cow<'_, str>), Unholdable> {
    let number = matches!(affinity, Affinity::Integer | Affinity::Real | Affinity::Numeric);
    if number && text::looks_numeric(&text) {
        return Err(Unholdable::Affinity);
    }
    Ok((Class::Text, text))
}
