//! What a lane has read and not settled, and what of it may go out next.
//!
//! Events come in as the stream has them and leave in requests. Which may go out while others are under way is decided by
//! their key alone: events of one key leave in order, one request at a time. With `order = "strict"` all events have one
//! key, with `"key"` those of one row do, with `"none"` each has its own. The window is bounded: a lane whose endpoint
//! takes nothing stops reading.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rowbridge_schema::event::{EventOp, OwnedEvent};
use rowbridge_schema::{Position, TableName};

use super::cursor::EventKey;
use super::unmade::Unmade;

/// Settled events behind one that is not are remembered by 26 bytes each: so many that a key which fails for hours does
/// not hold the others, and no more than a few MiB.
const MAX_SLOTS: usize = 100_000;

/// What the allocator and the counters of shared texts add to an event.
const OVERHEAD: usize = 128;

/// One event as it is sent, the same in every attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: EventKey,
    /// Events with the same value leave in order.
    pub(crate) lane: u64,
    /// `stream:position`
    pub(crate) id: Arc<str>,
    pub(crate) op: EventOp,
    pub(crate) table: Arc<TableName>,
    /// The row's key for people, where there is one.
    pub(crate) shown_key: Option<Box<str>>,
    pub(crate) committed_at: i64,
    /// It belongs to more than its own key: with `order = "key"` everything before it is settled first, and nothing behind
    /// it leaves before it is.
    pub(crate) barrier: bool,
    /// Headers that belong to the event, not to the endpoint.
    pub(crate) headers: Vec<(String, String)>,
    /// What a template shows in its stead: the plain event.
    pub(crate) body: Bytes,
    /// What templates are rendered of, where there are any.
    pub(crate) event: Option<Arc<OwnedEvent>>,
    /// It cannot be rendered, and would take a batch with it.
    pub(crate) alone: bool,
    /// Why it cannot be sent at all.
    pub(crate) fault: Option<Arc<Unmade>>,
}

impl Item {
    /// Bytes in memory, about: those of an event without templates.
    fn weight(&self) -> usize {
        size_of::<Self>() + size_of::<Slot>() + self.id.len() + self.body.len() + OVERHEAD
    }
}

/// Events that leave in one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parcel {
    pub(crate) items: Vec<Item>,
}

impl Parcel {
    pub(crate) fn keys(&self) -> Vec<EventKey> {
        self.items.iter().map(|item| item.key).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.body.len()).sum()
    }

    fn weight(&self) -> usize {
        self.items.iter().map(Item::weight).sum()
    }
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParcelLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: EventKey,
    settled: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window {
    /// In the stream's order; what is settled at the front leaves.
    slots: VecDeque<Slot>,
    /// Events that wait for their turn, by key, each in order.
    queues: HashMap<u64, VecDeque<Item>>,
    /// Keys of which the next event may go out, in the order in which they became so.
    ready: VecDeque<u64>,
    /// Keys of which a request is under way or waits to be repeated.
    busy: HashMap<u64, u32>,
    waiting: usize,
    waiting_bytes: usize,
    /// Bytes of what has left and is not settled.
    out_bytes: usize,
    out: usize,
    max_bytes: usize,
    max_events: usize,
}

impl Window {
    pub(crate) fn new(max_bytes: usize, max_events: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            queues: HashMap::new(),
            ready: VecDeque::new(),
            busy: HashMap::new(),
            waiting: 0,
            waiting_bytes: 0,
            out_bytes: 0,
            out: 0,
            max_bytes,
            max_events,
        }
    }

    /// Whether more should be read: there is room, and it is worth going on reading.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting_bytes + self.out_bytes < self.max_bytes
            && self.waiting + self.out < self.max_events
            && self.slots.len() < MAX_SLOTS
    }

    /// Whether it is time to read on. Reading by single events would look at the same block again for each of them.
    pub(crate) fn is_low(&self) -> bool {
        self.has_room()
            && self.waiting_bytes + self.out_bytes < self.max_bytes / 2
            && self.waiting + self.out < self.max_events / 2
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Events that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether something may go out.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What will most likely go out next, whether or not it may already.
    pub(crate) fn next(&self) -> Option<&Item> {
        let queue = match self.ready.front() {
            Some(lane) => self.queues.get(lane),
            // With one key only it is plain whose turn is next.
            None => self.queues.values().next().filter(|_| self.queues.len() == 1),
        };
        queue?.front()
    }

    /// Takes an event in; each lies behind the one before.
    pub(crate) fn push(&mut self, item: Item) {
        debug_assert!(self.slots.back().is_none_or(|slot| slot.key < item.key), "events come in order");
        self.slots.push_back(Slot { key: item.key, settled: false });
        self.waiting += 1;
        self.waiting_bytes += item.weight();
        let queue = self.queues.entry(item.lane).or_default();
        if queue.is_empty() && !self.busy.contains_key(&item.lane) {
            self.ready.push_back(item.lane);
        }
        queue.push_back(item);
    }

    /// Events that may go out together now, the oldest first; `None` if there are none.
    pub(crate) fn take(&mut self, limits: ParcelLimits) -> Option<Parcel> {
        let mut parcel = Parcel::default();
        let mut bytes = 0;
        while let Some(lane) = self.ready.front().copied() {
            let queue = self.queues.get_mut(&lane)?;
            let mut taken = 0;
            while let Some(item) = queue.front() {
                let over = parcel.items.len() >= limits.events || bytes + item.body.len() > limits.bytes;
                let apart = item.alone || parcel.items.first().is_some_and(|first| first.alone);
                if (over || apart) && !parcel.items.is_empty() {
                    break;
                }
                bytes += item.body.len();
                taken += 1;
                parcel.items.extend(queue.pop_front());
            }
            if taken == 0 {
                break;
            }
            self.ready.pop_front();
            self.busy.insert(lane, taken);
            if queue.is_empty() {
                self.queues.remove(&lane);
            }
        }
        self.left(&mut parcel)
    }

    /// Takes the events that went out together in an earlier life, if all of them wait here.
    pub(crate) fn take_again(&mut self, keys: &[EventKey]) -> Option<Parcel> {
        let holds = |key: &EventKey| self.queues.values().flatten().any(|item| item.key == *key);
        if !keys.iter().all(holds) {
            return None;
        }
        let mut parcel = Parcel::default();
        self.queues.retain(|lane, queue| {
            let before = queue.len();
            let (taken, kept): (VecDeque<_>, _) =
                std::mem::take(queue).into_iter().partition(|item| keys.contains(&item.key));
            parcel.items.extend(taken);
            *queue = kept;
            if queue.len() < before {
                self.busy.insert(*lane, (before - queue.len()) as u32);
                self.ready.retain(|ready| ready != lane);
            }
            !queue.is_empty()
        });
        self.left(&mut parcel)
    }

    fn left(&mut self, parcel: &mut Parcel) -> Option<Parcel> {
        if parcel.items.is_empty() {
            return None;
        }
        parcel.items.sort_by_key(|item| item.key);
        self.waiting -= parcel.items.len();
        self.waiting_bytes -= parcel.weight();
        self.out += parcel.items.len();
        self.out_bytes += parcel.weight();
        Some(std::mem::take(parcel))
    }

    /// What went out together is settled: delivered, or set aside. Returns the position up to which everything is
    /// settled now, if it moved.
    pub(crate) fn settle(&mut self, parcel: &Parcel) -> Option<Position> {
        self.out -= parcel.items.len();
        self.out_bytes -= parcel.weight();
        for item in &parcel.items {
            // In order it is the first one.
            let first = self.slots.front().is_some_and(|slot| slot.key == item.key).then_some(0);
            let at = first.or_else(|| self.slots.binary_search_by_key(&item.key, |slot| slot.key).ok());
            if let Some(at) = at {
                self.slots[at].settled = true;
            }
            // Once for each key: the request held it as a whole.
            if self.busy.remove(&item.lane).is_some() && self.queues.contains_key(&item.lane) {
                self.ready.push_back(item.lane);
            }
        }
        let mut mark = None;
        while self.slots.front().is_some_and(|slot| slot.settled) {
            let Some(slot) = self.slots.pop_front() else { break };
            // The second event of the same change may still be to come.
            if self.slots.front().is_none_or(|next| next.key.position != slot.key.position) {
                mark = Some(slot.key.position);
            }
        }
        mark
    }

    /// Commit time of the oldest event that is not settled and waits.
    pub(crate) fn oldest_commit(&self) -> Option<i64> {
        self.ready.front().and_then(|lane| self.queues.get(lane)?.front()).map(|item| item.committed_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(at: u64, lane: u64) -> Item {
        Item {
            key: EventKey { position: Position::new(1, at, 1), part: 0 },
            lane,
            id: "shop:1".into(),
            op: EventOp::Insert,
            table: Arc::new(TableName::bare("t")),
            shown_key: None,
            committed_at: 0,
            barrier: false,
            headers: Vec::new(),
            body: Bytes::from_static(b"0123456789"),
            event: None,
            alone: false,
            fault: None,
        }
    }

    fn places(parcel: &Parcel) -> Vec<u64> {
        parcel.items.iter().map(|item| item.key.position.offset.at).collect()
    }

    const ONE: ParcelLimits = ParcelLimits { events: 1, bytes: 1 << 20 };

    #[test]
    fn a_failing_key_holds_its_own_events_only() {
        let mut window = Window::new(1 << 20, 1000);
        for (at, lane) in [(1, 7), (2, 8), (3, 7), (4, 8), (5, 9)] {
            window.push(item(at, lane));
        }
        let failing = window.take(ONE).unwrap();
        assert_eq!(places(&failing), [1]);
        let mut others = Vec::new();
        while let Some(parcel) = window.take(ONE) {
            others.extend(places(&parcel));
            assert_eq!(window.settle(&parcel), None, "the first one is not settled");
        }
        assert_eq!(others, [2, 5, 4]);
        assert_eq!(window.settle(&failing).map(|mark| mark.offset.at), Some(2), "3 still waits");
        let last = window.take(ONE).unwrap();
        assert_eq!((places(&last), window.settle(&last).map(|mark| mark.offset.at)), (vec![3], Some(5)));
        assert!(window.is_empty() && window.take(ONE).is_none());
    }

    #[test]
    fn what_comes_next_is_known_before_it_may_go_out() {
        let next = |window: &Window| window.next().map(|item| item.key.position.offset.at);
        let mut window = Window::new(1 << 20, 1000);
        assert_eq!(next(&window), None);
        [(1, 0), (2, 0)].into_iter().for_each(|(at, lane)| window.push(item(at, lane)));
        assert_eq!(next(&window), Some(1));
        let first = window.take(ONE).unwrap();
        assert_eq!((next(&window), window.has_ready()), (Some(2), false));
        [(3, 7), (4, 7)].into_iter().for_each(|(at, lane)| window.push(item(at, lane)));
        assert_eq!(next(&window), Some(3), "of the two only this one may go out");
        let other = window.take(ONE).unwrap();
        assert_eq!(next(&window), None, "2 and 4 wait for one that is under way each");
        window.settle(&other);
        assert_eq!(next(&window), Some(4));
        window.settle(&first);
        assert_eq!(next(&window), Some(4), "2 has come later");
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let mut window = Window::new(1 << 20, 1000);
        (1..=7).for_each(|at| window.push(item(at, 0)));
        let limits = ParcelLimits { events: 3, bytes: 1 << 20 };
        let first = window.take(limits).unwrap();
        assert_eq!(places(&first), [1, 2, 3]);
        assert!(window.take(limits).is_none(), "strict: one at a time");
        window.settle(&first);
        let second = window.take(ParcelLimits { events: 9, bytes: 25 }).unwrap();
        assert_eq!(places(&second), [4, 5]);
        window.settle(&second);
        let third = window.take(ParcelLimits { events: 9, bytes: 1 }).unwrap();
        assert_eq!(places(&third), [6], "one that is larger than the bound goes alone");
    }

    #[test]
    fn what_would_spoil_a_batch_goes_alone() {
        let mut window = Window::new(1 << 20, 1000);
        (1..=4).for_each(|at| window.push(Item { alone: at == 2, ..item(at, 0) }));
        let mut seen = Vec::new();
        while let Some(parcel) = window.take(ParcelLimits { events: 9, bytes: 1 << 20 }) {
            seen.push(places(&parcel));
            window.settle(&parcel);
        }
        assert_eq!(seen, [vec![1], vec![2], vec![3, 4]]);
    }

    #[test]
    fn a_batch_of_an_earlier_life_is_made_again() {
        let mut window = Window::new(1 << 20, 1000);
        for (at, lane) in [(1, 7), (2, 8), (3, 7), (4, 9)] {
            window.push(item(at, lane));
        }
        let key = |at| item(at, 0).key;
        assert!(window.take_again(&[key(1), key(5)]).is_none(), "not all of it is here");
        let again = window.take_again(&[key(1), key(2)]).unwrap();
        assert_eq!(places(&again), [1, 2]);
        let rest = window.take(ParcelLimits { events: 9, bytes: 1 << 20 }).unwrap();
        assert_eq!(places(&rest), [4], "3 has a key that is under way");
        window.settle(&again);
        assert_eq!(places(&window.take(ONE).unwrap()), [3]);
    }

    #[test]
    fn it_is_filled_and_then_half_used_up() {
        let mut window = Window::new(1 << 20, 8);
        (1..=8).for_each(|at| window.push(item(at, at)));
        assert!(!window.has_room() && !window.is_low());
        let parcels: Vec<_> = std::iter::from_fn(|| window.take(ONE)).collect();
        for (settled, parcel) in parcels.iter().enumerate() {
            assert_eq!((window.has_room(), window.is_low()), (settled > 0, settled > 4), "{settled}");
            window.settle(parcel);
        }
    }

    #[test]
    fn both_events_of_one_change_are_settled_before_the_mark_moves() {
        let mut window = Window::new(1 << 20, 1000);
        let second = Item { key: EventKey { part: 1, ..item(1, 0).key }, lane: 2, ..item(1, 0) };
        window.push(item(1, 1));
        window.push(second);
        let (a, b) = (window.take(ONE).unwrap(), window.take(ONE).unwrap());
        assert_eq!(window.settle(&a), None);
        assert_eq!(window.settle(&b), Some(item(1, 0).key.position));
    }

    proptest! {
        /// Whatever is taken and settled in whatever order: keys stay in order and one at a time, everything comes out
        /// once, and the mark is exactly the end of what is settled without a gap.
        #[test]
        fn order_holds_and_nothing_is_lost(
            lanes in proptest::collection::vec(0u64..4, 1..60),
            steps in proptest::collection::vec((any::<bool>(), 1usize..4, any::<prop::sample::Index>()), 1..400),
        ) {
            let mut window = Window::new(usize::MAX, usize::MAX);
            for (at, lane) in lanes.iter().enumerate() {
                window.push(item(at as u64 + 1, *lane));
            }
            let (mut under_way, mut settled, mut mark) = (Vec::<Parcel>::new(), Vec::new(), 0);
            for (take, events, which) in steps {
                if take {
                    if let Some(parcel) = window.take(ParcelLimits { events, bytes: usize::MAX }) {
                        prop_assert!(parcel.items.len() <= events);
                        for item in &parcel.items {
                            let lane = item.lane;
                            let under = under_way.iter().flat_map(|other| &other.items).any(|other| other.lane == lane);
                            prop_assert!(!under, "one request of a key at a time");
                        }
                        under_way.push(parcel);
                    }
                } else if !under_way.is_empty() {
                    let parcel = under_way.swap_remove(which.index(under_way.len()));
                    settled.extend(places(&parcel));
                    if let Some(moved) = window.settle(&parcel) {
                        mark = moved.offset.at;
                    }
                    let expected = (1..).take_while(|at| settled.contains(at)).last().unwrap_or(0);
                    prop_assert_eq!(mark, expected);
                }
            }
            loop {
                under_way.extend(window.take(ONE));
                let Some(parcel) = under_way.pop() else { break };
                settled.extend(places(&parcel));
                window.settle(&parcel);
            }
            prop_assert!(window.is_empty());
            for lane in 0..4 {
                let of_lane: Vec<u64> = settled.iter().copied().filter(|at| lanes[*at as usize - 1] == lane).collect();
                prop_assert!(of_lane.is_sorted());
            }
            settled.sort_unstable();
            prop_assert_eq!(settled, (1..=lanes.len() as u64).collect::<Vec<_>>());
        }
    }
}
