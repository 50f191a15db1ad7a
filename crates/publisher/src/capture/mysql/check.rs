//! `rowbridge check` and `rowbridge teardown` for a MySQL or MariaDB source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Row};
use rowbridge_schema::Classified;
use rowbridge_schema::config::SourceConfig;
use rowbridge_schema::sql::{backticked, backticked_table};

use super::binlog::Binlog;
use super::catalog::{self, Catalog};
use super::client::{Connector, Server, Session};
use super::error::MysqlError;
use super::setup::{self, variable};
use super::{cascade, foreign_key};
use crate::check::Finding;

/// Logs that are kept for less are gone after a weekend without us.
const SHORT_RETENTION: u64 = 3 * 86_400;
/// What is recommended instead.
const RETENTION: u64 = 7 * 86_400;
/// The server's first event comes at once.
const FIRST_EVENT: Duration = Duration::from_secs(10);
/// Names of one kind that are told in full.
const MAX_NAMED: usize = 20;

/// Access denied; you need (at least one of) the ... privilege(s).
const ER_SPECIFIC_ACCESS_DENIED: u16 = 1227;

/// Looks at everything that capture and snapshots will need, and changes nothing.
pub async fn check(connector: &Connector, source: &SourceConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(connector, source, &mut findings).await {
        findings.push(Finding { fix: error.hint(), ..Finding::error(describe(&error), "") });
    }
    findings
}

fn describe(error: &MysqlError) -> String {
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
) -> Result<(), MysqlError> {
    let Session { mut conn, server } = connector.connect().await?;
    let at = connector.at();
    findings.push(Finding::ok(format!("connected to {server} at {at} as {}", connector.url.user)));
    if let Some(finding) = version(&server) {
        findings.push(finding);
        return Ok(());
    }
    let user = user(&mut conn).await?;
    let streams = settings(&mut conn, &server, findings).await?;
    gtids(&mut conn, &server, findings).await?;
    retention(&mut conn, &server, findings).await?;
    replica(&mut conn, &server, findings).await?;
    if streams {
        stream(connector, &mut conn, &server, &user, findings).await?;
    }
    let catalog = catalog::load(&mut conn, &server, &source.tables, &Catalog::default()).await?;
    patterns(&catalog, source, &user, findings);
    if streams {
        filters(&mut conn, &server, &catalog, findings).await?;
    }
    readable(&mut conn, &catalog, &user, findings).await?;
    tables(&mut conn, &server, &catalog, &user, findings).await?;
    cascades(&mut conn, &server, &catalog, &user, findings).await
}

fn version(server: &Server) -> Option<Finding> {
    let (oldest, name) =
        if server.is_mariadb() { ((10, 6, 0), "MariaDB 10.6") } else { ((8, 0, 0), "MySQL 8.0") };
    (server.version < oldest).then(|| {
        Finding::error(
            format!("{server} is too old"),
            format!("Use {name} or later: its log names the columns."),
        )
    })
}

/// `'name'@'host'` as the server has matched it, for GRANT.
async fn user(conn: &mut Conn) -> Result<String, MysqlError> {
    let user: Option<String> =
        conn.query_first("SELECT CURRENT_USER()").await.map_err(MysqlError::query("read our own name"))?;
    let user = user.unwrap_or_default();
    let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Ok(format!("{}@{}", quoted(name), quoted(host)))
}

/// How a setting is made, now and for the next start.
fn set(server: &Server, name: &str, value: &str) -> String {
    if server.is_mariadb() {
        format!(
            "SET GLOBAL {name} = {value};\nand in the server's configuration, under [mariadbd]: {name} = {value}"
        )
    } else {
        format!("SET PERSIST {name} = {value};")
    }
}

fn configure(server: &Server, lines: &str) -> String {
    let section = if server.is_mariadb() { "[mariadbd]" } else { "[mysqld]" };
    format!("In the server's configuration, under {section}: {lines}; then restart it.")
}

/// Settings of the log; whether there is one that can be read.
async fn settings(conn: &mut Conn, server: &Server, findings: &mut Vec<Finding>) -> Result<bool, MysqlError> {
    let on = |value: Option<String>| matches!(value.as_deref(), Some("ON" | "1"));
    if !on(variable(conn, "log_bin").await?) {
        findings.push(Finding::error(
            "log_bin is OFF: the server writes no binary log",
            configure(server, "log_bin = binlog and a server_id of its own"),
        ));
        return Ok(false);
    }
    findings.push(Finding::ok("log_bin is ON"));
    if variable(conn, "server_id").await?.as_deref() == Some("0") {
        findings.push(Finding::error(
            "server_id is 0: the server refuses replicas",
            set(server, "server_id", "1"),
        ));
    }
    let mut wanted = |name: &str, found: Option<String>, wanted: &str, consequence: &str| {
        let Some(found) = found else { return };
        findings.push(if found.eq_ignore_ascii_case(wanted) {
            Finding::ok(format!("{name} is {found}"))
        } else {
            Finding::error(format!("{name} is {found}: {consequence}"), set(server, name, wanted))
        });
    };
    let format = variable(conn, "binlog_format").await?;
    wanted(
        "binlog_format",
        format,
        "ROW",
        "changes are logged as statements; sessions that are open keep it",
    );
    let metadata = variable(conn, "binlog_row_metadata").await?;
    wanted("binlog_row_metadata", metadata, "FULL", "rows are logged without the names of their columns");
    match variable(conn, "binlog_row_image").await?.as_deref() {
        Some("FULL") | None => findings.push(Finding::ok("binlog_row_image is FULL")),
        Some(image) => findings.push(Finding::warning(
            format!(
                "binlog_row_image is {image}: an update cannot make a row whole that the target has lost"
            ),
            set(server, "binlog_row_image", "'FULL'"),
        )),
    }
    let partial = variable(conn, "binlog_row_value_options").await?.unwrap_or_default();
    if !partial.is_empty() {
        findings.push(Finding::error(
            format!("binlog_row_value_options is {partial}: changed JSON documents are logged in part"),
            set(server, "binlog_row_value_options", "''"),
        ));
    }
    Ok(true)
}

/// Which setting keeps whole old rows out of the log, and what mends it; `None` if they are there.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(crate) async fn without_old_rows(connector: &Connector) -> Result<Option<(String, String)>, MysqlError> {
    let Session { mut conn, server } = connector.connect().await?;
    let image = variable(&mut conn, "binlog_row_image").await?;
    let image = image.filter(|image| !image.starts_with("FULL"));
    let fix = || {
        format!("{}\nSessions that are open keep what they have.", set(&server, "binlog_row_image", "'FULL'"))
    };
    Ok(image.map(|image| (format!("binlog_row_image = {image}"), fix())))
}

async fn gtids(conn: &mut Conn, server: &Server, findings: &mut Vec<Finding>) -> Result<(), MysqlError> {
    if server.is_mariadb() {
        let strict = variable(conn, "gtid_strict_mode").await?;
        findings.push(if strict.as_deref() == Some("ON") {
            Finding::ok("gtid_strict_mode is ON")
        } else {
            Finding::warning(
                "gtid_strict_mode is OFF: two servers may give the same GTID to different transactions, and a \
                 publisher that is led from one to the other would not notice",
                set(server, "gtid_strict_mode", "ON"),
            )
        });
        return Ok(());
    }
    let consistent = variable(conn, "enforce_gtid_consistency").await?.unwrap_or_default();
    let mode = variable(conn, "gtid_mode").await?.unwrap_or_default();
    let steps = |steps: &[(&str, &str)]| -> String {
        let lines: Vec<String> =
            steps.iter().map(|(name, value)| format!("SET PERSIST {name} = {value};")).collect();
        lines.join("\n")
    };
    const CONSISTENT: (&str, &str) = ("enforce_gtid_consistency", "ON");
    const OFF_PERMISSIVE: (&str, &str) = ("gtid_mode", "OFF_PERMISSIVE");
    const ON_PERMISSIVE: (&str, &str) = ("gtid_mode", "ON_PERMISSIVE");
    const ON: (&str, &str) = ("gtid_mode", "ON");
    findings.push(match mode.as_str() {
        "ON" => Finding::ok(format!("gtid_mode is ON, enforce_gtid_consistency is {consistent}")),
        "OFF" => Finding::warning(
            "gtid_mode is OFF: the publisher goes on by file and position, which hold for this server only, and each \
             range of a snapshot locks its table for a moment",
            steps(&[CONSISTENT, OFF_PERMISSIVE, ON_PERMISSIVE, ON]),
        ),
        "OFF_PERMISSIVE" => Finding::error(
            "gtid_mode is OFF_PERMISSIVE: only some transactions have a name",
            steps(&[CONSISTENT, ON_PERMISSIVE, ON]),
        ),
        other => {
            Finding::error(format!("gtid_mode is {other}: only some transactions have a name"), steps(&[CONSISTENT, ON]))
        }
    });
    Ok(())
}

/// How long the publisher may be away. The server removes logs by age, read or not.
async fn retention(conn: &mut Conn, server: &Server, findings: &mut Vec<Finding>) -> Result<(), MysqlError> {
    let number = |value: Option<String>| value.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
    let seconds = number(variable(conn, "binlog_expire_logs_seconds").await?) as u64;
    let days = number(variable(conn, "expire_logs_days").await?);
    let kept = if seconds > 0 { seconds } else { (days * 86_400.0) as u64 };
    let removes = variable(conn, "binlog_expire_logs_auto_purge").await?.as_deref() != Some("OFF");
    findings.push(if kept == 0 || !removes {
        Finding::ok("binary logs are not removed by age")
    } else if kept < SHORT_RETENTION {
        Finding::warning(
            format!(
                "binary logs are kept for {kept} s: a publisher that is away for longer needs a new snapshot"
            ),
            set(server, "binlog_expire_logs_seconds", &RETENTION.to_string()),
        )
    } else {
        Finding::ok(format!("binary logs are kept for {kept} s"))
    });
    Ok(())
}

/// A replica that does not log what it applies has nothing for us.
async fn replica(conn: &mut Conn, server: &Server, findings: &mut Vec<Finding>) -> Result<(), MysqlError> {
    let (name, status) = match (server.is_mariadb(), server.version >= (8, 0, 26)) {
        (true, _) => ("log_slave_updates", "SHOW ALL SLAVES STATUS"),
        (false, true) => ("log_replica_updates", "SHOW REPLICA STATUS"),
        (false, false) => ("log_slave_updates", "SHOW SLAVE STATUS"),
    };
    if variable(conn, name).await?.as_deref() != Some("OFF") {
        return Ok(());
    }
    let fix = || configure(server, &format!("{name} = ON"));
    match conn.query::<Row, _>(status).await {
        Ok(rows) if rows.is_empty() => {}
        Ok(_) => findings.push(Finding::error(
            format!("the server is a replica and {name} is OFF: what it applies is not in its log"),
            fix(),
        )),
        Err(Error::Server(error)) if error.code == ER_SPECIFIC_ACCESS_DENIED => {
            findings.push(Finding::warning(
                format!("{name} is OFF: if the server is a replica, what it applies is not in its log"),
                fix(),
            ))
        }
        Err(error) => return Err(MysqlError::query("ask whether the server is a replica")(error)),
    }
    Ok(())
}

fn replication_grant(server: &Server, user: &str) -> String {
    let monitor = if server.is_mariadb() { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
    format!("GRANT REPLICATION SLAVE, {monitor} ON *.* TO {user};")
}

/// Reads the log's end, and its first event from there, as capture will.
async fn stream(
    connector: &Connector,
    conn: &mut Conn,
    server: &Server,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), MysqlError> {
    let grant = || replication_grant(server, user);
    let end = match setup::log_end(conn, server).await {
        Ok(end) => end,
        Err(MysqlError::Query { source: Error::Server(error), .. })
            if error.code == ER_SPECIFIC_ACCESS_DENIED =>
        {
            findings.push(Finding::error("the end of the binary log may not be read", grant()));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let server_id = rand::random_range(1 << 30..1 << 31);
    let first = async {
        let mut log = Binlog::open(connector, &end, server_id).await?;
        log.next().await?;
        log.close().await;
        Ok::<_, MysqlError>(())
    };
    match tokio::time::timeout(FIRST_EVENT, first).await {
        Ok(Ok(())) => {
            findings.push(Finding::ok(format!("the binary log can be read (from {}:{})", end.file, end.at)))
        }
        Ok(Err(MysqlError::Query { source, .. } | MysqlError::Stream(source))) if matches!(&source, Error::Server(error) if matches!(error.code, 1045 | ER_SPECIFIC_ACCESS_DENIED)) =>
        {
            findings.push(Finding::error("the binary log may not be read", grant()));
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => findings.push(Finding::error(
            "the binary log was asked for, and nothing came",
            "Look at the server's error log; a proxy in between may not pass on replication.",
        )),
    }
    match setup::refuse_prepared(conn).await {
        Err(MysqlError::NotReady { problem, fix }) => findings.push(Finding::warning(
            format!("{problem}: a publisher cannot start for the first time now"),
            fix,
        )),
        other => other?,
    }
    Ok(())
}

fn patterns(catalog: &Catalog, source: &SourceConfig, user: &str, findings: &mut Vec<Finding>) {
    let names: Vec<_> = catalog.tables.keys().cloned().collect();
    for pattern in source.tables.unmatched(&names) {
        findings.push(Finding::warning(
            format!("source.tables: {pattern:?} matches no table"),
            "Patterns are raw `database.table` text without quotes. Tables on which a user has no privilege at all are \
             not shown to it.",
        ));
    }
    if catalog.tables.is_empty() {
        findings.push(Finding::error(
            "no table matches source.tables",
            format!("Check the patterns, and what {user} may see: GRANT SELECT ON `DATABASE`.* TO {user};"),
        ));
    }
}

/// Databases that the server leaves out of its log.
async fn filters(
    conn: &mut Conn,
    server: &Server,
    catalog: &Catalog,
    findings: &mut Vec<Finding>,
) -> Result<(), MysqlError> {
    let Ok(row) = conn.query_first::<Row, _>(server.log_status_statement()).await else { return Ok(()) };
    let list = |at: usize| -> BTreeSet<String> {
        let text: Option<String> = row.as_ref().and_then(|row| row.get::<Option<String>, _>(at).flatten());
        text.unwrap_or_default().split(',').map(str::to_owned).filter(|name| !name.is_empty()).collect()
    };
    let (only, never) = (list(2), list(3));
    let databases: BTreeSet<&str> =
        catalog.tables.keys().map(|table| table.schema.as_deref().unwrap_or_default()).collect();
    for database in databases {
        if never.contains(database) || !only.is_empty() && !only.contains(database) {
            let name = if never.contains(database) { "binlog_ignore_db" } else { "binlog_do_db" };
            findings.push(Finding::error(
                format!("{name} keeps {database} out of the binary log"),
                configure(server, &format!("no {name} that leaves out {database}")),
            ));
        }
    }
    Ok(())
}

async fn readable(
    conn: &mut Conn,
    catalog: &Catalog,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), MysqlError> {
    let mut denied: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, table) in &catalog.tables {
        let columns: Vec<String> = table
            .def
            .sent_columns()
            .iter()
            .map(|&at| backticked(&table.def.columns[usize::from(at)].name))
            .collect();
        let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
        match conn.query_drop(format!("SELECT {columns} FROM {} LIMIT 0", backticked_table(name))).await {
            // Table or column denied.
            Err(Error::Server(error)) if matches!(error.code, 1142 | 1143) => {
                denied.entry(name.schema.as_deref().unwrap_or_default()).or_default().push(&name.name);
            }
            // Gone since the catalog was read.
            Err(Error::Server(error)) if error.code == 1146 => {}
            other => other.map_err(MysqlError::query("read a captured table"))?,
        }
    }
    if denied.is_empty() && !catalog.tables.is_empty() {
        findings.push(Finding::ok(format!("{} tables can be read", catalog.tables.len())));
    }
    for (database, tables) in denied {
        findings.push(Finding::error(
            format!(
                "{} tables of {database} cannot be read for their snapshot: {}",
                tables.len(),
                named(&tables)
            ),
            format!("GRANT SELECT ON {}.* TO {user};", backticked(database)),
        ));
    }
    Ok(())
}

fn named<T: ToString>(names: &[T]) -> String {
    let mut names: Vec<String> = names.iter().map(T::to_string).collect();
    names.sort();
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    let text = names.join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}

/// What the captured tables are like.
async fn tables(
    conn: &mut Conn,
    server: &Server,
    catalog: &Catalog,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), MysqlError> {
    let all = || catalog.tables.values();
    let mut keyless: Vec<_> = all().filter(|table| table.def.key.is_empty()).collect();
    keyless.sort_by(|a, b| a.def.name.cmp(&b.def.name));
    for table in &keyless {
        findings.push(Finding::warning(
            format!(
                "{} has no key: a row is found by all its values, and its snapshot starts over when it is interrupted",
                table.def.name
            ),
            format!("ALTER TABLE {} ADD PRIMARY KEY (...);", backticked_table(&table.def.name)),
        ));
    }
    let mut plain: Vec<_> = all().filter(|table| !table.transactional).map(|table| &table.def.name).collect();
    plain.sort();
    for name in plain {
        findings.push(Finding::warning(
            format!("{name} is not in a transactional engine: what a rolled back transaction wrote stays"),
            format!("ALTER TABLE {} ENGINE = InnoDB;", backticked_table(name)),
        ));
    }
    let gtids = server.is_mariadb() || variable(conn, "gtid_mode").await?.as_deref() == Some("ON");
    let locks = !gtids || keyless.iter().any(|table| !server.is_mariadb() || !table.transactional);
    if locks && !may_lock(conn).await? {
        let databases: BTreeSet<&str> = catalog
            .tables
            .keys()
            .filter(|name| !gtids || keyless.iter().any(|table| table.def.name == **name))
            .map(|name| name.schema.as_deref().unwrap_or_default())
            .collect();
        let grants: Vec<String> = databases
            .iter()
            .map(|database| format!("GRANT LOCK TABLES ON {}.* TO {user};", backticked(database)))
            .collect();
        let which = if gtids { "tables without key" } else { "tables" };
        findings.push(Finding::error(
            format!("{which} must be locked for a moment when their snapshot begins, which {user} may not"),
            grants.join("\n"),
        ));
    }
    let mut charsets: BTreeSet<&str> = BTreeSet::new();
    for column in all().flat_map(|table| &table.def.columns) {
        let collation = column.collation.as_deref().unwrap_or_default();
        let charset = collation.split('_').next().unwrap_or_default();
        if !matches!(charset, "" | "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "latin1" | "binary") {
            charsets.insert(charset);
        }
    }
    if !charsets.is_empty() {
        let charsets: Vec<&str> = charsets.into_iter().collect();
        findings.push(Finding::ok(format!("the server itself converts texts in {}", named(&charsets))));
    }
    Ok(())
}

async fn may_lock(conn: &mut Conn) -> Result<bool, MysqlError> {
    let grants: Vec<String> =
        conn.query("SHOW GRANTS").await.map_err(MysqlError::query("read our own privileges"))?;
    Ok(grants.iter().any(|grant| {
        let privileges = grant.split(" ON ").next().unwrap_or_default();
        privileges.contains("LOCK TABLES") || privileges.contains("ALL PRIVILEGES")
    }))
}

/// What a foreign key changes in other rows is not in the log of MariaDB, and of MySQL before 9.6.
async fn cascades(
    conn: &mut Conn,
    server: &Server,
    catalog: &Catalog,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), MysqlError> {
    if cascade::are_logged(conn, server).await? {
        return Ok(());
    }
    let mut databases: BTreeSet<String> = BTreeSet::new();
    for child in catalog.tables.keys() {
        for key in foreign_key::links(conn, child).await?.keys.iter().filter(|key| key.acts()) {
            let (name, parent) = (&key.name, &key.parent);
            databases.extend(child.schema.clone());
            if !catalog.tables.contains_key(parent) {
                findings.push(Finding::error(
                    format!(
                        "what foreign key {name} of {child} changes is not in {server}'s log, and {parent}, to which it \
                         refers, is not captured: nothing tells a target of it"
                    ),
                    format!("Add {parent} to source.tables, or leave {child} out of them."),
                ));
                continue;
            }
            let quoted =
                |names: &[String]| names.iter().map(|name| backticked(name)).collect::<Vec<_>>().join(", ");
            findings.push(Finding::warning(
                format!(
                    "what foreign key {name} of {child} changes is not in {server}'s log: the target must do the same"
                ),
                format!(
                    "At the target: ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) \
                     ON UPDATE {} ON DELETE {};",
                    backticked_table(child),
                    backticked(name),
                    quoted(&key.columns),
                    backticked_table(parent),
                    quoted(&key.referenced),
                    key.on_update,
                    key.on_delete,
                ),
            ));
        }
    }
    // MariaDB tells the moment of a read, and without GTIDs all tables are locked.
    let gtids = !server.is_mariadb() && variable(conn, "gtid_mode").await?.as_deref() == Some("ON");
    if gtids && !databases.is_empty() && !may_lock(conn).await? {
        let grants: Vec<String> = databases
            .iter()
            .map(|database| format!("GRANT LOCK TABLES ON {}.* TO {user};", backticked(database)))
            .collect();
        findings.push(Finding::error(
            format!(
                "tables with rows that foreign keys change must be locked for a moment while they are read, which {user} \
                 may not"
            ),
            grants.join("\n"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_as_each_server_does() {
        let mariadb = Server::parse("10.11.19-MariaDB");
        let mysql = Server::parse("9.7.4");
        assert_eq!(
            set(&mariadb, "binlog_format", "ROW"),
            "SET GLOBAL binlog_format = ROW;\nand in the server's configuration, under [mariadbd]: binlog_format = ROW"
        );
        assert_eq!(set(&mysql, "binlog_format", "ROW"), "SET PERSIST binlog_format = ROW;");
        assert_eq!(
            (replication_grant(&mariadb, "'a'@'%'"), replication_grant(&mysql, "'a'@'%'")),
            (
                "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'a'@'%';".to_owned(),
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'a'@'%';".to_owned()
            )
        );
        assert!(version(&Server::parse("10.5.9-MariaDB")).is_some() && version(&mariadb).is_none());
        assert!(version(&Server::parse("5.7.44")).is_some() && version(&mysql).is_none());
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(named(&["b", "a"]), "a, b");
        let names: Vec<String> = (0..25).map(|at| format!("t{at:02}")).collect();
        assert!(named(&names).ends_with("t19 and 5 more"));
    }
}
