//! Large blocks that some reader has in hand, so that others at the same place need not read, decode and hold them again:
//! a hundred lanes that go through a large transaction side by side hold it once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Block;
use super::segment::Addr;

/// Smaller ones are read faster than they are looked for.
const MIN_BYTES: usize = 16 << 10;
/// Entries from which on those that nobody holds any more are looked for.
const MANY: usize = 32;

/// See the module. Frames never change, so that what is here is never stale.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<BTreeMap<Addr, Entry>>);

#[derive(Debug)]
struct Entry {
    /// Where the next frame of the segment begins.
    next: u64,
    block: Weak<Block>,
}

impl Recent {
    /// The block whose frame stands at `at`, if somebody holds it, and where the next frame begins.
    pub(super) fn get(&self, at: Addr) -> Option<(u64, Arc<Block>)> {
        let entries = self.locked();
        let entry = entries.get(&at)?;
        Some((entry.next, entry.block.upgrade()?))
    }

    /// A block was read there.
    pub(super) fn put(&self, at: Addr, next: u64, block: &Arc<Block>) {
        if block.body.len() < MIN_BYTES {
            return;
        }
        let mut entries = self.locked();
        if entries.len() >= MANY {
            entries.retain(|_, entry| entry.block.strong_count() > 0);
        }
        entries.insert(at, Entry { next, block: Arc::downgrade(block) });
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Addr, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
