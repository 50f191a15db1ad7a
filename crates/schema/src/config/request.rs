//! What a request to an endpoint that is not Rowbridge looks like, beyond its body.

use std::path::PathBuf;
use std::sync::Arc;

use super::auth::Auth;
use super::proxy::ProxyUrl;
use crate::event::Event;
use crate::event::template::{
    BodyTemplate, HeaderTemplate, PathTemplate, RenderError, TemplateError, Visible,
};
use crate::signature::Signer;

/// How an endpoint is asked. Clones share templates.
#[derive(Debug, Clone)]
pub struct RequestConfig {
    /// What signs; `None` for `signature = "none"`.
    pub signer: Option<Signer>,
    /// Path and query, where they have tags; else those of the URL hold.
    pub path: Option<Arc<PathTemplate>>,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Arc<HeaderTemplate>)>,
    /// `format = "template"`
    pub body: Option<Arc<BodyTemplate>>,
    /// `Authorization`
    pub auth: Auth,
    /// What is shown to a server that asks who calls.
    pub identity: Option<IdentityFiles>,
    /// By which way; directly if left out.
    pub proxy: Option<ProxyUrl>,
    /// How larger bodies are packed.
    pub compression: Option<Compression>,
}

/// A `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// As the header says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// PEM files of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and the intermediate ones behind it.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What of a request is a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Templated {
    /// `url`
    Url,
    /// `headers.NAME`
    Header(String),
    /// `body`
    Body,
}

/// What templates have made of the events of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Path and query, where they have tags.
    pub path: Option<String>,
    /// Those with tags.
    pub headers: Vec<(String, String)>,
    /// `format = "template"`
    pub body: Option<String>,
}

impl RequestConfig {
    /// Whether something of a request is made of its events by a template.
    #[must_use]
    pub fn has_templates(&self) -> bool {
        self.path.is_some() || self.body.is_some() || self.headers.iter().any(|(_, value)| !value.is_static())
    }

    /// Takes all templates out, for an event that they are not made for.
    pub fn without_templates(&mut self) {
        (self.path, self.body) = (None, None);
        self.headers.retain(|(_, value)| value.is_static());
    }

    /// Whether all columns that templates name exist in the tables; `batch` where a request has several events.
    ///
    /// # Errors
    /// The first that does not, and where it stands.
    pub fn check(&self, tables: &[Visible<'_>], batch: bool) -> Result<(), (Templated, TemplateError)> {
        self.each(
            |path| path.check(tables, batch),
            |value| value.check(tables, batch),
            |body| body.check(tables, batch),
        )
    }

    /// As [`Self::check`] for one table of several: what stands behind a condition may be meant for another.
    ///
    /// # Errors
    /// The first column that the table lacks, and where it stands.
    pub fn fits(&self, table: &Visible<'_>, batch: bool) -> Result<(), (Templated, TemplateError)> {
        self.each(
            |path| path.fits(table, batch),
            |value| value.fits(table, batch),
            |body| body.fits(table, batch),
        )
    }

    /// What the templates make of the events of one request.
    ///
    /// # Errors
    /// Which of them cannot be rendered, and why. The same events fail again.
    pub fn render(&self, events: &[Event<'_>], batch: bool) -> Result<Rendered, (Templated, RenderError)> {
        let mut rendered = Rendered::default();
        let single = events.first().filter(|_| !batch);
        self.each(
            |path| {
                let path = single.map_or_else(|| path.render_batch(events), |event| path.render(event))?;
                rendered.path = Some(path);
                Ok(())
            },
            |_| Ok(()),
            |body| {
                let body = single.map_or_else(|| body.render_batch(events), |event| body.render(event))?;
                rendered.body = Some(body);
                Ok(())
            },
        )?;
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_static()) {
            let value = single.map_or_else(|| value.render_batch(events), |event| value.render(event));
            let value = value.map_err(|error| (Templated::Header(name.clone()), error))?;
            rendered.headers.push((name.clone(), value));
        }
        Ok(rendered)
    }

    fn each<E>(
        &self,
        path: impl FnOnce(&PathTemplate) -> Result<(), E>,
        header: impl Fn(&HeaderTemplate) -> Result<(), E>,
        body: impl FnOnce(&BodyTemplate) -> Result<(), E>,
    ) -> Result<(), (Templated, E)> {
        self.path.as_deref().map_or(Ok(()), path).map_err(|error| (Templated::Url, error))?;
        for (name, value) in &self.headers {
            header(value).map_err(|error| (Templated::Header(name.clone()), error))?;
        }
        self.body.as_deref().map_or(Ok(()), body).map_err(|error| (Templated::Body, error))
    }
}

impl std::fmt::Display for Templated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url => f.write_str("url"),
            Self::Header(name) => write!(f, "headers.{name}"),
            Self::Body => f.write_str("body"),
        }
    }
}
