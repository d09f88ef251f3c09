//! gpuschedd's pages of the manual, and that of its configuration.

use gpusched_shared::manual::{Generate, Program, page_of_file, write};

/// The configuration as shipped: its comments are its documentation, so the page quotes it.
const SHIPPED: &str = include_str!("../../systemd/gpusched.toml");

/// Writes what was asked for.
///
/// # Errors
/// A directory or a file that cannot be written.
pub(crate) fn generate(what: &Generate, command: clap::Command) -> anyhow::Result<()> {
    what.run(Program { command, section: "8", see_also: &["gpuctl(1)", "gpusched.toml(5)"] })?;
    if let Some(directory) = &what.man {
        write(directory, "gpusched.toml.5", &configuration()?)?;
    }
    Ok(())
}

fn configuration() -> anyhow::Result<Vec<u8>> {
    let about = [
        "gpuschedd reads the file that --config names; as root, without that, /etc/gpusched/gpusched.toml if it exists. Options \
         of the command line come before what it says. A key that it does not know is an error, so that nothing is \
         misspelt in silence.",
        "`gpuschedd --check-config` says what is wrong with it, or prints all of it, the defaults included. `gpuctl doctor` \
         does the first of these, too.",
    ];
    Ok(page_of_file("gpusched.toml", "configuration of gpuschedd", &about, SHIPPED)?)
}
