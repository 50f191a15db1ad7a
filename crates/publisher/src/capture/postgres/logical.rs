//! Logical messages (`pg_logical_emit_message`), as rows of a table that there is not.
//!
//! A transactional one stands in its transaction, in order with the rows, and takes an ordinal like them. One that is not
//! comes when the server decodes its record, also out of work that is rolled back later. Its position is that of the
//! last byte but one of its record: no commit record begins there, so it lies between the commits before and after it, and
//! below the position that its resume point stands for. Once that is confirmed, the server does not send it again:
//! decoding skips messages whose records begin before the slot's position (`logicalmsg_decode` in the server's decode.c).

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rowbridge_schema::event::outbox::logical_message;
use rowbridge_schema::{Position, TableName, TablePatterns};

use super::pgoutput::LogicalMessage;
use super::transaction::Transaction;
use super::{Captured, OUTSIDE, PostgresCapture, PostgresError, resume};
use crate::journal::TableRef;

/// What we emit ourselves, to flush the server's log.
const OWN_PREFIX: &str = "rowbridge";

/// How far before its end a record's position is; records are longer.
const BEFORE_END: u64 = 2;

fn table() -> &'static Arc<TableRef> {
    static TABLE: OnceLock<Arc<TableRef>> = OnceLock::new();
    TABLE.get_or_init(|| TableRef::new(&logical_message()).into())
}

fn is_wanted(prefixes: Option<&TablePatterns>, prefix: &str) -> bool {
    prefix != OWN_PREFIX && prefixes.is_some_and(|prefixes| prefixes.matches(&TableName::bare(prefix)))
}

/// As PostgreSQL writes `bytea`.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

impl PostgresCapture {
    /// Takes a message; `Some` if it completes something.
    pub(super) fn logical_message(
        &mut self,
        message: &LogicalMessage<'_>,
    ) -> Result<Option<Captured>, PostgresError> {
        let wanted = is_wanted(self.options.source.messages.as_ref(), message.prefix);
        if message.transactional {
            let transaction = self.transaction.as_mut().ok_or(OUTSIDE)?;
            match wanted {
                true => transaction.message(table(), message.prefix, &hex(message.content)),
                false => transaction.pass(),
            }
            let full = transaction.is_full();
            return Ok(full.then(|| Captured::Block(Box::new(transaction.part()))));
        }
        if self.transaction.is_some() {
            return Err(PostgresError::Stream {
                what: "a message that is not of the transaction within one",
            });
        }
        if !wanted {
            return Ok(Some(self.advanced(message.lsn)));
        }
        let at = message.lsn.saturating_sub(BEFORE_END);
        self.wal_end = self.wal_end.max(message.lsn);
        let base = Position::new(self.epoch_of(at), at, 0);
        // It is of no transaction, and no commit says when it was.
        let mut alone = Transaction::begin(0, base, now());
        alone.message(table(), message.prefix, &hex(message.content));
        Ok(alone.commit(resume(message.lsn)).map(|block| Captured::Block(Box::new(block))))
    }
}

/// Microseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_chosen_by_prefix_and_never_our_own() {
        let prefixes = TablePatterns::new(&["order.*", "audit", "!order.draft", "row*"]).unwrap();
        let wanted = |prefix| is_wanted(Some(&prefixes), prefix);
        assert!(wanted("order.paid") && wanted("audit") && wanted("rows"));
        assert!(!wanted("order.draft") && !wanted("audits") && !wanted("rowbridge") && !wanted(""));
        assert!(!is_wanted(None, "order.paid"));
    }

    #[test]
    fn content_is_written_as_the_server_writes_bytes() {
        assert_eq!(hex(&[0, 0xff, 0x10]), "\\x00ff10");
        assert_eq!(hex(&[]), "\\x");
    }
}
