//! Pictures in the terminal, as well as it can.

use std::io::{self, IsTerminal};

use image::ImageFormat;

/// Shows a PNG file on standard output, if that is a terminal.
///
/// # Errors
/// What went wrong, in words.
pub(crate) fn show(png: &[u8]) -> Result<(), String> {
    if !io::stdout().is_terminal() {
        return Ok(());
    }
    let picture = image::load_from_memory_with_format(png, ImageFormat::Png).map_err(|e| e.to_string())?;
    let config = viuer::Config { absolute_offset: false, ..viuer::Config::default() };
    viuer::print(&picture, &config).map(drop).map_err(|e| e.to_string())
}
