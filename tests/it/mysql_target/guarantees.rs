//! Each change takes effect once, whole transactions or nothing, and never what comes from elsewhere.

use std::time::Duration;

use rowbridge_schema::{Class, Classified as _, SourceId};

use super::*;

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))";

fn t() -> TableDef {
    table("t", &["id int(11)!", "v varchar(9)"], &[0])
}

const ALL: &str = "SELECT id, v FROM t ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn replays_change_nothing_and_gaps_are_refused() {
    Bed::each(TABLE, async |mut bed| {
        let t = t();
        let first = delivery(None).block(5, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"])]);
        let at = |offset, ordinal| Position::new(1, offset, ordinal);
        assert_eq!(bed.apply(&first).await, Applied::Committed { position: at(5, 2), changes: 2 });
        bed.run("UPDATE t SET v = 'mine' WHERE id = 1").await;
        assert_eq!(bed.apply(&first).await, Applied::Committed { position: at(5, 2), changes: 0 });
        // Overlaps what is there: only the rest is applied.
        let mut overlap = first.clone().block(6, vec![update(&t, &["2", "c"])]);
        overlap.head.prev = Some(Position::ZERO);
        assert_eq!(bed.apply(&overlap).await, Applied::Committed { position: at(6, 1), changes: 1 });
        assert_eq!(bed.rows(ALL).await, ["1|mine", "2|c"]);

        let gap = delivery(Some(at(9, 1))).block(10, vec![delete(&t, &[(0, "1")])]);
        assert_eq!(bed.apply(&gap).await, Applied::Gap { position: Some(at(6, 1)) });
        let mut foreign = delivery(Some(at(6, 1))).block(7, vec![delete(&t, &[(0, "1")])]);
        foreign.head.source = SourceId("b".into());
        let expected = SourceId("a".into());
        assert_eq!(bed.apply(&foreign).await, Applied::ForeignSource { expected, position: at(6, 1) });
        assert_eq!(bed.apply(&delivery(None)).await, Applied::Committed { position: at(6, 1), changes: 0 });
        assert_eq!(bed.rows(ALL).await.len(), 2);

        // Somebody else moved the lane meanwhile: what this session remembers is too old, and the target decides.
        let mut other = lane(&bed.target).await;
        let bytes = delivery(Some(at(6, 1))).block(7, vec![update(&t, &["1", "x"])]).bytes();
        other.apply(&parse_delivery(&bytes).unwrap()).await.unwrap();
        let late = delivery(Some(at(6, 1))).block(7, vec![update(&t, &["1", "late"])]);
        let late = late.block(8, vec![update(&t, &["2", "new"])]);
        assert_eq!(bed.apply(&late).await, Applied::Committed { position: at(8, 1), changes: 1 });
        assert_eq!(bed.rows(ALL).await, ["1|x", "2|new"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_seen_when_it_ends_and_survives_a_new_table() {
    Bed::each(TABLE, async |mut bed| {
        let t = t();
        let fresh = table("fresh", &["id int(11)!"], &[0]);
        bed.commit(1, vec![insert(&t, &["1", "a"])]).await;
        let at = |ordinal| Position::new(1, 5, ordinal);
        let part = delivery(bed.position().await).part(at(1), vec![insert(&t, &["2", "b"])]).open();
        let position = Some(Position::new(1, 1, 1));
        assert_eq!(bed.apply(&part).await, Applied::Staged { position, staged: at(1), changes: 1 });
        // Making a table would commit the first part, were it done in the same session.
        let part = delivery(Some(at(1))).part(at(2), vec![insert(&fresh, &["1"])]).open();
        assert_eq!(bed.apply(&part).await, Applied::Staged { position, staged: at(2), changes: 1 });
        assert_eq!(bed.rows(ALL).await, ["1|a"]);
        assert_eq!(bed.rows("SELECT * FROM fresh").await, [""; 0]);
        let end = delivery(Some(at(2))).part(at(3), vec![update(&t, &["1", "c"])]);
        assert_eq!(bed.apply(&end).await, Applied::Committed { position: at(3), changes: 1 });
        assert_eq!(bed.rows(ALL).await, ["1|c", "2|b"]);
        assert_eq!(bed.rows("SELECT * FROM fresh").await, ["1"]);

        // Given up in the middle, nothing of it stays; the publisher is told where to begin again.
        let part = delivery(Some(at(3))).part(Position::new(1, 6, 1), vec![delete(&t, &[(0, "1")])]).open();
        assert!(matches!(bed.apply(&part).await, Applied::Staged { .. }));
        assert_eq!(bed.position().await, Some(at(3)));
        let end = delivery(Some(Position::new(1, 6, 1))).part(Position::new(1, 6, 2), vec![]);
        assert_eq!(bed.apply(&end).await, Applied::Gap { position: Some(at(3)) });
        assert_eq!(bed.rows(ALL).await, ["1|c", "2|b"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_progress_row_is_not_waited_for_and_a_held_row_is_for_a_while() {
    let options = ServerOptions::default().set("innodb_lock_wait_timeout", "1");
    let mut bed = Bed::with(options, TABLE, &[], true).await;
    let t = t();
    bed.commit(1, vec![insert(&t, &["1", "a"])]).await;
    let next = delivery(bed.position().await).block(2, vec![update(&t, &["1", "b"])]);
    for (held, locked) in
        [("SELECT * FROM rowbridge_progress FOR UPDATE", true), ("UPDATE t SET v = 'x'", false)]
    {
        bed.run(&format!("BEGIN; {held}")).await;
        let error = bed.try_apply(&next).await.unwrap_err();
        assert_eq!(matches!(error, MysqlError::Locked), locked, "{error:?}");
        assert_eq!(error.class(), Class::RETRYABLE);
        bed.run("ROLLBACK").await;
        assert_eq!(bed.rows(ALL).await, ["1|a"]);
    }
    assert!(matches!(bed.apply(&next).await, Applied::Committed { changes: 1, .. }));
    assert_eq!(bed.rows(ALL).await, ["1|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_leaves_nothing_and_a_new_one_goes_on() {
    Bed::each(TABLE, async |mut bed| {
        let t = t();
        bed.commit(1, vec![insert(&t, &["1", "a"])]).await;
        let position = bed.position().await;
        let part = delivery(position).part(Position::new(1, 2, 1), vec![insert(&t, &["2", "b"])]).open();
        assert!(matches!(bed.apply(&part).await, Applied::Staged { .. }));
        bed.server.kill9();
        let error = bed.try_apply(&delivery(position).block(2, vec![update(&t, &["1", "b"])])).await;
        let error = error.unwrap_err();
        assert!(matches!(error, MysqlError::Lost { .. }), "{error:?}");
        assert_eq!(error.class(), Class::RETRYABLE);
        bed.server.start_again().await;
        bed.lane = lane(&bed.target).await;
        bed.conn = bed.server.connect("app").await;
        assert_eq!(bed.position().await, position);
        assert_eq!(bed.rows(ALL).await, ["1|a"]);
        bed.commit(2, vec![update(&t, &["1", "b"])]).await;
    })
    .await;
}

/// Another session takes rows in the opposite order until one of the two is a deadlock's victim.
#[tokio::test(flavor = "multi_thread")]
async fn deadlocks_are_tried_again() {
    let mut bed = Bed::new(TABLE).await;
    let t = t();
    bed.commit(1, (1..=9).map(|i| insert(&t, &[&i.to_string(), "a"])).collect()).await;
    let server_url = bed.server.url("app");
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let other = tokio::spawn(async move {
        let mut conn = Conn::from_url(server_url).await.unwrap();
        while !*stopped.borrow_and_update() {
            let _ = conn.query_drop("BEGIN").await;
            for id in (1..=9).rev() {
                // A victim begins again.
                if conn.query_drop(format!("UPDATE t SET v = 'o' WHERE id = {id}")).await.is_err() {
                    break;
                }
            }
            let _ = conn.query_drop("COMMIT").await;
        }
    });
    let deadlocks = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'";
    bed.run("SET GLOBAL innodb_monitor_enable = 'lock_deadlocks'").await;
    let mut offset = 1;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while bed.rows(deadlocks).await[0].parse::<u64>().unwrap() < 20 && tokio::time::Instant::now() < deadline
    {
        offset += 1;
        // Partial updates are a statement for each row.
        let changes = (1..=9).map(|i| partial(&t, &[], &[(0, &i.to_string()), (1, "mine")])).collect();
        let next = delivery(Some(bed.position().await.unwrap())).block(offset, changes);
        loop {
            match bed.try_apply(&next).await {
                Ok(applied) => break assert!(matches!(applied, Applied::Committed { .. }), "{applied:?}"),
                // More often than a lane tries by itself.
                Err(error) => assert_eq!(error.class(), Class::RETRYABLE, "{error:?}"),
            }
        }
    }
    assert!(bed.rows(deadlocks).await[0].parse::<u64>().unwrap() > 0);
    stop.send_replace(true);
    other.await.unwrap();
    bed.commit(offset + 1, (1..=9).map(|i| partial(&t, &[], &[(0, &i.to_string()), (1, "end")])).collect())
        .await;
    assert_eq!(bed.rows("SELECT DISTINCT v FROM t").await, ["end"]);
}
