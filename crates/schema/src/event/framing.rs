//! What stands before, between and after the events of one body.

/// How events become one body: `open`, the events with `separator` between them, `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Before the first event, and in a body without events.
    pub open: &'static str,
    /// Between two events.
    pub separator: &'static str,
    /// After the last event.
    pub close: &'static str,
}

impl Framing {
    /// One event is the body.
    pub const BARE: Self = Self { open: "", separator: "", close: "" };

    /// A JSON array of events.
    pub const JSON_ARRAY: Self = Self { open: "[", separator: ",", close: "]" };

    /// Bytes that a body has besides those of its `events` events.
    #[must_use]
    pub fn overhead(&self, events: usize) -> usize {
        self.open.len() + self.separator.len() * events.saturating_sub(1) + self.close.len()
    }

    /// Appends a body with what `write` appends for each event.
    pub fn body<T>(
        &self,
        out: &mut Vec<u8>,
        events: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        out.extend_from_slice(self.open.as_bytes());
        for (at, event) in events.into_iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(self.separator.as_bytes());
            }
            write(out, event);
        }
        out.extend_from_slice(self.close.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_separators_between_events_only() {
        for (count, expected) in [(0, "[]"), (1, "[x]"), (3, "[x,x,x]")] {
            let mut out = Vec::new();
            Framing::JSON_ARRAY.body(&mut out, 0..count, |out, _| out.push(b'x'));
            assert_eq!(out, expected.as_bytes());
            assert_eq!(Framing::JSON_ARRAY.overhead(count), expected.len() - count);
        }
    }
}
