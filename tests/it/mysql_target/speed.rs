//! How fast deliveries are applied. Not part of the suite: `cargo nextest run -E 'test(upserts_per_second)' --run-ignored all`.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn upserts_per_second() {
    for version in [Version::Installed, Version::MySql9] {
        let Some(mut options) = ServerOptions::of(version) else { continue };
        options.fsync = true;
        let options = options.set("innodb_buffer_pool_size", "512M");
        for unique in ["", ", UNIQUE (a)"] {
            for size in [1_usize, 100, 1000, 5000] {
                let rows = if size == 1 { 2000 } else { 200_000 };
                let setup = format!(
                    "CREATE TABLE t (id BIGINT PRIMARY KEY, a INT, b VARCHAR(50), c DECIMAL(10,2), d DATETIME(6), e DOUBLE{unique})"
                );
                let mut bed = Bed::with(options.clone(), &setup, &[], true).await;
                let t = table(
                    "t",
                    &[
                        "id bigint(20)!",
                        "a int(11)",
                        "b varchar(50)",
                        "c decimal(10,2)",
                        "d datetime(6)",
                        "e double",
                    ],
                    &[0],
                );
                for kind in ["insert", "update"] {
                    let deliveries: Vec<Vec<u8>> = (0..rows / size)
                        .map(|n| {
                            let changes = (n * size..(n + 1) * size).map(|i| {
                                // Keys scattered over the table.
                                let id = (i * 7919 % rows).to_string();
                                let cells = [
                                    id.as_str(),
                                    &id,
                                    "some text of thirty characters",
                                    "1234.56",
                                    "2024-01-31 23:59:59.123456",
                                    "0.123456789",
                                ];
                                if kind == "insert" { insert(&t, &cells) } else { update(&t, &cells) }
                            });
                            let offset = n as u64 + if kind == "insert" { 1 } else { 1_000_000 };
                            let prev = Some(Position::ZERO).filter(|_| n > 0 || kind == "update");
                            delivery(prev).block(offset, changes.collect()).bytes()
                        })
                        .collect();
                    let started = Instant::now();
                    for bytes in &deliveries {
                        let parsed = parse_delivery(bytes).unwrap();
                        let applied = bed.lane.apply(&parsed).await.unwrap();
                        assert!(matches!(applied, Applied::Committed { .. }), "{applied:?}");
                    }
                    let rate = rows as f64 / started.elapsed().as_secs_f64();
                    println!("{version:?} {kind} by {size}{unique}: {rate:.0} rows/s");
                }
            }
        }
    }
}
