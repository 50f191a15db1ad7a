//! Random histories of a real source file against the target: whatever the source accepted arrives.

use proptest::prelude::*;

use super::*;

/// What a source does; keys and unique values from a small set, so that they meet.
#[derive(Debug, Clone)]
enum Action {
    Insert(i64, Option<u8>),
    Replace(i64, Option<u8>),
    Update(i64, Option<u8>),
    Partial(i64, Option<u8>),
    Rekey(i64, i64),
    Delete(i64),
    Truncate,
    /// Everything once more, from an earlier position on.
    Replay,
    Commit,
}

fn action() -> impl Strategy<Value = Action> {
    let unique = || proptest::option::of(0..4u8);
    prop_oneof![
        4 => (0..6i64, unique()).prop_map(|(k, u)| Action::Insert(k, u)),
        2 => (0..6i64, unique()).prop_map(|(k, u)| Action::Replace(k, u)),
        3 => (0..6i64, unique()).prop_map(|(k, u)| Action::Update(k, u)),
        2 => (0..6i64, unique()).prop_map(|(k, u)| Action::Partial(k, u)),
        3 => (0..6i64, 0..6i64).prop_map(|(a, b)| Action::Rekey(a, b)),
        3 => (0..6i64).prop_map(Action::Delete),
        1 => Just(Action::Truncate),
        1 => Just(Action::Replay),
        2 => Just(Action::Commit),
    ]
}

/// The source in memory: key to unique value.
type Model = std::collections::BTreeMap<i64, Option<u8>>;

fn unique(value: Option<u8>) -> String {
    value.map_or_else(|| "~".to_owned(), |u| format!("u{u}"))
}

/// The changes that a source would log, or none if it would refuse the action.
fn changes(model: &mut Model, t: &TableDef, action: &Action) -> Vec<Change> {
    let holder =
        |model: &Model, u: Option<u8>| model.iter().find(|(_, v)| u.is_some() && **v == u).map(|(k, _)| *k);
    let row = |k: i64, u| [k.to_string(), unique(u)];
    let full = |make: fn(&TableDef, &[&str]) -> Change, k: i64, u| {
        let [k, u] = row(k, u);
        make(t, &[&k, &u])
    };
    let gone = |k: i64| delete(t, &[(0, &k.to_string())]);
    match *action {
        Action::Insert(k, u) if !model.contains_key(&k) && holder(model, u).is_none() => {
            model.insert(k, u);
            vec![full(insert, k, u)]
        }
        Action::Replace(k, u) => {
            // The deletes are logged after the insert, as AFTER triggers of some sources do.
            let other = holder(model, u).filter(|other| *other != k);
            model.extend([(k, u)]);
            let mut log = vec![full(insert, k, u)];
            if let Some(other) = other {
                model.remove(&other);
                log.push(gone(other));
            }
            log
        }
        Action::Update(k, u) | Action::Partial(k, u)
            if model.contains_key(&k) && holder(model, u).is_none_or(|other| other == k) =>
        {
            model.insert(k, u);
            let partial = Change::new(t, Op::Update, &[(0, &k.to_string())], &[(1, &unique(u))]);
            vec![if matches!(action, Action::Partial(..)) { partial } else { full(update, k, u) }]
        }
        // REPLACE of the key: whoever was there is gone without a word.
        Action::Rekey(a, b) if model.contains_key(&a) && a != b => {
            let u = model.remove(&a).flatten();
            model.insert(b, u);
            let [k, u] = row(b, u);
            vec![rekey(t, &[(0, &a.to_string())], &[&k, &u])]
        }
        Action::Delete(k) if model.remove(&k).is_some() => vec![gone(k)],
        Action::Truncate => {
            model.clear();
            vec![Change::new(t, Op::Truncate, &[], &[])]
        }
        _ => vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_target_equals_the_source(actions in proptest::collection::vec(action(), 1..40), parts in any::<bool>()) {
        let mut bed = Bed::new("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)");
        let t = table("t", &["id INTEGER", "u TEXT"], &[0]);
        let (mut model, mut pending, mut offset) = (Model::new(), Vec::new(), 0);
        let mut last: Option<Builder> = None;
        for action in actions.iter().chain([&Action::Commit]) {
            match action {
                Action::Commit if !pending.is_empty() => {
                    offset += 1;
                    let log = std::mem::take(&mut pending);
                    let prev = bed.position();
                    let whole = delivery(prev).block(offset, log.clone());
                    if parts && log.len() > 1 {
                        // Cut where no collision spans both parts: the first change alone may be refused, then whole.
                        let (head, tail) = log.split_at(1);
                        let first = Position::new(1, offset, 1);
                        let opened = bed.apply(&delivery(prev).part(first, head.to_vec()).open());
                        if matches!(opened, Applied::Staged { .. }) {
                            let rest = delivery(Some(first)).part(first.with_ordinal(2), tail.to_vec());
                            let done = bed.apply(&rest);
                            let committed = matches!(done, Applied::Committed { .. });
                            prop_assert!(committed, "{:?}", done);
                        } else {
                            bed.apply(&whole);
                        }
                    } else {
                        bed.apply(&whole);
                    }
                    prop_assert_eq!(bed.position().map(|p| p.offset.at), Some(offset));
                    let expected: Vec<_> = model.iter().map(|(k, u)| format!("{k}|{}", unique(*u))).collect();
                    prop_assert_eq!(bed.rows("SELECT id, u FROM t ORDER BY id"), expected);
                    last = Some(whole);
                }
                Action::Replay => {
                    if let Some(last) = &last {
                        let before = bed.rows("SELECT id, u FROM t ORDER BY id");
                        let replayed = matches!(bed.apply(last), Applied::Committed { changes: 0, .. });
                        prop_assert!(replayed);
                        prop_assert_eq!(bed.rows("SELECT id, u FROM t ORDER BY id"), before);
                    }
                }
                action => pending.extend(changes(&mut model, &t, action)),
            }
        }
    }
}
