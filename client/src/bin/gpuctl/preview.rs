//! Pictures in the terminal: two pixels to a character cell, the upper half block in the colour of the one on the colour of
//! the other. Every terminal with 24-bit colours shows that, and none has to be asked what it can do. (The crates that also
//! speak kitty's or iTerm's protocol bring an LGPL library or a whole user interface with them.)

use std::fmt::Write;

use console::Term;
use image::imageops::FilterType;
use image::{ImageFormat, RgbImage};

use crate::failure::Failure;
use crate::output::Output;

/// Shows a PNG file on standard output, if that is a terminal; says so if it cannot be shown.
pub(crate) fn show(png: &[u8], output: &Output) -> Result<(), Failure> {
    let terminal = Term::stdout();
    if !terminal.is_term() {
        return Ok(());
    }
    match image::load_from_memory_with_format(png, ImageFormat::Png) {
        Ok(picture) => {
            let (rows, columns) = terminal.size();
            // Two lines are left for what comes before and after.
            let (width, height) = (u32::from(columns), 2 * u32::from(rows.saturating_sub(2)).max(1));
            let fits = picture.width() <= width && picture.height() <= height;
            let picture = if fits { picture } else { picture.resize(width, height, FilterType::Triangle) };
            output.text(&cells(&picture.to_rgb8()))
        }
        Err(e) => {
            output.note(&format!("no preview: {e}"));
            Ok(())
        }
    }
}

fn cells(picture: &RgbImage) -> String {
    let mut text = String::new();
    for top in (0..picture.height()).step_by(2) {
        for x in 0..picture.width() {
            let [r, g, b] = picture.get_pixel(x, top).0;
            // A String takes everything.
            let _ = match picture.get_pixel_checked(x, top + 1) {
                Some(below) => {
                    let [r2, g2, b2] = below.0;
                    write!(text, "\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀")
                }
                None => write!(text, "\x1b[49;38;2;{r};{g};{b}m▀"),
            };
        }
        text.push_str("\x1b[0m");
        if top + 2 < picture.height() {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_to_a_line_and_the_odd_one_alone() {
        let picture = RgbImage::from_fn(1, 3, |_, y| image::Rgb([y as u8; 3]));
        assert_eq!(cells(&picture), "\x1b[38;2;0;0;0;48;2;1;1;1m▀\x1b[0m\n\x1b[49;38;2;2;2;2m▀\x1b[0m");
    }
}
