//! What is wrong with a template, and why one cannot be rendered. No error holds a value of a row, nor what a template
//! says outside of its tags, where secrets may stand.

use std::fmt;

use crate::class::{Class, Classified};
use crate::table::TableName;

/// A place in a template's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In bytes, from 0.
    pub offset: usize,
}

impl Place {
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            offset,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{problem} at {place} of the template")]
pub struct TemplateError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is longer than anybody writes.
    #[error("a template has at most {most} bytes")]
    TooLong {
        /// The limit.
        most: usize,
    },
    /// It has more tags, or one of them has more words, than anybody writes.
    #[error("a template has at most {tags} tags of {words} words")]
    TooMany {
        /// Most tags.
        tags: usize,
        /// Most words in one.
        words: usize,
    },
    /// The template language does not know this.
    #[error("{}", syntax(.0))]
    Syntax(minijinja::Error),
    /// A character that stands for values while a template is rendered.
    #[error("the character U+10FFFF cannot stand in a template; remove it")]
    Reserved,
    /// Something that templates of Rowbridge do not have.
    #[error("{what} cannot be used here; {instead}")]
    Refused {
        /// What.
        what: &'static str,
        /// What to write instead.
        instead: &'static str,
    },
    /// A name that no event has.
    #[error("there is no {name}{}", or_names(.nearest.as_deref(), "; events have op, type, id, table, schema, database, stream, source, endpoint, position, commit_time, before, after, key, changed, replay"))]
    UnknownName {
        /// As it is written.
        name: String,
        /// What it most likely means.
        nearest: Option<String>,
    },
    /// A filter, test or function that does not exist.
    #[error("there is no {kind} {name}{}", or_names(.nearest.as_deref(), "; docs/templates.md lists them"))]
    UnknownWord {
        /// `filter`, `test` or `function`.
        kind: &'static str,
        /// As it is written.
        name: String,
        /// What it most likely means.
        nearest: Option<String>,
    },
    /// A column that the endpoint does not see of a table.
    #[error("no column {column} in {table}{}", nearest_is(.nearest.as_deref()))]
    UnknownColumn {
        /// As it is written.
        column: String,
        /// The table.
        table: TableName,
        /// What it most likely means.
        nearest: Option<String>,
    },
    /// A column that is not part of a table's key.
    #[error("{column} is no column of the key of {table}; write after.{column}")]
    NotInKey {
        /// As it is written.
        column: String,
        /// The table.
        table: TableName,
    },
    /// A name of one event where several are sent.
    #[error("{name} is not known for a batch; write {{% for e in events %}} and e.{name}")]
    Batched {
        /// The name.
        name: &'static str,
    },
    /// A character that cannot stand in a URL as it is.
    #[error(
        "a character that a URL cannot hold (`#`, a backslash, a blank, a control character or one outside ASCII); percent-encode it"
    )]
    UrlCharacter,
    /// A path that begins otherwise.
    #[error("after the host, a URL goes on with `/` or `?`; write one of them")]
    PathStart,
    /// `.` or `..` as a part of a path.
    #[error("a path with `.` or `..` as one of its parts leads elsewhere; write the path without")]
    DotSegment,
    /// A character that cannot stand in a header.
    #[error("a character that a header cannot hold (a control character or one outside ASCII); remove it")]
    HeaderCharacter,
}

fn syntax(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

fn or_names(nearest: Option<&str>, names: &str) -> String {
    nearest.map_or_else(|| names.to_owned(), |name| format!(" (did you mean {name}?)"))
}

fn nearest_is(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("; nearest: {name}"))
}

/// An event that a template cannot be rendered for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A name has no value in this event: the column was not sent, there is no such row, or the document has no such
    /// member.
    #[error(
        "{} has no value in this event{}; write `| default(...)` or ask for it by {{% if ... is defined %}}",
        .expression.as_deref().unwrap_or("a name of the template"), at(.place.as_ref())
    )]
    Undefined {
        /// As the template writes it, if it is a plain name.
        expression: Option<String>,
        /// Where.
        place: Option<Place>,
    },
    /// An operation does not take the values that it is given.
    #[error("{reason}{}", at(.place.as_ref()))]
    Failed {
        /// What went wrong.
        reason: &'static str,
        /// Where.
        place: Option<Place>,
    },
    /// More work than a template may do.
    #[error("the template does more work than an event is worth; have it loop less")]
    TooMuchWork,
    /// More output than a template may make.
    #[error(
        "the rendered template has more than {limit_bytes} bytes; send fewer columns, or cut them by `| truncate(n)`"
    )]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The result is not JSON.
    #[error(
        "the rendered body is not JSON at its line {line}, column {column}; see what it looks like with `rowbridge endpoint test`"
    )]
    NotJson {
        /// In the rendered text, from 1.
        line: usize,
        /// In the rendered text, from 1.
        column: usize,
    },
    /// The result is not a well-formed XML document.
    #[error(
        "the rendered body is not well-formed XML at its line {line}, column {column}; see what it looks like with `rowbridge endpoint test`"
    )]
    NotXml {
        /// In the rendered text, from 1.
        line: usize,
        /// In the rendered text, from 1.
        column: usize,
    },
    /// A value stands behind a backslash in a JSON string.
    #[error(
        "a value stands right after a backslash of a JSON string, which would change its meaning; remove the backslash"
    )]
    AfterBackslash,
    /// A value nests lists or objects deeper than bodies do.
    #[error("a value nests deeper than {most} levels")]
    TooDeep {
        /// The limit.
        most: usize,
    },
    /// A character that XML cannot hold in any spelling.
    #[error("a value holds a character that XML does not have; use `| base64`")]
    XmlCharacter,
    /// Nothing where a part of a path is expected.
    #[error(
        "a value in the path is NULL or empty, which would address another resource; write `| default(..., true)`"
    )]
    EmptySegment,
    /// A value would lead to another part of the path's tree.
    #[error("a value makes `.` or `..` a part of the path, which would lead elsewhere")]
    DotSegment,
    /// A value would end the header, or is not defined in one.
    #[error("a value holds a control character, which a header cannot hold; use `| urlencode` or `| base64`")]
    HeaderControl,
    /// What bytes outside ASCII mean in a header depends on who reads them.
    #[error(
        "a value holds a character outside ASCII, which a header cannot hold; use `| urlencode` or `| base64`"
    )]
    HeaderNotAscii,
}

fn at(place: Option<&Place>) -> String {
    place.map_or(String::new(), |place| format!(" at {place} of the template"))
}

impl Classified for RenderError {
    /// The same event is rendered the same way again.
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn hint(&self) -> Option<String> {
        Some("change the endpoint's template, then retry the dead letter, or discard it".to_owned())
    }
}
