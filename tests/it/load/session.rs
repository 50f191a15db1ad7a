//! A session of the application, which outlives its server.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError};
use rowbridge_tests::scenario::{DATABASE, Kind, Pair};
use rowbridge_tests::{mariadb, postgres};
use rusqlite::{Connection, ErrorCode};
use tokio_postgres::Client;

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was carried out.
    Done,
    /// The schema refused it, which is a part of the load. The transaction goes on.
    Refused,
    /// The transaction is gone: a deadlock, or the server went away.
    Over,
}

enum Open {
    Mariadb(Conn),
    Postgres(Client),
    // In the mutex for the sake of Sync; nobody else has it.
    Sqlite(std::sync::Mutex<Connection>),
}

/// Connects again when its server has been away.
pub(super) struct Session {
    open: Open,
    url: String,
}

impl Session {
    pub(super) async fn open(pair: &Pair) -> Self {
        let (open, url) = match pair.source_kind() {
            Kind::Mariadb => {
                let url = pair.source_server().url(DATABASE);
                (Open::Mariadb(pair.source_server().connect(DATABASE).await), url)
            }
            Kind::Postgres => {
                let url = pair.source_cluster().url(DATABASE);
                (Open::Postgres(pair.source_cluster().connect(DATABASE).await), url)
            }
            Kind::Sqlite => (Open::Sqlite(std::sync::Mutex::new(pair.source_file().open())), String::new()),
        };
        let mut session = Self { open, url };
        session.set_up().await;
        session
    }

    async fn set_up(&mut self) {
        if let Open::Mariadb(conn) = &mut self.open {
            // Two writers wait for each other; a second is enough to see who wins. A server that stops again is met by the
            // next statement.
            let _ = conn
                .query_drop("SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, time_zone = '+00:00'")
                .await;
        }
    }

    /// Runs a statement inside of a transaction, so that the transaction outlives a refusal: PostgreSQL's would not.
    pub(super) async fn attempt(&mut self, sql: &str) -> Outcome {
        if !matches!(self.open, Open::Postgres(_)) || sql.contains("SAVEPOINT") {
            return self.run(sql).await;
        }
        if self.run("SAVEPOINT attempt").await == Outcome::Over {
            return Outcome::Over;
        }
        let outcome = self.run(sql).await;
        let after = match outcome {
            Outcome::Done => "RELEASE SAVEPOINT attempt",
            Outcome::Refused => "ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt",
            Outcome::Over => return Outcome::Over,
        };
        match self.run(after).await {
            Outcome::Over => Outcome::Over,
            _ => outcome,
        }
    }

    /// Runs a statement.
    pub(super) async fn run(&mut self, sql: &str) -> Outcome {
        let outcome = match &mut self.open {
            Open::Mariadb(conn) => {
                conn.query_drop(sql).await.map_or_else(|error| mariadb_outcome(sql, &error), done)
            }
            Open::Postgres(client) => {
                client.batch_execute(sql).await.map_or_else(|error| postgres_outcome(sql, &error), done)
            }
            Open::Sqlite(connection) => connection
                .get_mut()
                .unwrap()
                .execute_batch(sql)
                .map_or_else(|error| sqlite_outcome(sql, &error), done),
        };
        match outcome {
            Some(outcome) => outcome,
            None => {
                self.reconnect().await;
                Outcome::Over
            }
        }
    }

    async fn reconnect(&mut self) {
        loop {
            let opened = match &self.open {
                Open::Mariadb(_) => mariadb::connect(&self.url).await.ok().map(Open::Mariadb),
                Open::Postgres(_) => postgres::connect(&self.url).await.ok().map(Open::Postgres),
                Open::Sqlite(_) => unreachable!("a file does not go away"),
            };
            if let Some(open) = opened {
                self.open = open;
                self.set_up().await;
                return;
            }
            // Until the server is back, as any application would.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// `None` is a session that is lost.
fn done((): ()) -> Option<Outcome> {
    Some(Outcome::Done)
}

fn mariadb_outcome(sql: &str, error: &mysql_async::Error) -> Option<Outcome> {
    match error {
        mysql_async::Error::Server(error) => match error.code {
            // Not null, duplicate, foreign key, a savepoint that a TRUNCATE has ended.
            1048 | 1062 | 1169 | 1451 | 1452 | 1305 => Some(Outcome::Refused),
            // A lock wait takes back the statement only.
            1205 => Some(Outcome::Refused),
            1213 | 1020 => Some(Outcome::Over),
            // The server stops; MySQL has words of its own for that.
            1053 | 1077 | 1927 | 1152 | 1317 | 3169 | 4031 => None,
            _ => panic!("{sql}: {error}"),
        },
        mysql_async::Error::Io(_) | mysql_async::Error::Driver(DriverError::ConnectionClosed) => None,
        other => panic!("{sql}: {other:?}"),
    }
}

fn postgres_outcome(sql: &str, error: &tokio_postgres::Error) -> Option<Outcome> {
    let db = error.as_db_error()?;
    match db.code().code() {
        code if code.starts_with("23") => Some(Outcome::Refused),
        // What is left of a transaction after a deadlock answers so until its end.
        "40P01" | "40001" => Some(Outcome::Over),
        code if code.starts_with("57P") => None,
        _ => panic!("{sql}: {db:?}"),
    }
}

fn sqlite_outcome(sql: &str, error: &rusqlite::Error) -> Option<Outcome> {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Some(Outcome::Refused),
        _ => panic!("{sql}: {error}"),
    }
}
