//! Texts of configuration files for the two ends of a bridge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A TOML basic string. The escapes that JSON output uses are a part of TOML's.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

/// One `[[endpoint]]`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `name`.
    pub name: String,
    /// `url`.
    pub url: String,
    /// `secret`, `whsec_...`; left out if empty.
    pub secret: String,
    /// `format`.
    pub format: String,
    /// Further lines of the table, as they are.
    pub extra: String,
}

impl Endpoint {
    /// A bridge endpoint.
    #[must_use]
    pub fn bridge(name: &str, url: &str, secret: &str) -> Self {
        Self::new(name, url, secret, "bridge")
    }

    /// An endpoint of another format.
    #[must_use]
    pub fn new(name: &str, url: &str, secret: &str, format: &str) -> Self {
        let (name, url, secret, format) = (name.into(), url.into(), secret.into(), format.into());
        Self { name, url, secret, format, extra: String::new() }
    }

    /// Adds lines to the table.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.extra += &format!("{lines}\n");
        self
    }
}

/// The publisher's file.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// `publisher.stream`.
    pub stream: String,
    /// `publisher.state_dir`.
    pub state_dir: PathBuf,
    /// `source.kind`.
    pub kind: String,
    /// `source.url`.
    pub url: String,
    /// `source.tables`.
    pub tables: Vec<String>,
    /// Endpoints, in order.
    pub endpoints: Vec<Endpoint>,
    /// Port of `admin.listen` on 127.0.0.1.
    pub admin_port: u16,
    /// Further lines of `[publisher]`, as they are.
    pub publisher_extra: String,
    /// Further lines of `[source]`, as they are.
    pub source_extra: String,
    /// Further lines of `[journal]`, as they are; the table is left out when there are none.
    pub journal_extra: String,
    /// Further tables at the end of the file, as they are.
    pub extra: String,
}

impl Publisher {
    /// A publisher of some tables without endpoints.
    #[must_use]
    pub fn new(kind: &str, url: &str, tables: &[&str], state_dir: &Path, admin_port: u16) -> Self {
        Self {
            stream: "shop".into(),
            state_dir: state_dir.into(),
            kind: kind.into(),
            url: url.into(),
            tables: tables.iter().map(ToString::to_string).collect(),
            endpoints: Vec::new(),
            admin_port,
            publisher_extra: String::new(),
            source_extra: String::new(),
            journal_extra: String::new(),
            extra: String::new(),
        }
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "[publisher]\nstream = {}\nstate_dir = {}\n{}\n\n[source]\nkind = {}\nurl = {}\ntables = {}\n{}\n",
            quoted(&self.stream),
            quoted(self.state_dir.to_str().unwrap()),
            self.publisher_extra,
            quoted(&self.kind),
            quoted(&self.url),
            list(&self.tables),
            self.source_extra,
        );
        if !self.journal_extra.is_empty() {
            let _ = write!(text, "\n[journal]\n{}\n", self.journal_extra);
        }
        for Endpoint { name, url, secret, format, extra } in &self.endpoints {
            let signed = !secret.is_empty();
            let (name, url, secret, format) = (quoted(name), quoted(url), quoted(secret), quoted(format));
            let secret = if signed { format!("secret = {secret}\n") } else { String::new() };
            let _ = write!(
                text,
                "\n[[endpoint]]\nname = {name}\nurl = {url}\n{secret}format = {format}\n{extra}"
            );
        }
        text + &admin(self.admin_port) + &self.extra
    }
}

/// The subscriber's file.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Port of `subscriber.listen` on 127.0.0.1.
    pub port: u16,
    /// `target.kind`.
    pub kind: String,
    /// `target.url`.
    pub url: String,
    /// `receive.path`.
    pub path: String,
    /// `receive.stream`.
    pub stream: String,
    /// `receive.secret`.
    pub secret: String,
    /// Port of `admin.listen` on 127.0.0.1.
    pub admin_port: u16,
    /// Further lines of `[subscriber]`, as they are.
    pub subscriber_extra: String,
    /// Further lines of `[target]`, as they are.
    pub target_extra: String,
    /// Further lines of `[[receive]]`, as they are.
    pub receive_extra: String,
    /// Further tables at the end of the file (`[[map]]`), as they are.
    pub extra: String,
}

impl Subscriber {
    /// A subscriber to the stream `shop` at `/in/shop`.
    #[must_use]
    pub fn new(kind: &str, url: &str, port: u16, secret: &str, admin_port: u16) -> Self {
        Self {
            port,
            kind: kind.into(),
            url: url.into(),
            path: "/in/shop".into(),
            stream: "shop".into(),
            secret: secret.into(),
            admin_port,
            subscriber_extra: String::new(),
            target_extra: String::new(),
            receive_extra: String::new(),
            extra: String::new(),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let text = format!(
            "[subscriber]\nlisten = \"127.0.0.1:{}\"\n{}\n\n[target]\nkind = {}\nurl = {}\n{}\n\n\
             [[receive]]\npath = {}\nstream = {}\nsecret = {}\n{}\n",
            self.port,
            self.subscriber_extra,
            quoted(&self.kind),
            quoted(&self.url),
            self.target_extra,
            quoted(&self.path),
            quoted(&self.stream),
            quoted(&self.secret),
            self.receive_extra,
        );
        text + &admin(self.admin_port) + &self.extra
    }
}

fn admin(port: u16) -> String {
    format!("\n[admin]\nlisten = \"127.0.0.1:{port}\"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_toml_with_the_keys_in_their_tables() {
        let mut publisher =
            Publisher::new("postgres", "postgres://a:\"b@c/d", &["public.*"], Path::new("/s"), 9).endpoint(
                Endpoint::bridge("warehouse", "http://127.0.0.1:1/in/shop", "whsec_x")
                    .with("timeout = \"2s\""),
            );
        publisher.journal_extra = "retain = \"1h\"".into();
        let file: toml::Table = publisher.text().parse().unwrap();
        assert_eq!(file["source"]["url"].as_str(), Some("postgres://a:\"b@c/d"));
        assert_eq!(file["journal"]["retain"].as_str(), Some("1h"));
        assert_eq!(file["endpoint"][0]["timeout"].as_str(), Some("2s"));
        assert_eq!(file["admin"]["listen"].as_str(), Some("127.0.0.1:9"));

        let mut subscriber = Subscriber::new("sqlite", "sqlite:/x.db", 1, "whsec_x", 2);
        subscriber.target_extra = "create = true".into();
        subscriber.extra = "[[map]]\nfrom = \"a\"\nto = \"b\"\n".into();
        let file: toml::Table = subscriber.text().parse().unwrap();
        assert_eq!(file["target"]["create"].as_bool(), Some(true));
        assert_eq!(file["receive"][0]["stream"].as_str(), Some("shop"));
        assert_eq!(file["map"][0]["to"].as_str(), Some("b"));
    }
}
