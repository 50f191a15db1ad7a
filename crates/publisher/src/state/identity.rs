//! Who a state is: its epochs, its source, what of that it has made.

use rowbridge_schema::{EndpointName, Offset, Position, SourceId, TableDef};
use rusqlite::params;

use super::jobs::{columns, split};
use super::{State, StateError};

/// Where capture stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Epoch of new positions.
    pub epoch: u32,
    /// Nothing was captured in this epoch yet: slot or change log are to be made.
    pub fresh: bool,
    /// The source as the capture last named it.
    pub source: Option<SourceId>,
    /// PostgreSQL timeline.
    pub timeline: Option<u32>,
    /// Offsets below which positions have an earlier epoch, after a failover.
    pub earlier_epochs: Vec<(Offset, u32)>,
}

/// What another publisher of this stream has left behind, for a state that goes on there; see [`State::take_over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Epoch, source and timeline of the stream as it is.
    pub identity: Identity,
    /// The stream that this state has begins after this: a target further back needs a snapshot.
    pub first: Position,
    /// Lanes that the targets know, and where they stand.
    pub lanes: Vec<(EndpointName, Position)>,
    /// Tables as they are.
    pub tables: Vec<TableDef>,
}

/// The epoch of a new state: seconds since 1970, so that it lies above every epoch of a state that was lost. The publisher
/// sends nothing in an epoch before its second is over, so no two states of one clock begin with the same one.
pub(crate) fn present_second() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

impl State {
    /// Who we are.
    ///
    /// # Errors
    /// The file's.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let number = |key: &str| Ok(self.meta(key)?.and_then(|text| text.parse::<u32>().ok()));
        let earlier: Vec<(u32, u64, u32)> = self
            .meta("earlier_epochs")?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Ok(Identity {
            epoch: number("epoch")?.unwrap_or(1),
            fresh: self.meta("phase")?.as_deref() != Some("running"),
            source: self.meta("source")?.map(SourceId),
            timeline: number("timeline")?,
            earlier_epochs: earlier
                .into_iter()
                .map(|(file, at, epoch)| (Offset { file, at }, epoch))
                .collect(),
        })
    }

    /// Where this state begins: whatever lies before, another state has sent.
    ///
    /// # Errors
    /// The file's.
    pub fn first(&self) -> Result<Position, StateError> {
        if let Some(position) = self.meta("first")?.and_then(|text| text.parse().ok()) {
            return Ok(position);
        }
        let epoch = self.meta("first_epoch")?.and_then(|text| text.parse().ok());
        Ok(Position::new(epoch.unwrap_or(0), 0, 0))
    }

    /// Targets know this epoch. While nothing was captured the state's own rises above it; later, the next one will.
    ///
    /// # Errors
    /// The file's.
    pub fn saw_epoch(&self, epoch: u32) -> Result<(), StateError> {
        let identity = self.identity()?;
        if self.seen_epoch()?.is_none_or(|seen| seen < epoch) {
            self.set_meta("seen_epoch", &epoch.to_string())?;
        }
        if identity.fresh && identity.epoch <= epoch {
            let above = epoch.saturating_add(1).to_string();
            if identity.source.is_none() {
                self.set_meta("first_epoch", &above)?;
            }
            self.set_meta("epoch", &above)?;
        }
        Ok(())
    }

    fn seen_epoch(&self) -> Result<Option<u32>, StateError> {
        Ok(self.meta("seen_epoch")?.and_then(|text| text.parse().ok()))
    }

    /// Goes on where another publisher of the stream was, in one transaction. Nothing that this state knew of lanes and
    /// snapshots counts any more.
    ///
    /// # Errors
    /// The file's.
    pub fn take_over(&self, taken: &TakenOver) -> Result<(), StateError> {
        let TakenOver { identity, first, lanes, tables } = taken;
        self.with(|db| {
            let transaction = db.transaction()?;
            for table in ["lanes", "detached", "attached", "tables"] {
                transaction.execute(&format!("DELETE FROM {table}"), [])?;
            }
            transaction.execute("DELETE FROM meta WHERE key = 'snapshot_from'", [])?;
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('first', ?1)", [first.to_string()])?;
            for (endpoint, stands) in lanes {
                transaction
                    .execute("INSERT INTO lanes VALUES (?1, ?2)", [endpoint.as_str(), &stands.to_string()])?;
            }
            for def in tables {
                let (schema, name) = split(&def.name);
                let columns = serde_json::json!(columns(def)).to_string();
                transaction.execute(
                    "INSERT INTO tables VALUES (?1, ?2, ?3, 'done', ?4, FALSE, '[]', NULL)",
                    params![schema, name, columns, def.key.is_empty()],
                )?;
            }
            transaction.commit()
        })?;
        // Last: until then the state is as good as empty, and all of this is done again.
        self.set_identity(identity)
    }

    /// Whether a slot at the source is known to be ours.
    ///
    /// # Errors
    /// The file's.
    pub fn is_claimed(&self) -> Result<bool, StateError> {
        Ok(self.meta("claimed")?.is_some() || self.meta("source")?.is_some() || self.starts_over()?)
    }

    /// Remembers that nothing of ours was at the source before: what is there from now on is ours.
    ///
    /// # Errors
    /// The file's.
    pub fn claim(&self) -> Result<(), StateError> {
        self.set_meta("claimed", "yes")
    }

    /// Nothing was made at the source yet, and who waits for a person must not claim what others make meanwhile.
    ///
    /// # Errors
    /// The file's.
    pub fn unclaim(&self) -> Result<(), StateError> {
        self.with(|db| db.execute("DELETE FROM meta WHERE key = 'claimed'", [])).map(drop)
    }

    /// Remembers who we are.
    ///
    /// # Errors
    /// The file's.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StateError> {
        let earlier: Vec<(u32, u64, u32)> =
            identity.earlier_epochs.iter().map(|(offset, epoch)| (offset.file, offset.at, *epoch)).collect();
        let mut values = vec![
            ("epoch", identity.epoch.to_string()),
            ("phase", if identity.fresh { "new" } else { "running" }.to_owned()),
            ("earlier_epochs", serde_json::json!(earlier).to_string()),
        ];
        if !identity.fresh {
            self.with(|db| db.execute("DELETE FROM meta WHERE key = 'starts_over'", []))?;
        }
        values.extend(identity.timeline.map(|timeline| ("timeline", timeline.to_string())));
        values.extend(identity.source.as_ref().map(|source| ("source", source.0.clone())));
        self.with(|db| {
            let transaction = db.transaction()?;
            for (key, value) in &values {
                transaction.execute(
                    "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    [*key, value],
                )?;
            }
            transaction.commit()
        })
    }

    /// Begins a new epoch: slot or change log are to be made anew, every table is to be sent again, and what was under
    /// way counts for nothing. Whatever operators have asked for until now is contained in that, and dropped last: after a
    /// kill in between it is all done again.
    ///
    /// # Errors
    /// The file's.
    pub fn start_over(&self) -> Result<Identity, StateError> {
        let before = self.identity()?;
        let above = before.epoch.max(self.seen_epoch()?.unwrap_or(0)).saturating_add(1);
        let epoch = present_second().max(above);
        let identity = Identity { epoch, fresh: true, timeline: None, earlier_epochs: vec![], ..before };
        self.set_meta("starts_over", "yes")?;
        self.set_identity(&identity)?;
        self.with(|db| {
            let transaction = db.transaction()?;
            transaction.execute("UPDATE tables SET status = 'done', after = NULL", [])?;
            transaction.execute("DELETE FROM requests", [])?;
            transaction.commit()
        })?;
        Ok(identity)
    }

    /// Whether targets hold rows of an earlier epoch, so that a snapshot must also remove what is gone.
    ///
    /// # Errors
    /// The file's.
    pub fn starts_over(&self) -> Result<bool, StateError> {
        Ok(self.meta("starts_over")?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Job;
    use super::super::jobs::tests::def;
    use super::*;

    #[test]
    fn starting_over_rises() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        state.add_job(&def("t"), Some(&Job::new(&def("t"), false))).unwrap();
        let before = Identity { fresh: false, timeline: Some(1), ..state.identity().unwrap() };
        state.set_identity(&before).unwrap();
        assert!(!state.starts_over().unwrap());
        let after = state.start_over().unwrap();
        assert!(after.fresh && after.epoch > before.epoch && state.starts_over().unwrap());
        assert!(state.jobs().unwrap().is_empty());
        assert_eq!(state.identity().unwrap().epoch, after.epoch);
    }

    #[test]
    fn epochs_lie_above_what_targets_know() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        let far = present_second() + 1_000_000;
        state.saw_epoch(far).unwrap();
        assert_eq!(state.identity().unwrap().epoch, far + 1);
        assert_eq!(state.first().unwrap(), Position::new(far + 1, 0, 0));
        state.saw_epoch(7).unwrap();
        let identity =
            Identity { fresh: false, source: Some(SourceId("pg".into())), ..state.identity().unwrap() };
        assert_eq!(identity.epoch, far + 1);
        state.set_identity(&identity).unwrap();
        // Under way it stays as it is, and the next one lies above.
        state.saw_epoch(far + 50).unwrap();
        assert_eq!(state.identity().unwrap(), identity);
        assert_eq!(state.start_over().unwrap().epoch, far + 51);
        assert_eq!(state.first().unwrap(), Position::new(far + 1, 0, 0));
    }

    #[test]
    fn what_another_publisher_left_replaces_what_was_known() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        let (a, b): (EndpointName, EndpointName) = ("a".parse().unwrap(), "b".parse().unwrap());
        state.add_job(&def("old"), Some(&Job::new(&def("old"), true))).unwrap();
        state.add_lane(&b, Position::ZERO).unwrap();
        state.detach(&b, "slow").unwrap();
        state.set_snapshot_from(Position::new(9, 9, 9)).unwrap();
        let identity = Identity {
            epoch: 5,
            fresh: false,
            source: Some(SourceId("pg".into())),
            timeline: Some(2),
            earlier_epochs: vec![],
        };
        let taken = TakenOver {
            identity: identity.clone(),
            first: Position::new(5, 70, 0),
            lanes: vec![(a.clone(), Position::new(5, 80, 1))],
            tables: vec![def("t")],
        };
        state.take_over(&taken).unwrap();
        assert_eq!(state.identity().unwrap(), identity);
        assert!(state.is_claimed().unwrap() && state.jobs().unwrap().is_empty());
        assert_eq!(state.first().unwrap(), taken.first);
        assert_eq!(state.lanes().unwrap(), ["a"]);
        assert_eq!(state.lane_start(&a).unwrap(), Some(Position::new(5, 80, 1)));
        assert_eq!((state.detached(&b).unwrap(), state.snapshot_from(&b).unwrap()), (None, None));
        assert_eq!(state.tables().unwrap().len(), 1);
    }
}
