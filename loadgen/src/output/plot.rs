//! Latency by percentile, in characters. Both axes are logarithmic: the tail is what one looks for.

use std::fmt::Write;

use super::time;
use crate::latency::Latencies;

const WIDTH: usize = 64;
const HEIGHT: usize = 12;

/// One mark per series.
const MARKS: [char; 2] = ['o', 'x'];

/// The scales of a plot: percentiles across, latency up.
#[derive(Debug)]
pub(super) struct Scale {
    /// How many nines the axis has: 3 is up to 99.9 %.
    pub(super) nines: f64,
    least: f64,
    most: f64,
}

impl Scale {
    /// That shows all the series; `None` if there is nothing to show.
    pub(super) fn of(series: &[(&str, &Latencies)]) -> Option<Self> {
        let count = series.iter().map(|(_, latencies)| latencies.count()).max()?;
        let least = series.iter().map(|(_, l)| l.at(0.0)).reduce(f64::min)?.max(0.1);
        let most = series.iter().map(|(_, l)| l.at(1.0)).reduce(f64::max)?;
        let nines = (count as f64).log10().ceil().clamp(1.0, 6.0);
        (count > 0).then_some(Self { nines, least, most: most.max(least * 1.1) })
    }

    /// The quantile at a place across, from 0 to 1.
    pub(super) fn quantile(&self, across: f64) -> f64 {
        1.0 - 10_f64.powf(-across * self.nines)
    }

    /// The place of a latency, from 0 to 1.
    pub(super) fn up(&self, micros: f64) -> f64 {
        let place = (micros.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        place.clamp(0.0, 1.0)
    }

    /// The latency at a place.
    pub(super) fn micros(&self, up: f64) -> f64 {
        self.least * (self.most / self.least).powf(up)
    }
}

/// A plot with its legend.
pub(super) fn terminal(series: &[(&str, &Latencies)]) -> String {
    let Some(scale) = Scale::of(series) else { return String::new() };
    let mut grid = [[' '; WIDTH]; HEIGHT];
    // The first series last, so that it stays visible where both are the same.
    for ((_, latencies), mark) in series.iter().zip(MARKS).rev() {
        let row_at = |column: usize| {
            let quantile = scale.quantile(column as f64 / (WIDTH - 1) as f64);
            let up = scale.up(latencies.at(quantile)) * (HEIGHT - 1) as f64;
            (HEIGHT - 1).saturating_sub(up.round() as usize)
        };
        (0..WIDTH).for_each(|column| grid[row_at(column)][column] = mark);
    }
    let mut text = String::new();
    for (row, cells) in grid.iter().enumerate() {
        let up = (HEIGHT - 1 - row) as f64 / (HEIGHT - 1) as f64;
        let label =
            if row % 3 == 0 || row == HEIGHT - 1 { time(scale.micros(up)) } else { String::new() };
        let line: String = cells.iter().collect();
        let _ = writeln!(text, "{label:>9} │{}", line.trim_end());
    }
    let _ = writeln!(text, "{:>9} └{}", "", "─".repeat(WIDTH));
    let mut axis = [' '; WIDTH + 10];
    for (place, label) in ticks(&scale) {
        let begin = (place * (WIDTH - 1) as f64).round() as usize;
        axis[begin..].iter_mut().zip(label.chars()).for_each(|(cell, c)| *cell = c);
    }
    let axis: String = axis.iter().collect();
    let _ = writeln!(text, "{:>11}{}", "", axis.trim_end());
    for ((name, _), mark) in series.iter().zip(MARKS) {
        let _ = writeln!(text, "{:>11}{mark} {name}", "");
    }
    text
}

/// Places across and their names: 0 %, 90 %, 99 %, 99.9 %, …
pub(super) fn ticks(scale: &Scale) -> Vec<(f64, String)> {
    (0..=scale.nines as usize)
        .map(|nines| {
            let label = match nines {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                _ => format!("99.{} %", "9".repeat(nines - 2)),
            };
            (nines as f64 / scale.nines, label)
        })
        .collect()
}
