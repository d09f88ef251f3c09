//! A disk that fails once, at any of the changes of a run.

use crate::crash::{Promised, day};
use crate::station::directory;
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
