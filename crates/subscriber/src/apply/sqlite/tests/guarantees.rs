//! Exactly once, in order, all or nothing.

use std::time::Duration;

use rowbridge_schema::{Classified as _, Position, SourceId};

use super::*;

fn orders() -> TableDef {
    table("orders", &["id! INTEGER", "note TEXT"], &[0])
}

#[test]
fn a_replay_changes_nothing_and_a_partial_overlap_drops_change_by_change() {
    let mut bed = Bed::new("");
    let t = orders();
    bed.commit(5, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"])]);
    bed.conn().execute_batch("UPDATE orders SET note = 'target'").unwrap();
    let stored = Position::new(1, 5, 2);

    let replay = delivery(None).block(5, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"])]);
    assert_eq!(bed.apply(&replay), Applied::Committed { position: stored, changes: 0 });
    let overlap = delivery(Some(Position::new(1, 5, 1))).part(
        Position::new(1, 5, 1),
        vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"]), insert(&t, &["3", "c"])],
    );
    let position = Position::new(1, 5, 3);
    assert_eq!(bed.apply(&overlap), Applied::Committed { position, changes: 1 });
    assert_eq!(bed.rows("SELECT * FROM orders"), ["1|target", "2|target", "3|c"]);
    assert_eq!(bed.rows("PRAGMA journal_mode"), ["wal"]);
}

#[test]
fn gaps_foreign_sources_and_old_epochs_write_nothing() {
    let mut bed = Bed::new("");
    let t = orders();
    let late = delivery(Some(at(3))).block(4, vec![insert(&t, &["1", "a"])]);
    assert_eq!(bed.apply(&late), Applied::Gap { position: None });
    bed.commit(5, vec![insert(&t, &["1", "a"])]);
    let position = Position::new(1, 5, 1);
    let changes = || vec![insert(&t, &["9", "z"])];
    assert_eq!(
        bed.apply(&delivery(Some(at(7))).block(8, changes())),
        Applied::Gap { position: Some(position) }
    );
    assert_eq!(
        bed.apply(&delivery(Some(position)).source("b").block(8, changes())),
        Applied::ForeignSource { expected: SourceId("a".into()), position }
    );
    let old = delivery(None).part(Position { epoch: 0, ..at(9).with_ordinal(1) }, changes());
    assert_eq!(bed.apply(&old), Applied::OldEpoch { position });
    assert_eq!(bed.rows("SELECT * FROM orders"), ["1|a"]);
    assert_eq!(bed.apply(&delivery(None)), Applied::Committed { position, changes: 0 }, "handshake");

    let takeover = delivery(Some(position)).source("b").part(Position::new(2, 1, 1), changes());
    assert_eq!(bed.apply(&takeover), Applied::Committed { position: Position::new(2, 1, 1), changes: 1 });
    assert_eq!(bed.rows("SELECT source, epoch FROM rowbridge_progress"), ["b|2"]);
}

#[test]
fn an_open_transaction_is_seen_by_nobody_until_its_last_part() {
    let mut bed = Bed::new("");
    let t = orders();
    bed.commit(4, vec![insert(&t, &["0", "x"])]);
    let committed = Position::new(1, 4, 1);
    let position = |n| Position::new(1, 5, n);
    let parts = [
        delivery(Some(committed)).part(position(1), vec![insert(&t, &["1", "a"])]).open(),
        delivery(Some(position(1))).part(position(2), vec![insert(&t, &["2", "b"])]).open(),
        delivery(Some(position(2))).part(position(3), vec![insert(&t, &["3", "c"])]),
    ];
    let staged = |n| Applied::Staged { position: Some(committed), staged: position(n), changes: 1 };
    assert_eq!(bed.apply(&parts[0]), staged(1));
    assert_eq!(bed.apply(&parts[1]), staged(2));
    assert_eq!(bed.rows("SELECT id FROM orders"), ["0"]);

    assert_eq!(bed.position(), Some(committed), "asking rolls back");
    assert_eq!(bed.apply(&parts[1]), Applied::Gap { position: Some(committed) });
    assert_eq!(bed.apply(&parts[0]), staged(1));
    assert_eq!(bed.apply(&parts[0]), staged(1), "the first part again starts over");
    assert_eq!(bed.apply(&parts[2]), Applied::Gap { position: Some(committed) });
    for part in &parts[..2] {
        bed.apply(part);
    }
    assert_eq!(bed.apply(&parts[2]), Applied::Committed { position: position(3), changes: 1 });
    assert_eq!(bed.rows("SELECT id FROM orders"), ["0", "1", "2", "3"]);
}

#[test]
fn an_empty_part_ends_an_open_transaction() {
    let mut bed = Bed::new("");
    bed.apply(&delivery(None).block(5, vec![insert(&orders(), &["1", "a"])]).open());
    let position = Position::new(1, 5, 1);
    let mut end = delivery(Some(position));
    end.head.to = Some(position);
    assert_eq!(bed.apply(&end), Applied::Committed { position, changes: 0 });
    assert_eq!(bed.rows("SELECT id FROM orders"), ["1"]);
}

#[test]
fn a_refused_part_rolls_back_the_whole_open_transaction() {
    let mut bed = Bed::new("CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT CHECK (note <> 'bad'))");
    let t = orders();
    bed.apply(&delivery(None).part(Position::new(1, 5, 1), vec![insert(&t, &["1", "a"])]).open());
    let bad =
        delivery(Some(Position::new(1, 5, 1))).part(Position::new(1, 5, 2), vec![insert(&t, &["2", "bad"])]);
    let Applied::Rejected { position: None, failing } = bed.apply(&bad) else { panic!() };
    assert_eq!(failing[0].position, Position::new(1, 5, 2));
    assert_eq!(failing[0].key, ["id=2"]);
    assert_eq!(bed.position(), None);
    assert!(bed.rows("SELECT id FROM orders").is_empty());
}

#[test]
fn a_busy_file_is_retryable_and_lanes_keep_their_own_progress() {
    let mut bed = Bed::new("");
    let t = orders();
    bed.commit(5, vec![insert(&t, &["1", "a"])]);
    let endpoint = "other".parse().unwrap();
    let mut second = bed.runtime.block_on(bed.target.open(&"shop".parse().unwrap(), &endpoint)).unwrap();
    let open = delivery(Some(Position::new(1, 5, 1))).block(6, vec![insert(&t, &["2", "b"])]).open();
    bed.apply(&open);
    let bytes = delivery(None).block(9, vec![insert(&t, &["3", "c"])]).bytes();
    let parsed = parse_delivery(&bytes).unwrap();
    let error = bed.runtime.block_on(second.apply(&parsed)).unwrap_err();
    assert!(matches!(error, SqliteError::Busy { .. }), "{error:?}");
    assert!(error.class().is_retryable());
    bed.runtime.block_on(bed.lane.rollback()).unwrap();
    let applied = bed.runtime.block_on(second.apply(&parsed)).unwrap();
    assert_eq!(applied, Applied::Committed { position: Position::new(1, 9, 1), changes: 1 });
    assert_eq!(bed.position(), Some(Position::new(1, 5, 1)));
    assert_eq!(bed.rows("SELECT id FROM orders"), ["1", "3"]);
}

#[test]
fn a_file_that_was_replaced_is_noticed_before_anything_is_acknowledged() {
    let mut bed = Bed::new("");
    std::fs::remove_file(&bed.path).unwrap();
    let error = bed.try_apply(&delivery(None).block(5, vec![insert(&orders(), &["1", "a"])])).unwrap_err();
    assert!(matches!(error, SqliteError::Moved { .. }), "{error:?}");
    assert!(error.class().is_retryable());
}

#[test]
fn a_full_disk_is_retryable_and_leaves_nothing() {
    let mut bed = Bed::new("");
    let t = orders();
    bed.commit(5, vec![insert(&t, &["1", "a"])]);
    let pages: i64 = bed.lane.session.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    bed.lane.session.conn.pragma_update(None, "max_page_count", pages).unwrap();
    let long = "x".repeat(100_000);
    let big = delivery(Some(Position::new(1, 5, 1))).block(6, vec![insert(&t, &["2", &long])]);
    let error = bed.try_apply(&big).unwrap_err();
    assert!(matches!(error, SqliteError::Full { .. }), "{error:?}");
    assert!(error.class().is_retryable());
    assert_eq!(bed.position(), Some(Position::new(1, 5, 1)));
    bed.lane.session.conn.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    assert!(matches!(bed.apply(&big), Applied::Committed { changes: 1, .. }));
}

#[test]
fn what_is_no_database_or_is_missing_is_permanent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mapping = || Arc::new(Mapping::new(&[], Dialect::Sqlite).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let open = |create| {
        let target = SqliteTarget::new(&path, mapping(), create).with_busy_timeout(Duration::ZERO);
        runtime.block_on(target.open(&"s".parse().unwrap(), &"e".parse().unwrap())).unwrap_err()
    };
    let missing = open(false);
    assert!(matches!(missing, SqliteError::Missing { .. }) && !missing.class().is_retryable());
    std::fs::write(&path, "certainly not a database, but long enough to look like one. ".repeat(20)).unwrap();
    let corrupt = open(true);
    assert!(matches!(corrupt, SqliteError::Corrupt { .. }), "{corrupt:?}");
    assert!(corrupt.hint().is_some());
    std::fs::remove_file(&path).unwrap();
    drop(Connection::open(&path).unwrap().execute_batch("CREATE TABLE x(a)"));
    assert!(matches!(open(false), SqliteError::ProgressTable { .. }));
}
