//! A session at one end, whatever database it is.

use std::collections::HashMap;

use mysql_async::prelude::Queryable as _;
use rowbridge_tests::compare::Side;
use rowbridge_tests::scenario::{DATABASE, Kind, Pair};

/// SQL in, nothing or one number out: all that a load and its observer need.
pub(super) enum Session {
    Mariadb(mysql_async::Conn),
    /// With the queries that it has prepared.
    Postgres(tokio_postgres::Client, HashMap<String, tokio_postgres::Statement>),
    Sqlite(rusqlite::Connection),
}

impl Session {
    pub(super) async fn open(pair: &Pair, side: Side) -> Self {
        match (side, kind(pair, side)) {
            (Side::Source, Kind::Mariadb) => Self::Mariadb(pair.source_server().connect(DATABASE).await),
            (Side::Target, Kind::Mariadb) => Self::Mariadb(pair.target_server().connect(DATABASE).await),
            (Side::Source, Kind::Postgres) => Self::Postgres(pair.source().await, HashMap::new()),
            (Side::Target, Kind::Postgres) => Self::Postgres(pair.target().await, HashMap::new()),
            (Side::Source, Kind::Sqlite) => Self::Sqlite(pair.source_file().open()),
            (Side::Target, Kind::Sqlite) => Self::Sqlite(pair.target_file().open()),
        }
    }

    /// Commits statements as one transaction, in one round trip.
    pub(super) async fn commit(&mut self, statements: &[String]) {
        let text = match self {
            // Statements that arrive together are one transaction by themselves.
            Self::Postgres(..) => statements.join(";"),
            _ if statements.len() == 1 => statements[0].clone(),
            _ => format!("BEGIN;{};COMMIT", statements.join(";")),
        };
        self.execute(&text).await;
    }

    /// Runs one statement or several.
    pub(super) async fn execute(&mut self, sql: &str) {
        let result = match self {
            Self::Mariadb(session) => session.query_drop(sql).await.map_err(|error| error.to_string()),
            Self::Postgres(session, _) => {
                session.batch_execute(sql).await.map_err(|error| format!("{error:?}"))
            }
            Self::Sqlite(session) => {
                tokio::task::block_in_place(|| session.execute_batch(sql).map_err(|error| error.to_string()))
            }
        };
        if let Err(error) = result {
            panic!("{}: {error}", sql.chars().take(200).collect::<String>());
        }
    }

    /// The whole number, of 64 bits, that a query gives; none where it gives no row, NULL, or an error: a copy may not be there yet.
    pub(super) async fn number(&mut self, sql: &str) -> Option<i64> {
        match self {
            Self::Mariadb(session) => session.exec_first::<Option<i64>, _, _>(sql, ()).await.ok()??,
            Self::Postgres(session, prepared) => {
                if !prepared.contains_key(sql) {
                    prepared.insert(sql.to_owned(), session.prepare(sql).await.ok()?);
                }
                session.query_opt(&prepared[sql], &[]).await.ok()??.get(0)
            }
            Self::Sqlite(session) => tokio::task::block_in_place(|| {
                session.prepare_cached(sql).ok()?.query_row([], |row| row.get(0)).ok()?
            }),
        }
    }
}

/// Which database an end has.
pub(super) fn kind(pair: &Pair, side: Side) -> Kind {
    match side {
        Side::Source => pair.source_kind(),
        Side::Target => pair.target_kind(),
    }
}
