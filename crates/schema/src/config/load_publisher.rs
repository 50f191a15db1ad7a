//! `[publisher]`, `[source]`, `[journal]`, `[[endpoint]]`.

use std::path::PathBuf;

use super::error::Problem;
use super::load::{database, table_patterns};
use super::load_webhook::never_or;
use super::reader::{Keys, Reader, Section};
use super::{
    ConfirmPolicy, DatabaseUrl, JournalConfig, PublisherConfig, RetainConfig, SnapshotMode, SourceConfig,
    defaults,
};
use super::{alert, load_endpoint, load_outbox};
use crate::event::outbox::OutboxConfig;
use crate::name::StreamName;

pub(super) const PUBLISHER: Keys = Keys { section: "publisher", keys: &["stream", "state_dir"] };

pub(super) const SOURCE: Keys = Keys {
    section: "source",
    keys: &[
        "kind",
        "url",
        "tables",
        "snapshot",
        "slot",
        "publication",
        "messages",
        "max_transaction",
        "max_retained",
        "max_log_rows",
    ],
};

pub(super) const JOURNAL: Keys = Keys { section: "journal", keys: &["max_bytes", "retain", "confirm"] };

pub(super) const ATTEMPTS: Keys = Keys { section: "attempts", keys: &["max_bytes", "retain"] };

pub(super) const DEAD_LETTERS: Keys = Keys { section: "dead_letters", keys: &["max_bytes", "retain"] };

/// PostgreSQL cuts identifiers off at NAMEDATALEN - 1 bytes.
const SLOT_MAX_LEN: usize = 63;

/// Room for the `_inserts` of the second publication.
const PUBLICATION_MAX_LEN: usize = SLOT_MAX_LEN - "_inserts".len();

pub(super) const STREAM_EXPECTED: &str = "a name of 1 to 64 characters a-z, 0-9, _ and -";

/// `None` without `[publisher]`, `Some(None)` if something in it is wrong. Sections are read even if others miss.
pub(super) fn read(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Option<PublisherConfig>> {
    let publisher = root.get("publisher");
    let mut stream = None;
    let mut state_dir = None;
    if let Some(section) = publisher.as_ref().and_then(|field| reader.section(field, &PUBLISHER)) {
        stream = section
            .require(reader, "stream", "stream = \"shop\"")
            .and_then(|field| reader.parsed(&field, STREAM_EXPECTED, "\"shop\""));
        state_dir = section
            .require(reader, "state_dir", "state_dir = \"/var/lib/rowbridge\"")
            .and_then(|field| reader.filled_text(&field, "a folder", "\"/var/lib/rowbridge\""))
            .map(PathBuf::from);
    }
    let mut messages = None;
    let source = root.get("source").and_then(|field| {
        let section = reader.section(&field, &SOURCE)?;
        messages = section.get("messages");
        source(reader, &section, stream.as_ref())
    });
    let journal = match root.get("journal") {
        None => Some(JournalConfig {
            max_bytes: defaults::JOURNAL_MAX_BYTES,
            retain: defaults::JOURNAL_RETAIN,
            confirm: ConfirmPolicy::Journaled,
        }),
        Some(field) => reader.section(&field, &JOURNAL).and_then(|section| journal(reader, &section)),
    };
    let attempts = match root.get("attempts") {
        None => Some(RetainConfig::ATTEMPTS),
        Some(field) => reader
            .section(&field, &ATTEMPTS)
            .and_then(|section| retain(reader, &section, RetainConfig::ATTEMPTS)),
    };
    let dead_letters = match root.get("dead_letters") {
        None => Some(RetainConfig::DEAD_LETTERS),
        Some(field) => reader
            .section(&field, &DEAD_LETTERS)
            .and_then(|section| retain(reader, &section, RetainConfig::DEAD_LETTERS)),
    };
    let mut names = Vec::new();
    let endpoints =
        root.get("endpoint").and_then(|field| load_endpoint::endpoints(reader, &field, &mut names));
    let alerts = match root.get("alert") {
        None => Some(Vec::new()),
        Some(field) => alert::alerts(reader, &field, names),
    };
    let outboxes = match root.get("outbox") {
        None => Some(Vec::new()),
        Some(field) => load_outbox::outboxes(reader, &field),
    };
    // With another kind of source they are refused already.
    let messages = messages.filter(|_| {
        source.as_ref().is_some_and(|source| matches!(source.database, DatabaseUrl::Postgres(_)))
    });
    for field in root.get("outbox").iter().chain(&messages) {
        if let Some(endpoints) = &endpoints {
            load_outbox::needs_webhook(reader, field, endpoints);
        }
    }
    publisher?;
    let config = || {
        let (mut source, mut endpoints) = (source?, endpoints?);
        source.outboxes.extend(outboxes?);
        load_outbox::apply(&mut source, &mut endpoints);
        Some(PublisherConfig {
            stream: stream?,
            state_dir: state_dir?,
            source,
            journal: journal?,
            attempts: attempts?,
            dead_letters: dead_letters?,
            endpoints,
            alerts: alerts?,
        })
    };
    Some(config())
}

/// `"never"` is the only way to keep something for ever.
fn retain(reader: &mut Reader<'_>, section: &Section<'_>, usual: RetainConfig) -> Option<RetainConfig> {
    let max_bytes = section.get("max_bytes").map_or(Some(usual.max_bytes), |field| {
        let bytes = reader.bytes(&field)?;
        if bytes < RetainConfig::MIN_BYTES {
            reader.report(&field, Problem::TooSmall { least: "1 MiB" });
        }
        Some(bytes)
    });
    let retain = match section.get("retain") {
        None => Some(usual.retain),
        Some(field) => never_or(reader, &field),
    };
    Some(RetainConfig { max_bytes: max_bytes?, retain: retain? })
}

fn source(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    stream: Option<&StreamName>,
) -> Option<SourceConfig> {
    let database = database(reader, section);
    let tables = section
        .require(reader, "tables", "tables = [\"*\"]")
        .and_then(|field| table_patterns(reader, &field));
    let snapshot = section.get("snapshot").map_or(Some(SnapshotMode::Initial), |field| {
        let choices = [("initial", SnapshotMode::Initial), ("never", SnapshotMode::Never)];
        reader.choice(&field, "\"initial\" or \"never\"", &choices, "initial sends existing rows first")
    });
    let is_postgres = matches!(database, Some(DatabaseUrl::Postgres(_)));
    let mut postgres_name = |key, expected, limit, example, fits: fn(char) -> bool| match section.get(key) {
        Some(field) => {
            let text = reader.filled_text(&field, expected, "\"rowbridge_shop\"")?;
            if text.len() > limit || !text.chars().all(fits) {
                return reader.unexpected(&field, expected, "such as \"rowbridge_shop\"");
            }
            Some(text)
        }
        None => {
            let name = format!("rowbridge_{}", stream?.as_str().replace('-', "_"));
            if is_postgres && name.len() > limit {
                reader.push(section.at, section.path(key), Problem::NameTooLong { limit, example });
                return None;
            }
            Some(name)
        }
    };
    // The server refuses other characters in a slot's name; a publication is any identifier.
    let slot = postgres_name(
        "slot",
        "a slot's name of 1 to 63 characters a-z, 0-9 and _",
        SLOT_MAX_LEN,
        "slot = \"rowbridge_shop\"",
        |c| matches!(c, 'a'..='z' | '0'..='9' | '_'),
    );
    let publication = postgres_name(
        "publication",
        "a publication's name of 1 to 55 bytes",
        PUBLICATION_MAX_LEN,
        "publication = \"rowbridge_shop\"",
        |c| !c.is_control(),
    );
    let messages = match section.get("messages") {
        None => Some(None),
        Some(field) => load_outbox::messages(reader, &field).map(Some),
    };
    let max_transaction =
        section.get("max_transaction").map_or(Some(defaults::MAX_TRANSACTION), |field| reader.bytes(&field));
    let max_retained = match section.get("max_retained") {
        None => Some(None),
        Some(field) if matches!(database, Some(DatabaseUrl::Sqlite(_))) => {
            reader.report(&field, Problem::RetainedRows);
            None
        }
        Some(field) => reader.bytes(&field).map(Some),
    };
    let max_log_rows = section.get("max_log_rows").map_or(Some(defaults::MAX_LOG_ROWS), |field| {
        let rows = reader.count(&field)?;
        if rows == 0 {
            reader.report(&field, Problem::TooSmall { least: "1" });
        }
        Some(rows)
    });
    if let Some(database) = &database {
        let kind = database.kind();
        let foreign: &[&'static str] = match database {
            DatabaseUrl::Postgres(_) => &["max_log_rows"],
            DatabaseUrl::Mysql(_) => &["slot", "publication", "messages", "max_log_rows", "max_retained"],
            DatabaseUrl::Sqlite(_) => &["slot", "publication", "messages"],
        };
        for field in foreign.iter().filter_map(|key| section.get(key)) {
            reader.report(&field, Problem::NotForKind { kind });
        }
    }
    Some(SourceConfig {
        database: database?,
        tables: tables?,
        snapshot: snapshot?,
        slot: slot?,
        publication: publication?,
        max_transaction: max_transaction?,
        outboxes: messages_outbox(reader, section, messages.as_ref()?.is_some()),
        messages: messages?,
        max_retained: max_retained?,
        max_log_rows: max_log_rows?,
    })
}

/// Logical messages are the messages of an outbox that has no table.
fn messages_outbox(reader: &Reader<'_>, section: &Section<'_>, wanted: bool) -> Vec<OutboxConfig> {
    let line = section.get("messages").map_or(0, |field| reader.place(field.at).0);
    if wanted { vec![OutboxConfig::logical(line)] } else { Vec::new() }
}

fn journal(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<JournalConfig> {
    let max_bytes = section.get("max_bytes").map_or(Some(defaults::JOURNAL_MAX_BYTES), |field| {
        let bytes = reader.bytes(&field)?;
        if bytes == 0 {
            reader.report(&field, Problem::TooSmall { least: "1 B, better \"1 GiB\"" });
        }
        Some(bytes)
    });
    let retain =
        section.get("retain").map_or(Some(defaults::JOURNAL_RETAIN), |field| reader.duration(&field));
    let confirm = section.get("confirm").map_or(Some(ConfirmPolicy::Journaled), |field| {
        let choices = [("journaled", ConfirmPolicy::Journaled), ("delivered", ConfirmPolicy::Delivered)];
        let way_out = "delivered is for disks that may vanish";
        reader.choice(&field, "\"journaled\" or \"delivered\"", &choices, way_out)
    });
    Some(JournalConfig { max_bytes: max_bytes?, retain: retain?, confirm: confirm? })
}
