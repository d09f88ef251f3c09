//! `gpuctl top`: the daemon and its jobs, live.
//!
//! [`state`] is what is on the screen and what each event makes of it, [`draw`] how that looks; both are pure. [`link`] asks the
//! daemon, by way of [`snapshot`]; [`terminal`] takes keys. The loop here only carries events in and orders out, and draws after
//! it has taken all the events there are: so a slow terminal sees fewer frames, not later ones.

mod draw;
mod link;
mod print;
mod snapshot;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;

use std::io::{self, IsTerminal};
use std::task::Poll;
use std::time::Duration;

use gpusched_client::{Client, default_socket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::link::{Link, Order};
use self::snapshot::Photographer;
use self::state::{Effect, Event, State};
use self::terminal::Screen;
use self::theme::Theme;
use crate::cli::{Global, Top};
use crate::commands::{connect, to_json};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Events that wait to be looked at, and orders that wait to be carried out.
const WAITING: usize = 32;
/// The width of a printed frame where nothing says how wide a line is.
const USUAL_WIDTH: u16 = 100;

/// Shows the daemon until the user has seen enough; prints one frame where there is no terminal, or if asked to.
pub(crate) async fn run(options: &Top, global: &Global, output: &Output) -> Result<Exit, Failure> {
    let client = connect(global).await?;
    let terminal = io::stdout().is_terminal();
    if output.json || options.once || !terminal {
        if !(output.json || options.once) {
            output
                .note("standard output is not a terminal: this is one frame (--once says the same without this line)");
        }
        return once(&client, terminal, output).await;
    }
    live(client, options.interval, global).await
}

async fn once(client: &Client, terminal: bool, output: &Output) -> Result<Exit, Failure> {
    let snapshot = Photographer::default().take(client).await?;
    if output.json {
        output.document(&to_json(&snapshot)?)?;
        return Ok(Exit::Done);
    }
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size = if terminal { ratatui::crossterm::terminal::size().ok() } else { None };
    let width = size.map(|(width, _)| width).or(columns).unwrap_or(USUAL_WIDTH);
    let mut state = State::new(Theme::PLAIN, false);
    state.update(Event::Seen(Box::new(snapshot)));
    output.text(&print::frame(&state, width.clamp(40, 1000)))?;
    Ok(Exit::Done)
}

async fn live(client: Client, every: Duration, global: &Global) -> Result<Exit, Failure> {
    // Before the screen is taken: if any of this fails, there is nothing to give back.
    let mut ends = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        ends.push(signal(kind).map_err(Failure::System)?);
    }
    let (events, mut happened) = mpsc::channel(WAITING);
    let (keys, mut typed) = mpsc::channel(WAITING);
    let (orders, ordered) = mpsc::channel(WAITING);
    let socket = global.socket.clone().unwrap_or_else(default_socket);
    tokio::spawn(Link { socket, every, orders: ordered, events }.run(client));

    let mut screen = Screen::take().map_err(Failure::System)?;
    terminal::read(keys);
    let mut state = State::new(Theme::of_environment(), true);
    loop {
        screen.terminal().draw(|frame| draw::draw(frame, &state)).map_err(Failure::System)?;
        let mut event = tokio::select! {
            () = any(&mut ends) => return Ok(Exit::Interrupted),
            Some(event) = happened.recv() => event,
            key = typed.recv() => match key {
                Some(key) => key,
                // The terminal is gone.
                None => return Ok(Exit::Interrupted),
            },
        };
        loop {
            if let Some(effect) = state.update(event) {
                let order = match effect {
                    Effect::Quit => return Ok(Exit::Done),
                    Effect::Cancel(job) => Order::Cancel(job),
                    Effect::SetPriority(job, to) => Order::SetPriority(job, to),
                };
                if orders.try_send(order).is_err() {
                    state.update(Event::Told("too many orders at once: this one was not given".to_owned()));
                }
            }
            match typed.try_recv().or_else(|_| happened.try_recv()) {
                Ok(next) => event = next,
                Err(_) => break,
            }
        }
    }
}

/// Waits for any of the signals.
async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let arrived = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if arrived { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
