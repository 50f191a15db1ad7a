//! The sync thread: one sync for all that was appended meanwhile, and retention.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rowbridge_schema::Failpoint;
use tokio::sync::watch;
use tracing::{error, warn};

use super::Durable;
use super::segment::{self, Addr};
use super::state::{Failure, Shared};

/// How often age is looked at.
const TICK: Duration = Duration::from_secs(10);
/// Under steady load the header says at least every so many bytes how much is synced; when idle, at once.
const NOTE_EVERY: u64 = 1 << 20;

/// Under steady load syncs are at least so far apart: only the confirmation to the source waits for them, and one sync for
/// more blocks leaves the disk and the processor to the databases. A chunk, which nobody sees before it is synced, and the
/// end of the journal do not wait.
const GAP: Duration = Duration::from_millis(10);

/// Makes names in a directory durable: a synced file whose name is lost is lost.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Runs until the journal closes, after a last sync, or until a sync fails.
///
/// A failed sync is never tried again: the kernel reports an error once and then takes the pages for clean, so that a
/// second sync would succeed without anything being on disk (PostgreSQL wiki, "Fsync Errors"). Dropping the sender
/// tells who waits for [`Durable`] that no more will come.
pub(super) fn run(shared: &Arc<Shared>, durable: &watch::Sender<Durable>) {
    let mut tick = Instant::now() + TICK;
    let mut noted = shared.state().synced;
    let mut not_before = Instant::now();
    loop {
        let mut state = shared.state();
        let (file, end, dirty, directory_dirty, retention, now_durable) = loop {
            if state.failure.is_some() {
                return;
            }
            let written = state.written();
            let now = Instant::now();
            let urgent = state.closing || state.chunk_end > state.synced;
            let unsynced = written > state.synced;
            let dirty = unsynced && (urgent || now >= not_before);
            let retention = std::mem::take(&mut state.check_retention) || now >= tick;
            if dirty || state.directory_dirty || retention {
                let now_durable = Durable { position: state.last, resume: state.resume.clone() };
                let directory_dirty = std::mem::take(&mut state.directory_dirty);
                break (Arc::clone(&state.active), written, dirty, directory_dirty, retention, now_durable);
            }
            if state.closing && !unsynced {
                return;
            }
            let until = if unsynced { tick.min(not_before) } else { tick };
            state = shared
                .work
                .wait_timeout(state, until.saturating_duration_since(now))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        };
        drop(state);
        if let Err(failure) = sync(shared, &file, end, dirty, directory_dirty) {
            error!(error = %failure.error(), "the journal cannot be synced and takes nothing more");
            shared.fail(failure);
            return;
        }
        if dirty {
            Failpoint::JournalSynced.pass();
            not_before = Instant::now() + GAP;
            let mut state = shared.state();
            state.synced = end;
            state.advance_visible();
            let idle = state.written() == end;
            drop(state);
            durable.send_if_modified(|durable| {
                let changed = *durable != now_durable;
                *durable = now_durable;
                changed
            });
            shared.synced.send_replace(());
            shared.appended.send_replace(());
            let far = end.sequence != noted.sequence || end.offset >= noted.offset + NOTE_EVERY;
            if idle || far {
                noted = end;
                if let Err(err) = segment::note_synced(&file, end.offset) {
                    // Only a hint for the next start: it then takes damage behind it for a torn tail.
                    warn!(error = %err, "a journal segment's header could not be updated");
                }
            }
        }
        if retention {
            tick = Instant::now() + TICK;
            shared.expire();
        }
    }
}

fn sync(shared: &Shared, file: &File, end: Addr, data: bool, directory: bool) -> Result<(), Failure> {
    if directory {
        sync_directory(&shared.dir).map_err(|err| Failure::new("sync", &shared.dir, &err))?;
    }
    if data {
        let path = || segment::path_of(&shared.dir, end.sequence);
        shared.disk.sync(file).map_err(|err| Failure::new("sync", &path(), &err))?;
    }
    Ok(())
}
