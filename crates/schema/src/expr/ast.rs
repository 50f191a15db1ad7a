//! A program as a tree, and its text again.

use std::fmt;

use super::error::Span;
use super::escape;
use super::function::Function;
use super::number::Operation;

/// A part of a program. Two are equal if they say the same, wherever they stand.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) span: Span,
    /// Levels below, itself included.
    pub(super) depth: u16,
    pub(super) kind: ExprKind,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExprKind {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    Name(String),
    List(Vec<Expr>),
    Member(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Call {
        function: Function,
        method: bool,
        arguments: Vec<Expr>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Arithmetic(Operation, Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    If(Box<[Expr; 3]>),
}

/// `==`, `!=`, `<`, `<=`, `>`, `>=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Operation {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// How tightly an operator binds, from the loosest on.
pub(super) mod level {
    pub(in super::super) const IF: u8 = 0;
    pub(in super::super) const OR: u8 = 1;
    pub(in super::super) const AND: u8 = 2;
    pub(in super::super) const RELATION: u8 = 3;
    pub(in super::super) const SUM: u8 = 4;
    pub(in super::super) const PRODUCT: u8 = 5;
    pub(in super::super) const UNARY: u8 = 6;
    pub(in super::super) const MEMBER: u8 = 7;
}

impl Expr {
    fn level(&self) -> u8 {
        match &self.kind {
            ExprKind::If(_) => level::IF,
            ExprKind::Or(_) => level::OR,
            ExprKind::And(_) => level::AND,
            ExprKind::Compare(..) | ExprKind::In(..) => level::RELATION,
            ExprKind::Arithmetic(Operation::Add | Operation::Subtract, ..) => level::SUM,
            ExprKind::Arithmetic(..) => level::PRODUCT,
            ExprKind::Not(_) | ExprKind::Negate(_) => level::UNARY,
            _ => level::MEMBER,
        }
    }

    /// Writes it where an operator of `least` asks for something that binds at least so tightly.
    fn write(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.level() < least {
            f.write_str("(")?;
            self.write_kind(f)?;
            return f.write_str(")");
        }
        self.write_kind(f)
    }

    fn write_kind(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.level();
        let pair = |f: &mut fmt::Formatter<'_>, left: &Self, symbol: &str, right: &Self| {
            left.write(f, own)?;
            write!(f, " {symbol} ")?;
            right.write(f, own + 1)
        };
        match &self.kind {
            ExprKind::Null => f.write_str("null"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Number(text) => f.write_str(text),
            ExprKind::Text(text) => f.write_str(&escape::literal(text)),
            ExprKind::Name(name) => f.write_str(name),
            ExprKind::List(items) => {
                f.write_str("[")?;
                write_items(f, items, ", ", level::IF)?;
                f.write_str("]")
            }
            ExprKind::Member(base, name) => {
                base.write(f, level::MEMBER)?;
                write!(f, ".{name}")
            }
            ExprKind::Index(base, index) => {
                base.write(f, level::MEMBER)?;
                f.write_str("[")?;
                index.write(f, level::IF)?;
                f.write_str("]")
            }
            ExprKind::Call { function, method, arguments } => {
                let name = function.signature().name;
                let rest = if *method {
                    arguments[0].write(f, level::MEMBER)?;
                    write!(f, ".{name}(")?;
                    &arguments[1..]
                } else {
                    write!(f, "{name}(")?;
                    arguments
                };
                write_items(f, rest, ", ", level::IF)?;
                f.write_str(")")
            }
            ExprKind::Not(operand) => {
                f.write_str("!")?;
                operand.write(f, level::UNARY)
            }
            ExprKind::Negate(operand) => {
                f.write_str("-")?;
                operand.write(f, level::UNARY)
            }
            ExprKind::Arithmetic(operation, left, right) => pair(f, left, operation.symbol(), right),
            ExprKind::Compare(comparison, left, right) => pair(f, left, comparison.symbol(), right),
            ExprKind::In(left, right) => pair(f, left, "in", right),
            ExprKind::And(items) => write_items(f, items, " && ", own + 1),
            ExprKind::Or(items) => write_items(f, items, " || ", own + 1),
            ExprKind::If(parts) => {
                parts[0].write(f, level::OR)?;
                f.write_str(" ? ")?;
                parts[1].write(f, level::OR)?;
                f.write_str(" : ")?;
                parts[2].write(f, level::IF)
            }
        }
    }
}

fn write_items(f: &mut fmt::Formatter<'_>, items: &[Expr], between: &str, least: u8) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(at, item)| {
        if at > 0 {
            f.write_str(between)?;
        }
        item.write(f, least)
    })
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, level::IF)
    }
}

impl Expr {
    /// Calls `visit` for each part, from the left.
    pub(super) fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        match &self.kind {
            ExprKind::Null
            | ExprKind::Bool(_)
            | ExprKind::Number(_)
            | ExprKind::Text(_)
            | ExprKind::Name(_) => {}
            ExprKind::Member(base, _) | ExprKind::Not(base) | ExprKind::Negate(base) => base.visit(visit),
            ExprKind::Index(a, b)
            | ExprKind::Arithmetic(_, a, b)
            | ExprKind::Compare(_, a, b)
            | ExprKind::In(a, b) => {
                a.visit(visit);
                b.visit(visit);
            }
            ExprKind::List(items) | ExprKind::And(items) | ExprKind::Or(items) => {
                items.iter().for_each(|item| item.visit(visit));
            }
            ExprKind::Call { arguments, .. } => arguments.iter().for_each(|item| item.visit(visit)),
            ExprKind::If(parts) => parts.iter().for_each(|part| part.visit(visit)),
        }
    }

    /// `row.name` or `row['name']` of a variable.
    pub(super) fn column(&self) -> Option<(&str, &String)> {
        let (base, name) = match &self.kind {
            ExprKind::Member(base, name) => (base, name),
            ExprKind::Index(base, index) => match &index.kind {
                ExprKind::Text(name) => (base, name),
                _ => return None,
            },
            _ => return None,
        };
        match &base.kind {
            ExprKind::Name(row) => Some((row, name)),
            _ => None,
        }
    }
}
