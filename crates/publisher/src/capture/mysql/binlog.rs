//! The binlog connection: events in order, each with its place in the log, each with its checksum verified.
//!
//! mysql_async speaks the protocol; what it leaves open is closed here. It verifies no checksums, keeps 32-bit positions,
//! leaves a name with checksum bytes behind it, unpacks transaction payloads without a word when that fails, and waits for
//! ever on a link that died.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::binlog::events::{Event, TransactionPayloadEvent};
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};
use tokio::time::Instant;

use super::client::Connector;
use super::error::MysqlError;
use super::gtid::{Gtids, ResumePoint, file_number};

/// The server speaks at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A link that was silent for so long is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// Longest payload that is taken, unpacked.
const MAX_PAYLOAD: u64 = 1 << 30;

const ROTATE: u8 = 4;
const HEARTBEATS: [u8; 2] = [27, 41];
const PAYLOAD: u8 = 40;
const ARTIFICIAL: u16 = 0x20;
const HEADER_LEN: usize = 19;

/// An event with its place.
#[derive(Debug)]
pub(super) struct LogEvent {
    pub kind: u8,
    /// Seconds since 1970.
    pub timestamp: u32,
    pub flags: u16,
    /// Where it begins in its file; inside a payload, where that begins.
    pub start: u64,
    pub event: Event,
}

impl LogEvent {
    pub(super) fn data(&self) -> &[u8] {
        self.event.data()
    }
}

/// A running stream.
pub(super) struct Binlog {
    stream: BinlogStream,
    server_id: u32,
    pub file: String,
    pub number: u32,
    /// End of the last event.
    pub at: u64,
    /// Where we began. By GTID the server begins with the file's head and leaves out what we have.
    from: ResumePoint,
    /// Bytes of a payload's events still to come, and where the payload lies.
    inner: Option<(u64, u64)>,
    heard_at: Instant,
    waited_at: Instant,
}

impl Binlog {
    /// Begins behind a resume point: by GTID where there are any, else by file and position.
    pub(super) async fn open(
        connector: &Connector,
        from: &ResumePoint,
        server_id: u32,
    ) -> Result<Self, MysqlError> {
        let mut conn = connector.connect().await?.conn;
        let period = HEARTBEAT.as_nanos();
        let mut settings = vec![
            format!("SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}"),
            "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'".to_owned(),
        ];
        let by_gtid = !from.gtids.is_empty();
        if let Gtids::Mariadb(position) = &from.gtids {
            settings.push("SET @mariadb_slave_capability = 4".to_owned());
            if by_gtid {
                settings
                    .push(format!("SET @slave_connect_state = '{position}', @slave_gtid_strict_mode = 1"));
            }
        }
        for setting in settings {
            conn.query_drop(setting).await.map_err(MysqlError::query("set up the binlog connection"))?;
        }
        let mut request = BinlogStreamRequest::new(server_id).with_hostname(b"rowbridge");
        match &from.gtids {
            Gtids::Mysql(set) if by_gtid => {
                let sids: Result<Vec<Sid<'static>>, _> =
                    set.entries().iter().map(|entry| entry.parse()).collect();
                let sids = sids.map_err(|_| MysqlError::LogGone {
                    since: from.to_string(),
                    reason: "our set of transactions cannot be sent".to_owned(),
                })?;
                request = request.with_gtid().with_gtid_set(sids);
            }
            _ if by_gtid => {}
            _ => request = request.with_filename(from.file.as_bytes()).with_pos(from.at),
        }
        let stream = conn.get_binlog_stream(request).await;
        let stream = stream.map_err(|error| MysqlError::stream(error, &from.to_string(), server_id))?;
        let now = Instant::now();
        Ok(Self {
            stream,
            server_id,
            file: from.file.clone(),
            number: file_number(&from.file).unwrap_or(0),
            at: from.at,
            from: from.clone(),
            inner: None,
            heard_at: now,
            waited_at: now,
        })
    }

    /// File, its number and the offset up to which everything was read.
    pub(super) fn reached(&self) -> (&str, u32, u64) {
        let number = file_number(&self.from.file).unwrap_or(0);
        if (self.number, self.at) < (number, self.from.at) {
            return (&self.from.file, number, self.from.at);
        }
        (&self.file, self.number, self.at)
    }

    /// `FILE:POSITION` behind the last event.
    pub(super) fn place(&self) -> String {
        let (file, _, at) = self.reached();
        format!("{file}:{at}")
    }

    fn broken(&self, what: impl Into<String>) -> MysqlError {
        MysqlError::Event { at: self.place(), what: what.into() }
    }

    /// The next event if it is there already.
    pub(super) fn try_next(&mut self) -> Option<Result<Option<LogEvent>, MysqlError>> {
        let polled = AssertUnwindSafe(self.stream.next()).catch_unwind().now_or_never()?;
        Some(self.read(polled))
    }

    /// The next event that means something; waits at most until the link counts as dead. `None` for what is done with, such
    /// as a heartbeat. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<LogEvent>, MysqlError> {
        // While nobody waited, silence meant nothing.
        if self.waited_at.elapsed() > HEARTBEAT {
            self.heard_at = Instant::now();
        }
        self.waited_at = Instant::now();
        let until = self.heard_at + SILENCE_LIMIT;
        let next = AssertUnwindSafe(self.stream.next()).catch_unwind();
        match tokio::time::timeout_at(until, next).await {
            Ok(polled) => self.read(polled),
            Err(_) => Err(MysqlError::Lost { what: "the server has been silent for 15 s" }),
        }
    }

    fn read(
        &mut self,
        polled: Result<Option<mysql_async::Result<Event>>, Box<dyn std::any::Any + Send>>,
    ) -> Result<Option<LogEvent>, MysqlError> {
        self.heard_at = Instant::now();
        let event = match polled {
            Err(_) => return Err(self.broken("its length is not what it says")),
            Ok(None) => return Err(MysqlError::Lost { what: "the server closed it" }),
            Ok(Some(Err(error))) => return Err(MysqlError::stream(error, &self.place(), self.server_id)),
            Ok(Some(Ok(event))) => event,
        };
        let header = event.header();
        let (kind, flags) = (header.event_type_raw(), header.flags_raw());
        let (timestamp, size) = (header.timestamp(), u64::from(header.event_size()));
        if let Some((left, start)) = self.inner {
            if header.log_pos() != 0 && event.checksum_is_present() {
                return Err(self.broken("a transaction payload could not be unpacked"));
            }
            let left =
                left.checked_sub(size).ok_or_else(|| self.broken("a transaction payload is cut off"))?;
            self.inner = (left > 0).then_some((left, start));
            return Ok(Some(LogEvent { kind, timestamp, flags, start, event }));
        }
        self.verify(&event)?;
        if HEARTBEATS.contains(&kind) {
            return Ok(None);
        }
        if kind == ROTATE && (flags & ARTIFICIAL != 0 || timestamp == 0 || header.log_pos() == 0) {
            self.rotate(&event)?;
            return Ok(None);
        }
        if flags & ARTIFICIAL != 0 || header.log_pos() == 0 {
            let start = self.at;
            return Ok(Some(LogEvent { kind, timestamp, flags, start, event }));
        }
        // The header has the low 32 bits of the end. Between two events that we get, less than 4 GiB were left out: only one
        // transaction makes a file longer than the server's bound, and it comes whole.
        let mut end = self.at & !0xffff_ffff | u64::from(header.log_pos());
        if end < self.at {
            end += 1 << 32;
        }
        let start = end.checked_sub(size).ok_or_else(|| self.broken("it ends before it begins"))?;
        self.at = end;
        if kind == PAYLOAD {
            self.inner = Some((self.payload(&event)?, start));
        }
        Ok(Some(LogEvent { kind, timestamp, flags, start, event }))
    }

    fn payload(&self, event: &Event) -> Result<u64, MysqlError> {
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let payload = event.read_event::<TransactionPayloadEvent<'_>>().ok()?;
            let plain =
                matches!(payload.algorithm(), mysql_async::binlog::TransactionPayloadCompressionType::NONE);
            Some(if plain { payload.payload_raw().len() as u64 } else { payload.uncompressed_size() })
        }));
        match read {
            Ok(Some(size)) if (1..=MAX_PAYLOAD).contains(&size) => Ok(size),
            Ok(Some(_)) => Err(self.broken("a transaction payload is empty or longer than 1 GiB")),
            Ok(None) | Err(_) => Err(self.broken("a transaction payload could not be unpacked")),
        }
    }

    fn verify(&self, event: &Event) -> Result<(), MysqlError> {
        if !event.checksum_is_present() {
            return Ok(());
        }
        let expected = event.checksum().map(u32::from_le_bytes);
        if expected != Some(event.calc_checksum(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32)) {
            return Err(self.broken("its checksum does not match: it was damaged on disk or on the way"));
        }
        Ok(())
    }

    /// A made-up rotate event names the file that follows. The first one comes before the event that says whether there are
    /// checksums, so that four bytes of one may stand behind the name.
    fn rotate(&mut self, event: &Event) -> Result<(), MysqlError> {
        let data = event.data();
        let (position, name) =
            data.split_first_chunk::<8>().ok_or_else(|| self.broken("a rotate event is too short"))?;
        let name = match name.split_at_checked(name.len().saturating_sub(4)) {
            Some((short, sum)) if sum == crc(event, &data[..data.len() - 4]).to_le_bytes() => short,
            _ => name,
        };
        let name = std::str::from_utf8(name).map_err(|_| self.broken("a log file's name is not UTF-8"))?;
        self.number =
            file_number(name).ok_or_else(|| self.broken("a log file's name does not end in a number"))?;
        if self.file != name {
            tracing::debug!(file = name, "next binary log");
        }
        self.file = name.to_owned();
        self.at = u64::from_le_bytes(*position);
        Ok(())
    }

    pub(super) async fn close(self) {
        if let Err(error) = self.stream.close().await {
            tracing::debug!(%error, "the binlog connection did not end in order");
        }
    }
}

fn crc(event: &Event, data: &[u8]) -> u32 {
    let header = event.header();
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend(header.timestamp().to_le_bytes());
    bytes.push(header.event_type_raw());
    bytes.extend(header.server_id().to_le_bytes());
    bytes.extend(header.event_size().to_le_bytes());
    bytes.extend(header.log_pos().to_le_bytes());
    bytes.extend(header.flags_raw().to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    hasher.update(data);
    hasher.finalize()
}

trait Checksummed {
    fn checksum_is_present(&self) -> bool;
}

impl Checksummed for Event {
    fn checksum_is_present(&self) -> bool {
        let footer = self.footer();
        let crc32 =
            matches!(footer.get_checksum_alg(), Ok(Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32)));
        crc32 && footer.get_checksum_enabled()
    }
}
