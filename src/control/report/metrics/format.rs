//! The two text formats of an exposition, and the choice between them.
//!
//! OpenMetrics 1.0 names a counter's family without `_total` and ends with `# EOF`; the older text
//! format 0.0.4 announces samples by their whole names and has no end. The rest of the exposition
//! is the same in both.

use std::collections::HashSet;

use super::MetricKind;
use super::registry::METRICS;

/// A text format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `text/plain`, version 0.0.4: what Prometheus has always understood.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

const OPENMETRICS: &str = "application/openmetrics-text";
const PLAIN: &str = "text/plain";

impl Format {
    /// The format that a scraper prefers by its `Accept` headers; 0.0.4 without any.
    pub fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let (mut open, mut plain) = (0.0_f32, None);
        for range in headers.flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0_f32, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match media.as_str() {
                OPENMETRICS if version.is_none_or(|version| version == "1.0.0") => {
                    open = quality.max(open);
                }
                // Version 1.0.0 of it only differs where names have other letters than ours.
                PLAIN => plain = Some(quality.max(plain.unwrap_or(0.0))),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain.unwrap_or(0.0) { Self::OpenMetrics } else { Self::Plain }
    }

    /// The value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts an exposition from OpenMetrics into this format.
    pub(super) fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Plain => plain(&openmetrics),
        }
    }
}

fn plain(openmetrics: &str) -> String {
    let counters = METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter);
    let counters: HashSet<&str> = counters.map(|metric| metric.family()).collect();
    let mut out = String::with_capacity(openmetrics.len() + 6 * 2 * counters.len());
    for line in openmetrics.split_inclusive('\n') {
        let announced = ["# HELP ", "# TYPE "].into_iter().find(|word| line.starts_with(word));
        match announced.and_then(|word| Some((word, line[word.len()..].split_once(' ')?))) {
            Some((word, (family, rest))) if counters.contains(family) => {
                out.extend([word, family, "_total ", rest]);
            }
            None if line == "# EOF\n" => {}
            _ => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
             */*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
             */*;q=0.2";
        for (accept, expected) in [
            (&[][..], Format::Plain),
            (&[""], Format::Plain),
            (&["*/*"], Format::Plain),
            (&["text/html"], Format::Plain),
            (&["text/plain;version=0.0.4"], Format::Plain),
            (&[prometheus_2], Format::OpenMetrics),
            (&[prometheus_3], Format::OpenMetrics),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.1"], Format::OpenMetrics),
            (&["text/plain;q=0.2", "application/openmetrics-text;q=0.3"], Format::OpenMetrics),
            (&["application/openmetrics-text;q=0.2,text/plain;q=0.3"], Format::Plain),
            (&["application/openmetrics-text;q=0,*/*"], Format::Plain),
            (&["application/openmetrics-text;q=nan,*/*"], Format::Plain),
            (&["application/openmetrics-text;q=much"], Format::Plain),
            (&["application/openmetrics-text;version=0.0.1"], Format::Plain),
            (&["application/openmetrics-text;version=2.0.0,text/plain;q=0.1"], Format::Plain),
            (&["application/openmetrics-texts"], Format::Plain),
        ] {
            assert_eq!(Format::accepted(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn only_announcements_of_counters_differ_between_the_formats() {
        let openmetrics = "# HELP ringlane_frontend_sessions Sessions. # TYPE x counter\n\
             # TYPE ringlane_frontend_sessions counter\n\
             ringlane_frontend_sessions_total{frontend=\"# EOF\"} 3\n\
             # HELP ringlane_frontend_sessions_live Now.\n\
             # TYPE ringlane_frontend_sessions_live gauge\n\
             ringlane_frontend_sessions_live{frontend=\"# TYPE ringlane_frontend_sessions\"} 1\n\
             # EOF\n";
        let plain = "# HELP ringlane_frontend_sessions_total Sessions. # TYPE x counter\n\
             # TYPE ringlane_frontend_sessions_total counter\n\
             ringlane_frontend_sessions_total{frontend=\"# EOF\"} 3\n\
             # HELP ringlane_frontend_sessions_live Now.\n\
             # TYPE ringlane_frontend_sessions_live gauge\n\
             ringlane_frontend_sessions_live{frontend=\"# TYPE ringlane_frontend_sessions\"} 1\n";
        assert_eq!(Format::OpenMetrics.write(openmetrics.to_owned()), openmetrics);
        assert_eq!(Format::Plain.write(openmetrics.to_owned()), plain);
    }
}
