//! Foreign keys that change other rows without a word in the log.
//!
//! MariaDB, and MySQL up to 9.5, leave `CASCADE` and `SET NULL` to InnoDB, which logs nothing of them. MySQL 9.6 does them
//! above the engine and logs each row, unless `innodb_native_foreign_keys` is on.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use rowbridge_schema::TableName;

use super::client::Server;
use super::error::MysqlError;
use super::foreign_key::{ForeignKey, Links, links};
use super::setup::variable;
use crate::snapshot::Unlogged;

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
    let mut primary: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
    let mut found: Vec<(TableName, Vec<ForeignKey>)> = Vec::new();
    while let Some(child) = open.pop() {
        let Links { primary: key, keys } = links(conn, &child).await?;
        primary.insert(child.clone(), key);
        let keys: Vec<ForeignKey> = keys.into_iter().filter(ForeignKey::acts).collect();
        let new = |parent: &&TableName| !primary.contains_key(*parent) && !open.contains(parent);
        let parents: Vec<TableName> = keys.iter().map(|key| &key.parent).filter(new).cloned().collect();
        open.extend(parents);
        found.push((child, keys));
    }
    for (child, keys) in found {
        let by_key =
            |key: &ForeignKey| primary.get(&key.parent).is_some_and(|primary| *primary == key.referenced);
        let parents = keys.iter().map(|key| (key.parent.clone(), by_key(key))).collect();
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
