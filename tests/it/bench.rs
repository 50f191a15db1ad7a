//! The benchmark itself, in small: what it reports is complete, and it has found the target equal to the source.

use std::process::Command;

use rowbridge_tests::process::binary;
use serde_json::Value;

/// Runs `rowbridge-bench`, which ends with a failure when the two ends are not equal. Gives its JSON lines.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbridge-bench"));
    command.args(arguments).args(["--pairs", "1", "--json", "-"]).env("ROWBRIDGE_BIN", binary());
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{errors}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The measurements of two systems, and their medians.
fn assert_complete(lines: &[Value], systems: &[&str], rows: u64, figures: &[&str]) {
    let (medians, measurements) = lines.split_last().unwrap();
    let found: Vec<&str> = measurements.iter().map(|line| line["system"].as_str().unwrap()).collect();
    assert_eq!(found, systems);
    assert_eq!(medians["type"], "median");
    for line in measurements {
        assert_eq!(line["type"], "measurement");
        assert_eq!(line["rows"], rows, "{line}");
        for figure in figures.iter().chain(&["rows_per_second", "seconds"]) {
            assert!(line[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {line}");
        }
        let own = medians[line["system"].as_str().unwrap()]["rows_per_second"].as_f64();
        assert_eq!(own, line["rows_per_second"].as_f64(), "{medians}");
    }
    let ours = measurements.last().unwrap();
    assert!(ours["deliveries"].as_f64() > Some(0.0), "{ours}");
    assert!(ours["publisher_peak_rss_mib"].as_f64() > Some(1.0), "{ours}");
    assert!(ours["subscriber_peak_rss_mib"].as_f64() > Some(1.0), "{ours}");
    // Whoever has no `ss`, or is not root, has no bytes.
    if let Some(bytes) = ours["wire_bytes_per_row"].as_f64() {
        assert!(bytes > 10.0, "{ours}");
    }
    if let [native, ours] = measurements {
        let ratio = ours["rows_per_second"].as_f64().unwrap() / native["rows_per_second"].as_f64().unwrap();
        let said = medians["ratio"]["rows_per_second"].as_f64().unwrap();
        assert!((said / ratio - 1.0).abs() < 1e-9, "{said} is not {ratio}");
    }
}

#[test]
fn a_pair_of_postgres_is_reported() {
    let lines = bench(&["oltp", "--rate", "100", "--seconds", "1"]);
    let figures = ["p50_ms", "p99_ms", "p999_ms", "source_peak_rss_mib", "target_peak_rss_mib"];
    assert_complete(&lines, &["native", "rowbridge"], 200, &figures);
}

#[test]
fn a_pair_of_mariadb_is_reported() {
    let lines = bench(&["bulk", "--kind", "mariadb", "--rows", "2000"]);
    let figures = ["source_peak_rss_mib", "target_peak_rss_mib"];
    assert_complete(&lines, &["native", "rowbridge"], 2_000, &figures);
}

#[test]
fn what_has_no_native_replication_is_reported_alone() {
    let lines = bench(&["deletes", "--kind", "mariadb-postgres", "--rows", "2000"]);
    assert_complete(&lines, &["rowbridge"], 2_000, &["source_peak_rss_mib", "target_peak_rss_mib"]);
    let lines = bench(&["updates", "--kind", "sqlite", "--rows", "2000"]);
    assert_complete(&lines, &["rowbridge"], 2_000, &[]);
}

#[test]
fn webhooks_in_batches_are_reported() {
    let lines = bench(&["sink", "--rows", "2000"]);
    let (medians, measurements) = lines.split_last().unwrap();
    let systems: Vec<&str> = measurements.iter().map(|line| line["system"].as_str().unwrap()).collect();
    assert_eq!((systems, &medians["type"]), (vec!["by hand", "rowbridge"], &"median".into()));
    for line in measurements {
        assert_eq!(line["rows"], 2_000, "{line}");
        for figure in ["rows_per_second", "deliveries", "publisher_peak_rss_mib", "wire_bytes_per_row"] {
            assert!(line[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {line}");
        }
    }
}

#[test]
fn a_misspelt_option_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbridge-bench"));
    let output = command.args(["bulk", "--row", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--row: no such option"));
}
