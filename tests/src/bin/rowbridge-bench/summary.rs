//! Medians over the pairs, and Rowbridge's ratio to the other system: the median of the ratios of each pair, whose two
//! measurements had the same machine at nearly the same time.

use serde_json::{Value, json};

use super::figures::Figure;
use super::report::{Measurement, OURS};

/// All measurements of one workload between the same databases: medians of each system, then the ratio.
pub(super) struct Summary {
    pub(super) workload: String,
    pub(super) variant: String,
    pub(super) crossing: String,
    pub(super) lines: Vec<Line>,
}

/// A figure for each of [`Figure::ALL`].
pub(super) struct Line {
    /// Of a system, or `ratio`.
    pub(super) name: &'static str,
    /// How many measurements or pairs it comes from.
    pub(super) count: usize,
    pub(super) figures: Figures,
}

type Figures = [Option<f64>; Figure::COUNT];

impl Summary {
    pub(super) fn json(&self) -> Value {
        let mut object = json!({
            "type": "median",
            "workload": self.workload,
            "variant": self.variant,
            "crossing": self.crossing,
        });
        for line in &self.lines {
            let figures = Figure::ALL.iter().zip(line.figures);
            object[line.name] =
                figures.map(|(figure, value)| (figure.name().to_owned(), Value::from(value))).collect();
            object[line.name]["count"] = line.count.into();
        }
        object
    }
}

/// One summary for each workload, in the order of their first measurements.
pub(super) fn summaries(measurements: &[Measurement]) -> Vec<Summary> {
    let name = |m: &Measurement| (m.workload.clone(), m.variant.clone(), m.crossing.clone());
    let mut summaries: Vec<Summary> = Vec::new();
    for first in measurements {
        let (workload, variant, crossing) = name(first);
        if summaries
            .iter()
            .any(|s| (&s.workload, &s.variant, &s.crossing) == (&workload, &variant, &crossing))
        {
            continue;
        }
        let same: Vec<&Measurement> = measurements.iter().filter(|m| name(m) == name(first)).collect();
        let of = |system: &str| -> Vec<Figures> {
            same.iter().filter(|m| m.system == system).map(|m| m.figures()).collect()
        };
        let other = same.iter().map(|m| m.system).find(|system| *system != OURS).unwrap_or_default();
        let (theirs, ours) = (of(other), of(OURS));
        let ratios: Vec<Figures> =
            ours.iter().zip(&theirs).map(|(ours, theirs)| ratio(ours, theirs)).collect();
        let lines = [(other, theirs), (OURS, ours), ("ratio", ratios)];
        let lines = lines.iter().filter_map(|(name, lines)| median_line(name, lines)).collect();
        summaries.push(Summary { workload, variant, crossing, lines });
    }
    summaries
}

fn ratio(ours: &Figures, theirs: &Figures) -> Figures {
    std::array::from_fn(|n| Some(ours[n]? / theirs[n].filter(|value| *value > 0.0)?))
}

fn median_line(name: &'static str, lines: &[Figures]) -> Option<Line> {
    if lines.is_empty() {
        return None;
    }
    let figures = std::array::from_fn(|n| median(lines.iter().filter_map(|line| line[n]).collect()));
    Some(Line { name, count: lines.len(), figures })
}

/// The middle one; of an even number the mean of both. None of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get((values.len().max(1) - 1) / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(system: &'static str, rows: u64) -> Measurement {
        let mut measurement = Measurement::new("bulk", "", "postgres", system);
        (measurement.rows, measurement.seconds) = (rows, 1.0);
        measurement
    }

    #[test]
    fn the_ratio_is_the_median_over_the_pairs() {
        let all: Vec<Measurement> = [(100, 50), (10, 20), (1, 1)]
            .into_iter()
            .flat_map(|(native, ours)| [measured("native", native), measured(OURS, ours)])
            .collect();
        let summary = summaries(&all).remove(0);
        let lines: Vec<_> =
            summary.lines.iter().map(|line| (line.name, line.figures[0], line.figures[1])).collect();
        let expected =
            [("native", Some(10.0), None), ("rowbridge", Some(20.0), None), ("ratio", Some(1.0), None)];
        assert_eq!(lines, expected);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
