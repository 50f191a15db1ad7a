//! The configuration file from disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use rowbridge_schema::config::{self, Config, PublisherConfig};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct ConfigOption {
    /// The configuration file
    #[arg(long, env = "ROWBRIDGE_CONFIG", value_name = "FILE", default_value = "rowbridge.toml")]
    config: PathBuf,
}

impl ConfigOption {
    /// A file that a command takes, but does not need.
    pub(crate) fn of(config: PathBuf) -> Self {
        Self { config }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.config
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// All of its errors, one a line.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let text = std::fs::read_to_string(&self.config).map_err(|error| {
            let way_out = match error.kind() {
                ErrorKind::NotFound => {
                    "; name it with --config, or begin with `rowbridge config default > rowbridge.toml`"
                }
                _ => "",
            };
            Failure::usage(format!("cannot read {}: {error}{way_out}", self.config.display()))
        })?;
        parse(&self.config, &text)
    }

    /// What the publishing commands need.
    ///
    /// # Errors
    /// The file describes no publisher.
    pub(crate) fn publisher(&self, config: Config) -> Result<PublisherConfig, Failure> {
        config.publisher.ok_or_else(|| self.missing("[publisher]"))
    }

    pub(crate) fn missing(&self, section: &str) -> Failure {
        Failure::usage(format!(
            "{} has no {section} section, which this command needs",
            self.path().display()
        ))
    }
}

/// Reads a file's text; secrets come from the environment and from files.
///
/// # Errors
/// All of its errors, one a line.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    config::load(path, text, &|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path))
        .map_err(|errors| Failure::usage(errors.to_string()))
}
