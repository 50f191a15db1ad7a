//! A program whose names are column indexes.

use std::borrow::Cow;

use regex::Regex;

use super::ast::Comparison;
use super::error::{EvalError, Span};
use super::eval::{evaluate, truth};
use super::function::Function;
use super::input::Input;
use super::number::Operation;
use super::value::{Type, Value};
use crate::cell::{Cell, Class};
use crate::table::{Dialect, TableDef};
use crate::types::ColumnType;

/// A program for one shape of a table: the same index means the same column.
#[derive(Debug, Clone)]
pub struct Bound {
    root: Node,
    found: Type,
    column_type: ColumnType,
}

impl Bound {
    /// `table` is `None` for messages.
    pub(super) fn new(root: Node, found: Type, table: Option<&TableDef>) -> Self {
        let named = |name: &str| ColumnType::parse(Dialect::Postgres, name, None, &[]);
        let column_type = match (&root.kind, found, table) {
            (
                NodeKind::Column { row: RowName::Before | RowName::After | RowName::Key, column, .. },
                _,
                Some(table),
            ) => ColumnType::of(table, &table.columns[*column]),
            (_, Type::Bool, _) => named("boolean"),
            (_, Type::Number, _) => named("numeric"),
            (_, Type::Timestamp, _) => named("timestamp with time zone"),
            (_, Type::Any | Type::Json, _) => named("json"),
            (_, Type::Null | Type::Text | Type::Duration | Type::List | Type::Row, _) => named("text"),
        };
        Self { root, found, column_type }
    }

    /// The result's type.
    #[must_use]
    pub fn result(&self) -> Type {
        self.found
    }

    /// What a column that holds the result is: the column's own type where the program only names one, else PostgreSQL's
    /// `boolean`, `numeric`, `text` or `timestamp with time zone`, or `json` where only the row knows.
    #[must_use]
    pub fn column_type(&self) -> &ColumnType {
        &self.column_type
    }

    /// The result for one change.
    pub fn evaluate<'a>(&'a self, input: &Input<'a>) -> Result<Value<'a>, EvalError> {
        evaluate(&self.root, input)
    }

    /// Whether the change passes; null does not. For programs bound as a condition.
    pub fn matches(&self, input: &Input<'_>) -> Result<bool, EvalError> {
        truth(&self.root, input)
    }

    /// The result as a cell of [`Bound::column_type`]; `None` if the program only names a column that was not sent.
    pub fn cell<'a>(&'a self, input: &Input<'a>) -> Result<Option<Cell<'a>>, EvalError> {
        if let NodeKind::Column { row, column, .. } = self.root.kind {
            return Ok(row.cell(input, column).map(borrowed));
        }
        let value = self.evaluate(input)?;
        Ok(Some(match (self.found, value) {
            (Type::Any | Type::Json, value) => value.into_json_cell(),
            // MySQL's zero date is no time.
            (Type::Timestamp, Value::Text(_)) => Cell::Null,
            (_, value) => value.into_cell(),
        }))
    }
}

fn borrowed<'a>(cell: &'a Cell<'_>) -> Cell<'a> {
    match cell {
        Cell::Null => Cell::Null,
        Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
        Cell::Classed(class, text) => Cell::Classed(*class, Cow::Borrowed(text)),
    }
}

/// A row of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowName {
    Before,
    After,
    /// The new row, or where there is none the old one.
    Key,
    /// [`super::input::MESSAGE`]
    Message,
}

impl RowName {
    pub(super) fn exists(self, input: &Input<'_>) -> bool {
        match self {
            Self::Before => input.before.is_some(),
            Self::After => input.after.is_some(),
            Self::Key => input.after.is_some() || input.before.is_some(),
            Self::Message => input.message.is_some(),
        }
    }

    pub(super) fn cell<'a>(self, input: &Input<'a>, column: usize) -> Option<&'a Cell<'a>> {
        match self {
            Self::Before => input.before?.cell(column),
            Self::After => input.after?.cell(column),
            Self::Key => input.after.or(input.before)?.cell(column),
            Self::Message => input.message?.cell(column),
        }
    }
}

/// How a column's canonical text is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Text,
    /// Blanks at the end do not count.
    Padded,
    Number,
    Bool,
    Document,
    /// By its storage class; this one if it carries none.
    Class(Class),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Op,
    Table,
    Schema,
    Stream,
    Endpoint,
    Position,
    CommitTime,
}

/// A conversion that the types of both sides ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coercion {
    /// A text that is a time becomes one; any other value stays.
    Time,
    /// A number that is not zero is true.
    FlagToBool,
    /// True is 1, as in MySQL.
    BoolToFlag,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: NodeKind,
}

#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    Constant(Value<'static>),
    Column {
        row: RowName,
        column: usize,
        reading: Reading,
    },
    Variable(Variable),
    Row(RowName),
    /// `before == null`
    NoRow(RowName),
    Has(RowName, usize),
    HasMember(Box<Node>, String),
    Changed(usize),
    Member(Box<Node>, String),
    Element(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Arithmetic(Operation, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// In a list that is written out.
    InList(Box<Node>, Vec<Node>),
    /// In what is known by the row only.
    InValue(Box<Node>, Box<Node>),
    If(Box<[Node; 3]>),
    Matches(Box<Node>, Regex),
    Call(Function, Vec<Node>),
    Coerce(Coercion, Box<Node>),
}
