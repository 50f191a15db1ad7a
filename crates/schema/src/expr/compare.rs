//! Which values may be compared, and what they become for it.

use super::ast::{Expr, ExprKind};
use super::bound::{Coercion, Node, NodeKind};
use super::check::Typed;
use super::error::{ExprError, Problem, Span};
use super::time::Timestamp;
use super::value::{Type, Value};
use crate::event::EventOp;

/// What happens to one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fix {
    Keep,
    Coerce(Coercion),
    /// The literal is this time.
    Time(Timestamp),
}

impl Fix {
    pub(super) fn apply(self, node: Node) -> Node {
        let span = node.span;
        match self {
            Self::Keep => node,
            Self::Coerce(coercion) => Node { span, kind: NodeKind::Coerce(coercion, Box::new(node)) },
            Self::Time(time) => Node { span, kind: NodeKind::Constant(Value::Timestamp(time)) },
        }
    }
}

/// Whether two values can be equal or, with `ordered`, stand in an order; and what each one becomes before.
pub(super) fn align(
    span: Span,
    left: (&Expr, &Typed),
    right: (&Expr, &Typed),
    ordered: bool,
) -> Result<(Fix, Fix), ExprError> {
    known_op(left.0, right.0)?;
    known_op(right.0, left.0)?;
    let (a, b) = (left.1, right.1);
    let refused = |write| {
        let problem = Problem::Compare { left: a.found, right: b.found, write };
        Err(ExprError::new(span, problem))
    };
    if ordered {
        if a.found == Type::Null || b.found == Type::Null {
            return refused(Some("null has no order, ask for `x == null` or `x != null`"));
        }
        for (expr, typed) in [left, right] {
            if typed.found == Type::List {
                return Err(ExprError::new(expr.span, Problem::NoOrder { found: Type::List }));
            }
        }
    }
    match (a.found, b.found) {
        (_, Type::Bool) if a.flag => Ok((Fix::Keep, Fix::Coerce(Coercion::BoolToFlag))),
        (Type::Bool, _) if b.flag => Ok((Fix::Coerce(Coercion::BoolToFlag), Fix::Keep)),
        (Type::Row, _) | (_, Type::Row) => refused(Some(
            "compare their columns, or ask `before == null`; changed('column') says whether one differs",
        )),
        (Type::Null, _) | (_, Type::Null) => Ok((Fix::Keep, Fix::Keep)),
        (Type::Timestamp, _) | (_, Type::Timestamp) => {
            let both = time(left).and_then(|a| time(right).map(|b| a.zip(b)));
            both?.map_or_else(|| refused(Some("write the time as a string, or timestamp(x)")), Ok)
        }
        (a, b) if a == b => Ok((Fix::Keep, Fix::Keep)),
        (Type::Any, _) | (_, Type::Any) => Ok((Fix::Keep, Fix::Keep)),
        (Type::Number, Type::Text) | (Type::Text, Type::Number) => {
            let literal = [left.0, right.0].iter().any(|expr| matches!(expr.kind, ExprKind::Text(_)));
            refused(Some(if literal {
                "write the number without quotes, or string(x) for the column"
            } else {
                "convert one side with string(x) or double(x)"
            }))
        }
        (Type::Bool, Type::Text) | (Type::Text, Type::Bool) => {
            refused(Some("write true or false without quotes"))
        }
        (Type::Bool, Type::Number) | (Type::Number, Type::Bool) => {
            refused(Some("a boolean is compared with true or false"))
        }
        (Type::Duration, _) | (_, Type::Duration) => refused(Some("write duration('1h30m')")),
        (Type::List, _) | (_, Type::List) => refused(Some("`x in [..]` asks for one of several values")),
        _ => refused(None),
    }
}

/// A side beside a time; `None` if it can be none.
fn time((expr, typed): (&Expr, &Typed)) -> Result<Option<Fix>, ExprError> {
    Ok(match (&expr.kind, typed.found) {
        (ExprKind::Text(text), _) => match Timestamp::parse(text) {
            Some(time) => Some(Fix::Time(time)),
            None => return Err(ExprError::new(expr.span, Problem::NotTimestamp { text: text.clone() })),
        },
        (_, Type::Timestamp | Type::Text | Type::Any) => Some(Fix::Coerce(Coercion::Time)),
        _ => None,
    })
}

/// `op` beside a text that it never is.
fn known_op(variable: &Expr, literal: &Expr) -> Result<(), ExprError> {
    const OPS: [EventOp; 6] = [
        EventOp::Insert,
        EventOp::Update,
        EventOp::Delete,
        EventOp::Read,
        EventOp::Truncate,
        EventOp::Message,
    ];
    match (&variable.kind, &literal.kind) {
        (ExprKind::Name(name), ExprKind::Text(text))
            if name == "op" && !OPS.iter().any(|op| op.name() == text) =>
        {
            Err(ExprError::new(literal.span, Problem::NotOp { found: text.clone() }))
        }
        _ => Ok(()),
    }
}
