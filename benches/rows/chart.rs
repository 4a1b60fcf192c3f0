//! The bar chart of P1 to P5 as SVG, readable on a light and on a dark page.
//!
//! Each row has its own scale, which begins at zero. The figure of each bar is written after it.

use std::fmt::Write as _;

use crate::{
    row::{Kind, Row},
    stats::number,
};

const WIDTH: f64 = 760.0;
/// The x coordinate where the bars begin (`LEFT`), and the length of the longest bar (`BAR_WIDTH`).
const LEFT: f64 = 170.0;
const BAR_WIDTH: f64 = 430.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const TITLE: f64 = 26.0;
const AXIS: f64 = 24.0;
const SPACE: f64 = 22.0;
/// The maximum number of parts of an axis.
const TICKS: f64 = 4.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-weight:600}\
.small{font-size:11px;fill:#57606a}\
.ours{fill:#0969da}.baseline{fill:#8c959f}.peer{fill:#bf8700}\
.grid{stroke:#d0d7de}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.small{fill:#9198a1}\
.ours{fill:#4493f8}.baseline{fill:#6e7681}.peer{fill:#d29922}\
.grid{stroke:#3d444d}}";

/// Draws the chart of the rows that have bars, and returns it as SVG.
pub(crate) fn draw(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut top = 12.0;
    for row in rows.iter().filter(|row| !row.bars.is_empty()) {
        top = panel(&mut body, row, top) + SPACE;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" role=\"img\" \
         aria-label=\"P1 to P5 as bars; the figures are in RESULTS.md\">\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// Draws one row and returns the y coordinate of its end.
fn panel(body: &mut String, row: &Row, top: f64) -> f64 {
    let mut line = |text: String| writeln!(body, "{text}").expect("a string can be written to");
    let (name, unit) = (row.name, row.unit);
    let title = plain(row.what);
    line(format!("<text class=\"title\" x=\"12\" y=\"{}\">{name}: {title}</text>", top + 14.0));
    let first = top + TITLE;
    let last = first + row.bars.len() as f64 * (BAR + GAP);
    let most = row.bars.iter().map(|bar| bar.figure).fold(0.0, f64::max);
    let step = step(most);
    let scale = BAR_WIDTH / most;
    let mut tick = 0.0;
    while tick <= most {
        let x = LEFT + tick * scale;
        line(format!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{first}\" x2=\"{x:.1}\" y2=\"{last}\"/>"));
        let text = if tick == 0.0 { "0".to_owned() } else { number(tick) };
        line(format!("<text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", last + 13.0));
        tick += step;
    }
    let end = WIDTH - 12.0;
    line(format!("<text class=\"small\" x=\"{end}\" y=\"{}\" text-anchor=\"end\">{unit}</text>", last + 13.0));
    for (place, bar) in row.bars.iter().enumerate() {
        let y = first + place as f64 * (BAR + GAP) + GAP / 2.0;
        let class = match bar.kind {
            Kind::Ours => "ours",
            Kind::Baseline => "baseline",
            Kind::Peer => "peer",
        };
        let (width, middle) = (bar.figure * scale, y + BAR - 5.0);
        let (label, figure) = (&bar.label, number(bar.figure));
        line(format!("<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0));
        line(format!(
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        ));
        line(format!("<text x=\"{:.1}\" y=\"{middle}\">{figure}</text>", LEFT + width + 6.0));
    }
    last + AXIS
}

/// Returns the smallest step of 1, 2 or 5 times a power of ten that divides the axis into at most [`TICKS`] parts.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / TICKS).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| most / step <= TICKS).unwrap_or(most)
}

/// Converts Markdown to XML text: removes backticks and escapes `&` and `<`.
fn plain(markdown: &str) -> String {
    markdown.replace('`', "").replace('&', "&amp;").replace('<', "&lt;")
}
