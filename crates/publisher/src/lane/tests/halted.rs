//! A lane that a person has to help, and that goes on by itself once helped.

use super::*;

impl Running {
    /// The state that `/metrics` shows.
    fn shown(&self) -> Vec<String> {
        let families = self.registry.gather();
        let states = families.iter().find(|family| family.name() == "rowbridge_lane_state").unwrap();
        let current = states.get_metric().iter().filter(|metric| metric.get_gauge().get_value() == 1.0);
        let label = |metric: &prometheus::proto::Metric| {
            metric.get_label().iter().find(|pair| pair.name() == "state").unwrap().value().to_owned()
        };
        current.map(label).collect()
    }
}

#[test]
fn a_halted_lane_asks_every_minute() {
    assert_eq!(Timing::default().probe_every, Duration::from_secs(60));
}

#[tokio::test]
async fn a_halted_lane_keeps_its_place_and_goes_on_when_the_target_is_mended() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=5).for_each(|commit| journal.push(change(commit, "orders")));
    let mut config = config(&target);
    config.timing.probe_every = Duration::from_millis(30);
    let lane = run(config, &journal);
    lane.until(|status| status.acked == Some(at(5, 1))).await;
    assert_eq!(lane.shown(), ["running"]);

    target.with(|state| state.always = Some(Trick::Signed(422, AnswerStatus::Rejected)));
    journal.push(part(6, 1, &["orders", "lines"], 10, true));
    let status = lane.until(|status| matches!(status.state, LaneState::Halted { .. })).await;
    let text = status.state.to_string();
    assert!(text.contains("cannot take a change") && text.contains("tries again every minute"), "{text}");
    assert!(!status.state.is_ready());
    assert_eq!(lane.shown(), ["halted"]);

    // It asks again and again, always the same, while the source goes on; neither cursor nor journal move.
    (7..=40).for_each(|commit| journal.push(change(commit, "orders")));
    let before = target.with(|state| state.seen.len());
    target.until(|state| state.seen.len() >= before + 4).await;
    assert_eq!(lane.shown(), ["halted"]);
    assert_eq!(
        (lane.handle.status().borrow().acked, *journal.released.borrow()),
        (Some(at(5, 1)), Some(at(5, 1)))
    );

    // What fails in passing meanwhile does not look like progress.
    target.with(|state| state.always = Some(Trick::Status(503, "")));
    let before = target.with(|state| state.seen.len());
    target.until(|state| state.seen.len() >= before + 2).await;
    assert_eq!(lane.shown(), ["halted"]);

    target.with(|state| state.always = None);
    let mended = |status: &LaneStatus| status.acked == Some(at(40, 1)) && status.state == LaneState::Running;
    lane.until(mended).await;
    assert_eq!(lane.shown(), ["running"]);
    target.with(|state| {
        let all: Vec<_> =
            (1..=40).flat_map(|commit| if commit == 6 { vec![6, 6] } else { vec![commit] }).collect();
        assert_eq!(commits(&state.applied), all);
        let asked: Vec<_> =
            state.seen.iter().filter(|seen| seen.changes.first() == Some(&at(6, 1))).collect();
        assert!(
            asked.len() >= 7 && asked.iter().all(|seen| seen.id == asked[0].id && seen.body == asked[0].body)
        );
    });
    assert_eq!(*journal.released.borrow(), Some(at(40, 1)));
    lane.stop().await;
}
