//! What holds when a key is left out. `config/rowbridge.default.toml` shows the same values; a test compares them.

use std::time::Duration;

/// `shutdown_grace`: container runtimes kill ten seconds after SIGTERM; two are left for closing.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

/// `source.max_transaction`: a target holds this much uncommitted without trouble, and few applications write more in
/// one transaction.
pub const MAX_TRANSACTION: u64 = 256 << 20;

/// `source.max_log_rows`: some hundred megabytes in the application's own SQLite file, hours of a busy one.
pub const MAX_LOG_ROWS: u64 = 1_000_000;

/// `journal.max_bytes`: a small disk of a small machine still has room beside it.
pub const JOURNAL_MAX_BYTES: u64 = 8 << 30;

/// `journal.retain`: a target restored from last night's backup catches up by itself.
pub const JOURNAL_RETAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// `endpoint.timeout`: as long as a subscriber grants a body; a set-based apply of one delivery takes a fraction.
pub const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(30);

/// `receive.max_body`: room for the largest rows people have, small enough that a few at once do no harm.
pub const MAX_BODY: u64 = 64 << 20;

/// `receive.tolerance`: what Standard Webhooks recommends against replays.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// `receive.max_body` is at least this: the handshake and one small row.
pub const MIN_BODY: u64 = 1 << 10;

/// `outbox.id`, and below the other columns of Debezium's outbox, so that a table made for it needs no configuration.
pub const OUTBOX_ID: &str = "id";

/// `outbox.type`
pub const OUTBOX_TYPE: &str = "type";

/// `outbox.key`
pub const OUTBOX_KEY: &str = "aggregateid";

/// `outbox.payload`
pub const OUTBOX_PAYLOAD: &str = "payload";

/// `endpoint.batch.max_bytes`: what most receivers and their proxies take without being configured.
pub const BATCH_MAX_BYTES: usize = 1 << 20;

/// `endpoint.batch.max_events`, when a batch is asked for without saying how many.
pub const BATCH_MAX_EVENTS: usize = 1_000;

/// `endpoint.retry.first`: a restarting receiver is back within this.
pub const RETRY_FIRST: Duration = Duration::from_millis(200);

/// `endpoint.retry.max`: a receiver that is back after hours is served again within this.
pub const RETRY_MAX: Duration = Duration::from_secs(300);

/// `endpoint.max_age`: a long weekend.
pub const MAX_AGE: Duration = Duration::from_secs(72 * 3600);

/// `alert.after`: what recovers within is no news to a person.
pub const ALERT_AFTER: Duration = Duration::from_secs(60);

/// `endpoint.concurrency`, where the order allows more than one request at a time: enough to hide a receiver's round
/// trip, few enough not to be taken for an attack.
pub const CONCURRENCY: usize = 8;
