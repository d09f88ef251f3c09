//! What `gpuctl report` makes, as a real browser shows it.

mod chromium;
mod synthetic;

use std::fs;
use std::path::Path;

use gpusched_client::report::{Record, html};

use chromium::{Browser, find};

/// Pictures of the page go here if that is wanted, to be looked at.
const PICTURES: &str = "GPUSCHED_SCREENSHOTS";

fn keep(name: &str, bytes: &[u8]) {
    if let Some(directory) = std::env::var_os(PICTURES) {
        fs::write(Path::new(&directory).join(name), bytes).expect("written");
    }
}

/// A page in a directory of its own.
fn page(record: &Record) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("report.html");
    fs::write(&file, html(record).expect("drawn")).expect("written");
    (directory, file)
}

/// The page is as wide as its window, whatever its tables are.
fn fits(browser: &mut Browser) {
    let widths = browser.value("[document.documentElement.scrollWidth, window.innerWidth]");
    assert_eq!(widths[0], widths[1], "something stands out of the page");
}

#[test]
fn a_browser_shows_every_mark_of_every_chart() {
    let Some(program) = find() else { return };
    let (_directory, file) = page(&synthetic::record());
    let mut browser = Browser::start(&program);
    browser.open(&file, 1400, "light");
    let mut is = |selector: &str, expected: u64| assert_eq!(browser.count(selector), expected, "{selector}");

    // Of four images three made way, one of them twice: eight pieces with five stays at the gate between them.
    is("#lanes svg.wide rect[fill='#1F3A6E']", 8);
    is("#lanes svg.wide rect[fill='#9DB2D6']", 4);
    // Six answers, and four stretches of time in which they ran inside images.
    is("#lanes svg.wide rect[fill='#D1343C']", 10);
    is("#lanes svg.narrow rect[fill='#1F3A6E']", 8);
    is("#latency svg rect[fill='#98A2B3']", 2);
    is("#latency svg:not(.swatch) rect[fill='#1F3A6E']", 1);
    is("#latency svg:not(.swatch) rect[fill='#D1343C']", 1);
    // Images, the picture of a round, answers: three kinds, two of which have a peak above their average.
    is("#stages svg.small rect[fill='#1F3A6E']", 2);
    is("#stages svg.small rect[fill='#D1343C']", 1);
    is("#stages svg.small rect[fill='#98A2B3']", 1);
    is("#outcomes svg.donut polygon", 3);
    is("#memory-0 svg.wide polygon[fill='#0E8A9E']", 3);
    is("#memory-0 svg.wide circle[stroke='#E06C00']", 1);
    is("#memory-0 svg.wide polyline[stroke='#7A8CA8']", 1);
    is("#memory-1 svg.wide polygon[fill='#D1343C']", 1);
    is("#memory-1 svg.wide polygon[fill='#0E8A9E']", 0);
    is("#trend svg.small circle[fill='#2E8B58']", 5);
    is("#trend svg.small circle[fill='#8FC7A6']", 5);
    is("#rounds article", 1);
    is("#rounds img", 2);
    is("#rounds .checks li", 4);
    is("#rounds .verdict.pass", 1);
    is("#published tbody tr", 6);
    is("#left-out li", 1);
    is("details", 7);
    is("script", 0);

    let title = browser.value("document.querySelector('#latency h2').textContent");
    assert!(title.as_str().is_some_and(|title| title.contains("10.6 times")), "{title}");
    let broken = browser.value("[...document.images].filter(image => image.naturalWidth == 0).length");
    assert_eq!(broken, 0, "every picture is one");
    let prompt = browser.value("document.querySelector('#rounds h3').textContent");
    assert!(prompt.as_str().is_some_and(|prompt| prompt.contains(synthetic::HOSTILE)), "{prompt}");
    assert_eq!(browser.value("document.title"), "gpusched: gpuschedd, made up", "prompts are text");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_page_is_light_and_dark_wide_narrow_and_on_paper() {
    let Some(program) = find() else { return };
    let (_directory, file) = page(&synthetic::record());
    let mut browser = Browser::start(&program);
    for (width, scheme) in [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")] {
        browser.open(&file, width, scheme);
        fits(&mut browser);
        let shown = |class| format!("getComputedStyle(document.querySelector('#lanes svg.{class}')).display");
        let expected = if width == 1400 { ["block", "none"] } else { ["none", "block"] };
        assert_eq!(["wide", "narrow"].map(|class| browser.value(&shown(class))), expected.map(|display| display));
        // Text in a chart is as large as it was made, or larger: nothing is shrunk to fit.
        let scale = browser.value(
            "Math.min(...[...document.querySelectorAll('svg[viewBox]')].filter(svg => svg.clientWidth > 0)
                .map(svg => svg.clientWidth / svg.viewBox.baseVal.width))",
        );
        assert!(scale.as_f64().is_some_and(|scale| scale > 0.85), "{width}: {scale}");
        let shot = browser.screenshot();
        keep(&format!("{width}-{scheme}.png"), &shot);
        let picture = image::load_from_memory(&shot).expect("a picture").to_rgb8();
        assert_eq!(picture.width(), width);
        let is_bright = picture.get_pixel(2, 2).0.iter().all(|&channel| channel > 128);
        assert_eq!(is_bright, scheme == "light");
        let navy = browser.value("getComputedStyle(document.querySelector('#lanes rect[fill=\"#1F3A6E\"]')).fill");
        assert_eq!(navy == "rgb(31, 58, 110)", scheme == "light", "{navy}");
    }
    // What is printed in the dark is light all the same.
    let paper = browser.print();
    keep("paper.pdf", &paper);
    assert!(paper.starts_with(b"%PDF"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_page_of_nothing_and_a_page_of_very_much_are_pages() {
    let Some(program) = find() else { return };
    let mut browser = Browser::start(&program);
    let nothing = Record { since_unix_ms: synthetic::BEGIN, until_unix_ms: synthetic::BEGIN, ..Record::default() };
    let (_directory, file) = page(&nothing);
    browser.open(&file, 400, "light");
    fits(&mut browser);
    assert_eq!(browser.count("#lanes svg"), 3, "two charts, and one swatch");

    let mut much = synthetic::record();
    let (span, job, sample) = (much.spans[5].clone(), much.jobs[6].clone(), much.memory[3].clone());
    let at = |n: u64| synthetic::BEGIN + n * synthetic::LENGTH / 20_000;
    much.spans = (0..20_000)
        .map(|n| {
            let (started_unix_ms, ended_unix_ms) = (at(n), Some(at(n) + 2));
            gpusched_client::shared::LaneSpan { started_unix_ms, ended_unix_ms, ..span.clone() }
        })
        .collect();
    much.jobs = vec![job; 20_000];
    much.memory =
        (0..20_000).map(|n| gpusched_client::shared::MemorySample { unix_ms: at(n), ..sample.clone() }).collect();
    let (_directory, file) = page(&much);
    let bytes = fs::metadata(&file).expect("written").len();
    assert!(bytes < 2_000_000, "{bytes} bytes");
    browser.open(&file, 1400, "light");
    fits(&mut browser);
    let marks = browser.count("#lanes svg.wide rect");
    assert!((1..=1040).contains(&marks), "{marks}");
    assert_eq!(browser.complaints(), [""; 0]);
}
