//! Chunks of PostgreSQL tables.
//!
//! A keyed chunk is one short transaction: `pg_current_snapshot()` and the rows of a key range under the same snapshot,
//! then the log position after the read. A keyless table is read in one transaction that stays open between calls.
//! Rows come through the simple protocol, whose values are the output functions' text, as in the replication stream.

use std::pin::pin;

use futures_util::TryStreamExt;
use rowbridge_schema::sql::{ident, literal, qualified};
use rowbridge_schema::wire::KeyRange;
use rowbridge_schema::{Offset, TableDef, TableName, TablePatterns};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Cells, ChunkRead, Containment, SnapshotReader, Unlogged};
use crate::capture::Key;
use crate::capture::postgres::PostgresError;
use crate::capture::postgres::catalog::{self, CatalogTable};
use crate::capture::postgres::client::Connector;
use crate::capture::postgres::walsender::parse_lsn;

/// Rows of the first fetch of a chunk; the next ones follow the size of the rows seen.
const FIRST_FETCH: usize = 64;
/// Most rows of one fetch.
const MAX_FETCH: usize = 20_000;

/// Types whose order is the same on every server: no collation, no locale.
const PORTABLE: &[&str] =
    &["smallint", "integer", "bigint", "oid", "uuid", "boolean", "date", "bytea", "real", "double precision"];

/// Reads chunks on a connection of its own.
pub struct PostgresSnapshot {
    connector: Connector,
    patterns: TablePatterns,
    client: Option<Client>,
    /// The keyless table whose transaction is open.
    open: Option<OpenRead>,
    /// A transaction was begun and its end was not seen.
    begun: bool,
}

struct OpenRead {
    table: CatalogTable,
    containment: Containment,
    after: Offset,
}

impl PostgresSnapshot {
    /// A reader; connects when first used.
    #[must_use]
    pub fn new(connector: Connector, patterns: TablePatterns) -> Self {
        Self { connector, patterns, client: None, open: None, begun: false }
    }

    /// A usable session without an open transaction of ours.
    async fn client(&mut self) -> Result<&Client, PostgresError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.open = None;
            self.begun = false;
            self.client = Some(self.connector.connect("snapshot").await?);
        }
        self.client.as_ref().ok_or(PostgresError::Stream { what: "no session" })
    }

    async fn table(&mut self, name: &TableName) -> Result<Option<CatalogTable>, PostgresError> {
        let patterns = self.patterns.clone();
        let client = self.client().await?;
        Ok(catalog::load(client, &patterns, Some(name)).await?.tables.remove(name))
    }

    /// Opens the transaction, the cursor and the snapshot; returns which transactions it contains.
    async fn begin(&mut self, select: &str) -> Result<Containment, PostgresError> {
        // A ROLLBACK too many would put a warning into the server's log for every chunk.
        let left_open = std::mem::replace(&mut self.begun, true);
        let client = self.client().await?;
        let failed = |source| PostgresError::query("read a snapshot", source);
        if left_open {
            client.batch_execute("ROLLBACK").await.map_err(failed)?;
        }
        client
            .batch_execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
            .map_err(failed)?;
        let row = client
            .query_one(
                "SELECT pg_catalog.pg_snapshot_xmin(s)::text, pg_catalog.pg_snapshot_xmax(s)::text,
                        pg_catalog.array(SELECT pg_catalog.pg_snapshot_xip(s)::text)
                 FROM (SELECT pg_catalog.pg_current_snapshot() AS s) x"
                    .replace("pg_catalog.array(", "ARRAY(")
                    .as_str(),
                &[],
            )
            .await
            .map_err(failed)?;
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let in_progress: Vec<String> = row.try_get(2).map_err(failed)?;
        let containment = Containment::Xids {
            xmin: number(&row.try_get::<_, String>(0).map_err(failed)?),
            xmax: number(&row.try_get::<_, String>(1).map_err(failed)?),
            in_progress: in_progress.iter().map(|xid| number(xid)).collect(),
        };
        client
            .batch_execute(&format!("DECLARE rowbridge_chunk NO SCROLL CURSOR FOR {select}"))
            .await
            .map_err(failed)?;
        Ok(containment)
    }

    /// Fetches rows until about `max_bytes` of text are there; the flag says that the cursor has no more.
    async fn fetch(&mut self, width: usize, max_bytes: usize) -> Result<(Cells, bool), PostgresError> {
        let failed = |source| PostgresError::query("read a snapshot", source);
        let client = self.client().await?;
        let mut cells = Cells::new(width);
        let (mut rows, mut want) = (0usize, FIRST_FETCH);
        loop {
            let sql = format!("FETCH FORWARD {want} FROM rowbridge_chunk");
            let mut stream = pin!(client.simple_query_raw(&sql).await.map_err(failed)?);
            let mut got = 0;
            while let Some(message) = stream.try_next().await.map_err(failed)? {
                let SimpleQueryMessage::Row(row) = message else { continue };
                got += 1;
                for index in 0..width {
                    match row.try_get(index).map_err(failed)? {
                        Some(text) => cells.push_text(text),
                        None => cells.push_null(),
                    }
                }
            }
            rows += got;
            let bytes = cells.text_bytes();
            if got < want {
                return Ok((cells, true));
            }
            if bytes >= max_bytes || rows >= MAX_FETCH {
                return Ok((cells, false));
            }
            let average = (bytes / rows.max(1)).max(8);
            want = ((max_bytes - bytes) / average).clamp(1, (MAX_FETCH - rows).max(1));
            cells.expect(want, average);
        }
    }

    /// A log position that every transaction in the snapshot lies below.
    async fn after(&mut self) -> Result<Offset, PostgresError> {
        let failed = |source| PostgresError::query("read the end of the log", source);
        let client = self.client().await?;
        let row = client
            .query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[])
            .await
            .map_err(failed)?;
        let text: String = row.try_get(0).map_err(failed)?;
        Ok(Offset { file: 0, at: parse_lsn(&text).unwrap_or(u64::MAX) })
    }

    async fn end(&mut self) -> Result<(), PostgresError> {
        self.open = None;
        let client = self.client().await?;
        client
            .batch_execute("COMMIT")
            .await
            .map_err(|source| PostgresError::query("end a snapshot", source))?;
        self.begun = false;
        Ok(())
    }

    async fn read_keyless(
        &mut self,
        name: &TableName,
        first: bool,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, PostgresError> {
        if first {
            let Some(table) = self.table(name).await? else { return Ok(None) };
            let select = select(&table, "", "");
            let containment = self.begin(&select).await?;
            let after = self.after().await?;
            self.open = Some(OpenRead { table, containment, after });
        }
        self.client().await?;
        let Some(OpenRead { table, containment, after }) = self.open.as_ref().map(|open| OpenRead {
            table: open.table.clone(),
            containment: open.containment.clone(),
            after: open.after,
        }) else {
            return Err(PostgresError::Stream {
                what: "the session of a keyless snapshot was lost; it starts over",
            });
        };
        let (cells, done) = self.fetch(table.def.sent_columns().len(), max_bytes).await?;
        if done {
            self.end().await?;
        }
        Ok(Some(ChunkRead {
            table: table.def,
            cells,
            range: KeyRange::default(),
            portable_order: false,
            done,
            containment,
            after,
            unlogged: Unlogged::default(),
        }))
    }

    async fn read_keyed(
        &mut self,
        table: CatalogTable,
        condition: &str,
        bounded: bool,
        after_key: Option<&Key>,
        max_bytes: usize,
    ) -> Result<ChunkRead, PostgresError> {
        let order = format!(" ORDER BY {}", key_list(&table.def));
        let containment = self.begin(&select(&table, condition, if bounded { "" } else { &order })).await?;
        let sent = table.def.sent_columns();
        let (cells, done) = self.fetch(sent.len(), if bounded { usize::MAX } else { max_bytes }).await?;
        self.end().await?;
        let after = self.after().await?;
        let upto = if done || bounded { None } else { last_key(&table.def, &sent, &cells) };
        let portable_order = table
            .def
            .key
            .iter()
            .all(|&k| PORTABLE.contains(&table.def.columns[usize::from(k)].type_name.as_str()));
        let range = KeyRange { after: after_key.cloned(), upto };
        let unlogged = Unlogged::default();
        Ok(ChunkRead { table: table.def, cells, range, portable_order, done, containment, after, unlogged })
    }
}

/// `SELECT columns FROM table`, without children of plain inheritance, with all leaves of a partitioned table.
fn select(table: &CatalogTable, condition: &str, order: &str) -> String {
    let def = &table.def;
    let columns: Vec<String> =
        def.sent_columns().iter().map(|&c| ident(&def.columns[usize::from(c)].name)).collect();
    let only = if table.partitioned { "" } else { "ONLY " };
    format!("SELECT {} FROM {only}{}{condition}{order}", columns.join(", "), qualified(&def.name))
}

fn key_list(def: &TableDef) -> String {
    let names: Vec<String> = def.key.iter().map(|&k| ident(&def.columns[usize::from(k)].name)).collect();
    names.join(", ")
}

/// A key as literals; the parser gives each the type of the column that it is compared with.
fn key_literals(key: &Key) -> String {
    key.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ")
}

fn last_key(def: &TableDef, sent: &[u16], cells: &Cells) -> Option<Key> {
    let row = cells.last()?;
    def.key
        .iter()
        .map(|key| {
            let at = sent.iter().position(|column| column == key)?;
            row.text(at).map(str::to_owned)
        })
        .collect()
}

impl SnapshotReader for PostgresSnapshot {
    type Error = PostgresError;

    async fn tables(&mut self) -> Result<Vec<TableDef>, PostgresError> {
        let patterns = self.patterns.clone();
        let client = self.client().await?;
        let mut tables: Vec<TableDef> = catalog::load(client, &patterns, None)
            .await?
            .tables
            .into_values()
            .map(|table| table.def)
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn settle(&mut self) -> Result<(), PostgresError> {
        let failed = |source| PostgresError::query("wait for open transactions", source);
        let client = self.client().await?;
        let row = client
            .query_one("SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text", &[])
            .await
            .map_err(failed)?;
        let until: u64 = row.try_get::<_, String>(0).map_err(failed)?.parse().unwrap_or(0);
        let mut pause = std::time::Duration::from_millis(2);
        let mut waited = std::time::Duration::ZERO;
        loop {
            let row = client
                .query_one("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text", &[])
                .await
                .map_err(failed)?;
            let oldest: u64 = row.try_get::<_, String>(0).map_err(failed)?.parse().unwrap_or(0);
            if oldest >= until {
                return Ok(());
            }
            if waited.as_secs() / 30 != (waited + pause).as_secs() / 30 {
                tracing::warn!(
                    "a snapshot waits for transactions that were open when it began; see pg_stat_activity"
                );
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(std::time::Duration::from_millis(500));
        }
    }

    async fn read_chunk(
        &mut self,
        table: &TableName,
        after: Option<&Key>,
        max_bytes: usize,
    ) -> Result<Option<ChunkRead>, PostgresError> {
        if after.is_none() || self.open.as_ref().is_none_or(|open| open.table.def.name != *table) {
            let Some(found) = self.table(table).await? else { return Ok(None) };
            if !found.def.key.is_empty() {
                let condition = after.map_or(String::new(), |key| {
                    format!(" WHERE ({}) > ({})", key_list(&found.def), key_literals(key))
                });
                return self.read_keyed(found, &condition, false, after, max_bytes).await.map(Some);
            }
        }
        self.read_keyless(table, after.is_none(), max_bytes).await
    }

    async fn read_keys(
        &mut self,
        table: &TableName,
        keys: &[Key],
    ) -> Result<Option<ChunkRead>, PostgresError> {
        let Some(found) = self.table(table).await? else { return Ok(None) };
        let keys: Vec<String> = keys.iter().map(|key| format!("({})", key_literals(key))).collect();
        let condition = format!(" WHERE ({}) IN ({})", key_list(&found.def), keys.join(", "));
        self.read_keyed(found, &condition, true, None, usize::MAX).await.map(Some)
    }
}
