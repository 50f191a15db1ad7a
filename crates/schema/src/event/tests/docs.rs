//! `docs/formats.md` shows what the code writes: its examples, and its table of values.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{bodies, messages, samples, text};
use crate::event::Event;
use crate::event::natural::write_json;
use crate::table::Dialect;
use crate::types::tests as types;

const BEGIN: &str = "<!-- values: written by a test; ROWBRIDGE_WRITE_DOCS=1 cargo test -p rowbridge-schema natural_values -->\n";
const END: &str = "<!-- end of values -->";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md")
}

/// Examples are broken into lines, with blanks before them, wherever it pleases the reader.
#[test]
fn examples_are_what_is_written() {
    let document = std::fs::read_to_string(path()).unwrap();
    let samples = samples::orders_events();
    let update = samples.iter().find(|sample| sample.name == "update").unwrap();
    compare(&document, "", &update.event());
    compare(&document, "message.", &messages::all()[0].event());
}

fn compare(document: &str, prefix: &str, event: &Event<'_>) {
    for (ending, body) in bodies(event) {
        let begin = format!("<!-- example: {prefix}{ending} -->\n");
        let start = document.find(&begin).unwrap_or_else(|| panic!("no example of {ending}")) + begin.len();
        let block = document[start..].split("```").nth(1).unwrap();
        let lines: Vec<&str> = block.lines().skip(1).collect();
        let shown: String =
            match lines.iter().position(|line| line.is_empty()).filter(|_| ending.ends_with("http")) {
                Some(blank) => {
                    lines[..blank].join("\n")
                        + "\n\n"
                        + &lines[blank..].iter().map(|line| line.trim()).collect::<String>()
                }
                // A line of attributes goes on with a blank.
                None if ending == "xml" => {
                    lines.iter().fold(String::new(), |shown, line| match line.trim() {
                        element if element.starts_with('<') => shown + element,
                        attributes => shown + " " + attributes,
                    })
                }
                None => lines.iter().map(|line| line.trim()).collect(),
            };
        assert_eq!(shown, if ending == "xml" { body.replace('\n', "") } else { body }, "{ending}");
    }
}

fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let escaped: String = text
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
        .collect();
    format!("`{}`", escaped.replace('|', "\\|"))
}

fn table(dialect: Dialect) -> String {
    let mut out = String::new();
    let title = if dialect == Dialect::Mysql { "MySQL and MariaDB" } else { dialect.title() };
    let _ = writeln!(out, "### {title}\n\n| type | value | in JSON |\n| --- | --- | --- |");
    for (name, values) in types::samples::of(dialect) {
        let column = types::column(dialect, name);
        let mut declared = code(name.split('@').next().unwrap_or_default());
        if declared.is_empty() {
            declared = "(none)".into();
        }
        for value in *values {
            let cell = types::cell(dialect, value);
            let class = match &cell {
                crate::Cell::Classed(class, _) => match class {
                    crate::StorageClass::Integer => "integer ",
                    crate::StorageClass::Real => "real ",
                    crate::StorageClass::Text => "text ",
                    crate::StorageClass::Blob => "blob ",
                    crate::StorageClass::RawText => "text that is not UTF-8 ",
                },
                _ => "",
            };
            let json = text(|out| write_json(out, &column, &cell));
            let shown = cell.as_str().unwrap_or_default();
            let _ = writeln!(out, "| {declared} | {class}{} | {} |", code(shown), code(&json));
            declared.clear();
        }
    }
    out
}

#[test]
fn natural_values_are_documented_as_they_are() {
    let document = std::fs::read_to_string(path()).unwrap();
    let start = document.find(BEGIN).expect("docs/formats.md has the beginning of the table") + BEGIN.len();
    let end = document.find(END).expect("docs/formats.md has the end of the table");
    let tables = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite].map(table).join("\n");
    let written = format!("\n{tables}\n");
    if std::env::var_os("ROWBRIDGE_WRITE_DOCS").is_some() {
        std::fs::write(path(), format!("{}{written}{}", &document[..start], &document[end..])).unwrap();
        return;
    }
    assert_eq!(
        &document[start..end],
        written,
        "docs/formats.md differs: run ROWBRIDGE_WRITE_DOCS=1 cargo test -p rowbridge-schema natural_values"
    );
}
