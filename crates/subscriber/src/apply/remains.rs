//! What Rowbridge keeps for itself in a target, as `rowbridge teardown` lists it.

use rowbridge_schema::StreamName;

/// The lanes of some streams, and the progress table if it holds no others.
#[derive(Debug)]
pub(super) struct Remains {
    /// One object each.
    pub(super) listed: Vec<String>,
    /// The table goes as a whole.
    pub(super) all: bool,
}

impl Remains {
    /// Sorts out `lanes` (stream and endpoint), which are all that `table` holds; `others` belong to the streams.
    pub(super) fn new(
        lanes: &[(String, String)],
        streams: &[StreamName],
        others: impl IntoIterator<Item = String>,
        table: &str,
    ) -> Self {
        let is_ours = |stream: &String| streams.iter().any(|ours| ours.as_str() == stream);
        let mut listed: Vec<String> = lanes
            .iter()
            .filter(|(stream, _)| is_ours(stream))
            .map(|(stream, endpoint)| format!("progress of stream {stream}, endpoint {endpoint}"))
            .collect();
        listed.extend(others);
        let all = lanes.iter().all(|(stream, _)| is_ours(stream));
        if all {
            listed.push(format!("table {table}"));
        }
        Self { listed, all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_with_its_last_lane_and_others_stay() {
        let streams = ["shop".parse().unwrap()];
        let lane = |stream: &str| (stream.to_owned(), "copy".to_owned());
        let ours = Remains::new(&[lane("shop")], &streams, [], "t");
        assert_eq!((ours.all, ours.listed.len()), (true, 2), "{ours:?}");
        let shared = Remains::new(&[lane("shop"), lane("erp")], &streams, [], "t");
        assert_eq!(
            (shared.all, &shared.listed[..]),
            (false, &["progress of stream shop, endpoint copy".to_owned()][..])
        );
    }
}
