//! Pictures that the engine dies of, and who is not to blame for it.

use gpusched_client::{Error, Picture, Rejection, img2img};

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::{assert_well, made, picture, quick, until_working};

#[test]
fn a_picture_that_kills_the_engine_is_refused_and_no_bystander_pays() {
    let more =
        "[engine]\nheartbeat_ms = 50\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n\n[faults]\ncrash_on_width = 13\n";
    let daemon = Daemon::start_with(&Setup { more, ..Setup::default() });
    let (client, other) = (daemon.client(), daemon.client());
    let job = client.submit(quick().steps(100), Vec::new(), false).expect("accepted");
    let poison = picture::png(13, 16, |_, _| [9, 9, 9]);
    let submit = || {
        let pictures = vec![Picture::from_bytes(&poison).expect("a memory file")];
        match other.submit(img2img("blue"), pictures, false) {
            Err(Error::Rejected(rejection)) => rejection,
            other => panic!("{other:?}"),
        }
    };
    until_working(&client, job);
    let refused = submit();
    assert!(matches!(&refused, Rejection::BadImage { reason, .. } if reason.contains("the engine died")), "{refused}");
    // The job may be to blame as far as anybody knows, so it runs alone, and no picture is looked at beside it.
    while client.show(job).expect("shown").attempts == 1 {}
    assert_eq!(submit(), Rejection::EngineDown);
    assert_eq!(made(&client, job).attempts, 2);
    assert!(matches!(submit(), Rejection::BadImage { .. }), "and once more, when it harms nobody");
    assert_well(&daemon);
}
