//! `rowbridge secret`

use rowbridge_schema::SigningKey;

use crate::failure::Failure;
use crate::output;

/// Prints a new secret.
///
/// # Errors
/// Standard output.
pub(crate) fn run() -> Result<(), Failure> {
    output::line(SigningKey::generate().to_text())
}
