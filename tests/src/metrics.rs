//! Reading the Prometheus text of `/metrics`.

use std::sync::Once;
use std::time::Duration;

use crate::wait;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Parses the text format 0.0.4; comments and lines that are no sample are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(parse_line).collect() }
    }

    /// Scrapes `http://127.0.0.1:PORT/metrics`.
    ///
    /// # Errors
    /// When nobody answers, or not with 200.
    pub async fn scrape(admin_port: u16) -> Result<Self, String> {
        let url = format!("http://127.0.0.1:{admin_port}/metrics");
        let answer = http_client().get(&url).send().await.map_err(|error| format!("{url}: {error:?}"))?;
        let status = answer.status();
        if status != 200 {
            return Err(format!("{url}: status {status}"));
        }
        Ok(Self::parse(&answer.text().await.map_err(|error| format!("{url}: {error:?}"))?))
    }

    /// The value of the one sample that has this name and at least these labels; the sum when several have.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = None;
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            let has = |(key, value): &(&str, &str)| sample.labels.iter().any(|(k, v)| k == key && v == value);
            if labels.iter().all(has) {
                found = Some(found.unwrap_or(0.0) + sample.value);
            }
        }
        found
    }

    /// All sample names, sorted, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Scrapes until `wanted` accepts the value (`None`: no such sample) and returns it.
///
/// # Panics
/// At the deadline, with the last value.
pub async fn wait_for(
    admin_port: u16,
    name: &str,
    labels: &[(&str, &str)],
    deadline: Duration,
    wanted: impl Fn(f64) -> bool,
) -> f64 {
    let wanted = &wanted;
    wait::until(name, deadline, || async move {
        match Metrics::scrape(admin_port).await?.value(name, labels) {
            Some(value) if wanted(value) => Ok(value),
            other => Err(format!("value is {other:?} for labels {labels:?}")),
        }
    })
    .await
}

/// An HTTP client that follows no redirects, with the crypto provider that reqwest asks for even when it never uses it.
#[must_use]
pub fn http_client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// `name{key="value",...} number [timestamp]`.
fn parse_line(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = unescape(after)?;
            labels.push((key.trim().to_owned(), value));
            rest = after;
        }
    }
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label value up to its closing quote, and what follows it.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_labels_escapes_and_infinity() {
        let text = "# HELP a b\n# TYPE a counter\na 1\nb{x=\"1\",y=\"q\\\"}\\\\\"} 2.5 1700000000\nb{x=\"2\"} 3\nc{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.value("a", &[]), Some(1.0));
        assert_eq!(metrics.value("b", &[("y", "q\"}\\")]), Some(2.5));
        assert_eq!(metrics.value("b", &[("x", "2")]), Some(3.0));
        assert_eq!(metrics.value("b", &[]), Some(5.5));
        assert_eq!(metrics.value("c", &[("le", "+Inf")]), Some(f64::INFINITY));
        assert_eq!(metrics.value("b", &[("x", "3")]), None);
        assert_eq!(metrics.value("d", &[]), None);
        assert_eq!(metrics.names(), ["a", "b", "c"]);
    }
}
