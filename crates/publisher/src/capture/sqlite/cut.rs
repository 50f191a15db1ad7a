//! Where a table without a key was read.
//!
//! Its rows go in between the changes that the read saw and those that it did not see, so that a block must not reach
//! across. The log does not show where a commit was; the read does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The log id up to which the latest such read saw all changes; shared by capture and snapshot of one file.
///
/// Each holds it while its read transaction begins. So either capture has seen no more than the read, or it knows the cut.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<Mutex<Option<i64>>>);

impl Cut {
    pub(crate) fn hold(&self) -> MutexGuard<'_, Option<i64>> {
        // A number is never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the next piece of the log ends: at the cut if that lies within.
pub(crate) fn end(cut: Option<i64>, read: i64, last: i64) -> i64 {
    cut.filter(|&cut| read < cut && cut < last).unwrap_or(last)
}
