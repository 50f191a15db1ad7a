//! URLs: a fixed scheme, host and port, and a path and query that may have values of an event in them.

use ::url::Url;

use super::check::{Visible, check, fits};
use super::engine::Template;
use super::error::{Place, Problem, RenderError, TemplateError};
use super::escape::{Escaper, url_literal};
use crate::event::Event;

/// Why a text is no endpoint's URL. Never holds the text, in which secrets may stand.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// A tag before the path.
    #[error("scheme, host and port of a URL cannot be templated; write them out")]
    TemplatedAuthority,
    /// Not a URL.
    #[error("not a URL: {0}; write https://host/path")]
    Url(#[from] ::url::ParseError),
    /// The part after the host.
    #[error("path or query of the URL")]
    Path(#[from] TemplateError),
}

/// A path and query with values of an event in them.
///
/// Values are percent-encoded but for letters, digits, `-`, `.`, `_` and `~`, so none adds a part to the path, an
/// argument to the query, or a fragment. `| raw` does not change that. An empty value in the path is refused, as is one
/// that makes `.` or `..` a part of it: both would address something else than the template says.
#[derive(Debug)]
pub struct PathTemplate(Template);

impl PathTemplate {
    /// Reads what follows the host of a URL: empty, or `/...`, or `?...`.
    ///
    /// # Errors
    /// No template, or a character that a URL cannot hold.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let at_start = |problem| Err(TemplateError { place: Place::of(text, 0), problem });
        if !(text.is_empty() || text.starts_with(['/', '?'])) {
            return at_start(Problem::PathStart);
        }
        let template = Template::parse(text, Escaper::Path, url_literal)?;
        if !template.uses().tags && !is_plain(text) {
            return at_start(Problem::DotSegment);
        }
        Ok(Self(template))
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

    /// Whether it is the same for all events.
    #[must_use]
    pub fn is_static(&self) -> bool {
        !self.0.uses().tags
    }

    /// Path and query for one event, as they stand in a request's first line.
    ///
    /// # Errors
    /// A value is missing, or it cannot stand where the template puts it. All of them are permanent.
    pub fn render(&self, event: &Event<'_>) -> Result<String, RenderError> {
        plain(self.0.render(std::slice::from_ref(event), false)?)
    }

    /// Path and query for several events.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_batch(&self, events: &[Event<'_>]) -> Result<String, RenderError> {
        plain(self.0.render(events, true)?)
    }
}

fn plain(rendered: String) -> Result<String, RenderError> {
    if !is_plain(&rendered) {
        return Err(RenderError::DotSegment);
    }
    Ok(match rendered.starts_with('/') {
        true => rendered,
        false => format!("/{rendered}"),
    })
}

/// Whether no part of the path is `.` or `..`, percent-encoded or not (URL Standard, "single-dot URL path segment").
fn is_plain(path_and_query: &str) -> bool {
    let path = path_and_query.split('?').next().unwrap_or_default();
    path.split('/').all(|part| !matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
}

/// Where an endpoint's requests go.
#[derive(Debug)]
pub struct EndpointUrl {
    base: Url,
    path: PathTemplate,
}

impl EndpointUrl {
    /// Reads a URL whose path and query may have tags. Whether requests may go to the host is not looked at.
    ///
    /// # Errors
    /// Tags in scheme, host or port; no URL; no template.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let scheme = text.find("://").ok_or(::url::ParseError::RelativeUrlWithoutBase)?;
        // `://` further back is a part of a path, of a query or of a fragment.
        if text[..scheme].contains(['/', '?', '#', '\\']) {
            return Err(::url::ParseError::RelativeUrlWithoutBase.into());
        }
        let host = scheme + 3;
        let end = text[host..].find(['/', '?', '#', '\\']).map_or(text.len(), |at| host + at);
        if ["{{", "{%", "{#"].iter().any(|tag| text[..text.len().min(end + 1)].contains(tag)) {
            return Err(UrlError::TemplatedAuthority);
        }
        let base = Url::parse(&text[..end])?;
        Ok(Self { base, path: PathTemplate::parse(&text[end..])? })
    }

    /// Scheme, host and port, with the path `/`.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Both of its parts.
    #[must_use]
    pub fn into_parts(self) -> (Url, PathTemplate) {
        (self.base, self.path)
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &PathTemplate {
        &self.path
    }

    /// The URL for one event.
    ///
    /// # Errors
    /// As [`PathTemplate::render`].
    pub fn render(&self, event: &Event<'_>) -> Result<Url, RenderError> {
        self.path.render(event).map(|path| self.with(&path))
    }

    /// The URL for several events.
    ///
    /// # Errors
    /// As [`PathTemplate::render`].
    pub fn render_batch(&self, events: &[Event<'_>]) -> Result<Url, RenderError> {
        self.path.render_batch(events).map(|path| self.with(&path))
    }

    fn with(&self, path_and_query: &str) -> Url {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }
}
