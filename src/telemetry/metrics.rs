//! Counters and histograms of this process, and the page that they are shown on. Like the log they
//! belong to the process; they begin at zero with it. What is read at the moment of asking (the
//! queue, the token) is put on the [`Page`] by whoever knows it.
//!
//! Every metric stands in [`catalogue`], which `docs/monitoring.md` is checked against. Labels take
//! their values from the configuration and from fixed sets: never from what a client or upstream
//! says.

pub mod catalogue;
pub mod causes;
mod labels;
mod page;

use std::{
    sync::{LazyLock, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter, family, gauge, histogram},
    registry::Registry,
};

pub(crate) use labels::listener;
pub use labels::{OTHER, know_account, know_lane, know_listener, know_smarthost, lane};
pub use page::Page;

/// Begins the name of each metric that is ours.
pub const PREFIX: &str = "o365_relay_";

/// Names and values of one series.
type Labels = Vec<(&'static str, String)>;
type Counters = family::Family<Labels, counter::Counter>;
type Gauges = family::Family<Labels, gauge::Gauge>;
type Histograms = family::Family<Labels, histogram::Histogram, Buckets>;
type ReadGauges = family::Family<Labels, gauge::Gauge<f64, AtomicU64>>;
type ReadCounters = family::Family<Labels, counter::Counter<f64, AtomicU64>>;

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, and begins at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often values of which size came.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric as the documentation has it.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Without [`PREFIX`] and, for a counter, without `_total`.
    name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts or measures, as a sentence without its full stop.
    pub meaning: &'static str,
}

impl Spec {
    /// The name without `_total`. Those that every process has under the same name have no prefix.
    #[must_use]
    pub fn family(&self) -> String {
        match self.name.starts_with("process_") {
            true => self.name.to_owned(),
            false => format!("{PREFIX}{}", self.name),
        }
    }

    /// The name to ask Prometheus for; a histogram's series have `_bucket`, `_sum` and `_count`
    /// behind it.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.family()),
            Kind::Gauge | Kind::Histogram => self.family(),
        }
    }

    /// What its values are, by the end of its name.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.name {
            name if name.ends_with("timestamp_seconds") || name.ends_with("time_seconds") => {
                "seconds since 1970"
            }
            name if name.ends_with("_seconds") => "seconds",
            name if name.ends_with("_bytes") => "octets",
            _ => "",
        }
    }

    fn series(&self, values: &[&str]) -> Labels {
        debug_assert_eq!(self.labels.len(), values.len(), "labels of {}", self.name);
        // To Prometheus a label without a value is none.
        let labels =
            self.labels.iter().copied().zip(values.iter().map(|value| (*value).to_owned()));
        labels.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// One metric of the catalogue.
pub trait Metric: Sync {
    /// What the documentation says about it.
    fn spec(&self) -> &Spec;
    /// Shows it, with the values of `page` if it has none of its own.
    fn show(&self, registry: &mut Registry, page: &Page);
}

/// Something that is counted.
pub struct Counter {
    spec: Spec,
    series: LazyLock<Counters>,
}

impl Counter {
    const fn new(
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        let spec = Spec { name, kind: Kind::Counter, labels, meaning };
        Self { spec, series: LazyLock::new(Counters::default) }
    }

    /// Counts so many.
    pub(crate) fn add(&self, values: &[&str], more: u64) {
        self.series.get_or_create(&self.spec.series(values)).inc_by(more);
    }

    /// Counts one.
    pub(crate) fn inc(&self, values: &[&str]) {
        self.add(values, 1);
    }

    /// Shows zero from now on, so that the first one is seen as a change.
    fn exist(&self, values: &[&str]) {
        self.add(values, 0);
    }
}

impl Metric for Counter {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn show(&self, registry: &mut Registry, _page: &Page) {
        if self.spec.labels.is_empty() {
            self.exist(&[]);
        }
        registry.register(self.spec.family(), self.spec.meaning, self.series.clone());
    }
}

/// Something that there is more or less of, counted as it comes and goes.
pub struct Live {
    spec: Spec,
    series: LazyLock<Gauges>,
}

impl Live {
    const fn new(
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        let spec = Spec { name, kind: Kind::Gauge, labels, meaning };
        Self { spec, series: LazyLock::new(Gauges::default) }
    }

    fn add(&self, values: &[&str], more: i64) {
        self.series.get_or_create(&self.spec.series(values)).inc_by(more);
    }

    fn set(&self, values: &[&str], value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.series.get_or_create(&self.spec.series(values)).set(value);
    }
}

impl Metric for Live {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn show(&self, registry: &mut Registry, _page: &Page) {
        registry.register(self.spec.family(), self.spec.meaning, self.series.clone());
    }
}

/// A distribution.
pub struct Histogram {
    spec: Spec,
    series: OnceLock<Histograms>,
    buckets: Buckets,
}

/// The upper ends of a histogram's buckets.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl family::MetricConstructor<histogram::Histogram> for Buckets {
    fn new_metric(&self) -> histogram::Histogram {
        histogram::Histogram::new(self.0.iter().copied())
    }
}

impl Histogram {
    const fn new(
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        let spec = Spec { name, kind: Kind::Histogram, labels, meaning };
        Self { spec, series: OnceLock::new(), buckets: Buckets(buckets) }
    }

    fn series(&self) -> &Histograms {
        self.series.get_or_init(|| Histograms::new_with_constructor(self.buckets))
    }

    /// Counts a value.
    pub(crate) fn observe(&self, values: &[&str], value: f64) {
        self.series().get_or_create(&self.spec.series(values)).observe(value);
    }

    /// Counts a time.
    pub(crate) fn took(&self, values: &[&str], duration: Duration) {
        self.observe(values, duration.as_secs_f64());
    }
}

impl Metric for Histogram {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn show(&self, registry: &mut Registry, _page: &Page) {
        if self.spec.labels.is_empty() {
            drop(self.series().get_or_create(&Vec::new()));
        }
        registry.register(self.spec.family(), self.spec.meaning, self.series().clone());
    }
}

/// Something that is looked up when somebody asks.
pub struct Read {
    spec: Spec,
}

impl Read {
    const fn new(
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        Self { spec: Spec { name, kind: Kind::Gauge, labels, meaning } }
    }

    const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Self {
        Self { spec: Spec { name, kind: Kind::Counter, labels, meaning } }
    }
}

impl Metric for Read {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn show(&self, registry: &mut Registry, page: &Page) {
        let Spec { name, kind, meaning, .. } = self.spec;
        let Some(series) = page.of(name) else { return };
        match kind {
            Kind::Counter => {
                let counters = ReadCounters::default();
                for (labels, value) in series {
                    counters.get_or_create(labels).inc_by(*value);
                }
                registry.register(self.spec.family(), meaning, counters);
            }
            Kind::Gauge | Kind::Histogram => {
                let gauges = ReadGauges::default();
                for (labels, value) in series {
                    gauges.get_or_create(labels).set(*value);
                }
                registry.register(self.spec.family(), meaning, gauges);
            }
        }
    }
}

/// A connection that is counted while this value lives.
#[derive(Debug)]
pub struct Connected(String);

impl Connected {
    /// A connection to this listener begins.
    #[must_use]
    pub fn to(name: &str) -> Self {
        let listener = listener(name);
        catalogue::CONNECTIONS_ACCEPTED.inc(&[&listener]);
        catalogue::CONNECTIONS.add(&[&listener], 1);
        Self(listener)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        catalogue::CONNECTIONS.add(&[&self.0], -1);
    }
}

#[cfg(test)]
mod tests;
