//! What was asked for: arguments, and what they come to once they are checked.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::StatusCode;
use rowbridge_schema::Secret;
use rowbridge_schema::config::bytes::parse_bytes;
use rowbridge_schema::config::duration::parse_duration;

use super::signature::Verifier;
use crate::failure::Failure;

/// As a subscriber's `receive.max_body`.
const MAX_BODY: &str = "64 MiB";

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 9500, conflicts_with = "listen")]
    port: u16,
    /// Address and port, where 127.0.0.1 is not enough: 0.0.0.0:9500 is open to the network
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Only this path; others are answered 404
    #[arg(long, value_name = "PATH", value_parser = path)]
    path: Option<String>,
    /// Secret to check signatures with (whsec_...; for the other presets any text), or env:NAME for a variable that
    /// holds it; several while one is rotated
    #[arg(long = "secret", value_name = "SECRET", value_parser = secret)]
    secrets: Vec<Secret>,
    /// How requests are signed
    #[arg(long, value_name = "PRESET", default_value = "standard")]
    preset: Preset,
    /// Status to answer with
    #[arg(long, value_name = "CODE", default_value = "200", value_parser = status)]
    status: StatusCode,
    /// Wait before each answer
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Part of the requests, 0 to 1, that fail
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = rate)]
    fail_rate: f64,
    /// Status of those that fail
    #[arg(long, value_name = "CODE", default_value = "500", value_parser = status)]
    fail_status: StatusCode,
    /// Send Retry-After with every answer of 400 and above except 410
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    retry_after: Option<u64>,
    /// Part of the requests, 0 to 1, whose connection is closed without an answer
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = rate)]
    drop_rate: f64,
    /// Answer 410 from the request after this many on
    #[arg(long, value_name = "N")]
    gone_after: Option<u64>,
    /// Make failures and drops the same in every run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End after this many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Print whole bodies, not summaries and first lines
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// Write each request's head and body into files in this folder
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Larger bodies are answered 413
    #[arg(long, value_name = "SIZE", default_value = MAX_BODY, value_parser = parse_bytes)]
    max_body: u64,
}

/// Whose signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature
    Standard,
    /// X-Hub-Signature-256
    Github,
    /// Stripe-Signature
    Stripe,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn path(text: &str) -> Result<String, &'static str> {
    match text.starts_with('/') && !text.contains(['?', '#']) {
        true => Ok(text.to_owned()),
        false => Err("a path begins with / and has no query"),
    }
}

fn status(text: &str) -> Result<StatusCode, &'static str> {
    let code = text.parse::<u16>().ok().filter(|code| (200..=599).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("a status is a number from 200 to 599")
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or("a rate is a number from 0 to 1, such as 0.5")
}

fn whole_seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    match duration.subsec_nanos() {
        0 => Ok(duration.as_secs()),
        _ => Err("Retry-After counts whole seconds, such as \"5s\"".to_owned()),
    }
}

/// Everything that a request meets.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) address: SocketAddr,
    pub(super) path: Option<String>,
    pub(super) verifier: Verifier,
    pub(super) answers: Answers,
    pub(super) count: Option<u64>,
    pub(super) json: bool,
    pub(super) full: bool,
    pub(super) save: Option<PathBuf>,
    pub(super) max_body: u64,
}

/// How requests are to be answered.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) status: StatusCode,
    pub(super) delay: Duration,
    pub(super) fail_rate: f64,
    pub(super) fail_status: StatusCode,
    pub(super) drop_rate: f64,
    pub(super) gone_after: Option<u64>,
    pub(super) retry_after_seconds: Option<u64>,
    pub(super) seed: Option<u64>,
}

impl ListenArgs {
    /// Checks what no single argument can tell.
    ///
    /// # Errors
    /// A variable that is not set, a secret that is none.
    pub(super) fn check(self) -> Result<Options, Failure> {
        let secrets = self.secrets.iter().map(from_environment).collect::<Result<Vec<_>, _>>()?;
        let answers = Answers {
            status: self.status,
            delay: self.delay.unwrap_or_default(),
            fail_rate: self.fail_rate,
            fail_status: self.fail_status,
            drop_rate: self.drop_rate,
            gone_after: self.gone_after,
            retry_after_seconds: self.retry_after,
            seed: self.seed,
        };
        Ok(Options {
            address: self.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, self.port).into()),
            path: self.path,
            verifier: Verifier::new(self.preset, secrets)?,
            answers,
            count: self.count,
            json: self.json,
            full: self.full,
            save: self.save,
            max_body: self.max_body,
        })
    }
}

fn from_environment(secret: &Secret) -> Result<Secret, Failure> {
    let Some(name) = secret.expose().strip_prefix("env:") else { return Ok(secret.clone()) };
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value)),
        _ => {
            Err(Failure::usage(format!("--secret env:{name}: the environment has no variable of that name")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ListenArgs,
    }

    fn checked(args: &[&str]) -> Result<Options, Failure> {
        Line::try_parse_from([&["listen"], args].concat()).unwrap().args.check()
    }

    #[test]
    fn loopback_is_left_only_by_name() {
        assert_eq!(checked(&[]).unwrap().address, "127.0.0.1:9500".parse().unwrap());
        assert_eq!(checked(&["--port", "0"]).unwrap().address, "127.0.0.1:0".parse().unwrap());
        assert_eq!(checked(&["--listen", "[::]:80"]).unwrap().address, "[::]:80".parse().unwrap());
        assert_eq!(checked(&[]).unwrap().max_body, 64 << 20);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_2() {
        for wrong in [
            &["--port", "9500", "--listen", "127.0.0.1:1"][..],
            &["--listen", "example.com:80"],
            &["--path", "in"],
            &["--status", "100"],
            &["--status", "600"],
            &["--delay", "200"],
            &["--fail-rate", "1.5"],
            &["--drop-rate", "NaN"],
            &["--retry-after", "500ms"],
            &["--count", "0"],
            &["--max-body", "64"],
            &["--preset", "paypal"],
            &["--json", "--full"],
        ] {
            let error = Line::try_parse_from([&["listen"], wrong].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
        for wrong in [&["--secret", "env:ROWBRIDGE_SURELY_NOT_SET"][..], &["--secret", "hunter2"]] {
            let failure = checked(wrong).unwrap_err();
            assert_eq!(failure.exit.code(), 2);
            assert!(!failure.message.contains("hunter2"), "{failure}");
        }
        assert!(checked(&["--secret", "hunter2", "--preset", "github"]).is_ok());
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let args = Line::try_parse_from(["listen", "--secret", "hunter2", "--preset", "stripe"]).unwrap();
        assert!(!format!("{args:?}").contains("hunter2"));
        assert!(!format!("{:?}", args.args.check().unwrap()).contains("hunter2"));
    }
}
