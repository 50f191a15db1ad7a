//! Keys, unique values, missing keys, snapshots, and tables that do not fit.

use rowbridge_schema::config::{ColumnMap, DeletePolicy};
use rowbridge_schema::wire::{KeyRange, Sweep};

use super::*;

fn map(from: &str, columns: &[(&str, ColumnMap)], delete: DeletePolicy) -> MapConfig {
    let columns = columns.iter().map(|(name, map)| ((*name).to_owned(), map.clone())).collect();
    MapConfig { from: from.into(), to: from.into(), columns, delete }
}

fn truncate(def: &TableDef) -> Change {
    Change::new(def, Op::Truncate, &[], &[])
}

#[test]
fn keys_change_and_trade_places() {
    let mut bed = Bed::new("");
    let t = table("t", &["id INTEGER", "v TEXT"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"])]);
    let swap = vec![
        rekey(&t, &[(0, "1")], &["-1", "a"]),
        rekey(&t, &[(0, "2")], &["1", "b"]),
        rekey(&t, &[(0, "-1")], &["2", "a"]),
    ];
    bed.commit(2, swap);
    assert_eq!(bed.rows("SELECT * FROM t ORDER BY id"), ["1|b", "2|a"]);
    bed.commit(3, vec![rekey(&t, &[(0, "9")], &["3", "c"])]);
    assert_eq!(
        bed.rows("SELECT * FROM t ORDER BY id"),
        ["1|b", "2|a", "3|c"],
        "a full row makes up for a missing one"
    );
    // UPDATE OR REPLACE without recursive triggers: nobody tells that row 2 is gone.
    bed.commit(4, vec![rekey(&t, &[(0, "1")], &["2", "b"]), update(&t, &["3", "d"])]);
    assert_eq!(bed.rows("SELECT * FROM t ORDER BY id"), ["2|b", "3|d"]);
}

#[test]
fn unique_values_move_between_rows() {
    let mut bed = Bed::new("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, extra TEXT)");
    let t = table("t", &["id INTEGER", "u TEXT"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"]), insert(&t, &["3", "c"])]);
    bed.conn().execute_batch("UPDATE t SET extra = 'mine' || id").unwrap();
    let moved = vec![update(&t, &["1", "~"]), update(&t, &["2", "a"]), update(&t, &["1", "b"])];
    bed.commit(2, moved);
    // A direct trade collides on the way; so does a REPLACE whose delete is told too late.
    bed.commit(3, vec![update(&t, &["1", "a"]), update(&t, &["2", "b"])]);
    bed.commit(4, vec![insert(&t, &["4", "c"]), delete(&t, &[(0, "3")])]);
    let rows = bed.rows("SELECT id, u, extra FROM t ORDER BY id");
    assert_eq!(rows, ["1|a|mine1", "2|b|mine2", "4|c|~"], "columns of the target's own stay");
    // Partial updates and key changes go the long way as well.
    let partial = vec![
        Change::new(&t, Op::Update, &[(0, "1")], &[(0, "11"), (1, "b")]),
        Change::new(&t, Op::Update, &[(0, "2")], &[(1, "a")]),
    ];
    bed.commit(5, partial);
    assert_eq!(bed.rows("SELECT id, u, extra FROM t ORDER BY id"), ["2|a|mine2", "4|c|~", "11|b|mine1"]);
    assert!(
        bed.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'rowbridge%' AND type = 'table'").len() == 1
    );
}

#[test]
fn a_real_collision_names_the_row_and_writes_nothing() {
    let mut bed = Bed::new("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)");
    let t = table("t", &["id INTEGER", "u TEXT"], &[0]);
    let other = table("other", &["id INTEGER"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "a"]), insert(&other, &["1"])]);
    let poison = vec![
        insert(&other, &["2"]),
        insert(&t, &["2", "b"]),
        insert(&t, &["3", "a"]),
        insert(&t, &["4", "d"]),
    ];
    let failing = bed.refused(2, poison);
    assert_eq!(failing.position, Position::new(1, 2, 3));
    assert_eq!((failing.table.as_str(), failing.column.as_deref()), ("t", Some("u")));
    assert_eq!(failing.key, ["id=3"]);
    let strict = Bed::new("CREATE TABLE t(id INTEGER PRIMARY KEY, u INTEGER NOT NULL) STRICT");
    let mut bed = strict;
    let failing = bed.refused(1, vec![insert(&t, &["1", "word"])]);
    assert_eq!(failing.column.as_deref(), Some("u"), "{failing:?}");
    assert_eq!(bed.refused(1, vec![insert(&t, &["1", "~"])]).column.as_deref(), Some("u"));
}

#[test]
fn conflict_clauses_of_the_target_lose_no_rows() {
    for clause in ["REPLACE", "IGNORE", "ROLLBACK", "FAIL"] {
        let mut bed = Bed::new(&format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY ON CONFLICT {clause}, u TEXT NOT NULL ON CONFLICT {clause} \
             UNIQUE ON CONFLICT {clause})"
        ));
        let t = table("t", &["id INTEGER", "u TEXT"], &[0]);
        bed.commit(1, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"]), insert(&t, &["1", "c"])]);
        let failing = bed.refused(2, vec![insert(&t, &["5", "e"]), insert(&t, &["3", "b"])]);
        assert_eq!(failing.column.as_deref(), Some("u"), "{clause}");
        bed.refused(2, vec![insert(&t, &["5", "e"]), insert(&t, &["3", "~"])]);
        bed.commit(2, vec![update(&t, &["1", "b"]), update(&t, &["2", "c"])]);
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY id"), ["1|b", "2|c"], "{clause}");
    }
}

#[test]
fn a_keyless_change_takes_exactly_one_of_several_identical_rows() {
    let mut bed = Bed::new("");
    let t = table("log", &["rowid TEXT", "x", "n NUMERIC COLLATE NOCASE"], &[]);
    let row = ["a", "i:1", "~"];
    bed.commit(
        1,
        vec![
            insert(&t, &row),
            insert(&t, &row),
            insert(&t, &row),
            insert(&t, &["a", "r:1.0", "~"]),
            insert(&t, &["A", "i:1", "~"]),
        ],
    );
    let old = [(0, "a"), (1, "i:1"), (2, "~")];
    bed.commit(2, vec![delete(&t, &old)]);
    let mut changed = Change::new(&t, Op::Update, &old, &[(1, "i:2")]);
    bed.commit(3, vec![changed.clone()]);
    let rows = "SELECT \"rowid\", x, n FROM log ORDER BY _rowid_";
    assert_eq!(bed.rows(rows), ["a|2|~", "a|1|~", "a|r:1.0|~", "A|1|~"]);
    bed.commit(4, vec![changed.clone()]);
    assert!(bed.refused(5, vec![changed.clone()]).reason.contains("missing"));
    changed.maybe_missing = true;
    bed.commit(5, vec![changed, delete(&t, &old)]);
    assert_eq!(bed.rows(rows), ["a|2|~", "a|2|~", "a|r:1.0|~", "A|1|~"]);
}

#[test]
fn rows_whose_key_has_a_null_are_told_apart_by_all_columns() {
    let mut bed = Bed::new("");
    let t = table("t", &["a TEXT", "b TEXT", "v TEXT"], &[0, 1]);
    bed.commit(
        1,
        vec![insert(&t, &["x", "~", "1"]), insert(&t, &["x", "~", "2"]), insert(&t, &["x", "y", "3"])],
    );
    let full = |v| vec![(0, "x"), (1, "~"), (2, v)];
    bed.commit(
        2,
        vec![rekey(&t, &full("1"), &["x", "z", "1"]), delete(&t, &full("2")), update(&t, &["x", "y", "4"])],
    );
    assert_eq!(bed.rows("SELECT * FROM t ORDER BY v"), ["x|z|1", "x|y|4"]);
    let rowid = table("r", &["id INTEGER", "v TEXT"], &[0]);
    assert!(bed.refused(3, vec![insert(&rowid, &["~", "1"])]).reason.contains("NULL"));
}

#[test]
fn a_partial_update_needs_its_row() {
    let mut bed = Bed::new("");
    let t = table("t", &["id INTEGER", "a TEXT", "b TEXT"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "x", "y"])]);
    let partial = |id| Change::new(&t, Op::Update, &[], &[(0, id), (2, "z")]);
    let failing = bed.refused(2, vec![partial("1"), partial("2")]);
    assert_eq!((failing.position, failing.key), (Position::new(1, 2, 2), vec!["id=2".to_owned()]));
    let later = Change { maybe_missing: true, ..partial("2") };
    bed.commit(2, vec![partial("1"), later, delete(&t, &[(0, "7")])]);
    assert_eq!(bed.rows("SELECT * FROM t"), ["1|x|z"]);
}

#[test]
fn snapshots_prune_their_range_and_clear_their_table() {
    let mut bed = Bed::new("");
    let mut t = table("t", &["a INTEGER", "b INTEGER", "v TEXT"], &[0, 1]);
    t.options = vec!["WITHOUT ROWID".into()];
    let rows = ["1", "2", "3", "4", "5", "6"].map(|b| insert(&t, &["7", b, "old"]));
    bed.commit(1, rows.to_vec());
    let key = |b: &str| vec!["7".to_owned(), b.to_owned()];
    let prune = |after: Option<&str>, upto: Option<&str>, skipped: &[&str]| Chunk {
        table: t.id(),
        clear: false,
        sweep: Some(Sweep::Next),
        prune: Some(KeyRange { after: after.map(key), upto: upto.map(key) }),
        skipped: skipped.iter().map(|b| key(b)).collect(),
        done: false,
    };
    let rows = "SELECT b, v FROM t ORDER BY b";
    let chunk = delivery(Some(Position::new(1, 1, 6))).chunk(
        2,
        &t,
        prune(Some("1"), Some("5"), &["4"]),
        vec![read(&t, &["7", "3", "new"])],
    );
    assert_eq!(bed.apply(&chunk), Applied::Committed { position: Position::new(1, 2, 1), changes: 1 });
    assert_eq!(bed.rows(rows), ["1|old", "3|new", "4|old", "6|old"]);
    let rest = delivery(Some(Position::new(1, 2, 1))).chunk(3, &t, prune(Some("5"), None, &[]), vec![]);
    bed.apply(&rest);
    assert_eq!(bed.rows(rows), ["1|old", "3|new", "4|old"]);
    let clear = Chunk { clear: true, sweep: None, prune: None, ..prune(None, None, &[]) };
    bed.apply(&delivery(Some(Position::new(1, 3, 1))).chunk(
        4,
        &t,
        clear,
        vec![read(&t, &["7", "9", "new"])],
    ));
    assert_eq!(bed.rows(rows), ["9|new"]);
    bed.commit(5, vec![insert(&t, &["7", "10", "x"]), truncate(&t), insert(&t, &["7", "11", "x"])]);
    assert_eq!(bed.rows(rows), ["11|x"]);
    let short = Chunk { skipped: vec![vec!["7".into()]], ..prune(None, None, &[]) };
    let bad = delivery(Some(Position::new(1, 5, 3))).chunk(6, &t, short, vec![]);
    assert!(matches!(bed.apply(&bad), Applied::Rejected { .. }));
}

/// A re-snapshot of a text key, as the source sends it: what was read, skipped, and whether it ends.
fn ranges(def: &TableDef, sweep: Sweep, skipped: &[&str], done: bool) -> Chunk {
    let skipped = skipped.iter().map(|key| vec![(*key).to_owned()]).collect();
    Chunk { table: def.id(), clear: false, sweep: Some(sweep), prune: None, skipped, done }
}

fn apply_chunk(bed: &mut Bed, at: u64, def: &TableDef, chunk: Chunk, rows: Vec<Change>) {
    let prev = bed.position();
    let applied = bed.apply(&delivery(prev).chunk(at, def, chunk, rows));
    assert!(matches!(applied, Applied::Committed { .. }), "{applied:?}");
}

const COLLECTIONS: &str = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'rowbridge_keys_%'";

#[test]
fn a_re_snapshot_removes_what_it_has_not_met() {
    let mut bed = Bed::new("");
    let t = table("t", &["k! TEXT", "v TEXT"], &[0]);
    bed.commit(1, ["a", "B", "c", "d", "gone", "zz"].map(|k| insert(&t, &[k, "old"])).to_vec());
    let apply = |bed: &mut Bed, at, chunk, rows: &[&str]| {
        apply_chunk(bed, at, &t, chunk, rows.iter().map(|k| read(&t, &[k, "new"])).collect());
    };
    let rows = "SELECT k || '=' || v FROM t ORDER BY k";
    // One that is given up: what it has met counts for nothing.
    apply(&mut bed, 2, ranges(&t, Sweep::First, &[], false), &["gone"]);
    apply(&mut bed, 3, ranges(&t, Sweep::First, &["a"], false), &["c"]);
    assert_eq!(bed.rows(COLLECTIONS), ["1"]);
    // The stream goes on between the ranges; a lane that begins anew knows that keys are collected.
    let (stream, endpoint) = ("shop".parse().unwrap(), "copy".parse().unwrap());
    bed.lane = bed.runtime.block_on(bed.target.open(&stream, &endpoint)).unwrap();
    let moved = rekey(&t, &[(0, "d")], &["e", "moved"]);
    bed.commit(4, vec![insert(&t, &["early", "x"]), delete(&t, &[(0, "c")]), moved]);
    assert_eq!(bed.rows(rows), ["B=old", "a=old", "e=moved", "early=x", "gone=new", "zz=old"]);
    // A part of a large transaction that is rolled back notes nothing.
    let prev = bed.position();
    let open = delivery(prev).part(Position::new(1, 5, 1), vec![insert(&t, &["zz", "y"])]).open();
    assert!(matches!(bed.apply(&open), Applied::Staged { .. }));
    assert_eq!(bed.position(), Some(Position::new(1, 4, 3)));
    apply(&mut bed, 6, ranges(&t, Sweep::Again, &[], false), &["y"]);
    apply(&mut bed, 7, ranges(&t, Sweep::Next, &[], true), &["B"]);
    assert_eq!(bed.rows(rows), ["B=new", "a=old", "e=moved", "early=x", "y=new"]);
    assert_eq!(bed.rows(COLLECTIONS), ["0"]);
    // Without a beginning nothing is removed.
    apply(&mut bed, 8, ranges(&t, Sweep::Next, &[], true), &["z"]);
    assert_eq!(bed.rows("SELECT count(*) FROM t"), ["6"]);
}

#[test]
fn a_stale_row_gives_way_to_what_comes_now() {
    let mut bed = Bed::new(
        "CREATE TABLE t(k INTEGER PRIMARY KEY, u INTEGER UNIQUE, v TEXT COLLATE NOCASE, UNIQUE(v, u))",
    );
    let t = table("t", &["k! INTEGER", "u INTEGER", "v TEXT"], &[0]);
    bed.commit(1, ["1", "2", "3", "4", "5"].map(|k| insert(&t, &[k, k, "old"])).to_vec());
    let rows = "SELECT k || '=' || u FROM t ORDER BY k";
    assert!(bed.refused(2, vec![insert(&t, &["6", "4", "new"])]).reason.contains("holds the value"));
    let range = |after: Option<&str>, upto: Option<&str>| {
        Some(KeyRange { after: after.map(|k| vec![k.into()]), upto: upto.map(|k| vec![k.into()]) })
    };
    let first = Chunk { prune: range(None, Some("2")), ..ranges(&t, Sweep::First, &[], false) };
    // At the source, 1 has the value that 3 had.
    apply_chunk(&mut bed, 2, &t, first, vec![read(&t, &["1", "3", "new"]), read(&t, &["2", "2", "new"])]);
    assert_eq!(bed.rows(rows), ["1=3", "2=2", "4=4", "5=5"]);
    bed.commit(3, vec![insert(&t, &["6", "4", "new"])]);
    assert_eq!(bed.rows(rows), ["1=3", "2=2", "5=5", "6=4"]);
    // What has come stays.
    for value in ["3", "4"] {
        assert!(bed.refused(4, vec![insert(&t, &["7", value, "newer"])]).reason.contains("holds the value"));
    }
    assert_eq!(bed.rows(rows), ["1=3", "2=2", "5=5", "6=4"]);
    let last = Chunk { prune: range(Some("2"), None), ..ranges(&t, Sweep::Next, &["6"], true) };
    apply_chunk(&mut bed, 4, &t, last, vec![read(&t, &["3", "1", "new"]), read(&t, &["4", "5", "new"])]);
    assert_eq!(bed.rows(rows), ["1=3", "2=2", "3=1", "4=5", "6=4"]);
}

/// Where an index is for some rows only, a soft delete can take a row out of it.
#[test]
fn a_stale_row_gives_way_in_a_partial_index() {
    for (delete, stale, left) in [
        (DeletePolicy::Hard, "v <> 'none'", ["1=1 ~", "2=2 ~", "6=4 ~"].as_slice()),
        (
            DeletePolicy::Soft("gone".into()),
            "gone IS NULL",
            &["1=1 ~", "2=2 ~", "4=4 2023-11-14T22:13:20.000Z", "6=4 ~"],
        ),
    ] {
        let setup = format!(
            "CREATE TABLE t(k INTEGER PRIMARY KEY, u INTEGER, v TEXT, gone TEXT);
             CREATE UNIQUE INDEX i ON t(u) WHERE {stale}"
        );
        let mut bed = Bed::with(&setup, &[map("t", &[], delete)], true);
        let t = table("t", &["k! INTEGER", "u INTEGER", "v TEXT"], &[0]);
        bed.commit(1, ["1", "2", "4"].map(|k| insert(&t, &[k, k, "old"])).to_vec());
        let rows = "SELECT k || '=' || u || ' ' || coalesce(gone, '~') FROM t ORDER BY k";
        let upto = Some(KeyRange { after: None, upto: Some(vec!["2".into()]) });
        let first = Chunk { prune: upto, ..ranges(&t, Sweep::First, &[], false) };
        apply_chunk(&mut bed, 2, &t, first, ["1", "2"].map(|k| read(&t, &[k, k, "new"])).to_vec());
        bed.commit(3, vec![insert(&t, &["6", "4", "new"])]);
        assert_eq!(bed.rows(rows), left);
        let reason = bed.refused(4, vec![insert(&t, &["7", "2", "new"])]).reason;
        assert!(reason.contains("UNIQUE"), "{reason}");
        // The source still has it, with another value.
        let after = Some(KeyRange { after: Some(vec!["2".into()]), upto: None });
        let last = Chunk { prune: after, ..ranges(&t, Sweep::Next, &["6"], true) };
        apply_chunk(&mut bed, 4, &t, last, vec![read(&t, &["4", "40", "new"])]);
        assert_eq!(bed.rows(rows), ["1=1 ~", "2=2 ~", "4=40 ~", "6=4 ~"]);
    }
}

#[test]
fn a_re_snapshot_compares_keys_as_the_target_does() {
    let setup = "CREATE TABLE t(k TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, v);
                 CREATE TABLE n(k TEXT NOT NULL PRIMARY KEY)";
    let mut bed = Bed::new(setup);
    let t = table("t", &["k! TEXT", "v "], &[0]);
    bed.commit(1, vec![insert(&t, &["Ab", "00"]), insert(&t, &["x", "01"])]);
    let chunk = ranges(&t, Sweep::First, &["aB"], true);
    apply_chunk(&mut bed, 2, &t, chunk, vec![]);
    assert_eq!(bed.rows("SELECT k FROM t"), ["Ab"]);
    // Numbers at the source, texts here: '10' lies before '9', so that a range says nothing.
    let n = table("n", &["k INTEGER"], &[0]);
    bed.commit(3, ["1", "9", "10", "11"].map(|k| insert(&n, &[k])).to_vec());
    let range = |after: Option<&str>, upto: Option<&str>| {
        Some(KeyRange { after: after.map(|k| vec![k.into()]), upto: upto.map(|k| vec![k.into()]) })
    };
    let first = Chunk { prune: range(None, Some("9")), ..ranges(&n, Sweep::First, &[], false) };
    apply_chunk(&mut bed, 4, &n, first, vec![read(&n, &["1"]), read(&n, &["9"])]);
    let last = Chunk { prune: range(Some("9"), None), ..ranges(&n, Sweep::Next, &[], true) };
    apply_chunk(&mut bed, 5, &n, last, vec![read(&n, &["10"])]);
    assert_eq!(bed.rows("SELECT k FROM n ORDER BY k"), ["1", "10", "9"]);
}

#[test]
fn made_tables_have_the_sources_shape_and_generated_columns_compute_here() {
    let mut bed = Bed::new("");
    let mut t = table("we\"ird ta'ble", &["i\"d! INTEGER", "t\nt VARCHAR(20)", "g TEXT", "select"], &[0]);
    t.columns[2].generated = Some("upper(\"t\nt\") || ')'".into());
    t.options = vec!["WITHOUT ROWID".into()];
    let row = Change::new(&t, Op::Insert, &[], &[(0, "1"), (1, "ab"), (3, "00")]);
    bed.commit(1, vec![row]);
    bed.commit(2, vec![Change::new(&t, Op::Update, &[(0, "1")], &[(0, "2"), (1, "cd"), (3, "01")])]);
    assert_eq!(bed.rows("SELECT * FROM \"we\"\"ird ta'ble\""), ["2|cd|CD)|b:[01]"]);
    let xinfo = bed.rows("SELECT type, \"notnull\", pk, hidden FROM pragma_table_xinfo('we\"ird ta''ble')");
    assert_eq!(xinfo, ["INTEGER|1|1|0", "VARCHAR(20)|0|0|0", "TEXT|0|0|2", "|0|0|0"]);

    let names: Vec<String> = (0..400).map(|i| format!("c{i} INTEGER")).collect();
    let columns: Vec<&str> = names.iter().map(String::as_str).collect();
    let values: Vec<String> = (0..400).map(|i| i.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let old: Vec<(u16, &str)> = values.iter().enumerate().map(|(i, v)| (i as u16, *v)).collect();
    for (name, key) in [("wide", vec![3, 399]), ("widest", vec![])] {
        let wide = table(name, &columns, &key);
        bed.commit(10 + key.len() as u64, vec![insert(&wide, &values), insert(&wide, &["7"; 400])]);
        bed.commit(20 + key.len() as u64, vec![delete(&wide, &old)]);
        assert_eq!(bed.rows(&format!("SELECT c0, c399 FROM {name}")), ["7|7"]);
        // Positions only go forward, and the loop's second pass starts at a lower one.
        bed.conn().execute_batch("DELETE FROM rowbridge_progress").unwrap();
    }
}

#[test]
fn tables_that_do_not_fit_are_named_with_the_way_out() {
    let setup = "CREATE TABLE rowbridge_progress(stream TEXT, endpoint TEXT, source TEXT, epoch INTEGER, position TEXT, \
                 updated_at TEXT, PRIMARY KEY(stream, endpoint)); CREATE TABLE t(id INTEGER); CREATE TABLE n(id INTEGER PRIMARY KEY); \
                 CREATE VIEW w AS SELECT 1 AS id; CREATE TABLE g(id INTEGER PRIMARY KEY, v TEXT AS ('x'))";
    let mut bed = Bed::with(setup, &[], false);
    let columns = ["id INTEGER", "v TEXT"];
    let mut reason = |name: &str, columns: &[&str]| {
        let def = table(name, columns, &[0]);
        let cells = vec!["1"; columns.len()];
        bed.refused(1, vec![insert(&def, &cells)])
    };
    assert!(reason("t", &["id INTEGER"]).reason.contains("CREATE UNIQUE INDEX \"t_key\" ON \"t\" (\"id\")"));
    let missing = reason("n", &columns);
    assert_eq!(missing.column.as_deref(), Some("v"));
    assert!(missing.reason.contains("ALTER TABLE \"n\" ADD COLUMN \"v\" TEXT"), "{}", missing.reason);
    assert!(reason("absent", &columns).reason.contains("CREATE TABLE main.\"absent\""));
    assert!(reason("w", &["id INTEGER"]).reason.contains("view"));
    assert!(reason("g", &columns).reason.contains("generated"));
    assert!(reason("rowbridge_progress", &columns).reason.contains("taken"));
    // What a person repairs is seen without a restart.
    bed.conn().execute_batch("ALTER TABLE n ADD COLUMN v TEXT").unwrap();
    let n = table("n", &columns, &[0]);
    bed.commit(1, vec![insert(&n, &["1", "x"])]);
    bed.conn().execute_batch("ALTER TABLE n RENAME COLUMN v TO w").unwrap();
    let renamed = bed.refused(2, vec![insert(&n, &["2", "x"])]);
    assert_eq!(renamed.column.as_deref(), Some("v"));
    let hint = "(or, if the source renamed \"w\", `ALTER TABLE \"n\" RENAME COLUMN \"w\" TO \"v\"`)";
    assert!(renamed.reason.ends_with(hint), "{}", renamed.reason);
}

#[test]
fn maps_rename_drop_and_soften() {
    let columns = [("v", ColumnMap::Rename("w".into())), ("secret", ColumnMap::Drop)];
    let maps = [map("t", &columns, DeletePolicy::Soft("gone".into())), map("k", &[], DeletePolicy::Ignore)];
    let mut bed = Bed::with("", &maps, true);
    let t = table("t", &["id INTEGER", "v TEXT", "secret TEXT"], &[0]);
    let k = table("k", &["id INTEGER"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "a", "s"]), insert(&t, &["2", "b", "s"]), insert(&k, &["1"])]);
    bed.commit(2, vec![delete(&t, &[(0, "1")]), delete(&k, &[(0, "1")])]);
    let rows = "SELECT * FROM t ORDER BY id";
    assert_eq!(bed.rows(rows), ["1|a|2023-11-14T22:13:20.000Z", "2|b|~"]);
    bed.commit(3, vec![insert(&t, &["1", "c", "s"]), truncate(&k)]);
    assert_eq!(bed.rows(rows), ["1|c|~", "2|b|~"]);
    bed.commit(4, vec![truncate(&t)]);
    assert_eq!(bed.rows("SELECT count(*) FROM t WHERE gone IS NOT NULL"), ["2"]);
    assert_eq!(bed.rows("SELECT * FROM k"), ["1"]);
}

#[test]
fn check_reports_and_teardown_forgets() {
    let mut bed = Bed::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY); CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END",
    );
    bed.commit(1, vec![insert(&table("t", &["id INTEGER"], &[0]), &["1"])]);
    let named = table("named", &["k! TEXT"], &[0]);
    let chunk = ranges(&named, Sweep::First, &[], false);
    apply_chunk(&mut bed, 2, &named, chunk, vec![]);
    bed.conn().execute_batch("DROP TABLE named").unwrap();
    let report = bed.runtime.block_on(bed.target.check()).unwrap();
    let unfit: Vec<_> = report.iter().filter(|item| !item.fine).map(|item| item.subject).collect();
    assert_eq!(unfit, ["journal mode", "trigger"], "{report:?}");
    assert!(report.iter().all(|item| item.fine == item.fix.is_none()));
    assert_eq!(bed.rows("PRAGMA user_version"), ["0"]);
    let teardown = |stream: &str, run| {
        let streams = [stream.parse().unwrap()];
        bed.runtime.block_on(bed.target.teardown(&streams, run)).unwrap()
    };
    assert!(teardown("another", true).is_empty());
    let listed = teardown("shop", false);
    assert_eq!((listed.len(), listed[2].as_str()), (3, "table rowbridge_progress"));
    assert!(listed[1].starts_with("table rowbridge_keys_"), "{listed:?}");
    assert_eq!(teardown("shop", true), listed);
    assert!(teardown("shop", true).is_empty());
    assert_eq!(bed.rows("SELECT name FROM sqlite_schema WHERE type = 'table'"), ["t"]);
    let mapping = Arc::new(Mapping::new(&[], Dialect::Sqlite).unwrap());
    let nowhere = SqliteTarget::new("/nonexistent/folder/t.db", mapping, true);
    assert!(!bed.runtime.block_on(nowhere.check()).unwrap()[0].fine);
}
