//! `gpuctl report` and `gpuctl export`: what happened, as a page and as files for other programs.

use std::fs;
use std::path::Path;

use gpusched_client::Client;
use gpusched_client::report::{Record, ReportError, collect, html, table, trace};
use serde_json::json;

use crate::cli::{Export, Format, Global, Report, Stretch};
use crate::commands::connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::save::check_file;

/// Writes the page.
pub(crate) async fn report(global: &Global, what: &Report, output: &Output) -> Result<(), Failure> {
    check_file(&what.output, output)?;
    let client = connect(global).await?;
    let mut record = record(&client, &what.stretch).await?;
    if !what.no_pictures {
        collect::add_pictures(&client, &mut record).await?;
    }
    let page = html(&record).map_err(failed)?;
    write(&what.output, &page, output)
}

/// Writes a file for other programs.
pub(crate) async fn export(global: &Global, what: &Export, output: &Output) -> Result<(), Failure> {
    let file = what.output.as_deref();
    // Documents of two kinds on one output are of no use to anyone.
    check_file(file.unwrap_or(Path::new("-")), output)?;
    let record = record(&connect(global).await?, &what.stretch).await?;
    let text = match what.format {
        Format::ChromeTrace => trace::chrome(&record).map_err(failed)?,
        Format::Csv => table::csv(&record),
        Format::Jsonl => table::jsonl(&record).map_err(failed)?,
    };
    write(file.unwrap_or(Path::new("-")), &text, output)?;
    record.left_out.iter().for_each(|sentence| output.note(sentence));
    Ok(())
}

async fn record(client: &Client, stretch: &Stretch) -> Result<Record, Failure> {
    let now = render::now_unix_ms();
    let since = stretch.since.unix_ms(now);
    let until = stretch.until.map_or(now, |until| until.unix_ms(now));
    if until <= since {
        return Err(Failure::Usage("--until is not after --since, so there is no time between them".to_owned()));
    }
    Ok(collect::collect(client, since, until).await?)
}

fn write(file: &Path, text: &str, output: &Output) -> Result<(), Failure> {
    if file == Path::new("-") {
        return output.bytes(text.as_bytes());
    }
    fs::write(file, text).map_err(|source| Failure::Write { path: file.into(), source })?;
    if output.json {
        output.document(&json!({ "file": file.to_string_lossy() }))
    } else {
        output.text(&file.display().to_string())
    }
}

fn failed(error: ReportError) -> Failure {
    match error {
        ReportError::Client(error) => error.into(),
        other @ (ReportError::Chart { .. } | ReportError::Format { .. }) => {
            Failure::System(std::io::Error::other(other.to_string()))
        }
    }
}
