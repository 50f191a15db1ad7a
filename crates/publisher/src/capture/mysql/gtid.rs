//! Transaction ids of both servers, and where a capture goes on.
//!
//! MySQL names a transaction by the server's uuid, an optional tag (8.3 and later) and a number; what was executed is a set
//! of intervals, since numbers may commit out of order. MariaDB names it by domain, server and sequence number; within a
//! domain order is total, so that the last one per domain says everything.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Why a text is no set of transactions, or no resume point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a binary log")]
pub struct GtidError;

/// Half-open intervals, sorted and apart.
type Ranges = Vec<(u64, u64)>;

/// MySQL: executed transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlSet {
    /// Per uuid and tag.
    servers: BTreeMap<([u8; 16], String), Ranges>,
}

/// The server's part of a [`crate::capture::TxToken::Gtid`]: the uuid, mixed with the tag if there is one.
#[must_use]
pub fn token_server(uuid: [u8; 16], tag: &str) -> [u8; 16] {
    if tag.is_empty() {
        return uuid;
    }
    let digest = Sha256::new().chain_update(uuid).chain_update(tag).finalize();
    let mut token = [0; 16];
    token.copy_from_slice(&digest[..16]);
    token
}

impl MysqlSet {
    /// Whether nothing was executed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Adds one transaction.
    pub fn add(&mut self, uuid: [u8; 16], tag: &str, number: u64) {
        self.add_range(uuid, tag, number, number.saturating_add(1));
    }

    fn add_range(&mut self, uuid: [u8; 16], tag: &str, start: u64, end: u64) {
        let ranges = self.servers.entry((uuid, tag.to_owned())).or_default();
        // Nearly always right behind the last one.
        if let Some(last) = ranges.last_mut()
            && last.1 == start
        {
            last.1 = end;
            return;
        }
        let at = ranges.partition_point(|range| range.1 < start);
        let mut merged = (start, end);
        let mut until = at;
        while until < ranges.len() && ranges[until].0 <= end {
            merged = (merged.0.min(ranges[until].0), merged.1.max(ranges[until].1));
            until += 1;
        }
        ranges.splice(at..until, [merged]);
    }

    /// Whether the transaction of a token is in the set.
    #[must_use]
    pub fn contains(&self, server: [u8; 16], number: u64) -> bool {
        self.servers.iter().filter(|((uuid, tag), _)| token_server(*uuid, tag) == server).any(
            |(_, ranges)| {
                let at = ranges.partition_point(|range| range.1 <= number);
                ranges.get(at).is_some_and(|range| range.0 <= number)
            },
        )
    }

    /// The set as the server's `COM_BINLOG_DUMP_GTID` takes it: one text per server and tag.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        self.servers.iter().map(|((uuid, tag), ranges)| entry(uuid, tag, ranges)).collect()
    }
}

fn entry(uuid: &[u8; 16], tag: &str, ranges: &[(u64, u64)]) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for (at, byte) in uuid.iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02x}");
    }
    if !tag.is_empty() {
        let _ = write!(text, ":{tag}");
    }
    for (start, end) in ranges {
        let _ =
            if *end == start + 1 { write!(text, ":{start}") } else { write!(text, ":{start}-{}", end - 1) };
    }
    text
}

impl fmt::Display for MysqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entries().join(","))
    }
}

fn uuid(text: &str) -> Result<[u8; 16], GtidError> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(GtidError);
    }
    let nibble = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    let mut uuid = [0; 16];
    for (at, pair) in digits.chunks(2).enumerate() {
        uuid[at] = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    Ok(uuid)
}

impl FromStr for MysqlSet {
    type Err = GtidError;

    /// Reads `@@gtid_executed`: `uuid[:tag]:1-5:7,uuid:...`, with any white space; a tag holds for what follows it.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let mut parts = entry.split(':').map(str::trim);
            let uuid = uuid(parts.next().ok_or(GtidError)?)?;
            let mut tag = String::new();
            for part in parts {
                if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    tag = part.to_ascii_lowercase();
                    continue;
                }
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let number = |text: &str| text.trim().parse::<u64>().map_err(|_| GtidError);
                let (first, last) = (number(first)?, number(last)?);
                if first == 0 || last < first || last == u64::MAX {
                    return Err(GtidError);
                }
                set.add_range(uuid, &tag, first, last + 1);
            }
        }
        Ok(set)
    }
}

/// MariaDB: the last transaction of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MariadbPosition {
    domains: BTreeMap<u32, (u32, u64)>,
}

impl MariadbPosition {
    /// Whether nothing was executed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Whether both say the same of every domain that both know; a server may have forgotten domains.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        self.domains.iter().all(|(domain, last)| other.domains.get(domain).is_none_or(|known| known == last))
    }

    /// Moves a domain on.
    pub fn set(&mut self, domain: u32, server: u32, sequence: u64) {
        self.domains.insert(domain, (server, sequence));
    }
}

impl fmt::Display for MariadbPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (domain, (server, sequence))) in self.domains.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for MariadbPosition {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut position = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let mut parts = entry.split('-');
            let mut next = || parts.next().ok_or(GtidError);
            let (domain, server, sequence) = (next()?, next()?, next()?);
            if parts.next().is_some() {
                return Err(GtidError);
            }
            let small = |text: &str| text.parse::<u32>().map_err(|_| GtidError);
            position.set(small(domain)?, small(server)?, sequence.parse().map_err(|_| GtidError)?);
        }
        Ok(position)
    }
}

/// Everything up to a position, as the server at hand counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gtids {
    /// MySQL; empty without `gtid_mode`.
    Mysql(MysqlSet),
    /// MariaDB.
    Mariadb(MariadbPosition),
}

impl Gtids {
    /// Whether there is nothing to resume by.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.is_empty(),
            Self::Mariadb(position) => position.is_empty(),
        }
    }

    /// Reads the form of the server at hand.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(mariadb: bool, text: &str) -> Result<Self, GtidError> {
        Ok(if mariadb { Self::Mariadb(text.parse()?) } else { Self::Mysql(text.parse()?) })
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(set) => set.fmt(f),
            Self::Mariadb(position) => position.fmt(f),
        }
    }
}

/// Where a capture goes on: behind a whole transaction. Text `FILE:POSITION;GTIDS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    /// Name of the log file.
    pub file: String,
    /// Offset in it.
    pub at: u64,
    /// What was executed up to there.
    pub gtids: Gtids,
}

impl ResumePoint {
    /// Reads the text.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(mariadb: bool, text: &str) -> Result<Self, GtidError> {
        let (place, gtids) = text.split_once(';').ok_or(GtidError)?;
        let (file, at) = place.rsplit_once(':').ok_or(GtidError)?;
        let at = at.parse().map_err(|_| GtidError)?;
        Ok(Self { file: file.to_owned(), at, gtids: Gtids::parse(mariadb, gtids)? })
    }
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{};{}", self.file, self.at, self.gtids)
    }
}

/// The number of a log file: what follows the last point of its name.
#[must_use]
pub fn file_number(name: &str) -> Option<u32> {
    name.rsplit_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_merge_and_print_as_the_server_does() {
        let text = format!("{A}:1-3:5:7-9,\n{A}:tag_1:4");
        let mut set: MysqlSet = text.parse().unwrap();
        assert_eq!(set.to_string(), format!("{A}:1-3:5:7-9,{A}:tag_1:4"));
        let server = uuid(A).unwrap();
        let tagged = token_server(server, "tag_1");
        assert!(set.contains(server, 3) && !set.contains(server, 4) && set.contains(tagged, 4));
        for number in [4, 6, 10] {
            set.add(server, "", number);
        }
        assert_eq!(set.to_string(), format!("{A}:1-10,{A}:tag_1:4"));
        set.add(server, "", 5);
        assert_eq!(set.entries(), [format!("{A}:1-10"), format!("{A}:tag_1:4")]);
        assert!(set.contains(server, 10) && !set.contains(server, 11) && !set.contains(server, 0));
        for wrong in ["x", "3e11fa47:1", &format!("{A}:0"), &format!("{A}:5-4"), &format!("{A}:1-")] {
            assert!(wrong.parse::<MysqlSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn resume_points_round_trip() {
        for (mariadb, text) in [
            (true, "bin.000012:8589934592;0-1-5,7-2-18446744073709551615"),
            (true, "a:b.000001:4;"),
            (false, "binlog.000001:157;"),
            (false, &format!("binlog.1000001:157;{A}:1-77")),
        ] {
            assert_eq!(ResumePoint::parse(mariadb, text).unwrap().to_string(), text);
        }
        assert!(ResumePoint::parse(true, "bin.000012:1").is_err());
        assert!(ResumePoint::parse(true, &format!("bin.000012:1;{A}:1")).is_err());
        assert_eq!(file_number("mysql-bin.000042"), Some(42));
        assert_eq!((file_number("log"), file_number("log.x")), (None, None));
    }
}
