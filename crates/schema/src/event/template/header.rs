//! Header values.

use super::check::{Visible, check, fits};
use super::engine::Template;
use super::error::{RenderError, TemplateError};
use super::escape::{Escaper, header_literal};
use crate::event::Event;

/// Longest value: most servers take 8 KiB for a line.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

/// A header's value with values of an event in it. It is printable ASCII: RFC 9110, section 5.5, leaves it to those who
/// read it what other bytes mean, and a control character would begin another header. So values with either are refused;
/// `| urlencode` and `| base64` send any, in a way that the template's author has chosen and the receiver can undo.
#[derive(Debug)]
pub struct HeaderTemplate(Template);

impl HeaderTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// No template, or a character that a header cannot hold.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Template::parse(text, Escaper::Header, header_literal).map(Self)
    }

    /// Whether all columns that it names exist in the tables; `batch` where the endpoint sends several events at once.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self, tables: &[Visible<'_>], batch: bool) -> Result<(), TemplateError> {
        check(self.0.uses(), tables, batch)
    }

    /// As [`Self::check`] for one table of several: what stands behind a condition may be meant for another.
    ///
    /// # Errors
    /// The first column that the table lacks.
    pub fn fits(&self, table: &Visible<'_>, batch: bool) -> Result<(), TemplateError> {
        fits(self.0.uses(), table, batch)
    }

    /// The value, where it is the same for all events.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.is_static().then(|| self.0.render(&[], true).unwrap_or_default())
    }

    /// Whether it is the same for all events.
    #[must_use]
    pub fn is_static(&self) -> bool {
        !self.0.uses().tags
    }

    /// The value for one event, without blanks around it.
    ///
    /// # Errors
    /// A value is missing or cannot stand in a header, or a limit is passed. All of them are permanent.
    pub fn render(&self, event: &Event<'_>) -> Result<String, RenderError> {
        trimmed(self.0.render(std::slice::from_ref(event), false)?)
    }

    /// The value for several events.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_batch(&self, events: &[Event<'_>]) -> Result<String, RenderError> {
        trimmed(self.0.render(events, true)?)
    }
}

fn trimmed(value: String) -> Result<String, RenderError> {
    if value.len() > MAX_HEADER_BYTES {
        return Err(RenderError::TooLarge { limit_bytes: MAX_HEADER_BYTES });
    }
    Ok(value.trim().to_owned())
}
