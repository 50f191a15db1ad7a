//! COPY for rows that should be new: no arrays, no conflict to look for, and the server inserts many at once.
//!
//! Text format (PostgreSQL manual, COPY): tab between values, newline after rows, `\\N` for NULL, backslash before what
//! would be one of these. Every value goes through its column's input function with the column's own modifiers.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use rowbridge_schema::sql::ident;
use tokio_postgres::Client;

use super::binding::Binding;
use crate::plan::Row;

/// Bytes of one message: several fit the socket, none needs a large buffer at the server.
const MESSAGE_BYTES: usize = 256 << 10;

/// Rows of one table and one set of columns.
#[derive(Debug)]
pub(super) struct Copy {
    sql: String,
    messages: Vec<Bytes>,
    open: BytesMut,
}

impl Copy {
    pub(super) fn new(binding: &Binding, columns: &[u16]) -> Self {
        let names: Vec<String> =
            columns.iter().filter_map(|&c| binding.column(c)).map(|column| ident(&column.name)).collect();
        let sql = format!("COPY {} ({}) FROM STDIN", binding.table, names.join(", "));
        Self { sql, messages: Vec::new(), open: BytesMut::new() }
    }

    pub(super) fn push(&mut self, binding: &Binding, row: &Row<'_>) {
        let mut first = true;
        for (_, cell) in row.iter().filter(|(column, _)| binding.column(*column).is_some()) {
            if !std::mem::take(&mut first) {
                self.open.put_u8(b'\t');
            }
            match cell.as_str() {
                Some(text) => escape(&mut self.open, text),
                None => self.open.put_slice(b"\\N"),
            }
        }
        self.open.put_u8(b'\n');
        if self.open.len() >= MESSAGE_BYTES {
            self.messages.push(self.open.split().freeze());
        }
    }

    /// Sends the rows; returns how many the server took.
    pub(super) async fn run(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let mut sink = std::pin::pin!(client.copy_in::<_, Bytes>(&self.sql).await?);
        for message in &self.messages {
            sink.feed(message.clone()).await?;
        }
        if !self.open.is_empty() {
            sink.feed(Bytes::copy_from_slice(&self.open)).await?;
        }
        sink.as_mut().finish().await
    }
}

fn escape(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 1);
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let letter = match byte {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\\' => b'\\',
            _ => continue,
        };
        out.put_slice(&bytes[from..at]);
        out.put_slice(&[b'\\', letter]);
        from = at + 1;
    }
    out.put_slice(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copy_would_take_for_its_own_is_escaped() {
        let mut out = BytesMut::new();
        escape(&mut out, "a\tb\nc\rd\\N.ö");
        assert_eq!(&out[..], "a\\tb\\nc\\rd\\\\N.ö".as_bytes());
    }
}
