//! The set form: folded changes as a few statements over arrays.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use rowbridge_schema::{Cell, Failpoint, Position, TableDef};
use tokio_postgres::types::{ToSql, Type};

use super::binding::Binding;
use super::copy;
use super::session::Session;
use super::statement;
use crate::apply::clock::time_text;
use crate::plan::{Folded, Row, Upsert};

/// Rows from which COPY is worth its round trips.
pub(super) const COPY_FROM_ROWS: usize = 200;

/// A column of parameters, one element per row.
pub(super) type Texts<'d> = Vec<Option<Cow<'d, str>>>;

/// Statements over the same arrays.
#[derive(Debug)]
pub(super) struct Call<'d> {
    pub(super) statements: Vec<String>,
    pub(super) params: Vec<Texts<'d>>,
    /// The statement must touch this many rows.
    pub(super) expect: Option<u64>,
    /// Rows for COPY instead of statements.
    pub(super) copy: Option<Copy<'d>>,
}

/// Rows of one table and one set of columns.
#[derive(Debug)]
pub(super) struct Copy<'d> {
    sql: String,
    /// By column: whether it is written.
    written: Vec<bool>,
    rows: Vec<Row<'d>>,
}

impl Copy<'_> {
    async fn send(&self, session: &Session) -> Result<u64, tokio_postgres::Error> {
        let written = |column: u16| self.written.get(usize::from(column)).copied().unwrap_or(false);
        let rows = self.rows.iter();
        let rows =
            rows.map(|row| row.iter().filter(move |(column, _)| written(*column)).map(|(_, cell)| cell));
        copy::send(session, &self.sql, rows).await
    }
}

/// A row that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowFault {
    pub(super) position: Position,
    pub(super) table: String,
    pub(super) column: Option<String>,
    pub(super) key: Vec<String>,
    pub(super) reason: String,
}

/// `column=value` for each part of a key.
pub(super) fn key_texts(def: &TableDef, key: &[&Cell<'_>]) -> Vec<String> {
    def.key
        .iter()
        .zip(key)
        .filter_map(|(&k, cell)| def.columns.get(usize::from(k)).map(|column| (column, cell)))
        .map(|(column, cell)| format!("{}={}", column.name, cell.as_str().unwrap_or("NULL")))
        .collect()
}

pub(super) fn text<'d>(cell: &'d Cell<'d>) -> Option<Cow<'d, str>> {
    cell.as_str().map(Cow::Borrowed)
}

/// Checks the values of a row against what the target's types keep.
pub(super) fn check_row(binding: &Binding, row: &Row<'_>, position: Position) -> Result<(), RowFault> {
    for (column, cell) in row.iter() {
        let (Some(bound), Some(value)) = (binding.column(column), cell.as_str()) else { continue };
        if let Some(reason) = bound.check.fault(value) {
            let def = &binding.def;
            let key: Option<Vec<_>> = def.key.iter().map(|&k| row.cell(k)).collect();
            let column = def.columns.get(usize::from(column));
            let type_name = column.map_or("", |column| column.type_name.as_str());
            return Err(RowFault {
                position,
                table: def.name.to_string(),
                column: column.map(|column| column.name.clone()),
                key: key.map(|key| key_texts(def, &key)).unwrap_or_default(),
                reason: format!(
                    "{reason}; run `ALTER TABLE {} ALTER COLUMN {} TYPE {type_name}`",
                    binding.table, bound.ident
                ),
            });
        }
    }
    Ok(())
}

/// Empty parameter columns for rows of these columns, as far as they are written.
fn empty<'d>(binding: &Binding, columns: &[u16], extra: usize) -> Vec<Texts<'d>> {
    let written = columns.iter().filter(|&&c| binding.column(c).is_some()).count();
    vec![Vec::new(); written + extra]
}

pub(super) fn push<'d>(params: &mut [Texts<'d>], binding: &Binding, row: &Row<'d>) {
    let written = row.iter().filter(|(column, _)| binding.column(*column).is_some());
    for (param, (_, cell)) in params.iter_mut().zip(written) {
        param.push(text(cell));
    }
}

/// Columns of a partial update that are set: the key stays, unless equal keys may differ in text.
pub(super) fn updated(binding: &Binding, row: &Row<'_>) -> Vec<u16> {
    let keep =
        |c: &u16| binding.column(*c).is_some() && (binding.rewrites_key() || !binding.def.key.contains(c));
    row.columns().into_iter().filter(keep).collect()
}

/// The statements of a table's folded changes, in order. With `copy`, many rows that should be new go by COPY, which
/// knows no conflicts: where one is met, the whole is done again without.
pub(super) fn calls<'d>(
    binding: &Binding,
    folded: &Folded<'d>,
    copy: bool,
) -> Result<Vec<Call<'d>>, RowFault> {
    let mut calls = Vec::new();
    let keys = binding.def.key.len();
    if !folded.deletes.is_empty() && !binding.ignore_deletes {
        let mut params =
            vec![Vec::with_capacity(folded.deletes.len()); keys + usize::from(binding.soft.is_some())];
        for deleted in &folded.deletes {
            for (param, cell) in params.iter_mut().zip(&deleted.key) {
                param.push(text(cell));
            }
            if binding.soft.is_some() {
                params[keys].push(Some(Cow::Owned(time_text(deleted.at))));
            }
        }
        calls.push(Call { statements: vec![statement::delete(binding)], params, expect: None, copy: None });
    }
    let mut groups: Vec<(Vec<u16>, Vec<Texts<'d>>)> = Vec::new();
    let mut last = 0;
    let fresh = folded.upserts.iter().filter(|upsert| upsert.fresh).count();
    let copy = copy && fresh >= COPY_FROM_ROWS && binding.takes_copy();
    let mut copies: Vec<(Vec<u16>, Copy<'d>)> = Vec::new();
    for Upsert { row, position, fresh } in &folded.upserts {
        check_row(binding, row, *position)?;
        if copy && *fresh {
            let columns = row.columns();
            let at = copies.iter().position(|(c, _)| *c == columns).unwrap_or_else(|| {
                let written = binding.columns.iter().map(Option::is_some).collect();
                let sql = copy::statement(binding, &columns);
                copies.push((columns, Copy { sql, written, rows: Vec::new() }));
                copies.len() - 1
            });
            copies[at].1.rows.push(row.clone());
            continue;
        }
        let same = |columns: &[u16]| match row {
            Row::Sent { columns: sent, .. } => *sent == columns,
            Row::Merged(cells) => cells.iter().map(|(c, _)| c).eq(columns),
        };
        if !groups.get(last).is_some_and(|(columns, _)| same(columns)) {
            last = groups.iter().position(|(columns, _)| same(columns)).unwrap_or_else(|| {
                let columns = row.columns();
                let params = empty(binding, &columns, 0);
                groups.push((columns, params));
                groups.len() - 1
            });
        }
        push(&mut groups[last].1, binding, row);
    }
    for (_, copy) in copies {
        calls.push(Call { statements: vec![], params: vec![], expect: None, copy: Some(copy) });
    }
    for (columns, params) in groups {
        calls.push(Call {
            statements: statement::upsert(binding, &columns),
            params,
            expect: None,
            copy: None,
        });
    }
    let mut groups: Vec<(Vec<u16>, bool, Vec<Texts<'d>>)> = Vec::new();
    for update in &folded.updates {
        check_row(binding, &update.row, update.position)?;
        let columns = updated(binding, &update.row);
        let at = groups.iter().position(|(c, m, _)| *c == columns && *m == update.maybe_missing);
        let at = at.unwrap_or_else(|| {
            let params = empty(binding, &columns, keys);
            groups.push((columns.clone(), update.maybe_missing, params));
            groups.len() - 1
        });
        let params = &mut groups[at].2;
        for (param, cell) in params.iter_mut().zip(&update.key) {
            param.push(text(cell));
        }
        for (param, column) in params.iter_mut().skip(keys).zip(&columns) {
            param.push(update.row.cell(*column).and_then(text));
        }
    }
    for (columns, maybe_missing, params) in groups {
        // Nothing but the key was sent, and the key is as it was.
        if columns.is_empty() {
            continue;
        }
        let expect = (!maybe_missing).then(|| params.first().map_or(0, Vec::len) as u64);
        calls.push(Call {
            statements: vec![statement::update(binding, &columns)],
            params,
            expect,
            copy: None,
        });
    }
    Ok(calls)
}

/// A statement in flight.
pub(super) type InFlight<'f> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'f>>;

/// A step of a delivery on its way.
pub(super) enum Flight<'f> {
    /// Goes out together with its neighbours.
    Statement(InFlight<'f>),
    /// Has the session for itself while it runs.
    Copy(InFlight<'f>),
}

/// Runs steps in their order, statements between two COPYs in one round trip. Stops at the first failed round trip.
pub(super) async fn fly(flights: Vec<Flight<'_>>) -> Vec<Result<u64, tokio_postgres::Error>> {
    let mut results = Vec::with_capacity(flights.len());
    let mut together = Vec::new();
    for flight in flights {
        match flight {
            Flight::Statement(statement) => together.push(statement),
            Flight::Copy(copy) => {
                results.extend(pipeline(std::mem::take(&mut together)).await);
                if results.iter().any(Result::is_err) {
                    return results;
                }
                results.push(copy.await);
                if results.last().is_some_and(Result::is_err) {
                    return results;
                }
            }
        }
    }
    results.extend(pipeline(together).await);
    results
}

/// Drives futures that send at their first poll: everything goes out in this order, in one round trip. A later statement
/// of a failed transaction fails too, so the first error is the one that counts.
pub(super) async fn pipeline(mut futures: Vec<InFlight<'_>>) -> Vec<Result<u64, tokio_postgres::Error>> {
    let mut results: Vec<Option<Result<u64, tokio_postgres::Error>>> = Vec::new();
    results.resize_with(futures.len(), || None);
    // Answers come in the order of the statements: only the first one that is missing is worth a look.
    let mut next = 0;
    let mut sent = false;
    std::future::poll_fn(|cx| {
        if !std::mem::replace(&mut sent, true) {
            for (future, result) in futures.iter_mut().zip(&mut results) {
                if let Poll::Ready(done) = future.as_mut().poll(cx) {
                    *result = Some(done);
                }
            }
        }
        while next < futures.len() {
            if results[next].is_none() {
                match futures[next].as_mut().poll(cx) {
                    Poll::Ready(done) => results[next] = Some(done),
                    Poll::Pending => return Poll::Pending,
                }
            }
            next += 1;
            if next < futures.len() {
                Failpoint::TableWritten.pass();
            }
        }
        Poll::Ready(())
    })
    .await;
    results.into_iter().flatten().collect()
}

/// `sql` failing with `division_by_zero` unless it touches as many rows as parameter `number` says.
pub(super) fn counted(sql: &str, number: usize) -> String {
    format!(
        "WITH touched AS ({sql} RETURNING 1) SELECT 1 / (count(*) = ${number}::pg_catalog.int8)::pg_catalog.int4 \
         FROM touched"
    )
}

/// Prepares what is not prepared yet and gives the statements as futures that have not been sent. With `strict`, a
/// statement that touches another number of rows than it must fails, and what follows in the same transaction with it.
pub(super) async fn flights<'f>(
    session: &'f mut Session,
    calls: &'f [Call<'_>],
    strict: bool,
) -> Result<(&'f Session, Vec<Flight<'f>>), tokio_postgres::Error> {
    enum Prepared<'f, 'd> {
        Statement(tokio_postgres::Statement, &'f Call<'d>, Option<i64>),
        Copy(&'f Copy<'d>),
    }
    let mut prepared = Vec::new();
    for call in calls {
        prepared.extend(call.copy.as_ref().map(Prepared::Copy));
        let expect = call.expect.filter(|_| strict).map(|rows| rows as i64);
        for sql in &call.statements {
            let mut types = vec![Type::TEXT_ARRAY; call.params.len()];
            let statement = if expect.is_some() {
                types.push(Type::INT8);
                session.prepare(&counted(sql, types.len()), &types).await?
            } else {
                session.prepare(sql, &types).await?
            };
            prepared.push(Prepared::Statement(statement, call, expect));
        }
    }
    let session = &*session;
    let client = &session.client;
    let futures = prepared
        .into_iter()
        .map(|prepared| match prepared {
            Prepared::Copy(copy) => Flight::Copy(Box::pin(copy.send(session))),
            Prepared::Statement(statement, call, expect) => Flight::Statement(Box::pin(async move {
                let texts = call.params.iter().map(|texts| texts as &(dyn ToSql + Sync));
                let expect = expect.as_ref().map(|rows| rows as &(dyn ToSql + Sync));
                let params: Vec<&(dyn ToSql + Sync)> = texts.chain(expect).collect();
                client.execute(&statement, &params).await
            })),
        })
        .collect();
    Ok((session, futures))
}

/// Runs calls in order. `Ok(false)`: an updated row is missing.
pub(super) async fn run(session: &mut Session, calls: &[Call<'_>]) -> Result<bool, tokio_postgres::Error> {
    let (_, futures) = flights(session, calls, false).await?;
    let mut results = fly(futures).await.into_iter();
    let mut complete = true;
    for call in calls {
        let mut rows = 0;
        if call.copy.is_some() {
            results.next().transpose()?;
        }
        for _ in &call.statements {
            rows = results.next().transpose()?.unwrap_or(0);
        }
        complete &= call.expect.is_none_or(|expected| expected == rows);
    }
    Ok(complete)
}
