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
