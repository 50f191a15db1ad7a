//! Rows as this release writes them, without blanks: most of a large delivery. Read without a parser's care for each byte,
//! since the JSON around them was found well formed before.

use std::borrow::Cow;

use crate::cell::{Cell, Class};

/// Cells of `[[cell,...],...]`, row after row; `None` if there is anything else in it, or a row of another width.
pub(super) fn rows(json: &str, width: usize) -> Option<Vec<Cell<'_>>> {
    let mut scan = Scan { json, at: 0 };
    (width > 0).then_some(())?;
    scan.take(b'[')?;
    // A cell is seldom shorter than this, so that the vector hardly grows.
    let mut cells = Vec::with_capacity(json.len() / 20 + width);
    loop {
        scan.take(b'[')?;
        for column in 0..width {
            if column > 0 {
                scan.take(b',')?;
            }
            cells.push(scan.cell()?);
        }
        scan.take(b']')?;
        match scan.next()? {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    (scan.at == json.len()).then_some(cells)
}

struct Scan<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.json.as_bytes().get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn literal(&mut self, rest: &str) -> Option<()> {
        let found = self.json.as_bytes().get(self.at..)?.starts_with(rest.as_bytes());
        self.at += rest.len();
        found.then_some(())
    }

    fn cell(&mut self) -> Option<Cell<'a>> {
        match self.next()? {
            b'"' => self.string().map(Cell::Text),
            b'n' => self.literal("ull").map(|()| Cell::Null),
            b'{' => {
                self.take(b'"')?;
                let tag = self.string()?;
                self.take(b':')?;
                self.take(b'"')?;
                let text = self.string()?;
                self.take(b'}')?;
                Some(Cell::Classed(Class::from_tag(&tag)?, text))
            }
            _ => None,
        }
    }

    /// The string whose opening quote was taken.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let from = self.at;
        match self.stop()? {
            b'"' => self.json.get(from..self.at - 1).map(Cow::Borrowed),
            _ => self.unescaped(from).map(Cow::Owned),
        }
    }

    /// Goes behind the next quote or backslash.
    fn stop(&mut self) -> Option<u8> {
        let bytes = self.json.as_bytes();
        self.at += memchr::memchr2(b'"', b'\\', bytes.get(self.at..)?)? + 1;
        bytes.get(self.at - 1).copied()
    }

    /// The string that began at `from` and whose first backslash was taken.
    fn unescaped(&mut self, from: usize) -> Option<String> {
        let mut text = String::with_capacity(2 * (self.at - from) + 16);
        let mut plain = from;
        loop {
            text.push_str(self.json.get(plain..self.at - 1)?);
            text.push(match self.next()? {
                byte @ (b'"' | b'\\' | b'/') => char::from(byte),
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'u' => return self.whole(from),
                _ => return None,
            });
            plain = self.at;
            if self.stop()? == b'"' {
                text.push_str(self.json.get(plain..self.at - 1)?);
                return Some(text);
            }
        }
    }

    /// The same with code units among its escapes: seldom enough for a parser.
    fn whole(&mut self, from: usize) -> Option<String> {
        while self.stop()? == b'\\' {
            // Whatever is escaped, its first byte ends nothing.
            self.next()?;
        }
        serde_json::from_str(self.json.get(from - 1..self.at)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::TableId;
    use crate::wire::{Op, RunKind, RunWriter, read_run};

    fn any_cell() -> impl Strategy<Value = Cell<'static>> {
        let text = || "[a\"\\\\\u{0}-\u{1f}\u{7f}ö€\\[\\],{}]{0,6}".prop_map(Cow::Owned);
        prop_oneof![
            Just(Cell::Null),
            text().prop_map(Cell::Text),
            text().prop_map(|t| Cell::Classed(Class::RawText, t))
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(rows in proptest::collection::vec(proptest::array::uniform3(any_cell()), 1..8)) {
            let new = [0, 1, 2];
            let table = TableId::of_json("{}");
            let kind = RunKind { table, table_index: 0, op: Op::Insert, old: &[], new: &new, maybe_missing: false };
            let mut writer = RunWriter::new();
            for (n, row) in (1..).zip(&rows) {
                writer.row(kind, n, |cells| row.iter().for_each(|cell| cells.cell(cell)));
            }
            let (body, _) = writer.finish();
            let json = std::str::from_utf8(&body).unwrap();
            let at = json.find("\"r\":").unwrap() + 4;
            let scanned = super::rows(&json[at..json.len() - 1], 3);
            prop_assert_eq!(scanned.as_deref(), Some(rows.as_flattened()));
            prop_assert_eq!(read_run(&body).unwrap().cells, rows.as_flattened());
        }
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let text = |text: &'static str| Cell::text(text);
        let json = r#"[["1","",null],["a\"b\\","\u00f6\n",{"b":"00ff"}],["ö","\\","]"]]"#;
        let cells = rows(json, 3).unwrap();
        let blob = Cell::Classed(Class::Blob, "00ff".into());
        let wanted = [
            text("1"),
            text(""),
            Cell::Null,
            text("a\"b\\"),
            text("ö\n"),
            blob,
            text("ö"),
            text("\\"),
            text("]"),
        ];
        assert_eq!(cells, wanted);
        assert!(matches!(cells[0], Cell::Text(Cow::Borrowed(_))));
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_parser() {
        for json in [
            "[]",
            "[[]]",
            r#"[["1"] ]"#,
            r#"[ ["1"]]"#,
            r#"[["1","2"]]"#,
            "[[1]]",
            r#"[[{"x":"1"}]]"#,
            r#"[["1"#,
            "",
            "[[nul",
        ] {
            assert_eq!(rows(json, 1), None, "{json}");
        }
        assert_eq!(rows("[[]]", 0), None);
    }
}
