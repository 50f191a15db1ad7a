//! TCP ports that stay reserved for one test process.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, OnceLock};

/// Below the kernel's range for outgoing connections (32768 and up), so that a server that is down for a moment does
/// not lose its port to somebody's client socket.
const FIRST: u16 = 10_000;
const LAST: u16 = 31_999;

/// A port on 127.0.0.1 that nobody listens on and that no other test process of this harness gets while this one
/// lives. The reservation is a locked file, which the kernel releases with the process.
///
/// # Panics
/// When no port is free after 1,000 tries.
#[must_use]
pub fn free_port() -> u16 {
    static HELD: OnceLock<Mutex<BTreeMap<u16, File>>> = OnceLock::new();
    // One folder per user, since nobody may write to another's.
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let folder = std::env::temp_dir().join(format!("rowbridge-test-ports-{uid}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut held = HELD.get_or_init(Mutex::default).lock().unwrap();
    for _ in 0..1_000 {
        let port = rand::random_range(FIRST..=LAST);
        if held.contains_key(&port) {
            continue;
        }
        let path = folder.join(port.to_string());
        let Ok(file) = File::options().create(true).truncate(false).write(true).open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => panic!("cannot lock {}: {error}", path.display()),
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            held.insert(port, file);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST} after 1000 tries");
}
