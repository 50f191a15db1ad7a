//! What a publisher of the `bridge` format is answered: what a subscriber would that applies everything and checks
//! nothing. With it, `listen` stands in for a subscriber.

use std::collections::HashMap;

use http::StatusCode;
use rowbridge_schema::wire::{Answer, AnswerStatus, DeliveryHead, WIRE_VERSION};
use rowbridge_schema::{EndpointName, Position, StreamName};

/// Lanes that are remembered; beyond, all are forgotten and publishers begin anew.
const MAX_LANES: usize = 1_000;

/// Up to where each lane was answered in this run. Empty at a start, so publishers then send all that they have kept.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<(StreamName, EndpointName), Position>);

impl Lanes {
    /// The body of an answer with `status`. A 200 moves the lane.
    pub(super) fn answer(&mut self, head: &DeliveryHead, status: StatusCode, max_body: u64) -> Answer {
        let lane = (head.stream.clone(), head.endpoint.clone());
        let mut answer = Answer {
            rowbridge: WIRE_VERSION,
            stream: head.stream.clone(),
            endpoint: head.endpoint.clone(),
            status: AnswerStatus::Applied,
            position: self.0.get(&lane).copied(),
            staged: None,
            formats: vec!["bridge".to_owned()],
            encodings: vec!["zstd".to_owned(), "gzip".to_owned()],
            max_body: Some(max_body),
            message: None,
            failing: Vec::new(),
        };
        match (status, head.to) {
            (StatusCode::OK, Some(to)) if head.open => {
                answer.status = AnswerStatus::Staged;
                answer.staged = Some(to);
            }
            (StatusCode::OK, Some(to)) => {
                if self.0.len() >= MAX_LANES && !self.0.contains_key(&lane) {
                    self.0.clear();
                }
                self.0.insert(lane, to);
                answer.position = Some(to);
            }
            (StatusCode::OK, None) => {}
            _ => {
                answer.status = AnswerStatus::Unavailable;
                answer.message = Some(format!("rowbridge listen was told to answer {}", status.as_u16()));
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::SourceId;

    use super::*;

    #[test]
    fn a_lane_goes_where_it_was_sent_and_fails_where_it_should() {
        let mut lanes = Lanes::default();
        let at = |ordinal| Position::new(1, 100, ordinal);
        let asking = DeliveryHead {
            rowbridge: 1,
            stream: "shop".parse().unwrap(),
            endpoint: "copy".parse().unwrap(),
            source: SourceId("pg".into()),
            prev: None,
            to: None,
            open: false,
            split: false,
        };
        let mut ask = |head: &DeliveryHead, status| {
            let answer = lanes.answer(head, StatusCode::from_u16(status).unwrap(), 9);
            (answer.status, answer.position, answer.staged)
        };
        assert_eq!(ask(&asking, 200), (AnswerStatus::Applied, None, None));
        let sent = DeliveryHead { prev: Some(Position::ZERO), to: Some(at(3)), ..asking.clone() };
        assert_eq!(ask(&sent, 503), (AnswerStatus::Unavailable, None, None));
        assert_eq!(ask(&sent, 200), (AnswerStatus::Applied, Some(at(3)), None));
        let open = DeliveryHead { to: Some(at(5)), open: true, ..sent };
        assert_eq!(ask(&open, 200), (AnswerStatus::Staged, Some(at(3)), Some(at(5))));
        assert_eq!(ask(&asking, 200), (AnswerStatus::Applied, Some(at(3)), None));
        let other = DeliveryHead { endpoint: "other".parse().unwrap(), ..asking };
        assert_eq!(ask(&other, 200), (AnswerStatus::Applied, None, None));
    }
}
