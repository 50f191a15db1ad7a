//! Data folders of servers: who owns them, templates that are made once, copies.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A temporary folder, given to `owner` (user and group) when that is somebody else.
pub(crate) fn owned_temp_dir(prefix: &str, owner: Option<(u32, u32)>) -> TempDir {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
    if let Some((uid, gid)) = owner {
        chown(folder.path(), Some(uid), Some(gid)).unwrap();
    }
    folder
}

/// A folder that `make` fills once and that is kept under `target/`: many test processes start servers at once, and a
/// copy takes a tenth of the time. It appears by rename, so a half-made one is never used. `proof` is a file in it.
pub(crate) fn cached(name: &str, proof: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let cache = cache_folder();
    let place = cache.join(name);
    if place.join(proof).is_file() {
        return place;
    }
    let staging = tempfile::Builder::new().prefix("new-").tempdir_in(&cache).unwrap();
    make(&staging.path().join("data"));
    // Losing the race against another test process is fine: its folder is as good.
    if let Err(error) = std::fs::rename(staging.path().join("data"), &place) {
        assert!(place.join(proof).is_file(), "cannot place {}: {error}", place.display());
    }
    place
}

/// The last lines of a file, as far as it is text; nothing when there is no such file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// User and group id of a user.
pub(crate) fn ids_of(user: &str) -> (u32, u32) {
    let id = |flag: &str| run(Command::new("id").args([flag, user])).trim().parse().unwrap();
    (id("-u"), id("-g"))
}

pub(crate) fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn cache_folder() -> PathBuf {
    let cache = target_folder().join("test-cache");
    std::fs::create_dir_all(&cache).unwrap();
    cache
}

/// `target`, above the profile folder: tests lie in its folder `deps`, the benchmark in the folder itself.
pub(crate) fn target_folder() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let folder = here.parent().unwrap();
    let profile = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    profile.parent().unwrap().to_owned()
}

/// `cp -a`: keeps owner and mode, and shares blocks where the file system can.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(from).arg(to));
}

pub(crate) fn run(command: &mut Command) -> String {
    let name = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    successful(&name, output)
}

pub(crate) fn successful(name: &str, output: Output) -> String {
    assert!(
        output.status.success(),
        "{name} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
