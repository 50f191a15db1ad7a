//! `rowbridge check` and `rowbridge teardown` for a MySQL target.

use mysql_async::{Error, Row};
use rowbridge_schema::{StreamName, TableName};

use super::MysqlTarget;
use super::bind::SYSTEM;
use super::collect;
use super::error::{MysqlError, failed};
use super::progress::{TABLE, create_sql, exists, place};
use super::session::{Flavor, Session};
use super::statement::{ident, qualified, text};
use crate::apply::{CheckItem, collection};

/// Smallest `max_allowed_packet` that leaves room for rows as large as a delivery.
const GOOD_PACKET: usize = 64 << 20;

/// What a user may do in a database, as far as its own grants say.
#[derive(Debug, Default)]
struct Grants {
    texts: Vec<String>,
}

impl Grants {
    async fn read(session: &mut Session) -> Result<Self, Error> {
        Ok(Self { texts: session.query("SHOW GRANTS").await? })
    }

    /// Whether a privilege is granted on everything or on a database. Roles that are not active do not count.
    fn has(&self, privilege: &str, database: &str) -> bool {
        self.texts.iter().any(|grant| {
            let Some((privileges, rest)) =
                grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON "))
            else {
                return false;
            };
            let on = rest.split(" TO ").next().unwrap_or_default().trim_start_matches("TABLE ");
            let place = on == "*.*"
                || on
                    .strip_suffix(".*")
                    .is_some_and(|on| matches(on.trim_matches('`').replace("``", "`").as_str(), database));
            let listed = privileges.split(", ").any(|word| word.eq_ignore_ascii_case(privilege));
            place && (listed || privileges.eq_ignore_ascii_case("ALL PRIVILEGES"))
        })
    }
}

/// The pattern of a database in a GRANT: `_` and `%` are wild unless a backslash stands before them.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let mut chars = name.chars();
    match first {
        '%' => matches(rest, name) || chars.next().is_some() && matches(pattern, chars.as_str()),
        '_' => chars.next().is_some() && matches(rest, chars.as_str()),
        '\\' if !rest.is_empty() => {
            name.chars().next() == rest.chars().next() && {
                let escaped = rest.chars().next().map_or(0, char::len_utf8);
                matches(&rest[escaped..], &name[escaped..])
            }
        }
        other => chars.next() == Some(other) && matches(rest, chars.as_str()),
    }
}

/// `'user'@'host'` of `CURRENT_USER()`.
fn account(current_user: &str) -> String {
    let (user, host) = current_user.rsplit_once('@').unwrap_or((current_user, "%"));
    format!("{}@{}", text(user), text(host))
}

impl MysqlTarget {
    /// Connects and looks at settings, privileges and tables. Changes nothing.
    ///
    /// # Errors
    /// No connection, or a catalog that cannot be read.
    pub async fn check(&self) -> Result<Vec<CheckItem>, MysqlError> {
        let mut session = self.settings.connect().await?;
        self.look(&mut session).await.map_err(|e| failed("checking the target", e))
    }

    async fn look(&self, session: &mut Session) -> Result<Vec<CheckItem>, Error> {
        let mut items = Vec::new();
        let mut item = |subject, fine, finding: String, fix: Option<String>| {
            items.push(CheckItem { subject, fine, finding, fix });
        };
        let name = match session.flavor {
            Flavor::MariaDb => "MariaDB",
            Flavor::Mysql => "MySQL",
        };
        item("version", true, format!("{name} {}", session.version), None);
        let facts: Vec<(String, u8, u8, String, u64, u8)> = session
            .query(
                "SELECT CURRENT_USER(), @@read_only, @@log_bin, @@binlog_format, @@innodb_lock_wait_timeout, \
                 @@innodb_rollback_on_timeout",
            )
            .await?;
        let Some((user, read_only, log_bin, binlog_format, ..)) = facts.into_iter().next() else {
            return Ok(items);
        };
        let account = account(&user);
        item(
            "role of the server",
            read_only == 0,
            if read_only == 0 { "writable".into() } else { "read_only is on".into() },
            (read_only != 0)
                .then(|| "point target.url at the primary, or run: SET GLOBAL read_only = 0".to_owned()),
        );
        let statements = log_bin != 0 && binlog_format.eq_ignore_ascii_case("STATEMENT");
        item(
            "binlog_format",
            !statements,
            if log_bin == 0 { "no binary log".into() } else { binlog_format },
            statements.then(|| {
                "SET GLOBAL binlog_format = 'ROW' (under READ COMMITTED the server refuses statements), and in the \
                 server's configuration"
                    .to_owned()
            }),
        );
        let packet = session.max_packet;
        item(
            "max_allowed_packet",
            packet >= GOOD_PACKET,
            format!("{packet} bytes: larger rows are refused"),
            (packet < GOOD_PACKET).then(|| {
                format!("SET GLOBAL max_allowed_packet = {GOOD_PACKET}, and in the server's configuration")
            }),
        );
        item(
            "sql_mode",
            true,
            "strict, zero dates and backslashes as they are, for our sessions".into(),
            None,
        );
        item("time_zone", true, "UTC for our sessions".into(), None);
        if session.folds_names {
            item(
                "lower_case_table_names",
                true,
                "names of tables are compared without regard to case".into(),
                None,
            );
        }
        let grants = Grants::read(session).await?;
        let progress = place(session);
        let database = session.database.clone();
        let on = |name: &Option<String>| match name {
            Some(name) => format!("{}.*", ident(name)),
            None => "*.*".to_owned(),
        };
        let has = |privilege: &str| match &database {
            Some(name) => grants.has(privilege, name),
            // Without a database in the URL, tables may go anywhere.
            None => grants.has(privilege, "\u{0}"),
        };
        let lacking = |wanted: &[&'static str]| -> Vec<&'static str> {
            wanted.iter().filter(|privilege| !has(privilege)).copied().collect()
        };
        let rows = lacking(&["SELECT", "INSERT", "UPDATE", "DELETE"]);
        let grant = |privileges: &[&str]| {
            format!("GRANT {} ON {} TO {account}", privileges.join(", "), on(&database))
        };
        item(
            "writing rows",
            rows.is_empty(),
            match rows.is_empty() {
                true => format!("granted on {}", on(&database)),
                false => {
                    format!("{} not granted on {} (single tables may be)", rows.join(", "), on(&database))
                }
            },
            (!rows.is_empty()).then(|| grant(&rows)),
        );
        let there = exists(session, &progress).await?;
        let may_make = has("CREATE");
        let table = qualified(&progress);
        item(
            "progress table",
            there || may_make,
            match (there, may_make) {
                (true, _) => format!("{table} is there"),
                (false, true) => format!("{table} will be made"),
                (false, false) => format!("{table} is missing and {user} may not make it"),
            },
            (!there && !may_make).then(|| {
                let mut statements = create_sql(&progress, database.is_none());
                statements.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {account}"));
                statements.join("; ")
            }),
        );
        item(
            "re-snapshots",
            may_make,
            match may_make {
                true => "may collect keys in tables of their own".into(),
                false => format!(
                    "tables whose keys order differently at the source need a table meanwhile, which {user} may not make"
                ),
            },
            (!may_make).then(|| {
                let place = format!("{}.*", ident(progress.schema.as_deref().unwrap_or_default()));
                format!("GRANT CREATE, DROP ON {place} TO {account}")
            }),
        );
        if self.settings.create {
            item(
                "making tables",
                may_make,
                if may_make { "allowed".into() } else { "not allowed: missing tables cannot be made".into() },
                (!may_make).then(|| grant(&["CREATE"])),
            );
        }
        let scope = scope("TABLE_SCHEMA", database.as_deref());
        let others: Vec<Row> = session
            .query(&format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE {scope} AND TABLE_TYPE = \
                 'BASE TABLE' AND LOWER(ENGINE) NOT IN ('innodb', 'rocksdb') ORDER BY 1, 2"
            ))
            .await?;
        for row in &others {
            let word = |at| row.get::<Option<String>, _>(at).flatten().unwrap_or_default();
            let table = TableName::new(word(0), word(1));
            item(
                "engine",
                false,
                format!(
                    "table {table} has the engine {}, which has no transactions: it cannot be written",
                    word(2)
                ),
                Some(format!("ALTER TABLE {} ENGINE = InnoDB", qualified(&table))),
            );
        }
        let scope = self::scope("EVENT_OBJECT_SCHEMA", database.as_deref());
        let triggers: Vec<(String, String, String)> = session
            .query(&format!(
                "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
                 WHERE {scope} ORDER BY 1, 2, 3"
            ))
            .await?;
        for (schema, table, trigger) in triggers {
            let table = TableName::new(&schema, table);
            item(
                "trigger",
                false,
                format!(
                    "trigger {trigger} of {table} fires for every row that is written; what it did at the source is sent too"
                ),
                Some(format!(
                    "if the source has it too, run: DROP TRIGGER {}",
                    qualified(&TableName::new(schema, trigger))
                )),
            );
        }
        let scope = self::scope("CONSTRAINT_SCHEMA", database.as_deref());
        let acting: Vec<(String, String, String)> = session
            .query(&format!(
                "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM \
                 information_schema.REFERENTIAL_CONSTRAINTS WHERE {scope} AND (UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR \
                 DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')) ORDER BY 1, 2, 3"
            ))
            .await?;
        for (schema, table, constraint) in acting {
            item(
                "foreign key",
                true,
                format!(
                    "{constraint} of {} acts on other rows: its tables are applied row by row when the source is MySQL or MariaDB",
                    TableName::new(schema, table)
                ),
                None,
            );
        }
        Ok(items)
    }

    /// What Rowbridge made for itself in the target: the progress of these streams, the keys that their unfinished
    /// re-snapshots have met, and the table that holds progress when no other stream has any. With `run`, removes it. Tables of replicated rows are the operator's and stay.
    ///
    /// # Errors
    /// No connection, or a statement that the server refuses; nothing is removed then.
    pub async fn teardown(&self, streams: &[StreamName], run: bool) -> Result<Vec<String>, MysqlError> {
        let mut session = self.settings.connect().await?;
        remove(&mut session, streams, run).await.map_err(|e| failed("removing progress", e))
    }
}

async fn remove(session: &mut Session, streams: &[StreamName], run: bool) -> Result<Vec<String>, Error> {
    let progress = place(session);
    let mut made = Vec::new();
    for stream in streams {
        let mut names: Vec<_> =
            collect::tables(session, &progress, &collection::of_stream(stream)).await?.into_iter().collect();
        names.sort();
        for name in names {
            let table = collect::beside(&progress, &name);
            if run {
                session.run(&format!("DROP TABLE {table}")).await?;
            }
            made.push(format!("table {table}"));
        }
    }
    if !exists(session, &progress).await? {
        return Ok(made);
    }
    let table = qualified(&progress);
    if run {
        // A lane that arrives meanwhile must not lose a table that was empty a moment ago.
        session.run(&format!("LOCK TABLES {table} WRITE")).await?;
    }
    let lanes: Vec<(String, String)> =
        session.query(&format!("SELECT stream, endpoint FROM {table} ORDER BY 1, 2")).await?;
    let is_ours = |stream: &String| streams.iter().any(|ours| ours.as_str() == stream);
    let ours = lanes.iter().filter(|(stream, _)| is_ours(stream));
    made.extend(ours.map(|(stream, endpoint)| format!("progress of stream {stream}, endpoint {endpoint}")));
    let all = lanes.iter().all(|(stream, _)| is_ours(stream));
    let own_database = session.database.is_none();
    if all {
        made.push(format!("table {table}"));
    }
    if run {
        let names: Vec<_> = streams.iter().map(|stream| text(stream.as_str())).collect();
        match all {
            true => session.run(&format!("DROP TABLE {table}")).await?,
            false if names.is_empty() => {}
            false => {
                session.run(&format!("DELETE FROM {table} WHERE stream IN ({})", names.join(", "))).await?;
            }
        }
        session.run("UNLOCK TABLES").await?;
    }
    // The database that was made for it alone.
    if let Some(database) = progress.schema.as_ref().filter(|_| all && own_database) {
        let left: Vec<String> = session
            .query(&format!(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {}",
                text(database)
            ))
            .await?;
        if left.iter().all(|name| name == TABLE) {
            made.push(format!("database {}", ident(database)));
            if run {
                session.run(&format!("DROP DATABASE {}", ident(database))).await?;
            }
        }
    }
    Ok(made)
}

/// The databases that are looked at: the one of the URL, or all that are not the server's own.
fn scope(column: &str, database: Option<&str>) -> String {
    match database {
        Some(name) => format!("{column} = {}", text(name)),
        None => {
            let system: Vec<_> = SYSTEM.iter().map(|name| text(name)).collect();
            format!("{column} NOT IN ({})", system.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_server_writes_them() {
        let grants = Grants {
            texts: vec![
                "GRANT USAGE ON *.* TO `rowbridge`@`%` IDENTIFIED BY PASSWORD '*X'".into(),
                "GRANT SELECT, INSERT, UPDATE ON `shop`.* TO `rowbridge`@`%`".into(),
                "GRANT ALL PRIVILEGES ON `ware\\_%`.* TO `rowbridge`@`%`".into(),
                "GRANT DELETE ON `shop`.`orders` TO `rowbridge`@`%`".into(),
            ],
        };
        assert!(grants.has("SELECT", "shop"));
        assert!(!grants.has("DELETE", "shop"), "one table is not the database");
        assert!(grants.has("CREATE", "ware_house"));
        assert!(!grants.has("CREATE", "wareXhouse"));
        assert!(!grants.has("SELECT", "\u{0}"));
        assert_eq!(account("rowbridge@%"), "'rowbridge'@'%'");
    }
}
