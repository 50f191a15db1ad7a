//! The types of arithmetic and of functions.

use super::ast::{Expr, ExprKind};
use super::bound::{Coercion, NodeKind, RowName};
use super::check::{Checker, Typed, expect, has_fields, operand, row_name, typed};
use super::compare::Fix;
use super::error::{ExprError, Problem, Span};
use super::function::Function;
use super::number::Operation;
use super::time::{Span as TimeSpan, Timestamp};
use super::value::{Type, Value};

impl Checker<'_> {
    pub(super) fn arithmetic(
        &self,
        operation: Operation,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        use Type::{Any, Duration, Number, Text, Timestamp};
        let (a, b) = (self.lower(left)?, self.lower(right)?);
        let found = match (operation, a.found, b.found) {
            (_, Number, Number | Any) | (_, Any, Number) => Number,
            (_, Any, Any) => Any,
            (Operation::Add, Text, Text | Any) | (Operation::Add, Any, Text) => Text,
            (Operation::Add, Timestamp, Duration) | (Operation::Add, Duration, Timestamp) => Timestamp,
            (Operation::Subtract, Timestamp, Duration) => Timestamp,
            (Operation::Subtract, Timestamp, Timestamp) => Duration,
            (Operation::Add | Operation::Subtract, Duration, Duration) => Duration,
            (Operation::Add | Operation::Subtract, Any, Duration) | (Operation::Add, Duration, Any) => Any,
            (Operation::Subtract, Any, Timestamp) | (Operation::Subtract, Timestamp, Any) => Any,
            (_, a_found, b_found) => {
                // The side that does not fit the other, or that fits nothing.
                let first_fits = matches!(a_found, Number | Any)
                    || (operation == Operation::Add && a_found == Text)
                    || (matches!(operation, Operation::Add | Operation::Subtract)
                        && matches!(a_found, Timestamp | Duration));
                let (wrong, at) = if first_fits { (b_found, right) } else { (a_found, left) };
                let (expected, write) = match (a_found, b_found) {
                    (Text, _) | (_, Text)
                        if operation == Operation::Add && (a_found == Number || b_found == Number) =>
                    {
                        ("two numbers or two strings", Some("write string(x), or double(x)"))
                    }
                    (Timestamp | Duration, _) | (_, Timestamp | Duration) => {
                        ("a time or a duration", Some("write timestamp('2024-01-31') or duration('1h30m')"))
                    }
                    _ => ("a number", Some("double(x) reads one from a text")),
                };
                return Err(operand(expected, wrong, write, at.span));
            }
        };
        let time = |typed: Typed| {
            if typed.found == Timestamp { Fix::Coerce(Coercion::Time).apply(typed.node) } else { typed.node }
        };
        let kind = NodeKind::Arithmetic(operation, Box::new(time(a)), Box::new(time(b)));
        Ok(typed(span, kind, found))
    }

    pub(super) fn call(
        &self,
        function: Function,
        arguments: &[Expr],
        span: Span,
    ) -> Result<Typed, ExprError> {
        use Type::{Bool, Duration, List, Number, Text, Timestamp};
        let first = &arguments[0];
        match function {
            Function::Has => return self.has(first, span),
            Function::Changed => return self.changed(first, span),
            _ => {}
        }
        let value = self.lower(first)?;
        let (allowed, expected, found): (&[Type], _, _) = match function {
            Function::Size => (&[Text, List], "a string or a list", Number),
            Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
                (&[Text], "a string", Bool)
            }
            Function::LowerAscii | Function::UpperAscii | Function::Trim | Function::Json => {
                (&[Text], "a string", if function == Function::Json { Type::Any } else { Text })
            }
            Function::Int => (&[Number, Text, Timestamp, Duration], "a number or a string", Number),
            Function::Double => (&[Number, Text], "a number or a string", Number),
            Function::String => (&[Bool, Number, Text, Timestamp, Duration], "one value", Text),
            Function::Timestamp => (&[Text, Timestamp, Number], "a string", Timestamp),
            Function::Duration => (&[Text, Duration], "a string", Duration),
            Function::Has | Function::Changed => return Err(ExprError::new(span, Problem::ColumnName)),
        };
        let write = match (function, value.found) {
            (Function::Contains, List) => Some("write `y in [..]`"),
            (_, Number | Timestamp) if expected == "a string" => Some("write string(x)"),
            (Function::Int, Bool) => Some("write x ? 1 : 0"),
            (_, Type::Row) => Some("name a column, such as after.total"),
            _ => None,
        };
        expect(&value, allowed, expected, write, first.span)?;
        match (function, &first.kind) {
            (Function::Timestamp, ExprKind::Text(text)) => {
                let problem = || ExprError::new(first.span, Problem::NotTimestamp { text: text.clone() });
                let time = self::Timestamp::parse(text).ok_or_else(problem)?;
                return Ok(typed(span, NodeKind::Constant(Value::Timestamp(time)), found));
            }
            (Function::Duration, ExprKind::Text(text)) => {
                let problem = || ExprError::new(first.span, Problem::NotDuration { text: text.clone() });
                let time = TimeSpan::parse(text).ok_or_else(problem)?;
                return Ok(typed(span, NodeKind::Constant(Value::Duration(time)), found));
            }
            (Function::Matches, _) => {
                let at = arguments[1].span.start;
                let pattern = self.patterns.iter().find(|(start, _)| *start == at);
                let (_, pattern) = pattern.expect("each pattern was compiled when the program was read");
                let kind = NodeKind::Matches(Box::new(value.node), pattern.clone());
                return Ok(typed(span, kind, found));
            }
            _ => {}
        }
        // A column's time is a text until it is compared.
        let seconds = function == Function::Int && value.found == Timestamp;
        let mut nodes =
            vec![if seconds { Fix::Coerce(Coercion::Time).apply(value.node) } else { value.node }];
        for other in &arguments[1..] {
            let value = self.lower(other)?;
            let write = (value.found == Number).then_some("write it in quotes, or string(x)");
            expect(&value, &[Text], "a string", write, other.span)?;
            nodes.push(value.node);
        }
        Ok(typed(span, NodeKind::Call(function, nodes), found))
    }

    fn has(&self, field: &Expr, span: Span) -> Result<Typed, ExprError> {
        if let Some((row, name)) = field.column()
            && let Some(row) = row_name(row)
        {
            let kind = match self.column(row, name, field.span)? {
                Some(column) => NodeKind::Has(row, column),
                None => NodeKind::Constant(Value::Bool(false)),
            };
            return Ok(typed(span, kind, Type::Bool));
        }
        let (base, name) = match &field.kind {
            ExprKind::Member(base, name) => (base, name),
            ExprKind::Index(base, index) => match &index.kind {
                ExprKind::Text(name) => (base, name),
                _ => return Err(ExprError::new(index.span, Problem::ColumnName)),
            },
            _ => return Err(ExprError::new(field.span, Problem::ColumnName)),
        };
        let found = self.lower(base)?;
        has_fields(&found, false, base.span)?;
        Ok(typed(span, NodeKind::HasMember(Box::new(found.node), name.clone()), Type::Bool))
    }

    fn changed(&self, name: &Expr, span: Span) -> Result<Typed, ExprError> {
        let ExprKind::Text(column) = &name.kind else {
            return Err(ExprError::new(name.span, Problem::ColumnName));
        };
        let kind = match self.column(RowName::After, column, name.span)? {
            Some(column) => NodeKind::Changed(column),
            None => NodeKind::Constant(Value::Bool(false)),
        };
        Ok(typed(span, kind, Type::Bool))
    }
}
