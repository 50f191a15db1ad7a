//! What a measurement comes to: the columns of the table, and as many keys of a JSON line.

use super::report::Measurement;

/// A column of the table, and a key of the JSON lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Figure {
    RowsPerSecond,
    P50,
    P99,
    P999,
    SourceCpu,
    TargetCpu,
    PublisherCpu,
    SubscriberCpu,
    AllCpu,
    SourceShare,
    TargetShare,
    PublisherShare,
    SubscriberShare,
    SourceMemory,
    TargetMemory,
    PublisherMemory,
    SubscriberMemory,
    BytesPerRow,
    Deliveries,
}

impl Figure {
    pub(super) const COUNT: usize = 19;

    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::RowsPerSecond,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::SourceCpu,
        Self::TargetCpu,
        Self::PublisherCpu,
        Self::SubscriberCpu,
        Self::AllCpu,
        Self::SourceShare,
        Self::TargetShare,
        Self::PublisherShare,
        Self::SubscriberShare,
        Self::SourceMemory,
        Self::TargetMemory,
        Self::PublisherMemory,
        Self::SubscriberMemory,
        Self::BytesPerRow,
        Self::Deliveries,
    ];

    /// The key.
    pub(super) fn name(self) -> &'static str {
        self.words().0
    }

    /// The two lines above the column: what and whose, or of what.
    pub(super) fn heading(self) -> [&'static str; 2] {
        self.words().1
    }

    fn words(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::RowsPerSecond => ("rows_per_second", ["", "rows/s"]),
            Self::P50 => ("p50_ms", ["ms", "p50"]),
            Self::P99 => ("p99_ms", ["ms", "p99"]),
            Self::P999 => ("p999_ms", ["ms", "p99.9"]),
            Self::SourceCpu => ("source_cpu_seconds_per_million_rows", ["CPU s/M", "source"]),
            Self::TargetCpu => ("target_cpu_seconds_per_million_rows", ["CPU s/M", "target"]),
            Self::PublisherCpu => ("publisher_cpu_seconds_per_million_rows", ["CPU s/M", "publ."]),
            Self::SubscriberCpu => ("subscriber_cpu_seconds_per_million_rows", ["CPU s/M", "subscr."]),
            Self::AllCpu => ("all_cpu_seconds_per_million_rows", ["CPU s/M", "all"]),
            Self::SourceShare => ("source_cpu_percent", ["CPU %", "source"]),
            Self::TargetShare => ("target_cpu_percent", ["CPU %", "target"]),
            Self::PublisherShare => ("publisher_cpu_percent", ["CPU %", "publ."]),
            Self::SubscriberShare => ("subscriber_cpu_percent", ["CPU %", "subscr."]),
            Self::SourceMemory => ("source_peak_rss_mib", ["MiB", "source"]),
            Self::TargetMemory => ("target_peak_rss_mib", ["MiB", "target"]),
            Self::PublisherMemory => ("publisher_peak_rss_mib", ["MiB", "publ."]),
            Self::SubscriberMemory => ("subscriber_peak_rss_mib", ["MiB", "subscr."]),
            Self::BytesPerRow => ("wire_bytes_per_row", ["bytes", "/row"]),
            Self::Deliveries => ("deliveries", ["", "requests"]),
        }
    }
}

impl Measurement {
    /// In the order of [`Figure::ALL`].
    pub(super) fn figures(&self) -> [Option<f64>; Figure::COUNT] {
        let rows = (self.rows > 0).then_some(self.rows as f64);
        let per_million = |cpu: Option<f64>| Some(cpu? * 1e6 / rows?);
        let percent = |cpu: Option<f64>| match rows {
            None => Some(cpu? / self.cpu_wall_seconds * 100.0),
            Some(_) => None,
        };
        let [source, target, publisher, subscriber] = self.cpu_seconds;
        let all = self.cpu_seconds.iter().flatten().copied().reduce(|sum, more| sum + more);
        Figure::ALL.map(|figure| match figure {
            Figure::RowsPerSecond => Some(rows? / self.seconds),
            Figure::P50 => Some(self.latency?.p50),
            Figure::P99 => Some(self.latency?.p99),
            Figure::P999 => Some(self.latency?.p999),
            Figure::SourceCpu => per_million(source),
            Figure::TargetCpu => per_million(target),
            Figure::PublisherCpu => per_million(publisher),
            Figure::SubscriberCpu => per_million(subscriber),
            Figure::AllCpu => per_million(all),
            Figure::SourceShare => percent(source),
            Figure::TargetShare => percent(target),
            Figure::PublisherShare => percent(publisher),
            Figure::SubscriberShare => percent(subscriber),
            Figure::SourceMemory => mib(self.peak_bytes[0]),
            Figure::TargetMemory => mib(self.peak_bytes[1]),
            Figure::PublisherMemory => mib(self.peak_bytes[2]),
            Figure::SubscriberMemory => mib(self.peak_bytes[3]),
            Figure::BytesPerRow => Some(self.wire_bytes? as f64 / rows?),
            Figure::Deliveries => self.deliveries.map(|count| count as f64),
        })
    }
}

fn mib(bytes: Option<u64>) -> Option<f64> {
    Some(bytes? as f64 / f64::from(1 << 20))
}
