//! Publications and slot: made if missing and allowed, checked always.
//!
//! Tables with a replica identity go into the publication, all others into `<publication>_inserts`, which publishes inserts
//! and truncates only: published for updates, they would make the application's own UPDATE fail. Roots of partition trees
//! are published through their leaves, because a TRUNCATE of a leaf is not sent otherwise. The publications come before
//! the slot: decoding sees the catalog as of each change.

use std::collections::BTreeSet;

use rowbridge_schema::sql::{ident, literal, qualified};
use rowbridge_schema::{Position, TableName};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::catalog::Catalog;
use super::error::PostgresError;
use super::walsender::{SlotOptions, Walsender, format_lsn, parse_lsn};
use crate::capture::CaptureStart;

/// Suffix of the publication for tables without replica identity.
pub const INSERTS_SUFFIX: &str = "_inserts";

/// How long a change of a publication may wait for its tables. VACUUM and CREATE INDEX CONCURRENTLY hold the lock for as
/// long as they run, and what captures waits with us.
const LOCK_WAIT: &str = "5s";

/// The two publications of a stream.
#[must_use]
pub fn publications(publication: &str) -> [String; 2] {
    [publication.to_owned(), format!("{publication}{INSERTS_SUFFIX}")]
}

fn failed(action: &'static str) -> impl Fn(tokio_postgres::Error) -> PostgresError {
    move |source| PostgresError::query(action, source)
}

/// Server settings without which nothing can work.
///
/// # Errors
/// `NotReady` with the statement that mends it.
pub async fn preflight(client: &Client) -> Result<(), PostgresError> {
    let row = client
        .query_one(
            "SELECT pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('server_version_num')::int,
                    pg_catalog.pg_is_in_recovery(), r.rolreplication OR r.rolsuper, r.rolname,
                    pg_catalog.current_setting('max_replication_slots')::int, pg_catalog.current_setting('max_wal_senders')::int
             FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await
        .map_err(failed("read settings"))?;
    let not_ready = |problem: String, fix: String| Err(PostgresError::NotReady { problem, fix });
    let wal_level: String = row.try_get(0).map_err(failed("read settings"))?;
    let version: i32 = row.try_get(1).map_err(failed("read settings"))?;
    let recovery: bool = row.try_get(2).map_err(failed("read settings"))?;
    let may_replicate: bool = row.try_get(3).map_err(failed("read settings"))?;
    let role: String = row.try_get(4).map_err(failed("read settings"))?;
    let slots: i32 = row.try_get(5).map_err(failed("read settings"))?;
    let senders: i32 = row.try_get(6).map_err(failed("read settings"))?;
    if version < 140_000 {
        return not_ready(
            format!("server version {}, but 14 or later is needed", version / 10_000),
            "Upgrade the server.".into(),
        );
    }
    if wal_level != "logical" {
        return not_ready(
            format!("wal_level is {wal_level}, but must be logical"),
            "Run `ALTER SYSTEM SET wal_level = logical;` and restart the server.".into(),
        );
    }
    if recovery {
        return not_ready("the server is a standby".into(), "Point source.url at the primary.".into());
    }
    if !may_replicate {
        return not_ready(
            format!("role {role} may not replicate"),
            format!("Run `ALTER ROLE {} REPLICATION;` as a superuser.", ident(&role)),
        );
    }
    if slots == 0 || senders == 0 {
        return not_ready(
            format!("max_replication_slots is {slots} and max_wal_senders is {senders}"),
            "Run `ALTER SYSTEM SET max_replication_slots = 10; ALTER SYSTEM SET max_wal_senders = 10;` and restart the \
             server."
                .into(),
        );
    }
    Ok(())
}

/// How many captured tables this role may not read, and the statements that let it.
///
/// # Errors
/// The query's.
pub async fn missing_grants(
    client: &Client,
    catalog: &Catalog,
) -> Result<Option<(usize, String)>, PostgresError> {
    let oids: Vec<u32> = catalog.tables.values().map(|table| table.oid).collect();
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text, current_user::text,
                    pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_table_privilege(c.oid, 'SELECT')
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = ANY($1) ORDER BY 1, 2",
            &[&oids],
        )
        .await
        .map_err(failed("read privileges"))?;
    let (mut schemas, mut tables, mut unreadable) = (BTreeSet::new(), Vec::new(), 0);
    let mut role = String::new();
    for row in rows {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(failed("read privileges"));
        let flag = |index: usize| row.try_get::<_, bool>(index).map_err(failed("read privileges"));
        let (usage, select) = (flag(3)?, flag(4)?);
        role = text(2)?;
        unreadable += usize::from(!usage || !select);
        if !usage {
            schemas.insert(ident(&text(0)?));
        }
        if !select {
            tables.push(qualified(&TableName::new(text(0)?, text(1)?)));
        }
    }
    if unreadable == 0 {
        return Ok(None);
    }
    let role = ident(&role);
    let mut statements = Vec::new();
    if !schemas.is_empty() {
        let schemas: Vec<String> = schemas.into_iter().collect();
        statements.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
    }
    if !tables.is_empty() {
        statements.push(format!("GRANT SELECT ON {} TO {role};", tables.join(", ")));
    }
    Ok(Some((unreadable, statements.join(" "))))
}

/// Tables that cannot be read are told before the slot is made, and not table by table.
///
/// # Errors
/// `NotReady` with the statements that mend it.
pub async fn require_grants(client: &Client, catalog: &Catalog) -> Result<(), PostgresError> {
    match missing_grants(client, catalog).await? {
        None => Ok(()),
        Some((tables, statements)) => Err(PostgresError::NotReady {
            problem: format!("SELECT is missing on {tables} captured tables"),
            fix: format!("Run as their owner: `{statements}`"),
        }),
    }
}

/// Statements that bring the publications in line with the catalog, and the tables that so become published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PublicationPlan {
    /// In order.
    pub statements: Vec<String>,
    /// Tables that were in no publication.
    pub added: Vec<TableName>,
    /// Tables that were published for inserts only and now have an identity: updates before were not sent.
    pub upgraded: Vec<TableName>,
}

/// Compares what the publications hold with what they should hold.
///
/// # Errors
/// The query's.
pub async fn plan_publications(
    client: &Client,
    catalog: &Catalog,
    publication: &str,
) -> Result<PublicationPlan, PostgresError> {
    let names = publications(publication);
    let rows = client
        .query(
            "SELECT p.pubname::text, p.puballtables, n.nspname::text, c.relname::text,
                    pg_catalog.to_jsonb(p) ->> 'pubgencols'
             FROM pg_catalog.pg_publication p
             LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
             LEFT JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = ANY($1)",
            &[&names.as_slice()],
        )
        .await
        .map_err(failed("read publications"))?;
    // Since PostgreSQL 18, an update of a table with REPLICA IDENTITY FULL fails while its generated columns are not
    // published. We leave them out ourselves.
    let publishes_generated = client
        .query_one("SELECT pg_catalog.current_setting('server_version_num')::int >= 180000", &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(failed("read settings"))?;
    let mut generated = [false; 2];
    let mut existing = [false; 2];
    let mut all_tables = [false; 2];
    let mut members: [BTreeSet<TableName>; 2] = Default::default();
    for row in rows {
        let name: String = row.try_get(0).map_err(failed("read publications"))?;
        let Some(index) = names.iter().position(|n| *n == name) else { continue };
        existing[index] = true;
        let published: Option<String> = row.try_get(4).map_err(failed("read publications"))?;
        generated[index] = published.as_deref() == Some("s");
        all_tables[index] = row.try_get(1).map_err(failed("read publications"))?;
        let schema: Option<String> = row.try_get(2).map_err(failed("read publications"))?;
        let table: Option<String> = row.try_get(3).map_err(failed("read publications"))?;
        if let (Some(schema), Some(table)) = (schema, table) {
            members[index].insert(TableName::new(schema, table));
        }
    }
    let mut wanted: [BTreeSet<TableName>; 2] = Default::default();
    for table in catalog.tables.values() {
        wanted[usize::from(!table.has_identity)].insert(table.def.name.clone());
    }
    let mut plan = PublicationPlan::default();
    let list = |tables: &mut dyn Iterator<Item = &TableName>| {
        let names: Vec<String> = tables.map(|table| format!("ONLY {}", qualified(table))).collect();
        if names.is_empty() { String::new() } else { format!("TABLE {}", names.join(", ")) }
    };
    for index in 0..2 {
        let name = ident(&names[index]);
        let publish = ["insert, update, delete, truncate", "insert, truncate"][index];
        if !existing[index] {
            let tables = list(&mut wanted[index].iter());
            let tables = if tables.is_empty() { String::new() } else { format!(" FOR {tables}") };
            let more =
                if index == 0 && publishes_generated { ", publish_generated_columns = stored" } else { "" };
            plan.statements.push(format!(
                "CREATE PUBLICATION {name}{tables} WITH (publish = {}{more})",
                literal(publish)
            ));
        } else if !all_tables[index] {
            if index == 0 && publishes_generated && !generated[index] {
                plan.statements
                    .push(format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored)"));
            }
            let gone = list(&mut members[index].difference(&wanted[index]));
            if !gone.is_empty() {
                plan.statements.push(format!("ALTER PUBLICATION {name} DROP {gone}"));
            }
            let new = list(&mut wanted[index].difference(&members[index]));
            if !new.is_empty() {
                plan.statements.push(format!("ALTER PUBLICATION {name} ADD {new}"));
            }
        }
        if !all_tables[index] {
            for table in wanted[index].difference(&members[index]) {
                if index == 0 && members[1].contains(table) {
                    plan.upgraded.push(table.clone());
                } else if !members[1 - index].contains(table) {
                    plan.added.push(table.clone());
                }
            }
        }
    }
    Ok(plan)
}

/// Runs the plan in one transaction.
///
/// # Errors
/// `NotReady` with all statements, to be run by somebody who owns the tables.
pub async fn run_publications(client: &Client, plan: &PublicationPlan) -> Result<(), PostgresError> {
    if plan.statements.is_empty() {
        return Ok(());
    }
    let sql =
        format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_WAIT}'; {}; COMMIT", plan.statements.join("; "));
    if let Err(error) = client.batch_execute(&sql).await {
        let _ = client.batch_execute("ROLLBACK").await;
        return Err(match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => PostgresError::NotReady {
                problem: format!(
                    "the publications must change, and this role may not change them ({})",
                    error.as_db_error().map_or("permission denied", |e| e.message())
                ),
                fix: format!("Run as the owner of the tables: `{};`", plan.statements.join("; ")),
            },
            _ => PostgresError::query("change the publications", error),
        });
    }
    for statement in &plan.statements {
        tracing::info!(%statement, "publication changed");
    }
    Ok(())
}

/// A slot as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// `confirmed_flush_lsn`
    pub confirmed: u64,
    /// `wal_status`; `lost` means that changes are gone.
    pub wal_status: Option<String>,
    /// Server process that reads it.
    pub active_pid: Option<i32>,
    /// Output plugin.
    pub plugin: String,
}

/// The slot, if it exists in this database.
///
/// # Errors
/// The query's.
pub async fn slot_state(client: &Client, slot: &str) -> Result<Option<SlotState>, PostgresError> {
    let row = client
        .query_opt(
            "SELECT confirmed_flush_lsn::text, wal_status, active_pid, plugin::text
             FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(failed("read the slot"))?;
    let Some(row) = row else { return Ok(None) };
    let confirmed: Option<String> = row.try_get(0).map_err(failed("read the slot"))?;
    Ok(Some(SlotState {
        confirmed: confirmed.as_deref().and_then(parse_lsn).unwrap_or(0),
        wal_status: row.try_get(1).map_err(failed("read the slot"))?,
        active_pid: row.try_get(2).map_err(failed("read the slot"))?,
        plugin: row.try_get::<_, Option<String>>(3).map_err(failed("read the slot"))?.unwrap_or_default(),
    }))
}

/// Refuses a slot that was there before this state: another stream uses it, or `state_dir` was lost.
///
/// # Errors
/// `SlotWithoutJournal`, `SlotInUse`, the query's.
pub async fn refuse_taken_slot(client: &Client, slot: &str) -> Result<(), PostgresError> {
    match slot_state(client, slot).await? {
        None => Ok(()),
        Some(SlotState { active_pid: Some(pid), .. }) => {
            Err(PostgresError::SlotInUse { slot: slot.to_owned(), pid })
        }
        Some(state) => Err(PostgresError::SlotWithoutJournal {
            slot: slot.to_owned(),
            slot_at: format_lsn(state.confirmed),
        }),
    }
}

/// Name of the note that existing rows are being sent: a physical slot that holds no log. A slot, because nothing else
/// survives at the server without a table or a privilege that capture has no other use for.
#[must_use]
pub fn snapshot_mark(slot: &str) -> String {
    const SUFFIX: &str = "_snapshot";
    // The characters of a slot's name are ASCII.
    format!("{}{SUFFIX}", &slot[..slot.len().min(63 - SUFFIX.len())])
}

/// Whether the note is there.
///
/// # Errors
/// The query's.
pub async fn is_snapshot_marked(client: &Client, slot: &str) -> Result<bool, PostgresError> {
    Ok(slot_state(client, &snapshot_mark(slot)).await?.is_some())
}

/// Leaves the note, or takes it away. Does nothing if that is done already.
///
/// # Errors
/// The query's; no slot is free.
pub async fn mark_snapshot(client: &Client, slot: &str, pending: bool) -> Result<(), PostgresError> {
    let mark = snapshot_mark(slot);
    if slot_state(client, &mark).await?.is_some() == pending {
        return Ok(());
    }
    let (action, sql) = match pending {
        true => (
            "note that a snapshot is under way (it takes a replication slot that holds no log)",
            "SELECT pg_catalog.pg_create_physical_replication_slot($1, false)",
        ),
        false => ("take away the note of a snapshot", "SELECT pg_catalog.pg_drop_replication_slot($1)"),
    };
    client.execute(sql, &[&mark]).await.map_err(failed(action)).map(drop)
}

/// Checks the slot against the journal, or makes it for an empty journal. Returns the LSN to start from and the one that
/// the slot has confirmed.
///
/// `fresh` says that nothing was ever captured under this state: an unfinished first start may have left a slot behind,
/// which is dropped and made again. A slot that belongs to a journal is never made again silently.
///
/// # Errors
/// `SlotGone`, `SlotLost`, `SlotAhead`, `SlotWithoutJournal`, `SlotInUse`.
pub async fn prepare_slot(
    client: &Client,
    walsender: &mut Walsender,
    slot: &str,
    start: &CaptureStart,
    fresh: bool,
) -> Result<(u64, u64), PostgresError> {
    let resume = start.resume.as_ref().and_then(|resume| parse_lsn(&resume.0));
    let since = format_lsn(resume.unwrap_or(start.last.unwrap_or(Position::ZERO).offset.at));
    let state = slot_state(client, slot).await?;
    if let Some(pid) = state.as_ref().and_then(|state| state.active_pid) {
        return Err(PostgresError::SlotInUse { slot: slot.to_owned(), pid });
    }
    match (state, resume) {
        (Some(state), Some(_)) if state.wal_status.as_deref() == Some("lost") => {
            Err(PostgresError::SlotLost { slot: slot.to_owned(), reason: "wal_status is lost".into(), since })
        }
        (Some(state), Some(resume)) => {
            // The server moves a start below this point forward without a word.
            if state.confirmed > resume {
                return Err(PostgresError::SlotAhead {
                    slot: slot.to_owned(),
                    slot_at: format_lsn(state.confirmed),
                    journal_at: since,
                });
            }
            Ok((resume, state.confirmed))
        }
        (None, Some(_)) => Err(PostgresError::SlotGone { slot: slot.to_owned(), since }),
        (Some(state), None) if !fresh => Err(PostgresError::SlotWithoutJournal {
            slot: slot.to_owned(),
            slot_at: format_lsn(state.confirmed),
        }),
        (state, None) => {
            if state.is_some() {
                walsender.drop_slot(slot, true).await?;
            }
            tracing::info!(%slot, "making the replication slot; this waits for transactions that are open now");
            let created = walsender.create_slot(slot, SlotOptions::default()).await?;
            Ok((created.consistent_point, created.consistent_point))
        }
    }
}
