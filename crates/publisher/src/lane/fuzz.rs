//! Entry point for a subscriber's answers; see [`crate::fuzz`].

use std::time::{Duration, UNIX_EPOCH};

use rowbridge_schema::signature::sign;
use rowbridge_schema::wire::Answer;
use rowbridge_schema::{Position, SigningKey};

use super::answer::{Expected, Reply, Verdict, judge};

const NOW: u64 = 1_700_000_000;
const ID: &str = "rwb_1";

/// Flags (1 signed with the right key, 2 an open delivery, 4 a handshake), the status in two bytes, a `Retry-After` to the
/// end of the line, then the body.
pub fn answer(data: &[u8]) {
    let Some((&[flags, high, low], rest)) = data.split_first_chunk() else { return };
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (Some(wish), Some(body)) = (lines.next(), lines.next()) else { return };
    let status = u16::from_be_bytes([high, low]);
    let keys = [SigningKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").expect("24 bytes are a secret")];
    let signed = flags & 1 != 0;
    let reply = Reply {
        status,
        id: ID.to_owned(),
        timestamp: NOW.to_string(),
        signature: if signed { sign(&keys, ID, NOW, body) } else { "v1,AAAA".to_owned() },
        retry_after: std::str::from_utf8(wish).ok().map(str::to_owned),
        date: std::str::from_utf8(wish).ok().map(str::to_owned).filter(|_| flags & 8 != 0),
        body: body.to_vec(),
    };
    let to = Position::new(1, 42, 3);
    let expected = Expected {
        stream: &"shop".parse().expect("a name"),
        endpoint: &"copy".parse().expect("a name"),
        keys: &keys,
        id: ID,
        to: (flags & 4 == 0).then_some(to),
        open: flags & 2 != 0,
        begins: Some(Position::new(2, 1, 1)),
    };
    match judge(&reply, &expected, UNIX_EPOCH + Duration::from_secs(NOW)) {
        Verdict::Done(answer) => {
            assert!(signed && status == 200, "an unsigned answer counts");
            assert!(
                expected.to.is_none() || answer.position >= Some(to),
                "what is done is not what was sent"
            );
        }
        Verdict::Staged(answer) => assert!(signed && status == 200 && answer.staged == expected.to),
        Verdict::Rewind(_) => assert!(signed && status == 409),
        Verdict::Disable(fault) => assert!(signed && status == 410 && !fault.to_string().is_empty()),
        Verdict::Halt(fault) | Verdict::Retry { fault, .. } => assert!(!fault.to_string().is_empty()),
        Verdict::TooLarge => assert_eq!(status, 413),
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(body) {
        let text = serde_json::to_vec(&answer).expect("an answer can be written");
        assert_eq!(serde_json::from_slice::<Answer>(&text).expect("and read"), answer);
    }
}
