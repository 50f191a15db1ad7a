//! Statements that go out together: each lane's way to the server.
//!
//! The protocol has no pipelining, but one query may hold many statements, whose answers come one after the other. What a
//! later statement depends on is said in SQL (`ROW_COUNT()` of the one before), and the first that fails stops the rest.

use mysql_async::Error;

use super::error::Verdict;
use super::session::{Done, LENIENT, STRICT, Session};
use super::statement::Sql;

/// Bytes after which what has gathered is sent. Large enough that a round trip does not count.
const FLUSH_BYTES: usize = 1 << 20;

/// What a statement is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Takes the lane's progress row, for which nobody should wait long.
    Progress,
    /// Fails if progress is elsewhere.
    Guard,
    /// Begins, ends, sets.
    Control,
    /// Writes the change of this number, or several of which it is the first.
    Change(usize),
    /// Must find a row.
    Found(usize),
}

/// Why the statements stopped.
#[derive(Debug)]
pub(super) enum Halt {
    /// The server refused one.
    Server(Purpose, Error),
    /// An updated row is missing.
    Missing(usize),
    /// A value was not written as it is.
    Changed(usize),
    /// The statement is larger than the server takes.
    TooLarge {
        /// The change.
        change: usize,
        /// What it would take.
        bytes: usize,
    },
}

impl Halt {
    /// What this means for the rows.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Server(_, error) => super::error::verdict(error),
            Self::Missing(_) | Self::Changed(_) | Self::TooLarge { .. } => Verdict::Data,
        }
    }
}

struct Mark {
    purpose: Purpose,
    /// Warnings that are all right.
    enum_errors: u16,
    lenient: bool,
}

/// Gathers statements and sends them.
pub(super) struct Pipe<'s> {
    session: &'s mut Session,
    sql: Sql,
    marks: Vec<Mark>,
    /// Where the open statement begins.
    start: usize,
    pub(super) row_alias: bool,
    /// A row must be found, which only a look at the answers tells.
    expects: bool,
    /// The statements run without strict mode.
    lenient: bool,
}

impl<'s> Pipe<'s> {
    pub(super) fn new(session: &'s mut Session) -> Self {
        let row_alias = session.has_row_alias();
        Self {
            session,
            sql: Sql::default(),
            marks: Vec::new(),
            start: 0,
            row_alias,
            expects: false,
            lenient: false,
        }
    }

    /// The open statement.
    pub(super) fn sql(&mut self) -> &mut Sql {
        &mut self.sql
    }

    /// Bytes of the open statement.
    pub(super) fn open_bytes(&self) -> usize {
        self.sql.bytes.len() - self.start
    }

    /// Longest statement worth building: several fit what the server takes.
    pub(super) fn statement_bytes(&self) -> usize {
        (self.session.max_packet / 4).min(FLUSH_BYTES)
    }

    /// Whether answers that have been seen, or are to come, must be looked at before a COMMIT.
    pub(super) fn expects(&self) -> bool {
        self.expects
    }

    /// Drops the open statement.
    pub(super) fn discard(&mut self) {
        self.sql.bytes.truncate(self.start);
        self.sql.enum_errors = 0;
    }

    /// Ends the open statement, and sends what has gathered if that is enough.
    pub(super) async fn end(&mut self, purpose: Purpose) -> Result<(), Halt> {
        let enum_errors = std::mem::take(&mut self.sql.enum_errors);
        let bytes = self.open_bytes();
        // Packets carry a byte for the command; the rest is for the statements that are put around.
        if bytes + 256 > self.session.max_packet {
            let change = match purpose {
                Purpose::Change(change) | Purpose::Found(change) => change,
                Purpose::Progress | Purpose::Guard | Purpose::Control => 0,
            };
            self.discard();
            return Err(Halt::TooLarge { change, bytes });
        }
        if self.start > 0 && self.sql.bytes.len() + 256 > self.session.max_packet {
            // What came before fits, and so does this one alone.
            let statement = self.sql.bytes.split_off(self.start);
            self.start = 0;
            self.flush().await?;
            self.sql.bytes = statement;
        }
        self.expects |= matches!(purpose, Purpose::Found(_));
        self.close(Mark { purpose, enum_errors, lenient: self.lenient });
        if self.sql.bytes.len() >= self.statement_bytes() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Runs what follows without strict mode, or with it again: only for rows with an enum's error value, whose every other
    /// value has been checked. More warnings than such values are an error.
    pub(super) fn lenient(&mut self, lenient: bool) {
        self.control(&format!("SET sql_mode = '{}'", if lenient { LENIENT } else { STRICT }));
        self.lenient = lenient;
    }

    fn close(&mut self, mark: Mark) {
        self.sql.push(";");
        self.start = self.sql.bytes.len();
        self.marks.push(mark);
    }

    /// Adds a statement of control, which is small.
    pub(super) fn control(&mut self, sql: &str) {
        self.purposeful(sql, Purpose::Control);
    }

    /// Adds a small statement.
    pub(super) fn purposeful(&mut self, sql: &str, purpose: Purpose) {
        self.sql.push(sql);
        self.close(Mark { purpose, enum_errors: 0, lenient: false });
    }

    /// Sends what has gathered and looks at the answers.
    pub(super) async fn flush(&mut self) -> Result<(), Halt> {
        let marks = std::mem::take(&mut self.marks);
        let mut sql = std::mem::take(&mut self.sql.bytes);
        self.start = 0;
        if marks.is_empty() {
            return Ok(());
        }
        // A statement behind the last semicolon would be an empty one.
        sql.pop();
        let (done, error) = self.session.many(&sql, marks.len()).await;
        sql.clear();
        // The buffer is used again.
        self.sql.bytes = sql;
        if let Some(error) = error {
            let purpose = marks.get(done.len()).map_or(Purpose::Control, |mark| mark.purpose);
            return Err(Halt::Server(purpose, error));
        }
        for (mark, Done { rows, warnings }) in marks.iter().zip(done) {
            match mark.purpose {
                Purpose::Found(change) if rows == 0 => return Err(Halt::Missing(change)),
                Purpose::Found(change) | Purpose::Change(change)
                    if mark.lenient && warnings > mark.enum_errors =>
                {
                    return Err(Halt::Changed(change));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
