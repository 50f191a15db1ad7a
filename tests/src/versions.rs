//! Other versions of the servers than the system's, as `tests/servers` sets them up.

use std::path::PathBuf;

use crate::files::target_folder;

/// The folder of a server by its name in `tests/servers`: `ROWBRIDGE_TEST_SERVERS`, else `target/servers`. When it is not
/// there, a line says how to get it, and the test that asked has nothing to do.
pub(crate) fn set_up(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("ROWBRIDGE_TEST_SERVERS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| target_folder().join("servers")).join(name);
    // Written last, so it is there only when all is.
    if folder.join("version").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: {name} is not set up at {}: run tests/servers {name}", folder.display());
    None
}
