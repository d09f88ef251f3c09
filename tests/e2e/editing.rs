//! Edits of pictures, with the weights that are shipped: by stages, and by FLUX.2 alone.

use std::fs;

use gpusched_client::shared::{EditStep, Phase, StageRole, TaskKind};
use gpusched_client::{FailureKind, JobId, JobState, Outcome, Picture, Update, edit};
use gpusched_daemon::demo::checker::{Kind, find, shows};
use image::RgbImage;

use crate::harness::daemon::{Daemon, Home, Setup};
use crate::harness::programs::models;
use crate::harness::{assert_well, made, outcome, picture};

const BLUE_CIRCLE: (&str, Kind) = ("blue", Kind::Circle);

fn circle() -> Vec<Picture> {
    vec![Picture::from_bytes(&picture::red_circle()).expect("a memory file")]
}

fn decoded(png: &[u8]) -> RgbImage {
    image::load_from_memory(png).expect("a picture").to_rgb8()
}

/// The edited picture shows what it should, and nothing has changed where the mask, grown, is not.
fn assert_edited(png: &[u8], mask: &[u8]) {
    let (before, after, mask) = (decoded(&picture::red_circle()), decoded(png), decoded(mask));
    assert!(shows(&find(&after), &[BLUE_CIRCLE]), "{:?}", find(&after));
    let near = |x: u32, y: u32| {
        let rows = y.saturating_sub(3)..=(y + 3).min(mask.height() - 1);
        rows.into_iter()
            .any(|y| (x.saturating_sub(3)..=(x + 3).min(mask.width() - 1)).any(|x| mask.get_pixel(x, y).0 == [255; 3]))
    };
    let outside = before.enumerate_pixels().filter(|(x, y, _)| !near(*x, *y));
    assert!(outside.into_iter().all(|(x, y, pixel)| after.get_pixel(x, y) == pixel), "the rest is as it was");
}

#[test]
fn an_instruction_changes_what_it_names_and_nothing_else() {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("in.png"), picture::red_circle()).expect("written");
    let ended =
        daemon.gpuctl(&["submit", "edit", "in.png", "make the circle blue", "-o", "out.png", "--seed=1"]).expect(0);
    assert_eq!(ended.text(), "out.png\n");
    for said in ["detect (owlv2-tiny, ", "): found it at ", "segment (sam2-tiny, ", "inpaint (sd3-tiny, "] {
        assert!(ended.stderr.contains(said), "{said}\n{}", ended.stderr);
    }
    daemon.gpuctl(&["fetch", "1", "--round", "2", "-o", "mask.png"]).expect(0);
    let [out, mask] = ["out.png", "mask.png"].map(|name| fs::read(daemon.home().file(name)).expect("written"));
    assert_edited(&out, &mask);
    assert_eq!(picture::read(&out).texts["prompt"], "a blue circle");
    let shown = daemon.gpuctl(&["show", "1"]).expect(0);
    assert!(shown.text().contains("asks to    make the circle blue") && shown.text().contains("detect (owlv2-tiny, "));
    let why = daemon.gpuctl(&["fetch", "1", "--round", "1"]).expect(4);
    assert!(why.stderr.contains("a job whose stage 1 (detect) made none"), "{}", why.stderr);

    let client = daemon.client();
    let stages = client.stages(JobId(1)).expect("told");
    let told = stages.iter().map(|stage| (stage.role, stage.class.as_str(), stage.spec.task.kind()));
    let expected = [
        (StageRole::Detect, "light", TaskKind::Detect),
        (StageRole::Segment, "light", TaskKind::Segment),
        (StageRole::Inpaint, "heavy", TaskKind::Inpaint),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_well(&daemon);
}

#[test]
fn flux2_edits_by_itself() {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("in.png"), picture::red_circle()).expect("written");
    daemon
        .gpuctl(&["submit", "edit", "in.png", "make the circle blue", "--via", "flux2", "-o", "out.png", "--seed=1"])
        .expect(0);
    let out = fs::read(daemon.home().file("out.png")).expect("written");
    assert!(shows(&find(&decoded(&out)), &[BLUE_CIRCLE]));
}

#[test]
fn each_stage_can_be_asked_for_by_itself() {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("in.png"), picture::red_circle()).expect("written");
    let found = daemon.gpuctl(&["submit", "detect", "in.png", "a red circle", "--json"]).expect(0);
    let documents = found.documents();
    let area = &documents.last().expect("the result")["result"]["state"]["done"]["found"][0]["area"];
    let side = |name: &str| area[name].as_f64().unwrap_or_else(|| panic!("{name} of {area}")).to_string();
    let area = ["left", "top", "right", "bottom"].map(side).join(",");
    daemon.gpuctl(&["submit", "segment", "in.png", "--area", &area, "-o", "mask.png"]).expect(0);
    let args = ["submit", "inpaint", "in.png", "mask.png", "a blue circle", "-o", "out.png", "--seed=1"];
    daemon.gpuctl(&args).expect(0);
    let [out, mask] = ["out.png", "mask.png"].map(|name| fs::read(daemon.home().file(name)).expect("written"));
    assert_edited(&out, &mask);

    let score = |text: &str| -> f64 {
        let said = daemon.gpuctl(&["submit", "score", "out.png", text]).expect(0);
        said.text().trim().parse().expect("a number")
    };
    assert!(score("a blue circle") > score("a red circle"));
    let nothing = daemon.gpuctl(&["submit", "detect", "in.png", "a blue square"]).expect(0);
    assert!(nothing.text().is_empty() && nothing.stderr.contains("found nothing of the kind"), "{}", nothing.stderr);
}

#[test]
fn what_is_not_understood_or_not_there_is_said() {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("in.png"), picture::red_circle()).expect("written");
    let edit = |more: &[&str]| {
        let args = [&["submit", "edit", "in.png"], more].concat();
        daemon.gpuctl(&args)
    };
    let refused = edit(&["spruce it up"]).expect(4);
    assert!(
        refused.stderr.contains("instruction") && refused.stderr.contains("make the circle blue"),
        "{}",
        refused.stderr
    );
    let absent = edit(&["make the square blue"]).expect(1);
    assert!(absent.stderr.contains("nothing was found that \"square\" names"), "{}", absent.stderr);
    edit(&["spruce it up", "--target", "the circle", "--into", "a blue circle", "-o", "out.png", "--seed=1"]).expect(0);
    let out = fs::read(daemon.home().file("out.png")).expect("written");
    assert!(shows(&find(&decoded(&out)), &[BLUE_CIRCLE]));

    let client = daemon.client();
    let text = b"not a picture".as_slice();
    let refused = client.submit(edit_job(1), vec![Picture::from_bytes(text).expect("a memory file")], false);
    assert!(refused.is_err(), "{refused:?}");
}

fn edit_job(seed: u64) -> gpusched_client::spec::EditJob {
    edit("make the circle blue").seed(seed)
}

#[test]
fn a_daemon_that_dies_in_any_stage_goes_on_where_it_was() {
    let mut daemon = Daemon::start();
    let whole = {
        let client = daemon.client();
        let job = client.submit(edit_job(3), circle(), false).expect("accepted");
        made(&client, job);
        client.fetch_bytes(job).expect("fetched")
    };
    for step in EditStep::ALL {
        let client = daemon.client();
        // Many steps, so that the last stage can be seen.
        let job = client.submit(edit_job(3).steps(if step == EditStep::Inpaint { 200 } else { 28 }), circle(), false);
        let job = job.expect("accepted");
        for update in client.watch(job).expect("watched") {
            let update = update.expect("news");
            let is_there = matches!(update, Update::Editing { step: at, .. } if at == step)
                && !(step == EditStep::Inpaint && matches!(update, Update::Editing { phase: Phase::Waiting, .. }));
            // The first stages may be too fast to be seen; then it is killed later.
            if is_there || matches!(update, Update::Done(_)) {
                break;
            }
        }
        daemon = daemon.kill().start();
        let client = daemon.client();
        made(&client, job);
        let stages = client.stages(job).expect("told");
        assert_eq!(stages.len(), 3, "no stage was made twice: {stages:?}");
        if step != EditStep::Inpaint {
            assert_eq!(client.fetch_bytes(job).expect("fetched"), whole, "the same picture");
        }
    }
}

#[test]
fn an_edit_can_be_cancelled() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(edit_job(1).steps(500), circle(), false).expect("accepted");
    for update in client.watch(job).expect("watched") {
        if matches!(update.expect("news"), Update::Editing { step: EditStep::Inpaint, phase: Phase::Making { .. } }) {
            break;
        }
    }
    client.cancel(job).expect("cancelled");
    let view = client.wait(job).expect("waited for");
    assert_eq!(outcome(&view), &Outcome::Cancelled);
    assert_well(&daemon);
}

#[test]
fn models_are_swapped_in_a_partition_that_does_not_hold_all() {
    // Enough for each of the two models and its picture, and not while the other is in memory.
    let light = "partition = \"6700KiB\"\nlanes = 4\npriority = 10";
    let daemon = Home::new(&Setup { light, ..Setup::default() }).start();
    let client = daemon.client();
    for seed in 0..2 {
        let job = client.submit(edit_job(seed), circle(), false).expect("accepted");
        made(&client, job);
    }
    let left = daemon.log().matches("has left the memory for light").count();
    assert!(left >= 2, "segmenting drives the detector's model out each time: {left}\n{}", daemon.log());
}

#[test]
fn what_could_never_fit_is_refused_before_anything_is_made() {
    let heavy = "partition = \"4MiB\"\nnice = 10\nflush = \"before_each\"\ngate = \"block\"";
    let daemon = Home::new(&Setup { heavy, ..Setup::default() }).start();
    let client = daemon.client();
    let refused = client.submit(edit_job(1), circle(), false).expect_err("it does not fit").to_string();
    assert!(refused.contains("sd3-tiny") && refused.contains("heavy"), "{refused}");
    assert!(client.list(true, None, 10).expect("listed").is_empty());
}

#[test]
fn a_model_that_fails_fails_the_edit() {
    let home = Home::new(&Setup::default());
    let finder = home.file("models/aaa-finder");
    fs::create_dir(&finder).expect("a directory");
    for entry in fs::read_dir(models().join("owlv2-tiny")).expect("a directory") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, finder.join(path.file_name().expect("a name"))).expect("copied");
    }
    let daemon = home.start();
    // It was there when the daemon looked.
    fs::remove_file(finder.join("model.safetensors")).expect("removed");
    let client = daemon.client();
    let job = client.submit(edit_job(1), circle(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    assert!(
        matches!(&view.state, JobState::Done(Outcome::Failed { kind: FailureKind::Model, .. })),
        "{:?}",
        view.state
    );
}
