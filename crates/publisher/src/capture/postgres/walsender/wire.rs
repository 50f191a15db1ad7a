//! Framing: messages with a tag and a length, in both directions.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::pgoutput::Tag;
use super::error::{CloseReason, ProtocolError, ServerError, WalsenderError, cstr};

/// Longest message in a session. The server builds no value above 1 GiB; the rest is for headers.
pub(super) const MESSAGE_MAX_BYTES: usize = (1 << 30) + (64 << 10);
/// Longest message before the login is done, when nothing is known about the peer yet. libpq takes 30,000.
pub(super) const LOGIN_MESSAGE_MAX_BYTES: usize = 64 << 10;
/// Room offered to one read. Large enough for a thousand small rows, small enough to stay in the processor's cache.
const READ_BYTES: usize = 256 << 10;
/// Less room than this is not worth a system call.
const READ_MIN_BYTES: usize = 64 << 10;

/// A message from the server: its tag and what follows the length.
pub(super) struct Raw {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// Both directions of a connection with their buffers.
pub(super) struct Wire<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    limit_bytes: usize,
    grown: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            limit_bytes: LOGIN_MESSAGE_MAX_BYTES,
            grown: false,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn login_done(&mut self) {
        self.limit_bytes = MESSAGE_MAX_BYTES;
    }

    /// Where messages are written; they leave with the next [`Wire::flush`].
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what is in the output buffer. Cancel safe: what was not sent stays there, in order.
    pub(super) async fn flush(&mut self) -> Result<(), WalsenderError> {
        let io = |source| WalsenderError::Io { during: "sending", source };
        while !self.output.is_empty() {
            if self.stream.write_buf(&mut self.output).await.map_err(io)? == 0 {
                return Err(WalsenderError::Closed(CloseReason::ConnectionLost));
            }
        }
        self.stream.flush().await.map_err(io)
    }

    /// The next message that is wholly in the input buffer.
    pub(super) fn buffered(&mut self) -> Result<Option<Raw>, ProtocolError> {
        let Some(length_bytes) = self.announced()? else { return Ok(None) };
        if self.input.len() <= length_bytes {
            return Ok(None);
        }
        let mut message = self.input.split_to(1 + length_bytes).freeze();
        let tag = message[0];
        message.advance(5);
        Ok(Some(Raw { tag, body: message }))
    }

    /// Length of the message at the front as its header has it, which counts itself but not the tag.
    fn announced(&self) -> Result<Option<usize>, ProtocolError> {
        let Some(&[tag, a, b, c, d]) = self.input.first_chunk() else { return Ok(None) };
        let length_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
        if (4..=self.limit_bytes).contains(&length_bytes) {
            Ok(Some(length_bytes))
        } else {
            Err(ProtocolError::BadLength { tag: Tag(tag), length_bytes, limit_bytes: self.limit_bytes })
        }
    }

    /// Waits for the next message. Cancel safe.
    pub(super) async fn message(&mut self) -> Result<Raw, WalsenderError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Reads once, as much as there is room for. Cancel safe: what was read is in the buffer.
    async fn fill(&mut self) -> Result<(), WalsenderError> {
        self.make_room()?;
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(WalsenderError::Closed(CloseReason::ConnectionLost)),
            Ok(_) => Ok(()),
            Err(source) => Err(WalsenderError::Io { during: "reading", source }),
        }
    }

    fn make_room(&mut self) -> Result<(), ProtocolError> {
        let missing = self.announced()?.map_or(0, |length| (1 + length).saturating_sub(self.input.len()));
        if missing > READ_BYTES {
            // Doubles with what really came instead of believing the header at once.
            self.grown = true;
            self.input.reserve(missing.min(self.input.len().max(READ_BYTES)));
        } else if self.grown && self.input.len() < READ_MIN_BYTES {
            // A buffer once grown for a huge row would keep its size for ever.
            let mut fresh = BytesMut::with_capacity(READ_BYTES);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
            self.grown = false;
        } else if self.input.capacity() - self.input.len() < READ_MIN_BYTES.max(missing) {
            self.input.reserve(READ_BYTES);
        }
        Ok(())
    }

    pub(super) async fn shutdown(&mut self) {
        // The peer may be gone already, which is what was wanted.
        let _ = self.stream.shutdown().await;
    }
}

/// Session parameters as the server reports them, which it may do at any time.
#[derive(Default)]
pub(super) struct Parameters(HashMap<String, String>);

impl Parameters {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Deals with messages that may come between any two others; gives back all others. An error becomes `Err`.
    pub(super) fn absorb(&mut self, raw: Raw) -> Result<Option<Raw>, WalsenderError> {
        match raw.tag {
            b'E' => Err(Box::new(ServerError::parse(raw.body)?).into()),
            b'S' => {
                let mut body = raw.body;
                let (Some(name), Some(value)) = (cstr(&mut body), cstr(&mut body)) else {
                    return Err(ProtocolError::Malformed { what: "parameter status" }.into());
                };
                self.0.insert(
                    String::from_utf8_lossy(&name).into_owned(),
                    String::from_utf8_lossy(&value).into_owned(),
                );
                Ok(None)
            }
            // Notices and notifications: nothing here acts on them.
            b'N' | b'A' => Ok(None),
            _ => Ok(Some(raw)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn encode(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn messages_in_any_slices() {
        let (client, mut server) = duplex(7);
        let sent: Vec<Vec<u8>> = (0..50_usize).map(|n| vec![b'x'; n * 3]).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|body| encode(b'd', body)).collect();
        let writer = tokio::spawn(async move { server.write_all(&bytes).await.map(|()| server) });
        let mut wire = Wire::new(client);
        for body in &sent {
            let raw = wire.message().await.unwrap();
            assert_eq!((raw.tag, &raw.body[..]), (b'd', &body[..]));
        }
        drop(writer.await.unwrap());
        assert!(matches!(wire.message().await, Err(WalsenderError::Closed(CloseReason::ConnectionLost))));
    }

    #[tokio::test]
    async fn one_read_serves_many_messages() {
        let (client, mut server) = duplex(1 << 16);
        for _ in 0..100 {
            server.write_all(&encode(b'd', b"row")).await.unwrap();
        }
        let mut wire = Wire::new(client);
        wire.message().await.unwrap();
        let mut buffered = 1;
        while wire.buffered().unwrap().is_some() {
            buffered += 1;
        }
        assert_eq!(buffered, 100);
    }

    #[tokio::test]
    async fn absurd_lengths_are_refused_before_they_are_read() {
        for (length, login_done) in [
            (3, true),
            (u32::try_from(MESSAGE_MAX_BYTES).unwrap() + 1, true),
            (65_537, false),
            (u32::MAX, true),
        ] {
            let (client, mut server) = duplex(64);
            let mut bytes = vec![b'd'];
            bytes.extend_from_slice(&length.to_be_bytes());
            server.write_all(&bytes).await.unwrap();
            let mut wire = Wire::new(client);
            if login_done {
                wire.login_done();
            }
            let error = wire.message().await.err().unwrap();
            assert!(
                matches!(error, WalsenderError::Protocol(ProtocolError::BadLength { length_bytes, .. })
                    if length_bytes == length as usize),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_promised_gigabyte_is_not_reserved_and_a_grown_buffer_shrinks() {
        let (client, mut server) = duplex(64);
        let mut wire = Wire::new(client);
        wire.login_done();
        server.write_all(&[b'd', 0x3f, 0xff, 0xff, 0xff]).await.unwrap();
        let read = tokio::time::timeout(std::time::Duration::from_millis(20), wire.message()).await;
        assert!(read.is_err(), "the message cannot be complete");
        assert!(wire.input.capacity() <= 4 * READ_BYTES, "{}", wire.input.capacity());

        let (client, mut server) = duplex(1 << 20);
        let mut wire = Wire::new(client);
        wire.login_done();
        let big = encode(b'd', &vec![7; 8 << 20]);
        let writer = tokio::spawn(async move {
            server.write_all(&big).await.unwrap();
            server.write_all(&encode(b'd', b"small")).await.unwrap();
            server
        });
        assert_eq!(wire.message().await.unwrap().body.len(), 8 << 20);
        assert_eq!(&wire.message().await.unwrap().body[..], b"small");
        let mut server = writer.await.unwrap();
        server.write_all(&encode(b'd', b"more")).await.unwrap();
        wire.message().await.unwrap();
        assert!(wire.input.capacity() <= READ_BYTES, "{}", wire.input.capacity());
    }

    #[tokio::test]
    async fn a_dropped_flush_is_finished_by_the_next() {
        let (client, mut server) = duplex(4);
        let mut wire = Wire::new(client);
        wire.output().extend_from_slice(b"0123456789");
        let dropped = tokio::time::timeout(std::time::Duration::from_millis(5), wire.flush()).await;
        assert!(dropped.is_err());
        wire.output().extend_from_slice(b"abc");
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 13];
            server.read_exact(&mut bytes).await.unwrap();
            bytes
        });
        wire.flush().await.unwrap();
        assert_eq!(&reader.await.unwrap(), b"0123456789abc");
    }
}
