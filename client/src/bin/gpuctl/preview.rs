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
    let config = viuer::Config { absolute_offset: false, use_kitty: speaks_kitty(), ..viuer::Config::default() };
    viuer::print(&picture, &config).map(drop).map_err(|e| e.to_string())
}

/// True if the terminal says it is one that shows pictures the way kitty does. To ask it is no good: a terminal that does
/// not know the question never answers, and the asking never ends.
fn speaks_kitty() -> bool {
    std::env::var_os("KITTY_WINDOW_ID").is_some()
        || std::env::var("TERM").is_ok_and(|term| term.contains("kitty") || term.contains("ghostty"))
}
