//! Which dead letters a command means.

use rowbridge_schema::EndpointName;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::letter::LetterState;

/// Which dead letters. Everything that is set has to hold; the default is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    /// These; any if empty.
    pub ids: Vec<i64>,
    /// Of this endpoint.
    pub endpoint: Option<EndpointName>,
    /// Patterns as in `source.tables`: `*` matches any characters, `!` excludes, later ones win. Any if empty.
    pub tables: Vec<String>,
    /// Died at or after.
    pub since_ms: Option<i64>,
    /// Died before.
    pub until_ms: Option<i64>,
    /// The error's class, or a part of the reason's text.
    pub reason: Option<String>,
    /// Up to this one: what dies while a command asks is not meant.
    pub upto: Option<i64>,
    /// In one of these states; any if empty.
    pub states: Vec<LetterState>,
}

impl LetterFilter {
    /// Those that wait for a person.
    #[must_use]
    pub fn dead() -> Self {
        Self { states: vec![LetterState::Dead], ..Self::default() }
    }

    pub(super) fn to_where(&self) -> Where {
        let mut wanted = Where::default();
        if !self.ids.is_empty() {
            let ids = serde_json::json!(self.ids).to_string();
            wanted.and("id IN (SELECT value FROM json_each(?))", [ids.into()]);
        }
        if let Some(upto) = self.upto {
            wanted.and("id <= ?", [upto.into()]);
        }
        if let Some(endpoint) = &self.endpoint {
            wanted.and("endpoint = ?", [endpoint.as_str().to_owned().into()]);
        }
        if !self.tables.is_empty() {
            let mut arms = String::new();
            for pattern in self.tables.iter().rev() {
                arms.push_str(" WHEN table_name GLOB ? THEN ");
                arms.push(if pattern.starts_with('!') { '0' } else { '1' });
            }
            let patterns = self.tables.iter().rev().map(|pattern| sqlite_glob(pattern).into());
            wanted.and(&format!("CASE{arms} ELSE 0 END"), patterns);
        }
        if let Some(since) = self.since_ms {
            wanted.and("dead_at >= ?", [since.into()]);
        }
        if let Some(until) = self.until_ms {
            wanted.and("dead_at < ?", [until.into()]);
        }
        if let Some(reason) = &self.reason {
            wanted.and("(class = ? OR instr(reason, ?) > 0)", [reason.clone().into(), reason.clone().into()]);
        }
        if !self.states.is_empty() {
            let states: Vec<&str> = self.states.iter().map(|state| state.name()).collect();
            let states = serde_json::json!(states).to_string();
            wanted.and("state IN (SELECT value FROM json_each(?))", [states.into()]);
        }
        wanted
    }
}

/// Our pattern in SQLite's GLOB, which knows `?` and `[...]` too.
fn sqlite_glob(pattern: &str) -> String {
    let pattern = pattern.strip_prefix('!').unwrap_or(pattern);
    let mut glob = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match c {
            '?' | '[' => glob.extend(['[', c, ']']),
            c => glob.push(c),
        }
    }
    glob
}

/// Conditions and their values, in the order of the question marks.
#[derive(Debug, Default)]
pub(super) struct Where {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    pub(super) fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    /// `WHERE ...`, or nothing.
    pub(super) fn sql(&self) -> String {
        match self.conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", self.conditions.join(" AND ")),
        }
    }

    pub(super) fn params(&self) -> impl rusqlite::Params + '_ {
        rusqlite::params_from_iter(self.values.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rowbridge_schema::{TableName, TablePatterns};

    use super::*;

    proptest! {
        #[test]
        fn patterns_mean_what_they_mean_in_the_configuration(
            patterns in proptest::collection::vec("!?[ab.*?\\[\\]^-]{1,5}", 1..4),
            table in "[ab.?\\[\\]^*-]{1,6}",
        ) {
            let Ok(ours) = TablePatterns::new(&patterns) else { return Ok(()) };
            let db = rusqlite::Connection::open_in_memory().unwrap();
            db.execute_batch("CREATE TABLE letters (table_name TEXT)").unwrap();
            db.execute("INSERT INTO letters VALUES (?1)", [&table]).unwrap();
            let wanted = LetterFilter { tables: patterns, ..LetterFilter::default() }.to_where();
            let sql = format!("SELECT count(*) FROM letters {}", wanted.sql());
            let found: i64 = db.query_row(&sql, wanted.params(), |row| row.get(0)).unwrap();
            prop_assert_eq!(found == 1, ours.matches(&TableName::bare(table)));
        }
    }
}
