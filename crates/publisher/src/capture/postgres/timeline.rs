//! What a failover leaves behind: the history of timelines.

use super::error::PostgresError;
use super::walsender::{Walsender, parse_lsn};

/// Where the server left the timeline that we know: commits before are the same on both.
pub(super) async fn switch_point(
    walsender: &mut Walsender,
    timeline: u32,
    before: u32,
) -> Result<u64, PostgresError> {
    let rows = walsender.simple_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
    let content =
        rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten().unwrap_or_default();
    let switch = content.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()?.parse::<u32>().ok()? == before).then(|| parse_lsn(fields.next()?)).flatten()
    });
    switch.ok_or_else(|| PostgresError::NotReady {
        problem: format!(
            "the server is on timeline {timeline}, which does not descend from timeline {before}"
        ),
        fix: "Run `rowbridge snapshot --all` to start over from this server.".into(),
    })
}
