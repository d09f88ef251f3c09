//! Looking after the journal from the command line, beside a running daemon.

use std::fs;

use crate::harness::daemon::{Daemon, Ended, gpuschedd_command};
use crate::harness::{made, outcome, quick};

fn journal(args: &[&str]) -> Ended {
    Ended::of(gpuschedd_command(&[&["journal"], args].concat()))
}

#[test]
fn a_backup_is_whole_and_can_be_served_and_damage_is_found() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    let view = made(&client, job);
    let (state, copy) = (daemon.home().file("state"), daemon.home().file("copy"));
    let [state, copy] = [&state, &copy].map(|path| path.to_str().expect("text"));
    let well = journal(&["check", "--state-dir", state]).expect(0);
    assert!(well.text().contains("all is well"), "{}", well.text());
    journal(&["backup", copy, "--state-dir", state, "--quiet"]).expect(0);
    journal(&["check", "--state-dir", copy]).expect(0);
    let again = journal(&["backup", copy, "--state-dir", state]).expect(1);
    assert!(again.stderr.contains(copy), "{}", again.stderr);
    // gpuctl hands over.
    let told = daemon.gpuctl(&["--json", "journal", "check", "--state-dir", copy]).expect(0);
    assert_eq!(told.documents()[0]["jobs"], 1);

    // The copy is a state directory: a daemon serves from it what the first one made.
    let home = daemon.stop();
    fs::remove_dir_all(state).expect("removed");
    fs::rename(copy, state).expect("renamed");
    let daemon = home.start();
    assert_eq!(outcome(&daemon.client().show(job).expect("shown")), outcome(&view));
    let png = daemon.client().fetch_bytes(job).expect("fetched");
    let home = daemon.stop();

    let hash = outcome(&view).blob().expect("a picture").hash.to_string();
    let file = home.file("state").join("blobs").join(&hash[..2]).join(&hash);
    let mut damaged = png;
    damaged[100] ^= 1;
    fs::write(&file, damaged).expect("written");
    let found = journal(&["check", "--state-dir", state]).expect(1);
    let said = format!("{}{}", found.text(), found.stderr);
    assert!(said.contains(&hash) && said.contains("damaged") && said.contains(&format!("job {job}")), "{said}");
}
