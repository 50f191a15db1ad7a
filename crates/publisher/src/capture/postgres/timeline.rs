//! What a failover leaves behind: the history of timelines.

use super::error::PostgresError;
use super::walsender::{Walsender, parse_lsn};

/// Where the server left the timeline that we know: commits before are the same on both.
pub(super) async fn switch_point(
    walsender: &mut Walsender,
    timeline: u32,
    before: u32,
) -> Result<u64, PostgresError> {
    let switches = switches(walsender, timeline).await?;
    let switch = switches.into_iter().find(|(left, _)| *left == before).map(|(_, at)| at);
    switch.ok_or_else(|| PostgresError::NotReady {
        problem: format!(
            "the server is on timeline {timeline}, which does not descend from timeline {before}"
        ),
        fix: "Run `rowbridge snapshot --all` to start over from this server.".into(),
    })
}

/// Whether an LSN lies at or before the place where the server's timeline began: what is confirmed up to there, nobody has
/// confirmed on this timeline.
///
/// # Errors
/// The walsender's.
pub async fn is_before_promotion(
    walsender: &mut Walsender,
    timeline: u32,
    lsn: u64,
) -> Result<bool, PostgresError> {
    if timeline <= 1 {
        return Ok(false);
    }
    let switches = switches(walsender, timeline).await?;
    Ok(switches.last().is_none_or(|(_, began)| lsn <= *began))
}

/// The timelines before this one, and where each was left.
async fn switches(walsender: &mut Walsender, timeline: u32) -> Result<Vec<(u32, u64)>, PostgresError> {
    let rows = walsender.simple_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
    let content =
        rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten().unwrap_or_default();
    let switches = content.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, parse_lsn(fields.next()?)?))
    });
    Ok(switches.collect())
}
