//! The table for people.

use std::fmt::Write;

use super::{mixed, plot, series, time};
use crate::flow::Flow;
use crate::load::{Kind, Plan};
use crate::report::Report;

/// Everything, and a plot of the latencies.
pub(super) fn table(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    let seconds = report.elapsed.as_secs_f64().max(1e-9);
    let mut line = |name: &str, words: String| {
        let _ = writeln!(text, "{name:<10} {words}");
    };
    for reason in report.invalid_because() {
        line("INVALID", format!("the load generator itself was the limit: {reason}"));
    }
    line("load", conditions(plan));
    line(
        "requests",
        format!(
            "{} ({:.0}/s) over {} sessions in {seconds:.2} s",
            report.requests,
            report.requests as f64 / seconds,
            report.sessions
        ),
    );
    if report.operations != report.requests {
        let rate = report.operations as f64 / seconds;
        line("operations", format!("{} ({rate:.0}/s)", report.operations));
    }
    let bits = (report.sent + report.received) as f64 * 8.0 / seconds / 1e6;
    line("bytes", format!("{} sent, {} received ({bits:.1} Mbit/s)", report.sent, report.received));
    schedule(report, &mut line);
    flows(report, &mut line);
    if let Some(holding) = report.holding {
        let (before, held) = holding.memory;
        let each = held.saturating_sub(before) as f64 / report.sessions.max(1) as f64;
        line("holding", format!("{each:.0} bytes of memory per session, CPU {:?}", holding.cpu));
    }
    watched(plan, report, &mut line);
    if let Some(found) = &report.mixed {
        mixed::lines(found, &mut line);
        report.losses.iter().for_each(|loss| line("lost", loss.to_string()));
    }
    let errors: Vec<_> = report.failures.iter().map(|(f, n)| format!("{} {n}", f.name())).collect();
    line("errors", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") });
    if let Some(share) = report.cpu_share() {
        line("own CPU", format!("{:.0} %", share * 100.0));
    }
    if let Some(found) = &report.mixed {
        mixed::gaps(found, &mut text);
    }
    latencies(report, &mut text);
    text.trim_end().to_owned()
}

fn conditions(plan: &Plan) -> String {
    let pace = match plan.open {
        Some(open) => {
            format!("open loop, {} arrivals a second, {}", open.rate, open.arrivals.name())
        }
        None => match plan.kind {
            Kind::RoundTrip { .. }
            | Kind::Connect { .. }
            | Kind::Datagrams { .. }
            | Kind::Pgsql(_)
            | Kind::Redis(_) => {
                "closed loop: what a slow answer kept from being sent is not in the latencies"
                    .to_owned()
            }
            Kind::Mixed(ref mixture) => mixed::conditions(mixture),
            Kind::DatagramStream { rate, .. } => format!("{rate} datagrams a second"),
            Kind::Stream { .. } | Kind::Idle { .. } | Kind::Watched { .. } => "held".to_owned(),
        },
    };
    format!("{} to {}, {pace}", plan.kind.name(), plan.address)
}

fn schedule(report: &Report, line: &mut impl FnMut(&str, String)) {
    let kept = &report.account.kept;
    if kept.due == 0 {
        return;
    }
    line(
        "schedule",
        format!(
            "{} due, {:.2} % not kept: {} sent more than 1 ms late, {} never; \
             noticed at worst {} late",
            kept.due,
            kept.not_kept() * 100.0,
            kept.late,
            kept.never_sent,
            time(kept.lag_max as f64 / 1000.0)
        ),
    );
}

fn flows(report: &Report, line: &mut impl FnMut(&str, String)) {
    for (name, flow) in [("way up", &report.flow_up), ("way back", &report.flow_down)] {
        let Some(flow) = flow else { continue };
        let Flow { sent, received, reordered, doubled, jitter_ns, .. } = flow;
        line(
            name,
            format!(
                "{sent} datagrams sent, {received} arrived, {} lost ({:.3} %), {reordered} \
                 reordered, {doubled} doubled, jitter {}",
                flow.lost(),
                flow.loss() * 100.0,
                time(jitter_ns / 1000.0)
            ),
        );
    }
}

fn watched(plan: &Plan, report: &Report, line: &mut impl FnMut(&str, String)) {
    let Kind::Watched { .. } = plan.kind else { return };
    if report.losses.is_empty() {
        line("lost", "no session was cut, stalled or corrupted".to_owned());
    }
    report.losses.iter().for_each(|loss| line("lost", loss.to_string()));
}

fn latencies(report: &Report, text: &mut String) {
    let series = series(report);
    if series.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<26} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "latency", "p50", "p90", "p99", "p99.9", "max"
    );
    for (name, latencies) in &series {
        let _ = write!(text, "{name:<26}");
        for (_, micros) in latencies.quantiles() {
            let _ = write!(text, " {:>10}", time(micros));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&plot::terminal(&series));
}
