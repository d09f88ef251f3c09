//! Commands about the scheduler: why a job waits, what goes when, and what admins may change.

use gpusched_client::shared::{ClassView, JobSpec};
use gpusched_client::{Client, Error, JobId, Rejection, StatusView};

use crate::commands::{print, to_json};
use crate::failure::Failure;
use crate::output::Output;
use crate::render;

pub(crate) async fn explain(client: &Client, job: JobId, output: &Output) -> Result<(), Failure> {
    print(&client.explain(job).await?, output, render::explain::explanation)
}

pub(crate) async fn queue(client: &Client, output: &Output) -> Result<(), Failure> {
    let queue = client.queue().await?;
    if queue.is_empty() && !output.json {
        output.note("nothing runs and nothing waits");
        return Ok(());
    }
    print(&queue, output, |queue| render::queue::list(queue))
}

/// Says where a job would go; that no rule takes it is a refusal, as it would be for the job itself.
pub(crate) async fn route(client: &Client, spec: JobSpec, explain: bool, output: &Output) -> Result<(), Failure> {
    let task = spec.task.kind();
    let route = client.route(spec).await?;
    if output.json {
        output.document(&to_json(&route)?)?;
    } else if explain {
        output.text(&render::explain::route(&route))?;
    } else if let Some(class) = &route.class {
        output.text(&render::clean(class))?;
    }
    match route.class {
        Some(_) => Ok(()),
        None => Err(Error::from(Rejection::NoRoute { task: task.to_string() }).into()),
    }
}

pub(crate) async fn set_priority(client: &Client, job: JobId, to: i8, output: &Output) -> Result<(), Failure> {
    let view = client.set_priority(job, to).await?;
    print(&view, output, |view| {
        format!("job {job}: priority {}, {}", view.spec.priority, render::job::state(&view.state))
    })
}

pub(crate) async fn pause(client: &Client, class: &str, paused: bool, output: &Output) -> Result<(), Failure> {
    let status = if paused { client.pause(class).await? } else { client.resume(class).await? };
    print(&status, output, |status| {
        let jobs = status.classes.iter().find(|view| view.name == class).map(left).unwrap_or_default();
        let word = if paused { "is paused" } else { "takes jobs from its queue" };
        format!("class {} {word}: {jobs}", render::clean(class))
    })
}

pub(crate) async fn drain(client: &Client, on: bool, output: &Output) -> Result<(), Failure> {
    let status = client.drain(on).await?;
    print(&status, output, drained)
}

fn drained(status: &StatusView) -> String {
    if !status.draining {
        return "taking new jobs".to_owned();
    }
    let classes = status.classes.iter().map(|class| format!("class {}: {}", render::clean(&class.name), left(class)));
    std::iter::once("draining: no new jobs are taken".to_owned()).chain(classes).collect::<Vec<_>>().join("\n")
}

fn left(class: &ClassView) -> String {
    format!("{} waiting, {} running", class.queued, class.running)
}
