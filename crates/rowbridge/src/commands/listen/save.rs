//! Requests as files: `TIME-NUMBER.headers` and `TIME-NUMBER.body`.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::clock;
use super::request::Head;
use crate::failure::Failure;

/// A folder that requests are written to. Files of an earlier run are never overwritten: the names begin with the time
/// of this start.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    prefix: String,
}

impl Folder {
    /// Makes the folder if it is not there; then only its owner may look into it, since bodies are rows.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(path: PathBuf, now: SystemTime) -> Result<Self, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::environment(format!("--save {}: {error}", path.display())))?;
        let prefix = clock::rfc3339(now).replace([':', '-', '.'], "");
        Ok(Self { path, prefix })
    }

    /// Writes the request line, headers and the body's bytes as sent.
    ///
    /// # Errors
    /// Disk full, folder gone.
    pub(super) fn write(&self, number: u64, head: &Head, body: &[u8]) -> Result<(), Failure> {
        let mut text = format!("{} {}\n", head.method, head.target);
        for (name, value) in head.shown_headers() {
            let _ = writeln!(text, "{name}: {value}");
        }
        for (kind, bytes) in [("headers", text.as_bytes()), ("body", body)] {
            let path = self.path.join(format!("{}-{number:06}.{kind}", self.prefix));
            write_new(&path, bytes)
                .map_err(|error| Failure::environment(format!("--save {}: {error}", path.display())))?;
        }
        Ok(())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path)?.write_all(bytes)
}
