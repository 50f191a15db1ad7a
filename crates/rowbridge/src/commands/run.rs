//! `rowbridge run`, `publish` and `subscribe`

use clap::Args;

use crate::failure::Failure;
use crate::load::ConfigOption;
use crate::serve;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigOption,
}

/// Which of the described ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Both,
    Publisher,
    Subscriber,
}

impl RunArgs {
    /// Runs until a signal.
    ///
    /// # Errors
    /// The configuration, or what a start cannot get over by waiting.
    pub(crate) async fn run(self, ends: Ends) -> Result<(), Failure> {
        let mut config = self.config.load()?;
        match ends {
            Ends::Both => {}
            Ends::Publisher if config.publisher.is_none() => return Err(self.config.missing("[publisher]")),
            Ends::Subscriber if config.subscriber.is_none() => {
                return Err(self.config.missing("[subscriber]"));
            }
            Ends::Publisher => config.subscriber = None,
            Ends::Subscriber => config.publisher = None,
        }
        serve::serve(config).await
    }
}
