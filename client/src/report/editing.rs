//! A page about edits: the same ones made in several ways, beside each other. Like every report one file, without scripts, that asks for
//! nothing from anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::page::document;

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// What it is about, in a line.
    pub title: String,
    /// Where and how it was measured, in a line.
    pub subtitle: String,
    /// The ways that are compared.
    pub ways: Vec<String>,
    /// What was measured: a name, and what it came to in each way.
    pub rows: Vec<(String, Vec<String>)>,
    /// How good each way is in a respect.
    pub axes: Vec<Axis>,
    /// What follows, a sentence each.
    pub findings: Vec<String>,
    /// Some of the edits.
    pub examples: Vec<Example>,
}

/// A respect in which ways are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// What each way is worth in it, by the best of them: 0 to 1, more is better.
    pub worth: Vec<f64>,
}

/// An edit.
#[derive(Debug, Clone)]
pub struct Example {
    /// What was asked for.
    pub instruction: String,
    /// Pictures, PNG files, and what each is.
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// Half the width of the chart, in its own units, and the length of an axis.
const MIDDLE: f64 = 170.0;
const RADIUS: f64 = 110.0;
/// Rings at these shares of an axis.
const RINGS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// The page as an HTML file.
pub fn page(edits: &Edits) -> String {
    let body = html! {
        header { h1 { (edits.title) } p { (edits.subtitle) } }
        main {
            section {
                h2 { "Comparison" }
                (table(edits))
                ul { @for finding in &edits.findings { li { (finding) } } }
            }
            section {
                h2 { "By the better of the two" }
                p.note { "Outside is better: each axis is the better way's figure by this way's, or the other way round." }
                (radar(edits))
            }
            section { h2 { "Edits" } (gallery(&edits.examples)) }
        }
    };
    document(&edits.title, &body)
}

fn table(edits: &Edits) -> Markup {
    html! {
        table {
            thead { tr { th {} @for way in &edits.ways { th { (way) } } } }
            tbody { @for (name, values) in &edits.rows { tr { th { (name) } @for value in values { td { (value) } } } } }
        }
    }
}

/// Where a share of an axis lies.
fn at(index: usize, count: usize, share: f64) -> (f64, f64) {
    let angle = std::f64::consts::TAU * index as f64 / count.max(1) as f64;
    (MIDDLE + RADIUS * share * angle.sin(), MIDDLE - RADIUS * share * angle.cos())
}

fn outline(count: usize, share: impl Fn(usize) -> f64) -> String {
    let point = |index| {
        let (x, y) = at(index, count, share(index));
        format!("{x:.1},{y:.1}")
    };
    (0..count).map(point).collect::<Vec<_>>().join(" ")
}

fn radar(edits: &Edits) -> Markup {
    let count = edits.axes.len();
    let side = format!("0 0 {0:.0} {0:.0}", 2.0 * MIDDLE);
    let place = |index: usize| ["one", "two", "three"].get(index).copied().unwrap_or("three");
    html! {
        figure {
            svg.radar viewBox=(side) role="img" aria-label="radar chart" {
                @for ring in RINGS { polygon.ring points=(outline(count, |_| ring)) {} }
                @for (index, axis) in edits.axes.iter().enumerate() {
                    @let (x, y) = at(index, count, 1.0);
                    @let (label_x, label_y) = at(index, count, 1.22);
                    line.ring x1=(MIDDLE) y1=(MIDDLE) x2=(x) y2=(y) {}
                    text x=(label_x) y=(label_y) text-anchor="middle" { (axis.name) }
                }
                @for (index, _) in edits.ways.iter().enumerate() {
                    polygon class={ "way " (place(index)) }
                        points=(outline(count, |axis| edits.axes[axis].worth.get(index).copied().unwrap_or(0.0).clamp(0.0, 1.0))) {}
                }
            }
            figcaption {
                @for (index, way) in edits.ways.iter().enumerate() { span class={ "way " (place(index)) } { (way) " " } }
            }
        }
    }
}

fn gallery(examples: &[Example]) -> Markup {
    html! {
        @for example in examples {
            div.edit {
                h3 { (example.instruction) }
                div.rounds {
                    @for (what, png) in &example.pictures {
                        figure {
                            img src=(format!("data:image/png;base64,{}", STANDARD.encode(png))) alt=(what);
                            figcaption { (what) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_table_its_chart_and_its_pictures() {
        let edits = Edits {
            title: "edits <of> pictures".to_owned(),
            ways: vec!["stages".to_owned(), "alone".to_owned()],
            rows: vec![("latency".to_owned(), vec!["3 ms".to_owned(), "4 ms".to_owned()])],
            axes: (0..4).map(|n| Axis { name: format!("axis {n}"), worth: vec![1.0, 0.5] }).collect(),
            findings: vec!["stages are faster".to_owned()],
            examples: vec![Example {
                instruction: "make it blue".to_owned(),
                pictures: vec![("before".to_owned(), vec![1, 2]), ("after".to_owned(), vec![3])],
            }],
            ..Edits::default()
        };
        let page = page(&edits);
        assert!(page.contains("edits &lt;of&gt; pictures") && page.contains("<td>4 ms</td>"), "{page}");
        assert_eq!((page.matches("<polygon").count(), page.matches("<img").count()), (RINGS.len() + 2, 2));
        // Upwards first, then clockwise: the second way reaches half as far.
        assert!(page.contains("points=\"170.0,115.0 225.0,170.0 170.0,225.0 115.0,170.0\""), "{page}");
    }
}
