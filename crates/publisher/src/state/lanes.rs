//! Lanes: where each began, which are detached, and where the snapshot that attaches one again begins.

use rowbridge_schema::{EndpointName, Position};
use rusqlite::OptionalExtension;

use super::{State, StateError};

impl State {
    /// Where a lane begins; recorded at its first sight.
    ///
    /// # Errors
    /// The file's.
    pub fn lane_start(&self, endpoint: &EndpointName) -> Result<Option<Position>, StateError> {
        let text: Option<String> = self.with(|db| {
            db.query_row("SELECT start FROM lanes WHERE endpoint = ?1", [endpoint.as_str()], |row| row.get(0))
                .optional()
        })?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Records a new lane.
    ///
    /// # Errors
    /// The file's.
    pub fn add_lane(&self, endpoint: &EndpointName, start: Position) -> Result<(), StateError> {
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO lanes VALUES (?1, ?2)",
                [endpoint.as_str(), &start.to_string()],
            )
        })
        .map(drop)
    }

    /// Lanes that were seen before.
    ///
    /// # Errors
    /// The file's.
    pub fn lanes(&self) -> Result<Vec<String>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT endpoint FROM lanes ORDER BY 1")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Where the last snapshot begins that made an endpoint whole: one of everything, or its own.
    ///
    /// # Errors
    /// The file's.
    pub fn snapshot_from(&self, endpoint: &EndpointName) -> Result<Option<Position>, StateError> {
        let own: Option<String> = self.with(|db| {
            db.query_row("SELECT position FROM attached WHERE endpoint = ?1", [endpoint.as_str()], |row| {
                row.get(0)
            })
            .optional()
        })?;
        let everything = self.meta("snapshot_from")?;
        Ok([own, everything].into_iter().flatten().filter_map(|text| text.parse().ok()).max())
    }

    /// Remembers where a snapshot of everything begins. It makes every endpoint whole, detached ones too.
    ///
    /// # Errors
    /// The file's.
    pub fn set_snapshot_from(&self, position: Position) -> Result<(), StateError> {
        self.set_meta("snapshot_from", &position.to_string())?;
        self.with(|db| db.execute("DELETE FROM detached", [])).map(drop)
    }

    /// The stream goes on without this endpoint from now on.
    ///
    /// # Errors
    /// The file's.
    pub fn detach(&self, endpoint: &EndpointName, reason: &str) -> Result<(), StateError> {
        self.with(|db| {
            db.execute("INSERT OR REPLACE INTO detached VALUES (?1, ?2)", [endpoint.as_str(), reason])
        })
        .map(drop)
    }

    /// Why an endpoint is detached, if it is.
    ///
    /// # Errors
    /// The file's.
    pub fn detached(&self, endpoint: &EndpointName) -> Result<Option<String>, StateError> {
        self.with(|db| {
            db.query_row("SELECT reason FROM detached WHERE endpoint = ?1", [endpoint.as_str()], |row| {
                row.get(0)
            })
            .optional()
        })
    }

    /// A snapshot for this endpoint begins behind `from`: it is attached there.
    ///
    /// # Errors
    /// The file's.
    pub fn attach(&self, endpoint: &EndpointName, from: Position) -> Result<(), StateError> {
        self.with(|db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO attached VALUES (?1, ?2)",
                [endpoint.as_str(), &from.to_string()],
            )?;
            transaction.execute("DELETE FROM detached WHERE endpoint = ?1", [endpoint.as_str()])?;
            transaction.commit()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detached_endpoints_stay_so_until_a_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let stream = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        let (a, b): (EndpointName, EndpointName) = ("a".parse().unwrap(), "b".parse().unwrap());
        state.detach(&a, "slow").unwrap();
        drop(state);
        let state = State::open(dir.path(), &stream).unwrap();
        assert_eq!(state.detached(&a).unwrap().as_deref(), Some("slow"));
        assert_eq!(state.detached(&b).unwrap(), None);
        state.attach(&a, Position::new(1, 7, 1)).unwrap();
        assert_eq!(state.detached(&a).unwrap(), None);
        assert_eq!(state.snapshot_from(&a).unwrap(), Some(Position::new(1, 7, 1)));
        assert_eq!(state.snapshot_from(&b).unwrap(), None);
        state.detach(&b, "gone").unwrap();
        state.set_snapshot_from(Position::new(2, 0, 0)).unwrap();
        assert_eq!(state.detached(&b).unwrap(), None);
        for endpoint in [&a, &b] {
            assert_eq!(state.snapshot_from(endpoint).unwrap(), Some(Position::new(2, 0, 0)));
        }
    }
}
