//! What a delivery means for a lane that stands somewhere: the same rules whatever the target.

use rowbridge_schema::Position;
use rowbridge_schema::wire::DeliveryHead;

use super::{Applied, Progress};

/// What a delivery means for a lane that stands somewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Apply what lies above this position, and write `to`.
    Apply(Option<Position>),
    /// Nothing to write.
    Answer(Applied),
}

/// Compares a delivery with what is stored (or staged in the lane's open transaction).
///
/// - Another source is refused, unless its epoch is higher than the stored one: then it takes the lane over.
/// - An unknown lane starts with `prev` null (from the publisher's own start) or zero; a later start is a gap, upon which
///   the publisher sends null.
/// - A known lane takes any `prev` at or below what is stored; what it has is dropped change by change.
pub(super) fn decide(stored: Option<&Progress>, head: &DeliveryHead) -> Decision {
    let committed = stored.map(|progress| progress.position);
    let Some(to) = head.to else {
        return Decision::Answer(match committed {
            Some(position) => Applied::Committed { position, changes: 0 },
            None => Applied::Gap { position: None },
        });
    };
    let Some(stored) = stored else {
        return match head.prev {
            None | Some(Position::ZERO) => Decision::Apply(None),
            Some(_) => Decision::Answer(Applied::Gap { position: None }),
        };
    };
    let position = stored.position;
    if stored.source != head.source && to.epoch <= position.epoch {
        return Decision::Answer(Applied::ForeignSource { expected: stored.source.clone(), position });
    }
    if to.epoch < position.epoch {
        return Decision::Answer(Applied::OldEpoch { position });
    }
    if to <= position {
        return Decision::Answer(Applied::Committed { position, changes: 0 });
    }
    match head.prev {
        Some(prev) if prev <= position => Decision::Apply(Some(position)),
        _ => Decision::Answer(Applied::Gap { position: Some(position) }),
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::SourceId;

    use super::*;

    fn head(source: &str, prev: Option<Position>, to: Option<Position>) -> DeliveryHead {
        DeliveryHead {
            rowbridge: 1,
            stream: "s".parse().unwrap(),
            endpoint: "e".parse().unwrap(),
            source: SourceId(source.into()),
            prev,
            to,
            open: false,
            split: false,
        }
    }

    #[test]
    fn a_lane_takes_what_joins_on_to_what_it_has() {
        let at = |n| Position::new(1, n, 1);
        let newer = |n| Position::new(2, n, 1);
        let stored = Progress { source: SourceId("a".into()), position: at(5) };
        let known = |source, prev, to| decide(Some(&stored), &head(source, prev, Some(to)));
        let unknown = |prev| decide(None, &head("a", prev, Some(at(9))));
        let gap = |position| Decision::Answer(Applied::Gap { position });
        let done = Decision::Answer(Applied::Committed { position: at(5), changes: 0 });

        assert_eq!(unknown(None), Decision::Apply(None));
        assert_eq!(unknown(Some(Position::ZERO)), Decision::Apply(None));
        assert_eq!(unknown(Some(at(3))), gap(None));
        assert_eq!(known("a", Some(at(5)), at(9)), Decision::Apply(Some(at(5))));
        assert_eq!(known("a", Some(at(2)), at(9)), Decision::Apply(Some(at(5))));
        assert_eq!(known("a", Some(at(6)), at(9)), gap(Some(at(5))));
        assert_eq!(known("a", None, at(9)), gap(Some(at(5))));
        assert_eq!(known("a", Some(at(2)), at(5)), done);
        assert_eq!(known("a", None, at(4)), done);
        let foreign =
            Decision::Answer(Applied::ForeignSource { expected: SourceId("a".into()), position: at(5) });
        assert_eq!(known("b", Some(at(5)), at(9)), foreign);
        assert_eq!(known("b", Some(at(5)), newer(1)), Decision::Apply(Some(at(5))));
        let old = Position::new(0, 99, 1);
        assert_eq!(
            known("a", Some(Position::ZERO), old),
            Decision::Answer(Applied::OldEpoch { position: at(5) })
        );
    }
}
