//! The metrics of one answer, in the text form of Prometheus. It knows numbers, names and labels, not what they mean.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use crate::metrics::Tally;

/// The media type of the text form.
pub(super) use prometheus::TEXT_FORMAT as MEDIA_TYPE;

/// The name and value of a label.
pub(super) type Label<'a> = (&'a str, &'a str);

/// Metrics in the order in which they were added.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// A metric that is being written.
pub(super) struct Family<'a>(&'a mut MetricFamily);

impl Families {
    /// A number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.add(name, help, MetricType::GAUGE)
    }

    /// A number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.add(name, help, MetricType::COUNTER)
    }

    /// A histogram.
    pub(super) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.add(name, help, MetricType::HISTOGRAM)
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        Family(self.0.last_mut().expect("it was just added"))
    }

    /// The text. A metric of which there is nothing is left out.
    pub(super) fn text(mut self) -> String {
        self.0.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0, &mut text)
            .expect("a vector takes everything, and names are not empty");
        String::from_utf8(text).expect("the text form is UTF-8")
    }
}

impl Family<'_> {
    /// Adds a number with its labels.
    #[allow(clippy::cast_precision_loss, reason = "the text form holds floating-point numbers")]
    pub(super) fn count(self, labels: &[Label<'_>], value: u64) -> Self {
        self.value(labels, value as f64)
    }

    /// Adds a number of bytes, rows, or whatever else is counted by its place in memory.
    pub(super) fn size(self, labels: &[Label<'_>], value: usize) -> Self {
        self.count(labels, value as u64)
    }

    /// Adds a number with its labels.
    pub(super) fn value(self, labels: &[Label<'_>], value: f64) -> Self {
        let mut metric = Metric::default();
        match self.0.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.push(labels, metric)
    }

    /// Adds a histogram with its labels.
    pub(super) fn tally(self, labels: &[Label<'_>], tally: &Tally) -> Self {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(tally.count());
        histogram.set_sample_sum(tally.sum());
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        histogram.set_bucket(tally.cumulative().map(bucket).collect());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.push(labels, metric)
    }

    fn push(self, labels: &[Label<'_>], mut metric: Metric) -> Self {
        let pair = |(name, value): &Label<'_>| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        metric.set_label(labels.iter().map(pair).collect());
        self.0.mut_metric().push(metric);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form() {
        let mut families = Families::default();
        let _ = families.gauge("a", "of \"a\"").size(&[("of", "x\"\n\\")], 7).value(&[], 0.5);
        let _ = families.counter("b_total", "b").count(&[], 1 << 40);
        let _ = families.gauge("empty", "nothing");
        let expected = "# HELP a of \"a\"\n# TYPE a gauge\na{of=\"x\\\"\\n\\\\\"} 7\na 0.5\n\
                        # HELP b_total b\n# TYPE b_total counter\nb_total 1099511627776\n";
        assert_eq!(families.text(), expected);
    }
}
