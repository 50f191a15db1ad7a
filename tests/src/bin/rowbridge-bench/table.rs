//! The report as text: aligned columns, those that nobody filled left out.

use std::fmt::Write as _;

use super::figures::Figure;
use super::report::Measurement;
use super::summary::Summary;

/// A row of the table: what it is of, and its figures.
type Row = (Vec<String>, Vec<Option<String>>);

/// One measurement in a line, as it is made.
pub(super) fn line(measurement: &Measurement) -> String {
    let Measurement { workload, variant, crossing, system, rows, seconds, .. } = measurement;
    let mut text = format!("{workload} {variant} {crossing} {}: {rows} rows, {seconds:.2} s", system);
    for (figure, value) in Figure::ALL.iter().zip(measurement.figures()) {
        if let Some(value) = value {
            let [of, what] = figure.heading();
            let _ = write!(text, ", {} {}", [of, what].join(" ").trim(), number(value));
        }
    }
    text
}

/// All measurements, then the medians.
pub(super) fn text(measurements: &[Measurement], summaries: &[Summary]) -> String {
    let mut rows: Vec<Row> = Vec::new();
    for m in measurements {
        let names = names(&m.workload, &m.variant, &m.crossing, m.system);
        let mut cells = vec![Some(m.rows.to_string()), Some(number(m.seconds))];
        cells.extend(m.figures().map(|value| value.map(number)));
        rows.push((names, cells));
    }
    let mut text = aligned(&rows);
    rows.clear();
    for summary in summaries {
        for line in &summary.lines {
            let names = names(&summary.workload, &summary.variant, &summary.crossing, line.name);
            let mut cells = vec![None, None];
            cells.extend(line.figures.map(|value| value.map(number)));
            rows.push((names, cells));
        }
    }
    let count = summaries.iter().flat_map(|s| &s.lines).map(|line| line.count).max().unwrap_or_default();
    let _ = write!(text, "\nMedians of {count}, and Rowbridge's ratio to the other:\n{}", aligned(&rows));
    text
}

fn names(workload: &str, variant: &str, crossing: &str, system: &str) -> Vec<String> {
    vec![[workload, variant].join(" ").trim().to_owned(), crossing.to_owned(), system.to_owned()]
}

fn aligned(rows: &[Row]) -> String {
    let mut headings = vec![["", "rows"], ["", "seconds"]];
    headings.extend(Figure::ALL.map(Figure::heading));
    let shown: Vec<usize> =
        (0..headings.len()).filter(|n| rows.iter().any(|(_, cells)| cells[*n].is_some())).collect();
    let heading = |names: [&str; 3], of: &dyn Fn(usize) -> &'static str| -> Vec<String> {
        names.into_iter().chain(shown.iter().map(|n| of(*n))).map(str::to_owned).collect()
    };
    let mut lines = vec![
        heading(["", "", ""], &|n| headings[n][0]),
        heading(["workload", "databases", "system"], &|n| headings[n][1]),
    ];
    for (names, cells) in rows {
        let mut line = names.clone();
        line.extend(shown.iter().map(|n| cells[*n].clone().unwrap_or_else(|| "-".to_owned())));
        lines.push(line);
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut padded = String::new();
        for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ =
                if n < 3 { write!(padded, "{cell:<width$}  ") } else { write!(padded, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", padded.trim_end());
    }
    text
}

/// As many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::OURS;
    use crate::summary::summaries;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut measurement = Measurement::new("bulk", "", "postgres", OURS);
        (measurement.rows, measurement.seconds) = (200_000, 1.25);
        let mut other = measurement.clone();
        (other.variant, other.seconds) = ("10 tables".to_owned(), 20.0);
        let all = [measurement, other];
        let text = text(&all, &summaries(&all));
        assert_eq!(
            text,
            "\
workload        databases  system       rows  seconds  rows/s
bulk            postgres   rowbridge  200000     1.25  160000
bulk 10 tables  postgres   rowbridge  200000       20   10000

Medians of 1, and Rowbridge's ratio to the other:

workload        databases  system     rows/s
bulk            postgres   rowbridge  160000
bulk 10 tables  postgres   rowbridge   10000
"
            .replacen("workload", "\nworkload", 1)
        );
    }
}
