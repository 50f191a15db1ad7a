//! Two durable databases, and one of the two systems between them.

use std::time::{Duration, Instant};

use rowbridge_tests::compare::Side;
use rowbridge_tests::mariadb::ServerOptions;
use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::postgres::ClusterOptions;
use rowbridge_tests::scenario::{Kind, Pair};

use super::arguments::Crossing;
use super::native;
use super::report::System;
use super::session::Session;
use super::tables::{self, Shape, TICK};

/// How long an end of a load may take to be visible, and two ends to be equal.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Between two looks at the copy where milliseconds do not count.
pub(super) const LOOK: Duration = Duration::from_millis(2);

/// Two databases and what replicates between them, or does not yet.
pub(super) struct Bridge {
    pub(super) pair: Pair,
    pub(super) system: System,
    /// All tables, as the oracle wants them.
    tables: Vec<String>,
    /// The number that [`TICK`] was set to.
    ticks: u64,
}

pub(super) fn durable_postgres() -> ClusterOptions {
    ClusterOptions::durable()
        .set("shared_buffers", "512MB")
        .set("max_wal_size", "4GB")
        .set("synchronous_commit", "on")
}

/// The replica's log is on, as it has to be wherever another may follow: what Rowbridge writes is logged there, too.
fn durable_mariadb() -> ServerOptions {
    ServerOptions::durable()
        .set("innodb_buffer_pool_size", "512M")
        .set("innodb_log_file_size", "1G")
        .set("log_slave_updates", "ON")
}

impl Bridge {
    /// Durable databases with nothing in them and nothing between them.
    pub(super) async fn empty(crossing: Crossing, system: System) -> Self {
        let mut options = crossing.options();
        (options.source, options.target) = (durable_postgres(), durable_postgres());
        (options.source_server, options.target_server) = (durable_mariadb(), durable_mariadb());
        Self { pair: Pair::prepare(options).await, system, tables: vec![], ticks: 0 }
    }

    /// A running replication of empty tables, and of [`TICK`].
    pub(super) async fn start(crossing: Crossing, system: System, shape: Shape, count: u64) -> Self {
        let mut bridge = Self::empty(crossing, system).await;
        bridge.create(shape, count).await;
        bridge.begin(false).await;
        bridge
    }

    /// Begins to replicate the tables that there are, and [`TICK`]. Whether they hold rows to be copied first.
    pub(super) async fn begin(&mut self, copied: bool) {
        let [create, first] = tables::create_tick(self.kind());
        self.execute_ddl(&create).await;
        self.tables.push(TICK.to_owned());
        match self.system {
            System::Native => {
                native::start(&self.pair, copied).await;
                native::wait_until_ready(&self.pair).await;
            }
            System::Rowbridge => self.pair.start().await,
        }
        self.pair.source_execute(&first).await;
        self.wait_for_tick().await;
        if self.system == System::Rowbridge {
            // Empty tables have a snapshot, too, and a thousand of them must not be what is measured.
            let port = self.pair.publisher_config.admin_port;
            wait_for(port, "rowbridge_snapshot_pending_tables", &[], PATIENCE, |count| count == 0.0).await;
        }
        if copied {
            self.verify().await;
        }
    }

    /// Makes tables of a shape, named by [`tables::name`].
    pub(super) async fn create(&mut self, shape: Shape, count: u64) {
        let names: Vec<String> = (1..=count).map(tables::name).collect();
        let statements: Vec<String> =
            names.iter().map(|name| shape.create(self.pair.source_kind(), name)).collect();
        self.execute_ddl(&statements.join(";")).await;
        self.tables.extend(names);
    }

    /// Names what a workload has made itself.
    pub(super) fn add_tables(&mut self, names: impl IntoIterator<Item = String>) {
        self.tables.extend(names);
    }

    /// At both ends where they speak alike, as native replication needs it. Else Rowbridge makes the copies.
    async fn execute_ddl(&self, sql: &str) {
        self.pair.source_execute(sql).await;
        if self.pair.source_kind() == self.pair.target_kind() {
            self.pair.target_execute(sql).await;
        }
    }

    /// A new session at the source.
    pub(super) async fn source(&self) -> Session {
        Session::open(&self.pair, Side::Source).await
    }

    /// A new session at the target.
    pub(super) async fn target(&self) -> Session {
        Session::open(&self.pair, Side::Target).await
    }

    /// The statement with which a load ends, so that [`Self::wait_for_tick`] sees its end.
    pub(super) fn next_tick(&mut self) -> String {
        self.ticks += 1;
        tables::tick(self.ticks)
    }

    /// Waits until the last load is visible at the target, all of it, and gives the moment.
    pub(super) async fn wait_for_tick(&self) -> Instant {
        let started = Instant::now();
        let mut target = self.target().await;
        let sql = self.tick_query();
        while target.number(&sql).await != Some(self.ticks as i64) {
            assert!(started.elapsed() < PATIENCE, "the copy has not got all of the load in {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        Instant::now()
    }

    /// Asks the target how far it is.
    pub(super) fn tick_query(&self) -> String {
        format!("SELECT n FROM {} WHERE id = 1", self.pair.copy_of(TICK))
    }

    /// Commits a load outside of what is measured, and waits until it is at the target.
    pub(super) async fn fill(&mut self, statements: impl IntoIterator<Item = String>) {
        let mut source = self.source().await;
        for statement in statements {
            source.commit(&[statement]).await;
        }
        source.commit(&[self.next_tick()]).await;
        self.wait_for_tick().await;
    }

    /// Both ends are equal, row for row.
    ///
    /// # Panics
    /// When they are not.
    pub(super) async fn verify(&self) {
        let tables: Vec<&str> = self.tables.iter().map(String::as_str).collect();
        self.pair.wait_equal_within(&tables, PATIENCE).await;
    }

    /// The kind of the source.
    pub(super) fn kind(&self) -> Kind {
        self.pair.source_kind()
    }
}
