//! A target in memory that keeps the contract of `apply`, and breaks it on request.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Class, Classified, EndpointName, Position, SourceId, StreamName};
use tokio::sync::Semaphore;

use crate::apply::{Applied, ApplyTarget, Progress, TargetLane};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Lost,
    NoRights,
    Panic,
    Reject,
}

#[derive(Debug, thiserror::Error)]
#[error("the fake target has a fault: {0:?}")]
pub(super) struct FakeError(Fault);

impl Classified for FakeError {
    fn class(&self) -> Class {
        match self.0 {
            Fault::Lost => Class::RETRYABLE,
            Fault::NoRights | Fault::Panic | Fault::Reject => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        (self.0 == Fault::NoRights).then(|| "Run the GRANT.".to_owned())
    }
}

type LaneKey = (StreamName, EndpointName);

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) progress: Mutex<HashMap<LaneKey, Progress>>,
    /// Changes per apply, committed or staged.
    pub(super) applies: Mutex<Vec<u64>>,
    pub(super) faults: Mutex<VecDeque<Fault>>,
    pub(super) away: AtomicBool,
    pub(super) opened: AtomicUsize,
    pub(super) rolled_back: AtomicUsize,
    pub(super) at_work: AtomicUsize,
    pub(super) most_at_work: AtomicUsize,
}

/// `gate` holds every apply until it has a permit.
#[derive(Clone)]
pub(super) struct FakeTarget {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<Semaphore>,
}

impl FakeTarget {
    pub(super) fn new() -> Self {
        Self { shared: Arc::default(), gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)) }
    }

    pub(super) fn closed() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        self.shared.faults.lock().unwrap().push_back(fault);
    }

    pub(super) fn applies(&self) -> Vec<u64> {
        self.shared.applies.lock().unwrap().clone()
    }

    pub(super) fn set_progress(&self, source: &str, position: Position) {
        let key = ("shop".parse().unwrap(), "copy".parse().unwrap());
        let progress = Progress { source: SourceId(source.to_owned()), position };
        self.shared.progress.lock().unwrap().insert(key, progress);
    }
}

pub(super) struct FakeLane {
    target: FakeTarget,
    key: LaneKey,
    staged: Option<Position>,
}

impl ApplyTarget for FakeTarget {
    type Lane = FakeLane;
    type Error = FakeError;

    async fn open(&self, stream: &StreamName, endpoint: &EndpointName) -> Result<FakeLane, FakeError> {
        if self.shared.away.load(Ordering::SeqCst) {
            return Err(FakeError(Fault::Lost));
        }
        if endpoint.as_str() != "rowbridge-probe" {
            self.shared.opened.fetch_add(1, Ordering::SeqCst);
        }
        Ok(FakeLane { target: self.clone(), key: (stream.clone(), endpoint.clone()), staged: None })
    }
}

struct AtWork(Arc<Shared>);

impl AtWork {
    fn new(shared: &Arc<Shared>) -> Self {
        let now = shared.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_at_work.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TargetLane for FakeLane {
    type Error = FakeError;

    async fn progress(&mut self) -> Result<Option<Progress>, FakeError> {
        self.staged = None;
        Ok(self.target.shared.progress.lock().unwrap().get(&self.key).cloned())
    }

    async fn apply(&mut self, delivery: &Delivery<'_>) -> Result<Applied, FakeError> {
        let shared = Arc::clone(&self.target.shared);
        let _at_work = AtWork::new(&shared);
        self.target.gate.acquire().await.unwrap().forget();
        let fault = shared.faults.lock().unwrap().pop_front();
        let committed = shared.progress.lock().unwrap().get(&self.key).cloned();
        let position = committed.as_ref().map(|progress| progress.position);
        match fault {
            Some(Fault::Panic) => panic!("the fake target panics on request"),
            Some(Fault::Reject) => {
                let failing = vec![FailingChange {
                    position: delivery.head.to.unwrap(),
                    table: "public.orders".to_owned(),
                    column: Some("id".to_owned()),
                    key: vec!["id=1".to_owned()],
                    reason: "does not fit".to_owned(),
                }];
                return Ok(Applied::Rejected { position, failing });
            }
            Some(fault) => return Err(FakeError(fault)),
            None => {}
        }
        let (head, to) = (&delivery.head, delivery.head.to.unwrap());
        if let Some(Progress { source, position }) = committed {
            if source != head.source {
                return Ok(Applied::ForeignSource { expected: source, position });
            }
            if to.epoch < position.epoch {
                return Ok(Applied::OldEpoch { position });
            }
        }
        let reached = self.staged.or(position).unwrap_or(Position::ZERO);
        if head.prev.unwrap() > reached {
            return Ok(Applied::Gap { position });
        }
        let mut changes = 0;
        for block in &delivery.blocks {
            for run in &block.runs {
                changes += (0..run.changes()).filter(|&i| block.position(run, i) > reached).count() as u64;
            }
        }
        shared.applies.lock().unwrap().push(changes);
        if head.open {
            self.staged = Some(to);
            return Ok(Applied::Staged { position, staged: to, changes });
        }
        self.staged = None;
        let position = to.max(reached);
        let progress = Progress { source: head.source.clone(), position };
        shared.progress.lock().unwrap().insert(self.key.clone(), progress);
        Ok(Applied::Committed { position, changes })
    }

    async fn rollback(&mut self) -> Result<(), FakeError> {
        self.staged = None;
        self.target.shared.rolled_back.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
