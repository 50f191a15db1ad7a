//! Reading binlog bytes without ever running off their end.

/// Bytes that are not what the event says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub &'static str);

const SHORT: Broken = Broken("it ends before its last field");

/// A cursor over an event's bytes. Numbers are little-endian unless they say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?[0])
    }

    /// An integer of 1 to 8 bytes.
    pub(super) fn uint(&mut self, width: usize) -> Result<u64, Broken> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A big-endian integer of 0 to 8 bytes.
    pub(super) fn uint_be(&mut self, width: usize) -> Result<u64, Broken> {
        Ok(self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        Ok(self.uint(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        Ok(self.uint(4)? as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Broken> {
        self.uint(8)
    }

    /// A length-encoded integer.
    pub(super) fn packed(&mut self) -> Result<u64, Broken> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            _ => Err(Broken("a length is not encoded as lengths are")),
        }
    }

    /// Bytes behind their length-encoded length.
    pub(super) fn packed_bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::try_from(self.packed()?).map_err(|_| SHORT)?;
        self.take(length)
    }
}

/// UTF-8, or broken.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes).map_err(|_| Broken("a name is not UTF-8"))
}
