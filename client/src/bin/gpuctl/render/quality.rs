//! How well pictures turn out, in words and as numbers.

use std::time::Duration;

use gpusched_client::QualityView;
use gpusched_client::shared::{Success, TrendPoint};

use super::units::{moment, span};
use super::{clean, table};

/// A share of 0 to 1 in eighths.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Rates, rounds, checks and lane time; and the trend as two lines of bars.
pub(crate) fn full(view: &QualityView) -> String {
    let named = [("all".to_owned(), view.overall), (format!("last {}", view.window), view.recent)];
    let models = view.models.iter().map(|of| (format!("model {}", clean(&of.model)), of.success));
    let rows = named.into_iter().chain(models).map(|(name, success)| row(name, &success)).collect();
    let header = ["JOBS", "COUNT", "FIRST ROUND", "FINAL", "ROUNDS", "CHECKS", "MAKING", "CHECKING"];
    let legend = "FIRST ROUND and FINAL are self_success_rate: the share of jobs whose picture passed its checks, as the daemon's\n\
                  own judge answers them. ROUNDS, CHECKS, MAKING and CHECKING (lane time) are means per job.";
    let parts = [Some(table(&header, rows)), trend(&view.trend), Some(legend.to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn row(name: String, success: &Success) -> Vec<String> {
    let jobs = success.jobs.max(1);
    let mean = |count: u64| format!("{:.2}", count as f64 / jobs as f64);
    let took = |us: u64| span(Duration::from_micros(us / jobs));
    vec![
        name,
        success.jobs.to_string(),
        percent(success.first_rate()),
        percent(success.rate()),
        mean(success.rounds),
        mean(success.checks),
        took(success.image_us),
        took(success.check_us),
    ]
}

fn percent(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", 100.0 * rate))
}

/// Nothing if there are too few points to go anywhere.
fn trend(points: &[TrendPoint]) -> Option<String> {
    let [first, .., last] = points else { return None };
    let line = |name: &str, rate: fn(&Success) -> Option<f64>| {
        let bars: String = points.iter().map(|point| rate(&point.success).map_or(' ', bar)).collect();
        format!("{name:<11}  {bars}  {} to {}", percent(rate(&first.success)), percent(rate(&last.success)))
    };
    let heading = format!(
        "{} groups of jobs, the first until {}, the last until {}",
        points.len(),
        moment(first.until_unix_ms),
        moment(last.until_unix_ms)
    );
    Some([heading, line("first round", Success::first_rate), line("final", Success::rate)].join("\n"))
}

fn bar(rate: f64) -> char {
    BARS[((rate * BARS.len() as f64) as usize).min(BARS.len() - 1)]
}

/// The trend, one point a line, with a header. Without the last line break.
pub(crate) fn csv(trend: &[TrendPoint]) -> String {
    let rate = |rate: Option<f64>| rate.map(|rate| format!("{rate:.4}")).unwrap_or_default();
    let lines = trend.iter().map(|&TrendPoint { until_unix_ms, success }| {
        let Success { jobs, first_passed, passed, rounds, .. } = success;
        let (first_rate, rate) = (rate(success.first_rate()), rate(success.rate()));
        format!("{until_unix_ms},{jobs},{first_passed},{passed},{rounds},{first_rate},{rate}")
    });
    let header = "until_unix_ms,jobs,first_passed,passed,rounds,first_rate,rate".to_owned();
    std::iter::once(header).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use gpusched_client::shared::ModelSuccess;

    use super::*;

    fn success(jobs: u64, first_passed: u64, passed: u64) -> Success {
        Success {
            jobs,
            first_passed,
            passed,
            rounds: 3 * jobs / 2,
            checks: 9 * jobs / 2,
            image_us: 720_000 * jobs,
            check_us: 45_500 * jobs,
        }
    }

    fn view() -> QualityView {
        let point = |n: u64, first_passed, passed| TrendPoint {
            until_unix_ms: 1_795_362_071_000 + n * 60_000,
            success: success(10, first_passed, passed),
        };
        QualityView {
            overall: success(40, 24, 36),
            recent: success(10, 8, 10),
            window: 10,
            models: vec![ModelSuccess { model: "flux".to_owned(), success: success(40, 24, 36) }],
            trend: vec![point(0, 3, 7), point(1, 5, 9), point(2, 8, 10), point(3, 8, 10)],
        }
    }

    #[test]
    fn rates_and_their_trend_fit_on_a_screen() {
        let expected = "\
JOBS        COUNT  FIRST ROUND  FINAL    ROUNDS  CHECKS  MAKING  CHECKING
all         40     60.0 %       90.0 %   1.50    4.50    720 ms  45.5 ms
last 10     10     80.0 %       100.0 %  1.50    4.50    720 ms  45.5 ms
model flux  40     60.0 %       90.0 %   1.50    4.50    720 ms  45.5 ms

4 groups of jobs, the first until 2026-11-22 15:41:11 UTC, the last until 2026-11-22 15:44:11 UTC
first round  ▃▅▇▇  30.0 % to 80.0 %
final        ▆███  70.0 % to 100.0 %

FIRST ROUND and FINAL are self_success_rate: the share of jobs whose picture passed its checks, as the daemon's
own judge answers them. ROUNDS, CHECKS, MAKING and CHECKING (lane time) are means per job.";
        assert_eq!(full(&view()), expected);
    }

    #[test]
    fn one_point_is_no_trend_and_no_job_no_rate() {
        let mut view = view();
        view.trend.truncate(1);
        view.recent = Success::default();
        let text = full(&view);
        assert!(text.contains("\nlast 10     0      -            -       0.00    0.00    0 ms    0 ms\n"), "{text}");
        assert!(!text.contains("until"), "{text}");
    }

    #[test]
    fn the_trend_is_data() {
        let mut trend = view().trend;
        trend.truncate(1);
        trend.push(TrendPoint { until_unix_ms: 9, success: Success::default() });
        let expected = "\
until_unix_ms,jobs,first_passed,passed,rounds,first_rate,rate
1795362071000,10,3,7,15,0.3000,0.7000
9,0,0,0,0,,";
        assert_eq!(csv(&trend), expected);
        assert_eq!(csv(&[]), "until_unix_ms,jobs,first_passed,passed,rounds,first_rate,rate");
    }

    #[test]
    fn bars_go_from_none_to_all() {
        assert_eq!([0.0, 0.5, 0.999, 1.0].map(bar), ['▁', '▅', '█', '█']);
    }
}
