//! Bytes as hexadecimal text: `\x00ff` in PostgreSQL and MySQL, `00ff` in SQLite and in geometries.

use std::borrow::Cow;

use super::conversion::Unholdable;
use super::kind::Limit;

/// The digits, if that is what the text is.
pub(super) fn digits(text: &str, prefixed: bool) -> Option<&str> {
    let digits = if prefixed { text.strip_prefix("\\x")? } else { text };
    let fits = digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(digits)
}

/// Bytes for a column of at most `limit`; a `fixed` one is filled up with zeros, which is refused here since it would add
/// bytes that the source does not have.
pub(super) fn fit(digits: &str, limit: Limit, fixed: bool) -> Result<(), Unholdable> {
    let length = digits.len() as u64 / 2;
    match limit {
        Limit::None => Ok(()),
        Limit::Chars(most) => check(length, u64::from(most), fixed),
        Limit::Bytes(most) => check(length, most, fixed),
    }
}

fn check(length: u64, most: u64, fixed: bool) -> Result<(), Unholdable> {
    if length > most {
        Err(Unholdable::Length)
    } else if fixed && length < most {
        Err(Unholdable::Filled)
    } else {
        Ok(())
    }
}

/// The digits with or without `\x`, borrowed where nothing changes.
pub(super) fn written<'a>(text: &'a str, digits: &'a str, prefixed: bool) -> Cow<'a, str> {
    match (prefixed, text.len() == digits.len()) {
        (true, true) => Cow::Owned(format!("\\x{digits}")),
        (true, false) => Cow::Borrowed(text),
        (false, _) => Cow::Borrowed(digits),
    }
}
