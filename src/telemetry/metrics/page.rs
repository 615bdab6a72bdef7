//! The page that all metrics are shown on.

use std::{collections::HashMap, fmt::Write};

use prometheus_client::{encoding::text, registry::Registry};

use super::{Kind, Labels, Metric, Read, catalogue, labels::know_the_rest};

/// Values that were looked up for one answer.
#[derive(Debug, Default)]
pub struct Page(HashMap<&'static str, HashMap<Labels, f64>>);

impl Page {
    /// Sets the value of a series.
    pub fn set(&mut self, metric: &Read, values: &[&str], value: f64) {
        *self.value(metric, values) = value;
    }

    /// Adds to a series: lanes that share a label are shown together.
    pub fn add(&mut self, metric: &Read, values: &[&str], more: f64) {
        *self.value(metric, values) += more;
    }

    /// Keeps the greatest value of a series.
    pub fn most(&mut self, metric: &Read, values: &[&str], value: f64) {
        let found = self.value(metric, values);
        *found = found.max(value);
    }

    /// The series of a metric, if there are any.
    pub(super) fn of(&self, name: &str) -> Option<&HashMap<Labels, f64>> {
        self.0.get(name)
    }

    fn value(&mut self, metric: &Read, values: &[&str]) -> &mut f64 {
        let series = metric.spec.series(values);
        self.0.entry(metric.spec.name).or_default().entry(series).or_default()
    }

    /// All metrics in the text format of `OpenMetrics`.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        know_the_rest();
        let mut registry = Registry::default();
        for metric in catalogue::ALL {
            metric.show(&mut registry, self);
        }
        let mut text = String::new();
        // A string takes whatever is written.
        let _ = text::encode(&mut text, &registry);
        // The library writes an empty set of labels, which some readers do not expect.
        let bare = |line: &str| match line.split_once('{') {
            Some((name, rest)) if rest.starts_with('}') => format!("{name}{}\n", &rest[1..]),
            _ => format!("{line}\n"),
        };
        text.lines().map(bare).collect()
    }

    /// The same in the older text format of Prometheus, where a counter's name has `_total` in its
    /// description too.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut text = String::new();
        let mut counter = String::new();
        for line in self.open_metrics().lines() {
            let mut words = line.splitn(4, ' ');
            let (hash, word, name) = (words.next(), words.next(), words.next());
            let rest = words.next();
            if let (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(name)) = (hash, word, name) {
                if word == "HELP" {
                    let counts = |metric: &&&dyn Metric| {
                        metric.spec().kind == Kind::Counter && metric.spec().family() == name
                    };
                    counter = match catalogue::ALL.iter().find(counts) {
                        Some(metric) => metric.spec().full_name(),
                        None => name.to_owned(),
                    };
                }
                let _ = writeln!(text, "# {word} {counter} {}", rest.unwrap_or_default());
            } else if !line.starts_with('#') {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}
