//! A course in time as a plot of braille dots, one panel a series, all with the same axes.

use std::fmt::Write;

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Time (epoch ms) and value, in order of time.
    pub points: Vec<(i64, f64)>,
}

/// How a plot is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns of the whole plot, at least 40.
    pub columns: usize,
    /// Rows of each panel, at least 2.
    pub rows: usize,
}

/// The columns before the axis: a number such as `0.75` and a space.
const MARGIN: usize = 6;
/// Columns between ticks, at least.
const TICK_COLUMNS: usize = 9;

/// Draws the series below each other, over one range of time and values, with a time axis in UTC; empty without points.
#[must_use]
pub fn panels(series: &[Series], size: Size) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let Some(first) = points().map(|point| point.0).min() else { return String::new() };
    let last = points().map(|point| point.0).max().unwrap_or(first).max(first + 1);
    let (low, high) = value_range(points().map(|point| point.1));
    let columns = size.columns.max(40) - MARGIN - 1;
    let rows = size.rows.max(2);
    let mut plot = String::new();
    for series in series {
        let mut canvas = Canvas::new(columns, rows);
        for &(time, value) in &series.points {
            let x = (time - first) as f64 / (last - first) as f64;
            canvas.dot(x, (value - low) / (high - low));
        }
        canvas.connect();
        let _ = writeln!(plot, "{:MARGIN$} {}", "", series.name);
        for row in 0..rows {
            let label = match row {
                0 => format!("{high:.2}"),
                _ if row == rows - 1 => format!("{low:.2}"),
                _ => String::new(),
            };
            let _ = writeln!(plot, "{label:>width$} │{}", canvas.row(row).trim_end(), width = MARGIN - 1);
        }
    }
    plot + &time_axis(first, last, columns)
}

/// The values' range, widened to tenths.
fn value_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = ((low * 10.0).floor() / 10.0, (high * 10.0).ceil() / 10.0);
    if high > low { (low, high) } else { (low, low + 0.1) }
}

/// The axis line and, below it, times of day at ticks of round minutes.
fn time_axis(first: i64, last: i64, columns: usize) -> String {
    const STEPS: [i64; 14] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 360, 720, 1_440, 10_080];
    let column_of = |time: i64| ((time - first) as f64 / (last - first) as f64 * (columns - 1) as f64).round() as usize;
    let wanted = (last - first) * TICK_COLUMNS as i64 / columns as i64;
    let step = STEPS.into_iter().map(|minutes| minutes * 60_000).find(|step| *step >= wanted).unwrap_or(wanted);
    let mut line = vec!['─'; columns];
    let mut labels = String::new();
    let mut time = first + (-first).rem_euclid(step);
    while time <= last {
        let column = column_of(time);
        line[column] = '┬';
        if column + "08:00 UTC".len() <= columns {
            let minutes = time.div_euclid(60_000).rem_euclid(24 * 60);
            let _ = write!(labels, "{:1$}", "", column - labels.len());
            let _ = write!(labels, "{:02}:{:02}", minutes / 60, minutes % 60);
        }
        time += step;
    }
    let line: String = line.into_iter().collect();
    format!("{:MARGIN$}└{line}\n{:MARGIN$} {labels} UTC\n", "", "")
}

/// Dots in a grid of braille characters, two dots wide and four high each.
struct Canvas {
    columns: usize,
    rows: usize,
    /// The mean height of the points of each dot column (0 to 1).
    heights: Vec<(f64, u32)>,
    cells: Vec<u8>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, heights: vec![(0.0, 0); columns * 2], cells: vec![0; columns * rows] }
    }

    /// Adds a point, both coordinates from 0 to 1.
    fn dot(&mut self, x: f64, y: f64) {
        let column = ((x * (self.heights.len() - 1) as f64).round() as usize).min(self.heights.len() - 1);
        let (sum, count) = &mut self.heights[column];
        *sum += y.clamp(0.0, 1.0);
        *count += 1;
    }

    /// Sets the dots: one a column where there are points, joined vertically with those of the column before.
    fn connect(&mut self) {
        let top = self.rows * 4 - 1;
        let mut before: Option<usize> = None;
        for x in 0..self.heights.len() {
            let (sum, count) = self.heights[x];
            if count == 0 {
                continue;
            }
            let y = ((1.0 - sum / f64::from(count)) * top as f64).round() as usize;
            // Up to the neighbour's height, but not onto it: the line stays thin.
            let (from, to) = match before {
                Some(other) if other < y => (other + 1, y),
                Some(other) if other > y => (y, other - 1),
                _ => (y, y),
            };
            for y in from..=to {
                self.set(x, y);
            }
            before = Some(y);
        }
    }

    fn set(&mut self, x: usize, y: usize) {
        /// Unicode's order of the dots of a braille character, by row and column.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        self.cells[y / 4 * self.columns + x / 2] |= BITS[y % 4][x % 2];
    }

    fn row(&self, row: usize) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        cells.iter().map(|&bits| char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ')).map(blank).collect()
    }
}

/// An empty braille character is a space, so that lines can be trimmed and copied.
fn blank(character: char) -> char {
    if character == '\u{2800}' { ' ' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn falling_in_the_middle() -> Series {
        let value = |minute: i64| if (50..70).contains(&minute) { 0.2 } else { 0.7 };
        Series { name: "returning".to_owned(), points: (0..=120).map(|m| (8 * HOUR + m * 60_000, value(m))).collect() }
    }

    #[test]
    fn a_step_is_drawn_as_lines_at_both_heights() {
        let plot = panels(&[falling_in_the_middle()], Size { columns: 47, rows: 3 });
        let expected = [
            "       returning",
            " 0.70 │⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⢱      ⡏⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉",
            "      │                ⢸      ⡇",
            " 0.20 │                ⢸⣀⣀⣀⣀⣀⣀⠇",
            "      └┬─────────┬─────────┬────────┬─────────┬",
            "       08:00     08:30     09:00    09:30 UTC",
            "",
        ]
        .join("\n");
        assert_eq!(plot, expected);
    }

    #[test]
    fn no_line_is_wider_than_asked_and_every_series_has_its_panel() {
        let mut other = falling_in_the_middle();
        other.name = "new".to_owned();
        other.points.iter_mut().for_each(|point| point.1 = 0.66);
        let plot = panels(&[falling_in_the_middle(), other], Size { columns: 80, rows: 5 });
        assert!(plot.lines().all(|line| line.chars().count() <= 80), "{plot}");
        assert_eq!(plot.lines().count(), 2 * 6 + 2);
        assert!(plot.contains("returning\n") && plot.contains("new\n"));
    }

    #[test]
    fn without_points_there_is_no_plot() {
        assert_eq!(panels(&[Series { name: "new".to_owned(), points: Vec::new() }], Size { columns: 80, rows: 5 }), "");
    }
}
