//! Bytes on the wire, as the kernel counts them: `ss` shows for each connection what it has carried, so nothing has to
//! stand between both ends while they are measured.

use std::collections::BTreeMap;
use std::process::Command;

/// Bytes of each connection, both ways, by the client's port. Payload, without headers of TCP.
pub(super) type Connections = BTreeMap<u16, u64>;

/// What the present connections of some processes to a port of this machine have carried so far; none where `ss` (package
/// iproute2) is missing.
pub(super) fn connections(port: u16, clients: &[u32]) -> Option<Connections> {
    // As root, names of processes are shown, and each connection takes one line.
    let output = Command::new("ss").args(["-HOtinp", &format!("dport = :{port}")]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.lines().filter_map(|line| connection(line, clients)).collect())
}

/// What has been carried between two looks. None when a connection was closed meanwhile, since its count went with it.
pub(super) fn carried(before: &Connections, after: &Connections) -> Option<u64> {
    if after.is_empty() || before.keys().any(|port| !after.contains_key(port)) {
        return None;
    }
    let sum = |connections: &Connections| connections.values().sum::<u64>();
    sum(after).checked_sub(sum(before))
}

/// `ESTAB 0 0 127.0.0.1:41872 127.0.0.1:9500 users:(("rowbridge",pid=7,fd=9)) cubic ... bytes_sent:1 ... bytes_received:2`;
/// a number that is 0 is left out.
fn connection(line: &str, clients: &[u32]) -> Option<(u16, u64)> {
    let owner = line.split("pid=").nth(1)?.split(',').next()?.parse().ok()?;
    if !clients.contains(&owner) {
        return None;
    }
    let number = |name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let port = line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok()?;
    Some((port, number("bytes_sent:") + number("bytes_received:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_client_port_and_bytes() {
        let line = "ESTAB 0 0 127.0.0.1:41872 127.0.0.1:9500 users:((\"rowbridge\",pid=7,fd=9)) cubic rto:204 \
                    bytes_sent:100 bytes_acked:101 bytes_received:20 segs_out:3";
        assert_eq!(connection(line, &[6, 7]), Some((41872, 120)));
        assert_eq!(connection(line, &[6]), None);
    }

    #[test]
    fn a_closed_connection_makes_the_count_unknown() {
        let of = |pairs: &[(u16, u64)]| pairs.iter().copied().collect::<Connections>();
        assert_eq!(carried(&of(&[(1, 5)]), &of(&[(1, 9), (2, 3)])), Some(7));
        assert_eq!(carried(&of(&[(1, 5)]), &of(&[(2, 9)])), None);
        assert_eq!(carried(&of(&[]), &of(&[])), None);
    }
}
