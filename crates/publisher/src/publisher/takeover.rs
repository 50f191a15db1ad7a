//! Going on without a state of one's own: what slot and targets say of where the stream is.
//!
//! With `journal.confirm = "delivered"` the source is confirmed only what every attached target has committed, exactly: no
//! transaction lies between a target's position and the slot's. So slot and targets together are as good as a journal, and
//! a publisher on a disk that vanished, or a standby, goes on from them: same epoch, same positions.
//!
//! Receivers of events cannot say where they stand. They count by the slot: what was confirmed they have, or it was set
//! aside. Where there are no others, nobody knows the epoch, and a later one begins.

use std::time::Duration;

use rowbridge_schema::{EndpointName, Position, SourceId};
use tokio::task::JoinSet;

use super::run::{Failed, describe, wait_for_second};
use super::{OpenError, Publisher, Way};
use crate::capture::Capture;
use crate::journal::{Journal as _, Resume};
use crate::lane::{self, ProbeError, Standing};
use crate::source::{Left, Source, Trouble};
use crate::state::{Identity, TakenOver, present_second};

/// How long targets are waited for that are asked only for what they may know.
const ASK: Duration = Duration::from_secs(3);

/// How an attempt to take over ended.
pub(super) enum TakeOver {
    /// Capture goes on from here.
    Done(Resume),
    /// There is nothing to take over.
    Nothing,
    /// Not now, or not without a person.
    Failed(Failed),
}

/// What targets said of where they stand.
pub(super) struct Known {
    /// Of those that the stream has reached at all.
    pub(super) positions: Vec<(EndpointName, Position)>,
    /// Every endpoint has answered. Never so where there is one that cannot be asked.
    pub(super) complete: bool,
}

type Standings = Vec<(EndpointName, Result<Standing, ProbeError>)>;

impl Publisher {
    /// Asks every target where its lane stands, all at once; in the order of the configuration.
    async fn ask(&self, source: &SourceId) -> Standings {
        let mut asking = JoinSet::new();
        // Only a subscriber can say where it stands.
        let bridges = self.config.endpoints.iter().zip(&self.ways).filter_map(|(endpoint, way)| match way {
            Way::Bridge(tls) => Some((endpoint, tls)),
            Way::Webhook { .. } => None,
        });
        for (place, (endpoint, tls)) in bridges.enumerate() {
            let (stream, source) = (self.config.stream.clone(), source.clone());
            let (endpoint, tls) = (endpoint.clone(), tls.clone());
            asking.spawn(async move {
                let standing = lane::ask(&stream, &source, &endpoint, tls).await;
                (place, endpoint.name, standing)
            });
        }
        let mut answers = asking.join_all().await;
        answers.sort_by_key(|(place, ..)| *place);
        answers.into_iter().map(|(_, name, standing)| (name, standing)).collect()
    }

    /// What targets know, as far as they answer soon.
    pub(super) async fn positions_known(&self, source: Option<&SourceId>) -> Known {
        let nobody = SourceId("none".to_owned());
        let asked = tokio::time::timeout(ASK, self.ask(source.unwrap_or(&nobody))).await;
        let standings = asked.unwrap_or_default();
        let told = standings
            .iter()
            .filter(|(_, standing)| !matches!(standing, Err(_) | Ok(Standing::Foreign(None))))
            .count();
        let known = |(name, standing): (EndpointName, Result<Standing, ProbeError>)| {
            standing.ok()?.position().map(|position| (name, position))
        };
        Known {
            complete: told == self.config.endpoints.len(),
            positions: standings.into_iter().filter_map(known).collect(),
        }
    }

    /// Goes on where slot and targets are. Nobody else may be reading the source.
    pub(super) async fn take_over<S: Source>(&self, source: &S) -> Result<TakeOver, OpenError> {
        let left = match source.left().await {
            Ok(Some(left)) => left,
            Ok(None) => return Ok(TakeOver::Nothing),
            Err(error) => return Ok(TakeOver::Failed(failed::<S>(source, &error))),
        };
        let standings = self.ask(&left.source).await;
        let mut lanes = Vec::new();
        for (name, standing) in standings {
            match standing {
                Ok(Standing::Ours(position)) => lanes.push((name, position)),
                Ok(Standing::Unknown) => {}
                Ok(Standing::Foreign(_)) => {
                    return Ok(TakeOver::refused(
                        &left,
                        &format!("endpoint {name} has changes of another source"),
                    ));
                }
                Err(error) => {
                    let problem = format!(
                        "{} exists and state_dir does not know how far it was delivered: waiting for endpoint {name} to \
                         say where it stands: {}",
                        left.slot,
                        chain(&error)
                    );
                    return Ok(TakeOver::Failed(Failed::Problem { problem, permanent: false }));
                }
            }
        }
        let (receivers, bridges): (Vec<_>, Vec<_>) =
            self.config.endpoints.iter().partition(|endpoint| endpoint.webhook.is_some());
        let epoch = match lanes.iter().map(|(_, position)| position.epoch).max() {
            Some(epoch) => epoch,
            None if bridges.is_empty() && !receivers.is_empty() => {
                let epoch = present_second();
                wait_for_second(epoch).await;
                epoch
            }
            None => return Ok(TakeOver::refused(&left, "no endpoint has changes of it")),
        };
        if left.promoted {
            return Ok(TakeOver::refused(&left, "the server was promoted since it was last confirmed"));
        }
        if self.journal.last().is_some_and(|last| last.epoch > epoch) {
            return Ok(TakeOver::refused(&left, "the journal is of a later epoch than the endpoints"));
        }
        // The last byte that is confirmed: a target that has everything stands there or further.
        let mut first = Position::new(epoch, 0, 0);
        first.offset = left.confirmed;
        first.offset.at = first.offset.at.saturating_sub(1);
        lanes.extend(receivers.into_iter().map(|endpoint| (endpoint.name.clone(), first)));
        let identity = Identity {
            epoch,
            fresh: false,
            source: Some(left.source.clone()),
            timeline: left.timeline,
            earlier_epochs: vec![],
        };
        let taken = TakenOver { identity, first, lanes, tables: left.tables };
        self.state.take_over(&taken)?;
        for (name, stands) in taken.lanes.iter().filter(|(_, stands)| *stands < first) {
            let reason = format!(
                "it stands at {stands}, {} was confirmed up to {first}, and the journal of what lies between is lost",
                left.slot
            );
            self.state.detach(name, &reason)?;
        }
        self.board.hold_for_attached()?;
        self.journal.mark(left.resume.clone()).await?;
        let mut durable = self.journal.durable();
        let _ = durable.wait_for(|durable| durable.resume.as_ref() == Some(&left.resume)).await;
        tracing::info!(epoch, from = %left.resume.0, "took over the stream where slot and targets are");
        Ok(TakeOver::Done(left.resume))
    }
}

impl TakeOver {
    fn refused(left: &Left, why: &str) -> Self {
        let problem = format!(
            "{} exists, but {why}. If state_dir was lost or is new, run `rowbridge snapshot --all` to take over the slot and \
             send all tables again; if another stream uses this slot, set source.slot to another name",
            left.slot
        );
        Self::Failed(Failed::Problem { problem, permanent: true })
    }
}

/// What an error of the source means for the publisher's life.
pub(super) fn failed<S: Source>(source: &S, error: &<S::Capture as Capture>::Error) -> Failed {
    use rowbridge_schema::Classified as _;
    match source.trouble(error) {
        Trouble::InUse(by) => Failed::InUse { by, problem: describe(error) },
        Trouble::Ahead => Failed::Ahead { problem: describe(error) },
        Trouble::Taken => Failed::Taken { problem: describe(error) },
        Trouble::Other => {
            Failed::Problem { problem: describe(error), permanent: !error.class().is_retryable() }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
