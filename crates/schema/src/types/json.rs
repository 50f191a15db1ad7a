//! JSON that a database takes apart: what would be lost in one that does not keep the text.

use std::collections::HashSet;

use super::conversion::Unholdable;
use super::number::{Decimal, double};
use crate::table::Dialect;

/// Deepest nesting. MySQL takes 100 levels, PostgreSQL more than a thread's stack should be trusted with here.
const MAX_DEPTH: usize = 512;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// What parses the text: none for a column that keeps it.
    parsed_by: Option<Dialect>,
}

/// Whether the text is JSON, and one that `parsed_by` gives back with the same keys and numbers.
pub(super) fn check(text: &str, parsed_by: Option<Dialect>) -> Result<(), Unholdable> {
    let mut scanner = Scanner { text, at: 0, parsed_by };
    scanner.blanks();
    scanner.value(0)?;
    scanner.blanks();
    if scanner.at == text.len() { Ok(()) } else { Err(Unholdable::NotOfType) }
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Unholdable> {
        if self.peek() != Some(byte) {
            return Err(Unholdable::NotOfType);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), Unholdable> {
        let most = if self.parsed_by == Some(Dialect::Mysql) { 100 } else { MAX_DEPTH };
        if depth > most {
            return Err(Unholdable::NotOfType);
        }
        match self.peek() {
            Some(b'{') => {
                let mut keys = HashSet::new();
                self.items(b'}', |scanner| {
                    let raw = scanner.string()?;
                    let key: String = serde_json::from_str(raw).map_err(|_| Unholdable::NotOfType)?;
                    if !keys.insert(key) && scanner.parsed_by.is_some() {
                        return Err(Unholdable::DuplicateKey);
                    }
                    scanner.blanks();
                    scanner.take(b':')?;
                    scanner.blanks();
                    scanner.value(depth + 1)
                })
            }
            Some(b'[') => self.items(b']', |scanner| scanner.value(depth + 1)),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for word in ["true", "false", "null"] {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(());
                    }
                }
                Err(Unholdable::NotOfType)
            }
        }
    }

    fn items(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Unholdable>,
    ) -> Result<(), Unholdable> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            item(self)?;
            self.blanks();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            return self.take(end);
        }
    }

    /// The string with its quotes.
    fn string(&mut self) -> Result<&'a str, Unholdable> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(byte) if byte >= 0x20 => self.at += 1,
                _ => return Err(Unholdable::NotOfType),
            }
        }
        self.at += 1;
        let raw = self.text.get(start..self.at).ok_or(Unholdable::NotOfType)?;
        if raw.contains('\\') {
            // Escapes must be ones; a lone surrogate is none that a parsed document could hold.
            let read: Result<String, _> = serde_json::from_str(raw);
            match read {
                Ok(text) if self.parsed_by == Some(Dialect::Postgres) && text.contains('\0') => {
                    return Err(Unholdable::Nul);
                }
                Ok(_) => {}
                Err(_) if self.parsed_by.is_none() => {}
                Err(_) => return Err(Unholdable::NotOfType),
            }
        }
        Ok(raw)
    }

    fn number(&mut self) -> Result<(), Unholdable> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let leading_zero =
            unsigned.starts_with('0') && unsigned.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if leading_zero {
            return Err(Unholdable::NotOfType);
        }
        let number = Decimal::parse(text).ok_or(Unholdable::NotOfType)?;
        if self.parsed_by != Some(Dialect::Mysql) {
            return Ok(());
        }
        // MySQL keeps 64-bit integers and doubles.
        let whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if whole && number.integer().is_ok_and(|n| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&n))
        {
            return Ok(());
        }
        let value = double(text).ok_or(Unholdable::Range)?;
        let shortest = format!("{value:e}");
        let same = Decimal::parse(&shortest).is_some_and(|kept| kept.equals(&number));
        if same { Ok(()) } else { Err(Unholdable::Inexact) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_by_what_becomes_of_it() {
        let mysql = |text| check(text, Some(Dialect::Mysql));
        let postgres = |text| check(text, Some(Dialect::Postgres));
        let kept = |text| check(text, None);
        for text in ["null", " {\"a\": [1, -2.50, {}, []], \"\\u00e4\": \"\u{1F600}\"} ", "\"\"", "0", "1e5"]
        {
            assert_eq!((mysql(text), postgres(text), kept(text)), (Ok(()), Ok(()), Ok(())), "{text}");
        }
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "01",
            "tru",
            "'a'",
            "\"\u{1}\"",
            "1 2",
            "{a:1}",
            "\"\\x\"x",
            "-",
            "\"\\",
        ] {
            assert_eq!(kept(text), Err(Unholdable::NotOfType), "{text}");
        }
        assert_eq!(mysql("{\"a\":1,\"\\u0061\":2}"), Err(Unholdable::DuplicateKey));
        assert_eq!(kept("{\"a\":1,\"a\":2}"), Ok(()));
        assert_eq!(mysql("18446744073709551615"), Ok(()));
        assert_eq!(mysql("18446744073709551617"), Err(Unholdable::Inexact));
        assert_eq!(mysql("123456789012345678901234567890.10"), Err(Unholdable::Inexact));
        assert_eq!(mysql("1e400"), Err(Unholdable::Range));
        assert_eq!(postgres("1e400"), Ok(()));
        assert_eq!(postgres("\"\\u0000\""), Err(Unholdable::Nul));
        assert_eq!(kept("\"\\u0000\""), Ok(()));
        assert_eq!(postgres(&"[".repeat(100_000)), Err(Unholdable::NotOfType));
    }
}
