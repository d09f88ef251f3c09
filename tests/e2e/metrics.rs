//! Metrics, as Prometheus reads them from a daemon that works.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use gpusched_client::shared::Reflect;
use gpusched_client::{txt2img, vqa};

use crate::harness::daemon::{Daemon, Home, Setup};
use crate::harness::{long, made, metrics, picture, quick, until_working};

fn socket(home: &Home) -> std::path::PathBuf {
    home.file("metrics.sock")
}

#[test]
fn what_happens_is_counted() {
    let daemon = Daemon::start();
    let (client, socket) = (daemon.client(), socket(daemon.home()));
    let before = metrics::read(&socket);
    let accepted = r#"gpusched_jobs_accepted_total{class="heavy"}"#;
    let done = r#"gpusched_jobs_ended_total{class="heavy",outcome="done"}"#;
    assert_eq!((before.value(accepted), before.value(done)), (0.0, 0.0));
    assert!(before.value(r#"gpusched_self_success_ratio{when="first"}"#).is_nan(), "of nothing there is no share");

    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    let view = made(&client, job);
    let reflect = Reflect { rounds: Some(1), checks: Vec::new(), ..Reflect::default() };
    let job = client.submit(txt2img("a red circle").seed(1).steps(20).reflect(reflect), Vec::new(), false);
    let reflected = client.wait(job.expect("accepted")).expect("waited for");
    // What is seen as ended may be counted a moment later, but all that came before is.
    let after = metrics::read(&socket);
    assert_eq!((after.value(accepted), after.value(done)), (2.0, 2.0));
    assert_eq!(after.value(r#"gpusched_job_wait_seconds_count{class="heavy"}"#), 2.0);
    let busy = after.value(r#"gpusched_lane_busy_seconds_total{class="heavy",lane="heavy-0"}"#);
    assert!(busy * 1e6 >= view.run_us as f64 * 0.99, "{busy} s, of which job 1 had {} us", view.run_us);
    assert_eq!(after.value("gpusched_reflections_total"), 1.0);
    let passed = reflected.reflection.as_ref().expect("it reflects").verdict.expect("a verdict");
    let share = f64::from(u8::from(passed == gpusched_client::shared::Verdict::Pass));
    assert_eq!(after.value(r#"gpusched_self_success_ratio{when="final"}"#), share);
    assert_eq!(after.value(r#"gpusched_self_success_ratio{when="first"}"#), share, "there was one round");
    assert!(after.value("gpusched_journal_commit_seconds_count") >= 4.0);
    assert!(after.value(r#"gpusched_partition_reserved_bytes{class="heavy"}"#) > 0.0, "its model stays");
    assert!(after.value(r#"gpusched_flushes_total{class="heavy"}"#) >= 2.0, "before each heavy job");
    assert_eq!((after.value("gpusched_engine_up"), after.value("gpusched_engine_deaths_total")), (1.0, 0.0));

    // While it works: it is on its lane, and another waits.
    let heavy = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, heavy);
    let waits = client.submit(quick(), Vec::new(), false).expect("accepted");
    let during = metrics::read(&socket);
    assert_eq!(during.value(r#"gpusched_jobs_running{class="heavy"}"#), 1.0);
    assert_eq!(during.value(r#"gpusched_queue_depth{class="heavy"}"#), 1.0);
    let later = metrics::read(&socket);
    let lane = r#"gpusched_lane_busy_seconds_total{class="heavy",lane="heavy-0"}"#;
    assert!(later.value(lane) > during.value(lane), "time is counted while it passes");
    // It makes way for light work, unless that is over too soon.
    while metrics::read(&socket).value(r#"gpusched_parked_seconds_total{class="heavy"}"#) == 0.0 {
        let question = vqa("what color is the shape?");
        let light = client.submit(question, vec![picture::red_circle_file()], false).expect("accepted");
        client.wait(light).expect("waited for");
    }
    client.cancel(heavy).expect("cancelled");
    client.wait(heavy).expect("waited for");
    made(&client, waits);
    let end = metrics::read(&socket);
    assert_eq!(end.value(r#"gpusched_jobs_ended_total{class="heavy",outcome="cancelled"}"#), 1.0);
    let home = daemon.stop();
    assert!(!self::socket(&home).exists(), "nobody listens there");
}

#[test]
fn the_page_is_for_get_alone_and_may_be_elsewhere_or_nowhere() {
    let daemon = Daemon::start();
    let at = socket(daemon.home());
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("GET /jobs HTTP/1.1\r\n\r\n".to_owned(), "404"),
        (format!("GET /metrics HTTP/1.1\r\n{}", "x".repeat(4096 - 23)), "431"),
    ] {
        let answer = metrics::ask(&at, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    // Who says nothing keeps nobody else from reading.
    let _silent = std::os::unix::net::UnixStream::connect(&at).expect("somebody listens");
    metrics::read(&at);
    drop(daemon);
    let daemon = Daemon::start_with(&Setup { more: "[metrics]\nsocket = ''\n", ..Setup::default() });
    assert!(!socket(daemon.home()).exists());
    daemon.stop();
}

/// promtool, if it is there; in CI it must be.
fn promtool(args: &[&str], directory: &Path, input: &str) -> Option<()> {
    let program = std::env::var_os("GPUSCHED_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let skipped = format!(
                "promtool {} is not tried: {e}; it comes with Prometheus, or set GPUSCHED_PROMTOOL",
                args.join(" ")
            );
            assert!(std::env::var_os("CI").is_none(), "{skipped}");
            eprintln!("SKIPPED: {skipped}. With CI set this fails");
            return None;
        }
    };
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "promtool {}: {said:?}", args.join(" "));
    Some(())
}

fn monitoring() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/monitoring")
}

#[test]
fn the_page_is_as_prometheus_wants_it_and_rules_and_dashboard_ask_for_what_is_there() {
    let daemon = Daemon::start();
    let client = daemon.client();
    made(&client, client.submit(quick(), Vec::new(), false).expect("accepted"));
    let page = metrics::read(&socket(daemon.home()));
    promtool(&["check", "metrics"], &monitoring(), &page.text);

    // What a histogram is made of, and the histogram.
    let bases =
        page.names().map(|name| ["_bucket", "_sum", "_count"].iter().fold(name, |n, end| n.trim_end_matches(end)));
    let there: BTreeSet<&str> = page.names().chain(bases).collect();
    for file in ["alerts.yml", "alerts_test.yml", "dashboard.json"] {
        let text = fs::read_to_string(monitoring().join(file)).expect("it is there");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: BTreeSet<&str> =
            words.filter(|word| word.starts_with("gpusched_") || *word == "process_start_time_seconds").collect();
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}, which the daemon has not");
    }
    let dashboard = fs::read_to_string(monitoring().join("dashboard.json")).expect("it is there");
    let shown = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().fold(name, |name, end| name.trim_end_matches(end));
        dashboard.contains(base)
    };
    let hidden: Vec<_> = there.iter().filter(|name| !shown(name)).collect();
    assert!(hidden.is_empty(), "the dashboard does not show {hidden:?}");
}

#[test]
fn the_alerts_fire_where_they_should() {
    let checked = promtool(&["check", "rules", "alerts.yml"], &monitoring(), "");
    let played = promtool(&["test", "rules", "alerts_test.yml"], &monitoring(), "");
    assert_eq!(checked, played);
}
