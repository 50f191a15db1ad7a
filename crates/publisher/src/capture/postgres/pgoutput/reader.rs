//! Reads messages of pgoutput byte by byte.

use std::str;

use super::{
    Cell, LogicalMessage, Message, OldKind, OldTuple, POSTGRES_EPOCH_UNIX_US, PgOutputError, RelColumn,
    Relation, ReplicaIdentity, Tag, Tuple,
};

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
pub(super) struct Reader<'a> {
    pub(super) tag: u8,
    pub(super) rest: &'a [u8],
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

    pub(super) fn cell(&mut self) -> Result<Cell<'a>, PgOutputError> {
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
