//! Entry points for what a PostgreSQL server sends; see [`crate::fuzz`].

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::pgoutput::{self, Cell, Message, Tuple};
use super::command::data_row;
use super::copy::{Frame, frame};
use super::wire::{Parameters, Wire};

/// One message of pgoutput. The cells of its rows lie within it.
pub fn pgoutput(data: &[u8]) {
    let tuple = |tuple: &Tuple<'_>| {
        let mut bytes = 0;
        for cell in tuple.cells() {
            bytes += match cell {
                Cell::Null | Cell::Unchanged => 1,
                Cell::Text(text) => 5 + text.len(),
                Cell::Binary(binary) => 5 + binary.len(),
            };
        }
        assert_eq!((tuple.cells().count(), bytes), (tuple.len(), tuple.size_bytes()));
        assert!(bytes <= data.len());
    };
    match pgoutput::parse(data) {
        Ok(Message::Insert { new, .. }) => tuple(&new),
        Ok(Message::Update { old, new, .. }) => {
            if let Some(old) = old {
                tuple(&old.tuple);
            }
            tuple(&new);
        }
        Ok(Message::Delete { old, .. }) => tuple(&old.tuple),
        Ok(Message::Relation(relation)) => assert!(relation.columns.len() <= data.len()),
        Ok(Message::Truncate { oids, .. }) => assert!(oids.len() <= data.len()),
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What comes over a replication connection, byte for byte, read in pieces of as many bytes as the first byte says.
pub fn replication(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut wire = Wire::new(Pieces { rest: data, piece: usize::from(piece).max(1) });
    wire.login_done();
    let mut parameters = Parameters::default();
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = 0;
    loop {
        let read = pin!(wire.message()).poll(&mut context);
        let Poll::Ready(Ok(raw)) = read else { break };
        taken += 5 + raw.body.len();
        assert!(taken <= data.len(), "more than was sent");
        let _ = data_row(raw.body.clone());
        let Ok(read) = frame(&mut parameters, raw) else { break };
        if let Some(Frame::XLogData { data, .. }) = read {
            pgoutput(&data);
        }
    }
}

/// A peer that sends what it has and hangs up.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.piece.min(self.rest.len()).min(into.remaining());
        let (now, rest) = self.rest.split_at(count);
        into.put_slice(now);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A certificate's hash for channel binding, of any bytes.
pub fn certificate(data: &[u8]) {
    let _ = super::auth::server_end_point(data);
    let _ = super::error::ServerError::parse(Bytes::copy_from_slice(data));
}
