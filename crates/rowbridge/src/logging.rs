//! Logs on standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::output;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// What is logged: error, warn, info, debug or trace, or filters such as info,rowbridge_publisher=debug
    /// [default: info; demo: warn]
    #[arg(long, global = true, env = "ROWBRIDGE_LOG", value_name = "LEVEL", help_heading = "Logs")]
    log: Option<String>,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "ROWBRIDGE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    log_format: LogFormat,
}

impl LogOptions {
    /// Begins to log.
    ///
    /// # Errors
    /// The filter cannot be read.
    pub(crate) fn install(&self, default: &str) -> Result<(), Failure> {
        let filter = self.log.as_deref().unwrap_or(default);
        let filter = EnvFilter::try_new(filter).map_err(|error| {
            Failure::usage(format!(
                "--log {filter}: {error} (write error, warn, info, debug or trace; ROWBRIDGE_LOG sets it too)"
            ))
        })?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A logger is installed once per process; a second call changes nothing and is a test's.
        let _ = match self.log_format {
            LogFormat::Json => builder.json().try_init(),
            LogFormat::Text => {
                let colors = output::is_watched() && std::env::var_os("NO_COLOR").is_none();
                builder.with_ansi(colors).try_init()
            }
        };
        Ok(())
    }
}
