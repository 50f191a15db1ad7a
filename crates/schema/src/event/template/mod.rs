//! The format `template`, and templates in an endpoint's path, query and headers: the operator's own text with values
//! of an event in it, in the syntax of Jinja (crate `minijinja`). `docs/templates.md` is for those who write them.
//!
//! How it works. A text is parsed and checked once. Its syntax tree is rebuilt on the way (`read`): what could write
//! anything but a value is refused, names are noted with their places, and operands are wrapped, so that numbers which
//! are kept as texts can be calculated with. To render it, the engine writes a mark for every value and hands the value
//! over (`engine`); then the texts between the marks are copied and the values are written as the place where they
//! stand needs it (`escape`): for JSON a small lexer runs over all that was written so far and knows whether that is
//! within a string. So no value can be mistaken for a part of the template, wherever loops and conditions put it.
//!
//! Limits: [`MAX_BYTES`] and [`MAX_TAGS`] tags of [`MAX_WORDS`] words; [`FUEL`] steps and [`MAX_OUTPUT_BYTES`] to render
//! one. There are no includes, macros, files, clocks or random numbers: the same event always renders to the same bytes.
//!
//! It uses the engine's syntax tree, which has no stable interface; its version is therefore pinned.

mod body;
mod check;
mod content;
mod document;
mod engine;
mod error;
mod escape;
mod filters;
mod header;
mod json;
mod read;
mod scope;
#[cfg(test)]
mod tests;
mod url;
mod value;

pub use body::BodyTemplate;
pub use check::Visible;
pub use content::{ContentType, ContentTypeError, Escaping};
pub use engine::{FUEL, MAX_OUTPUT_BYTES};
pub use error::{Place, Problem, RenderError, TemplateError};
pub use header::{HeaderTemplate, MAX_HEADER_BYTES};
pub use read::{MAX_BYTES, MAX_TAGS, MAX_WORDS};
pub use url::{EndpointUrl, PathTemplate, UrlError};
