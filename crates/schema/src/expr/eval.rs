//! A bound program and a change make a value.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::ast::Comparison;
use super::bound::{Coercion, Node, NodeKind, Reading, RowName, Variable};
use super::call::call;
use super::error::{EvalError, Failure};
use super::input::Input;
use super::json;
use super::number::{Number, Operation};
use super::time::Timestamp;
use super::value::Value;
use crate::cell::{Cell, Class};

pub(super) fn evaluate<'a>(node: &'a Node, input: &Input<'a>) -> Result<Value<'a>, EvalError> {
    let failed = |failure| EvalError { span: node.span, failure };
    Ok(match &node.kind {
        NodeKind::Constant(value) => value.borrowed(),
        NodeKind::Column { row, column, reading } => {
            row.cell(input, *column).map_or(Ok(Value::Null), |cell| read(cell, *reading)).map_err(failed)?
        }
        NodeKind::Variable(variable) => read_variable(*variable, input),
        // The check lets a row stand only where its fields are named, or beside null.
        NodeKind::Row(_) => Value::Null,
        NodeKind::NoRow(row) => Value::Bool(!row.exists(input)),
        NodeKind::Has(row, column) => Value::Bool(row.cell(input, *column).is_some()),
        NodeKind::HasMember(base, name) => match evaluate(base, input)? {
            Value::Json(raw) => Value::Bool(json::member(&raw, name).is_some()),
            _ => Value::Bool(false),
        },
        NodeKind::Changed(column) => {
            let (before, after) = (RowName::Before.cell(input, *column), RowName::After.cell(input, *column));
            Value::Bool(before.zip(after).is_some_and(|(before, after)| before != after))
        }
        NodeKind::Member(base, name) => match evaluate(base, input)? {
            Value::Json(raw) => within(raw, |raw| json::member(raw, name)).map_err(failed)?,
            _ => Value::Null,
        },
        NodeKind::Element(base, index) => {
            let index = evaluate(index, input)?;
            element(evaluate(base, input)?, &index).map_err(failed)?
        }
        NodeKind::List(items) => {
            Value::List(items.iter().map(|item| evaluate(item, input)).collect::<Result<_, _>>()?)
        }
        NodeKind::Not(operand) => Value::Bool(!truth(operand, input)?),
        NodeKind::Negate(operand) => match evaluate(operand, input)? {
            Value::Null => Value::Null,
            Value::Number(number) => Value::Number(number.negated()),
            Value::Duration(span) => Value::Duration(span.negated()),
            other => return Err(failed(Failure::Operand { expected: "a number", found: other.type_of() })),
        },
        NodeKind::And(items) => Value::Bool(!decided(items, input, false)?),
        NodeKind::Or(items) => Value::Bool(decided(items, input, true)?),
        NodeKind::Arithmetic(operation, left, right) => {
            let (left, right) = (evaluate(left, input)?, evaluate(right, input)?);
            calculate(*operation, left, right).map_err(failed)?
        }
        NodeKind::Compare(comparison, left, right) => {
            let (left, right) = (evaluate(left, input)?, evaluate(right, input)?);
            Value::Bool(compare(*comparison, &left, &right).map_err(failed)?)
        }
        NodeKind::InList(item, items) => {
            let item = evaluate(item, input)?;
            // As a chain of `||`: an element that fails does not matter if another one is equal.
            let found = any(items.iter().map(|other| {
                let other = evaluate(other, input)?;
                item.equals(&other).map_err(failed)
            }));
            Value::Bool(found?)
        }
        NodeKind::InValue(item, container) => {
            let (item, container) = (evaluate(item, input)?, evaluate(container, input)?);
            Value::Bool(is_in(&item, &container).map_err(failed)?)
        }
        NodeKind::If(parts) => {
            let [condition, first, second] = &**parts;
            return evaluate(if truth(condition, input)? { first } else { second }, input);
        }
        NodeKind::Matches(text, pattern) => match evaluate(text, input)? {
            Value::Null => Value::Bool(false),
            Value::Text(text) => Value::Bool(pattern.is_match(&text)),
            other => return Err(failed(Failure::Operand { expected: "a string", found: other.type_of() })),
        },
        NodeKind::Call(function, arguments) => {
            let first = evaluate(&arguments[0], input)?;
            let second = arguments.get(1).map_or(Ok(Value::Null), |argument| evaluate(argument, input))?;
            call(*function, first, second).map_err(failed)?
        }
        NodeKind::Coerce(coercion, operand) => {
            coerce(*coercion, evaluate(operand, input)?).map_err(failed)?
        }
    })
}

/// As a condition: null is false.
pub(super) fn truth(node: &Node, input: &Input<'_>) -> Result<bool, EvalError> {
    match evaluate(node, input)? {
        Value::Bool(value) => Ok(value),
        Value::Null => Ok(false),
        other => {
            let failure = Failure::Operand { expected: "a boolean", found: other.type_of() };
            Err(EvalError { span: node.span, failure })
        }
    }
}

/// Whether one of the conditions is `decisive`. Then those that fail do not matter; otherwise the first one that failed is
/// the result.
fn decided(items: &[Node], input: &Input<'_>, decisive: bool) -> Result<bool, EvalError> {
    any(items.iter().map(|item| truth(item, input).map(|value| value == decisive)))
}

fn any(results: impl Iterator<Item = Result<bool, EvalError>>) -> Result<bool, EvalError> {
    let mut failed = None;
    for result in results {
        match result {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(false), Err)
}

fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Failure> {
    let order = || left.order(right);
    Ok(match comparison {
        Comparison::Equal => left.equals(right)?,
        Comparison::NotEqual => !left.equals(right)?,
        Comparison::Less => order() == Some(Ordering::Less),
        Comparison::LessOrEqual => order().is_some_and(Ordering::is_le),
        Comparison::Greater => order() == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
    })
}

fn read<'a>(cell: &'a Cell<'_>, reading: Reading) -> Result<Value<'a>, Failure> {
    let Some(text) = cell.as_str() else { return Ok(Value::Null) };
    let as_text = Value::Text(Cow::Borrowed(text));
    let number = |text: &'a str| match Number::parse(text) {
        Ok(number) => Ok(number.map_or(Value::Text(Cow::Borrowed(text)), Value::Number)),
        Err(_) => Err(Failure::TooManyDigits),
    };
    let reading = match (cell, reading) {
        (Cell::Classed(class, _), _) => Reading::Class(*class),
        (_, reading) => reading,
    };
    match reading {
        Reading::Text | Reading::Class(Class::Text | Class::Blob | Class::RawText) => Ok(as_text),
        Reading::Padded => Ok(Value::Text(Cow::Borrowed(text.trim_end_matches(' ')))),
        Reading::Number | Reading::Class(Class::Integer | Class::Real) => number(text),
        Reading::Bool => Ok(match text {
            "t" => Value::Bool(true),
            "f" => Value::Bool(false),
            _ => as_text,
        }),
        Reading::Document => json::document(text).map_or(Ok(Value::Null), Value::from_json),
    }
}

fn read_variable<'a>(variable: Variable, input: &Input<'a>) -> Value<'a> {
    let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
    match variable {
        Variable::Op => text(input.op.name()),
        Variable::Table => text(&input.table.name),
        Variable::Schema => input.table.schema.as_deref().map_or(Value::Null, text),
        Variable::Stream => text(input.stream),
        Variable::Endpoint => text(input.endpoint),
        Variable::Position => Value::Text(Cow::Owned(input.position.to_string())),
        Variable::CommitTime => Value::Timestamp(Timestamp::from_micros(input.committed_at)),
    }
}

/// A value inside a document, borrowed from it where the document is.
fn within<'a>(raw: Cow<'a, str>, find: impl Fn(&str) -> Option<&str>) -> Result<Value<'a>, Failure> {
    match raw {
        Cow::Borrowed(raw) => find(raw).map_or(Ok(Value::Null), Value::from_json),
        Cow::Owned(raw) => {
            find(&raw).map_or(Ok(Value::Null), |found| Value::from_json(found).map(Value::into_owned))
        }
    }
}

fn element<'a>(base: Value<'a>, index: &Value<'_>) -> Result<Value<'a>, Failure> {
    let at = match index {
        Value::Number(number) => number.integer().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    match (base, index, at) {
        (Value::Json(raw), Value::Text(name), _) => within(raw, |raw| json::member(raw, name)),
        (Value::Json(raw), _, Some(at)) => within(raw, |raw| json::elements(raw).nth(at)),
        (Value::List(items), _, Some(at)) => Ok(items.into_iter().nth(at).unwrap_or(Value::Null)),
        _ => Ok(Value::Null),
    }
}

/// An element of an array, or a key of an object.
fn is_in(item: &Value<'_>, container: &Value<'_>) -> Result<bool, Failure> {
    match (item, container) {
        (_, Value::Json(raw)) if raw.starts_with('[') => {
            for raw in json::elements(raw) {
                if item.equals(&Value::from_json(raw)?)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Text(name), Value::Json(raw)) => Ok(json::member(raw, name).is_some()),
        (_, Value::List(items)) => {
            for other in items {
                if item.equals(other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (_, Value::Null | Value::Json(_)) => Ok(false),
        (_, other) => Err(Failure::Operand { expected: "a list", found: other.type_of() }),
    }
}

/// With null it is null.
fn calculate<'a>(operation: Operation, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Failure> {
    use Operation::{Add, Subtract};
    let time = |time: Option<Timestamp>| time.map(Value::Timestamp).ok_or(Failure::TimeRange);
    match (operation, left, right) {
        (_, Value::Null, _) | (_, _, Value::Null) => Ok(Value::Null),
        (_, Value::Number(a), Value::Number(b)) => Number::calculate(operation, &a, &b).map(Value::Number),
        (Add, Value::Text(a), Value::Text(b)) => Ok(Value::Text(Cow::Owned(a.into_owned() + &b))),
        (Add, Value::Timestamp(at), Value::Duration(span))
        | (Add, Value::Duration(span), Value::Timestamp(at)) => time(at.plus(span)),
        (Subtract, Value::Timestamp(at), Value::Duration(span)) => time(at.plus(span.negated())),
        (Subtract, Value::Timestamp(a), Value::Timestamp(b)) => {
            a.since(b).map(Value::Duration).ok_or(Failure::TimeRange)
        }
        (Add, Value::Duration(a), Value::Duration(b)) => {
            a.plus(b).map(Value::Duration).ok_or(Failure::TimeRange)
        }
        (Subtract, Value::Duration(a), Value::Duration(b)) => {
            a.plus(b.negated()).map(Value::Duration).ok_or(Failure::TimeRange)
        }
        (_, Value::Number(_), other) | (_, other, _) => {
            Err(Failure::Operand { expected: "a number", found: other.type_of() })
        }
    }
}

fn coerce(coercion: Coercion, value: Value<'_>) -> Result<Value<'_>, Failure> {
    Ok(match (coercion, value) {
        (Coercion::Time, Value::Text(text)) => match Timestamp::parse(&text) {
            Some(time) => Value::Timestamp(time),
            None => Value::Text(text),
        },
        (Coercion::FlagToBool, Value::Number(number)) => Value::Bool(!number.is_zero()),
        (Coercion::BoolToFlag, Value::Bool(true)) => Value::Number(Number::ONE),
        (Coercion::BoolToFlag, Value::Bool(false)) => Value::Number(Number::ZERO),
        (_, value) => value,
    })
}
