//! What a crash or a bad disk leaves behind.

use super::*;

/// Three blocks in one synced segment; their frames' offsets and the end. The table's frame is part of the first.
async fn three_blocks(dir: &TempDir) -> Vec<u64> {
    let (journal, _) = open(dir, SMALL);
    let mut ends = vec![HEADER_LEN];
    for at in 1..=3 {
        append(&journal, block(at, 50)).await;
        ends.push(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len());
    }
    durable_to(&journal, end_of(3)).await;
    ends
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let source = TempDir::new().unwrap();
    let ends = three_blocks(&source).await;
    let whole = std::fs::read(segment_path(source.path(), 1)).unwrap();
    for cut in ends[2] + 1..ends[3] {
        for zeros in [0, (ends[3] - cut) as usize] {
            let dir = TempDir::new().unwrap();
            std::fs::create_dir(dir.path().join("journal")).unwrap();
            let mut torn = whole[..cut as usize].to_vec();
            torn.resize(torn.len() + zeros, 0);
            std::fs::write(segment_path(dir.path(), 1), torn).unwrap();
            let (journal, recovered) = open(&dir, SMALL);
            assert_eq!(recovered.last, Some(end_of(2)), "cut at {cut}");
            assert_eq!((recovered.resume, recovered.last_ends), (block(2, 0).resume, true));
            assert!(recovered.lost_durable, "the header knows that block 3 had been synced");
            assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), ends[2]);
            append(&journal, block(3, 51)).await;
            let mut reader = journal.reader(Position::ZERO).unwrap();
            assert_eq!(read_all(&mut reader), [block(1, 50), block(2, 50), block(3, 51)]);
        }
    }
}

#[tokio::test]
async fn what_was_never_synced_is_no_loss() {
    let dir = TempDir::new().unwrap();
    let ends = three_blocks(&dir).await;
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    segment::note_synced(&file, ends[1]).unwrap();
    // A power failure kept the third block's page, but not the second's.
    file.write_all_at(&[0; 20], ends[1] + 10).unwrap();
    let (_, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.last, recovered.lost_durable), (Some(end_of(1)), false));
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), ends[1]);
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_named_with_its_place() {
    let dir = TempDir::new().unwrap();
    let ends = three_blocks(&dir).await;
    let path = segment_path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    for at in ends[1]..ends[2] {
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match SegmentJournal::open(dir.path(), SMALL) {
            Err(JournalError::Corrupt { path: named, offset, after, .. }) => {
                assert_eq!((named, offset, after), (path.clone(), ends[1], end_of(1)), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed");
    }
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_found_by_the_reader() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    for at in 1..=20 {
        append(&journal, block(at, 10_000)).await;
    }
    drop(journal);
    let path = segment_path(dir.path(), 1);
    let len = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", len - 5).unwrap();
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!(recovered.last, Some(end_of(20)));
    let mut reader = journal.reader(Position::ZERO).unwrap();
    let err = loop {
        match reader.try_next() {
            Ok(block) => assert!(block.is_some(), "the damage was passed over"),
            Err(err) => break err,
        }
    };
    let JournalError::Corrupt { path: named, after, .. } = err else { panic!("{err}") };
    assert_eq!(named, path);
    assert!(after > end_of(1) && after < end_of(20));

    // A segment that ends early, at a frame's end, lacks blocks as well.
    file.set_len(HEADER_LEN).unwrap();
    drop(journal);
    let (journal, _) = open(&dir, SMALL);
    let mut reader = journal.reader(Position::ZERO).unwrap();
    assert!(matches!(reader.try_next(), Err(JournalError::Corrupt { .. })));
}

#[tokio::test]
async fn a_missing_segment_is_an_error_and_an_unfinished_one_is_not() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    for at in 1..=20 {
        append(&journal, block(at, 10_000)).await;
    }
    assert_eq!(journal.stats().segments, 4);
    drop(journal);
    for len in [0, 10, 64, 200] {
        std::fs::write(segment_path(dir.path(), 5), vec![0; len]).unwrap();
        let (journal, recovered) = open(&dir, SMALL);
        assert_eq!((recovered.last, recovered.resume), (Some(end_of(20)), block(20, 0).resume));
        assert_eq!(journal.stats().segments, 4);
    }
    std::fs::remove_file(segment_path(dir.path(), 2)).unwrap();
    let err = SegmentJournal::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(err, JournalError::Corrupt { .. }), "{err}");
}

#[tokio::test]
async fn the_resume_point_is_found_however_far_back_it_is() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    append(&journal, block(1, 10)).await;
    for ordinal in 1..=20 {
        let mut part = block(2, 10_000);
        (part.ends, part.resume) = (false, None);
        part.head.first.ordinal = 3 * ordinal - 2;
        part.head.last.ordinal = 3 * ordinal;
        append(&journal, part).await;
    }
    drop(journal);
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.resume, recovered.last_ends), (block(1, 0).resume, false));
    drop(journal);
    // The newest segments lose what follows their header.
    for sequence in 3..=4 {
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), sequence)).unwrap();
        segment::note_synced(&file, HEADER_LEN).unwrap();
        file.set_len(HEADER_LEN).unwrap();
    }
    let (_, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.resume, recovered.last_ends), (block(1, 0).resume, false));
}

/// A journal's files, and the blocks in them.
struct Whole {
    files: Vec<(u64, Vec<u8>)>,
    blocks: Vec<Block>,
}

/// Blocks 1 to `count` of `len` bytes each, a mark behind the second, all of it synced.
async fn whole(count: u64, len: usize) -> Whole {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    let blocks: Vec<Block> = (1..=count).map(|at| block(at, len)).collect();
    for (at, block) in blocks.iter().enumerate() {
        append(&journal, block.clone()).await;
        if at == 1 {
            journal.mark(Resume("0/marked".into())).await.unwrap();
        }
    }
    durable_to(&journal, end_of(count)).await;
    drop(journal);
    let mut files = Vec::new();
    for sequence in 1.. {
        let Ok(bytes) = std::fs::read(segment_path(dir.path(), sequence)) else { break };
        files.push((sequence, bytes));
    }
    Whole { files, blocks }
}

impl Whole {
    /// Opens the files with one of them changed. Either an error says so, or what is read is what was written, up to some
    /// block, and the stream goes on behind it. Returns how many blocks are left if there was no error.
    async fn with(&self, damaged: u64, bytes: &[u8], what: &str) -> Option<usize> {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("journal")).unwrap();
        for (sequence, whole) in &self.files {
            let bytes = if *sequence == damaged { bytes } else { whole };
            std::fs::write(segment_path(dir.path(), *sequence), bytes).unwrap();
        }
        let (journal, recovered) = match SegmentJournal::open(dir.path(), SMALL) {
            Ok(opened) => opened,
            Err(JournalError::Corrupt { path, .. }) => {
                assert_eq!(path, segment_path(dir.path(), damaged), "{what}");
                return None;
            }
            Err(other) => panic!("{what}: {other}"),
        };
        let next = recovered.last.map_or(1, |last| last.offset.at + 1);
        assert!(append(&journal, block(next, 77)).await, "{what}");
        let mut reader = journal.reader(Position::ZERO).unwrap();
        let mut read = Vec::new();
        loop {
            match reader.try_next() {
                Ok(Some(block)) => read.push((*block).clone()),
                Ok(None) => break,
                Err(JournalError::Corrupt { .. }) => {
                    // Told by the reader, and everything before it is true.
                    assert!(self.blocks.starts_with(&read), "{what}");
                    return None;
                }
                Err(other) => panic!("{what}: {other}"),
            }
        }
        assert_eq!(read.pop(), Some(block(next, 77)), "{what}");
        assert!(self.blocks.starts_with(&read), "{what}");
        assert_eq!(recovered.last, read.last().map(|block| block.head.last), "{what}");
        let marked = read.len() == 2 && recovered.resume == Some(Resume("0/marked".into()));
        let resume = read.last().and_then(|block| block.resume.clone());
        assert!(marked || recovered.resume == resume, "{what}: {:?}", recovered.resume);
        Some(read.len())
    }
}

#[tokio::test]
async fn whatever_byte_is_damaged_the_rest_is_true_or_refused() {
    let whole = whole(4, 20).await;
    let [(1, bytes)] = &whole.files[..] else { panic!("one segment") };
    let (mut refused, mut cut) = (0, 0);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            match whole.with(1, &damaged, &format!("byte {at} ^ {flip:#04x}")).await {
                None => refused += 1,
                Some(blocks) => cut += usize::from(blocks < whole.blocks.len()),
            }
        }
    }
    // The header but for its note, and all frames that others follow; then the last one.
    println!("{refused} refused, {cut} cut, of {}", 3 * bytes.len());
    assert!(refused > 2 * bytes.len() && cut > 3 * 20);
}

#[tokio::test]
async fn wherever_it_is_cut_off_the_rest_is_true() {
    let whole = whole(4, 20).await;
    let [(1, bytes)] = &whole.files[..] else { panic!("one segment") };
    let mut before = 0;
    for len in 0..=bytes.len() {
        let blocks = whole.with(1, &bytes[..len], &format!("cut at {len}")).await;
        let blocks = blocks.unwrap_or_else(|| panic!("cut at {len}: refused"));
        assert!(blocks >= before, "cut at {len}");
        before = blocks;
    }
    assert_eq!(before, whole.blocks.len());
}

#[tokio::test]
async fn damage_of_one_segment_of_several_is_told() {
    let whole = whole(20, 10_000).await;
    let last = whole.files.len() as u64;
    assert!(last >= 3);
    for (sequence, bytes) in &whole.files {
        let len = bytes.len();
        let places = (0..HEADER_LEN as usize).chain([64, 70, 72, 73, 100, len / 2, len - 9, len - 1]);
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let what = format!("segment {sequence} byte {at}");
            let left = whole.with(*sequence, &damaged, &what).await;
            // What says how much is synced has a checksum of its own, and only ever says less.
            let note = (52..64).contains(&at);
            let tail = *sequence == last && at >= len - 9;
            match left {
                None => assert!(!note, "{what}"),
                Some(left) => assert!(note && left == 20 || tail && left == 19, "{what}: {left} blocks"),
            }
        }
        for cut in [0, 10, 63, 64, 65, len / 2, len - 1] {
            let what = format!("segment {sequence} cut at {cut}");
            let left = whole.with(*sequence, &bytes[..cut], &what).await;
            assert!(left.is_none() || *sequence == last, "{what}: {left:?}");
        }
    }
}
