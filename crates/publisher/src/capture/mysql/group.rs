//! Events of the log, one at a time, within the transaction that they belong to.

use std::sync::Arc;

use mysql_async::binlog::events::GtidEvent;
use rowbridge_schema::{Offset, Position, TableName};

use super::binlog::LogEvent;
use super::bytes::{Broken, Bytes};
use super::error::MysqlError;
use super::gtid::{Gtids, token_server};
use super::query::{self, Read, Statement};
use super::shape::{self, Shape};
use super::table_map::{self, TableMap};
use super::transaction::{self, RowError, Transaction};
use super::{Captured, Mapped, MysqlCapture, lower, rows};
use crate::capture::{CapturedBlock, TxToken};
use crate::journal::Resume;

/// Event types (MySQL `libbinlogevents/include/binlog_event.h`, MariaDB `sql/log_event.h`).
mod kind {
    pub(super) const QUERY: u8 = 2;
    pub(super) const FORMAT_DESCRIPTION: u8 = 15;
    pub(super) const XID: u8 = 16;
    pub(super) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(super) const TABLE_MAP: u8 = 19;
    pub(super) const INCIDENT: u8 = 26;
    pub(super) const GTID: u8 = 33;
    pub(super) const ANONYMOUS_GTID: u8 = 34;
    pub(super) const XA_PREPARE: u8 = 38;
    pub(super) const PARTIAL_UPDATE: u8 = 39;
    pub(super) const PAYLOAD: u8 = 40;
    pub(super) const TAGGED_GTID: u8 = 42;
    pub(super) const MARIADB_GTID: u8 = 162;
    pub(super) const COMPRESSED_QUERY: u8 = 165;
    /// Say nothing about rows: stop, rotate, variables of statements, blocks of a loaded file, ignorable, the text of a row
    /// event's statement, previous GTIDs, group replication's own, and MariaDB's annotations, checkpoints, lists and start of
    /// encryption.
    pub(super) const SILENT: [u8; 14] = [3, 4, 5, 13, 14, 17, 28, 29, 35, 36, 37, 160, 161, 163];
    pub(super) const START_ENCRYPTION: u8 = 164;
}

/// The server may leave it out, and so may we.
const IGNORABLE: u16 = 0x80;
/// MariaDB GTID: no COMMIT follows, the next statement is all.
const STANDALONE: u8 = 1;
/// MariaDB GTID: a number of the group commit follows.
const GROUP_COMMIT: u8 = 2;
/// MariaDB GTID: rows of an XA transaction that ends with its preparation; its id follows, and no XA START.
const PREPARED_XA: u8 = 64;

/// What ends the group at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Only a GTID was seen: the next statement tells.
    Unknown,
    /// A commit, or a rollback.
    Transaction,
    /// Its statement.
    Standalone,
    /// XA PREPARE, which a later group decides.
    Xa(String),
}

/// What the GTID event says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Mysql { server: [u8; 16], tag: String, number: u64 },
    Mariadb { domain: u32, server: u32, sequence: u64 },
    Anonymous,
}

/// The group at hand.
pub(super) struct Group {
    kind: Kind,
    id: Id,
    transaction: Transaction,
    /// Where to resume if this group is not to be forgotten.
    before: Resume,
    /// Parts of a prepared transaction, which nobody may see yet.
    held: Vec<CapturedBlock>,
    held_bytes: usize,
    /// Something of transactional tables was undone in the middle of it.
    undone: bool,
}

/// Rows of a prepared XA transaction.
pub(super) struct Prepared {
    pub before: Resume,
    id: String,
    parts: Vec<CapturedBlock>,
    bytes: usize,
}

/// Rows of all prepared transactions together.
const MAX_PREPARED_BYTES: usize = 256 << 20;

impl MysqlCapture {
    /// Takes one event; `Some` if it completes something. May leave it in `held` with a question under way.
    pub(super) fn take(&mut self, event: LogEvent) -> Result<Option<Captured>, MysqlError> {
        let broken = |broken: Broken| self.broken(broken.0);
        match event.kind {
            kind::TABLE_MAP => self.table_map(event).map(|()| None),
            kind::XID => self.commit(),
            kind::GTID | kind::ANONYMOUS_GTID | kind::TAGGED_GTID | kind::MARIADB_GTID => {
                self.begin(&event).map(|()| None)
            }
            kind::QUERY | kind::COMPRESSED_QUERY | kind::EXECUTE_LOAD_QUERY => {
                let query = query::parse(event.kind, event.data()).map_err(broken)?;
                self.statement(&query::read(&query), event.kind)
            }
            kind::XA_PREPARE => {
                let mut bytes = Bytes(event.data());
                let one_phase = bytes.u8().map_err(broken)? != 0;
                if one_phase { self.commit() } else { self.prepare() }
            }
            kind::PARTIAL_UPDATE => Err(MysqlError::NotReady {
                problem: format!(
                    "at {} of the binary log a JSON document was changed in part (binlog_row_value_options)",
                    self.place()
                ),
                fix: "Run `SET GLOBAL binlog_row_value_options = '';`, let all sessions reconnect, then run \
                      `rowbridge snapshot --all`."
                    .into(),
            }),
            kind::INCIDENT => Err(self.broken("the server says that it lost changes (INCIDENT)")),
            kind::FORMAT_DESCRIPTION => {
                // Ids of tables begin anew with a restart.
                self.maps.clear();
                self.passed();
                Ok(None)
            }
            kind::PAYLOAD => Ok(None),
            code if rows::op_of(code).is_some() => self.rows(event),
            code if kind::SILENT.contains(&code) || code == kind::START_ENCRYPTION => {
                self.passed();
                Ok(None)
            }
            _ if event.flags & IGNORABLE != 0 => Ok(None),
            code => Err(self.broken(format!("an event of type {code} is not known"))),
        }
    }

    /// The log went on without a transaction.
    fn passed(&mut self) {
        self.unsaid |= self.group.is_none();
    }

    fn begin(&mut self, event: &LogEvent) -> Result<(), MysqlError> {
        if self.group.is_some() {
            return Err(self.broken("a transaction begins within another one"));
        }
        let broken = |broken: Broken| self.broken(broken.0);
        let offset = Offset { file: self.log.number, at: event.start };
        let mut kind = Kind::Unknown;
        let mut at = i64::from(event.timestamp) * 1_000_000;
        let id = if event.kind == kind::MARIADB_GTID {
            let mut bytes = Bytes(event.data());
            let sequence = bytes.u64().map_err(broken)?;
            let domain = bytes.u32().map_err(broken)?;
            let flags = bytes.u8().map_err(broken)?;
            kind = if flags & STANDALONE == 0 { Kind::Transaction } else { Kind::Standalone };
            if flags & PREPARED_XA != 0 {
                if flags & GROUP_COMMIT != 0 {
                    bytes.u64().map_err(broken)?;
                }
                kind = Kind::Xa(xid(&mut bytes).map_err(broken)?);
            }
            Id::Mariadb { domain, server: event.event.header().server_id(), sequence }
        } else {
            let gtid: GtidEvent = event.event.read_event().map_err(|_| self.broken("its GTID is damaged"))?;
            if gtid.immediate_commit_timestamp() > 0 {
                at = gtid.immediate_commit_timestamp() as i64;
            }
            match event.kind {
                kind::ANONYMOUS_GTID => Id::Anonymous,
                _ => Id::Mysql {
                    server: gtid.sid(),
                    tag: gtid.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
                    number: gtid.gno(),
                },
            }
        };
        let token = match &id {
            Id::Mysql { server, tag, number } => {
                TxToken::Gtid { server: token_server(*server, tag), number: *number }
            }
            _ => TxToken::Offset(Offset { at: offset.at + 1, ..offset }),
        };
        let base = Position { epoch: self.epoch, offset, ordinal: 0 };
        let before = Resume(Arc::from(format!("{}:{};{}", self.log.file, event.start, self.gtids)));
        let mut transaction = Transaction::begin(token, base, at);
        transaction.note_all = matches!(kind, Kind::Xa(_));
        self.group =
            Some(Group { kind, id, transaction, before, held: vec![], held_bytes: 0, undone: false });
        Ok(())
    }

    /// What the group did is executed; from here on it is in the resume point.
    fn executed(&mut self, id: &Id) {
        match (&mut self.gtids, id) {
            (Gtids::Mysql(set), Id::Mysql { server, tag, number }) => set.add(*server, tag, *number),
            (Gtids::Mariadb(position), Id::Mariadb { domain, server, sequence }) => {
                position.set(*domain, *server, *sequence);
            }
            _ => {}
        }
        self.unsaid = true;
    }

    fn group(&mut self) -> Result<Group, MysqlError> {
        self.group.take().ok_or_else(|| self.broken("a change or a commit outside a transaction"))
    }

    fn commit(&mut self) -> Result<Option<Captured>, MysqlError> {
        let mut group = self.group()?;
        self.executed(&group.id);
        self.converted.trim();
        if group.undone {
            self.again(&group.transaction);
        }
        let resume = self.resume();
        for part in group.held.drain(..) {
            self.enqueue(part);
        }
        Ok(self.queue(group.transaction.commit(resume)))
    }

    /// The block, behind the parts that wait before it; what was found out about tables in the middle of the transaction comes
    /// behind it.
    fn enqueue(&mut self, block: CapturedBlock) {
        let at = self.pending.iter().position(|waiting| !matches!(waiting, Captured::Block(_)));
        self.pending.insert(at.unwrap_or(self.pending.len()), Captured::Block(Box::new(block)));
    }

    /// What is next, if it is a block.
    fn queue(&mut self, block: Option<CapturedBlock>) -> Option<Captured> {
        if let Some(block) = block {
            self.enqueue(block);
        }
        match self.pending.front() {
            Some(Captured::Block(_)) => self.pending.pop_front(),
            _ => None,
        }
    }

    /// Sends the transaction's tables again, because what of their rows stayed is not in the log.
    fn again(&mut self, transaction: &Transaction) {
        for name in
            transaction.touched.iter().filter(|(_, transactional)| **transactional).map(|(name, _)| name)
        {
            self.renewed.insert(name.clone());
            self.reload = true;
        }
    }

    /// Rows of tables that take part in transactions are undone, those of others stay.
    fn rollback(&mut self) -> Result<Option<Captured>, MysqlError> {
        let mut group = self.group()?;
        self.executed(&group.id);
        let undone = group.transaction.touched.values().filter(|transactional| **transactional).count();
        if undone == group.transaction.touched.len() && group.transaction.parts == 0 {
            return Ok(None);
        }
        if undone > 0 {
            self.again(&group.transaction);
        }
        let resume = self.resume();
        group.held.clear();
        Ok(self.queue(group.transaction.commit(resume)))
    }

    fn prepare(&mut self) -> Result<Option<Captured>, MysqlError> {
        let mut group = self.group()?;
        let Kind::Xa(id) = group.kind.clone() else {
            return Err(self.broken("an XA transaction is prepared that did not begin"));
        };
        self.executed(&group.id);
        let resume = self.resume();
        let last = group.transaction.commit(resume);
        let bytes = group.held_bytes + last.as_ref().map_or(0, |block| block.block.body.len());
        group.held.extend(last);
        let all: usize = self.prepared.iter().map(|prepared| prepared.bytes).sum();
        if all + bytes > MAX_PREPARED_BYTES {
            return Err(self.broken("prepared XA transactions hold more than 256 MiB of rows"));
        }
        self.prepared.push(Prepared { before: group.before, id, parts: group.held, bytes });
        Ok(None)
    }

    fn decide(&mut self, id: &str, commit: bool) -> Result<Option<Captured>, MysqlError> {
        let group = self.group()?;
        self.executed(&group.id);
        let Some(at) = self.prepared.iter().position(|prepared| prepared.id == id) else {
            if !commit {
                return Ok(None);
            }
            return Err(self.broken(
                "an XA transaction is committed whose rows lie before the point from which we read",
            ));
        };
        let prepared = self.prepared.remove(at);
        if !commit {
            return Ok(None);
        }
        // Only now is it known where the rows stand.
        let resume = self.resume();
        let base = group.transaction.base();
        for mut part in prepared.parts {
            part.token = group.transaction.token;
            let head = &mut part.block.head;
            (head.first, head.last) =
                (base.with_ordinal(head.first.ordinal), base.with_ordinal(head.last.ordinal));
            if part.block.ends {
                part.block.resume = Some(resume.clone());
            }
            part.changed.retain(|changed| self.watched.contains(&changed.table));
            self.enqueue(part);
        }
        Ok(self.queue(None))
    }

    fn statement(&mut self, read: &Read, event: u8) -> Result<Option<Captured>, MysqlError> {
        let set = |group: &mut Option<super::group::Group>, kind: Kind| {
            if let Some(group) = group {
                group.transaction.note_all |= matches!(kind, Kind::Xa(_));
                group.kind = kind;
            }
        };
        match &read.statement {
            Statement::Begin => set(&mut self.group, Kind::Transaction),
            Statement::Commit => return self.commit(),
            Statement::Rollback => return self.rollback(),
            Statement::RollbackTo => {
                if let Some(group) = &mut self.group {
                    group.undone = true;
                }
            }
            Statement::XaStart(id) => set(&mut self.group, Kind::Xa(id.clone())),
            Statement::XaCommit { one_phase: true, .. } => return self.commit(),
            Statement::XaCommit { id, .. } => return self.decide(id, true),
            Statement::XaRollback(id) => return self.decide(id, false),
            Statement::Rows(verb) => self.refuse_rows(read, verb)?,
            Statement::Truncate => self.truncate(read)?,
            Statement::Schema => self.schema(read),
            Statement::Other if event == kind::EXECUTE_LOAD_QUERY => self.refuse_rows(read, "LOAD")?,
            Statement::Other => {}
        }
        let ends =
            self.group.as_ref().is_some_and(|group| matches!(group.kind, Kind::Standalone | Kind::Unknown));
        let begins = matches!(read.statement, Statement::Begin | Statement::XaStart(_));
        if ends && !begins { self.commit() } else { Ok(None) }
    }

    fn captured_in(&self, read: &Read) -> Vec<TableName> {
        read.names().into_iter().filter(|name| self.lower.contains(&lower(name))).collect()
    }

    fn refuse_rows(&self, read: &Read, verb: &str) -> Result<(), MysqlError> {
        match self.captured_in(read).into_iter().next() {
            None => Ok(()),
            Some(table) => Err(MysqlError::Statement { at: self.place(), table, verb: verb.to_owned() }),
        }
    }

    fn truncate(&mut self, read: &Read) -> Result<(), MysqlError> {
        let named = self.captured_in(read);
        let Some(name) = named.first() else { return Ok(()) };
        let known = self.catalog.tables.values().find(|table| lower(&table.def.name) == lower(name));
        let def = match known {
            Some(table) => Some((table.def.clone(), table.transactional)),
            // It was renamed or dropped since.
            None => self.options.state.shapes(name)?.into_iter().next().map(|def| (def, true)),
        };
        let Some((def, transactional)) = def else { return Ok(()) };
        let watched = self.is_watched(&def.name);
        let shape = Shape::new(def, vec![], transactional, false);
        let mut group = self.group()?;
        group.transaction.truncate(&shape, watched);
        self.group = Some(group);
        Ok(())
    }

    /// Names or shapes of tables may have changed, or rows without being logged.
    fn schema(&mut self, read: &Read) {
        self.reload = true;
        // By the names that table maps have, too: a statement may write them in another case.
        let mut named = self.captured_in(read);
        let lowered: Vec<_> = named.iter().map(lower).collect();
        let known = self.catalog.tables.keys().filter(|known| lowered.contains(&lower(known)));
        named.extend(known.cloned());
        if read.has_word(&["ALTER", "INDEX", "RENAME", "REPLACE"]) {
            named.iter().for_each(|table| self.doubts.alter(table.clone()));
        }
        self.unsettled.extend(named);
        // Another table under the name of a captured one, or rows that come and go with their files.
        let unlogged = [
            "RENAME",
            "DROP",
            "REPLACE",
            "PARTITION",
            "TABLESPACE",
            "IMPORT",
            "DISCARD",
            "EXCHANGE",
            "CONVERT",
        ];
        let others = ["VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT"];
        if read.has_word(&unlogged) && !read.has_word(&others) && !read.is_about_an_index() {
            for name in self.captured_in(read) {
                let known = self.sent.keys().find(|known| lower(known) == lower(&name)).cloned();
                // `DROP COLUMN` and the like are seen by their columns.
                let drops_part = read.has_word(&["ALTER"])
                    && !read.has_word(&["RENAME", "PARTITION", "TABLESPACE", "EXCHANGE", "CONVERT"]);
                let only_names = read.has_word(&["ALTER"])
                    && read.has_word(&["RENAME"])
                    && read.has_word(&["COLUMN", "INDEX", "KEY"]);
                if let Some(known) = known.filter(|_| !drops_part && !only_names) {
                    self.renewed.insert(known);
                }
            }
        }
    }

    fn table_map(&mut self, event: LogEvent) -> Result<(), MysqlError> {
        let data = event.data();
        let broken = |broken: Broken| self.broken(broken.0);
        let id = Bytes(data).uint(6).map_err(broken)?;
        let (_, name, _) = table_map::head(data).map_err(broken)?;
        let doubtful = self.doubts.has(&name, Offset { file: self.log.number, at: event.start });
        let same_key =
            |shape: &Option<Arc<Shape>>| shape.as_ref().is_none_or(|shape| shape.doubtful == doubtful);
        if self.maps.get(&id).is_some_and(|known| known.raw == data && same_key(&known.shape)) {
            return Ok(());
        }
        if !self.options.tables.matches(&name) || is_system(&name) {
            self.maps.insert(id, Mapped { raw: data.to_vec(), shape: None });
            return Ok(());
        }
        let mariadb = self.server.is_mariadb();
        let map = table_map::parse(data, mariadb).map_err(broken)?;
        if !map.named {
            return Err(MysqlError::NoMetadata { table: name });
        }
        let now = self.catalog.tables.get(&name);
        if mariadb && now.is_none() && is_sequence(&map) {
            self.maps.insert(id, Mapped { raw: data.to_vec(), shape: None });
            return Ok(());
        }
        let transactional = now.is_none_or(|table| table.transactional);
        let found =
            now.and_then(|table| Some((table.def.clone(), shape::fits(&map, &table.def, &self.collations)?)));
        if found.is_none() && !self.asked {
            // The catalog may be older than the log; ask once.
            self.asked = true;
            self.ask_table(name);
            self.held = Some(event);
            return Ok(());
        }
        self.asked = false;
        let (def, decode) = match found {
            Some(found) => found,
            None => {
                let history = self.options.state.shapes(&name)?;
                let fitting = history
                    .iter()
                    .find_map(|def| Some((def.clone(), shape::fits(&map, def, &self.collations)?)));
                match fitting {
                    Some(fitting) => fitting,
                    None => {
                        let known: Vec<_> = now.map(|table| &table.def).into_iter().chain(&history).collect();
                        let assembled = shape::assemble(&map, &known, &self.collations, mariadb);
                        let assembled = assembled.map_err(|what| MysqlError::Shape {
                            table: name.clone(),
                            at: self.place(),
                            what,
                        })?;
                        tracing::info!(table = %name, "rows have a shape that the table has no more");
                        assembled
                    }
                }
            }
        };
        self.has_columns(&def);
        let old_rows = self.options.old_rows.of_table(&def.name);
        let shape = match doubtful {
            true => Shape::doubtful(def, decode, transactional, old_rows, map.primary.is_empty()),
            false => Shape::new(def, decode, transactional, old_rows),
        };
        let shape = Arc::new(shape);
        self.maps.insert(id, Mapped { raw: event.data().to_vec(), shape: Some(shape) });
        Ok(())
    }

    fn rows(&mut self, event: LogEvent) -> Result<Option<Captured>, MysqlError> {
        let broken = |broken: Broken| self.broken(broken.0);
        let id = rows::table_of(event.data()).map_err(broken)?;
        let Some(mapped) = self.maps.get(&id) else {
            return Err(self.broken("rows of a table that was not announced"));
        };
        let Some(shape) = mapped.shape.clone() else {
            let mut group = self.group()?;
            group.transaction.pass();
            self.group = Some(group);
            return Ok(None);
        };
        let parsed = rows::parse(event.kind, event.data()).map_err(broken)?;
        let shape = shape.told_by(&parsed.before);
        if shape.foreign {
            let looked = transaction::look(&parsed, &shape, &mut self.converted);
            looked.map_err(|error| self.row_error(error, &shape))?;
            if !self.converted.missing.is_empty() {
                drop(parsed);
                self.held = Some(event);
                self.ask_texts();
                return Ok(None);
            }
        }
        let watched = self.is_watched(&shape.def.name);
        let mut group = self.group()?;
        let taken = group.transaction.rows(&parsed, &shape, watched, &mut self.converted);
        taken.map_err(|error| self.row_error(error, &shape))?;
        let mut part = None;
        if group.transaction.is_full() {
            let full = group.transaction.part();
            if matches!(group.kind, Kind::Xa(_)) {
                group.held_bytes += full.block.body.len();
                group.held.push(full);
                if group.held_bytes > MAX_PREPARED_BYTES {
                    return Err(self.broken("a prepared XA transaction holds more than 256 MiB of rows"));
                }
            } else {
                part = Some(Captured::Block(Box::new(full)));
            }
        }
        self.group = Some(group);
        Ok(part)
    }

    fn row_error(&self, error: RowError, shape: &Shape) -> MysqlError {
        match error {
            RowError::Broken(broken) => self.broken(broken.0),
            RowError::Value(at, broken) => MysqlError::Value {
                table: shape.def.name.clone(),
                column: shape.def.columns.get(at).map(|column| column.name.clone()).unwrap_or_default(),
                at: self.place(),
                what: broken.0.to_owned(),
            },
        }
    }
}

/// An XA transaction's id as servers write it into statements.
pub(super) fn xid(bytes: &mut Bytes<'_>) -> Result<String, Broken> {
    let format = bytes.u32()?;
    let (global, branch) = (usize::from(bytes.u8()?), usize::from(bytes.u8()?));
    let mut hex = |length| -> Result<String, Broken> {
        Ok(bytes.take(length)?.iter().map(|byte| format!("{byte:02X}")).collect())
    };
    Ok(format!("X'{}',X'{}',{}", hex(global)?, hex(branch)?, format as i32))
}

/// A sequence of MariaDB is logged as a table of one row.
fn is_sequence(map: &TableMap) -> bool {
    const COLUMNS: [&str; 8] = [
        "next_not_cached_value",
        "minimum_value",
        "maximum_value",
        "start_value",
        "increment",
        "cache_size",
        "cycle_option",
        "cycle_count",
    ];
    map.columns.iter().map(|column| column.name.as_str()).eq(COLUMNS)
}

fn is_system(name: &TableName) -> bool {
    let database = name.schema.as_deref().unwrap_or_default();
    super::catalog::SYSTEM_DATABASES.iter().any(|system| database.eq_ignore_ascii_case(system))
}
