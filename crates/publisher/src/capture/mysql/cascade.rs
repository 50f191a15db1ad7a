//! Foreign keys that change other rows without a word in the log.
//!
//! MariaDB, and MySQL up to 9.5, leave `CASCADE` and `SET NULL` to InnoDB, which logs nothing of them. MySQL 9.6 does them
//! above the engine and logs each row, unless `innodb_native_foreign_keys` is on.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rowbridge_schema::TableName;

use super::client::Server;
use super::error::MysqlError;
use super::setup::variable;
use crate::snapshot::Unlogged;

/// The foreign keys of one table that act. Without the name of the table both servers would open all of them.
const ACTING: &str = "
    SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, COALESCE(UNIQUE_CONSTRAINT_NAME, '')
    FROM information_schema.REFERENTIAL_CONSTRAINTS
    WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ?
      AND (UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION'))";

/// Tables by those that they refer to, and whether by the primary key.
type References = BTreeMap<TableName, Vec<(TableName, bool)>>;

/// Whether the log has what foreign keys do to other rows.
///
/// # Errors
/// The query's.
pub(crate) async fn are_logged(conn: &mut Conn, server: &Server) -> Result<bool, MysqlError> {
    if server.is_mariadb() || server.version < (9, 6, 0) {
        return Ok(false);
    }
    Ok(variable(conn, "innodb_native_foreign_keys").await?.as_deref() != Some("ON"))
}

/// What changes rows of a table without being logged, as the catalog has it now.
///
/// # Errors
/// The queries'.
pub(crate) async fn unlogged(
    conn: &mut Conn,
    server: &Server,
    table: &TableName,
) -> Result<Unlogged, MysqlError> {
    if are_logged(conn, server).await? {
        return Ok(Unlogged::default());
    }
    let mut references = References::new();
    let mut open = vec![table.clone()];
    while let Some(child) = open.pop() {
        let schema = child.schema.as_deref().unwrap_or_default();
        let parents: Vec<(String, String, String)> = conn
            .exec(ACTING, (schema, &child.name))
            .await
            .map_err(MysqlError::query("read the foreign keys"))?;
        let parents: Vec<(TableName, bool)> = parents
            .into_iter()
            .map(|(schema, name, key)| (TableName::new(schema, name), key == "PRIMARY"))
            .collect();
        let new = |parent: &&TableName| **parent != child && !references.contains_key(*parent);
        open.extend(parents.iter().map(|(parent, _)| parent).filter(new).cloned());
        references.insert(child, parents);
    }
    Ok(of(&references, table))
}

/// Everything above a table.
fn ancestors(references: &References, table: &TableName) -> BTreeSet<TableName> {
    let mut found = BTreeSet::new();
    let mut open = vec![table];
    while let Some(child) = open.pop() {
        for (parent, _) in references.get(child).into_iter().flatten() {
            if found.insert(parent.clone()) {
                open.push(parent);
            }
        }
    }
    found
}

fn of(references: &References, table: &TableName) -> Unlogged {
    let all = ancestors(references, table);
    let ring: Vec<TableName> =
        all.iter().filter(|parent| ancestors(references, parent).contains(table)).cloned().collect();
    let mut within = ring.iter().flat_map(|child| references.get(child)).flatten();
    let by_key = within.all(|(parent, primary)| *primary || !ring.contains(parent));
    Unlogged { ancestors: all.into_iter().collect(), ring, by_key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TableName {
        TableName::new("shop", text)
    }

    /// `child>parent`, `child>parent!` by another unique key.
    fn above(table: &str, references: &[&str]) -> (Vec<String>, Vec<String>, bool) {
        let mut map = References::new();
        for reference in references {
            let (child, parent) = reference.split_once('>').unwrap();
            let (parent, primary) = (parent.trim_end_matches('!'), !parent.ends_with('!'));
            map.entry(name(child)).or_default().push((name(parent), primary));
        }
        let Unlogged { ancestors, ring, by_key } = of(&map, &name(table));
        let names = |tables: Vec<TableName>| tables.into_iter().map(|table| table.name).collect();
        (names(ancestors), names(ring), by_key)
    }

    #[test]
    fn consequences_come_from_all_the_way_up() {
        let shop = ["line>order", "order>customer!", "customer>region", "note>order"];
        assert_eq!(
            above("line", &shop),
            (vec!["customer".into(), "order".into(), "region".into()], vec![], true)
        );
        assert_eq!(above("region", &shop), (vec![], vec![], true));
    }

    #[test]
    fn tables_that_refer_to_each_other_are_a_ring() {
        let tree = ["node>node", "leaf>node"];
        assert_eq!(above("node", &tree), (vec!["node".into()], vec!["node".into()], true));
        assert_eq!(above("leaf", &tree), (vec!["node".into()], vec![], true));
        let pair = ["a>b", "b>a!", "b>c!"];
        let all = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(above("a", &pair), (all, vec!["a".into(), "b".into()], false));
    }
}
