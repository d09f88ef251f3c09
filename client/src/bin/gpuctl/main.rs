//! gpuctl: hands jobs to gpuschedd from a shell, and shows what becomes of them.
//!
//! Results go to standard output, everything else to standard error. `gpuctl --help` states the exit codes and the JSON
//! documents.
//!
//! Where to look: [`cli`] has the command line, [`commands`] what each command does but for [`submit`], for [`scheduling`]
//! (why and when a job runs), for [`doctor`] (what does not work, and what helps), for [`top`] (all of it, live) and for
//! [`handover`] (what gpuschedd does itself) and [`models`] (which it does with what only a client can ask), [`follow`] the watching of a job until it ends, [`render`] what things look
//! like, [`output`] where they go, [`failure`] errors and exit codes, [`save`] and [`png`] how a picture becomes a file,
//! [`quality`] how well pictures turn out, [`record`] what happened.

#![allow(rustdoc::bare_urls, reason = "the text of options is what --help prints, as it is")]

mod cli;
mod commands;
mod doctor;
mod failure;
mod follow;
mod handover;
mod models;
mod output;
mod png;
#[cfg(feature = "preview")]
mod preview;
mod quality;
mod record;
mod render;
mod save;
mod scheduling;
mod submit;
mod top;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::{Exit, Failure};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = Output { json: cli.global.json, quiet: cli.global.quiet };
    run(cli, &output).unwrap_or_else(|failure| failure.report(&output)).into()
}

fn run(cli: cli::Cli, output: &Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(commands::run(cli, output))
}
