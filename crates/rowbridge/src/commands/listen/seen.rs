//! Which deliveries were seen before.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest as _, Sha256};

/// Ids that are remembered.
const CAPACITY: usize = 100_000;

/// Half of a hash: memory does not depend on what senders take for an id.
type Key = [u8; 16];

/// Counts the attempts of each delivery. Forgets the one that was first seen longest ago.
#[derive(Debug)]
pub(super) struct Seen {
    capacity: usize,
    attempts: HashMap<Key, u64>,
    order: VecDeque<Key>,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self { capacity: CAPACITY, attempts: HashMap::new(), order: VecDeque::new() }
    }

    /// Counts one more and says the how manieth it is, from 1.
    pub(super) fn attempt(&mut self, id: &str) -> u64 {
        let mut key = Key::default();
        key.copy_from_slice(&Sha256::digest(id)[..16]);
        if let Some(attempts) = self.attempts.get_mut(&key) {
            *attempts += 1;
            return *attempts;
        }
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        self.order.push_back(key);
        self.attempts.insert(key, 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_the_oldest_is_forgotten() {
        let mut seen = Seen { capacity: 2, ..Seen::new() };
        assert_eq!(["a", "b", "a", "a"].map(|id| seen.attempt(id)), [1, 1, 2, 3]);
        assert_eq!(["c", "b", "a"].map(|id| seen.attempt(id)), [1, 2, 1]);
        assert_eq!((seen.attempts.len(), seen.order.len()), (2, 2));
    }
}
