//! Tokens as a tree, by CEL's grammar and precedence.

use super::MAX_DEPTH;
use super::ast::{Comparison, Expr, ExprKind, level};
use super::error::{ExprError, Problem, Span};
use super::function::{Function, SIGNATURES, Signature, instead};
use super::number::Operation;
use super::token::{Kind, Token, tokens};
use crate::suggest::nearest;

/// Reads a whole program.
pub(super) fn parse(text: &str) -> Result<Expr, ExprError> {
    let tokens = tokens(text)?;
    if tokens.len() == 1 {
        return Err(ExprError::new(Span::new(0, text.len()), Problem::Empty));
    }
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    /// The last one is the end.
    tokens: Vec<Token>,
    at: usize,
    /// Levels of the call stack.
    depth: u16,
}

/// An operator between two operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    And,
    Or,
    In,
    Compare(Comparison),
    Arithmetic(Operation),
}

impl Infix {
    fn read(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Name(name) if name == "in" => Self::In,
            Kind::Symbol(symbol) => match *symbol {
                "&&" => Self::And,
                "||" => Self::Or,
                "==" => Self::Compare(Comparison::Equal),
                "!=" => Self::Compare(Comparison::NotEqual),
                "<" => Self::Compare(Comparison::Less),
                "<=" => Self::Compare(Comparison::LessOrEqual),
                ">" => Self::Compare(Comparison::Greater),
                ">=" => Self::Compare(Comparison::GreaterOrEqual),
                "+" => Self::Arithmetic(Operation::Add),
                "-" => Self::Arithmetic(Operation::Subtract),
                "*" => Self::Arithmetic(Operation::Multiply),
                "/" => Self::Arithmetic(Operation::Divide),
                "%" => Self::Arithmetic(Operation::Remainder),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn level(self) -> u8 {
        match self {
            Self::Or => level::OR,
            Self::And => level::AND,
            Self::In | Self::Compare(_) => level::RELATION,
            Self::Arithmetic(Operation::Add | Operation::Subtract) => level::SUM,
            Self::Arithmetic(_) => level::PRODUCT,
        }
    }
}

/// Words of SQL and other languages between two operands, and what CEL writes.
fn foreign_infix(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "and" => "`&&`",
        "or" => "`||`",
        "is" => "`x == null` or `x != null`",
        "eq" => "`==`",
        "ne" => "`!=`",
        "mod" => "`%`",
        "in" => "`in`, in small letters",
        "not" => "`!(x in [..])`",
        "like" | "ilike" | "similar" => {
            "`x.contains('part')`, `x.startsWith('begin')` or `x.matches('pattern')`"
        }
        "between" => "`x >= low && x <= high`",
        _ => return None,
    })
}

/// Words of SQL and other languages where an operand begins.
fn foreign_prefix(name: &str) -> Option<&'static str> {
    Some(match name {
        "NULL" | "Null" | "nil" | "None" | "undefined" => "`null`",
        "TRUE" | "True" => "`true`",
        "FALSE" | "False" => "`false`",
        "not" | "NOT" | "Not" => "`!`",
        "CASE" | "case" | "if" | "IF" => "`condition ? this : that`",
        "SELECT" | "select" => "a condition on `before` and `after`",
        _ => return None,
    })
}

/// Names that CEL keeps for later.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Parser {
    fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    fn span(&self) -> Span {
        self.tokens[self.at].span
    }

    /// Moves on; the end stays.
    fn take(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(found) if *found == symbol);
        if found {
            self.take();
        }
        found
    }

    fn unexpected(&self, expected: &'static str) -> ExprError {
        let span = self.span();
        if let Kind::Name(name) = self.peek()
            && let Some(write) = foreign_infix(name)
        {
            return ExprError::new(span, Problem::Word { found: name.clone(), write });
        }
        ExprError::new(span, Problem::Expected { expected, found: self.peek().shown() })
    }

    /// A closing bracket.
    fn close(
        &mut self,
        open: char,
        opened: Span,
        symbol: &str,
        expected: &'static str,
    ) -> Result<Span, ExprError> {
        let span = self.span();
        if self.take_symbol(symbol) {
            return Ok(span);
        }
        if *self.peek() == Kind::End {
            return Err(ExprError::new(opened, Problem::Unclosed { open }));
        }
        Err(self.unexpected(expected))
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ExprError>) -> Result<T, ExprError> {
        if self.depth >= MAX_DEPTH {
            return Err(ExprError::new(self.span(), Problem::TooDeep { most: MAX_DEPTH }));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn expr(&mut self) -> Result<Expr, ExprError> {
        self.deeper(|parser| {
            let condition = parser.infix(level::OR)?;
            if !parser.take_symbol("?") {
                return Ok(condition);
            }
            let first = parser.infix(level::OR)?;
            if !parser.take_symbol(":") {
                return Err(parser.unexpected("`:`"));
            }
            let second = parser.expr()?;
            let span = condition.span.to(second.span);
            node(span, ExprKind::If(Box::new([condition, first, second])))
        })
    }

    /// Operators that bind at least as tightly as `least`.
    fn infix(&mut self, least: u8) -> Result<Expr, ExprError> {
        let mut left = self.unary()?;
        let mut last = None;
        while let Some(infix) = Infix::read(self.peek()).filter(|infix| infix.level() >= least) {
            self.take();
            let right = self.infix(infix.level() + 1)?;
            let span = left.span.to(right.span);
            // A chain is one node, so that it may be long; what stands in parentheses is a chain of its own.
            let kind = match (infix, left.kind) {
                (Infix::And, ExprKind::And(items)) if last == Some(infix) => {
                    ExprKind::And(pushed(items, right))
                }
                (Infix::Or, ExprKind::Or(items)) if last == Some(infix) => ExprKind::Or(pushed(items, right)),
                (infix, kind) => {
                    let left = Expr { kind, ..left };
                    match infix {
                        Infix::And => ExprKind::And(vec![left, right]),
                        Infix::Or => ExprKind::Or(vec![left, right]),
                        Infix::In => ExprKind::In(Box::new(left), Box::new(right)),
                        Infix::Compare(comparison) => {
                            ExprKind::Compare(comparison, Box::new(left), Box::new(right))
                        }
                        Infix::Arithmetic(operation) => {
                            ExprKind::Arithmetic(operation, Box::new(left), Box::new(right))
                        }
                    }
                }
            };
            left = node(span, kind)?;
            last = Some(infix);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, ExprError> {
        let start = self.span();
        let make: fn(Box<Expr>) -> ExprKind = match self.peek() {
            Kind::Symbol("!") => ExprKind::Not,
            Kind::Symbol("-") => ExprKind::Negate,
            _ => return self.member(),
        };
        self.take();
        let operand = self.deeper(Self::unary)?;
        node(start.to(operand.span), make(Box::new(operand)))
    }

    fn member(&mut self) -> Result<Expr, ExprError> {
        let mut base = self.primary()?;
        loop {
            let opened = self.span();
            if self.take_symbol("[") {
                let index = self.expr()?;
                let end = self.close('[', opened, "]", "`]`")?;
                base = node(base.span.to(end), ExprKind::Index(Box::new(base), Box::new(index)))?;
            } else if self.take_symbol(".") {
                let span = self.span();
                let Kind::Name(name) = self.peek().clone() else {
                    return Err(self.unexpected("a name after `.`"));
                };
                if matches!(name.as_str(), "in" | "true" | "false" | "null") {
                    let write = "x['in'], x['true'] ..";
                    return Err(ExprError::new(span, Problem::Word { found: name, write }));
                }
                self.take();
                base = if matches!(self.peek(), Kind::Symbol("(")) {
                    self.call(&name, span, Some(base))?
                } else {
                    node(base.span.to(span), ExprKind::Member(Box::new(base), name))?
                };
            } else {
                return Ok(base);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, ExprError> {
        let span = self.span();
        match self.peek().clone() {
            Kind::Number(text) => {
                self.take();
                node(span, ExprKind::Number(text))
            }
            Kind::Text(text) => {
                self.take();
                node(span, ExprKind::Text(text))
            }
            Kind::Symbol("(") => {
                self.take();
                let inner = self.expr()?;
                let end = match self.close('(', span, ")", "`)`") {
                    Err(ExprError { problem: Problem::Expected { found, .. }, span }) if found == "`,`" => {
                        let problem = Problem::Word {
                            found: ",".to_owned(),
                            write: "a list in brackets, `x in [1, 2]`",
                        };
                        return Err(ExprError::new(span, problem));
                    }
                    closed => closed?,
                };
                Ok(Expr { span: span.to(end), ..inner })
            }
            Kind::Symbol("[") => {
                self.take();
                let (items, end) = self.items('[', span, "]")?;
                node(span.to(end), ExprKind::List(items))
            }
            Kind::Symbol(".") => {
                let instead = "names stand by themselves, such as after.total";
                Err(ExprError::new(
                    span,
                    Problem::Unsupported { what: "names that begin with a point", instead },
                ))
            }
            Kind::Name(name) => self.name(name, span),
            Kind::Symbol(_) | Kind::End => Err(self.unexpected("a value")),
        }
    }

    fn name(&mut self, name: String, span: Span) -> Result<Expr, ExprError> {
        let kind = match name.as_str() {
            "true" => ExprKind::Bool(true),
            "false" => ExprKind::Bool(false),
            "null" => ExprKind::Null,
            _ => {
                let next = &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind;
                let called = matches!(next, Kind::Symbol("("));
                if let Some(write) = foreign_prefix(&name) {
                    return Err(ExprError::new(span, Problem::Word { found: name, write }));
                }
                if RESERVED.contains(&name.as_str()) {
                    return Err(self.unexpected("a value"));
                }
                self.take();
                if called {
                    return self.call(&name, span, None);
                }
                return node(span, ExprKind::Name(name));
            }
        };
        self.take();
        node(span, kind)
    }

    /// What is between brackets; a comma may follow the last one.
    fn items(&mut self, open: char, opened: Span, end: &'static str) -> Result<(Vec<Expr>, Span), ExprError> {
        let mut items = Vec::new();
        loop {
            let span = self.span();
            if self.take_symbol(end) {
                return Ok((items, span));
            }
            if *self.peek() == Kind::End {
                return Err(ExprError::new(opened, Problem::Unclosed { open }));
            }
            items.push(self.expr()?);
            if !self.take_symbol(",") {
                let expected = if open == '[' { "`,` or `]`" } else { "`,` or `)`" };
                let end = self.close(open, opened, end, expected)?;
                return Ok((items, end));
            }
        }
    }

    fn call(&mut self, name: &str, at: Span, base: Option<Expr>) -> Result<Expr, ExprError> {
        let Some(signature) = Signature::named(name) else {
            let problem = match instead(name) {
                Some(write) => Problem::OtherFunction { name: name.to_owned(), write },
                None => {
                    let known = SIGNATURES.iter().map(|signature| signature.name);
                    let nearest = nearest(name, known).map(str::to_owned);
                    Problem::UnknownFunction { name: name.to_owned(), nearest }
                }
            };
            return Err(ExprError::new(at, problem));
        };
        let opened = self.take().span;
        let start = base.as_ref().map_or(at, |base| base.span);
        let method = base.is_some();
        let (items, end) = self.items('(', opened, ")")?;
        let arguments: Vec<Expr> = base.into_iter().chain(items).collect();
        let span = start.to(end);
        let called = if method { signature.method } else { signature.global };
        let named = match signature.function {
            Function::Has => arguments
                .first()
                .is_some_and(|argument| matches!(argument.kind, ExprKind::Member(..) | ExprKind::Index(..))),
            Function::Changed => {
                arguments.first().is_some_and(|argument| matches!(argument.kind, ExprKind::Text(_)))
            }
            // A pattern from a row would have to be compiled for each row.
            Function::Matches => {
                arguments.get(1).is_some_and(|argument| matches!(argument.kind, ExprKind::Text(_)))
            }
            _ => true,
        };
        if !called || arguments.len() != signature.arguments || !named {
            let problem = Problem::Arguments { name: signature.name, form: signature.form };
            return Err(ExprError::new(span, problem));
        }
        node(span, ExprKind::Call { function: signature.function, method, arguments })
    }
}

fn pushed(mut items: Vec<Expr>, item: Expr) -> Vec<Expr> {
    items.push(item);
    items
}

/// Makes a node unless it would stand on too many others.
fn node(span: Span, kind: ExprKind) -> Result<Expr, ExprError> {
    let deepest = |items: &[Expr]| items.iter().map(|item| item.depth).max().unwrap_or(0);
    let below = match &kind {
        ExprKind::Null | ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Name(_) => 0,
        ExprKind::Member(base, _) | ExprKind::Not(base) | ExprKind::Negate(base) => base.depth,
        ExprKind::Index(a, b)
        | ExprKind::Arithmetic(_, a, b)
        | ExprKind::Compare(_, a, b)
        | ExprKind::In(a, b) => a.depth.max(b.depth),
        ExprKind::List(items) | ExprKind::And(items) | ExprKind::Or(items) => deepest(items),
        ExprKind::Call { arguments, .. } => deepest(arguments),
        ExprKind::If(parts) => deepest(&parts[..]),
    };
    if below >= MAX_DEPTH {
        return Err(ExprError::new(span, Problem::TooDeep { most: MAX_DEPTH }));
    }
    Ok(Expr { span, depth: below + 1, kind })
}
