//! COPY for rows that should be new: no arrays, no conflict to look for, and the server inserts many at once.
//!
//! Text format (PostgreSQL manual, COPY): tab between values, newline after rows, `\\N` for NULL, backslash before what
//! would be one of these. Every value goes through its column's input function with the column's own modifiers. Rows are
//! written while the server takes those before them.

use bytes::Bytes;
use futures_util::SinkExt;
use rowbridge_schema::Cell;
use rowbridge_schema::sql::ident;

use super::binding::Binding;
use super::session::Session;

/// Bytes of one message: several fit the socket, none needs a large buffer at the server.
const MESSAGE_BYTES: usize = 128 << 10;

/// The statement for these columns, as far as they are written.
pub(super) fn statement(binding: &Binding, columns: &[u16]) -> String {
    let names: Vec<String> =
        columns.iter().filter_map(|&c| binding.column(c)).map(|column| ident(&column.name)).collect();
    format!("COPY {} ({}) FROM STDIN", binding.table, names.join(", "))
}

/// Sends rows, each as the cells that are written; returns how many the server took.
pub(super) async fn send<'d, R>(
    session: &Session,
    sql: &str,
    rows: impl Iterator<Item = R> + Send,
) -> Result<u64, tokio_postgres::Error>
where
    R: Iterator<Item = &'d Cell<'d>> + Send,
{
    let mut sink = std::pin::pin!(session.client.copy_in::<_, Bytes>(sql).await?);
    session.watch.answered();
    let mut message = Vec::with_capacity(MESSAGE_BYTES + 4096);
    for row in rows {
        write(&mut message, row);
        if message.len() >= MESSAGE_BYTES {
            let full = std::mem::replace(&mut message, Vec::with_capacity(MESSAGE_BYTES + 4096));
            sink.feed(Bytes::from(full)).await?;
            session.watch.answered();
        }
    }
    if !message.is_empty() {
        sink.feed(Bytes::from(message)).await?;
    }
    sink.as_mut().finish().await
}

fn write<'d>(out: &mut Vec<u8>, row: impl Iterator<Item = &'d Cell<'d>>) {
    for (i, cell) in row.enumerate() {
        if i > 0 {
            out.push(b'\t');
        }
        match cell.as_str() {
            Some(text) => escape(out, text.as_bytes()),
            None => out.extend_from_slice(b"\\N"),
        }
    }
    out.push(b'\n');
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    // Without a branch per byte, since hardly any value has one of these.
    if !bytes.iter().fold(false, |found, &byte| found | (byte < b' ') | (byte == b'\\')) {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        let letter = match byte {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\\' => b'\\',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copy_would_take_for_its_own_is_escaped() {
        let mut out = Vec::new();
        let cells = [Cell::text("a\tb\nc\rd\\N.ö\u{1}"), Cell::Null, Cell::text("plain"), Cell::text("")];
        write(&mut out, cells.iter());
        assert_eq!(&out[..], "a\\tb\\nc\\rd\\\\N.ö\u{1}\t\\N\tplain\t\n".as_bytes());
    }
}
