//! Reads a template: refuses what templates here do not have, notes the names that it uses, and wraps operands.

mod expression;
mod statement;

use std::collections::{HashMap, HashSet};

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::engine::MARK;
use super::error::{Place, Problem, TemplateError};
use super::scope::{EVENT, EVENTS, RowName, What};
use crate::suggest::nearest;

/// Longest template in bytes.
pub const MAX_BYTES: usize = 32 * 1024;

/// Most tags in a template. A chain of `elif` nests as deep as it is long.
pub const MAX_TAGS: usize = 500;

/// Most words and signs in one tag. A chain of operators or filters nests as deep as it is long, and all of that must
/// fit on a thread's stack.
pub const MAX_WORDS: usize = 300;

/// The name under which errors of the engine know the template.
pub(super) const NAME: &str = "template";

/// A column that a template names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    /// Of which row; `None`: in `changed`.
    pub(super) row: Option<RowName>,
    pub(super) column: String,
    pub(super) place: Place,
    /// Only some events come to it, or it has a default.
    pub(super) guarded: bool,
}

/// What a template needs of a row.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) whole: bool,
    pub(super) names: HashSet<String>,
}

/// What a template uses.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) lookups: Vec<Lookup>,
    /// Members of events, of any event of `events` too.
    pub(super) members: HashSet<&'static str>,
    /// The members that are not named through `events`, and where first.
    pub(super) outer: HashMap<&'static str, Place>,
    pub(super) events: bool,
    pub(super) before: Columns,
    pub(super) after: Columns,
    pub(super) key: Columns,
    /// There is a tag.
    pub(super) tags: bool,
}

impl Uses {
    pub(super) fn row(&self, row: RowName) -> &Columns {
        match row {
            RowName::Before => &self.before,
            RowName::After => &self.after,
            RowName::Key => &self.key,
        }
    }

    fn row_mut(&mut self, row: RowName) -> &mut Columns {
        match row {
            RowName::Before => &mut self.before,
            RowName::After => &mut self.after,
            RowName::Key => &mut self.key,
        }
    }
}

/// What stands between the tags must pass it.
pub(super) type LiteralCheck = fn(&str) -> Option<(usize, Problem)>;

type Read<T> = Result<T, TemplateError>;

/// Reads a template and gives its tree, ready to be compiled.
pub(super) fn read(text: &str, check: LiteralCheck) -> Read<(Stmt<'_>, Uses)> {
    let fail = |offset, problem| Err(TemplateError { place: Place::of(text, offset), problem });
    if text.len() > MAX_BYTES {
        return fail(MAX_BYTES, Problem::TooLong { most: MAX_BYTES });
    }
    if let Some(offset) = text.find(MARK) {
        return fail(offset, Problem::Reserved);
    }
    let syntax = |error: minijinja::Error| TemplateError {
        place: Place::of(text, error.range().map_or(0, |range| range.start)),
        problem: Problem::Syntax(error),
    };
    let (mut tags, mut words) = (0, 0);
    for token in tokenize(text, false, SyntaxConfig::default()) {
        let (token, span) = token.map_err(syntax)?;
        words += 1;
        if matches!(token, Token::VariableStart | Token::BlockStart) {
            (tags, words) = (tags + 1, 0);
        }
        if tags > MAX_TAGS || words > MAX_WORDS {
            let problem = Problem::TooMany { tags: MAX_TAGS, words: MAX_WORDS };
            return fail(span.start_offset as usize, problem);
        }
    }
    let tree = parse(text, NAME, SyntaxConfig::default()).map_err(syntax)?;
    let uses = Uses { tags: tags > 0, ..Uses::default() };
    let mut reader = Reader { text, check, uses, scopes: vec![HashMap::new()], guards: 0 };
    let tree = reader.statement(&tree)?;
    Ok((tree, reader.uses))
}

struct Reader<'a> {
    text: &'a str,
    check: LiteralCheck,
    uses: Uses,
    /// Names that the template itself gives, innermost last.
    scopes: Vec<HashMap<&'a str, What>>,
    /// Conditions around.
    guards: usize,
}

impl<'a> Reader<'a> {
    fn place(&self, span: Span) -> Place {
        Place::of(self.text, span.start_offset as usize)
    }

    fn fail<T>(&self, span: Span, problem: Problem) -> Read<T> {
        Err(TemplateError { place: self.place(span), problem })
    }

    fn guarded<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.guards += 1;
        let result = read(self);
        self.guards -= 1;
        result
    }

    fn refused<T>(&self, span: Span, what: &'static str, instead: &'static str) -> Read<T> {
        self.fail(span, Problem::Refused { what, instead })
    }

    /// A value as a whole is used.
    fn use_whole(&mut self, what: What) {
        match what {
            What::Row(row) => self.uses.row_mut(row).whole = true,
            What::Event => {
                self.uses.members.extend(EVENT);
                for row in [RowName::Before, RowName::After, RowName::Key] {
                    self.uses.row_mut(row).whole = true;
                }
            }
            What::Events | What::Changed | What::Loop | What::Any => {}
        }
    }

    fn unknown_name<T>(&self, name: &str, span: Span, outermost: bool) -> Read<T> {
        let own = self.scopes.iter().flat_map(|scope| scope.keys().copied()).filter(|_| outermost);
        let known = EVENT.iter().copied().chain(outermost.then_some(EVENTS)).chain(own);
        let nearest = nearest(name, known).map(str::to_owned);
        self.fail(span, Problem::UnknownName { name: name.to_owned(), nearest })
    }

    fn note(&mut self, row: Option<RowName>, column: &str, span: Span) {
        let lookup =
            Lookup { row, column: column.to_owned(), place: self.place(span), guarded: self.guards > 0 };
        self.uses.lookups.push(lookup);
    }

    fn word(&self, kind: &'static str, name: &str, known: &[&'static str], span: Span) -> Read<()> {
        if known.contains(&name) {
            return Ok(());
        }
        let nearest = nearest(name, known.iter().copied()).map(str::to_owned);
        self.fail(span, Problem::UnknownWord { kind, name: name.to_owned(), nearest })
    }
}
