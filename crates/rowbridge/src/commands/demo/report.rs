//! What the demo shows while it runs, and how it ends.

use std::time::Duration;

use super::bridge::Delivered;
use super::compare::TableResult;
use super::probe::percentile_ms;
use super::shop::Tally;

/// One second of the demo.
pub(super) struct Second {
    pub(super) number: u64,
    pub(super) transactions: u64,
    pub(super) delivered: Delivered,
    pub(super) behind: usize,
    pub(super) taken: Vec<Duration>,
    pub(super) tally: Tally,
}

/// Stands above the lines; as wide as they are.
pub(super) const HEADING: &str = concat!(
    "   time   shop commits   rows applied   webhooks   behind   p50 ms   p99 ms   ",
    "what the shop wrote (+ new, ~ changed, - gone)"
);

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
}

/// The tables with most going on, at most four.
fn tally(tally: &Tally) -> String {
    let mut tables: Vec<_> = tally.iter().filter(|(_, ops)| ops.iter().sum::<u64>() > 0).collect();
    tables.sort_by_key(|(_, ops)| std::cmp::Reverse(ops.iter().sum::<u64>()));
    let shown = tables.iter().take(4).map(|(table, ops)| {
        let parts = ops.iter().zip(['+', '~', '-']).filter(|(rows, _)| **rows > 0);
        let parts: Vec<_> = parts.map(|(rows, sign)| format!("{sign}{rows}")).collect();
        format!("{table} {}", parts.join(" "))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// A second as a line under [`HEADING`].
pub(super) fn line(mut second: Second) -> String {
    let p50 = ms(percentile_ms(&mut second.taken, 50.0));
    let p99 = ms(percentile_ms(&mut second.taken, 99.0));
    format!(
        "{:>5} s   {:>12}   {:>12}   {:>8}   {:>6}   {p50:>6}   {p99:>6}   {}",
        second.number,
        second.transactions,
        second.delivered.changes,
        second.delivered.deliveries,
        second.behind,
        tally(&second.tally),
    )
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) transactions: u64,
    pub(super) delivered: Delivered,
    pub(super) taken: Vec<Duration>,
    pub(super) tables: Vec<TableResult>,
    /// The copy showed the last transaction before the deadline.
    pub(super) caught_up: bool,
}

impl Outcome {
    /// Every row of every table.
    pub(super) fn is_equal(&self) -> bool {
        self.caught_up
            && !self.tables.is_empty()
            && self.tables.iter().all(|result| result.difference.is_none())
    }

    fn rows(&self) -> u64 {
        self.tables.iter().map(|result| result.rows).sum()
    }

    /// One object on one line.
    pub(super) fn json(&mut self) -> String {
        let differences: Vec<_> = self
            .tables
            .iter()
            .filter_map(|result| result.difference.as_ref().map(|text| format!("{}: {text}", result.table)))
            .collect();
        serde_json::json!({
            "seconds": (self.seconds * 1e3).round() / 1e3,
            "transactions": self.transactions,
            "changes": self.delivered.changes,
            "deliveries": self.delivered.deliveries,
            "repeated": self.delivered.repeated,
            "tables": self.tables.len(),
            "rows": self.rows(),
            "equal": self.is_equal(),
            "differences": differences,
            "samples": self.taken.len(),
            "p50_ms": percentile_ms(&mut self.taken, 50.0),
            "p99_ms": percentile_ms(&mut self.taken, 99.0),
            "max_ms": percentile_ms(&mut self.taken, 100.0),
        })
        .to_string()
    }

    /// For people.
    pub(super) fn text(&mut self) -> String {
        let mut text = String::new();
        for result in &self.tables {
            let verdict = result.difference.as_deref().unwrap_or("equal");
            text += &format!("  {:<12} {:>8} rows   {verdict}\n", result.table, result.rows);
        }
        if !self.caught_up {
            text += "  the copy did not show the last transaction in time\n";
        }
        let verdict = if self.is_equal() { "EQUAL" } else { "NOT EQUAL" };
        let (p50, p99) = (ms(percentile_ms(&mut self.taken, 50.0)), ms(percentile_ms(&mut self.taken, 99.0)));
        text += &format!(
            "{verdict}: {} transactions became {} changes in {} signed webhooks; from commit to visible in the copy \
             {p50} ms (p50), {p99} ms (p99)",
            self.transactions, self.delivered.changes, self.delivered.deliveries,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(difference: Option<&str>, caught_up: bool) -> Outcome {
        Outcome {
            seconds: 3.0004,
            transactions: 7,
            delivered: Delivered { changes: 40, deliveries: 6, repeated: 0 },
            taken: vec![Duration::from_millis(2), Duration::from_millis(4)],
            tables: vec![TableResult {
                table: "orders".to_owned(),
                rows: 12,
                difference: difference.map(str::to_owned),
            }],
            caught_up,
        }
    }

    #[test]
    fn only_what_caught_up_without_difference_is_equal() {
        assert!(outcome(None, true).is_equal());
        assert!(!outcome(None, false).is_equal() && !outcome(Some("x"), true).is_equal());
        assert!(!Outcome { tables: vec![], ..outcome(None, true) }.is_equal());
        let json: serde_json::Value = serde_json::from_str(&outcome(None, true).json()).unwrap();
        assert_eq!((json["equal"].as_bool(), json["p99_ms"].as_f64()), (Some(true), Some(4.0)));
        assert_eq!((json["changes"].as_u64(), json["deliveries"].as_u64()), (Some(40), Some(6)));
    }

    #[test]
    fn a_second_names_the_busiest_tables() {
        let tables = [("orders", [3, 2, 0]), ("stock", [0, 9, 0]), ("customers", [0, 0, 0])].into();
        let second = Second {
            number: 4,
            transactions: 120,
            delivered: Delivered { changes: 700, deliveries: 90, repeated: 0 },
            behind: 1,
            taken: vec![Duration::from_micros(1_240)],
            tally: tables,
        };
        let line = line(second);
        assert!(line.ends_with("1.2      1.2   stock ~9, orders +3 ~2"), "{line}");
    }
}
