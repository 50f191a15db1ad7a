//! `rowbridge check` and `rowbridge teardown` for a PostgreSQL source.

use rowbridge_schema::config::SourceConfig;
use rowbridge_schema::sql::{ident, qualified};
use rowbridge_schema::{Classified, TableName};
use tokio_postgres::Client;

use super::catalog::{self, Catalog};
use super::client::Connector;
use super::error::PostgresError;
use super::setup;
use super::walsender::{Walsender, format_lsn};
use crate::check::Finding;

/// Looks at everything that capture will need, and changes nothing.
pub async fn check(connector: &Connector, source: &SourceConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(connector, source, &mut findings).await {
        findings.push(Finding { fix: error.hint(), ..Finding::error(describe(&error), "") });
    }
    findings
}

fn describe(error: &PostgresError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn look(
    connector: &Connector,
    source: &SourceConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    let client = connector.connect("check").await?;
    findings.push(Finding::ok(format!("connected to {} as {}", connector.url.host, connector.url.user)));
    setup::preflight(&client).await?;
    findings.push(Finding::ok("wal_level is logical, and the role may replicate"));
    super::client::refuse_pooler(&client).await?;
    let mut walsender = Walsender::connect(&super::client::connect_options(connector)?).await?;
    let system = walsender.identify_system().await?;
    walsender.close().await;
    findings.push(Finding::ok(format!(
        "replication connection works (system {}, timeline {})",
        system.system_id, system.timeline
    )));
    let catalog = catalog::load(&client, &source.tables, None).await?;
    let names: Vec<_> = catalog.tables.keys().cloned().collect();
    for pattern in source.tables.unmatched(&names) {
        findings.push(Finding::warning(
            format!("source.tables: {pattern:?} matches no table"),
            "Patterns are raw `schema.table` text without SQL quotes.",
        ));
    }
    if catalog.tables.is_empty() {
        findings.push(Finding::error(
            "no table matches source.tables",
            "Check the patterns and the database's name.",
        ));
    }
    privileges(&client, &catalog, findings).await?;
    identities(&catalog, findings);
    publications(&client, &catalog, source, findings).await?;
    slot(&client, source, findings).await?;
    retention(&client, source, findings).await
}

async fn privileges(
    client: &Client,
    catalog: &Catalog,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    findings.push(match setup::missing_grants(client, catalog).await? {
        None => Finding::ok(format!("{} tables can be read", catalog.tables.len())),
        Some((tables, statements)) => {
            Finding::error(format!("{tables} tables cannot be read for their snapshot"), statements)
        }
    });
    Ok(())
}

fn identities(catalog: &Catalog, findings: &mut Vec<Finding>) {
    let mut without: Vec<_> = catalog.tables.values().filter(|table| !table.has_identity).collect();
    without.sort_by(|a, b| a.def.name.cmp(&b.def.name));
    for table in without {
        let name = qualified(&table.def.name);
        findings.push(Finding::warning(
            format!("{} has no replica identity: only its inserts and truncates are captured", table.def.name),
            format!("Add a primary key, or run `ALTER TABLE {name} REPLICA IDENTITY FULL;` to capture updates and deletes."),
        ));
    }
}

/// Which of these tables do not send whole old rows, each with the relations that keep them back: the table itself, or its
/// partitions, whose identities count and not the root's.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(crate) async fn without_old_rows(
    connector: &Connector,
    tables: &[&TableName],
) -> Result<Vec<(TableName, Vec<TableName>)>, PostgresError> {
    let failed = |source| PostgresError::query("read the replica identities", source);
    let client = connector.connect("check").await?;
    let schemas: Vec<&str> = tables.iter().map(|name| name.schema.as_deref().unwrap_or_default()).collect();
    let names: Vec<&str> = tables.iter().map(|name| name.name.as_str()).collect();
    let rows = client
        .query(
            "SELECT DISTINCT n.nspname::text, c.relname::text, ln.nspname::text, l.relname::text
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS wanted(s, t)
             JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.s
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.t
             LEFT JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) p ON p.isleaf
             JOIN pg_catalog.pg_class l ON l.oid = coalesce(p.relid::oid, c.oid)
             JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
             WHERE l.relreplident <> 'f'
             ORDER BY 1, 2, 3, 4",
            &[&schemas, &names],
        )
        .await
        .map_err(failed)?;
    let mut without: Vec<(TableName, Vec<TableName>)> = Vec::new();
    for row in &rows {
        let name = |at| -> Result<TableName, PostgresError> {
            let schema: String = row.try_get(at).map_err(failed)?;
            Ok(TableName::new(schema, row.try_get::<_, String>(at + 1).map_err(failed)?))
        };
        let (table, relation) = (name(0)?, name(2)?);
        match without.last_mut().filter(|(known, _)| *known == table) {
            Some((_, relations)) => relations.push(relation),
            None => without.push((table, vec![relation])),
        }
    }
    Ok(without)
}

async fn publications(
    client: &Client,
    catalog: &Catalog,
    source: &SourceConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    let plan = setup::plan_publications(client, catalog, &source.publication).await?;
    if plan.statements.is_empty() {
        findings.push(Finding::ok(format!("publication {} holds the captured tables", source.publication)));
        return Ok(());
    }
    let owned = client
        .query_one(
            "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')
                AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)
                                AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))",
            &[&catalog.tables.values().map(|table| table.oid).collect::<Vec<u32>>()],
        )
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(|source| PostgresError::query("read privileges", source))?;
    let statements = format!("{};", plan.statements.join("; "));
    findings.push(if owned {
        Finding::ok(format!("the publications will be made at the first start: `{statements}`"))
    } else {
        Finding::error(
            "the publications must be made, and this role may not make them",
            format!("Run as the owner of the tables: `{statements}`"),
        )
    });
    Ok(())
}

async fn slot(
    client: &Client,
    source: &SourceConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    match setup::slot_state(client, &source.slot).await? {
        None => {
            let row = client
                .query_one(
                    "SELECT pg_catalog.current_setting('max_replication_slots')::bigint
                          - (SELECT count(*) FROM pg_catalog.pg_replication_slots)",
                    &[],
                )
                .await
                .map_err(|source| PostgresError::query("count slots", source))?;
            let free: i64 = row.try_get(0).map_err(|source| PostgresError::query("count slots", source))?;
            findings.push(if free > 0 {
                Finding::ok(format!("replication slot {} will be made at the first start ({free} free)", source.slot))
            } else {
                Finding::error(
                    "no replication slot is free",
                    "Drop a slot that nobody uses (SELECT * FROM pg_replication_slots), or raise max_replication_slots \
                     and restart the server.",
                )
            });
        }
        Some(state) if state.plugin != "pgoutput" => findings.push(Finding::error(
            format!("slot {} uses plugin {}, not pgoutput", source.slot, state.plugin),
            "Set source.slot to another name.",
        )),
        Some(state) if state.wal_status.as_deref() == Some("lost") => findings.push(Finding::error(
            format!("slot {} is lost: the server removed WAL that it needed", source.slot),
            "Run `rowbridge snapshot --all`.",
        )),
        Some(state) => findings.push(Finding::ok(format!(
            "slot {} exists (confirmed up to {}{})",
            source.slot,
            format_lsn(state.confirmed),
            state.active_pid.map_or(String::new(), |pid| format!(", in use by server process {pid}"))
        ))),
    }
    Ok(())
}

/// A slot that nobody reads holds WAL for ever unless the server has a bound.
async fn retention(
    client: &Client,
    source: &SourceConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    let row = client
        .query_one(
            "SELECT pg_catalog.current_setting('max_slot_wal_keep_size'),
                    pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size'))",
            &[],
        )
        .await
        .map_err(|source| PostgresError::query("read settings", source))?;
    let bound: String = row.try_get(0).map_err(|source| PostgresError::query("read settings", source))?;
    let bytes: i64 = row.try_get(1).map_err(|source| PostgresError::query("read settings", source))?;
    if let (Some(retained), Ok(bytes)) = (source.max_retained, u64::try_from(bytes))
        && bytes <= retained
    {
        findings.push(Finding::warning(
            format!(
                "max_slot_wal_keep_size ({bound}) is not above source.max_retained: the server takes the slot before \
                 the slowest endpoint is detached"
            ),
            "Lower source.max_retained, or raise max_slot_wal_keep_size.",
        ));
    }
    findings.push(if bound == "-1" {
        Finding::warning(
            "max_slot_wal_keep_size is not set: while the publisher is down, WAL grows until the disk is full",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); \
             (a slot beyond it is lost and needs a new snapshot)",
        )
    } else {
        Finding::ok(format!("max_slot_wal_keep_size is {bound}"))
    });
    Ok(())
}

/// Lists what Rowbridge made at the source and, unless `list_only`, drops it.
///
/// # Errors
/// The statement that failed; what came before it is gone.
pub async fn teardown(
    connector: &Connector,
    source: &SourceConfig,
    list_only: bool,
) -> Result<Vec<String>, PostgresError> {
    let client = connector.connect("teardown").await?;
    let mut made = Vec::new();
    let names = setup::publications(&source.publication);
    let rows = client
        .query(
            "SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname = ANY($1) ORDER BY 1",
            &[&names.as_slice()],
        )
        .await
        .map_err(|source| PostgresError::query("read publications", source))?;
    if setup::is_snapshot_marked(&client, &source.slot).await? {
        made.push(format!("replication slot {} (holds nothing)", setup::snapshot_mark(&source.slot)));
        if !list_only {
            setup::mark_snapshot(&client, &source.slot, false).await?;
        }
    }
    if let Some(state) = setup::slot_state(&client, &source.slot).await? {
        made.push(format!("replication slot {}", source.slot));
        if let Some(pid) = state.active_pid.filter(|_| !list_only) {
            return Err(PostgresError::SlotInUse { slot: source.slot.clone(), pid });
        }
        if !list_only {
            client
                .execute("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&source.slot])
                .await
                .map_err(|source| PostgresError::query("drop the slot", source))?;
        }
    }
    for row in rows {
        let name: String =
            row.try_get(0).map_err(|source| PostgresError::query("read publications", source))?;
        if !list_only {
            client
                .batch_execute(&format!("DROP PUBLICATION {}", ident(&name)))
                .await
                .map_err(|source| PostgresError::query("drop a publication", source))?;
        }
        made.push(format!("publication {name}"));
    }
    Ok(made)
}
