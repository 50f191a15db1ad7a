//! The clock on the wall of processes under test, which can be set while they run.
//!
//! libfaketime (package `faketime`) stands between a process and the C library and reads from a file how far the clock is
//! off. The monotonic clock and the time stamps of files are left alone: they do not jump when somebody sets a clock.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::Daemon;

/// Removes what libfaketime leaves behind of a process that could not do it itself.
pub(crate) fn forget(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // There is nothing of most processes.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// A clock that several processes share.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A right clock.
    ///
    /// # Panics
    /// Without libfaketime, with the command that installs it.
    #[must_use]
    pub fn right() -> Self {
        Self::find()
            .expect("libfaketime is missing: start the tests with tests/run, or apt-get install faketime")
    }

    /// The same, if libfaketime is there.
    #[must_use]
    pub fn find() -> Option<Self> {
        // /usr/lib/x86_64-linux-gnu/faketime/...
        let folders = std::fs::read_dir("/usr/lib").ok()?;
        let library = folders
            .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|library| library.is_file())?;
        let folder = tempfile::Builder::new().prefix("rowbridge-clock-").tempdir().unwrap();
        let clock = Self { library, folder };
        clock.set_hours(0);
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Sets the clock so many hours ahead of the right time, or back.
    pub fn set_hours(&self, hours: i32) {
        // Never half written.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{hours:+}h\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// Gives a process this clock from its next start on.
    pub fn hang_up(&self, daemon: &Daemon) {
        let file = self.file();
        for (name, value) in [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ] {
            daemon.set_env(name, Some(value));
        }
    }
}
