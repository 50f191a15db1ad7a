//! Foreign keys as `SHOW CREATE TABLE` has them.
//!
//! MariaDB shows `information_schema.REFERENTIAL_CONSTRAINTS` to nobody who may only read a table, so that a role with as
//! little as capture needs would see no foreign key at all.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Row};
use rowbridge_schema::TableName;

use super::error::MysqlError;
use rowbridge_schema::sql::backticked_table;

/// `ER_NO_SUCH_TABLE`, `ER_TABLEACCESS_DENIED_ERROR`, `ER_BAD_DB_ERROR`, `ER_DBACCESS_DENIED_ERROR`.
const NOT_FOR_US: [u16; 4] = [1146, 1142, 1049, 1044];

/// A table's links to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Links {
    /// Columns of the primary key.
    pub(super) primary: Vec<String>,
    pub(super) keys: Vec<ForeignKey>,
}

/// One foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) parent: TableName,
    pub(super) referenced: Vec<String>,
    /// `CASCADE`, `SET NULL`, `RESTRICT` and so on.
    pub(super) on_update: String,
    pub(super) on_delete: String,
}

impl ForeignKey {
    /// Whether it changes other rows.
    pub(super) fn acts(&self) -> bool {
        let acts = |rule: &str| !matches!(rule, "RESTRICT" | "NO ACTION");
        acts(&self.on_update) || acts(&self.on_delete)
    }
}

/// The links of a table; none of one that is not there, or that the role may not read.
///
/// # Errors
/// The server's others.
pub(super) async fn links(conn: &mut Conn, table: &TableName) -> Result<Links, MysqlError> {
    let failed = MysqlError::query("read the foreign keys");
    // Without quotes names could not be told from words.
    match conn.query_drop("SET SESSION sql_quote_show_create = 1").await {
        Ok(()) => {}
        Err(error) => return Err(failed(error)),
    }
    let row: Result<Option<Row>, Error> =
        conn.query_first(format!("SHOW CREATE TABLE {}", backticked_table(table))).await;
    let text = match row {
        Ok(row) => row.and_then(|row| row.get_opt::<String, _>(1)).and_then(Result::ok).unwrap_or_default(),
        Err(Error::Server(error)) if NOT_FOR_US.contains(&error.code) => String::new(),
        Err(error) => return Err(failed(error)),
    };
    Ok(read(&text, table.schema.as_deref()))
}

fn read(text: &str, schema: Option<&str>) -> Links {
    let mut links = Links::default();
    for line in text.lines().map(str::trim_start) {
        if let Some(rest) = line.strip_prefix("PRIMARY KEY ") {
            links.primary = list(rest).map(|(names, _)| names).unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("CONSTRAINT ") {
            links.keys.extend(foreign_key(rest, schema));
        }
    }
    links
}

/// ``n` FOREIGN KEY (`a`) REFERENCES `db`.`t` (`b`) ON DELETE CASCADE``, with the name's quotes
fn foreign_key(text: &str, schema: Option<&str>) -> Option<ForeignKey> {
    let (name, rest) = identifier(text)?;
    let (columns, rest) = list(rest.strip_prefix(" FOREIGN KEY ")?)?;
    let (first, mut rest) = identifier(rest.strip_prefix(" REFERENCES ")?)?;
    let mut parent = TableName { schema: schema.map(str::to_owned), name: first.clone() };
    if let Some(behind) = rest.strip_prefix('.') {
        let (second, behind) = identifier(behind)?;
        parent = TableName::new(first, second);
        rest = behind;
    }
    let (referenced, rest) = list(rest.strip_prefix(' ')?)?;
    let rule = |word: &str| {
        let rule = rest.split(word).nth(1).unwrap_or("RESTRICT").trim_start();
        let known = ["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION", "RESTRICT"];
        known.into_iter().find(|known| rule.starts_with(known)).unwrap_or("CASCADE").to_owned()
    };
    Some(ForeignKey {
        name,
        columns,
        parent,
        referenced,
        on_update: rule(" ON UPDATE"),
        on_delete: rule(" ON DELETE"),
    })
}

/// A quoted name, and what stands behind it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let end = rest.find('`')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('`') {
            Some(behind) => {
                name.push('`');
                rest = behind;
            }
            None => return Some((name, rest)),
        }
    }
}

/// Names in parentheses; the lengths of prefixes are passed over.
fn list(text: &str) -> Option<(Vec<String>, &str)> {
    let mut rest = text.strip_prefix('(')?;
    let mut names = Vec::new();
    loop {
        let (name, behind) = identifier(rest)?;
        names.push(name);
        let prefix = behind.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let behind = prefix.map_or(behind, |(_, behind)| behind);
        let behind = behind.trim_start_matches(" DESC").trim_start_matches(" ASC");
        match behind.strip_prefix(')') {
            Some(behind) => return Some((names, behind)),
            None => rest = behind.strip_prefix(',')?.trim_start(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_both_servers_show_them() {
        let text = "CREATE TABLE `children` (\n  `id` int(11) NOT NULL COMMENT 'CONSTRAINT `x`',\n  `a``b` int(11) DEFAULT NULL,\n  \
                    PRIMARY KEY (`id`,`na me`(10) DESC),\n  KEY `parent` (`a``b`),\n  \
                    CONSTRAINT `k1` FOREIGN KEY (`a``b`, `c`) REFERENCES `parents` (`id`, `d`) ON DELETE CASCADE ON UPDATE SET NULL,\n  \
                    CONSTRAINT `k2` FOREIGN KEY (`a``b`) REFERENCES `other`.`t``s` (`id`),\n  \
                    CONSTRAINT `k3` FOREIGN KEY (`c`) REFERENCES `t` (`id`) ON DELETE NO ACTION ON UPDATE NO ACTION,\n  \
                    CONSTRAINT `k4` CHECK (`id` > 0)\n) ENGINE=InnoDB COMMENT='CONSTRAINT `y`'";
        let links = read(text, Some("shop"));
        assert_eq!(links.primary, ["id", "na me"]);
        let [first, second, third] = links.keys.as_slice() else { panic!("{links:?}") };
        assert_eq!((first.name.as_str(), &first.parent), ("k1", &TableName::new("shop", "parents")));
        assert_eq!(
            (&first.columns, &first.referenced),
            (&vec!["a`b".into(), "c".into()], &vec!["id".into(), "d".into()])
        );
        assert_eq!((first.on_delete.as_str(), first.on_update.as_str()), ("CASCADE", "SET NULL"));
        assert_eq!(second.parent, TableName::new("other", "t`s"));
        assert!(first.acts() && !second.acts() && !third.acts());
    }

    #[test]
    fn what_is_no_table_has_no_links() {
        for text in [
            "",
            "CREATE VIEW `v` AS select 1",
            "  CONSTRAINT `a",
            "  CONSTRAINT `a` FOREIGN KEY (`b`",
            "PRIMARY KEY (x)",
        ] {
            assert_eq!(read(text, None), Links::default(), "{text}");
        }
    }
}
