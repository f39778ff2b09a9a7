//! `/metrics`: everything that the cluster measures, as Prometheus reads it.

use crate::error::RestError;
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::web::Data;
use hurtig_reporters::{Snapshot, exposition};
use std::fmt::Write as _;

/// What the text is.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn metrics(state: Data<State>) -> Result<HttpResponse, RestError> {
    let snapshot = state.collector.collect().await?;
    let (mut text, left_out) = exposition(&snapshot.metrics, state.limits);
    text.push_str(&of_the_scrape(&snapshot, left_out));
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

/// What is said of the text itself: who did not answer, and what found no room.
fn of_the_scrape(snapshot: &Snapshot, left_out: u64) -> String {
    let mut text = String::new();
    let mut add = |name: &str, help: &str, values: &[(&str, String)]| {
        // Writing into a text cannot fail.
        let _ = write!(
            text,
            "# HELP hurtig_scrape_{name} {help}\n# TYPE hurtig_scrape_{name} gauge\n"
        );
        for (labels, value) in values {
            let _ = writeln!(text, "hurtig_scrape_{name}{labels} {value}");
        }
    };
    add(
        "duration_seconds",
        "How long the cluster was asked for what stands here",
        &[("", format!("{:?}", snapshot.took.as_secs_f64()))],
    );
    add(
        "silent",
        "Who did not answer in time, and is missing here",
        &[
            ("{of=\"job\"}", snapshot.silent_jobs.to_string()),
            ("{of=\"taskmanager\"}", snapshot.silent_task_managers.to_string()),
        ],
    );
    add(
        "left_out",
        "Metrics that found no room here, or no name that was not taken",
        &[("", left_out.to_string())],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_was_silent_is_said() {
        let snapshot = Snapshot {
            silent_jobs: 2,
            took: Duration::from_millis(250),
            ..Snapshot::default()
        };
        let text = of_the_scrape(&snapshot, 3);
        assert!(text.contains("# TYPE hurtig_scrape_silent gauge\n"), "{text}");
        assert!(text.contains("hurtig_scrape_silent{of=\"job\"} 2\n"), "{text}");
        assert!(text.contains("hurtig_scrape_duration_seconds 0.25\n"), "{text}");
        assert!(text.ends_with("hurtig_scrape_left_out 3\n"), "{text}");
    }
}
