//! What operators ask of a publisher, by commands in processes of their own.

use std::path::Path;

use rowbridge_schema::EndpointName;

use super::{STATE_FILE, State, StateError, open_database};

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// New epoch, new slot, all tables again.
    SnapshotAll,
    /// These tables again (raw names).
    Snapshot(Vec<String>),
    /// All tables of one endpoint again, and attach it if it was detached.
    Endpoint(EndpointName),
}

/// Leaves a request for the publisher that runs, or will run, on this folder.
///
/// # Errors
/// The folder does not exist or cannot be written.
pub fn request(dir: &Path, request: &Request) -> Result<(), StateError> {
    let folder = |source| StateError::Folder { path: dir.to_owned(), source };
    std::fs::metadata(dir).map_err(folder)?;
    let what = match request {
        Request::SnapshotAll => serde_json::json!({ "snapshot": "all" }),
        Request::Snapshot(tables) => serde_json::json!({ "snapshot": tables }),
        Request::Endpoint(name) => serde_json::json!({ "endpoint": name }),
    };
    let database = open_database(dir)?;
    database
        .execute("INSERT INTO requests (what) VALUES (?1)", [what.to_string()])
        .map_err(|source| StateError::Database { path: dir.join(STATE_FILE), source })?;
    Ok(())
}

impl State {
    /// Whether an operator wants everything sent again. [`Self::start_over`] does it and drops the request.
    ///
    /// # Errors
    /// The file's.
    pub fn wants_snapshot_all(&self) -> Result<bool, StateError> {
        Ok(self.requests()?.iter().any(|(_, request)| *request == Some(Request::SnapshotAll)))
    }

    /// Requests that were left, oldest first, with their numbers; `None` is one that this version cannot read. They
    /// stay until [`Self::drop_requests`]: what they ask for is recorded first, so that a kill in between loses none.
    ///
    /// # Errors
    /// The file's.
    pub fn requests(&self) -> Result<Vec<(i64, Option<Request>)>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT id, what FROM requests ORDER BY id")?;
            let rows = statement.query_map([], |row| {
                let what: String = row.get(1)?;
                Ok((row.get(0)?, parse_request(&what)))
            })?;
            rows.collect()
        })
    }

    /// Drops the requests up to and including number `upto`: what they ask for is recorded.
    ///
    /// # Errors
    /// The file's.
    pub fn drop_requests(&self, upto: i64) -> Result<(), StateError> {
        self.with(|db| db.execute("DELETE FROM requests WHERE id <= ?1", [upto])).map(drop)
    }
}

fn parse_request(text: &str) -> Option<Request> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    if let Some(name) = value.get("endpoint") {
        return serde_json::from_value(name.clone()).ok().map(Request::Endpoint);
    }
    match value.get("snapshot")? {
        serde_json::Value::String(_) => Some(Request::SnapshotAll),
        tables => serde_json::from_value(tables.clone()).ok().map(Request::Snapshot),
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::StreamName;

    use super::*;

    #[test]
    fn requests_stay_until_they_are_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        let ask = |table: &str| request(dir.path(), &Request::Snapshot(vec![table.into()])).unwrap();
        let asked = |state: &State| -> Vec<Option<Request>> {
            state.requests().unwrap().into_iter().map(|(_, request)| request).collect()
        };
        ask("public.t");
        ask("all");
        assert!(!state.wants_snapshot_all().unwrap());
        let seen = state.requests().unwrap();
        // A kill before anything was recorded.
        drop(state);
        let state = State::open(dir.path(), &stream).unwrap();
        assert_eq!(state.requests().unwrap(), seen);
        // One that comes between reading and dropping.
        ask("public.u");
        state.drop_requests(seen[1].0).unwrap();
        assert_eq!(asked(&state), [Some(Request::Snapshot(vec!["public.u".into()]))]);
        let endpoint = Request::Endpoint("copy".parse().unwrap());
        request(dir.path(), &endpoint).unwrap();
        assert_eq!(asked(&state)[1..], [Some(endpoint)]);
        request(dir.path(), &Request::SnapshotAll).unwrap();
        state.with(|db| db.execute("INSERT INTO requests (what) VALUES ('{\"later\":1}')", [])).unwrap();
        assert_eq!(asked(&state)[2..], [Some(Request::SnapshotAll), None]);
        assert!(state.wants_snapshot_all().unwrap());
        state.start_over().unwrap();
        assert!(!state.wants_snapshot_all().unwrap() && asked(&state).is_empty());
        assert!(request(&dir.path().join("absent"), &Request::SnapshotAll).is_err());
    }
}
