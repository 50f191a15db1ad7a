//! Tables as they were last sent, and snapshots under way.

use std::sync::PoisonError;

use rowbridge_schema::{EndpointName, TableDef, TableName};
use rusqlite::params;

use super::{State, StateError};
use crate::capture::Key;

/// A snapshot to make or to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The table.
    pub table: TableName,
    /// Rows have no key.
    pub keyless: bool,
    /// Remove what is gone.
    pub resync: bool,
    /// Only for these endpoints; all bridge endpoints if empty.
    pub only: Vec<EndpointName>,
    /// Last key that is durable in the journal.
    pub after: Option<Key>,
    /// How often it was asked for in this process: what was read before the last time may lack what it was asked for.
    pub run: u64,
}

impl Job {
    /// A snapshot of a whole table for every bridge endpoint.
    #[must_use]
    pub fn new(def: &TableDef, resync: bool) -> Self {
        let table = def.name.clone();
        Self { table, keyless: def.key.is_empty(), resync, only: vec![], after: None, run: 0 }
    }
}

impl State {
    /// Tables known, with the columns (name, type) that they had.
    ///
    /// # Errors
    /// The file's.
    pub fn tables(&self) -> Result<Vec<(TableName, SentColumns)>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT schema, name, columns FROM tables ORDER BY 1, 2")?;
            let rows = statement.query_map([], |row| {
                let columns: String = row.get(2)?;
                Ok((table_name(row.get(0)?, row.get(1)?), serde_json::from_str(&columns).unwrap_or_default()))
            })?;
            rows.collect()
        })
    }

    /// Records a table, and that it is to be sent; a job that is already waiting is widened, never narrowed.
    ///
    /// # Errors
    /// The file's.
    pub fn add_job(&self, def: &TableDef, job: Option<&Job>) -> Result<(), StateError> {
        if job.is_some() {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            *runs.entry(def.name.clone()).or_default() += 1;
        }
        let waiting = self.jobs()?.into_iter().find(|waiting| waiting.table == def.name);
        let (status, resync, only) = match (job, waiting) {
            (None, _) => ("done", false, vec![]),
            (Some(job), None) => ("pending", job.resync, job.only.clone()),
            (Some(job), Some(before)) => {
                let everybody = job.only.is_empty() || before.only.is_empty();
                let mut only = if everybody { vec![] } else { before.only };
                if !everybody {
                    only.extend(
                        job.only.iter().filter(|name| !only.contains(name)).cloned().collect::<Vec<_>>(),
                    );
                }
                ("pending", job.resync || before.resync, only)
            }
        };
        let columns = serde_json::json!(columns(def)).to_string();
        let only = serde_json::json!(only).to_string();
        let (schema, name) = split(&def.name);
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO tables VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
                params![schema, name, columns, status, def.key.is_empty(), resync, only],
            )
        })
        .map(drop)
    }

    /// Snapshots to make or to go on with, by name.
    ///
    /// # Errors
    /// The file's.
    pub fn jobs(&self) -> Result<Vec<Job>, StateError> {
        let mut jobs: Vec<Job> = self.with(|db| {
            let mut statement = db.prepare(
                "SELECT schema, name, keyless, resync, only_for, after FROM tables WHERE status = 'pending' ORDER BY 1, 2",
            )?;
            let rows = statement.query_map([], |row| {
                let only: String = row.get(4)?;
                let after: Option<String> = row.get(5)?;
                Ok(Job {
                    table: table_name(row.get(0)?, row.get(1)?),
                    keyless: row.get(2)?,
                    resync: row.get(3)?,
                    only: serde_json::from_str(&only).unwrap_or_default(),
                    after: after.and_then(|text| serde_json::from_str(&text).ok()),
                    run: 0,
                })
            })?;
            rows.collect()
        })?;
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for job in &mut jobs {
            job.run = runs.get(&job.table).copied().unwrap_or(0);
        }
        Ok(jobs)
    }

    /// Whatever was sent of unfinished snapshots counts for nothing: they begin again.
    ///
    /// # Errors
    /// The file's.
    pub fn restart_jobs(&self) -> Result<(), StateError> {
        self.with(|db| {
            db.execute("UPDATE tables SET after = NULL, resync = TRUE WHERE status = 'pending'", [])
        })
        .map(drop)
    }

    /// A chunk up to `after` is durable in the journal; `None` says that the table is complete.
    ///
    /// # Errors
    /// The file's.
    pub fn advance_job(&self, table: &TableName, after: Option<&Key>) -> Result<(), StateError> {
        let (schema, name) = split(table);
        let status = if after.is_some() { "pending" } else { "done" };
        let after = after.map(|key| serde_json::json!(key).to_string());
        self.with(|db| {
            db.execute(
                "UPDATE tables SET after = ?3, status = ?4 WHERE schema = ?1 AND name = ?2",
                params![schema, name, after, status],
            )
        })
        .map(drop)
    }
}

/// Name and type of each sent column.
pub type SentColumns = Vec<(String, String)>;

/// The sent columns of a table: what decides whether rows that were sent before are still right.
#[must_use]
pub fn columns(def: &TableDef) -> SentColumns {
    let sent = def.columns.iter().filter(|column| column.generated.is_none());
    sent.map(|column| (column.name.clone(), column.type_name.clone())).collect()
}

/// Whether rows that were sent before `old` became `new` may differ from what the table now shows: a column that is new, or
/// has another type, has values that never went through the stream. So may columns whose order changed, which nothing but
/// new names or new columns under old names can do.
#[must_use]
pub fn values_changed(old: &SentColumns, new: &SentColumns) -> bool {
    !old.iter().filter(|column| new.contains(column)).eq(new)
}

pub(super) fn split(name: &TableName) -> (&str, &str) {
    (name.schema.as_deref().unwrap_or(""), &name.name)
}

fn table_name(schema: String, name: String) -> TableName {
    TableName { schema: Some(schema).filter(|schema| !schema.is_empty()), name }
}

#[cfg(test)]
pub(super) mod tests {
    use rowbridge_schema::{Column, Dialect};

    use super::*;

    pub(in crate::state) fn def(name: &str) -> TableDef {
        let column = Column {
            name: "id".into(),
            type_name: "bigint".into(),
            not_null: true,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", name),
            columns: vec![column],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    #[test]
    fn jobs_widen_advance_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        let (a, b): (EndpointName, EndpointName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let job = |resync, only: &[&EndpointName], run| Job {
            only: only.iter().map(|&name| name.clone()).collect(),
            run,
            ..Job::new(&def("t"), resync)
        };
        state.add_job(&def("t"), Some(&job(false, &[&a], 0))).unwrap();
        state.add_job(&def("t"), Some(&job(true, &[&b], 0))).unwrap();
        assert_eq!(state.jobs().unwrap(), [job(true, &[&a, &b], 2)]);
        state.add_job(&def("t"), Some(&job(false, &[], 0))).unwrap();
        assert_eq!(state.jobs().unwrap(), [job(true, &[], 3)]);
        // The same again is another one all the same: what was read for the first does not count.
        state.add_job(&def("t"), Some(&job(true, &[], 0))).unwrap();
        assert_eq!(state.jobs().unwrap(), [job(true, &[], 4)]);
        state.advance_job(&def("t").name, Some(&vec!["7".into()])).unwrap();
        assert_eq!(state.jobs().unwrap()[0].after, Some(vec!["7".into()]));
        state.advance_job(&def("t").name, None).unwrap();
        assert!(state.jobs().unwrap().is_empty());
        assert_eq!(state.tables().unwrap(), [(def("t").name, columns(&def("t")))]);
    }

    #[test]
    fn columns_that_have_other_values_are_seen() {
        let columns = |text: &str| -> SentColumns {
            text.split(' ').map(|name| (name.to_owned(), "text".to_owned())).collect()
        };
        let changed = |old: &str, new: &str| values_changed(&columns(old), &columns(new));
        assert!(!changed("a b c", "a b c") && !changed("a b c", "a c"));
        assert!(changed("a b", "a b c") && changed("a b", "a c") && changed("a b", "b a"));
        let number = vec![("a".to_owned(), "integer".to_owned())];
        assert!(values_changed(&columns("a"), &number));
    }
}
