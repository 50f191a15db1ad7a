//! Bodies.

use serde::de::IgnoredAny;

use super::check::{Visible, check, fits};
use super::content::{ContentType, Escaping};
use super::engine::Template;
use super::error::{RenderError, TemplateError};
use super::escape::{Escaper, any_literal};
use crate::event::Event;

/// A body with values of an event in it.
#[derive(Debug)]
pub struct BodyTemplate {
    template: Template,
    content_type: ContentType,
}

impl BodyTemplate {
    /// Reads a template whose result is of a content type.
    ///
    /// # Errors
    /// No template, with the place and what to write instead. Columns are not looked at yet ([`Self::check`]).
    pub fn parse(text: &str, content_type: ContentType) -> Result<Self, TemplateError> {
        let template = Template::parse(text, Escaper::of(content_type.escaping()), any_literal)?;
        Ok(Self { template, content_type })
    }

    /// What the body is.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// Whether all columns that it names exist in the tables; `batch` where the endpoint sends several events at once.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self, tables: &[Visible<'_>], batch: bool) -> Result<(), TemplateError> {
        check(self.template.uses(), tables, batch)
    }

    /// As [`Self::check`] for one table of several: what stands behind a condition may be meant for another.
    ///
    /// # Errors
    /// The first column that the table lacks.
    pub fn fits(&self, table: &Visible<'_>, batch: bool) -> Result<(), TemplateError> {
        fits(self.template.uses(), table, batch)
    }

    /// The body for one event; `events` is a list of it alone.
    ///
    /// # Errors
    /// A value is missing or cannot be written, a limit is passed, or the result is not of its content type. All of
    /// them are permanent: the same event fails again.
    pub fn render(&self, event: &Event<'_>) -> Result<String, RenderError> {
        self.checked(self.template.render(std::slice::from_ref(event), false)?)
    }

    /// The body for several events.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_batch(&self, events: &[Event<'_>]) -> Result<String, RenderError> {
        self.checked(self.template.render(events, true)?)
    }

    fn checked(&self, body: String) -> Result<String, RenderError> {
        match self.content_type.escaping() {
            Escaping::Json => is_json(&body, 1)?,
            Escaping::JsonLines => {
                for (at, line) in body.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                    is_json(line, at + 1)?;
                }
            }
            Escaping::Xml => is_xml(&body)?,
            Escaping::Html | Escaping::Form | Escaping::None => {}
        }
        Ok(body)
    }
}

/// Well-formed, prefixes and all. A document type is the operator's own affair.
fn is_xml(text: &str) -> Result<(), RenderError> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    match roxmltree::Document::parse_with_options(text, options) {
        Ok(_) => Ok(()),
        // The error's own text would quote the document.
        Err(error) => {
            let place = error.pos();
            Err(RenderError::NotXml { line: place.row as usize, column: place.col as usize })
        }
    }
}

fn is_json(text: &str, first_line: usize) -> Result<(), RenderError> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(RenderError::NotJson { line: first_line + error.line().max(1) - 1, column: error.column() })
        }
    }
}
