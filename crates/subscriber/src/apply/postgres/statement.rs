//! The text of statements. Every parameter is a `text[]` with one element per row, so that a statement's text depends
//! on columns alone; values are cast to the column's type without its modifier, and the assignment enforces that.

use super::binding::{Binding, BoundColumn};

/// `unnest($1::text[], ..) AS x(p1, ..)` for `count` parameters from number `from`.
fn source(from: usize, count: usize) -> String {
    let params: Vec<_> = (from..from + count).map(|i| format!("${i}::pg_catalog.text[]")).collect();
    let names: Vec<_> = (from..from + count).map(|i| format!("p{i}")).collect();
    format!("unnest({}) AS x({})", params.join(", "), names.join(", "))
}

fn value(column: &BoundColumn, param: usize) -> String {
    format!("x.p{param}::{}", column.cast)
}

/// `t.k = x.p1::type AND ..`, the key's parameters starting at `from`.
fn key_match(binding: &Binding, from: usize) -> String {
    let parts: Vec<_> = binding
        .key()
        .enumerate()
        .map(|(i, (_, column, operator))| {
            format!("t.{} {operator} {}", column.ident, value(column, from + i))
        })
        .collect();
    parts.join(" AND ")
}

fn bound<'b>(binding: &'b Binding, columns: &[u16]) -> Vec<&'b BoundColumn> {
    columns.iter().filter_map(|&c| binding.column(c)).collect()
}

fn insert_head(binding: &Binding, columns: &[&BoundColumn]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.ident.as_str()).collect();
    let values: Vec<_> = columns.iter().enumerate().map(|(i, column)| value(column, i + 1)).collect();
    let overriding = if binding.overriding { " OVERRIDING SYSTEM VALUE" } else { "" };
    format!(
        "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {}",
        binding.table,
        names.join(", "),
        values.join(", "),
        source(1, columns.len())
    )
}

/// Inserts rows that are known to be new. Parameters: the columns.
pub(super) fn insert(binding: &Binding, columns: &[u16]) -> String {
    insert_head(binding, &bound(binding, columns))
}

/// Inserts or replaces rows by key, in the order of the statements. Parameters of each: the columns.
pub(super) fn upsert(binding: &Binding, columns: &[u16]) -> Vec<String> {
    let written = bound(binding, columns);
    let keep = |column: u16| binding.rewrites_key() || !binding.def.key.contains(&column);
    let set: Vec<(usize, &BoundColumn)> = columns
        .iter()
        .filter(|&&c| binding.column(c).is_some())
        .enumerate()
        .filter(|(_, c)| keep(**c))
        .filter_map(|(i, &c)| binding.column(c).map(|column| (i, column)))
        .collect();
    let revive = binding.soft.as_ref().map(|soft| format!("{} = NULL", soft.ident));
    if binding.arbiter {
        let key: Vec<_> = binding.key().map(|(_, column, _)| column.ident.as_str()).collect();
        let set: Vec<_> =
            set.iter().map(|(_, column)| format!("{0} = excluded.{0}", column.ident)).chain(revive).collect();
        let action = if set.is_empty() {
            "DO NOTHING".to_owned()
        } else {
            format!("DO UPDATE SET {}", set.join(", "))
        };
        return vec![format!("{} ON CONFLICT ({}) {action}", insert_head(binding, &written), key.join(", "))];
    }
    // No index can arbitrate. One lane writes the table, so nobody inserts between the two statements.
    let at: Vec<usize> = binding
        .def
        .key
        .iter()
        .filter_map(|k| columns.iter().filter(|c| binding.column(**c).is_some()).position(|c| c == k))
        .collect();
    let matches: Vec<_> = binding
        .key()
        .zip(&at)
        .map(|((_, column, operator), i)| format!("t.{} {operator} {}", column.ident, value(column, i + 1)))
        .collect();
    let matches = matches.join(" AND ");
    let mut statements = Vec::new();
    let set: Vec<_> = set
        .iter()
        .map(|(i, column)| format!("{} = {}", column.ident, value(column, i + 1)))
        .chain(revive)
        .collect();
    if !set.is_empty() {
        statements.push(format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {matches}",
            binding.table,
            set.join(", "),
            source(1, written.len())
        ));
    }
    statements.push(format!(
        "{} WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {matches})",
        insert_head(binding, &written).replacen(" AS t (", " (", 1),
        binding.table
    ));
    statements
}

/// Deletes rows by key. Parameters: the key, and for soft deletes the time.
pub(super) fn delete(binding: &Binding) -> String {
    let keys = binding.def.key.len();
    match &binding.soft {
        None => {
            format!(
                "DELETE FROM {} AS t USING {} WHERE {}",
                binding.table,
                source(1, keys),
                key_match(binding, 1)
            )
        }
        Some(soft) => format!(
            "UPDATE {} AS t SET {2} = {3} FROM {1} WHERE {4} AND t.{2} IS NULL",
            binding.table,
            source(1, keys + 1),
            soft.ident,
            value(soft, keys + 1),
            key_match(binding, 1)
        ),
    }
}

/// Deletes rows by key whatever the policy says. Parameters: the key.
pub(super) fn remove(binding: &Binding) -> String {
    format!(
        "DELETE FROM {} AS t USING {} WHERE {}",
        binding.table,
        source(1, binding.def.key.len()),
        key_match(binding, 1)
    )
}

/// Updates some columns of existing rows. Parameters: the key as it was, then the columns.
pub(super) fn update(binding: &Binding, columns: &[u16]) -> String {
    let keys = binding.def.key.len();
    let written = bound(binding, columns);
    let mut set: Vec<_> = written
        .iter()
        .enumerate()
        .map(|(i, column)| format!("{} = {}", column.ident, value(column, keys + i + 1)))
        .collect();
    set.extend(binding.soft.as_ref().map(|soft| format!("{} = NULL", soft.ident)));
    format!(
        "UPDATE {} AS t SET {} FROM {} WHERE {}",
        binding.table,
        set.join(", "),
        source(1, keys + written.len()),
        key_match(binding, 1)
    )
}

/// `t.c::text IS NOT DISTINCT FROM x.p1::type::text AND ..`: the same value, for types with and without equality.
fn same_row(binding: &Binding, columns: &[u16]) -> String {
    let parts: Vec<_> = bound(binding, columns)
        .iter()
        .enumerate()
        .map(|(i, column)| {
            format!(
                "t.{}::pg_catalog.text IS NOT DISTINCT FROM ({})::pg_catalog.text",
                column.ident,
                value(column, i + 1)
            )
        })
        .collect();
    parts.join(" AND ")
}

/// Deletes exactly one of several identical rows. Parameters (of one row): the old row.
pub(super) fn delete_one(binding: &Binding, old: &[u16]) -> String {
    format!(
        "DELETE FROM {0} WHERE (tableoid, ctid) = (SELECT t.tableoid, t.ctid FROM {0} AS t, {1} WHERE {2} LIMIT 1)",
        binding.table,
        source(1, bound(binding, old).len()),
        same_row(binding, old)
    )
}

/// Deletes as many of identical rows as are named, in one pass over the table. Parameters: the old rows.
pub(super) fn delete_many(binding: &Binding, old: &[u16]) -> String {
    let columns = bound(binding, old);
    // Arrays, whose NULLs are equal: `IS NOT DISTINCT FROM` is nothing to hash by.
    let image = |texts: Vec<String>| {
        let texts: Vec<_> = texts.iter().map(|text| format!("{text}::pg_catalog.text")).collect();
        format!("ARRAY[{}] COLLATE pg_catalog.\"C\"", texts.join(", "))
    };
    format!(
        "DELETE FROM {0} AS u USING (SELECT t.tableoid, t.ctid, n.count, \
         pg_catalog.row_number() OVER (PARTITION BY n.image) AS number FROM {0} AS t JOIN \
         (SELECT {2} AS image, pg_catalog.count(*) AS count FROM {1} GROUP BY 1) AS n ON ({3}) = n.image) AS d \
         WHERE u.tableoid = d.tableoid AND u.ctid = d.ctid AND d.number <= d.count",
        binding.table,
        source(1, columns.len()),
        image(columns.iter().enumerate().map(|(i, column)| format!("({})", value(column, i + 1))).collect()),
        image(columns.iter().map(|column| format!("t.{}", column.ident)).collect()),
    )
}

/// Updates exactly one of several identical rows. Parameters (of one row): the old row, then the new columns.
pub(super) fn update_one(binding: &Binding, old: &[u16], new: &[u16]) -> String {
    let count = bound(binding, old).len();
    let written = bound(binding, new);
    let set: Vec<_> = written
        .iter()
        .enumerate()
        .map(|(i, column)| format!("{} = {}", column.ident, value(column, count + i + 1)))
        .collect();
    format!(
        "UPDATE {0} AS u SET {1} FROM {2} WHERE (u.tableoid, u.ctid) = (SELECT t.tableoid, t.ctid FROM {0} AS t WHERE {3} LIMIT 1)",
        binding.table,
        set.join(", "),
        source(1, count + written.len()),
        same_row(binding, old)
    )
}

/// Removes what lies in a range and is not listed. Parameters: the keys that stay, then `after`, then `upto`, each
/// present bound as arrays of one element.
pub(super) fn prune(binding: &Binding, after: bool, upto: bool) -> String {
    let keys = binding.def.key.len();
    let left: Vec<_> = binding.key().map(|(_, column, _)| format!("t.{}", column.ident)).collect();
    let row = |from: usize| {
        let parts: Vec<_> = binding
            .key()
            .enumerate()
            .map(|(i, (_, column, _))| format!("(${}::pg_catalog.text[])[1]::{}", from + i, column.cast))
            .collect();
        parts.join(", ")
    };
    let mut conditions = Vec::new();
    if after {
        conditions.push(format!("({}) > ({})", left.join(", "), row(keys + 1)));
    }
    if upto {
        let from = if after { 2 * keys + 1 } else { keys + 1 };
        conditions.push(format!("({}) <= ({})", left.join(", "), row(from)));
    }
    conditions.push(format!("NOT EXISTS (SELECT FROM {} WHERE {})", source(1, keys), key_match(binding, 1)));
    match &binding.soft {
        None => format!("DELETE FROM {} AS t WHERE {}", binding.table, conditions.join(" AND ")),
        Some(soft) => {
            conditions.push(format!("t.{} IS NULL", soft.ident));
            format!(
                "UPDATE {} AS t SET {} = now() WHERE {}",
                binding.table,
                soft.ident,
                conditions.join(" AND ")
            )
        }
    }
}

/// A table that takes the keys of another, with its types and collations, so that keys compare as they do there.
pub(super) fn create_collection(binding: &Binding, collection: &str) -> String {
    let key: Vec<_> = binding.key().map(|(_, column, _)| column.ident.as_str()).collect();
    format!("CREATE TABLE {collection} AS SELECT {} FROM {} WITH NO DATA", key.join(", "), binding.table)
}

/// Notes keys. Parameters: the key.
pub(super) fn collect(binding: &Binding, collection: &str) -> String {
    let key: Vec<_> = binding.key().map(|(_, column, _)| column.ident.as_str()).collect();
    let values: Vec<_> = binding.key().enumerate().map(|(i, (_, column, _))| value(column, i + 1)).collect();
    format!(
        "INSERT INTO {collection} ({}) SELECT {} FROM {}",
        key.join(", "),
        values.join(", "),
        source(1, key.len())
    )
}

/// Removes the rows whose keys were not noted.
pub(super) fn sweep(binding: &Binding, collection: &str) -> String {
    let same: Vec<_> =
        binding.key().map(|(_, column, operator)| format!("t.{0} {operator} k.{0}", column.ident)).collect();
    let gone = format!("NOT EXISTS (SELECT FROM {collection} AS k WHERE {})", same.join(" AND "));
    match &binding.soft {
        None => format!("DELETE FROM {} AS t WHERE {gone}", binding.table),
        Some(soft) => format!(
            "UPDATE {} AS t SET {1} = now() WHERE t.{1} IS NULL AND {gone}",
            binding.table, soft.ident
        ),
    }
}

/// Removes the rows that hold values in a unique index and whose keys were not noted. Parameters: the index's columns.
pub(super) fn make_room(binding: &Binding, index: &[(u16, String)], collection: &str) -> String {
    let columns = index.iter().filter_map(|(column, operator)| Some((binding.column(*column)?, operator)));
    let held: Vec<_> = columns
        .enumerate()
        .map(|(i, (column, operator))| format!("t.{} {operator} {}", column.ident, value(column, i + 1)))
        .collect();
    let same: Vec<_> =
        binding.key().map(|(_, column, operator)| format!("t.{0} {operator} k.{0}", column.ident)).collect();
    let source = source(1, index.len());
    let (verb, from) = match &binding.soft {
        None => (format!("DELETE FROM {} AS t", binding.table), format!("USING {source} WHERE")),
        Some(soft) => (
            format!("UPDATE {} AS t SET {} = now()", binding.table, soft.ident),
            format!("FROM {source} WHERE t.{} IS NULL AND", soft.ident),
        ),
    };
    format!(
        "{verb} {from} {} AND NOT EXISTS (SELECT FROM {collection} AS k WHERE {})",
        held.join(" AND "),
        same.join(" AND ")
    )
}

/// Removes all rows.
pub(super) fn clear(binding: &Binding) -> String {
    match &binding.soft {
        None => format!("DELETE FROM {}", binding.table),
        Some(soft) => format!("UPDATE {0} SET {1} = now() WHERE {1} IS NULL", binding.table, soft.ident),
    }
}

/// Reads what is stored under keys: the key's own text as sent, then the texts of `columns` and of the extra columns.
pub(super) fn read(binding: &Binding, columns: &[u16]) -> String {
    let keys = binding.def.key.len();
    let mut list: Vec<_> = (1..=keys).map(|i| format!("x.p{i}")).collect();
    list.extend(bound(binding, columns).iter().map(|column| format!("t.{}::pg_catalog.text", column.ident)));
    list.extend(binding.extra.iter().map(|(name, _)| format!("t.{name}::pg_catalog.text")));
    format!(
        "SELECT {} FROM {} AS t JOIN {} ON {}",
        list.join(", "),
        binding.table,
        source(1, keys),
        key_match(binding, 1)
    )
}

/// Inserts whole rows. Parameters: `columns`, then the target's own ones `with_extra`.
pub(super) fn restore(binding: &Binding, columns: &[u16], with_extra: bool) -> String {
    let written = bound(binding, columns);
    let extra = if with_extra { binding.extra.as_slice() } else { &[] };
    let names = written.iter().map(|column| column.ident.as_str());
    let names: Vec<_> = names.chain(extra.iter().map(|(name, _)| name.as_str())).collect();
    let casts = written.iter().map(|column| column.cast.as_str());
    let values: Vec<_> = casts
        .chain(extra.iter().map(|(_, cast)| cast.as_str()))
        .enumerate()
        .map(|(i, cast)| format!("x.p{}::{cast}", i + 1))
        .collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
        binding.table,
        names.join(", "),
        values.join(", "),
        source(1, values.len())
    )
}
