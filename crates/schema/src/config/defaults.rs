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
