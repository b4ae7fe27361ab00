//! One object per run, with its conditions.

use serde_json::{Map, Value, json};

use super::mixed;
use crate::flow::Flow;
use crate::latency::Latencies;
use crate::load::Plan;
use crate::machine;
use crate::report::Report;

/// Limits in milliseconds for the counts of what was slower.
const SLOWER_THAN: [u64; 5] = [1, 10, 100, 1000, 10_000];

/// Everything. The percentiles at the top are from the intended time where there is a schedule.
pub(super) fn object(plan: &Plan, report: &Report) -> Value {
    let errors: Map<String, Value> =
        report.failures.iter().map(|(f, n)| (f.name().to_owned(), json!(n))).collect();
    let account = &report.account;
    let invalid = report.invalid_because();
    let mut object = json!({
        "kind": plan.kind.name(),
        "setting": format!("{:?}", plan.kind),
        "address": plan.address.to_string(),
        "loop": if plan.open.is_some() || report.mixed.is_some() { "open" } else { "closed" },
        "threads": plan.threads,
        "version": env!("CARGO_PKG_VERSION"),
        "date": jiff::Timestamp::now().to_string(),
        "machine": machine::facts(),
        "valid": invalid.is_empty(),
        "invalid_because": invalid,
        "requests": report.requests,
        "operations": report.operations,
        "bytes": report.sent + report.received,
        "bytes_sent": report.sent,
        "bytes_received": report.received,
        "sessions": report.sessions,
        "failed": report.failures_total(),
        "errors": errors,
        "seconds": report.elapsed.as_secs_f64(),
        "own_cpu": report.cpu_share(),
        "latency": { "measured": latencies(&account.measured) },
    });
    for (name, micros) in account.headline().quantiles() {
        object[name] = json!(micros);
    }
    if account.intended.count() > 0 {
        object["latency"]["intended"] = latencies(&account.intended);
    }
    if let Some(open) = plan.open {
        object["rate"] = json!(open.rate);
        object["arrivals"] = json!(open.arrivals.name());
        object["seed"] = json!(open.seed);
    }
    let kept = &account.kept;
    if kept.due > 0 {
        object["schedule"] = json!({
            "due": kept.due,
            "late": kept.late,
            "never_sent": kept.never_sent,
            "not_kept": kept.not_kept(),
            "generator_late": kept.lagging,
            "generator_lag_max": kept.lag_max as f64 / 1000.0,
        });
    }
    if let Some(flow) = &report.flow_up {
        object["flow_up"] = datagrams(flow);
    }
    if let Some(flow) = &report.flow_down {
        object["flow_down"] = datagrams(flow);
    }
    if let Some(holding) = report.holding {
        object["holding"] = json!({
            "memory_before": holding.memory.0,
            "memory_held": holding.memory.1,
            "cpu_seconds": holding.cpu.as_secs_f64(),
        });
    }
    if let crate::load::Kind::Watched { .. } = plan.kind {
        object["lost"] = losses(report);
    }
    if let (crate::load::Kind::Mixed(mixture), Some(found)) = (&plan.kind, &report.mixed) {
        object["lost"] = losses(report);
        object["mixed"] = mixed::object(mixture, found);
    }
    object
}

pub(super) fn latencies(latencies: &Latencies) -> Value {
    let mut object = json!({ "count": latencies.count(), "mean": latencies.mean() });
    latencies.quantiles().into_iter().for_each(|(name, micros)| object[name] = json!(micros));
    let slower =
        SLOWER_THAN.map(|ms| (format!("{ms}ms"), json!(latencies.slower_than(ms * 1_000_000))));
    object["slower_than"] = Value::Object(slower.into_iter().collect());
    object
}

fn datagrams(flow: &Flow) -> Value {
    json!({
        "sent": flow.sent,
        "received": flow.received,
        "lost": flow.lost(),
        "loss": flow.loss(),
        "reordered": flow.reordered,
        "doubled": flow.doubled,
        "jitter": flow.jitter_ns / 1000.0,
    })
}

fn losses(report: &Report) -> Value {
    let one = |loss: &crate::load::lost::Loss| {
        json!({
            "what": loss.what.name(),
            "session": loss.session,
            "local": loss.local,
            "message": loss.sequence,
            "after": loss.after.as_secs_f64(),
            "at": loss.at.to_string(),
            "words": loss.words,
        })
    };
    report.losses.iter().map(one).collect()
}
