//! Decoder of pgoutput, the output plugin of PostgreSQL's logical replication, protocol version 1.
//!
//! Limits: version 1 only (whole committed transactions in commit order). Streamed, two-phase and parallel-apply
//! messages of versions 2 to 4 are unknown here and refused, because guessing would lose rows.
//!
//! Everything borrows from the message; only the column list of a relation and the list of truncated relations
//! are allocated, and never for more elements than the message has bytes for. One `XLogData` frame holds exactly
//! one message, so bytes that are left over are an error, not the start of a second one.
//!
//! Source: PostgreSQL manual, "Logical Replication Message Formats". Integers are big-endian, strings end with a
//! zero byte, times are microseconds since 2000-01-01 UTC and are handed out here since 1970-01-01 UTC.

use std::fmt;
use std::str;

/// Microseconds between 1970-01-01 and 2000-01-01 UTC, the epoch of every PostgreSQL time on the wire.
pub const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;

/// One decoded message. Row values stay in the bytes of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A committed transaction starts; all messages up to the next [`Message::Commit`] belong to it.
    Begin {
        /// Position of the commit record, the same as `commit_lsn` of the coming commit.
        final_lsn: u64,
        /// Commit time by the server's clock, µs since the Unix epoch.
        commit_time_us: i64,
        /// Transaction id, 32 bits without its epoch.
        xid: u32,
    },
    /// The transaction ends.
    Commit {
        /// Position of the commit record.
        commit_lsn: u64,
        /// Position after the commit record: the only kind of position that may be confirmed to the server.
        end_lsn: u64,
        /// Commit time by the server's clock, µs since the Unix epoch.
        commit_time_us: i64,
    },
    /// The transaction was itself replicated from elsewhere; follows `Begin`.
    Origin {
        /// Commit position at the origin.
        origin_lsn: u64,
        /// Name of the replication origin at the publishing server.
        name: &'a str,
    },
    /// Shape of a table, sent before its first row in a session and after each change of shape.
    Relation(Relation<'a>),
    /// Name of a column type that is not built in, sent before the relation that uses it.
    Type {
        /// The type's oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// Relation oid.
        oid: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A changed row.
    Update {
        /// Relation oid.
        oid: u32,
        /// What the replica identity sends of the old row; absent when the key did not change.
        old: Option<OldTuple<'a>>,
        /// The row after the change.
        new: Tuple<'a>,
    },
    /// A removed row.
    Delete {
        /// Relation oid.
        oid: u32,
        /// What the replica identity sends of the old row.
        old: OldTuple<'a>,
    },
    /// Tables were emptied by one statement.
    Truncate {
        /// All relations of the statement that are published.
        oids: Vec<u32>,
        /// `CASCADE` was given.
        cascade: bool,
        /// `RESTART IDENTITY` was given.
        restart_identity: bool,
    },
    /// A message written with `pg_logical_emit_message`; sent only with the option `messages`.
    Message(LogicalMessage<'a>),
}

/// Content of [`Message::Message`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Inside a transaction; otherwise it came at once, also from work that was rolled back later.
    pub transactional: bool,
    /// Position of the message.
    pub lsn: u64,
    /// The writer's prefix.
    pub prefix: &'a str,
    /// The writer's bytes, of any form.
    pub content: &'a [u8],
}

impl fmt::Debug for LogicalMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogicalMessage")
            .field("transactional", &self.transactional)
            .field("lsn", &self.lsn)
            .field("prefix", &self.prefix)
            .field("content_bytes", &self.content.len())
            .finish()
    }
}

/// Content of [`Message::Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Relation oid; valid in this session until the next message for the same oid.
    pub oid: u32,
    /// Schema name. The wire has an empty string for `pg_catalog`; here it is spelled out.
    pub schema: &'a str,
    /// Table name.
    pub name: &'a str,
    /// What old rows will hold.
    pub replica_identity: ReplicaIdentity,
    /// Published columns in table order; every tuple of this relation has as many cells.
    pub columns: Vec<RelColumn<'a>>,
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelColumn<'a> {
    /// Part of the replica identity. This is not the primary key: under `FULL` every column is marked.
    pub key: bool,
    /// Column name.
    pub name: &'a str,
    /// Type oid.
    pub type_oid: u32,
    /// `atttypmod`, -1 for none.
    pub type_modifier: i32,
}

/// Replica identity of a table, which rules what an update or delete sends of the old row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing; the server refuses updates and deletes of published tables.
    Nothing,
    /// The whole old row.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

/// An old row as far as the replica identity sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldTuple<'a> {
    /// How much of the old row is there.
    pub kind: OldKind,
    /// The cells.
    pub tuple: Tuple<'a>,
}

/// How much of an old row was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OldKind {
    /// Only key columns; the others are [`Cell::Null`], which means "not sent" here.
    Key,
    /// The whole old row, under `REPLICA IDENTITY FULL`.
    Full,
}

/// A row: a cheap view of bytes whose form was checked by [`parse`]. `Debug` shows sizes, never values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// A row of a table without columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the encoded cells, a fair measure of what keeping this row costs.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The cells in column order.
    #[must_use]
    pub fn cells(&self) -> Cells<'a> {
        Cells { left: self.count, reader: Reader { tag: 0, rest: self.bytes } }
    }
}

impl fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuple").field("cells", &self.count).field("bytes", &self.bytes.len()).finish()
    }
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL, or "not sent" in an [`OldKind::Key`] tuple.
    Null,
    /// A large value that was stored out of line and did not change; it is not sent. It can occur in new tuples
    /// under every replica identity; under `FULL` the old tuple has the value.
    Unchanged,
    /// The type's output function's text.
    Text(&'a str),
    /// The type's send function's bytes; only with the option `binary`.
    Binary(&'a [u8]),
}

/// Iterator of [`Tuple::cells`].
#[derive(Clone)]
pub struct Cells<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.cell().expect("a tuple is only made from cells that were read once"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Cells<'_> {}
impl std::iter::FusedIterator for Cells<'_> {}

/// Tag byte of a message, shown as the manual writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a message was refused. All are permanent: the same bytes will come again. No variant holds row values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgOutputError {
    /// No bytes at all.
    #[error("empty pgoutput message")]
    Empty,
    /// A tag that version 1 does not have.
    #[error("unknown pgoutput message {tag}; only protocol version 1 is understood")]
    UnknownMessage {
        /// The tag.
        tag: Tag,
    },
    /// The message ends too early.
    #[error("pgoutput message {tag} ends inside {field}: {needed_bytes} bytes wanted, {left_bytes} left")]
    Truncated {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// How many bytes that takes, at least.
        needed_bytes: usize,
        /// How many there are.
        left_bytes: usize,
    },
    /// The message goes on after its last field.
    #[error("pgoutput message {tag} has {left_bytes} bytes after its end")]
    Trailing {
        /// The message.
        tag: Tag,
        /// How many.
        left_bytes: usize,
    },
    /// Text that is not UTF-8, although the session asked for UTF-8.
    #[error("{field} in pgoutput message {tag} is not UTF-8")]
    NotUtf8 {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
    },
    /// A length or count below zero.
    #[error("{field} in pgoutput message {tag} is {found}, below zero")]
    Negative {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// The value.
        found: i32,
    },
    /// A byte that must be one of a few has another value.
    #[error("{field} in pgoutput message {tag} has the unknown value {found:#04x}")]
    UnknownValue {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// The value.
        found: u8,
    },
}

/// Decodes one message, the content of one `XLogData` frame.
///
/// Tuples are checked as a whole here, so that reading their cells later cannot fail.
/// Errors: see [`PgOutputError`]; no input panics or allocates more than a small multiple of its own size.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, PgOutputError> {
    let (&tag, rest) = bytes.split_first().ok_or(PgOutputError::Empty)?;
    let mut r = Reader { tag, rest };
    let message = match tag {
        b'B' => Message::Begin {
            final_lsn: r.u64("lsn")?,
            commit_time_us: r.time()?,
            xid: r.u32("transaction id")?,
        },
        b'C' => {
            // Always 0 so far, and "currently unused" by the manual.
            r.u8("flags")?;
            Message::Commit {
                commit_lsn: r.u64("lsn")?,
                end_lsn: r.u64("end lsn")?,
                commit_time_us: r.time()?,
            }
        }
        b'O' => Message::Origin { origin_lsn: r.u64("lsn")?, name: r.cstr("origin name")? },
        b'R' => Message::Relation(r.relation()?),
        b'Y' => Message::Type { oid: r.u32("type oid")?, schema: r.schema()?, name: r.cstr("type name")? },
        b'I' => {
            let oid = r.u32("relation oid")?;
            match r.u8("tuple kind")? {
                b'N' => Message::Insert { oid, new: r.tuple()? },
                found => return Err(r.unknown("tuple kind", found)),
            }
        }
        b'U' => {
            let oid = r.u32("relation oid")?;
            let first = r.u8("tuple kind")?;
            let old = r.old_tuple(first)?;
            let second = if old.is_some() { r.u8("tuple kind")? } else { first };
            if second != b'N' {
                return Err(r.unknown("tuple kind", second));
            }
            Message::Update { oid, old, new: r.tuple()? }
        }
        b'D' => {
            let oid = r.u32("relation oid")?;
            let kind = r.u8("tuple kind")?;
            let old = r.old_tuple(kind)?.ok_or_else(|| r.unknown("tuple kind", kind))?;
            Message::Delete { oid, old }
        }
        b'T' => r.truncate()?,
        b'M' => {
            let flags = r.flags("flags", 0b1)?;
            let lsn = r.u64("lsn")?;
            let prefix = r.cstr("prefix")?;
            let content = r.sized("content")?;
            Message::Message(LogicalMessage { transactional: flags == 1, lsn, prefix, content })
        }
        _ => return Err(PgOutputError::UnknownMessage { tag: Tag(tag) }),
    };
    if r.rest.is_empty() {
        Ok(message)
    } else {
        Err(PgOutputError::Trailing { tag: Tag(tag), left_bytes: r.rest.len() })
    }
}

/// Cursor over one message; `tag` is kept for error texts only.
#[derive(Clone)]
struct Reader<'a> {
    tag: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], PgOutputError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.truncated(field, count))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], PgOutputError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(field, N))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, PgOutputError> {
        self.array(field).map(|[byte]| byte)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, PgOutputError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, PgOutputError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, PgOutputError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Saturates: a clock that far away is wrong anyway, and no reason to stop.
    fn time(&mut self) -> Result<i64, PgOutputError> {
        Ok(i64::from_be_bytes(self.array("time")?).saturating_add(POSTGRES_EPOCH_UNIX_US))
    }

    fn count(&mut self, field: &'static str) -> Result<u16, PgOutputError> {
        let found = i16::from_be_bytes(self.array(field)?);
        u16::try_from(found).map_err(|_| self.negative(field, found.into()))
    }

    fn sized(&mut self, field: &'static str) -> Result<&'a [u8], PgOutputError> {
        let found = self.i32(field)?;
        let length = usize::try_from(found).map_err(|_| self.negative(field, found))?;
        self.take(length, field)
    }

    fn text(&self, bytes: &'a [u8], field: &'static str) -> Result<&'a str, PgOutputError> {
        str::from_utf8(bytes).map_err(|_| PgOutputError::NotUtf8 { tag: Tag(self.tag), field })
    }

    fn cstr(&mut self, field: &'static str) -> Result<&'a str, PgOutputError> {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| self.truncated(field, self.rest.len() + 1))?;
        let bytes = self.take(end, field)?;
        self.u8(field)?;
        self.text(bytes, field)
    }

    fn schema(&mut self) -> Result<&'a str, PgOutputError> {
        Ok(match self.cstr("schema name")? {
            "" => "pg_catalog",
            name => name,
        })
    }

    /// A new flag changes what the message means, so an unknown one is refused rather than ignored.
    fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, PgOutputError> {
        let found = self.u8(field)?;
        if found & !known == 0 { Ok(found) } else { Err(self.unknown(field, found)) }
    }

    fn relation(&mut self) -> Result<Relation<'a>, PgOutputError> {
        /// Flags, an empty name with its end, type oid, type modifier.
        const COLUMN_MIN_BYTES: usize = 1 + 1 + 4 + 4;
        let oid = self.u32("relation oid")?;
        let schema = self.schema()?;
        let name = self.cstr("relation name")?;
        let replica_identity = match self.u8("replica identity")? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            found => return Err(self.unknown("replica identity", found)),
        };
        let count = usize::from(self.count("column count")?);
        let mut columns = Vec::with_capacity(count.min(self.rest.len() / COLUMN_MIN_BYTES));
        for _ in 0..count {
            columns.push(RelColumn {
                key: self.flags("column flags", 0b1)? == 1,
                name: self.cstr("column name")?,
                type_oid: self.u32("type oid")?,
                type_modifier: self.i32("type modifier")?,
            });
        }
        Ok(Relation { oid, schema, name, replica_identity, columns })
    }

    fn truncate(&mut self) -> Result<Message<'a>, PgOutputError> {
        let found = self.i32("relation count")?;
        let count = usize::try_from(found).map_err(|_| self.negative("relation count", found))?;
        let flags = self.flags("truncate flags", 0b11)?;
        let bytes = self.take(count.saturating_mul(4), "relation oids")?;
        let (oids, _) = bytes.as_chunks::<4>();
        Ok(Message::Truncate {
            oids: oids.iter().map(|oid| u32::from_be_bytes(*oid)).collect(),
            cascade: flags & 1 != 0,
            restart_identity: flags & 2 != 0,
        })
    }

    /// `None` when `kind` does not announce an old tuple; nothing is read then.
    fn old_tuple(&mut self, kind: u8) -> Result<Option<OldTuple<'a>>, PgOutputError> {
        let kind = match kind {
            b'K' => OldKind::Key,
            b'O' => OldKind::Full,
            _ => return Ok(None),
        };
        Ok(Some(OldTuple { kind, tuple: self.tuple()? }))
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, PgOutputError> {
        let count = self.count("cell count")?;
        let start = self.rest;
        for _ in 0..count {
            self.cell()?;
        }
        Ok(Tuple { count, bytes: &start[..start.len() - self.rest.len()] })
    }

    fn cell(&mut self) -> Result<Cell<'a>, PgOutputError> {
        Ok(match self.u8("cell kind")? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => {
                let bytes = self.sized("cell")?;
                Cell::Text(self.text(bytes, "cell")?)
            }
            b'b' => Cell::Binary(self.sized("cell")?),
            found => return Err(self.unknown("cell kind", found)),
        })
    }

    fn truncated(&self, field: &'static str, needed_bytes: usize) -> PgOutputError {
        PgOutputError::Truncated { tag: Tag(self.tag), field, needed_bytes, left_bytes: self.rest.len() }
    }

    fn negative(&self, field: &'static str, found: i32) -> PgOutputError {
        PgOutputError::Negative { tag: Tag(self.tag), field, found }
    }

    fn unknown(&self, field: &'static str, found: u8) -> PgOutputError {
        PgOutputError::UnknownValue { tag: Tag(self.tag), field, found }
    }
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
mod tests;
