//! Man pages and shell completions, made from a program's command line, for whoever packages it. In the feature `manual`.
//!
//! Both programs have a hidden subcommand `generate` that does this. One page for each subcommand, `gpuctl-submit.1`, as git has
//! them; completions under the names that the shells look for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The shells that completions are made for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// What to make, and where to put it.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct Generate {
    /// Write man pages into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    pub man: Option<PathBuf>,
    /// Write completions for bash, zsh and fish into this directory, likewise
    #[arg(long, value_name = "DIR")]
    pub completions: Option<PathBuf>,
}

/// A program to describe.
#[derive(Debug)]
pub struct Program {
    /// Its command line.
    pub command: Command,
    /// The section of the manual that it belongs to, `1` or `8`.
    pub section: &'static str,
    /// Pages to point to from the program's own.
    pub see_also: &'static [&'static str],
}

/// A file or a directory that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; name a directory that you may write to", path.display())]
pub struct NotWritten {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Generate {
    /// Writes what was asked for. Existing files are overwritten. The paths of the files, in order.
    ///
    /// # Errors
    /// [`NotWritten`] for the first file that could not be; those before it stay.
    pub fn run(&self, program: Program) -> Result<Vec<PathBuf>, NotWritten> {
        let Program { command, section, see_also } = program;
        let mut written = Vec::new();
        if let Some(directory) = &self.completions {
            create(directory)?;
            for shell in SHELLS {
                let name = command.get_name().to_owned();
                let path = clap_complete::generate_to(shell, &mut command.clone(), name, directory);
                written.push(path.map_err(|source| NotWritten { path: directory.clone(), source })?);
            }
        }
        if let Some(directory) = &self.man {
            create(directory)?;
            let mut command = command.disable_help_subcommand(true);
            command.build();
            pages(&command, section, see_also, &mut |name, bytes| {
                written.push(write(directory, name, &bytes)?);
                Ok(())
            })?;
        }
        written.sort();
        Ok(written)
    }
}

/// Writes one file into a directory; its path.
///
/// # Errors
/// [`NotWritten`].
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, NotWritten> {
    let path = directory.join(name);
    match fs::write(&path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(NotWritten { path, source }),
    }
}

fn create(directory: &Path) -> Result<(), NotWritten> {
    fs::create_dir_all(directory).map_err(|source| NotWritten { path: directory.to_owned(), source })
}

/// Takes a page by the name of its file.
type Write<'a> = dyn FnMut(&str, Vec<u8>) -> Result<(), NotWritten> + 'a;

/// The pages of a command and of all below it that are not hidden.
fn pages(command: &Command, section: &str, see_also: &[&str], write: &mut Write<'_>) -> Result<(), NotWritten> {
    let shown = || command.get_subcommands().filter(|below| !below.is_hide_set());
    let name = |of: &Command| of.get_display_name().unwrap_or(of.get_name()).to_owned();
    let below: Vec<_> = shown().map(|below| format!("{}({section})", name(below))).collect();
    let own = name(command);
    let file = format!("{own}.{section}");
    let all: Vec<_> = see_also.iter().map(|&page| page.to_owned()).chain(below).collect();
    let bytes = page(command, section, &all).map_err(|source| NotWritten { path: file.clone().into(), source })?;
    write(&file, bytes)?;
    let above = format!("{own}({section})");
    shown().try_for_each(|below| pages(below, section, &[&above], write))
}

/// One page. As [`Man::render`], but that what follows the help keeps its lines.
fn page(command: &Command, section: &str, see_also: &[String]) -> io::Result<Vec<u8>> {
    let source = concat!("gpusched ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).section(section).source(source).manual("gpusched");
    let mut bytes = Vec::new();
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut bytes)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut bytes)?;
    }
    let mut rest = Roff::new();
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    for paragraph in after.iter().flat_map(|text| text.split("\n\n")) {
        let (heading, text) = heading(paragraph);
        rest.control("SH", [heading.as_str()]);
        literal(&mut rest, text);
    }
    if !see_also.is_empty() {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([roman(see_also.join(", "))]);
    }
    rest.to_writer(&mut bytes)?;
    Ok(bytes)
}

/// The heading of a paragraph of help, from its first line if that ends with a colon.
fn heading(paragraph: &str) -> (String, &str) {
    match paragraph.split_once('\n') {
        Some((first, rest)) if first.ends_with(':') => {
            let end = first.find([':', '(', ',']).unwrap_or(first.len());
            (first[..end].trim().to_uppercase(), rest)
        }
        _ => ("NOTES".to_owned(), paragraph),
    }
}

/// Lines as they are.
fn literal(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// A page about a file that explains itself in its comments: it is quoted as a whole.
///
/// # Errors
/// None but those of a writer, and it writes to memory.
pub fn page_of_file(name: &str, summary: &str, about: &[&str], text: &str) -> io::Result<Vec<u8>> {
    let mut roff = Roff::new();
    roff.control("TH", [name, "5", "", "gpusched", "gpusched"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {summary}"))]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in about {
        roff.control("PP", []);
        roff.text([roman(*paragraph)]);
    }
    roff.control("SH", ["DEFAULTS AND WHAT THEY MEAN"]);
    literal(&mut roff, text);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("gpuschedd(8), gpuctl(1)")]);
    let mut bytes = Vec::new();
    roff.to_writer(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_come_from_the_help() {
        assert_eq!(heading("Exit codes:\n  0  done"), ("EXIT CODES".to_owned(), "  0  done"));
        assert_eq!(heading("JSON (--json), one a line:\n  x"), ("JSON".to_owned(), "  x"));
        assert_eq!(heading("Without it\nthere is none"), ("NOTES".to_owned(), "Without it\nthere is none"));
    }

    #[test]
    fn what_is_hidden_has_no_page_and_lines_stay_lines() {
        let command = Command::new("prog")
            .about("does things")
            .after_help("Exit codes:\n  0  done\n  1  not")
            .subcommand(Command::new("shown").about("is shown").subcommand(Command::new("deep").about("is deep")))
            .subcommand(Command::new("hidden").hide(true));
        let directory = tempfile::tempdir().expect("a directory");
        let generate =
            Generate { man: Some(directory.path().join("man")), completions: Some(directory.path().join("done")) };
        let written = generate.run(Program { command, section: "8", see_also: &["other(1)"] }).expect("written");
        let names: Vec<_> = written.iter().map(|path| path.file_name().expect("a name").to_string_lossy()).collect();
        assert_eq!(
            names,
            ["_prog", "prog.bash", "prog.fish", "prog-shown-deep.8", "prog-shown.8", "prog.8"],
            "{written:?}"
        );
        let text = fs::read_to_string(directory.path().join("man/prog.8")).expect("text");
        assert!(text.contains(".SH \"EXIT CODES\"\n.nf\n"), "{text}");
        assert!(text.contains("other(1), prog\\-shown(8)"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
    }
}
