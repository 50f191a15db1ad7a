//! Characters.

use super::conversion::Unholdable;
use super::kind::{Charset, Limit};
use crate::table::Dialect;

/// Whether a text column holds this text as it is.
pub(super) fn fit(
    text: &str,
    dialect: Dialect,
    limit: Limit,
    padded: bool,
    charset: Charset,
) -> Result<(), Unholdable> {
    if dialect == Dialect::Postgres && text.contains('\0') {
        return Err(Unholdable::Nul);
    }
    if padded && text.ends_with(' ') {
        return Err(Unholdable::Blanks);
    }
    let long = match limit {
        Limit::None => false,
        // A character has at least one byte: most texts need not be counted.
        Limit::Chars(most) => text.len() > most as usize && text.chars().count() > most as usize,
        Limit::Bytes(most) => text.len() as u64 > most,
    };
    if long {
        return Err(Unholdable::Length);
    }
    let has = match charset {
        Charset::Utf8 | Charset::Other => true,
        Charset::Plane0 => text.chars().all(|c| u32::from(c) < 0x1_0000),
        Charset::Ascii => text.is_ascii(),
        Charset::Latin1 => text.is_ascii() || text.chars().all(in_latin1),
    };
    if has { Ok(()) } else { Err(Unholdable::Charset) }
}

/// MySQL's `latin1`: Windows-1252, whose unused bytes stand for the control characters of their number.
fn in_latin1(c: char) -> bool {
    match u32::from(c) {
        0..=0x7f | 0xa0..=0xff | 0x81 | 0x8d | 0x8f | 0x90 | 0x9d => true,
        _ => "\u{20ac}\u{201a}\u{192}\u{201e}\u{2026}\u{2020}\u{2021}\u{2c6}\u{2030}\u{160}\u{2039}\u{152}\u{17d}\
              \u{2018}\u{2019}\u{201c}\u{201d}\u{2022}\u{2013}\u{2014}\u{2dc}\u{2122}\u{161}\u{203a}\u{153}\u{17e}\
              \u{178}"
            .contains(c),
    }
}

/// Whether SQLite would take a text for a number where a column's affinity prefers numbers. Blanks around it do not
/// keep it from doing so.
pub(super) fn looks_numeric(text: &str) -> bool {
    let text = text.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r'));
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}
