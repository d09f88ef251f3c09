//! What the daemon has to do with systemd, where systemd started it. By hand it does without.
//!
//! | | where |
//! | --- | --- |
//! | sockets that are handed over when it starts | [`inherited`](Inherited) |
//! | what it says of itself while it runs: ready, reloading, stopping, a line of status | [`Manager`] |
//! | when it says that it still gets on | [`Pulse`] |
//!
//! The watchdog is fed by the driver's loop, after a turn of it or while it has nothing to do, and by nothing else: so a
//! driver that hangs is a daemon that is started again, whatever other threads do.

mod inherited;
mod notify;
mod pulse;

pub use inherited::{Control, Inherited, Listening, Origin};
pub use notify::Manager;
pub use pulse::{Due, Pulse};
