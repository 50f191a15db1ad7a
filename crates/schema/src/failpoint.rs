//! Named places in the code where a test kills the process, as a power cut would at that very moment.
//!
//! They exist only with the feature `failpoints`, which the binary under test is built with and the shipped one is not:
//! there [`Failpoint::pass`] is an empty function. `ROWBRIDGE_FAILPOINT=NAME:N` lets the process abort when it passes the
//! place called `NAME` for the `N`th time (from 1): nothing is flushed, no destructor runs, no connection is closed in
//! order.

macro_rules! failpoints {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place where a test can kill the process. The list is the tests' list, too: `tests/it/failpoints.rs` kills at
        /// each of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failpoint {
            $($(#[$doc])* $variant,)*
        }

        impl Failpoint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in `ROWBRIDGE_FAILPOINT`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// Publisher: a block is written to the journal and not synced.
    JournalWritten = "journal-written",
    /// Publisher: the journal is synced and the source was not told.
    JournalSynced = "journal-synced",
    /// Publisher: the source was told what it may forget.
    SourceConfirmed = "source-confirmed",
    /// Publisher: a segment's file is removed, and not the only thing that was to be.
    SegmentRemoved = "segment-removed",
    /// Publisher: a range of a snapshot is in the journal, and the job does not know.
    RangeAppended = "range-appended",
    /// Publisher: the last range of a snapshot is in the journal, and the job is not ended.
    TableAppended = "table-appended",
    /// Publisher: the target has answered, and nothing came of it yet.
    DeliveryAnswered = "delivery-answered",
    /// Publisher: the answer is believed, and the next delivery not begun.
    DeliveryReleased = "delivery-released",
    /// Publisher: a foreign endpoint has answered, and no record says so.
    WebhookAnswered = "webhook-answered",
    /// Publisher: what a foreign endpoint has taken is settled in memory, and not in the cursor's file.
    WebhookSettled = "webhook-settled",
    /// Publisher: the cursor's file is written, and the next request not sent.
    CursorWritten = "cursor-written",
    /// Publisher: an event is set aside as a dead letter, and its lane does not know.
    LetterWritten = "letter-written",
    /// Subscriber: progress is written in the open transaction, and no row.
    ProgressWritten = "progress-written",
    /// Subscriber: one table of a delivery is written, and not the next; in PostgreSQL, where statements go out together,
    /// the first of them are answered, a small delivery's together with its COMMIT.
    TableWritten = "table-written",
    /// Subscriber: everything is written and not committed.
    BeforeCommit = "before-commit",
    /// Subscriber: the delivery is committed and not answered.
    Committed = "committed",
}

impl Failpoint {
    /// Nothing, or the process's end if a test wants that here.
    #[inline(always)]
    pub fn pass(self) {
        #[cfg(feature = "failpoints")]
        armed::pass(self);
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Failpoint;

    /// Name of the variable.
    const VARIABLE: &str = "ROWBRIDGE_FAILPOINT";

    struct Armed {
        point: Failpoint,
        /// Passings until the end.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass(point: Failpoint) {
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var(VARIABLE).ok()?;
            Some(parse(&text).unwrap_or_else(|| die(&format!("{VARIABLE}={text}: expected NAME:N"))))
        });
        if let Some(armed) = armed
            && armed.point == point
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            die(&format!("failpoint {}", point.name()));
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, count) = text.split_once(':')?;
        let point = Failpoint::ALL.iter().copied().find(|point| point.name() == name)?;
        let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
        Some(Armed { point, left: AtomicU64::new(count) })
    }

    /// Ends the process by SIGABRT, which tells this end from a SIGKILL of the harness.
    fn die(why: &str) -> ! {
        let _ = writeln!(std::io::stderr(), "{why}");
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_is_named_with_its_passing() {
            for point in Failpoint::ALL {
                let armed = parse(&format!("{}:3", point.name())).unwrap();
                assert_eq!((armed.point, armed.left.into_inner()), (*point, 3));
            }
            for wrong in ["", "committed", "committed:", "committed:0", "commited:1", "committed:-1"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
