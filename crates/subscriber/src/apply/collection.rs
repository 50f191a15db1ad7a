//! Names of the tables in which a target collects keys during a re-snapshot.
//!
//! A target that cannot delete range by range (see [`rowbridge_schema::wire::Sweep`]) has a table of its own for each
//! lane and source table under re-snapshot, from the first chunk to the last. It exists exactly while keys are to be
//! collected, so that its name is all that there is to remember: a hash of the stream, one of endpoint and table, and one
//! of the key, since a table whose key has changed is another one.

use std::fmt::Write as _;

use rowbridge_schema::{EndpointName, StreamName, TableDef, TableName};
use sha2::{Digest as _, Sha256};

/// What all names begin with.
pub(super) const PREFIX: &str = "rowbridge_keys_";

fn hash(bytes: usize, parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the names of a stream's tables begin with.
pub(super) fn of_stream(stream: &StreamName) -> String {
    format!("{PREFIX}{}_", hash(6, &[stream.as_str()]))
}

/// What the names for one source table of a lane begin with, whatever its key.
pub(super) fn of_table(stream: &StreamName, endpoint: &EndpointName, table: &TableName) -> String {
    format!("{}{}_", of_stream(stream), hash(8, &[endpoint.as_str(), &table.to_string()]))
}

/// The table for one shape of a lane's source table. At most 63 bytes, the least that a server allows.
pub(super) fn name(stream: &StreamName, endpoint: &EndpointName, def: &TableDef) -> String {
    let key = def.key.iter().filter_map(|&k| def.columns.get(usize::from(k)));
    let parts: Vec<&str> = key.flat_map(|column| [column.name.as_str(), &column.type_name]).collect();
    format!("{}{}", of_table(stream, endpoint, &def.name), hash(4, &parts))
}

/// Says that a table's keys were not collected from the beginning on, so that nothing may be removed.
pub(super) fn warn_missing(table: &TableName) {
    tracing::warn!(
        %table,
        "the keys of a re-snapshot were not collected from its beginning on: rows that were deleted at the source stay; \
         take the snapshot again"
    );
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Column, Dialect};

    use super::*;

    #[test]
    fn names_tell_lanes_tables_and_keys_apart_and_fit() {
        let column = |name: &str| Column {
            name: name.into(),
            type_name: "text".into(),
            not_null: true,
            generated: None,
            collation: None,
        };
        let def = TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "orders"),
            columns: vec![column("a"), column("b")],
            key: vec![0],
            types: vec![],
            options: vec![],
        };
        let (shop, copy) = ("shop".parse().unwrap(), "copy".parse().unwrap());
        let plain = name(&shop, &copy, &def);
        assert!(plain.len() <= 63 && plain.starts_with(&of_table(&shop, &copy, &def.name)), "{plain}");
        assert!(plain.starts_with(&of_stream(&shop)));
        let others = [
            name(&"shop2".parse().unwrap(), &copy, &def),
            name(&shop, &"copy2".parse().unwrap(), &def),
            name(&shop, &copy, &TableDef { name: TableName::new("public.or", "ders"), ..def.clone() }),
            name(&shop, &copy, &TableDef { key: vec![1], ..def.clone() }),
        ];
        let distinct: std::collections::HashSet<_> = others.iter().chain([&plain]).collect();
        assert_eq!(distinct.len(), 5);
    }
}
