//! A disk that fails once, at any of the changes of a run; and a database that is locked for a while, which is no failure.

use gpusched_core::Ticket;
use gpusched_daemon::journal::{Query, Reply};
use gpusched_shared::{JobId, Rejection};
use tokio::sync::oneshot;

use crate::crash::{Promised, day};
use crate::station::{Station, directory, storage};
use crate::tape::{Event, Tape};

#[test]
fn a_disk_that_fails_stops_the_daemon_and_breaks_no_promise() {
    let root = directory();
    let whole = Tape::new(root.path(), None);
    day(&whole, root.path(), false).expect("nothing fails");

    let (mut failed, mut said) = (0, 0);
    for broken_at in 0..whole.changes() {
        let root = directory();
        let tape = Tape::new(root.path(), Some(broken_at));
        let lived = day(&tape, root.path(), false);
        failed += usize::from(tape.has_failed());
        said += usize::from(lived.is_err());
        let mut promised = Promised::default();
        for event in tape.events() {
            if let Event::Promise(promise) = event {
                promised.add(&promise);
            }
        }
        if let Err(wrong) = promised.compare(root.path(), false) {
            panic!("change {broken_at} failed, the daemon said {lived:?}: {wrong}");
        }
    }
    println!("{failed} failures of the disk, {said} of them stopped the daemon");
    // Others happen while a run ends, when all has been promised, or cost nothing but a leftover file.
    assert!(failed > 100 && said > failed / 2, "{said} of {failed}");
}

#[test]
fn a_database_that_is_locked_for_a_while_stops_nothing() {
    let root = directory();
    let tape = Tape::new(root.path(), None);
    let mut station = Station::open(root.path(), Some(&tape), &storage(1, 4096), 0).expect("opened");
    station.submit(1, "light", None).expect("no fault").expect("accepted");
    tape.set_locked(true);
    station.journal.ask(Query::KeyOf { ticket: Ticket(5), uid: 7, key: "key-1".to_owned() });
    let (reply, answer) = oneshot::channel();
    station.journal.ask(Query::Show(JobId(1), reply));
    assert!(answer.blocking_recv().is_err(), "nobody is told anything wrong");
    let refused = station.submit(2, "light", None).expect("locked, not broken").expect_err("not on record");
    assert!(matches!(refused, Rejection::Internal { .. }), "{refused}");
    tape.set_locked(false);
    let Reply::KeyOf { ticket: Ticket(5), found: Some((JobId(1), _)) } = station.reply().expect("not broken") else {
        panic!("the key is told when it can be read");
    };
    station.end(1, None).expect("all goes on");
}
