//! What was counted by the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) requests: u64,
    pub(super) distinct: u64,
    pub(super) repeats: u64,
    pub(super) bad_signatures: u64,
    pub(super) dropped: u64,
    pub(super) by_status: BTreeMap<u16, u64>,
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

impl Summary {
    /// For people: one line.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}, {}, {}, {}",
            counted(self.requests, "request", "requests"),
            counted(self.distinct, "distinct id", "distinct ids"),
            counted(self.repeats, "repeat", "repeats"),
            counted(self.bad_signatures, "bad signature", "bad signatures"),
        );
        let answers: Vec<_> =
            self.by_status.iter().map(|(status, count)| format!("{status} x {count}")).collect();
        if !answers.is_empty() {
            let _ = write!(text, "; answered {}", answers.join(", "));
        }
        if self.dropped > 0 {
            let _ = write!(text, "; {} closed without an answer", self.dropped);
        }
        text
    }

    /// For programs: one object on one line.
    pub(super) fn json(&self) -> String {
        serde_json::json!({
            "event": "summary",
            "requests": self.requests,
            "distinct_ids": self.distinct,
            "repeats": self.repeats,
            "bad_signatures": self.bad_signatures,
            "dropped": self.dropped,
            "by_status": self.by_status,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        assert_eq!(Summary::default().text(), "0 requests, 0 distinct ids, 0 repeats, 0 bad signatures");
        let summary = Summary {
            requests: 4,
            distinct: 1,
            repeats: 2,
            bad_signatures: 1,
            dropped: 1,
            by_status: [(200, 2), (500, 1)].into(),
        };
        assert_eq!(
            summary.text(),
            "4 requests, 1 distinct id, 2 repeats, 1 bad signature; answered 200 x 2, 500 x 1; 1 closed without an \
             answer"
        );
        let json: serde_json::Value = serde_json::from_str(&summary.json()).unwrap();
        assert_eq!((&json["by_status"]["200"], &json["repeats"]), (&2.into(), &2.into()));
    }
}
