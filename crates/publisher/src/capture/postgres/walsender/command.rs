//! Commands before streaming: simple queries, slots, and the start of the stream.

use bytes::{Buf, Bytes};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use super::super::pgoutput::Tag;
use super::connect::zero_byte;
use super::error::{ProtocolError, WalsenderError};
use super::{CLOSE_WAIT, ReplicationStream, Walsender};

/// The most that all rows of one answer may take. Commands here answer with a few rows; tables are read elsewhere.
pub const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Answer of `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemInfo {
    /// Identity of the cluster, the same on its standbys.
    pub system_id: String,
    /// Current timeline; goes up with each promotion.
    pub timeline: u32,
    /// How far the WAL is flushed.
    pub xlog_pos: u64,
    /// Connected database.
    pub dbname: String,
}

/// How a slot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotOptions {
    /// Goes away with this connection.
    pub temporary: bool,
    /// Export a snapshot of the slot's starting point. It can be imported only while this connection stays idle.
    pub export_snapshot: bool,
    /// Keep a copy on standbys, for use after a promotion. Server 17 and later.
    pub failover: bool,
}

/// Answer of `CREATE_REPLICATION_SLOT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub slot_name: String,
    /// Transactions that commit after this position are streamed, whole.
    pub consistent_point: u64,
    /// Name for `SET TRANSACTION SNAPSHOT`, if one was asked for.
    pub snapshot_name: Option<String>,
}

impl Walsender {
    /// Process id of the backend, as `pg_stat_replication` shows it.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// A parameter that the server reports, such as `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }

    /// Asks who the server is.
    pub async fn identify_system(&mut self) -> Result<SystemInfo, WalsenderError> {
        let rows = self.simple_query("IDENTIFY_SYSTEM").await?;
        let [Some(system_id), Some(timeline), Some(xlog_pos), Some(dbname)] =
            one_row(rows, "system identity")?
        else {
            return Err(ProtocolError::Malformed { what: "system identity" }.into());
        };
        let malformed = ProtocolError::Malformed { what: "system identity" };
        let (Ok(timeline), Some(xlog_pos)) = (timeline.parse(), parse_lsn(&xlog_pos)) else {
            return Err(malformed.into());
        };
        Ok(SystemInfo { system_id, timeline, xlog_pos, dbname })
    }

    /// Makes a logical slot for pgoutput.
    ///
    /// Waits for every transaction that is open now, without a limit of its own; on an idle standby also for the
    /// primary to log its running transactions. Make the publication first: changes are decoded with the catalog of
    /// their time. Errors: XX000 or 42601 an option is too new for the server, 42710 the slot exists, 53400 no free slot, 55000 `wal_level` is not `logical`.
    pub async fn create_slot(
        &mut self,
        name: &str,
        options: SlotOptions,
    ) -> Result<CreatedSlot, WalsenderError> {
        let rows = self.simple_query(&create_slot_command(name, options)).await?;
        let malformed = ProtocolError::Malformed { what: "answer to CREATE_REPLICATION_SLOT" };
        let [Some(slot_name), Some(point), snapshot_name, _] =
            one_row(rows, "answer to CREATE_REPLICATION_SLOT")?
        else {
            return Err(malformed.into());
        };
        let Some(consistent_point) = parse_lsn(&point) else { return Err(malformed.into()) };
        Ok(CreatedSlot { slot_name, consistent_point, snapshot_name })
    }

    /// Removes a slot; with `wait`, after whoever uses it has let go. Errors: 42704 no such slot, 55006 in use.
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<(), WalsenderError> {
        let wait = if wait { " WAIT" } else { "" };
        self.simple_query(&format!("DROP_REPLICATION_SLOT {}{wait}", quote_identifier(name))).await.map(drop)
    }

    /// Ends the session in order; otherwise the server logs a broken connection. A dropped one is as good.
    pub async fn close(mut self) {
        frontend::terminate(self.wire.output());
        // Whoever is gone already need not be told.
        let _ = timeout(CLOSE_WAIT, self.wire.flush()).await;
        let _ = timeout(CLOSE_WAIT, self.wire.shutdown()).await;
    }

    /// Runs SQL or a replication command and gives the rows of all its statements, values as text.
    ///
    /// The session's `search_path` is empty: qualify every name outside `pg_catalog`.
    /// Errors: a server error leaves the connection usable. More than [`ANSWER_MAX_BYTES`] of rows is an error.
    /// Cancel safety: not cancel safe; after a dropped call every later one fails with
    /// [`ProtocolError::OutOfStep`].
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, WalsenderError> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut left_bytes = ANSWER_MAX_BYTES;
        let mut failure = None;
        loop {
            let raw = self.wire.message().await?;
            // An error is not the end of the answer: the server says when it is ready for the next command.
            let raw = match self.parameters.absorb(raw) {
                Ok(None) => continue,
                Ok(Some(raw)) => raw,
                Err(error @ WalsenderError::Server(_)) => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match raw.tag {
                b'D' => {
                    left_bytes = left_bytes
                        .checked_sub(raw.body.len())
                        .ok_or(ProtocolError::AnswerTooLong { limit_bytes: ANSWER_MAX_BYTES })?;
                    rows.push(data_row(raw.body)?);
                }
                b'Z' => {
                    self.awaiting = false;
                    return failure.map_or(Ok(rows), Err);
                }
                // Row description, command complete, empty query.
                b'T' | b'C' | b'I' => {}
                tag => return Err(unexpected(tag, "waiting for an answer")),
            }
        }
    }

    /// Starts to stream from a slot.
    ///
    /// `from` is the end position of the last transaction that is safe, or 0 for the slot's own. A position before
    /// the slot's `confirmed_flush_lsn` is moved forward by the server without a word: compare first. `options` are
    /// added to `proto_version` and `publication_names`, for example `("messages", "true")`.
    ///
    /// Errors: 55006 the slot is in use, also for some seconds by a predecessor that died; 42704 no such slot or
    /// publication, though a missing publication is often noticed only with the first change; 55000 the slot is lost
    /// or the server is no logical source.
    pub async fn start_replication(
        mut self,
        slot: &str,
        from: u64,
        publications: &[String],
        options: &[(&str, &str)],
    ) -> Result<ReplicationStream, WalsenderError> {
        self.send_query(&start_replication_command(slot, from, publications, options)).await?;
        loop {
            let raw = self.wire.message().await?;
            match self.parameters.absorb(raw)? {
                None => {}
                Some(raw) if raw.tag == b'W' => return Ok(ReplicationStream::new(self)),
                Some(raw) => return Err(unexpected(raw.tag, "starting replication")),
            }
        }
    }

    async fn send_query(&mut self, sql: &str) -> Result<(), WalsenderError> {
        if self.awaiting {
            return Err(ProtocolError::OutOfStep.into());
        }
        frontend::query(sql, self.wire.output()).map_err(|_| zero_byte("a name in a command"))?;
        self.awaiting = true;
        self.wire.flush().await
    }
}

pub(super) fn unexpected(tag: u8, during: &'static str) -> WalsenderError {
    ProtocolError::UnexpectedMessage { tag: Tag(tag), during }.into()
}

pub(super) fn data_row(mut body: Bytes) -> Result<Vec<Option<String>>, ProtocolError> {
    const MALFORMED: ProtocolError = ProtocolError::Malformed { what: "data row" };
    let count = body.try_get_u16().map_err(|_| MALFORMED)?;
    let mut row = Vec::with_capacity(usize::from(count).min(body.len() / 4));
    for _ in 0..count {
        let length = body.try_get_i32().map_err(|_| MALFORMED)?;
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) if length > body.len() => return Err(MALFORMED),
            Ok(length) => Some(String::from_utf8(body.split_to(length).to_vec()).map_err(|_| MALFORMED)?),
        });
    }
    if body.is_empty() { Ok(row) } else { Err(MALFORMED) }
}

fn one_row<const N: usize>(
    rows: Vec<Vec<Option<String>>>,
    what: &'static str,
) -> Result<[Option<String>; N], ProtocolError> {
    let malformed = ProtocolError::Malformed { what };
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some(row), None) => row.try_into().map_err(|_| malformed),
        _ => Err(malformed),
    }
}

/// `"name"` with quotes doubled.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'text'` as the grammar of replication commands reads it: quotes doubled, a backslash is only a backslash.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The form before server 15 without parentheses is understood by all; only `FAILOVER` needs the newer one.
fn create_slot_command(name: &str, options: SlotOptions) -> String {
    let name = quote_identifier(name);
    let temporary = if options.temporary { " TEMPORARY" } else { "" };
    let rest = match (options.failover, options.export_snapshot) {
        (false, false) => "NOEXPORT_SNAPSHOT",
        (false, true) => "EXPORT_SNAPSHOT",
        (true, false) => "(SNAPSHOT 'nothing', FAILOVER true)",
        (true, true) => "(SNAPSHOT 'export', FAILOVER true)",
    };
    format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL pgoutput {rest}")
}

/// Publication names are quoted twice: as identifiers in a list, and the list as a literal.
fn start_replication_command(
    slot: &str,
    from: u64,
    publications: &[String],
    options: &[(&str, &str)],
) -> String {
    let names: Vec<String> = publications.iter().map(|name| quote_identifier(name)).collect();
    let mut command = format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}",
        quote_identifier(slot),
        format_lsn(from),
        quote_literal(&names.join(","))
    );
    for (name, value) in options {
        command.push_str(", ");
        command.push_str(&quote_identifier(name));
        command.push(' ');
        command.push_str(&quote_literal(value));
    }
    command.push(')');
    command
}

/// An LSN as PostgreSQL writes it, `1A/7F00C2B8`.
#[must_use]
pub fn format_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// Reads an LSN; `None` if it is none.
#[must_use]
pub fn parse_lsn(text: &str) -> Option<u64> {
    let half = |digits: &str| {
        let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    let (high, low) = text.split_once('/')?;
    Some(half(high)? << 32 | half(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_for_every_layer() {
        assert_eq!(
            start_replication_command(
                "Slot\"1",
                0x1A_7F00_C2B8,
                &["plain".into(), "o'Brien \"x\", y".into()],
                &[("messages", "true"), ("origin", "o'none")]
            ),
            "START_REPLICATION SLOT \"Slot\"\"1\" LOGICAL 1A/7F00C2B8 (proto_version '1', \
             publication_names '\"plain\",\"o''Brien \"\"x\"\", y\"', \"messages\" 'true', \"origin\" 'o''none')"
        );
    }

    #[test]
    fn slot_commands() {
        let command = |temporary, export_snapshot, failover| {
            create_slot_command("s", SlotOptions { temporary, export_snapshot, failover })
        };
        assert_eq!(
            command(false, false, false),
            "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        );
        assert_eq!(
            command(true, true, false),
            "CREATE_REPLICATION_SLOT \"s\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"
        );
        assert_eq!(
            command(false, true, true),
            "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)"
        );
    }

    #[test]
    fn data_rows() {
        let body = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        assert_eq!(data_row(Bytes::from_static(body)), Ok(vec![Some("ab".into()), None]));
        for end in 0..body.len() {
            data_row(Bytes::from_static(&body[..end])).unwrap_err();
        }
        data_row(Bytes::from_static(b"\0\0x")).unwrap_err();
        data_row(Bytes::from_static(b"\xff\xff\x7f\xff\xff\xff")).unwrap_err();
    }

    proptest! {
        #[test]
        fn lsn_round_trips(lsn: u64) {
            prop_assert_eq!(parse_lsn(&format_lsn(lsn)), Some(lsn));
        }

        #[test]
        fn lsn_text_never_panics(text: String) {
            let _ = parse_lsn(&text);
        }
    }

    #[test]
    fn what_is_no_lsn() {
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "+1/2", "123456789/0", "g/0", "1/-2"] {
            assert_eq!(parse_lsn(text), None, "{text}");
        }
    }
}
