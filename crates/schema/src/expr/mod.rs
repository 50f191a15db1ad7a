//! Expressions over rows, in CEL's syntax: row filters (`when`) and computed columns.
//!
//! Three steps. [`Program::parse`] reads the text once. [`Program::check`] looks at it against a table's definition:
//! names and types, each error with its place. [`Program::bind`] does the same and resolves names to column indexes, once
//! per table shape, so that [`Bound::matches`] and [`Bound::cell`] look nothing up and allocate nothing for comparisons.
//!
//! Limits: [`MAX_LENGTH`] bytes, [`MAX_DEPTH`] levels, patterns of [`MAX_PATTERN_BYTES`] when compiled. Nothing loops, so
//! the time for a row is bounded by the program's size times the row's.
//!
//! The language is a part of CEL (<https://github.com/google/cel-spec/blob/master/doc/langdef.md>): no maps, messages,
//! bytes or macros. It differs where rows ask for it, and `docs/expressions.md` says how: there is one type of number,
//! compared and calculated with exactly; NULL and a column that was not sent are both `null`, which is equal to itself,
//! in no order with anything, and false as a condition; values of two types are not equal and have no order, which the
//! check refuses where it knows both types. So a row makes an evaluation fail only by arithmetic, by a conversion, or by a
//! value of another type than needed where a column's type does not say (SQLite, JSON). `&&` and `||` do not fail if
//! one side decides alone, as in CEL, whichever it is.

mod ast;
mod bound;
mod call;
mod check;
mod check_call;
mod compare;
mod error;
mod escape;
mod eval;
mod function;
mod input;
mod json;
mod number;
mod parse;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod value;

pub use bound::Bound;
pub use error::{EvalError, ExprError, Failure, Problem, Span};
pub use input::{Input, MESSAGE, Row, Sent};
pub use number::Number;
pub use time::{Span as TimeSpan, Timestamp};
pub use value::{Type, Value};

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::table::TableDef;
use ast::{Expr, ExprKind};
use function::Function;

/// Longest text of a program in bytes: far more than a person writes, little enough to check at once.
pub const MAX_LENGTH: usize = 16 * 1024;

/// Deepest nesting, of parentheses and of operators one on another; CEL asks for 12 to 32. Chains of `&&` and `||` and the
/// elements of a list count once. A thread's stack holds it with much room.
pub const MAX_DEPTH: u16 = 100;

/// Memory that a compiled pattern of `matches` may take.
pub const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// A program that was read, not yet checked against a table.
#[derive(Debug, Clone)]
pub struct Program {
    text: String,
    root: Expr,
    /// The patterns of `matches`, by where they begin in the text.
    patterns: Vec<(usize, Regex)>,
}

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A row filter: true or false.
    Condition,
    /// A computed column.
    Value,
}

/// What a program is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The table whose rows come; without one, every column exists and may be of any type.
    pub table: Option<&'a TableDef>,
    /// What the result is for.
    pub purpose: Purpose,
}

/// How a program uses a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// `before.x`: needs the old row, whole unless it is a key column (PostgreSQL: `REPLICA IDENTITY FULL`).
    Before,
    /// `after.x`. A filter asks the old row, too, whether it matched before: that needs what `before.x` needs.
    After,
    /// `key.x`
    Key,
    /// `changed('x')`: needs what `before.x` needs.
    Changed,
}

/// A column's name in a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnUse<'a> {
    /// Of which row.
    pub usage: Usage,
    /// The column's name.
    pub name: &'a str,
    /// Where.
    pub span: Span,
}

impl Program {
    /// Reads a program. Errors: what is no expression, with its place and what to write instead. Columns and types are not
    /// looked at yet.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        if text.len() > MAX_LENGTH {
            let problem = Problem::TooLong { bytes: text.len(), most: MAX_LENGTH };
            return Err(ExprError::new(Span::new(MAX_LENGTH, text.len()), problem));
        }
        let root = parse::parse(text)?;
        let mut patterns = Vec::new();
        compile_patterns(&root, &mut patterns)?;
        Ok(Self { text: text.to_owned(), root, patterns })
    }

    /// The text as it was given, which the places of errors refer to.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks names and types against a table, and that the result is what it is for; gives the result's type.
    pub fn check(&self, scope: &Scope<'_>) -> Result<Type, ExprError> {
        check::bind(&self.root, &self.patterns, scope).map(|(_, found)| found)
    }

    /// Checks it against a table and resolves its names: once per shape of a table.
    pub fn bind(&self, table: &TableDef, purpose: Purpose) -> Result<Bound, ExprError> {
        let scope = Scope { table: Some(table), purpose };
        let (root, found) = check::bind(&self.root, &self.patterns, &scope)?;
        Ok(Bound::new(root, found, Some(table)))
    }

    /// Binds a row filter for messages, which have no rows: `before`, `after`, `key` and all of their columns are null.
    pub fn bind_message(&self) -> Result<Bound, ExprError> {
        let scope = Scope { table: None, purpose: Purpose::Condition };
        let (root, found) = check::bind(&self.root, &self.patterns, &scope)?;
        Ok(Bound::new(root, found, None))
    }

    /// Every column that the program names, in the order of the text. What cannot be known without the old row, see
    /// [`Usage`]; `before == null` needs none.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnUse<'_>> {
        let mut uses = Vec::new();
        self.root.visit(&mut |expr| {
            let (usage, name) = match &expr.kind {
                ExprKind::Call { function: Function::Changed, arguments, .. } => match &arguments[0].kind {
                    ExprKind::Text(name) => (Usage::Changed, name),
                    _ => return,
                },
                _ => match expr.column() {
                    Some(("before", name)) => (Usage::Before, name),
                    Some(("after", name)) => (Usage::After, name),
                    Some(("key", name)) => (Usage::Key, name),
                    _ => return,
                },
            };
            uses.push(ColumnUse { usage, name, span: expr.span });
        });
        uses
    }

    /// Whether a variable is named: `op`, `before`, `message`, `table` and so on. `changed(...)` counts as `before`.
    #[must_use]
    pub fn names(&self, variable: &str) -> bool {
        let mut found = false;
        self.root.visit(&mut |expr| match &expr.kind {
            ExprKind::Name(name) => found |= name == variable,
            ExprKind::Call { function: Function::Changed, .. } => found |= variable == "before",
            _ => {}
        });
        found
    }
}

/// The program in its plainest form: one blank between words, no more parentheses than needed, no comments.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

/// Programs that say the same, whatever their blanks and comments.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

fn compile_patterns(root: &Expr, patterns: &mut Vec<(usize, Regex)>) -> Result<(), ExprError> {
    let mut failed = None;
    root.visit(&mut |expr| {
        let ExprKind::Call { function: Function::Matches, arguments, .. } = &expr.kind else { return };
        let ExprKind::Text(pattern) = &arguments[1].kind else { return };
        if failed.is_some() {
            return;
        }
        let compiled = RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .nest_limit(u32::from(MAX_DEPTH))
            .build();
        let span = arguments[1].span;
        match compiled {
            Ok(regex) => patterns.push((span.start, regex)),
            Err(error) => {
                // A syntax error is shown over several lines, the last of which says what is wrong.
                let detail = match error {
                    regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
                    other => {
                        let text = other.to_string();
                        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
                    }
                };
                failed = Some(ExprError::new(span, Problem::Pattern { detail }));
            }
        }
    });
    failed.map_or(Ok(()), Err)
}
