//! Opening a source of either kind for the pump.

use std::sync::Arc;

use rowbridge_schema::config::{ServerUrl, SourceConfig};
use rowbridge_schema::tls;
use rowbridge_schema::{Offset, SourceId, TableDef, TableName};
use std::path::PathBuf;
use tokio_postgres::error::SqlState;

use crate::capture::mysql::{self, MysqlCapture, MysqlError, MysqlOptions};
use crate::capture::postgres::client::{Connector, connect_options};
use crate::capture::postgres::setup::{refuse_taken_slot, slot_state};
use crate::capture::postgres::timeline::is_before_promotion;
use crate::capture::postgres::walsender::{Walsender, format_lsn};
use crate::capture::postgres::{PostgresCapture, PostgresError, PostgresOptions, catalog, source_id};
use crate::capture::sqlite::{self, SqliteCapture, SqliteError};
use crate::capture::{Capture, CaptureStart, OldRows};
use crate::journal::Resume;
use crate::snapshot::SnapshotReader;
use crate::snapshot::mysql::MysqlSnapshot;
use crate::snapshot::postgres::PostgresSnapshot;
use crate::snapshot::sqlite::SqliteSnapshots;
use crate::state::{Identity, State};

/// A source that is open.
pub(crate) struct OpenSource<C, R> {
    pub capture: C,
    pub reader: R,
    pub source: SourceId,
    /// What to remember.
    pub identity: Identity,
    /// Where the source may be confirmed right now.
    pub resume: Resume,
    /// Where capture begins in its log.
    pub start: Offset,
    /// The same as a resume point.
    pub begins: Resume,
    /// Tables that were not captured before: they need a snapshot even if they are known.
    pub added: Vec<TableName>,
    /// A publisher has noted that it was sending existing rows, and not that it was done.
    pub unfinished: bool,
}

/// What another publisher of the stream, or a state that was lost, has left at the source.
#[derive(Debug)]
pub(crate) struct Left {
    pub source: SourceId,
    pub timeline: Option<u32>,
    /// Where the source was confirmed; everything before is at every target that it was confirmed for.
    pub confirmed: Offset,
    pub resume: Resume,
    /// As an operator knows it.
    pub slot: String,
    /// The server was promoted since, so that targets may know commits that it does not have.
    pub promoted: bool,
    pub tables: Vec<TableDef>,
}

/// What an error means for who reads the source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another publisher does; the text says which.
    InUse(String),
    /// Another one has, further than our journal goes.
    Ahead,
    /// Another one has, or we did and forgot.
    Taken,
    Other,
}

/// An open source, or why there is none.
pub(crate) type Opened<C, R> = Result<OpenSource<C, R>, <C as Capture>::Error>;

/// One kind of source.
pub(crate) trait Source: Send + Sync {
    type Capture: Capture;
    type Reader: SnapshotReader + 'static;

    /// Before the very first start: refuses what an earlier life has left at the source. What is there later is ours.
    fn refuse_taken(&self) -> impl Future<Output = Result<(), <Self::Capture as Capture>::Error>> + Send;

    /// What is there to go on from without a state. `None` if nothing is, or it is not that kind of source.
    fn left(&self) -> impl Future<Output = Result<Option<Left>, <Self::Capture as Capture>::Error>> + Send;

    /// Classes an error of [`Self::refuse_taken`], [`Self::left`] or [`Self::open`].
    fn trouble(&self, error: &<Self::Capture as Capture>::Error) -> Trouble;

    /// An offset as an operator of this source knows it.
    fn shown(&self, offset: Offset) -> String;

    /// Connects and checks; called again after every loss.
    fn open(
        &self,
        start: CaptureStart,
        identity: Identity,
    ) -> impl Future<Output = Opened<Self::Capture, Self::Reader>> + Send;
}

/// A PostgreSQL source.
pub(crate) struct PostgresSource {
    config: SourceConfig,
    connector: Connector,
}

/// The TLS configuration of a PostgreSQL URL, from the file that it names.
pub fn connector(url: &ServerUrl) -> Result<Connector, tls::TlsError> {
    Ok(Connector { url: url.clone(), tls: tls::of_url(url)? })
}

impl PostgresSource {
    pub(crate) fn new(config: SourceConfig, url: &ServerUrl) -> Result<Self, tls::TlsError> {
        Ok(Self { config, connector: connector(url)? })
    }
}

impl Source for PostgresSource {
    type Capture = PostgresCapture;
    type Reader = PostgresSnapshot;

    async fn refuse_taken(&self) -> Result<(), PostgresError> {
        let client = self.connector.connect("first start").await?;
        refuse_taken_slot(&client, &self.config.slot).await
    }

    async fn left(&self) -> Result<Option<Left>, PostgresError> {
        let client = self.connector.connect("taking over").await?;
        let slot = self.config.slot.clone();
        let Some(state) = slot_state(&client, &slot).await? else { return Ok(None) };
        if let Some(pid) = state.active_pid {
            return Err(PostgresError::SlotInUse { slot, pid });
        }
        let at = format_lsn(state.confirmed);
        if state.wal_status.as_deref() == Some("lost") {
            return Err(PostgresError::SlotLost { slot, reason: "wal_status is lost".into(), since: at });
        }
        let mut walsender = Walsender::connect(&connect_options(&self.connector)?).await?;
        let system = walsender.identify_system().await?;
        let promoted = is_before_promotion(&mut walsender, system.timeline, state.confirmed).await?;
        walsender.close().await;
        let catalog = catalog::load(&client, &self.config.tables, None).await?;
        Ok(Some(Left {
            source: source_id(&system.system_id, &slot),
            timeline: Some(system.timeline),
            confirmed: Offset { file: 0, at: state.confirmed },
            resume: Resume(Arc::from(at.as_str())),
            slot: format!("replication slot {slot} (at {at})"),
            promoted,
            tables: catalog.tables.into_values().map(|table| table.def).collect(),
        }))
    }

    fn trouble(&self, error: &PostgresError) -> Trouble {
        match error {
            PostgresError::SlotInUse { pid, .. } => {
                Trouble::InUse(format!("the slot is in use by another publisher (pid {pid})"))
            }
            PostgresError::SlotAhead { .. } => Trouble::Ahead,
            PostgresError::SlotWithoutJournal { .. } => Trouble::Taken,
            // It was free a moment ago.
            PostgresError::Walsender(error) if error.code() == Some(SqlState::OBJECT_IN_USE.code()) => {
                Trouble::InUse("the slot is in use by another publisher".to_owned())
            }
            _ => Trouble::Other,
        }
    }

    fn shown(&self, offset: Offset) -> String {
        format_lsn(offset.at)
    }

    async fn open(
        &self,
        start: CaptureStart,
        identity: Identity,
    ) -> Result<OpenSource<PostgresCapture, PostgresSnapshot>, PostgresError> {
        let options = PostgresOptions {
            source: self.config.clone(),
            connector: self.connector.clone(),
            fresh: identity.fresh,
            timeline: identity.timeline.filter(|_| !identity.fresh),
            earlier_epochs: identity.earlier_epochs.clone(),
        };
        let (capture, opened) = PostgresCapture::open(options, &start).await?;
        let mut identity = identity;
        if let Some(at) = opened.switched_at {
            identity.earlier_epochs.push((Offset { file: 0, at }, identity.epoch));
            identity.epoch += 1;
        }
        identity.timeline = Some(opened.timeline);
        let source = capture.source().clone();
        let resume = Resume(Arc::from(crate::capture::postgres::walsender::format_lsn(opened.from)));
        let reader = PostgresSnapshot::new(self.connector.clone(), self.config.tables.clone());
        Ok(OpenSource {
            capture,
            reader,
            source,
            identity,
            begins: resume.clone(),
            resume,
            start: Offset { file: 0, at: opened.from },
            added: opened.added,
            unfinished: opened.unfinished,
        })
    }
}

/// A MySQL or MariaDB source.
pub(crate) struct MysqlSource {
    config: SourceConfig,
    connector: mysql::client::Connector,
    state: Arc<State>,
    old_rows: OldRows,
}

impl MysqlSource {
    pub(crate) fn new(
        config: SourceConfig,
        url: &ServerUrl,
        state: Arc<State>,
        old_rows: OldRows,
    ) -> Result<Self, tls::TlsError> {
        Ok(Self { config, connector: mysql::client::Connector::new(url)?, state, old_rows })
    }
}

impl Source for MysqlSource {
    type Capture = MysqlCapture;
    type Reader = MysqlSnapshot;

    /// Nothing is made at the source, so nothing can be left there.
    async fn refuse_taken(&self) -> Result<(), MysqlError> {
        Ok(())
    }

    /// The server does not know who reads its log, and how far.
    async fn left(&self) -> Result<Option<Left>, MysqlError> {
        Ok(None)
    }

    fn trouble(&self, _: &MysqlError) -> Trouble {
        Trouble::Other
    }

    fn shown(&self, offset: Offset) -> String {
        format!("log file {}, position {}", offset.file, offset.at)
    }

    async fn open(
        &self,
        start: CaptureStart,
        identity: Identity,
    ) -> Result<OpenSource<MysqlCapture, MysqlSnapshot>, MysqlError> {
        let options = MysqlOptions {
            tables: self.config.tables.clone(),
            connector: self.connector.clone(),
            state: Arc::clone(&self.state),
            old_rows: self.old_rows.clone(),
        };
        let (capture, opened) = MysqlCapture::open(options, &start).await?;
        let source = capture.source().clone();
        let resume = Resume(Arc::from(opened.from.to_string()));
        let start = mysql::setup::offset(&opened.from);
        let reader = MysqlSnapshot::new(self.connector.clone(), self.config.tables.clone());
        let (begins, added, unfinished) = (resume.clone(), vec![], false);
        Ok(OpenSource { capture, reader, source, identity, resume, start, begins, added, unfinished })
    }
}

/// A SQLite source.
pub(crate) struct SqliteSource(sqlite::SqliteSource);

impl SqliteSource {
    pub(crate) fn new(config: SourceConfig, path: PathBuf, old_rows: OldRows) -> Self {
        let SourceConfig { tables, max_log_rows, .. } = config;
        Self(sqlite::SqliteSource::new(path, tables, max_log_rows, old_rows))
    }
}

impl Source for SqliteSource {
    type Capture = SqliteCapture;
    type Reader = SqliteSnapshots;

    /// A change log that is there already is as good as a new one: what it lacks, the target's position tells.
    async fn refuse_taken(&self) -> Result<(), SqliteError> {
        Ok(())
    }

    /// The log does not tell how far it was delivered.
    async fn left(&self) -> Result<Option<Left>, SqliteError> {
        Ok(None)
    }

    fn trouble(&self, _: &SqliteError) -> Trouble {
        Trouble::Other
    }

    fn shown(&self, offset: Offset) -> String {
        format!("id {}", offset.at)
    }

    async fn open(
        &self,
        start: CaptureStart,
        identity: Identity,
    ) -> Result<OpenSource<SqliteCapture, SqliteSnapshots>, SqliteError> {
        if identity.fresh && identity.source.is_some() {
            // Everything is sent again: a log that overflowed may log again.
            let source = self.0.clone();
            tokio::task::block_in_place(|| source.restart_log())?;
        }
        let mut capture = self.0.capture(&start).await?;
        let reader = self.0.snapshots().await?;
        let source = capture.source().clone();
        // What is in the log up to here is in a snapshot that is read from now on.
        let end = capture.end().await?;
        let resume = Resume(Arc::from(end.at.to_string()));
        let behind = start.resume.and_then(|resume| resume.0.parse().ok());
        let start = Offset { file: 0, at: behind.unwrap_or(end.at) };
        let begins = Resume(Arc::from(start.at.to_string()));
        let (added, unfinished) = (vec![], false);
        Ok(OpenSource { capture, reader, source, identity, resume, start, begins, added, unfinished })
    }
}
