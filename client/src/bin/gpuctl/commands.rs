//! What each command does, but for `submit` and those about the scheduler.

use clap::CommandFactory;
use gpusched_client::shared::manual::Program;
use gpusched_client::{Client, Error, JobId, JobState, JobView, Reconnect, Session, Task, default_socket};
use serde_json::{Value, json};

use crate::cli::{Cli, Command, Global, Target};
use crate::failure::{Exit, Failure};
use crate::follow::{conclude, follow};
use crate::output::Output;
use crate::render::progress::Progress;
use crate::{doctor, handover, models, quality, record, render, save, scheduling, submit, top};

/// Does what the command line says.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Submit(what) => return submit::run(*what, &global, output).await,
        Command::Watch { job, absence } => return watch(&global, job, absence.reconnect(), output).await,
        Command::Status => status(&connect(&global).await?, output).await?,
        Command::Jobs { limit, history: true, jobs, .. } => {
            history(&connect(&global).await?, jobs, limit, output).await?;
        }
        Command::Jobs { all, limit, history: false, .. } => jobs(&connect(&global).await?, all, limit, output).await?,
        Command::Show { job } => show(&connect(&global).await?, job, output).await?,
        Command::Fetch { job, round, target } => fetch(&global, job, round, &target, output).await?,
        Command::Explain { job } => scheduling::explain(&connect(&global).await?, job, output).await?,
        Command::Queue => scheduling::queue(&connect(&global).await?, output).await?,
        Command::Route { explain, job } => {
            scheduling::route(&connect(&global).await?, job.spec(), explain, output).await?;
        }
        Command::Quality(what) => quality::run(&connect(&global).await?, &what, output).await?,
        Command::Report(what) => record::report(&global, &what, output).await?,
        Command::Export(what) => record::export(&global, &what, output).await?,
        Command::SetPriority { job, priority } => {
            scheduling::set_priority(&connect(&global).await?, job, priority, output).await?;
        }
        Command::Pause { class } => scheduling::pause(&connect(&global).await?, &class, true, output).await?,
        Command::Resume { class } => scheduling::pause(&connect(&global).await?, &class, false, output).await?,
        Command::Drain { off } => scheduling::drain(&connect(&global).await?, !off, output).await?,
        Command::Top(options) => return top::run(&options, &global, output).await,
        Command::Doctor => return doctor::run(&global, output).await,
        Command::Models(arguments) => return Err(models::run(arguments, &global, output).await),
        Command::Plan(arguments) => return Err(handover::hand_over("plan", arguments, &global)),
        Command::Simulate(arguments) => return Err(handover::hand_over("simulate", arguments, &global)),
        Command::Journal(arguments) => return Err(handover::hand_over("journal", arguments, &global)),
        Command::Demo(arguments) => return Err(handover::hand_over("demo", arguments, &global)),
        Command::Experiment(arguments) => return Err(handover::hand_over("experiment", arguments, &global)),
        Command::Cancel { jobs } => return cancel(&connect(&global).await?, &jobs, output).await,
        Command::Completions { shell } => {
            // Into memory first: writing to a closed pipe would panic in there.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gpuctl", &mut script);
            output.bytes(&script)?;
        }
        Command::Generate(what) => {
            let see_also = &["gpuschedd(8)", "gpusched.toml(5)"];
            what.run(Program { command: Cli::command(), section: "1", see_also })?;
        }
    }
    Ok(Exit::Done)
}

/// Connects to the daemon the user means.
pub(crate) async fn connect(global: &Global) -> Result<Client, Error> {
    match &global.socket {
        Some(path) => Client::connect(path).await,
        None => Client::connect_default().await,
    }
}

/// Connects likewise, for as long as a job takes, whatever becomes of the daemon.
pub(crate) async fn connect_lasting(global: &Global, to: Reconnect, progress: &Progress) -> Result<Session, Error> {
    let aside = progress.aside();
    let socket = global.socket.clone().unwrap_or_else(default_socket);
    Session::connect(socket, to, move |notice| aside.tell(notice)).await
}

async fn status(client: &Client, output: &Output) -> Result<(), Failure> {
    print(&client.status().await?, output, render::status::full)
}

/// The newest jobs that are `wanted`, at most so many.
async fn newest(
    client: &Client,
    ended: bool,
    limit: u32,
    wanted: impl Fn(&JobView) -> bool,
) -> Result<Vec<JobView>, Error> {
    let mut jobs: Vec<JobView> = Vec::new();
    let (mut before, mut left) = (None, limit);
    // The daemon gives as many as fit in a frame.
    while left > 0 {
        let page = client.list(ended, before, left).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        jobs.extend(page.into_iter().filter(|job| wanted(job)));
        left = limit.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
    }
    Ok(jobs)
}

async fn show(client: &Client, job: JobId, output: &Output) -> Result<(), Failure> {
    let view = client.show(job).await?;
    if !matches!(view.spec.task, Task::Edit(_)) {
        return print(&view, output, render::job::full);
    }
    let stages = client.stages(job).await?;
    if output.json {
        let mut document = json!(view);
        document["stages"] = json!(stages);
        return output.document(&document);
    }
    output.text(&render::job::full(&view))?;
    stages.iter().filter_map(render::asked::stage).try_for_each(|line| output.text(&line))
}

async fn history(client: &Client, ids: Vec<JobId>, limit: u32, output: &Output) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    if ids.is_empty() {
        jobs = newest(client, true, limit, |job| matches!(job.state, JobState::Done(_))).await?;
    }
    for id in ids {
        jobs.push(client.show(id).await?);
    }
    let mut histories = Vec::new();
    for job in jobs {
        let attempts = client.history(job.id).await?;
        histories.push((job, attempts));
    }
    if output.json {
        let documents = histories.iter().map(|(job, attempts)| json!({ "job": job, "attempts": attempts }));
        output.document(&Value::Array(documents.collect()))
    } else if histories.is_empty() {
        output.note("no jobs that have ended");
        Ok(())
    } else {
        output.text(&render::history::list(&histories))
    }
}

async fn jobs(client: &Client, all: bool, limit: u32, output: &Output) -> Result<(), Failure> {
    let jobs = newest(client, all, limit, |_| true).await?;
    if output.json {
        output.document(&to_json(&jobs)?)
    } else if jobs.is_empty() {
        output.note(if all { "no jobs" } else { "no jobs that have not ended; --all shows those that have" });
        Ok(())
    } else {
        output.text(&render::job::list(&jobs, render::now_unix_ms()))
    }
}

async fn watch(global: &Global, job: JobId, reconnect: Reconnect, output: &Output) -> Result<Exit, Failure> {
    let progress = Progress::new(output);
    let session = connect_lasting(global, reconnect, &progress).await?;
    let view = follow(&mut session.attend(job), progress).await?;
    let exit = conclude(&view, output)?;
    if output.json {
        output.document(&json!({ "result": view }))?;
    } else if matches!(&view.state, JobState::Done(outcome) if outcome.blob().is_some()) {
        output.note(&format!("job {job} is done; get the picture with `gpuctl fetch {job}`"));
    }
    Ok(exit)
}

async fn fetch(
    global: &Global,
    job: JobId,
    round: Option<u8>,
    target: &Target,
    output: &Output,
) -> Result<(), Failure> {
    save::check(target, output)?;
    let client = connect(global).await?;
    let png = match round {
        Some(round) => client.fetch_round_bytes(job, round).await?,
        None => client.fetch_bytes(job).await?,
    };
    let blob = gpusched_client::BlobRef { hash: gpusched_client::BlobHash::of(&png), bytes: png.len() as u64 };
    match save::write(&png, job, round, target, output)? {
        Some(file) if output.json => output.document(&json!({ "blob": blob, "file": file.to_string_lossy() })),
        Some(file) => output.text(&file.display().to_string()),
        None => Ok(()),
    }
}

/// Cancels all it can; the first refusal decides how gpuctl ends.
async fn cancel(client: &Client, jobs: &[JobId], output: &Output) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for &job in jobs {
        match client.cancel(job).await {
            Ok(view) => print(&view, output, |view| format!("job {job}: {}", render::job::cancelled(view)))?,
            Err(refusal @ Error::Rejected(_)) => exit = Failure::from(refusal).report(output),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(exit)
}

/// What the daemon said, as JSON or in words.
pub(crate) fn print<T: serde::Serialize>(
    view: &T,
    output: &Output,
    words: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if output.json { output.document(&to_json(view)?) } else { output.text(&words(view)) }
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::System(e.into()))
}
