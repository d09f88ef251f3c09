//! When heavy work makes way.

use gpusched_core::{Blame, Class, Effect, GateRule, Input, Plan, Policy};
use gpusched_shared::{Activity, JobId, Usage};

use crate::shell::{ANN, Shell, answers, ask, heavy_and_light, model, paint};

/// A fifth of the time is heavy work's, which is parked for at most 100 ms.
const RULE: GateRule = GateRule { min_share_milli: 200, window_ms: 100 };

fn plan() -> Plan {
    let heavy = Class { gate: Some(RULE), ..Class::new("heavy", 1) };
    heavy_and_light(heavy, Class { priority: 1, ..Class::new("light", 2) })
}

/// A heavy job that has begun.
fn shell_of(plan: Plan) -> (Shell, JobId) {
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let heavy = shell.submit(ANN, paint("m", 1));
    shell.start(heavy);
    shell.take_effects();
    (shell, heavy)
}

#[test]
fn the_gate_closes_before_the_light_job_begins_and_opens_after_the_last() {
    let (mut shell, heavy) = shell_of(plan());
    let first = shell.submit(ANN, ask("m"));
    let effects = shell.take_effects();
    let at = |which: &dyn Fn(&Effect) -> bool| effects.iter().position(which).expect("it is among them");
    let closes = at(&|effect| matches!(effect, Effect::Gate { class: 0, closed: true }));
    assert!(closes < at(&|effect| matches!(effect, Effect::Launch { job, .. } if *job == first)));
    shell.input(Input::Parked(heavy));
    let second = shell.submit(ANN, ask("m"));
    shell.run(first, 1);
    assert_eq!(shell.take_gates(), [], "it is closed while there is light work");
    shell.run(second, 1);
    assert_eq!(shell.take_gates(), [false]);
    shell.input(Input::Resumed(heavy));
    assert_eq!(shell.scheduler.refusals().collect::<Vec<_>>(), [(0, 0)]);
}

#[test]
fn waiting_for_weights_needs_no_way_made() {
    let (mut shell, _) = shell_of(plan());
    let light = shell.submit(ANN, ask("m"));
    assert_eq!(shell.take_gates(), [true]);
    shell.start(light);
    shell.input(Input::Progress(light, Activity::Loading { done: 0, of: 3 }));
    assert_eq!(shell.take_gates(), [false]);
    shell.input(Input::Progress(light, Activity::Loading { done: 3, of: 3 }));
    assert_eq!(shell.take_gates(), []);
    shell.input(Input::Progress(light, Activity::Working { done: 0, of: 1 }));
    assert_eq!(shell.take_gates(), [true]);
}

#[test]
fn a_result_on_its_way_to_the_store_needs_no_way_made_and_a_stopping_job_does() {
    let (mut shell, _) = shell_of(plan());
    let [stored, stopped] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.start(stored);
    shell.lanes.remove(&stored);
    shell.input(Input::Made(stored, Usage::default()));
    shell.input(Input::Cancel(stopped));
    assert_eq!(shell.take_gates(), [true]);
    shell.interrupt(stopped);
    assert_eq!(shell.take_gates(), [false]);
    shell.input(Input::Stored(stored, answers()));
    assert_eq!(shell.take_gates(), []);
}

#[test]
fn heavy_work_gets_its_share_of_a_flood() {
    let (mut shell, heavy) = shell_of(plan());
    let light = shell.submit(ANN, ask("m"));
    shell.start(light);
    shell.input(Input::Parked(heavy));
    shell.take_effects();
    shell.pass_us(99_999);
    assert_eq!(shell.take_gates(), []);
    shell.pass_us(1);
    assert_eq!(shell.take_gates(), [false], "parked for 100 ms in one go");
    shell.input(Input::Resumed(heavy));
    assert_eq!(shell.scheduler.refusals().collect::<Vec<_>>(), [(0, 1)]);
    // A tenth of 100 ms comes back in 2.5 ms.
    shell.pass_us(2_499);
    assert_eq!(shell.take_gates(), []);
    shell.pass_us(1);
    assert_eq!(shell.take_gates(), [true]);
}

#[test]
fn nothing_makes_way_for_its_equals() {
    let equal = heavy_and_light(Class { gate: Some(RULE), ..Class::new("heavy", 1) }, Class::new("light", 2));
    let without = heavy_and_light(Class::new("heavy", 1), Class { priority: 1, ..Class::new("light", 2) });
    for plan in [equal, without] {
        let (mut shell, _) = shell_of(plan);
        let light = shell.submit(ANN, ask("m"));
        shell.run(light, 1);
        assert_eq!(shell.take_gates(), []);
    }
}

#[test]
fn the_single_queue_has_no_gates() {
    let mut fifo = plan();
    fifo.policy = Policy::Fifo;
    let (mut shell, heavy) = shell_of(fifo);
    let light = shell.submit(ANN, ask("m"));
    shell.finish(heavy);
    shell.run(light, 1);
    assert_eq!(shell.take_gates(), []);
}

#[test]
fn a_fresh_engine_is_told_to_close_its_gate() {
    let (mut shell, _) = shell_of(plan());
    shell.submit(ANN, ask("m"));
    assert_eq!(shell.take_gates(), [true]);
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert_eq!(shell.take_gates(), [true]);
}
