//! The table of all crossings in `docs/types.md` is what the code does.

use std::fmt::Write as _;
use std::path::Path;

use super::super::{Conversion, Server, made_as, too_long_together};
use super::{Dialect, cell, column, made, samples};

const BEGIN: &str = "<!-- crossings: written by a test; ROWBRIDGE_WRITE_DOCS=1 cargo test -p rowbridge-schema crossings -->\n";
const END: &str = "<!-- end of crossings -->";

fn servers(source: Dialect) -> [(&'static str, Server); 2] {
    let postgres = ("PostgreSQL", Server::Postgres);
    let mysql = ("MySQL, MariaDB", Server::Mysql);
    let sqlite = ("SQLite", Server::Sqlite);
    match source {
        Dialect::Postgres => [mysql, sqlite],
        Dialect::Mysql => [postgres, sqlite],
        Dialect::Sqlite => [postgres, mysql],
    }
}

fn code(text: &str) -> String {
    const MOST: usize = 40;
    let escaped: String = text
        .escape_debug()
        .collect::<String>()
        .replace("\\'", "'")
        .replace("\\\"", "\"")
        .replace("\\\\", "\\");
    let short: String = escaped.chars().take(MOST).collect();
    let dots = if escaped.chars().count() > MOST { "..." } else { "" };
    format!("`{}{dots}`", short.replace('|', "\\|"))
}

fn value(dialect: Dialect, text: &str) -> String {
    match (dialect, text.split_once(':')) {
        (Dialect::Sqlite, Some((tag @ ("i" | "r" | "t" | "b" | "u"), rest))) => {
            let class = match tag {
                "i" => "integer",
                "r" => "real",
                "t" => "text",
                "b" => "blob",
                _ => "text that is not UTF-8",
            };
            format!("{class} {}", code(rest))
        }
        (_, _) if text.is_empty() => "the empty text".into(),
        _ => code(text),
    }
}

fn table(source: Dialect) -> String {
    let servers = servers(source);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### From {}\n\n| type | in {} | in {} | not held |\n| --- | --- | --- | --- |",
        if source == Dialect::Mysql { "MySQL and MariaDB" } else { source.title() },
        servers[0].0,
        servers[1].0
    );
    for (name, values) in samples::of(source) {
        let source_type = column(source, name);
        let declared = name.split('@').next().unwrap_or_default();
        let mut types = Vec::new();
        let mut refused: Vec<String> = Vec::new();
        for (title, server) in servers {
            types.push(code(&made_as(&source_type, server, 0, None).type_name));
            let target = made(&source_type, server, None);
            let conversion = Conversion::between(&source_type, &target).expect("the made type fits");
            for text in *values {
                let held = |server| conversion.clone().at(server).convert(cell(source, text)).map(drop);
                let (title, held) = match (server, held(server)) {
                    (Server::Mysql, Ok(())) => ("MariaDB", held(Server::Mariadb)),
                    (_, held) => (title, held),
                };
                if let Err(why) = held {
                    let why = why.to_string().replace('|', "\\|");
                    let why = why.split("; `as").next().unwrap_or_default().to_owned();
                    refused.push(format!("{title}: {} ({why})", value(source, text)));
                }
            }
        }
        let declared = if declared.is_empty() { "(none)".to_owned() } else { code(declared) };
        let _ = writeln!(out, "| {declared} | {} | {} | {} |", types[0], types[1], refused.join("; "));
    }
    out
}

#[test]
fn crossings_are_documented_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/types.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let start = text.find(BEGIN).expect("docs/types.md has the beginning of the table") + BEGIN.len();
    let end = text.find(END).expect("docs/types.md has the end of the table");
    let tables = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite].map(table).join("\n");
    let written = format!("\n{tables}\n");
    if std::env::var_os("ROWBRIDGE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{}{written}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert_eq!(
        &text[start..end],
        written,
        "docs/types.md differs: run ROWBRIDGE_WRITE_DOCS=1 cargo test crossings"
    );
}

/// In a key a MySQL type is bounded, and the columns of the key share its bytes.
#[test]
fn keys_in_mysql_are_bounded_and_tell_texts_apart() {
    let key = |dialect, name: &str, server, parts| {
        let made = made_as(&column(dialect, name), server, parts, None);
        (made.type_name, made.collation)
    };
    use Dialect::{Postgres, Sqlite};
    assert_eq!(key(Postgres, "text", Server::Mysql, 1), ("varchar(768)".into(), Some("utf8mb4_0900_bin")));
    assert_eq!(key(Postgres, "text", Server::Mariadb, 2), ("varchar(384)".into(), Some("utf8mb4_nopad_bin")));
    assert_eq!(key(Postgres, "character varying(20)", Server::Mysql, 1).0, "varchar(20)");
    assert_eq!(key(Postgres, "character(20)", Server::Mysql, 1).0, "varchar(20)");
    assert_eq!(key(Postgres, "bytea", Server::Mysql, 1).0, "varbinary(3072)");
    assert_eq!(key(Postgres, "numeric", Server::Mysql, 3).0, "varchar(256)");
    assert_eq!(key(Postgres, "uuid", Server::Mysql, 1), ("char(36)".into(), Some("ascii_bin")));
    assert_eq!(key(Sqlite, "", Server::Mysql, 1).0, "varchar(768)");
    assert_eq!(key(Sqlite, "BLOB", Server::Mysql, 2).0, "varbinary(1536)");
    assert_eq!(key(Postgres, "text", Server::Sqlite, 1), ("TEXT".into(), None));
}

/// A row of MySQL has room for 65,535 bytes of bounded columns.
#[test]
fn texts_that_are_too_long_together_are_unbounded() {
    let made = |name: &str| made_as(&column(Dialect::Postgres, name), Server::Mariadb, 0, None);
    let long = (true, made("character varying(255)"));
    let mut columns = vec![(false, made("character varying(255)")), (true, made("character varying(200)"))];
    columns.resize(58, long.clone());
    assert_eq!(too_long_together(&columns), [0_usize; 0]);
    columns.resize(60, long);
    assert_eq!(too_long_together(&columns), [2, 3]);
}
