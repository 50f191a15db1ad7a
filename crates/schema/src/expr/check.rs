//! Names and types: a tree becomes a bound one, or an error with its place.

use regex::Regex;

use super::ast::{Comparison, Expr, ExprKind};
use super::bound::{Coercion, Node, NodeKind, Reading, RowName, Variable};
use super::compare::{Fix, align};
use super::error::{ExprError, Problem, Span};
use super::input::MESSAGE;
use super::number::{MAX_EXPONENT, Number};
use super::value::{Type, Value};
use super::{Purpose, Scope};
use crate::sqlite_type::natural_class;
use crate::suggest::nearest;
use crate::table::{Column, Dialect, TableDef};
use crate::types::{Affinity, ColumnType, Kind};

/// The tree for one table, and the result's type.
pub(super) fn bind(
    root: &Expr,
    patterns: &[(usize, Regex)],
    scope: &Scope<'_>,
) -> Result<(Node, Type), ExprError> {
    let checker = Checker { table: scope.table, patterns };
    let typed = checker.lower(root)?;
    match scope.purpose {
        Purpose::Condition => match typed.found {
            Type::Bool | Type::Any | Type::Null => Ok((condition(typed), Type::Bool)),
            _ if typed.flag => Ok((condition(typed), Type::Bool)),
            found => Err(ExprError::new(root.span, Problem::NotCondition { found })),
        },
        Purpose::Value => {
            let refused = |write| {
                let problem = Problem::NotColumn { found: typed.found, write };
                Err(ExprError::new(root.span, problem))
            };
            match typed.found {
                Type::Row => refused(Some("name a column, such as after.total")),
                Type::List => refused(None),
                Type::Duration => refused(Some("write string(x), or int(x) for its seconds")),
                Type::Timestamp if !matches!(typed.node.kind, NodeKind::Column { .. }) => {
                    Ok((Fix::Coerce(Coercion::Time).apply(typed.node), Type::Timestamp))
                }
                found => Ok((typed.node, found)),
            }
        }
    }
}

/// A part of the tree and what is known of it.
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) found: Type,
    /// A number that stands for a boolean: MySQL's `tinyint(1)`, SQLite's integers.
    pub(super) flag: bool,
}

fn condition(typed: Typed) -> Node {
    if typed.flag { Fix::Coerce(Coercion::FlagToBool).apply(typed.node) } else { typed.node }
}

pub(super) struct Checker<'a> {
    table: Option<&'a TableDef>,
    pub(super) patterns: &'a [(usize, Regex)],
}

pub(super) fn typed(span: Span, kind: NodeKind, found: Type) -> Typed {
    Typed { node: Node { span, kind }, found, flag: false }
}

const VARIABLES: &[&str] = &[
    "op",
    "before",
    "after",
    "key",
    "message",
    "table",
    "schema",
    "stream",
    "endpoint",
    "position",
    "commit_time",
];

pub(super) fn row_name(name: &str) -> Option<RowName> {
    Some(match name {
        "before" => RowName::Before,
        "after" => RowName::After,
        "key" => RowName::Key,
        "message" => RowName::Message,
        _ => return None,
    })
}

impl Checker<'_> {
    pub(super) fn lower(&self, expr: &Expr) -> Result<Typed, ExprError> {
        let span = expr.span;
        let constant = |value, found| Ok(typed(span, NodeKind::Constant(value), found));
        match &expr.kind {
            ExprKind::Null => constant(Value::Null, Type::Null),
            ExprKind::Bool(value) => constant(Value::Bool(*value), Type::Bool),
            ExprKind::Number(text) => constant(Value::Number(literal(text, span)?), Type::Number),
            ExprKind::Text(text) => constant(Value::Text(text.clone().into()), Type::Text),
            ExprKind::Name(name) => self.variable(name, span),
            ExprKind::List(items) => {
                let nodes = items.iter().map(|item| self.one_value(item)).collect::<Result<_, _>>()?;
                Ok(typed(span, NodeKind::List(nodes), Type::List))
            }
            ExprKind::Member(..) | ExprKind::Index(..) => self.field(expr),
            ExprKind::Call { function, arguments, .. } => self.call(*function, arguments, span),
            ExprKind::Not(operand) => {
                let operand = self.condition(operand)?;
                Ok(typed(span, NodeKind::Not(Box::new(operand)), Type::Bool))
            }
            ExprKind::Negate(operand) => self.negate(operand, span),
            ExprKind::Arithmetic(operation, left, right) => self.arithmetic(*operation, left, right, span),
            ExprKind::Compare(comparison, left, right) => self.compare(*comparison, left, right, span),
            ExprKind::In(item, container) => self.is_in(item, container, span),
            ExprKind::And(items) => Ok(typed(span, NodeKind::And(self.conditions(items)?), Type::Bool)),
            ExprKind::Or(items) => Ok(typed(span, NodeKind::Or(self.conditions(items)?), Type::Bool)),
            ExprKind::If(parts) => self.choice(parts, span),
        }
    }

    /// Anything but a row.
    fn one_value(&self, expr: &Expr) -> Result<Node, ExprError> {
        let found = self.lower(expr)?;
        if found.found == Type::Row {
            return Err(operand("a value", Type::Row, Some("name a column, such as after.total"), expr.span));
        }
        Ok(found.node)
    }

    fn conditions(&self, items: &[Expr]) -> Result<Vec<Node>, ExprError> {
        items.iter().map(|item| self.condition(item)).collect()
    }

    fn condition(&self, expr: &Expr) -> Result<Node, ExprError> {
        let found = self.lower(expr)?;
        match found.found {
            Type::Bool | Type::Any | Type::Null => Ok(condition(found)),
            _ if found.flag => Ok(condition(found)),
            other => {
                let write = match other {
                    Type::Text => Some("texts are joined with `+`; compare it, such as x == 'a'"),
                    _ => Some("compare it, such as x > 0"),
                };
                Err(operand("a condition", other, write, expr.span))
            }
        }
    }

    fn variable(&self, name: &str, span: Span) -> Result<Typed, ExprError> {
        if let Some(row) = row_name(name) {
            return Ok(typed(span, NodeKind::Row(row), Type::Row));
        }
        let (variable, found) = match name {
            "op" => (Variable::Op, Type::Text),
            "table" => (Variable::Table, Type::Text),
            "schema" => (Variable::Schema, Type::Text),
            "stream" => (Variable::Stream, Type::Text),
            "endpoint" => (Variable::Endpoint, Type::Text),
            "position" => (Variable::Position, Type::Text),
            "commit_time" => (Variable::CommitTime, Type::Timestamp),
            _ => {
                let columns = self.table.map_or(&[][..], |table| &table.columns);
                let problem = if columns.iter().any(|column| column.name == name) {
                    Problem::BareColumn { name: name.to_owned() }
                } else {
                    let nearest = nearest(name, VARIABLES.iter().copied()).map(str::to_owned);
                    Problem::UnknownVariable { name: name.to_owned(), nearest }
                };
                return Err(ExprError::new(span, problem));
            }
        };
        Ok(typed(span, NodeKind::Variable(variable), found))
    }

    /// A column of a row, or a field of JSON.
    fn field(&self, expr: &Expr) -> Result<Typed, ExprError> {
        let span = expr.span;
        if let Some((row, name)) = expr.column()
            && let Some(row) = row_name(row)
        {
            let column = self.column(row, name, span)?;
            if let (RowName::Message, Some(at)) = (row, column) {
                let (reading, found) = match name.as_str() {
                    "payload" | "headers" => (Reading::Document, Type::Any),
                    _ => (Reading::Text, Type::Text),
                };
                return Ok(typed(span, NodeKind::Column { row, column: at, reading }, found));
            }
            let Some((table, at)) = self.table.zip(column) else {
                let any = NodeKind::Constant(Value::Null);
                return Ok(Typed { flag: true, ..typed(span, any, Type::Any) });
            };
            let (reading, found, flag) = reading(table, &table.columns[at]);
            return Ok(Typed { flag, ..typed(span, NodeKind::Column { row, column: at, reading }, found) });
        }
        match &expr.kind {
            ExprKind::Member(base, name) => {
                let found = self.lower(base)?;
                has_fields(&found, false, base.span)?;
                Ok(typed(span, NodeKind::Member(Box::new(found.node), name.clone()), Type::Any))
            }
            ExprKind::Index(base, index) => {
                let found = self.lower(base)?;
                if found.found == Type::Row {
                    return Err(ExprError::new(index.span, Problem::ColumnName));
                }
                has_fields(&found, true, base.span)?;
                let at = self.lower(index)?;
                let allowed: &[Type] =
                    if found.found == Type::List { &[Type::Number] } else { &[Type::Number, Type::Text] };
                expect(&at, allowed, "the number or the name of a field", None, index.span)?;
                Ok(typed(span, NodeKind::Element(Box::new(found.node), Box::new(at.node)), Type::Any))
            }
            _ => Err(ExprError::new(span, Problem::ColumnName)),
        }
    }

    /// The column's index; none without a table.
    pub(super) fn column(&self, row: RowName, name: &str, span: Span) -> Result<Option<usize>, ExprError> {
        if row == RowName::Message {
            let at = MESSAGE.iter().position(|known| *known == name);
            let problem = || {
                let nearest = nearest(name, MESSAGE.iter().copied()).map(str::to_owned);
                ExprError::new(span, Problem::NotOfMessage { name: name.to_owned(), nearest })
            };
            return at.map(Some).ok_or_else(problem);
        }
        let Some(table) = self.table else { return Ok(None) };
        let Some(at) = table.columns.iter().position(|column| column.name == name) else {
            let known = table.columns.iter().map(|column| column.name.as_str());
            let nearest = nearest(name, known).map(str::to_owned);
            let problem =
                Problem::UnknownColumn { table: table.name.to_string(), name: name.to_owned(), nearest };
            return Err(ExprError::new(span, problem));
        };
        let is_key = table.key.iter().any(|&key| usize::from(key) == at);
        if row == RowName::Key && !is_key {
            let key = table.key.iter().filter_map(|&key| table.columns.get(usize::from(key)));
            let key = key.map(|column| column.name.clone()).collect();
            let problem = Problem::NotKey { table: table.name.to_string(), name: name.to_owned(), key };
            return Err(ExprError::new(span, problem));
        }
        Ok(Some(at))
    }

    fn negate(&self, expr: &Expr, span: Span) -> Result<Typed, ExprError> {
        let found = self.lower(expr)?;
        expect(&found, &[Type::Number, Type::Duration], "a number", None, expr.span)?;
        Ok(match found.node.kind {
            NodeKind::Constant(Value::Number(number)) => {
                typed(span, NodeKind::Constant(Value::Number(number.negated())), Type::Number)
            }
            _ => typed(span, NodeKind::Negate(Box::new(found.node)), found.found),
        })
    }

    fn compare(
        &self,
        comparison: Comparison,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        let (a, b) = (self.lower(left)?, self.lower(right)?);
        let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let row = match (&a.node.kind, a.found, &b.node.kind, b.found) {
            (NodeKind::Row(row), _, _, Type::Null) | (_, Type::Null, NodeKind::Row(row), _) => Some(*row),
            _ => None,
        };
        if let Some(row) = row.filter(|_| equality) {
            let none = typed(span, NodeKind::NoRow(row), Type::Bool);
            return Ok(match comparison {
                Comparison::NotEqual => typed(span, NodeKind::Not(Box::new(none.node)), Type::Bool),
                _ => none,
            });
        }
        let (fix_a, fix_b) = align(span, (left, &a), (right, &b), !equality)?;
        let kind =
            NodeKind::Compare(comparison, Box::new(fix_a.apply(a.node)), Box::new(fix_b.apply(b.node)));
        Ok(typed(span, kind, Type::Bool))
    }

    fn is_in(&self, item: &Expr, container: &Expr, span: Span) -> Result<Typed, ExprError> {
        let found = self.lower(item)?;
        if let ExprKind::List(items) = &container.kind {
            let mut nodes = Vec::with_capacity(items.len());
            let mut item_fix = Fix::Keep;
            for other in items {
                let element = self.lower(other)?;
                let (fix, other_fix) = align(other.span, (item, &found), (other, &element), false)?;
                let other_fix = match fix {
                    // One item for all elements: it stays a boolean, and a flag in the list becomes one.
                    Fix::Coerce(Coercion::BoolToFlag) => Fix::Coerce(Coercion::FlagToBool),
                    Fix::Keep => other_fix,
                    time => {
                        item_fix = time;
                        other_fix
                    }
                };
                nodes.push(other_fix.apply(element.node));
            }
            let item = Box::new(item_fix.apply(found.node));
            return Ok(typed(span, NodeKind::InList(item, nodes), Type::Bool));
        }
        if found.found == Type::Row {
            return Err(operand("a value", Type::Row, Some("name a column, such as after.total"), item.span));
        }
        let within = self.lower(container)?;
        let write = match within.found {
            Type::Text => Some("x.contains('part') asks for a part of a text"),
            Type::Row => Some("has(after.column) asks whether a column was sent"),
            _ => Some("write `x in [1, 2]`"),
        };
        expect(&within, &[Type::List], "a list", write, container.span)?;
        let kind = NodeKind::InValue(Box::new(found.node), Box::new(within.node));
        Ok(typed(span, kind, Type::Bool))
    }

    fn choice(&self, parts: &[Expr; 3], span: Span) -> Result<Typed, ExprError> {
        let condition = self.condition(&parts[0])?;
        let (first, second) = (self.lower(&parts[1])?, self.lower(&parts[2])?);
        let flag = first.flag && second.flag;
        let found = match (first.found, second.found) {
            (Type::Row, _) | (_, Type::Row) => {
                let write = Some("name a column, such as after.total");
                return Err(operand("a value", Type::Row, write, span));
            }
            (a, b) if a == b => a,
            (Type::Null, other) | (other, Type::Null) => other,
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (left, right) => return Err(ExprError::new(span, Problem::Branches { left, right })),
        };
        let kind = NodeKind::If(Box::new([condition, first.node, second.node]));
        Ok(Typed { flag, ..typed(span, kind, found) })
    }
}

fn literal(text: &str, span: Span) -> Result<Number<'static>, ExprError> {
    match Number::literal(text) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(ExprError::new(span, Problem::Number)),
        Err(_) => Err(ExprError::new(span, Problem::NumberSize { most: MAX_EXPONENT })),
    }
}

pub(super) fn operand(
    expected: &'static str,
    found: Type,
    write: Option<&'static str>,
    span: Span,
) -> ExprError {
    ExprError::new(span, Problem::Operand { expected, found, write })
}

/// One of the types, or one that only the row knows. `null` alone is refused: it would always be null.
pub(super) fn expect(
    value: &Typed,
    allowed: &[Type],
    expected: &'static str,
    write: Option<&'static str>,
    span: Span,
) -> Result<(), ExprError> {
    if value.found == Type::Any || allowed.contains(&value.found) {
        return Ok(());
    }
    Err(operand(expected, value.found, write, span))
}

pub(super) fn has_fields(value: &Typed, by_index: bool, span: Span) -> Result<(), ExprError> {
    if value.found == Type::Any || (by_index && value.found == Type::List) {
        return Ok(());
    }
    let write = match value.found {
        Type::Text => Some("json(x) reads a text as JSON"),
        Type::Timestamp => Some("compare it with a string such as '2024-01-31'"),
        _ => None,
    };
    Err(ExprError::new(span, Problem::NoField { found: value.found, write }))
}

/// How a column is read, what it is, and whether it may stand for a boolean.
fn reading(table: &TableDef, column: &Column) -> (Reading, Type, bool) {
    let class = || Reading::Class(natural_class(&column.type_name));
    match ColumnType::of(table, column).kind {
        Kind::Bool => (Reading::Bool, Type::Bool, false),
        Kind::Integer { bits, .. } => {
            (Reading::Number, Type::Number, bits == 8 && table.dialect == Dialect::Mysql)
        }
        Kind::Decimal { .. } | Kind::Float { .. } | Kind::Year => (Reading::Number, Type::Number, false),
        Kind::Date | Kind::Timestamp(_) | Kind::Timestamptz(_) => (Reading::Text, Type::Timestamp, false),
        Kind::Json { .. } => (Reading::Document, Type::Any, false),
        Kind::Text { padded: true, .. } => (Reading::Padded, Type::Text, false),
        // The declaration says what is meant; a value of another class is unequal to all that is.
        Kind::Dynamic(Affinity::Integer) => (class(), Type::Number, true),
        Kind::Dynamic(Affinity::Real) => (class(), Type::Number, false),
        Kind::Dynamic(Affinity::Text) => (class(), Type::Text, false),
        Kind::Dynamic(Affinity::Numeric) => (class(), Type::Any, true),
        Kind::Dynamic(Affinity::Blob) => (class(), Type::Any, false),
        Kind::Text { .. }
        | Kind::Bytes { .. }
        | Kind::Time(_)
        | Kind::Duration(_)
        | Kind::Timetz(_)
        | Kind::Interval { .. }
        | Kind::Uuid
        | Kind::Bit { .. }
        | Kind::Enum(_)
        | Kind::Set(_)
        | Kind::Array(_)
        | Kind::Range
        | Kind::Inet { .. }
        | Kind::Geometry
        | Kind::Vector
        | Kind::Other => (Reading::Text, Type::Text, false),
    }
}
