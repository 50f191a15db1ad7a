//! Arguments, and what every command needs before it begins.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::commands::{
    attempts, check, config, dead_letter, demo, endpoint, listen, replay, run, schema, secret, snapshot,
    teardown,
};
use crate::failure::Failure;
use crate::logging::LogOptions;
use crate::output;

/// Keeps databases in step over signed webhooks
///
/// A publisher beside the source database captures every committed change and sends it; a subscriber beside the target
/// database verifies and applies it. One file describes either end or both.
#[derive(Debug, Parser)]
#[command(name = "rowbridge", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Try it with nothing installed: rowbridge demo\n\
    Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration, 3 a server or file is not there.")]
struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what the configuration file describes: publisher, subscriber or both
    Run(run::RunArgs),
    /// Run only the publisher
    Publish(run::RunArgs),
    /// Run only the subscriber
    Subscribe(run::RunArgs),
    /// Check the configuration, both databases and the way between them, and say what to do
    Check(check::CheckArgs),
    /// Send tables again while changes go on
    Snapshot(snapshot::SnapshotArgs),
    /// List endpoints; pause, resume, enable or test one
    Endpoint(endpoint::EndpointArgs),
    /// List what was tried, and how it ended
    Attempts(attempts::AttemptsArgs),
    /// List, show, retry or discard events that could not be delivered
    DeadLetter(dead_letter::DeadLetterArgs),
    /// Send a part of the stream to an endpoint again
    Replay(replay::ReplayArgs),
    /// List, and with --yes drop, what Rowbridge made in a database
    Teardown(teardown::TeardownArgs),
    /// Watch a shop's database being copied, with nothing installed
    Demo(demo::DemoArgs),
    /// Print the schema of events that endpoints send: JSON Schema or XSD
    Schema(schema::SchemaArgs),
    /// Receive webhooks and print them: what arrives, and whether the signature holds
    Listen(listen::ListenArgs),
    /// Print a new webhook secret
    Secret(secret::SecretArgs),
    /// Print the commented default configuration
    Config(config::ConfigArgs),
}

/// Ready-made before a runtime exists: arguments, logs, the TLS provider.
pub(crate) fn main() -> ExitCode {
    // Several TLS users share one provider; ours is the one that was built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::say(&failure);
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let default_level =
        if matches!(cli.command, Command::Demo(_) | Command::Listen(_)) { "warn" } else { "info" };
    cli.log.install(default_level)?;
    match cli.command {
        Command::Run(args) => block_on(args.run(run::Ends::Both)),
        Command::Publish(args) => block_on(args.run(run::Ends::Publisher)),
        Command::Subscribe(args) => block_on(args.run(run::Ends::Subscriber)),
        Command::Check(args) => block_on(args.run()),
        Command::Snapshot(args) => args.run(),
        Command::Endpoint(args) => args.run(),
        Command::Attempts(args) => args.run(),
        Command::DeadLetter(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::Teardown(args) => block_on(args.run()),
        Command::Demo(args) => block_on(args.run()),
        Command::Schema(args) => block_on(args.run()),
        Command::Listen(args) => block_on(args.run()),
        Command::Secret(args) => args.run(),
        Command::Config(args) => args.run(),
    }
}

/// Two to four threads: capture, journal, lanes and apply each keep at most one busy, and a sidecar leaves the rest of
/// the machine to its database.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(command);
    // A blocking call that hangs (a file on a dead network disk) does not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent_and_wrong_ones_exit_with_2() {
        Cli::command().debug_assert();
        for wrong in [
            &["rowbridge", "frobnicate"][..],
            &["rowbridge", "teardown"],
            &["rowbridge", "snapshot"],
            &["rowbridge", "snapshot", "--all", "orders"],
            &["rowbridge", "snapshot", "--endpoint", "copy", "orders"],
            &["rowbridge", "snapshot", "--endpoint", "copy", "--all"],
            &["rowbridge", "snapshot", "--endpoint", "Not A Name"],
            &["rowbridge", "endpoint"],
            &["rowbridge", "endpoint", "pause"],
            &["rowbridge", "endpoint", "test", "crm", "--wait", "30"],
            &["rowbridge", "attempts", "--since", "yesterday"],
            &["rowbridge", "dead-letter", "retry"],
            &["rowbridge", "dead-letter", "retry", "--endpoint", "crm"],
            &["rowbridge", "dead-letter", "retry", "1", "--all"],
            &["rowbridge", "dead-letter", "discard", "1", "--table", "public.*"],
            &["rowbridge", "dead-letter", "show"],
            &["rowbridge", "replay"],
            &["rowbridge", "replay", "--endpoint", "crm"],
            &["rowbridge", "replay", "--since", "1h"],
            &["rowbridge", "replay", "--endpoint", "crm", "--since", "1h", "--rate", "100"],
            &["rowbridge", "replay", "--endpoint", "crm", "--since", "1h", "--to", "x"],
            &["rowbridge", "replay", "cancel"],
            &["rowbridge", "run", "--log-format", "xml"],
            &["rowbridge", "schema", "--format", "yaml"],
            &["rowbridge", "schema", "public.orders"],
            &["rowbridge"],
        ] {
            assert_eq!(Cli::try_parse_from(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        for fine in [
            &["rowbridge", "dead-letter", "retry", "1", "2", "--follow"][..],
            &["rowbridge", "dead-letter", "discard", "--all", "--table", "a.*", "--table", "!a.b", "--yes"],
            &["rowbridge", "replay", "list", "--json"],
            &["rowbridge", "replay", "cancel", "7"],
            &[
                "rowbridge",
                "replay",
                "--endpoint",
                "crm",
                "--since",
                "2h 30m",
                "--until",
                "5m",
                "--rate",
                "50/s",
            ],
            &["rowbridge", "endpoint", "test", "crm", "--wait", "5s"],
        ] {
            assert!(Cli::try_parse_from(fine).is_ok(), "{fine:?}");
        }
        for fine in [&["rowbridge", "--version"][..], &["rowbridge", "demo", "--help"]] {
            assert_eq!(Cli::try_parse_from(fine).unwrap_err().exit_code(), 0, "{fine:?}");
        }
    }
}
