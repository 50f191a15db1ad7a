//! `rowbridge config`

use clap::{Args, Subcommand};
use rowbridge_schema::config::DEFAULT_TOML;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration file with every key, its default and its meaning
    Default,
}

impl ConfigArgs {
    /// Prints.
    ///
    /// # Errors
    /// Standard output.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            ConfigCommand::Default => output::text(DEFAULT_TOML),
        }
    }
}
