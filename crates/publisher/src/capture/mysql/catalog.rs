//! Tables as the source's information schema describes them now.

use std::collections::HashMap;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};
use rowbridge_schema::sql::backticked_table;
use rowbridge_schema::{Column, Dialect, TableDef, TableName, TablePatterns};

use super::client::Server;
use super::error::MysqlError;

const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;

/// `ER_DBACCESS_DENIED_ERROR`, `ER_BAD_DB_ERROR`, `ER_TABLEACCESS_DENIED_ERROR`, `ER_NO_SUCH_TABLE`, `ER_VIEW_INVALID`.
const NO_TABLE: [u16; 5] = [1044, 1049, 1142, 1146, 1356];

/// A captured table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogTable {
    /// Shape: all columns in table order, invisible and generated ones too.
    pub def: TableDef,
    /// Storage engine. What is not transactional stays when its transaction is rolled back.
    pub transactional: bool,
    /// Per column of `def`: not in `SELECT *`.
    pub invisible: Vec<bool>,
}

/// Everything that matches the patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Captured tables by name.
    pub tables: HashMap<TableName, CatalogTable>,
}

/// A character set of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charset {
    /// Its name.
    pub name: String,
    /// Bytes of its longest character.
    pub max_len: u32,
}

/// Collations by their number, as row events name them: name and charset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collations {
    by_id: HashMap<u64, (String, Charset)>,
}

impl Collations {
    /// The collation's name and its charset.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<(&str, &Charset)> {
        self.by_id.get(&id).map(|(name, charset)| (name.as_str(), charset))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(entries: &[(u64, &str, &str, u32)]) -> Self {
        let charset = |name: &str, max_len| Charset { name: name.to_owned(), max_len };
        let by_id =
            entries.iter().map(|(id, name, set, len)| (*id, ((*name).to_owned(), charset(set, *len))));
        Self { by_id: by_id.collect() }
    }
}

/// Databases that belong to the server.
pub const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

const TABLES: &str = "
    SELECT t.TABLE_SCHEMA, t.TABLE_NAME, COALESCE(e.TRANSACTIONS, 'NO'), t.TABLE_TYPE
    FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
    WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
      AND LOWER(t.TABLE_SCHEMA) NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')";

const COLUMNS: &str = "
    SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COALESCE(GENERATION_EXPRESSION, ''),
           COLLATION_NAME, EXTRA
    FROM information_schema.COLUMNS
    WHERE LOWER(TABLE_SCHEMA) NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')";

/// Columns of unique indexes; an expression has no column name, a prefix has SUB_PART.
const KEYS: &str = "
    SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, NULLABLE
    FROM information_schema.STATISTICS
    WHERE NON_UNIQUE = 0 AND LOWER(TABLE_SCHEMA) NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')";

type IndexColumn = (Option<String>, bool, bool);

/// How often a table is looked at that is another one each time.
const MAX_LOOKS: usize = 20;

/// Waits until no statement is about to change one of these tables, and gives back those of which that is not certain: MySQL
/// writes a statement into its log before others see what it has done, and keeps the table's metadata lock until they do, for
/// which SHOW CREATE TABLE waits. Not for long: the lock may be that of another statement, which fills a new table.
///
/// # Errors
/// [`MysqlError::Query`]. A table that is not there, or not for us, is none.
pub async fn settle(conn: &mut Conn, tables: Vec<TableName>) -> Result<Vec<TableName>, MysqlError> {
    if tables.is_empty() {
        return Ok(tables);
    }
    let failed = || MysqlError::query("wait for a change of a table's definition");
    conn.query_drop("SET SESSION lock_wait_timeout = 1").await.map_err(failed())?;
    let mut unsettled = Vec::new();
    for table in tables {
        match conn.query_drop(format!("SHOW CREATE TABLE {}", backticked_table(&table))).await {
            Err(Error::Server(error)) if error.code == ER_LOCK_WAIT_TIMEOUT => unsettled.push(table),
            Err(Error::Server(error)) if NO_TABLE.contains(&error.code) => {}
            done => done.map_err(failed())?,
        }
    }
    conn.query_drop("SET SESSION lock_wait_timeout = DEFAULT").await.map_err(failed())?;
    Ok(unsettled)
}

/// Base tables that match, with their columns and keys. System databases never match.
///
/// Tables, columns and keys are three questions, between which statements go on that change tables. MariaDB also lists a
/// table by its files, which such a statement moves about: one of the answers may then be without it. A table that came
/// without its key would be taken for one without key. So what is not as in `known` is looked at by itself, as by
/// [`load_one`].
///
/// # Errors
/// The queries'; `NotReady` if system-versioned tables match; `Lost` if a table does not keep still.
pub async fn load(
    conn: &mut Conn,
    server: &Server,
    patterns: &TablePatterns,
    known: &Catalog,
) -> Result<Catalog, MysqlError> {
    let mut catalog = look(conn, server, patterns, None).await?;
    let doubtful = |table: &&CatalogTable| match known.tables.get(&table.def.name) {
        Some(known) => known.def != table.def,
        None => table.def.key.is_empty(),
    };
    let doubtful = catalog.tables.values().filter(doubtful).map(|table| table.def.name.clone());
    let absent = known.tables.keys().filter(|name| !catalog.tables.contains_key(*name)).cloned();
    for name in doubtful.chain(absent).collect::<Vec<_>>() {
        match load_one(conn, server, patterns, &name).await? {
            Some(table) => catalog.tables.insert(name, table),
            None => catalog.tables.remove(&name),
        };
    }
    Ok(catalog)
}

/// One table, as two looks in a row have seen it; `None` if there is no such table, or it does not match.
///
/// # Errors
/// As of [`load`].
pub async fn load_one(
    conn: &mut Conn,
    server: &Server,
    patterns: &TablePatterns,
    name: &TableName,
) -> Result<Option<CatalogTable>, MysqlError> {
    let mut before = look_at(conn, server, patterns, name).await?;
    for _ in 0..MAX_LOOKS {
        let now = look_at(conn, server, patterns, name).await?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(MysqlError::Lost { what: "a table was altered again and again while the catalog was read" })
}

/// One table that an open transaction of this session holds, so that nobody changes it.
///
/// # Errors
/// As of [`load`].
pub async fn look_at(
    conn: &mut Conn,
    server: &Server,
    patterns: &TablePatterns,
    name: &TableName,
) -> Result<Option<CatalogTable>, MysqlError> {
    Ok(look(conn, server, patterns, Some(name)).await?.tables.remove(name))
}

/// The three questions; `only` narrows them to one table.
async fn look(
    conn: &mut Conn,
    server: &Server,
    patterns: &TablePatterns,
    only: Option<&TableName>,
) -> Result<Catalog, MysqlError> {
    let failed = || MysqlError::query("read the catalog");
    let (schema, name) = match only {
        Some(table) => (table.schema.clone().unwrap_or_default(), table.name.clone()),
        None => (String::new(), String::new()),
    };
    let narrow = if only.is_some() { " AND TABLE_SCHEMA = ? AND TABLE_NAME = ?" } else { "" };
    let parameters = || match only {
        Some(_) => mysql_async::Params::from((schema.clone(), name.clone())),
        None => mysql_async::Params::Empty,
    };
    let mut catalog = Catalog::default();
    let sql = format!("{TABLES}{}", narrow.replace("TABLE_", "t.TABLE_"));
    let mut versioned = Vec::new();
    for (schema, name, transactions, kind) in
        conn.exec::<(String, String, String, String), _, _>(sql, parameters()).await.map_err(failed())?
    {
        let name = TableName::new(schema, name);
        if patterns.matches(&name) && kind == "SYSTEM VERSIONED" {
            versioned.push(name);
        } else if patterns.matches(&name) {
            let def = TableDef {
                dialect: Dialect::Mysql,
                name: name.clone(),
                columns: vec![],
                key: vec![],
                types: vec![],
                options: vec![],
            };
            let transactional = transactions == "YES";
            catalog.tables.insert(name, CatalogTable { def, transactional, invisible: vec![] });
        }
    }
    if !versioned.is_empty() {
        return Err(refuse_versioned(&mut versioned));
    }
    if catalog.tables.is_empty() {
        return Ok(catalog);
    }
    type Row = (String, String, String, String, String, String, Option<String>, String);
    let sql = format!("{COLUMNS}{narrow} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION");
    for row in conn.exec::<Row, _, _>(sql, parameters()).await.map_err(failed())? {
        let (schema, name, column, type_name, nullable, expression, collation, extra) = row;
        let Some(table) = catalog.tables.get_mut(&TableName::new(schema, name)) else { continue };
        table.def.columns.push(Column {
            name: column,
            type_name: type_name_of(&type_name),
            not_null: nullable == "NO",
            generated: expression_of(server, expression),
            collation,
        });
        table.invisible.push(extra.to_ascii_uppercase().contains("INVISIBLE"));
    }
    let mut indexes: HashMap<TableName, Vec<(String, Vec<IndexColumn>)>> = HashMap::new();
    type Part = (String, String, String, Option<String>, Option<i64>, String);
    let sql = format!("{KEYS}{narrow} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX");
    for (schema, name, index, column, sub_part, nullable) in
        conn.exec::<Part, _, _>(sql, parameters()).await.map_err(failed())?
    {
        let of_table = indexes.entry(TableName::new(schema, name)).or_default();
        let part = (column, sub_part.is_some(), nullable == "YES");
        match of_table.last_mut() {
            Some((last, parts)) if *last == index => parts.push(part),
            _ => of_table.push((index, vec![part])),
        }
    }
    // A table that was dropped between two questions has no columns.
    catalog.tables.retain(|_, table| !table.def.columns.is_empty());
    for (name, table) in &mut catalog.tables {
        table.def.key = key_of(&table.def.columns, indexes.get(name).map_or(&[][..], Vec::as_slice));
    }
    Ok(catalog)
}

/// The log of such a table has old versions of its rows beside the present ones, under keys that no query shows.
fn refuse_versioned(tables: &mut [TableName]) -> MysqlError {
    tables.sort();
    let list = |text: &dyn Fn(&TableName) -> String, separator: &str| {
        tables.iter().map(text).collect::<Vec<_>>().join(separator)
    };
    MysqlError::NotReady {
        problem: format!(
            "the history of system-versioned tables is not read: {}",
            list(&|t| t.to_string(), ", ")
        ),
        fix: format!(
            "Leave them out of source.tables ({}), or run at the source: {}",
            list(&|t| format!("\"!{t}\""), ", "),
            list(&|t| format!("ALTER TABLE {} DROP SYSTEM VERSIONING;", backticked_table(t)), " ")
        ),
    }
}

/// The primary key, else the first unique index, by name, whose columns are whole and never NULL.
fn key_of(columns: &[Column], indexes: &[(String, Vec<IndexColumn>)]) -> Vec<u16> {
    let at = |name: &str| columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)).map(|at| at as u16);
    let whole = |parts: &[IndexColumn]| -> Option<Vec<u16>> {
        parts.iter().map(|(column, _, _)| at(column.as_deref()?)).collect()
    };
    if let Some((_, parts)) = indexes.iter().find(|(name, _)| name == "PRIMARY") {
        return whole(parts).unwrap_or_default();
    }
    let mut usable: Vec<&(String, Vec<IndexColumn>)> = indexes
        .iter()
        .filter(|(_, parts)| {
            parts.iter().all(|(column, prefix, nullable)| column.is_some() && !prefix && !nullable)
        })
        .collect();
    usable.sort_by(|a, b| a.0.cmp(&b.0));
    // Rows carry no generated columns, so that they cannot identify any.
    let sent = |key: &Vec<u16>| key.iter().all(|&at| columns[usize::from(at)].generated.is_none());
    usable.iter().filter_map(|(_, parts)| whole(parts)).find(sent).unwrap_or_default()
}

/// `COLUMN_TYPE` in lower case but for labels, without MariaDB's notes on how it is stored (`/*M!100301 COMPRESSED*/`).
fn type_name_of(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '/']) {
        name.push_str(&rest[..at].to_ascii_lowercase());
        rest = &rest[at..];
        let end = match rest.strip_prefix("/*") {
            Some(note) => {
                rest = note.find("*/").map_or("", |end| &note[end + 2..]);
                continue;
            }
            None if rest.starts_with('/') => 1,
            None => end_of_label(rest),
        };
        name.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    name.push_str(&rest.to_ascii_lowercase());
    name.trim_end().to_owned()
}

/// Bytes of the quoted text that `text` begins with; a quote in it is doubled.
fn end_of_label(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' if bytes.get(at + 1) != Some(&b'\'') => return at + 1,
            // Quotes are doubled, backslashes, line ends and NUL are escaped, whatever the SQL mode.
            b'\'' | b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The labels of `enum('a','b')` or `set(...)`.
#[must_use]
pub fn labels(type_name: &str) -> Vec<String> {
    let Some(mut rest) = type_name.find('\'').map(|at| &type_name[at..]) else { return vec![] };
    let mut labels = Vec::new();
    while rest.starts_with('\'') {
        let end = end_of_label(rest);
        labels.push(unescaped(&rest[1..end.max(2) - 1]));
        rest = rest[end..].trim_start_matches(',');
    }
    labels
}

fn unescaped(label: &str) -> String {
    let mut plain = String::with_capacity(label.len());
    let mut chars = label.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => plain.extend(chars.next()),
            '\\' => plain.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            }),
            c => plain.push(c),
        }
    }
    plain
}

/// MySQL shows quotes within an expression escaped, as they stand in its dictionary.
fn expression_of(server: &Server, expression: String) -> Option<String> {
    if expression.is_empty() {
        return None;
    }
    Some(if server.is_mariadb() { expression } else { expression.replace("\\'", "'") })
}

/// All collations of the server. MariaDB 10.10 gives those that fit several charsets a row per charset, elsewhere.
///
/// # Errors
/// The queries'.
pub async fn collations(conn: &mut Conn, server: &Server) -> Result<Collations, MysqlError> {
    let failed = || MysqlError::query("read the collations");
    let sets: HashMap<String, u32> = conn
        .query::<(String, u32), _>("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        .await
        .map_err(failed())?
        .into_iter()
        .collect();
    let sql = if server.is_mariadb() && server.version >= (10, 10, 0) {
        "SELECT ID, FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY
         WHERE ID IS NOT NULL"
    } else {
        "SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL"
    };
    let rows: Vec<(u64, String, String)> = conn.query(sql).await.map_err(failed())?;
    let by_id = rows.into_iter().map(|(id, collation, charset)| {
        let max_len = sets.get(&charset).copied().unwrap_or(1);
        (id, (collation, Charset { name: charset, max_len }))
    });
    Ok(Collations { by_id: by_id.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_lower_case_but_for_labels() {
        assert_eq!(type_name_of("INT(10) UNSIGNED ZEROFILL"), "int(10) unsigned zerofill");
        assert_eq!(type_name_of("ENUM('A','b''/*C*/','')"), "enum('A','b''/*C*/','')");
        assert_eq!(type_name_of("varchar(9) /*M!100301 COMPRESSED*/"), "varchar(9)");
        assert_eq!(type_name_of("datetime /* mariadb-5.3 */"), "datetime");
        assert_eq!(labels("enum('A','b''C','','x,y')"), ["A", "b'C", "", "x,y"]);
        assert_eq!(labels("set('')"), [""]);
        assert_eq!(labels(r"enum('a\\','''\nb','c\r\0')"), ["a\\", "'\nb", "c\r\0"]);
        assert!(labels("int(11)").is_empty());
    }

    #[test]
    fn the_key_is_whole_and_never_null() {
        let column = |name: &str, generated: Option<&str>| Column {
            name: name.to_owned(),
            type_name: "int".to_owned(),
            not_null: true,
            generated: generated.map(str::to_owned),
            collation: None,
        };
        let columns = [column("a", None), column("b", None), column("g", Some("a + 1"))];
        let part = |name: &str| (Some(name.to_owned()), false, false);
        let primary = ("PRIMARY".to_owned(), vec![part("b"), part("a")]);
        let prefix = ("i".to_owned(), vec![(Some("a".to_owned()), true, false)]);
        let nullable = ("j".to_owned(), vec![(Some("a".to_owned()), false, true)]);
        let expression = ("k".to_owned(), vec![(None, false, false)]);
        let generated = ("l".to_owned(), vec![part("g")]);
        let unique = ("z".to_owned(), vec![part("B")]);
        let rest = [prefix, nullable, expression, generated, unique];
        assert_eq!(key_of(&columns, &[&rest[..], &[primary]].concat()), [1, 0]);
        assert_eq!(key_of(&columns, &rest), [1]);
        assert!(key_of(&columns, &rest[..4]).is_empty());
    }
}
