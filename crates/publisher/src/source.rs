//! Opening a source of either kind for the pump.

use std::path::Path;
use std::sync::Arc;

use rowbridge_schema::config::{ServerUrl, SourceConfig};
use rowbridge_schema::tls;
use rowbridge_schema::{Offset, SourceId, TableName};
use std::path::PathBuf;

use crate::capture::mysql::{self, MysqlCapture, MysqlError, MysqlOptions};
use crate::capture::postgres::client::Connector;
use crate::capture::postgres::setup::refuse_taken_slot;
use crate::capture::postgres::{PostgresCapture, PostgresError, PostgresOptions};
use crate::capture::sqlite::{self, SqliteCapture, SqliteError};
use crate::capture::{Capture, CaptureStart};
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
    /// Where that is in its log.
    pub start: Offset,
    /// Tables that were not captured before: they need a snapshot even if they are known.
    pub added: Vec<TableName>,
}

/// An open source, or why there is none.
pub(crate) type Opened<C, R> = Result<OpenSource<C, R>, <C as Capture>::Error>;

/// One kind of source.
pub(crate) trait Source: Send + Sync {
    type Capture: Capture;
    type Reader: SnapshotReader + 'static;

    /// Before the very first start: refuses what an earlier life has left at the source. What is there later is ours.
    fn refuse_taken(&self) -> impl Future<Output = Result<(), <Self::Capture as Capture>::Error>> + Send;

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
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    let pem = url.ssl_root_cert.as_deref().map(read);
    Ok(Connector { url: url.clone(), tls: tls::postgres_client(url.ssl_mode, pem.as_deref())? })
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
            resume,
            start: Offset { file: 0, at: opened.from },
            added: opened.added,
        })
    }
}

/// A MySQL or MariaDB source.
pub(crate) struct MysqlSource {
    config: SourceConfig,
    connector: mysql::client::Connector,
    state: Arc<State>,
}

impl MysqlSource {
    pub(crate) fn new(
        config: SourceConfig,
        url: &ServerUrl,
        state: Arc<State>,
    ) -> Result<Self, tls::TlsError> {
        Ok(Self { config, connector: mysql::client::Connector::new(url)?, state })
    }
}

impl Source for MysqlSource {
    type Capture = MysqlCapture;
    type Reader = MysqlSnapshot;

    /// Nothing is made at the source, so nothing can be left there.
    async fn refuse_taken(&self) -> Result<(), MysqlError> {
        Ok(())
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
        };
        let (capture, opened) = MysqlCapture::open(options, &start).await?;
        let source = capture.source().clone();
        let resume = Resume(Arc::from(opened.from.to_string()));
        let start = mysql::setup::offset(&opened.from);
        let reader = MysqlSnapshot::new(self.connector.clone(), self.config.tables.clone());
        Ok(OpenSource { capture, reader, source, identity, resume, start, added: vec![] })
    }
}

/// A SQLite source.
pub(crate) struct SqliteSource(sqlite::SqliteSource);

impl SqliteSource {
    pub(crate) fn new(config: SourceConfig, path: PathBuf) -> Self {
        Self(sqlite::SqliteSource { path, tables: config.tables, max_log_rows: config.max_log_rows })
    }
}

impl Source for SqliteSource {
    type Capture = SqliteCapture;
    type Reader = SqliteSnapshots;

    /// A change log that is there already is as good as a new one: what it lacks, the target's position tells.
    async fn refuse_taken(&self) -> Result<(), SqliteError> {
        Ok(())
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
        Ok(OpenSource { capture, reader, source, identity, resume, start, added: vec![] })
    }
}
