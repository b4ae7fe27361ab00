//! The same plot as a picture that needs nothing from outside.

use std::fmt::Write;

use super::plot::{Scale, ticks};
use super::{series, time};
use crate::latency::Latencies;
use crate::load::Plan;
use crate::report::Report;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 80.0;

/// Points of a line.
const POINTS: usize = 240;

/// One colour per series, told apart by everybody.
const COLOURS: [&str; 2] = ["#0072b2", "#d55e00"];

/// The whole picture.
pub(super) fn plot(plan: &Plan, report: &Report) -> String {
    let series = series(report);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    let rate = report.requests as f64 / report.elapsed.as_secs_f64().max(1e-9);
    let title = format!("{} to {}, {rate:.0} a second", plan.kind.name(), plan.address);
    words(&mut svg, LEFT, 28.0, "start", &title);
    if !report.invalid_because().is_empty() {
        words(&mut svg, LEFT, 46.0, "start", "INVALID: the load generator itself was the limit");
    }
    match Scale::of(&series) {
        None => words(&mut svg, WIDTH / 2.0, HEIGHT / 2.0, "middle", "nothing was answered"),
        Some(scale) => {
            axes(&mut svg, &scale);
            for (nth, (name, latencies)) in series.iter().enumerate() {
                line(&mut svg, &scale, latencies, COLOURS[nth % COLOURS.len()]);
                legend(&mut svg, nth, name);
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn across(place: f64) -> f64 {
    LEFT + place * (WIDTH - LEFT - RIGHT)
}

fn down(up: f64) -> f64 {
    HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
}

fn axes(svg: &mut String, scale: &Scale) {
    for (place, label) in ticks(scale) {
        let (x, bottom) = (across(place), down(0.0));
        let _ = writeln!(svg, "<path d=\"M{x:.1} {bottom:.1}V{:.1}\" stroke=\"#ddd\"/>", down(1.0));
        words(svg, x, bottom + 20.0, "middle", &label);
    }
    for step in 0..=5 {
        let up = f64::from(step) / 5.0;
        let y = down(up);
        let (left, right) = (across(0.0), across(1.0));
        let _ = writeln!(svg, "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>");
        words(svg, left - 8.0, y + 4.0, "end", &time(scale.micros(up)));
    }
}

fn line(svg: &mut String, scale: &Scale, latencies: &Latencies, colour: &str) {
    let points: Vec<String> = (0..=POINTS)
        .map(|nth| {
            let place = nth as f64 / POINTS as f64;
            let up = scale.up(latencies.at(scale.quantile(place)));
            format!("{:.1},{:.1}", across(place), down(up))
        })
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        points.join(" ")
    );
}

fn legend(svg: &mut String, nth: usize, name: &str) {
    let (x, y) = (LEFT + nth as f64 * 260.0, HEIGHT - 24.0);
    let colour = COLOURS[nth % COLOURS.len()];
    let _ = writeln!(svg, "<path d=\"M{x} {y}h24\" stroke=\"{colour}\" stroke-width=\"3\"/>");
    words(svg, x + 32.0, y + 4.0, "start", name);
}

fn words(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let safe = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{safe}</text>");
}
