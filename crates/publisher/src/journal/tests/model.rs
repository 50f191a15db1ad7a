//! The journal against a list in memory, on generated actions.

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Append {
        len: usize,
        chunk: bool,
        ends: bool,
        skip: u64,
    },
    Replay,
    Mark,
    Sync,
    Reopen,
    /// The end of the last segment was not written.
    Tear(usize),
    Release {
        lane: usize,
        back: u64,
    },
    Expire,
    Read {
        from: u64,
    },
    Follow,
}

fn any_action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![3 => 0..300usize, 3 => 5_000..30_000usize, 1 => 60_000..150_000usize];
    prop_oneof![
        12 => (len, any::<bool>(), prop::bool::weighted(0.8), 1..5u64).prop_map(|(len, chunk, ends, skip)| {
            Action::Append { len, chunk: chunk && len < 300, ends, skip }
        }),
        1 => Just(Action::Replay),
        1 => Just(Action::Mark),
        1 => Just(Action::Sync),
        2 => Just(Action::Reopen),
        1 => (1..400usize).prop_map(Action::Tear),
        4 => (0..2usize, 0..10u64).prop_map(|(lane, back)| Action::Release { lane, back }),
        1 => Just(Action::Expire),
        3 => (0..120u64).prop_map(|from| Action::Read { from }),
        4 => Just(Action::Follow),
    ]
}

/// What the journal should hold: every block, and which of them may be gone.
#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    resume: Option<Resume>,
    released: [Option<Position>; 2],
    /// The furthest that both lanes had ever delivered.
    cleared: Position,
}

impl Model {
    fn after(&self, position: Position) -> Vec<Block> {
        self.blocks.iter().filter(|block| block.head.last > position).cloned().collect()
    }

    fn last(&self) -> Option<Position> {
        self.blocks.last().map(|block| block.head.last)
    }
}

async fn run_against_model(actions: Vec<Action>) {
    let dir = TempDir::new().unwrap();
    let options = JournalOptions { max_bytes: MIB / 2, retain: Duration::from_secs(3600) };
    let lanes = [lane("a"), lane("b")];
    let (mut journal, _) = open(&dir, options);
    journal.set_lanes(&lanes);
    let mut model = Model::default();
    let mut follower = journal.reader(Position::ZERO).unwrap();
    let mut followed = Position::ZERO;
    for action in actions {
        match action {
            Action::Append { len, chunk: is_chunk, ends, skip } => {
                let at = model.last().map_or(0, |last| last.offset.at) + skip;
                let mut next = if is_chunk { chunk(at, len) } else { block(at, len) };
                if !ends {
                    (next.ends, next.resume) = (false, None);
                }
                match journal.append(Arc::new(next.clone())).await {
                    Ok(new) => {
                        assert!(new);
                        if next.resume.is_some() {
                            model.resume.clone_from(&next.resume);
                        }
                        model.blocks.push(next);
                    }
                    Err(JournalError::Full { .. }) => {
                        let stats = journal.stats();
                        assert!(stats.bytes + len as u64 + 2_000 > options.max_bytes, "{stats:?} {len}");
                        let delivered = model.released.iter().min().copied().flatten() >= model.last();
                        assert!(!delivered, "full of what nobody needs");
                    }
                    Err(err) => panic!("{err}"),
                }
            }
            Action::Replay => {
                if let Some(block) = model.blocks.get(model.blocks.len() / 2) {
                    assert!(!append(&journal, block.clone()).await);
                }
            }
            Action::Mark => {
                let resume = Resume(format!("mark {}", model.blocks.len()).into());
                journal.mark(resume.clone()).await.unwrap();
                model.resume = Some(resume);
            }
            Action::Sync => {
                if let Some(last) = model.last() {
                    let durable = durable_to(&journal, last).await;
                    assert_eq!(durable.position, Some(last));
                }
            }
            Action::Reopen | Action::Tear(_) => {
                let oldest = journal.oldest();
                drop(follower);
                drop(journal);
                let newest = newest_segment(&dir);
                if let Action::Tear(len) = action {
                    let file = OpenOptions::new().append(true).open(&newest).unwrap();
                    io::Write::write_all(&mut &file, &vec![b'x'; len]).unwrap();
                }
                let (reopened, recovered) = open(&dir, options);
                assert_eq!(recovered.last, model.last());
                assert_eq!(recovered.resume, model.resume);
                assert_eq!(recovered.last_ends, model.blocks.last().is_some_and(|block| block.ends));
                // The sync thread may have removed more before it ended.
                assert!(recovered.oldest >= oldest && !recovered.lost_durable);
                journal = reopened;
                journal.set_lanes(&lanes);
                // Lanes learn where their targets are when they connect, and tell.
                for (lane, released) in lanes.iter().zip(model.released) {
                    if let Some(position) = released {
                        journal.release(lane, position);
                    }
                }
                followed = followed.max(recovered.oldest);
                follower = journal.reader(followed).unwrap();
            }
            Action::Release { lane, back } => {
                let Some(block) = model.blocks.iter().rev().nth(back as usize) else { continue };
                model.released[lane] = Some(block.head.last);
                journal.release(&lanes[lane], block.head.last);
            }
            Action::Expire => _ = journal.shared_for_tests().trim(Trim::Delivered).unwrap(),
            Action::Read { from } => {
                let after = Position::new(1, from, 3);
                check_read(&journal, after, &model);
            }
            Action::Follow => match follower.try_next() {
                Ok(Some(block)) => {
                    assert_eq!(Some(&*block), model.after(followed).first());
                    followed = block.head.last;
                    if model.last() != Some(followed) {
                        timeout(SOON, follower.ready()).await.unwrap();
                    }
                }
                Ok(None) => assert_eq!(model.last().unwrap_or_default(), followed),
                Err(JournalError::Gone { oldest }) => {
                    assert!(followed < oldest);
                    followed = oldest;
                    follower = journal.reader(oldest).unwrap();
                }
                Err(err) => panic!("{err}"),
            },
        }
        assert_eq!(journal.last(), model.last());
        let stats = journal.stats();
        assert!(stats.undelivered_bytes <= stats.bytes);
        // Nothing was removed that was not at some time delivered by both.
        let both = model.released.iter().min().copied().flatten().unwrap_or_default();
        model.cleared = model.cleared.max(both);
        assert!(journal.oldest() <= model.cleared, "{} {}", journal.oldest(), model.cleared);
    }
    check_read(&journal, journal.oldest(), &model);
}

/// What is there after `after` is what the model says. The sync thread may remove delivered segments meanwhile.
fn check_read(journal: &SegmentJournal, after: Position, model: &Model) {
    let mut expected = model.after(after).into_iter();
    let gone = |err| match err {
        JournalError::Gone { oldest } => assert!(oldest <= model.cleared, "{oldest} {}", model.cleared),
        err => panic!("{err}"),
    };
    let mut reader = match journal.reader(after) {
        Ok(reader) => reader,
        Err(err) => return gone(err),
    };
    loop {
        match reader.try_next() {
            Ok(None) => break,
            Ok(Some(block)) => assert_eq!(Some(&*block), expected.next().as_ref()),
            Err(err) => return gone(err),
        }
    }
    assert_eq!(expected.next(), None, "the journal ended early");
}

fn newest_segment(dir: &TempDir) -> PathBuf {
    let names = std::fs::read_dir(dir.path().join("journal")).unwrap();
    names.map(|entry| entry.unwrap().path()).max().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_actions_agrees_with_a_list(actions in prop::collection::vec(any_action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run_against_model(actions));
    }
}
