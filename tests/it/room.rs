//! Disks without room.

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};

use crate::chaos::Disk;
use crate::load::{TABLES, fill, schema};

/// A source that is opened again has to be noted in the state file, and cannot be while the disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_no_publisher() {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        let pair = Pair::prepare(PairOptions::crossing(kind, kind).with_database_proxies()).await;
        // Without the rights of root there is no small file system.
        let Some(disk) = Disk::mount(pair.state_dir()) else { return };
        pair.source_execute(schema(kind)).await;
        pair.source_execute(&fill(kind, 100)).await;
        pair.start().await;
        pair.wait_equal(&TABLES).await;
        disk.fill();
        let mark = pair.publisher().log().mark();
        pair.source_proxy().cut();
        let told = |line: &str| line.contains("state.db") && line.contains("Make room on the disk");
        let patience = rowbridge_tests::wait::DEADLINE;
        pair.publisher().wait_for_line_since(mark, patience, told).await;
        pair.source_execute("INSERT INTO orders VALUES ('full', 1, 1, 'x')").await;
        disk.free();
        pair.wait_equal(&TABLES).await;
        pair.wait_publisher().await;
    }
}
