//! What is to be sent, as it follows from what is there and what was there before.

use rowbridge_schema::config::{SnapshotMode, Start};
use rowbridge_schema::{EndpointName, Position};

use super::{OpenError, Publisher};
use crate::journal::Journal as _;
use crate::pump::Roster as _;
use crate::state::{Job, columns, values_changed};

impl Publisher {
    /// Compares the tables with what was sent before, and notes what is to be sent.
    pub(super) fn plan_tables(
        &self,
        tables: &[rowbridge_schema::TableDef],
        added: &[rowbridge_schema::TableName],
        fresh: bool,
    ) -> Result<(), OpenError> {
        let known = self.state.tables()?;
        let again = fresh && self.state.starts_over()?;
        let only = self.wants_rows();
        let first = |def| only.clone().map(|only| Job { only, ..Job::new(def, false) });
        for def in tables {
            let before = known.iter().find(|(name, _)| *name == def.name);
            let now = columns(def);
            let changed = before.is_some_and(|(_, old)| values_changed(old, &now));
            let job = match before {
                _ if again => Some(Job::new(def, true)),
                None if fresh && self.config.source.snapshot == SnapshotMode::Never => None,
                None => first(def),
                Some(_) if changed || added.contains(&def.name) && !fresh => Some(Job::new(def, true)),
                Some(_) => continue,
            };
            let job = job.and_then(|job| self.board.wanted(job));
            self.state.add_job(def, job.as_ref())?;
        }
        Ok(())
    }

    /// Everything is to be sent again, from the beginning.
    pub(super) fn plan_everything(&self, tables: &[rowbridge_schema::TableDef]) -> Result<(), OpenError> {
        let Some(only) = self.wants_rows() else { return Ok(()) };
        for def in tables {
            let job = self.board.wanted(Job { only: only.clone(), ..Job::new(def, true) });
            self.state.add_job(def, job.as_ref())?;
        }
        Ok(())
    }

    /// Who gets rows that were there before, as [`Job::only`] says it; `None` if nobody: whoever begins with the next change
    /// gets none.
    fn wants_rows(&self) -> Option<Vec<EndpointName>> {
        let (with, without): (Vec<_>, Vec<_>) =
            self.config.endpoints.iter().partition(|endpoint| endpoint.start == Start::Snapshot);
        match (with.is_empty(), without.is_empty()) {
            (true, _) => None,
            (false, true) => Some(vec![]),
            (false, false) => Some(with.iter().map(|endpoint| endpoint.name.clone()).collect()),
        }
    }

    /// Notes new lanes that begin with the next change. They need nothing of the source, and are not to be sent what the
    /// journal still has, so that this comes before lanes are started.
    pub(super) fn plan_lanes_from_now(&self) -> Result<(), OpenError> {
        if self.state.lanes()?.is_empty() {
            return Ok(());
        }
        for endpoint in self.config.endpoints.iter().filter(|endpoint| endpoint.start == Start::Now) {
            if self.state.lane_start(&endpoint.name)?.is_none() {
                let start = self.journal.last().unwrap_or(Position::ZERO);
                self.state.add_lane(&endpoint.name, start)?;
            }
        }
        Ok(())
    }

    /// Notes lanes that are new: where they begin, and what they need first.
    pub(super) fn plan_lanes(&self, tables: &[rowbridge_schema::TableDef]) -> Result<(), OpenError> {
        let first = self.state.lanes()?.is_empty();
        for endpoint in &self.config.endpoints {
            if self.state.lane_start(&endpoint.name)?.is_some() {
                continue;
            }
            let start = if first { Position::ZERO } else { self.journal.last().unwrap_or(Position::ZERO) };
            self.state.add_lane(&endpoint.name, start)?;
            if !first && endpoint.start == Start::Snapshot {
                for def in tables.iter().filter(|def| endpoint.tables.matches(&def.name)) {
                    let job = Job { only: vec![endpoint.name.clone()], ..Job::new(def, true) };
                    if let Some(job) = self.board.wanted(job) {
                        self.state.add_job(def, Some(&job))?;
                    }
                }
            }
        }
        Ok(())
    }
}
