//! Chunks of MySQL and MariaDB tables.
//!
//! A keyed chunk is one short transaction: a consistent snapshot whose contents are known ([`moment`]), then the rows of a
//! key range in the order of the key's index. A keyless table is one query whose rows are taken as they are wanted, on a
//! connection that waits meanwhile. While a read is open, the server holds back changes of the table's definition.

mod form;
mod moment;
mod range;

use futures_util::TryStreamExt as _;
use mysql_async::prelude::{Query as _, Queryable as _};
use mysql_async::{Conn, Error, ResultSetStream, Row, TextProtocol, Value};
use rowbridge_schema::sql::{backticked, backticked_table};
use rowbridge_schema::wire::KeyRange;
use rowbridge_schema::{Offset, TableDef, TableName, TablePatterns};

use self::form::Form;
use self::moment::Way;
use super::{Cells, ChunkRead, Containment, SnapshotReader, Unlogged};
use crate::capture::Key;
use crate::capture::mysql::MysqlError;
use crate::capture::mysql::cascade;
use crate::capture::mysql::catalog::{self, Catalog, CatalogTable};
use crate::capture::mysql::client::{Connector, Session};

/// Rows of the first fetch of a table; the next ones follow the size of the rows seen.
const FIRST_FETCH: usize = 64;
/// Most rows of one chunk.
const MAX_FETCH: usize = 20_000;
/// How often a read begins anew because the table's definition changed under it.
const MAX_TRIES: usize = 5;

/// Table definition has changed, please retry transaction.
const ER_TABLE_DEF_CHANGED: u16 = 1412;

/// Reads chunks on a connection of its own; on a second one it locks tables, where that is needed.
pub struct MysqlSnapshot {
    connector: Connector,
    patterns: TablePatterns,
    /// A session that is in order. It is taken out for a read and only put back when that went well, so that whatever a
    /// failed or forgotten read leaves open is gone with its session.
    session: Option<Session>,
    locker: Option<Session>,
    /// The keyless table whose rows are being taken.
    open: Option<OpenRead>,
    /// Bytes of a row of the table that was read last.
    row_bytes: Option<(TableName, usize)>,
}

struct OpenRead {
    table: CatalogTable,
    containment: Containment,
    after: Offset,
    unlogged: Unlogged,
    rows: ResultSetStream<'static, 'static, 'static, Row, TextProtocol>,
}

/// What a read of keys came upon.
enum Read {
    Chunk(Box<ChunkRead>),
    /// The table has no key.
    Keyless,
    Gone,
}

/// Rows to read.
enum Wanted<'a> {
    Above(Option<&'a Key>, usize),
    Keys(&'a [Key]),
}

impl MysqlSnapshot {
    /// A reader; connects when first used.
    #[must_use]
    pub fn new(connector: Connector, patterns: TablePatterns) -> Self {
        Self { connector, patterns, session: None, locker: None, open: None, row_bytes: None }
    }

    /// A session in order, to be put back after use.
    async fn session(&mut self) -> Result<Session, MysqlError> {
        // A connection that was idle for long may be gone without either side knowing.
        if let Some(mut session) = self.session.take()
            && session.conn.ping().await.is_ok()
        {
            return Ok(session);
        }
        connect(&self.connector).await
    }

    /// Sees to the second connection.
    async fn ready_locker(&mut self) -> Result<(), MysqlError> {
        if let Some(locker) = &mut self.locker
            && locker.conn.ping().await.is_ok()
        {
            return Ok(());
        }
        self.locker = None;
        self.locker = Some(connect(&self.connector).await?);
        Ok(())
    }

    async fn read_keyed(&mut self, name: &TableName, wanted: &Wanted<'_>) -> Result<Read, MysqlError> {
        let mut tries = 1;
        loop {
            let mut session = self.session().await?;
            match self.try_keyed(&mut session, name, wanted).await {
                Ok(None) if tries < MAX_TRIES => tries += 1,
                Ok(None) => {
                    return Err(MysqlError::Lost {
                        what: "a table was altered again and again while its rows were read",
                    });
                }
                Ok(Some(read)) => {
                    self.session = Some(session);
                    return Ok(read);
                }
                Err(MysqlError::Query { source: Error::Server(error), .. })
                    if error.code == ER_TABLE_DEF_CHANGED && tries < MAX_TRIES =>
                {
                    tries += 1;
                    self.locker = None;
                }
                Err(error) => {
                    self.locker = None;
                    return Err(error);
                }
            }
        }
    }

    /// `None` if its foreign keys were altered between two looks.
    async fn try_keyed(
        &mut self,
        session: &mut Session,
        name: &TableName,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Read>, MysqlError> {
        let unlogged = cascade::unlogged(&mut session.conn, &session.server, name).await?;
        let way = moment::way(session, !unlogged.ancestors.is_empty()).await?;
        if way == Way::Locked {
            self.ready_locker().await?;
        }
        let Some(containment) = moment::begin(session, way, &mut self.locker, name).await? else {
            return Ok(Some(Read::Gone));
        };
        let Some(table) = hold(session, &self.patterns, name).await? else {
            moment::end_snapshot(&mut session.conn).await?;
            return Ok(Some(Read::Gone));
        };
        if table.def.key.is_empty() {
            moment::end_snapshot(&mut session.conn).await?;
            return Ok(Some(Read::Keyless));
        }
        if cascade::unlogged(&mut session.conn, &session.server, name).await? != unlogged {
            return Ok(None);
        }
        let (range, cells, done) = match wanted {
            Wanted::Keys(keys) => {
                let sql = select(&table, &format!(" WHERE {}", range::any_of(&table.def, keys)), "");
                let mut rows = Rows::new(&table, usize::MAX);
                rows.take(session, &sql).await?;
                (KeyRange::default(), rows.cells, true)
            }
            Wanted::Above(after, max_bytes) => {
                let (cells, upto) = self.above(session, &table, *after, *max_bytes).await?;
                let done = upto.is_none();
                (KeyRange { after: after.cloned(), upto }, cells, done)
            }
        };
        moment::end_snapshot(&mut session.conn).await?;
        let after = moment::log_end(&mut session.conn, &session.server).await?;
        let portable_order = range::is_portable(&table.def);
        let table = table.def;
        Ok(Some(Read::Chunk(Box::new(ChunkRead {
            table,
            cells,
            range,
            portable_order,
            done,
            containment,
            after,
            unlogged,
        }))))
    }

    /// Rows above a key until about `max_bytes` of text are there, and the last one's key unless the table ends.
    async fn above(
        &mut self,
        session: &mut Session,
        table: &CatalogTable,
        after: Option<&Key>,
        max_bytes: usize,
    ) -> Result<(Cells, Option<Key>), MysqlError> {
        let def = &table.def;
        let index = index_of(&mut session.conn, def).await?;
        let hint = index.map_or(String::new(), |name| format!(" FORCE INDEX ({})", backticked(&name)));
        let known = self.row_bytes.take().filter(|(name, _)| *name == def.name).map(|(_, bytes)| bytes);
        let mut want = known.map_or(FIRST_FETCH, |bytes| (max_bytes / bytes.max(8)).clamp(1, MAX_FETCH));
        let mut rows = Rows::new(table, max_bytes.saturating_mul(2));
        if let Some(bytes) = known {
            rows.cells.expect(want, bytes);
        }
        let mut last = after.cloned();
        let done = loop {
            let condition =
                last.as_ref().map_or(String::new(), |key| format!(" WHERE {}", range::above(def, key)));
            let order = format!(" ORDER BY {} LIMIT {want}", range::key_list(def));
            let got = rows.take(session, &select(table, &format!("{hint}{condition}"), &order)).await?;
            if rows.cut {
                break false;
            }
            if got < want {
                break true;
            }
            let bytes = rows.cells.text_bytes();
            if bytes >= max_bytes || rows.count >= MAX_FETCH {
                break false;
            }
            last = last_key(def, &rows.cells);
            let average = (bytes / rows.count.max(1)).max(8);
            want = ((max_bytes - bytes) / average).clamp(1, (MAX_FETCH - rows.count).max(1));
            rows.cells.expect(want, average);
        };
        self.row_bytes = Some((def.name.clone(), rows.cells.text_bytes() / rows.count.max(1)));
        if done {
            return Ok((rows.cells, None));
        }
        let mut cells = rows.cells;
        while let Some(key) = last_key(def, &cells) {
            if range::is_exact(def) || self::is_found(session, def, &key).await? {
                return Ok((cells, Some(key)));
            }
            cells.truncate(cells.len() - 1);
        }
        Err(MysqlError::KeyLost { table: def.name.clone() })
    }

    async fn read_keyless(
        &mut self,
        name: &TableName,
        first: bool,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, MysqlError> {
        if first {
            self.open = None;
            let session = self.session().await?;
            match self.open_keyless(session, name).await {
                Ok(None) => return Ok(None),
                Ok(Some(open)) => self.open = Some(open),
                Err(error) => {
                    self.locker = None;
                    return Err(error);
                }
            }
        }
        let Some(mut open) = self.open.take() else {
            return Err(MysqlError::Interrupted {
                what: "the session of a table without key was lost; the table starts over",
            });
        };
        let mut rows = Rows::new(&open.table, usize::MAX);
        let mut done = true;
        while let Some(row) = open.rows.try_next().await.map_err(MysqlError::query("read a snapshot"))? {
            rows.add(row)?;
            if rows.cells.text_bytes() >= max_bytes || rows.count >= MAX_FETCH {
                done = false;
                break;
            }
        }
        let (cells, table) = (rows.cells, open.table.def.clone());
        let (containment, after, unlogged) = (open.containment.clone(), open.after, open.unlogged.clone());
        if !done {
            self.open = Some(open);
        }
        let (range, portable_order) = (KeyRange::default(), false);
        Ok(Some(ChunkRead { table, cells, range, portable_order, done, containment, after, unlogged }))
    }

    /// Opens the query of a table without key. Its connection goes with it.
    async fn open_keyless(
        &mut self,
        mut session: Session,
        name: &TableName,
    ) -> Result<Option<OpenRead>, MysqlError> {
        let found = catalog::load_one(&mut session.conn, &session.server, &self.patterns, name).await?;
        let Some(found) = found else {
            self.session = Some(session);
            return Ok(None);
        };
        let containment = if found.transactional {
            let way = moment::way(&mut session, true).await?;
            if way == Way::Locked {
                self.ready_locker().await?;
            }
            moment::begin(&mut session, way, &mut self.locker, name).await?
        } else if moment::lock(&mut session, name).await? {
            // Its engine knows no snapshots: the lock stays until all rows are read.
            Some(moment::contained(&mut session).await?)
        } else {
            None
        };
        let Some(containment) = containment else { return Ok(None) };
        let Some(table) = hold(&mut session, &self.patterns, name).await? else { return Ok(None) };
        if table.transactional != found.transactional {
            return Err(MysqlError::Interrupted {
                what: "the table's engine was changed; the table starts over",
            });
        }
        let unlogged = cascade::unlogged(&mut session.conn, &session.server, name).await?;
        let after = moment::log_end(&mut session.conn, &session.server).await?;
        let rows = select(&table, "", "").stream::<Row, Conn>(session.conn).await;
        let rows = rows.map_err(MysqlError::query("read a snapshot"))?;
        Ok(Some(OpenRead { table, containment, after, unlogged, rows }))
    }
}

async fn connect(connector: &Connector) -> Result<Session, MysqlError> {
    let mut session = connector.connect().await?;
    session
        .conn
        .query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .await
        .map_err(MysqlError::query("set up a session"))?;
    Ok(session)
}

/// The table as it is and stays until the transaction ends: having looked at it keeps others from changing it.
async fn hold(
    session: &mut Session,
    patterns: &TablePatterns,
    name: &TableName,
) -> Result<Option<CatalogTable>, MysqlError> {
    let sql = format!("SELECT 1 FROM {} LIMIT 0", backticked_table(name));
    match session.conn.query_drop(sql).await {
        Err(Error::Server(error)) if moment::GONE.contains(&error.code) => return Ok(None),
        held => held.map_err(MysqlError::query("read a snapshot"))?,
    }
    catalog::look_at(&mut session.conn, &session.server, patterns, name).await
}

/// Rows as cells.
struct Rows<'a> {
    table: &'a TableDef,
    /// Column and form of each cell of a row.
    forms: Vec<(u16, Form)>,
    cells: Cells,
    count: usize,
    /// Bytes beyond which rows are left for the next chunk.
    limit: usize,
    /// Rows were left.
    cut: bool,
}

impl<'a> Rows<'a> {
    fn new(table: &'a CatalogTable, limit: usize) -> Self {
        let def = &table.def;
        let sent = def.sent_columns();
        let cells = Cells::new(sent.len());
        let forms = sent.iter().map(|&at| (at, Form::of(&def.columns[usize::from(at)]))).collect();
        Self { table: def, forms, cells, count: 0, limit, cut: false }
    }

    /// Runs a query and takes its rows; how many there were.
    async fn take(&mut self, session: &mut Session, sql: &str) -> Result<usize, MysqlError> {
        let failed = || MysqlError::query("read a snapshot");
        let mut rows = session.conn.query_iter(sql).await.map_err(failed())?;
        let mut got = 0;
        while let Some(row) = rows.next().await.map_err(failed())? {
            got += 1;
            if self.cells.text_bytes() >= self.limit {
                self.cut = true;
            } else {
                self.add(row)?;
            }
        }
        Ok(got)
    }

    fn add(&mut self, row: Row) -> Result<(), MysqlError> {
        self.count += 1;
        for (value, (column, form)) in row.unwrap().into_iter().zip(&self.forms) {
            match value {
                Value::NULL => self.cells.push_null(),
                Value::Bytes(bytes) => self
                    .cells
                    .push_written(|out| form.write(&bytes, out))
                    .map_err(|what| self.unreadable(*column, what))?,
                _ => return Err(self.unreadable(*column, "it came in a form that was not asked for")),
            }
        }
        Ok(())
    }

    fn unreadable(&self, column: u16, what: &'static str) -> MysqlError {
        let column = self.table.columns[usize::from(column)].name.clone();
        MysqlError::Cell { table: self.table.name.clone(), column, what }
    }
}

fn select(table: &CatalogTable, condition: &str, order: &str) -> String {
    let def = &table.def;
    let column = |at: u16| {
        let column = &def.columns[usize::from(at)];
        Form::of(column).selected(column)
    };
    let mut columns: Vec<String> = def.sent_columns().into_iter().map(column).collect();
    if columns.is_empty() {
        // A table of generated columns only has rows, too.
        columns.push("NULL".to_owned());
    }
    format!("SELECT {} FROM {}{condition}{order}", columns.join(", "), backticked_table(&def.name))
}

/// The index that the key is taken from: without being told, a server may sort a shorter index instead.
async fn index_of(conn: &mut Conn, def: &TableDef) -> Result<Option<String>, MysqlError> {
    let parts: Vec<(String, Option<String>)> = conn
        .exec(
            "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS
             WHERE NON_UNIQUE = 0 AND SUB_PART IS NULL AND TABLE_SCHEMA = ? AND TABLE_NAME = ?
             ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
            (def.name.schema.as_deref().unwrap_or_default(), &def.name.name),
        )
        .await
        .map_err(MysqlError::query("read the catalog"))?;
    let key: Vec<&str> = def.key.iter().map(|&at| def.columns[usize::from(at)].name.as_str()).collect();
    let indexes = parts.chunk_by(|one, other| one.0 == other.0);
    let same = |index: &&[(String, Option<String>)]| {
        let names = index.iter().map(|(_, column)| column.as_deref().unwrap_or_default());
        names.eq(key.iter().copied())
    };
    Ok(indexes.into_iter().find(same).map(|index| index[0].0.clone()))
}

/// Whether the key's text leads to exactly one row: a charset may have several codes for one character.
async fn is_found(session: &mut Session, def: &TableDef, key: &Key) -> Result<bool, MysqlError> {
    let condition = range::any_of(def, std::slice::from_ref(key));
    let sql = format!("SELECT COUNT(*) FROM {} WHERE {condition}", backticked_table(&def.name));
    let count: Option<u64> =
        session.conn.query_first(sql).await.map_err(MysqlError::query("read a snapshot"))?;
    Ok(count == Some(1))
}

fn last_key(def: &TableDef, cells: &Cells) -> Option<Key> {
    let sent = def.sent_columns();
    let row = cells.last()?;
    let text = |key: &u16| {
        let at = sent.iter().position(|column| column == key)?;
        row.text(at).map(str::to_owned)
    };
    def.key.iter().map(text).collect()
}

impl SnapshotReader for MysqlSnapshot {
    type Error = MysqlError;

    async fn tables(&mut self) -> Result<Vec<TableDef>, MysqlError> {
        let mut session = self.session().await?;
        let known = Catalog::default();
        let catalog = catalog::load(&mut session.conn, &session.server, &self.patterns, &known).await?;
        self.session = Some(session);
        let mut tables: Vec<TableDef> = catalog.tables.into_values().map(|table| table.def).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn settle(&mut self) -> Result<(), MysqlError> {
        let mut session = self.session().await?;
        moment::settle(&mut session).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn read_chunk(
        &mut self,
        table: &TableName,
        after: Option<&Key>,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, MysqlError> {
        if after.is_none() || self.open.as_ref().is_none_or(|open| open.table.def.name != *table) {
            self.open = None;
            match self.read_keyed(table, &Wanted::Above(after, max_bytes)).await? {
                Read::Chunk(chunk) => return Ok(Some(*chunk)),
                Read::Gone => return Ok(None),
                Read::Keyless => {}
            }
        }
        self.read_keyless(table, after.is_none(), max_bytes).await
    }

    async fn read_keys(&mut self, table: &TableName, keys: &[Key]) -> Result<Option<ChunkRead>, MysqlError> {
        match self.read_keyed(table, &Wanted::Keys(keys)).await? {
            Read::Chunk(chunk) => Ok(Some(*chunk)),
            Read::Gone => Ok(None),
            Read::Keyless => {
                Err(MysqlError::Interrupted { what: "the table's key is gone; the table starts over" })
            }
        }
    }
}
