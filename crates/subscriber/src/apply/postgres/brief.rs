//! A small delivery as one message.
//!
//! In the extended protocol every statement is answered by itself, and each answer is a packet that wakes this side: for
//! one row that costs both sides more than the row. One simple query of several statements is answered once (PostgreSQL
//! manual, "Multiple Statements in a Simple Query"). Plans are kept all the same: the statements are EXECUTEs.
//!
//! The values are in the text, which the server logs if a statement fails.

use std::fmt::Write as _;

use futures_util::StreamExt as _;
use rowbridge_schema::Failpoint;
use tokio_postgres::SimpleQueryMessage;

use super::lane::{LOCK_PROGRESS, LOCK_ROWS};
use super::session::Session;
use super::set::{Call, Texts, counted};

/// Bytes of values up to which a delivery is small. Beyond, literals cost more than packets.
const MOST_BYTES: usize = 16 << 10;

/// Most statements of a small delivery.
const MOST_STATEMENTS: usize = 16;

/// A parameter, whose type is the statement's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Param<'p> {
    Text(&'p str),
    Number(i64),
    Texts(&'p Texts<'p>),
}

impl Param<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "int8",
            Self::Texts(_) => "text[]",
        }
    }

    /// Appends the literal, as it is read with `standard_conforming_strings`.
    fn literal(&self, sql: &mut String) {
        match self {
            Self::Text(text) => {
                sql.push('\'');
                sql.push_str(&text.replace('\'', "''"));
                sql.push('\'');
            }
            Self::Number(number) => {
                let _ = write!(sql, "'{number}'");
            }
            Self::Texts(texts) => {
                sql.push_str("'{");
                for (i, text) in texts.iter().enumerate() {
                    if i > 0 {
                        sql.push(',');
                    }
                    match text {
                        None => sql.push_str("NULL"),
                        Some(text) => element(text, sql),
                    }
                }
                sql.push_str("}'");
            }
        }
    }
}

/// An element of an array in a string.
fn element(text: &str, sql: &mut String) {
    sql.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\', '\'']) {
        sql.push_str(&rest[..at]);
        sql.push_str(match rest.as_bytes()[at] {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            _ => "''",
        });
        rest = &rest[at + 1..];
    }
    sql.push_str(rest);
    sql.push('"');
}

/// Whether the calls are few and small. A text with NUL, which no message holds, is left to the way that says so.
pub(super) fn fits(calls: &[Call<'_>]) -> bool {
    let mut texts = calls.iter().flat_map(|call| &call.params).flatten().flatten();
    let bytes = |call: &Call<'_>| {
        call.params.iter().flatten().map(|text| 4 + text.as_ref().map_or(0, |text| text.len())).sum::<usize>()
    };
    calls.iter().map(|call| call.statements.len()).sum::<usize>() <= MOST_STATEMENTS
        && calls.iter().all(|call| call.copy.is_none())
        && calls.iter().map(bytes).sum::<usize>() <= MOST_BYTES
        && !texts.any(|text| text.contains('\0'))
}

/// Why statements that went out together were not carried out.
pub(super) struct Failed {
    /// It was the beginning, or progress.
    pub(super) before_rows: bool,
    pub(super) error: tokio_postgres::Error,
}

/// A transaction under construction.
pub(super) struct Brief {
    sql: String,
    statements: usize,
    /// Statements before the first that writes rows.
    before_rows: usize,
}

impl Brief {
    pub(super) fn begin(session: &mut Session) -> Self {
        // Progress is one more.
        session.room_for_names(MOST_STATEMENTS + 1);
        Self { sql: LOCK_PROGRESS.to_owned(), statements: 2, before_rows: 2 }
    }

    /// What follows may wait for locks as long as a session does.
    pub(super) fn rows_follow(&mut self) {
        self.sql.push(';');
        self.sql.push_str(LOCK_ROWS);
        self.statements += 1;
        self.before_rows = self.statements;
    }

    /// Adds a statement, which is prepared if it is not yet.
    pub(super) async fn add(
        &mut self,
        session: &mut Session,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<(), tokio_postgres::Error> {
        let types: Vec<&str> = params.iter().map(Param::type_name).collect();
        let number = session.name(sql, &types).await?;
        let _ = write!(self.sql, ";EXECUTE {}", Session::statement_name(number));
        for (i, param) in params.iter().enumerate() {
            self.sql.push(if i == 0 { '(' } else { ',' });
            param.literal(&mut self.sql);
        }
        self.sql.push_str(if params.is_empty() { "" } else { ")" });
        self.statements += 1;
        Ok(())
    }

    /// Adds calls; each fails unless it touches as many rows as it must.
    pub(super) async fn add_calls(
        &mut self,
        session: &mut Session,
        calls: &[Call<'_>],
    ) -> Result<(), tokio_postgres::Error> {
        for call in calls {
            let mut params: Vec<Param<'_>> = call.params.iter().map(Param::Texts).collect();
            params.extend(call.expect.map(|rows| Param::Number(rows as i64)));
            for sql in &call.statements {
                match call.expect {
                    Some(_) => self.add(session, &counted(sql, params.len()), &params).await?,
                    None => self.add(session, sql, &params).await?,
                }
            }
        }
        Ok(())
    }

    /// Sends it with its COMMIT.
    ///
    /// # Errors
    /// Why a statement failed, and whether it was one before the rows. None behind it was run, and the transaction is still
    /// to be rolled back.
    pub(super) async fn commit(mut self, session: &Session) -> Result<(), Failed> {
        self.sql.push_str(";COMMIT");
        let rows = self.before_rows..self.statements;
        let mut done = 0;
        let failed = |done: usize, error| Failed { before_rows: done < rows.start, error };
        let sent = session.client.simple_query_raw(&self.sql).await;
        let mut answers = std::pin::pin!(sent.map_err(|error| failed(done, error))?);
        while let Some(answer) = answers.next().await {
            if let SimpleQueryMessage::CommandComplete(_) = answer.map_err(|error| failed(done, error))? {
                if rows.contains(&done) {
                    Failpoint::TableWritten.pass();
                }
                done += 1;
            }
        }
        session.watch.answered();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn literals_end_where_they_should() {
        let literal = |param: Param<'_>| {
            let mut sql = String::new();
            param.literal(&mut sql);
            sql
        };
        assert_eq!(literal(Param::Number(-7)), "'-7'");
        assert_eq!(literal(Param::Text("it's \\ \"x\"")), "'it''s \\ \"x\"'");
        let texts = ["it's", "a\"b", "c\\d", "", "NULL", "{,}", "ä☃\n"];
        let texts: Texts<'_> =
            texts.into_iter().map(|text| Some(Cow::Borrowed(text))).chain([None]).collect();
        let expected = r#"'{"it''s","a\"b","c\\d","","NULL","{,}","ä☃
",NULL}'"#;
        assert_eq!(literal(Param::Texts(&texts)), expected);
        assert_eq!(literal(Param::Texts(&Vec::new())), "'{}'");
    }
}
