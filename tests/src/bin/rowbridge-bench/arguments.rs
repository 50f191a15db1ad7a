//! What was asked for on the command line.

use std::str::FromStr;

use rowbridge_tests::scenario::{Kind, PairOptions};

use super::usage;

/// All options there are; each workload looks at those that it knows.
const OPTIONS: [&str; 15] = [
    "--down",
    "--events",
    "--json",
    "--kind",
    "--only",
    "--pairs",
    "--per-transaction",
    "--port",
    "--rate",
    "--requests",
    "--rows",
    "--seconds",
    "--skip",
    "--tables",
    "--url",
];

/// The words before the first option. What nobody looks at is refused: a misspelt option would measure something else than
/// was asked for.
pub(super) fn workload() -> String {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let words = all.iter().take_while(|argument| !argument.starts_with("--")).count();
    for option in all[words..].chunks(2) {
        if !OPTIONS.contains(&option[0].as_str()) || option.len() < 2 {
            usage(&format!("{}: no such option, or no value", option[0]));
        }
    }
    all[..words].join(" ")
}

/// The value of an option, if it is there.
pub(super) fn text(option: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != option).nth(1)
}

/// The value of an option as a whole number.
pub(super) fn number<T: FromStr>(option: &str, default: T) -> T {
    match text(option) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| usage(&format!("{option} takes a whole number"))),
    }
}

/// From which database to which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crossing {
    pub(super) source: Kind,
    pub(super) target: Kind,
}

impl Crossing {
    /// `--kind KIND`, or `--kind SOURCE-TARGET`.
    pub(super) fn asked_for() -> Self {
        let text = text("--kind").unwrap_or_else(|| "postgres".to_owned());
        let (source, target) = text.split_once('-').unwrap_or((&text, &text));
        Self { source: kind(source), target: kind(target) }
    }

    /// As in [`Self::asked_for`].
    pub(super) fn name(self) -> String {
        match (name(self.source), name(self.target)) {
            (source, target) if source == target => source.to_owned(),
            (source, target) => format!("{source}-{target}"),
        }
    }

    /// Whether the databases have a replication of their own between them.
    pub(super) fn has_native(self) -> bool {
        self.source == self.target && self.source != Kind::Sqlite
    }

    pub(super) fn options(self) -> PairOptions {
        PairOptions::crossing(self.source, self.target)
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Mariadb => "mariadb",
        Kind::Postgres => "postgres",
        Kind::Sqlite => "sqlite",
    }
}

fn kind(text: &str) -> Kind {
    let all = [Kind::Mariadb, Kind::Postgres, Kind::Sqlite];
    all.into_iter().find(|kind| name(*kind) == text).unwrap_or_else(|| usage(&format!("no database: {text}")))
}
