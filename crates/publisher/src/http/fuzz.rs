//! Entry point for answers of HTTP servers; see [`crate::fuzz`].

use super::answer::{Body, Head, Piece};

/// The size of the parts that it arrives in, then the bytes of a connection. However they are cut, they read the same.
pub fn response(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = Head::read(bytes, 0);
    let size = usize::from(size).max(1);
    let (mut known, mut parted) = (0, Ok(None));
    while known < bytes.len() && matches!(parted, Ok(None)) {
        let end = (known + size).min(bytes.len());
        parted = Head::read(&bytes[..end], known);
        known = end;
    }
    match (&whole, &parted) {
        (Ok(whole), Ok(parted)) => assert_eq!(whole, parted, "the head depends on how it is cut"),
        // What begins with empty lines is parsed again at its end only, so that a fault may still be waited for.
        (Err(_), Err(_) | Ok(None)) => {}
        (whole, parted) => panic!("whole: {whole:?}, in parts: {parted:?}"),
    }
    let Ok(Some(mut head)) = whole else { return };
    assert!(head.length <= bytes.len());
    let Ok(Some(mut again)) = parted else { unreachable!("compared above") };
    let rest = &bytes[head.length..];
    match (read(&mut head.body, rest, usize::MAX), read(&mut again.body, rest, size)) {
        (Some(whole), Some(parted)) => assert_eq!(whole, parted, "the body depends on how it is cut"),
        (None, None) => {}
        (whole, parted) => panic!("whole: {whole:?}, in parts: {parted:?}"),
    }
}

/// What a body brings that arrives in parts of `size`: its data, its own bytes, and whether it ended. `None`: it is none.
fn read(body: &mut Body, bytes: &[u8], size: usize) -> Option<(Vec<u8>, usize, bool)> {
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        end = bytes.len().min(end.max(at).saturating_add(if at == end { size } else { 0 }));
        let Piece { data: piece, used, last } = body.next(&bytes[at..end]).ok()?;
        assert!(used <= end - at && piece.len() <= used);
        assert!(used > 0 || last, "it stands still");
        data.extend_from_slice(piece);
        at += used;
        if last {
            return Some((data, at, true));
        }
    }
    Some((data, at, false))
}
