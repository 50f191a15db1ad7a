//! The keys that say what a request looks like beyond its body's format: templates, headers, authentication, proxy.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use toml::de::DeValue;
use url::Url;

use super::address::{AddressError, check_url};
use super::auth::{Auth, AuthMethod, ClientCredentials};
use super::error::Problem;
use super::load::signing_keys;
use super::proxy::ProxyUrl;
use super::reader::{Field, Keys, Reader, Section, quoted_key};
use super::request::{Compression, IdentityFiles, RequestConfig};
use crate::event::cloudevents::is_attribute;
use crate::event::template::{
    BodyTemplate, ContentType, EndpointUrl, HeaderTemplate, PathTemplate, TemplateError, UrlError,
};
use crate::header::check_name;
use crate::secret::Secret;
use crate::signature::{Signer, SignerError};

/// What begins a tag.
const TAGS: [&str; 3] = ["{{", "{%", "{#"];

const AUTH: Keys = Keys {
    section: "endpoint.auth",
    keys: &[
        "bearer",
        "user",
        "password",
        "token_url",
        "client_id",
        "client_secret",
        "scope",
        "audience",
        "client_auth",
    ],
};

/// How requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Standard,
    Github,
    Stripe,
    None,
}

/// The URL with its path and query where they are the same for all events, and those with tags.
pub(super) struct Address {
    pub(super) url: Url,
    pub(super) path: Option<Arc<PathTemplate>>,
}

/// `allow_networks` is `None` if it could not be read: http towards a name is then given the benefit of the doubt, as
/// one mistake should not be reported as two.
pub(super) fn address(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    allow_networks: Option<&[IpNet]>,
    templates: bool,
) -> Option<Address> {
    let text = reader.text(field, "a URL", "\"https://warehouse.internal:9500/in/shop\"")?;
    let address = if TAGS.iter().any(|tag| text.contains(tag)) {
        if !templates {
            reader.report(field, Problem::TemplateForBridge);
            return None;
        }
        let parsed = EndpointUrl::parse(&text).map_err(|error| match error {
            UrlError::Url(error) => reader.report(field, error),
            error => reader.report(field, Problem::template(&error)),
        });
        let (url, path) = parsed.ok()?.into_parts();
        Address { url, path: Some(Arc::new(path)) }
    } else {
        Address { url: Url::parse(&text).map_err(|error| reader.report(field, error)).ok()?, path: None }
    };
    checked(reader, field, &address.url, allow_networks)?;
    Some(address)
}

fn checked(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    url: &Url,
    allow_networks: Option<&[IpNet]>,
) -> Option<()> {
    match check_url(url, allow_networks.unwrap_or_default()) {
        Err(AddressError::HttpsRequired) if allow_networks.is_none() => None,
        Err(error) => {
            reader.report(field, error);
            None
        }
        Ok(()) => Some(()),
    }
}

/// Everything but the URL. `template` says whether the format is one.
pub(super) fn request(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    path: Option<Arc<PathTemplate>>,
    allow_networks: Option<&[IpNet]>,
    template: bool,
) -> Option<RequestConfig> {
    let signer = signer(reader, section);
    let auth = match section.get("auth") {
        None => Some(Auth::None),
        Some(field) => auth(reader, &field, allow_networks),
    };
    let headers = match section.get("headers") {
        None => Some(Vec::new()),
        Some(field) => headers(reader, &field, section.get("auth").is_some()),
    };
    let body = body(reader, section, template);
    let identity = identity(reader, section);
    let proxy = match section.get("proxy") {
        None => Some(None),
        Some(field) => proxy(reader, &field.secret()).map(Some),
    };
    let compression = match section.get("compression") {
        None => Some(None),
        Some(field) => {
            let choices = [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
            let hint = "the receiver has to understand it";
            reader.choice(&field, "\"gzip\" or \"zstd\"", &choices, hint).map(Some)
        }
    };
    Some(RequestConfig {
        signer: signer?,
        path,
        headers: headers?,
        body: body?,
        auth: auth?,
        identity: identity?,
        proxy: proxy?,
        compression: compression?,
    })
}

/// `secret` by the scheme of `signature`.
fn signer(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<Signer>> {
    let scheme = match section.get("signature") {
        None => Scheme::Standard,
        Some(field) => {
            let choices = [
                ("standard", Scheme::Standard),
                ("github", Scheme::Github),
                ("stripe", Scheme::Stripe),
                ("none", Scheme::None),
            ];
            let expected = "\"standard\", \"github\", \"stripe\" or \"none\"";
            reader.choice(&field, expected, &choices, "standard is Standard Webhooks")?
        }
    };
    if scheme == Scheme::None {
        if let Some(field) = section.get("secret") {
            let way_out = "remove the secret, or say how it signs";
            reader.report(&field, Problem::Contradicts { other: "signature = \"none\"", way_out });
            return None;
        }
        return Some(None);
    }
    let field = section.require(reader, "secret", "secret = \"${WEBHOOK_SECRET}\"")?;
    if scheme == Scheme::Standard {
        let keys = signing_keys(reader, &field)?;
        return Signer::standard(keys).map(Some).map_err(|error| reader.report(&field, error)).ok();
    }
    let secrets = secrets(reader, &field)?;
    let signer = match scheme {
        Scheme::Github => Signer::github(&secrets),
        _ => Signer::stripe(&secrets),
    };
    signer.map(Some).map_err(|error: SignerError| reader.report(&field, error)).ok()
}

/// Secrets whose text is the key.
fn secrets(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<Secret>> {
    const EXPECTED: &str = "a secret or a list of them";
    const EXAMPLE: &str = "\"${WEBHOOK_SECRET}\"";
    let fields = match field.value {
        DeValue::Array(_) => reader.list(field, EXPECTED, EXAMPLE)?,
        _ => vec![field.clone()],
    };
    fields.iter().map(|field| reader.text(field, EXPECTED, EXAMPLE).map(Secret::new)).collect()
}

fn headers(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    authorized: bool,
) -> Option<Vec<(String, Arc<HeaderTemplate>)>> {
    let DeValue::Table(table) = field.value else {
        return reader.unexpected(field, "a table of headers", "such as { X-Shop = \"berlin\" }");
    };
    let mut headers: Vec<(String, Arc<HeaderTemplate>)> = Vec::new();
    let mut fine = true;
    for (name, value) in table.iter() {
        let name = name.get_ref().as_ref();
        let child = field.child(format!("{}.{}", field.key, quoted_key(name)), value).secret();
        match header(reader, &child, name, authorized) {
            Some((name, _)) if headers.iter().any(|(other, _)| *other == name) => {
                reader.report(&child, Problem::HeaderTwice);
                fine = false;
            }
            Some(header) => headers.push(header),
            None => fine = false,
        }
    }
    fine.then_some(headers)
}

/// Where headers carry an event's attributes, those of the configuration must not take their places.
pub(super) fn no_attributes(reader: &mut Reader<'_>, section: &Section<'_>) {
    let Some(field) = section.get("headers") else { return };
    let DeValue::Table(table) = field.value else { return };
    for (name, value) in table.iter() {
        let name = name.get_ref().as_ref();
        if is_attribute(&name.to_ascii_lowercase()) {
            let child = field.child(format!("{}.{}", field.key, quoted_key(name)), value).secret();
            reader.report(&child, Problem::EventAttribute);
        }
    }
}

fn header(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    name: &str,
    authorized: bool,
) -> Option<(String, Arc<HeaderTemplate>)> {
    let name = check_name(name).map_err(|error| reader.report(field, error)).ok()?;
    if authorized && name == "authorization" {
        let way_out = "remove one of them";
        reader.report(field, Problem::Contradicts { other: "auth", way_out });
        return None;
    }
    let text = reader.text(field, "a header's value", "\"berlin\" or \"{{ after.id }}\"")?;
    let template = HeaderTemplate::parse(&text);
    Some((name, Arc::new(templated(reader, field, template)?)))
}

fn templated<T>(reader: &mut Reader<'_>, field: &Field<'_>, parsed: Result<T, TemplateError>) -> Option<T> {
    parsed.map_err(|error| reader.report(field, Problem::template(&error))).ok()
}

/// `body` and `content_type`, which go with `format = "template"` alone.
fn body(reader: &mut Reader<'_>, section: &Section<'_>, template: bool) -> Option<Option<Arc<BodyTemplate>>> {
    if !template {
        for field in ["body", "content_type"].iter().filter_map(|key| section.get(key)) {
            reader.report(&field, Problem::ForTemplate);
        }
        return Some(None);
    }
    let json = ContentType::parse("application/json").ok();
    let content_type = match section.get("content_type") {
        None => json.clone(),
        Some(field) => {
            let text = reader.filled_text(&field, "a content type", "\"application/json\"")?;
            ContentType::parse(&text).map_err(|error| reader.report(&field, error)).ok()
        }
    };
    let example = "body = '{\"text\": \"Order {{ after.id }}\"}'";
    let field = section.require(reader, "body", example)?.secret();
    let text = reader.text(&field, "a template", "'{\"text\": \"Order {{ after.id }}\"}'")?;
    // A wrong content type hides no other mistake.
    let parsed = BodyTemplate::parse(&text, content_type.clone().or(json)?);
    let body = templated(reader, &field, parsed)?;
    content_type.map(|_| Some(Arc::new(body)))
}

/// The path of a PEM file.
pub(super) fn pem(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
) -> Option<Option<PathBuf>> {
    match section.get(key) {
        None => Some(None),
        Some(field) => reader
            .filled_text(&field, "the path of a PEM file", "\"/etc/rowbridge/ca.pem\"")
            .map(|path| Some(PathBuf::from(path))),
    }
}

fn identity(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<IdentityFiles>> {
    let mut file = |key, other: &'static str| {
        if let (Some(field), None) = (section.get(key), section.get(other)) {
            let way_out = "a certificate and its key go together";
            reader.report(&field, Problem::Needs { needed: other, way_out });
        }
        pem(reader, section, key)
    };
    let certificates = file("client_cert", "client_key");
    let key = file("client_key", "client_cert");
    match (certificates?, key?) {
        (Some(certificates), Some(key)) => Some(Some(IdentityFiles { certificates, key })),
        _ => Some(None),
    }
}

fn proxy(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<ProxyUrl> {
    let text = reader.text(field, "a proxy's URL", "\"http://proxy.example.com:3128\"")?;
    ProxyUrl::parse(&Secret::new(text)).map_err(|error| reader.report(field, error)).ok()
}

fn auth(reader: &mut Reader<'_>, field: &Field<'_>, allow_networks: Option<&[IpNet]>) -> Option<Auth> {
    const WAY_OUT: &str = "such as { bearer = \"${TOKEN}\" }, { user = \"shop\", password = \"${PASSWORD}\" } or \
                           { token_url = \"https://login.example.com/token\", client_id = \"shop\", client_secret = \
                           \"${CLIENT_SECRET}\" }";
    let DeValue::Table(table) = field.value else {
        return reader.unexpected(field, "a table", WAY_OUT);
    };
    let section = reader.open(table, field.at, &AUTH);
    let kinds: [(&str, &[&'static str]); 3] = [
        ("bearer", &["bearer"]),
        ("user", &["user", "password"]),
        ("token_url", &["token_url", "client_id", "client_secret", "scope", "audience", "client_auth"]),
    ];
    let mut present = kinds.iter().filter(|(_, keys)| keys.iter().any(|key| section.get(key).is_some()));
    let (Some((kind, _)), None) = (present.next(), present.next()) else {
        return reader.unexpected(field, "one way to authenticate", WAY_OUT);
    };
    let mut text = |key, example: &'static str| {
        let field = section.require(reader, key, example)?;
        reader.text(&field.secret(), "a text", example)
    };
    let auth = match *kind {
        "bearer" => Auth::Bearer(Secret::new(text("bearer", "bearer = \"${TOKEN}\"")?)),
        "user" => {
            let user = text("user", "user = \"shop\"");
            let password = text("password", "password = \"${PASSWORD}\"");
            Auth::Basic { user: user?, password: Secret::new(password?) }
        }
        _ => {
            let client_id = text("client_id", "client_id = \"shop\"");
            let client_secret = text("client_secret", "client_secret = \"${CLIENT_SECRET}\"");
            oauth2(reader, &section, allow_networks, client_id, client_secret)?
        }
    };
    auth.check().map_err(|error| reader.report(field, error)).ok()?;
    Some(auth)
}

fn oauth2(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    allow_networks: Option<&[IpNet]>,
    client_id: Option<String>,
    client_secret: Option<String>,
) -> Option<Auth> {
    let token_url = section
        .require(reader, "token_url", "token_url = \"https://login.example.com/oauth2/token\"")
        .and_then(|field| Some(address(reader, &field.secret(), allow_networks, false)?.url));
    let mut optional = |key| match section.get(key) {
        None => Some(None),
        Some(field) => reader.filled_text(&field, "a text", "\"orders.write\"").map(Some),
    };
    let (scope, audience) = (optional("scope"), optional("audience"));
    let method = section.get("client_auth").map_or(Some(AuthMethod::Basic), |field| {
        let choices = [("basic", AuthMethod::Basic), ("body", AuthMethod::Body)];
        reader.choice(&field, "\"basic\" or \"body\"", &choices, "basic is what every server takes")
    });
    Some(Auth::OAuth2(ClientCredentials {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: Secret::new(client_secret?),
        scope: scope?,
        audience: audience?,
        method: method?,
    }))
}
