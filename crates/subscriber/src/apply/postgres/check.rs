//! `rowbridge check` and `rowbridge teardown` for a PostgreSQL target.

use rowbridge_schema::StreamName;
use rowbridge_schema::sql::ident;

use super::PostgresTarget;
use super::error::{PostgresError, failed};
use super::progress::{TABLE, create_sql};
use crate::apply::{CheckItem, collection};

impl PostgresTarget {
    /// Connects and looks at settings and privileges. Changes nothing.
    ///
    /// # Errors
    /// No connection, or a catalog that cannot be read.
    pub async fn check(&self) -> Result<Vec<CheckItem>, PostgresError> {
        let session = self.connect().await?;
        let doing = "checking the target";
        let mut items = Vec::new();
        let mut item = |subject, fine, finding: String, fix: Option<String>| {
            items.push(CheckItem { subject, fine, finding, fix });
        };
        let row = session
            .client
            .query_one(
                "SELECT current_user::text, current_database()::text, pg_is_in_recovery(), \
                 has_database_privilege(current_database(), 'CREATE'), \
                 has_schema_privilege($1::text, 'CREATE'), to_regclass($2::text) IS NOT NULL, \
                 CASE WHEN to_regclass($2::text) IS NOT NULL \
                      THEN has_table_privilege($2::text, 'SELECT') AND has_table_privilege($2::text, 'INSERT') \
                       AND has_table_privilege($2::text, 'UPDATE') ELSE false END",
                &[&session.schema, &format!("{}.{TABLE}", ident(&session.schema))],
            )
            .await
            .map_err(|e| failed(doing, e))?;
        let (user, database): (String, String) = (row.get(0), row.get(1));
        let role = ident(&user);
        let version = (session.version / 10_000, session.version % 10_000);
        item(
            "version",
            version.0 >= 14,
            format!("PostgreSQL {}.{}", version.0, version.1),
            (version.0 < 14).then(|| "upgrade to PostgreSQL 14 or later".to_owned()),
        );
        let standby: bool = row.get(2);
        item(
            "role of the server",
            !standby,
            if standby { "a standby: it cannot be written".into() } else { "primary".into() },
            standby.then(|| "point target.url at the primary".to_owned()),
        );
        let grant = if version.0 >= 15 {
            format!("GRANT SET ON PARAMETER session_replication_role TO {role}")
        } else {
            format!("ALTER ROLE {role} SUPERUSER (before PostgreSQL 15 there is no finer privilege)")
        };
        item(
            "session_replication_role",
            session.replica,
            if session.replica {
                "granted: triggers and foreign keys do not fire twice".into()
            } else {
                "not granted: tables with triggers or foreign keys are applied row by row, and their triggers fire".into()
            },
            (!session.replica).then_some(grant),
        );
        let (may_create_schema, may_create, exists, usable): (bool, bool, bool, bool) =
            (row.get(3), row.get(4), row.get(5), row.get(6));
        let table = format!("{}.{TABLE}", ident(&session.schema));
        item(
            "progress table",
            usable || (!exists && may_create),
            match (exists, usable) {
                (true, true) => format!("{table} is there"),
                (true, false) => format!("{table} is there, but {user} may not use it"),
                (false, _) if may_create => format!("{table} will be made"),
                (false, _) => format!("{table} is missing and {user} may not make it"),
            },
            match (exists, usable) {
                (true, false) => Some(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")),
                (false, _) if !may_create => Some(format!(
                    "{}; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}",
                    create_sql(&table)
                )),
                _ => None,
            },
        );
        item(
            "re-snapshots",
            may_create,
            match may_create {
                true => format!("may collect keys in tables of their own in schema {}", session.schema),
                false => format!(
                    "tables whose keys order differently at the source need a table meanwhile, which {user} may not \
                     make in schema {}",
                    session.schema
                ),
            },
            (!may_create).then(|| format!("GRANT CREATE ON SCHEMA {} TO {role}", ident(&session.schema))),
        );
        if self.settings.create {
            item(
                "making schemas",
                may_create_schema,
                if may_create_schema {
                    "allowed".into()
                } else {
                    "not allowed: missing schemas cannot be made".into()
                },
                (!may_create_schema)
                    .then(|| format!("GRANT CREATE ON DATABASE {} TO {role}", ident(&database))),
            );
        }
        Ok(items)
    }

    /// What Rowbridge made for itself in the target: the progress of these streams, the keys that their unfinished
    /// re-snapshots have met, and the table that holds progress when no other stream has any. With `run`, removes it. Tables of replicated rows are the operator's and stay.
    ///
    /// # Errors
    /// No connection, or a statement that the server refuses; nothing is removed then.
    pub async fn teardown(&self, streams: &[StreamName], run: bool) -> Result<Vec<String>, PostgresError> {
        let doing = "removing progress";
        let session = self.connect().await?;
        let table = format!("{}.{TABLE}", ident(&session.schema));
        let exists = session
            .client
            .query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table])
            .await
            .map_err(|e| failed(doing, e))?;
        let mut collections = Vec::new();
        for stream in streams {
            let found = super::collect::tables(&session, &collection::of_stream(stream)).await;
            let names = found.map_err(|e| failed(doing, e))?;
            collections
                .extend(names.iter().map(|name| format!("{}.{}", ident(&session.schema), ident(name))));
        }
        let drops: String = collections.iter().map(|table| format!("DROP TABLE {table}; ")).collect();
        let listed = collections.iter().map(|table| format!("table {table}"));
        if !exists.get::<_, bool>(0) {
            if run && !collections.is_empty() {
                session.batch(&format!("BEGIN; {drops}COMMIT")).await.map_err(|e| failed(doing, e))?;
            }
            return Ok(listed.collect());
        }
        if run {
            // A lane that arrives meanwhile must not lose a table that was empty a moment ago. A dropped session rolls back.
            let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
            session.batch(&lock).await.map_err(|e| failed(doing, e))?;
        }
        let rows = session
            .client
            .query(&format!("SELECT stream::text, endpoint::text FROM {table} ORDER BY 1, 2"), &[])
            .await
            .map_err(|e| failed(doing, e))?;
        let lanes: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let is_ours = |stream: &String| streams.iter().any(|ours| ours.as_str() == stream);
        let mut made: Vec<String> = lanes
            .iter()
            .filter(|(stream, _)| is_ours(stream))
            .map(|(stream, endpoint)| format!("progress of stream {stream}, endpoint {endpoint}"))
            .collect();
        made.extend(listed);
        let all = lanes.iter().all(|(stream, _)| is_ours(stream));
        if all {
            made.push(format!("table {table}"));
        }
        if run {
            let names: Vec<_> = streams.iter().map(|stream| format!("'{stream}'")).collect();
            let remove = match all {
                true => format!("DROP TABLE {table}; COMMIT"),
                // Stream names hold letters, digits, _ and - only.
                false => format!("DELETE FROM {table} WHERE stream IN ({}); COMMIT", names.join(", ")),
            };
            session.batch(&format!("{drops}{remove}")).await.map_err(|e| failed(doing, e))?;
        }
        Ok(made)
    }
}
