//! Charts of lines, as one SVG or one page, which open from disk without a network or scripts.

mod scale;

use std::fmt::Write as _;

use self::scale::Scale;
use super::escape::html;

/// Width of a drawing.
const WIDTH: f64 = 860.0;
/// Height of one panel.
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Height of a line of the legend.
const LEGEND: f64 = 20.0;
/// Points of a line that are drawn.
const POINTS_MAX: usize = 500;
/// Colours that are told apart; they repeat.
const COLOURS: usize = 8;
/// Colours of lines, in light and in dark; then ground, grid and text. What the page may do.
const STYLE: &str = include_str!("../assets/curves.css");
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A line of a panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is; lines with the same name have the same colour, and the legend has it once.
    pub name: String,
    /// Whether it is of a model on paper, and drawn dashed.
    pub theory: bool,
    /// Its points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// One drawing with axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What the horizontal axis is.
    pub across: String,
    /// Whether the vertical axis is logarithmic; what is not positive is left out then.
    pub logarithmic: bool,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Panels one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it is of.
    pub title: String,
    /// The figures, as text in columns; only the page has them.
    pub figures: String,
    /// The drawings.
    pub panels: Vec<Panel>,
}

/// Writes to a string.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all that is written");
}

impl Chart {
    /// The drawings as one SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let names = self.names();
        let legend = LEGEND * names.len() as f64 + 12.0;
        let height = HEIGHT * self.panels.len() as f64 + legend;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n",
            html(&self.title)
        );
        for (place, name) in names.iter().enumerate() {
            let y = 16.0 + LEGEND * place as f64;
            push(
                &mut out,
                format_args!(
                    "<path class=\"line c{}\" d=\"M{LEFT} {y}h26\"/>\
                     <text x=\"{}\" y=\"{}\">{}</text>\n",
                    place % COLOURS,
                    LEFT + 34.0,
                    y + 4.0,
                    html(name)
                ),
            );
        }
        for (place, panel) in self.panels.iter().enumerate() {
            let down = legend + HEIGHT * place as f64;
            push(&mut out, format_args!("<g transform=\"translate(0 {down})\">\n"));
            panel.draw(&names, &mut out);
            out.push_str("</g>\n");
        }
        out.push_str("</svg>\n");
        out
    }

    /// Drawings and figures as one page.
    #[must_use]
    pub fn page(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n\
             <style>\n{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n\
             <div class=\"frame\">\n{2}</div>\n<h2>Figures</h2>\n<pre>{3}</pre>\n</main>\n</body>\n\
             </html>\n",
            html(&self.title),
            super::STYLE,
            self.svg(),
            html(&self.figures)
        )
    }

    /// Names of the lines, each once.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for line in self.panels.iter().flat_map(|panel| &panel.lines) {
            if !names.contains(&line.name) {
                names.push(line.name.clone());
            }
        }
        names
    }
}

impl Panel {
    fn draw(&self, names: &[String], out: &mut String) {
        let drawn = |value: f64| !self.logarithmic || value > 0.0;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Scale::linear(points().map(|point| point.0));
        let values = points().map(|point| point.1).filter(|value| drawn(*value));
        let up = if self.logarithmic { Scale::logarithmic(values) } else { Scale::linear(values) };
        let x = |value: f64| LEFT + across.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - up.share(value)) * (HEIGHT - TOP - BOTTOM);
        push(
            out,
            format_args!(
                "<text class=\"title\" x=\"{LEFT}\" y=\"20\">{}</text>\n",
                html(&self.title)
            ),
        );
        for (mark, name) in up.marks() {
            let y = y(mark);
            push(
                out,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>\
                     <text class=\"quiet end\" x=\"{}\" y=\"{:.1}\">{name}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    y + 4.0
                ),
            );
        }
        let base = HEIGHT - BOTTOM;
        for (mark, name) in across.marks() {
            push(
                out,
                format_args!(
                    "<text class=\"quiet middle\" x=\"{:.1}\" y=\"{}\">{name}</text>\n",
                    x(mark),
                    base + 16.0
                ),
            );
        }
        push(
            out,
            format_args!(
                "<text class=\"quiet middle\" x=\"{}\" y=\"{}\">{}</text>\n",
                (LEFT + WIDTH - RIGHT) / 2.0,
                base + 34.0,
                html(&self.across)
            ),
        );
        for line in &self.lines {
            let place = names.iter().position(|name| *name == line.name);
            let colour = place.expect("every line has a name") % COLOURS;
            let dashed = if line.theory { " theory" } else { "" };
            push(out, format_args!("<path class=\"line c{colour}{dashed}\" d=\""));
            let shown: Vec<_> = line.points.iter().filter(|point| drawn(point.1)).collect();
            let every = shown.len().div_ceil(POINTS_MAX).max(1);
            let last = shown.len().saturating_sub(1);
            let picked = shown.iter().enumerate();
            let picked = picked.filter(|(place, _)| place % every == 0 || *place == last);
            for (place, point) in picked {
                let verb = if place == 0 { 'M' } else { 'L' };
                push(out, format_args!("{verb}{:.1} {:.1}", x(point.0), y(point.1)));
            }
            out.push_str("\"/>\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let line = |name: &str, theory, points: Vec<(f64, f64)>| Line {
            name: name.to_owned(),
            theory,
            points,
        };
        let many = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        Chart {
            title: "a <b> & c".to_owned(),
            figures: "x < y".to_owned(),
            panels: vec![
                Panel {
                    title: "share".to_owned(),
                    across: "rounds".to_owned(),
                    logarithmic: false,
                    lines: vec![
                        line("one", false, vec![(0.0, 1.0), (2.0, 0.5)]),
                        line("one", true, vec![(0.0, 1.0), (2.0, 0.0)]),
                        line("two", false, many),
                    ],
                },
                Panel {
                    title: "tail".to_owned(),
                    across: "rounds".to_owned(),
                    logarithmic: true,
                    lines: vec![line("one", false, vec![(0.0, 1.0), (1.0, 0.001), (2.0, 0.0)])],
                },
            ],
        }
    }

    #[test]
    fn a_page_is_one_file_and_text_stays_text() {
        let page = chart().page();
        assert!(page.contains("<h1>a &lt;b&gt; &amp; c</h1>") && page.contains("x &lt; y"));
        assert!(!page.contains("<script") && !page.contains("href"));
        let links = page.matches("http").count();
        // The namespace of SVG, and the name of the header that forbids everything else.
        assert_eq!(links, 2, "{page}");
    }

    #[test]
    fn lines_end_where_their_points_do() {
        let svg = chart().svg();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // Legend and line have one colour; the line of theory is dashed.
        assert_eq!(svg.matches("class=\"line c0\"").count(), 3);
        assert_eq!(svg.matches("class=\"line c0 theory\"").count(), 1);
        // The ends of a long line are there, and not all between.
        let long = svg.lines().rfind(|line| line.contains("class=\"line c1\""));
        let long = long.unwrap();
        assert!(long.matches('L').count() <= POINTS_MAX + 1);
        assert!(long.contains("M70.0 ") && long.contains("L840.0 ") || long.contains("L839."));
        // A logarithmic panel leaves out what is not positive: one step, from 1 down to 0.001.
        let tail = svg.lines().rfind(|line| line.contains("d=\"M") && line.contains("c0")).unwrap();
        assert_eq!(tail.matches('L').count(), 1, "{tail}");
    }
}
