//! What is known of a job beside what it has measured itself: its states, and its checkpoints.

use crate::machine::whole;
use hurtig_cluster::{CheckpointStatistics, JobOverview};
use hurtig_core::metrics::MetricValue;
use hurtig_dataflow::graph::JobStatus;

/// How long the job has been in its state, how long it has run, and for how long it has not. Of one that has ended: nothing.
pub fn of_availability(overview: &JobOverview, now_ms: i64) -> Vec<(String, MetricValue)> {
    if overview.status.is_globally_terminal() {
        return Vec::new();
    }
    let since = |from: Option<&i64>| from.map_or(0, |at| now_ms.saturating_sub(*at).max(0));
    let in_state = |status| {
        since(
            overview
                .entered
                .get(&status)
                .filter(|_| overview.status == status),
        )
    };
    let numbers = [
        ("initializingTime", in_state(JobStatus::Initializing)),
        ("createdTime", in_state(JobStatus::Created)),
        ("runningTime", in_state(JobStatus::Running)),
        ("restartingTime", in_state(JobStatus::Restarting)),
        ("cancellingTime", in_state(JobStatus::Cancelling)),
        ("failingTime", in_state(JobStatus::Failing)),
        ("uptime", in_state(JobStatus::Running)),
        ("downtime", since(out_of_order(overview).as_ref())),
    ];
    let named = numbers.map(|(name, number)| (name.to_owned(), MetricValue::Gauge(number)));
    named.into()
}

/// When the job left the state of running, in which it is not; `None`: it runs, or never has.
fn out_of_order(overview: &JobOverview) -> Option<i64> {
    let ran = *overview.entered.get(&JobStatus::Running)?;
    let left = overview.entered.iter().filter(|(status, at)| {
        **status != JobStatus::Running && **at >= ran && **status != JobStatus::Created
    });
    let left = left.map(|(_, at)| *at).min();
    left.filter(|_| overview.status != JobStatus::Running)
}

/// How many checkpoints there were, and what is known of the last one. What there was not yet is left out.
pub fn of_checkpoints(known: &CheckpointStatistics) -> Vec<(String, MetricValue)> {
    let counts = [
        ("totalNumberOfCheckpoints", known.triggered),
        ("numberOfInProgressCheckpoints", known.in_progress),
        ("numberOfCompletedCheckpoints", known.completed),
        ("numberOfFailedCheckpoints", known.failed),
    ];
    let mut named: Vec<(&str, MetricValue)> = counts.map(|(name, count)| (name, whole(count))).into();
    if let Some(last) = &known.last_checkpoint {
        let millis = u64::try_from(last.duration.as_millis()).unwrap_or(u64::MAX);
        let done = last
            .triggered_ms
            .saturating_add(i64::try_from(millis).unwrap_or(i64::MAX));
        named.extend([
            ("lastCheckpointDuration", whole(millis)),
            ("lastCheckpointSize", whole(last.written())),
            ("lastCompletedCheckpointId", whole(last.checkpoint.0)),
            ("lastCheckpointCompletedTimestamp", MetricValue::Gauge(done)),
        ]);
    }
    if let Some(restored) = &known.last_restored {
        named.push((
            "lastCheckpointRestoreTimestamp",
            MetricValue::Gauge(restored.restored_ms),
        ));
    }
    let owned = named.into_iter().map(|(name, value)| (name.to_owned(), value));
    owned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::JobId;

    fn overview(status: JobStatus, entered: &[(JobStatus, i64)]) -> JobOverview {
        JobOverview {
            job: JobId::from_u128(1),
            name: "job".to_owned(),
            status,
            entered: entered.iter().copied().collect(),
            start_ms: 0,
            end_ms: None,
        }
    }

    fn number(named: &[(String, MetricValue)], name: &str) -> Option<i64> {
        let (_, value) = named.iter().find(|(of, _)| of == name)?;
        match value {
            MetricValue::Gauge(number) => Some(*number),
            _ => None,
        }
    }

    #[test]
    fn a_job_is_in_one_state_and_up_or_down() {
        use JobStatus::{Created, Restarting, Running};
        let runs = of_availability(&overview(Running, &[(Created, 10), (Running, 100)]), 250);
        let known = [
            "runningTime",
            "uptime",
            "downtime",
            "restartingTime",
            "createdTime",
        ];
        assert_eq!(
            known.map(|name| number(&runs, name)),
            [Some(150), Some(150), Some(0), Some(0), Some(0)]
        );
        let restarts = overview(Restarting, &[(Created, 10), (Running, 100), (Restarting, 170)]);
        let restarts = of_availability(&restarts, 250);
        assert_eq!(
            known.map(|name| number(&restarts, name)),
            [Some(0), Some(0), Some(80), Some(80), Some(0)]
        );
        let again = [(Created, 10), (Restarting, 70), (Running, 100)];
        let again = of_availability(&overview(Running, &again), 250);
        assert_eq!(number(&again, "downtime"), Some(0));
        let over = of_availability(&overview(JobStatus::Finished, &[(Running, 100)]), 250);
        assert!(over.is_empty());
    }

    #[test]
    fn what_there_was_not_is_left_out() {
        let none = of_checkpoints(&CheckpointStatistics::default());
        assert_eq!(number(&none, "numberOfCompletedCheckpoints"), Some(0));
        assert_eq!(number(&none, "lastCheckpointDuration"), None);
        assert_eq!(none.len(), 4);
    }
}
