//! The stream itself: frames in, status updates out.
//!
//! Source: PostgreSQL manual, "Streaming Replication Protocol". Every frame is a CopyData message:
//! `w` XLogData = WAL start u64, WAL end u64, server clock i64, data; `k` keepalive = WAL end u64, server clock i64,
//! reply wanted u8; `r` status update = written u64, flushed u64, applied u64, client clock i64, reply wanted u8.
//! Clocks are microseconds since 2000-01-01 UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use super::super::pgoutput::POSTGRES_EPOCH_UNIX_US;
use super::Walsender;
use super::command::unexpected;
use super::error::{CloseReason, ProtocolError, WalsenderError};
use super::transport::Transport;
use super::wire::{Parameters, Raw, Wire};

/// A good interval between status updates. The server ends a connection that was silent for `wal_sender_timeout`,
/// 60 s by default; a tenth of it survives some delay on the way and a smaller setting.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// A connection from which nothing came for so long, although a reply was asked for, is dead. One
/// `wal_sender_timeout`, after which the server has given up as well.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long [`ReplicationStream::close`] waits for the server's goodbye.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What the server sends while streaming.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// One message of the output plugin, see [`super::super::pgoutput::parse`].
    XLogData {
        /// Position of the change. Positions of rows go back and forth between transactions.
        wal_start: u64,
        /// The same again for logical replication; says nothing about how far the server is.
        wal_end: u64,
        /// Server clock, µs since the Unix epoch.
        server_time_us: i64,
        /// The message. It shares the read buffer: copy it to keep it for long.
        data: Bytes,
    },
    /// The server's sign of life.
    Keepalive {
        /// How far the server has decoded. When every transaction received so far is safe, this may be confirmed.
        wal_end: u64,
        /// Server clock, µs since the Unix epoch.
        server_time_us: i64,
        /// Answer at once, or the server may give up.
        reply_requested: bool,
    },
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::XLogData { wal_start, data, .. } => f
                .debug_struct("XLogData")
                .field("wal_start", wal_start)
                .field("data_bytes", &data.len())
                .finish_non_exhaustive(),
            Self::Keepalive { wal_end, reply_requested, .. } => f
                .debug_struct("Keepalive")
                .field("wal_end", wal_end)
                .field("reply_requested", reply_requested)
                .finish_non_exhaustive(),
        }
    }
}

/// A running logical replication stream. The caller owns all timing: see [`STATUS_INTERVAL`] and [`SILENCE_LIMIT`].
///
/// Reading must go on while a transaction is worked on, because the server waits for status updates also in the midst
/// of a large one. Dropping the stream cuts the connection; the slot stays in use until the server notices, so prefer
/// [`ReplicationStream::close`].
pub struct ReplicationStream {
    wire: Wire<Transport>,
    parameters: Parameters,
    backend_pid: i32,
}

impl ReplicationStream {
    pub(super) fn new(walsender: Walsender) -> Self {
        let Walsender { wire, parameters, backend_pid, .. } = walsender;
        Self { wire, parameters, backend_pid }
    }

    /// Process id of the backend, as `pg_stat_replication` shows it.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// The next frame.
    ///
    /// Cancel safe: a dropped call loses nothing. One system call reads many frames; those that wait already come
    /// without one, see [`ReplicationStream::try_next`].
    /// Errors: all are final. [`WalsenderError::Closed`] with [`CloseReason::EndOfStream`] is the server's shutdown.
    pub async fn next(&mut self) -> Result<Frame, WalsenderError> {
        loop {
            let raw = self.wire.message().await?;
            if let Some(frame) = frame(&mut self.parameters, raw)? {
                return Ok(frame);
            }
        }
    }

    /// The next frame that has been read already, or `None`; never waits and makes no system call.
    /// Errors: as [`ReplicationStream::next`].
    pub fn try_next(&mut self) -> Result<Option<Frame>, WalsenderError> {
        while let Some(raw) = self.wire.buffered()? {
            if let Some(frame) = frame(&mut self.parameters, raw)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Tells the server how far this side is.
    ///
    /// `flushed_and_applied` is the end position of a commit up to which everything is safe here, or a keepalive's
    /// `wal_end` when nothing is open; the server forgets what lies before it. `written` is how far this side has
    /// received. With `reply_requested` the server answers with a keepalive at once.
    /// Cancel safe: what a dropped call has not sent leaves with the next one.
    pub async fn standby_status(
        &mut self,
        flushed_and_applied: u64,
        written: u64,
        reply_requested: bool,
    ) -> Result<(), WalsenderError> {
        status(self.wire.output(), flushed_and_applied, written, reply_requested);
        self.wire.flush().await
    }

    /// Ends the stream in order, so that the slot is free at once and the last status update has arrived.
    /// What the server still sends is thrown away. Waits [`CLOSE_WAIT`] at most; a server in the midst of a large
    /// transaction may not be done by then, and the connection is cut.
    /// Errors: the goodbye did not come; the slot may be in use for a while.
    pub async fn close(mut self) -> Result<(), WalsenderError> {
        let goodbye = async {
            frontend::copy_done(self.wire.output());
            self.wire.flush().await?;
            loop {
                let raw = self.wire.message().await?;
                if self.parameters.absorb(raw)?.is_some_and(|raw| raw.tag == b'Z') {
                    return Ok(());
                }
            }
        };
        let result = match timeout(CLOSE_WAIT, goodbye).await {
            Ok(result) => result,
            Err(_) => Err(WalsenderError::Io {
                during: "waiting for the end of the stream",
                source: std::io::ErrorKind::TimedOut.into(),
            }),
        };
        if result.is_ok() {
            frontend::terminate(self.wire.output());
            // The goodbye was said; whether this last word arrives changes nothing.
            let _ = timeout(CLOSE_WAIT, self.wire.flush()).await;
            let _ = timeout(CLOSE_WAIT, self.wire.shutdown()).await;
        }
        result
    }
}

pub(super) fn frame(parameters: &mut Parameters, raw: Raw) -> Result<Option<Frame>, WalsenderError> {
    if raw.tag == b'd' {
        return Ok(Some(copy_data(raw.body)?));
    }
    match parameters.absorb(raw)? {
        None => Ok(None),
        // CopyDone or, at a shutdown, only "COPY 0".
        Some(raw) if matches!(raw.tag, b'c' | b'C') => Err(WalsenderError::Closed(CloseReason::EndOfStream)),
        Some(raw) => Err(unexpected(raw.tag, "streaming")),
    }
}

fn copy_data(mut body: Bytes) -> Result<Frame, ProtocolError> {
    match body.first() {
        Some(b'w') => {
            const MALFORMED: ProtocolError = ProtocolError::Malformed { what: "XLogData frame" };
            body.advance(1);
            Ok(Frame::XLogData {
                wal_start: body.try_get_u64().map_err(|_| MALFORMED)?,
                wal_end: body.try_get_u64().map_err(|_| MALFORMED)?,
                server_time_us: unix_us(body.try_get_i64().map_err(|_| MALFORMED)?),
                data: body,
            })
        }
        Some(b'k') => {
            const MALFORMED: ProtocolError = ProtocolError::Malformed { what: "keepalive frame" };
            body.advance(1);
            let frame = Frame::Keepalive {
                wal_end: body.try_get_u64().map_err(|_| MALFORMED)?,
                server_time_us: unix_us(body.try_get_i64().map_err(|_| MALFORMED)?),
                reply_requested: body.try_get_u8().map_err(|_| MALFORMED)? != 0,
            };
            if body.is_empty() { Ok(frame) } else { Err(MALFORMED) }
        }
        _ => Err(ProtocolError::Malformed { what: "replication frame" }),
    }
}

/// Appends a status update as a CopyData message.
fn status(output: &mut BytesMut, flushed_and_applied: u64, written: u64, reply_requested: bool) {
    const LENGTH: u32 = 4 + 1 + 8 * 4 + 1;
    output.put_u8(b'd');
    output.put_u32(LENGTH);
    output.put_u8(b'r');
    output.put_u64(written);
    output.put_u64(flushed_and_applied);
    output.put_u64(flushed_and_applied);
    output.put_i64(postgres_us_now());
    output.put_u8(reply_requested.into());
}

fn unix_us(postgres_us: i64) -> i64 {
    postgres_us.saturating_add(POSTGRES_EPOCH_UNIX_US)
}

/// Only shown by the server as `reply_time`, so a clock before 1970 may as well be 1970.
fn postgres_us_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_UNIX_US
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn frames() {
        let body =
            data(&[b"w", &5_u64.to_be_bytes(), &9_u64.to_be_bytes(), &1_i64.to_be_bytes(), b"payload"]);
        assert!(
            copy_data(body)
                == Ok(Frame::XLogData {
                    wal_start: 5,
                    wal_end: 9,
                    server_time_us: POSTGRES_EPOCH_UNIX_US + 1,
                    data: Bytes::from_static(b"payload")
                })
        );
        let body = data(&[b"k", &7_u64.to_be_bytes(), &i64::MAX.to_be_bytes(), &[1]]);
        assert!(
            copy_data(body.clone())
                == Ok(Frame::Keepalive { wal_end: 7, server_time_us: i64::MAX, reply_requested: true })
        );
        for end in 0..body.len() {
            copy_data(body.slice(..end)).unwrap_err();
        }
        copy_data(data(&[&body, b"\0"])).unwrap_err();
    }

    #[test]
    fn status_update_bytes() {
        let mut output = BytesMut::new();
        status(&mut output, 0x0102, 0x0304, true);
        assert_eq!(output.len(), 39);
        assert_eq!(&output[..6], b"d\0\0\0\x26r");
        assert_eq!(&output[6..14], 0x0304_u64.to_be_bytes());
        assert_eq!(&output[14..22], 0x0102_u64.to_be_bytes());
        assert_eq!(&output[22..30], 0x0102_u64.to_be_bytes());
        assert_eq!(output[38], 1);
        let clock = i64::from_be_bytes(output[30..38].try_into().unwrap());
        assert!(clock > 800_000_000_000_000, "after 2025: {clock}");
    }

    #[test]
    fn other_messages_in_the_stream() {
        let mut parameters = Parameters::default();
        let mut read =
            |tag, body: &'static [u8]| frame(&mut parameters, Raw { tag, body: Bytes::from_static(body) });
        assert!(matches!(read(b'S', b"TimeZone\0UTC\0"), Ok(None)));
        assert!(matches!(read(b'N', b"SNOTICE\0\0"), Ok(None)));
        assert!(matches!(read(b'C', b"COPY 0\0"), Err(WalsenderError::Closed(CloseReason::EndOfStream))));
        assert_eq!(read(b'E', b"SFATAL\0C57P01\0Mstop\0\0").unwrap_err().code(), Some("57P01"));
        assert!(matches!(read(b'D', b""), Err(WalsenderError::Protocol(_))));
        assert!(matches!(read(b'd', b"z"), Err(WalsenderError::Protocol(_))));
    }

    proptest! {
        #[test]
        fn any_frame_is_survived(mut bytes: Vec<u8>, kind in prop::sample::select(&b"wkrz"[..])) {
            let _ = copy_data(Bytes::from(bytes.clone()));
            bytes.insert(0, kind);
            let _ = copy_data(Bytes::from(bytes));
        }
    }
}
