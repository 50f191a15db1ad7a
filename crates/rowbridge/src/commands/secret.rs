//! `rowbridge secret`

use clap::Args;
use rowbridge_schema::SigningKey;

use crate::failure::Failure;
use crate::output;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// Make an ed25519 pair: the first line is the private key, which signs, the second the public one, for receivers
    #[arg(long)]
    ed25519: bool,
}

impl SecretArgs {
    /// Prints a new secret, or a pair.
    ///
    /// # Errors
    /// Standard output.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !self.ed25519 {
            return output::line(SigningKey::generate().to_text());
        }
        let private = SigningKey::generate_ed25519();
        output::line(private.to_text())?;
        output::line(private.verifying().to_text())
    }
}
