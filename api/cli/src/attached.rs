//! A job that ends with who waits for it: heartbeats while it is waited for, and its cancellation when that is interrupted.

use crate::client::Rest;
use crate::config::Layers;
use crate::failure::Failure;
use crate::say::{self, Answer};
use awc::http::Method;
use hurtig_core::config::options;
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// How long the answer to a heartbeat is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon one is sent again that was not heard, at the latest.
const AGAIN: Duration = Duration::from_secs(1);

/// What this command and its job are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// The job is left to itself.
    Detached,
    /// Its end is waited for, and it goes on without this command.
    Waits,
    /// The same, and it ends with this command, which says so often that it is there.
    EndsWith { interval: Duration },
}

impl Attachment {
    /// By the settings of the submission, over those of this machine. What the cluster has to know is among the former when this returns.
    ///
    /// # Errors
    /// When one of them is none, or the interval is not shorter than the timeout.
    pub(crate) fn of(settings: &mut BTreeMap<String, String>) -> Result<Self, Failure> {
        let own = [
            options::ATTACHED.key(),
            options::SHUTDOWN_ON_ATTACHED_EXIT.key(),
            options::CLIENT_HEARTBEAT_INTERVAL.key(),
            options::CLIENT_HEARTBEAT_TIMEOUT.key(),
        ];
        let said = own
            .iter()
            .filter_map(|key| Some(format!("{key}={}", settings.get(*key)?)));
        let config = Layers::of_environment().read(&said.collect::<Vec<_>>())?;
        if config.is_set(&options::ATTACHED) && !config.get(&options::ATTACHED) {
            settings.insert(options::ATTACHED.key().to_owned(), false.to_string());
            return Ok(Self::Detached);
        }
        if !config.get(&options::SHUTDOWN_ON_ATTACHED_EXIT) {
            return Ok(Self::Waits);
        }
        let (interval, timeout) = (
            config.get(&options::CLIENT_HEARTBEAT_INTERVAL),
            config.get(&options::CLIENT_HEARTBEAT_TIMEOUT),
        );
        if interval >= timeout {
            return Err(Failure::usage(format!(
                "{} ({interval:?}) is not shorter than {} ({timeout:?}): the job would be cancelled between two heartbeats",
                options::CLIENT_HEARTBEAT_INTERVAL.key(),
                options::CLIENT_HEARTBEAT_TIMEOUT.key()
            )));
        }
        for option in [&options::ATTACHED, &options::SHUTDOWN_ON_ATTACHED_EXIT] {
            settings.insert(option.key().to_owned(), true.to_string());
        }
        let millis = format!("{} ms", timeout.as_millis());
        settings.insert(options::CLIENT_HEARTBEAT_TIMEOUT.key().to_owned(), millis);
        Ok(Self::EndsWith { interval })
    }
}

/// Waits for the end of a job that ends with this command.
pub(crate) async fn wait(
    (rest, job): (&Rest, &str),
    interval: Duration,
    end: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    let mut end = pin!(end);
    let beats = beat(rest, job, interval);
    let mut beats = pin!(beats);
    tokio::select! {
        answer = &mut end => return answer,
        () = &mut beats => {}
        () = interrupted() => {}
    }
    say::progress("interrupted: cancelling the job, and waiting for its end; once more to leave it at that");
    let cancelled = timeout(PATIENCE, rest.send(Method::PATCH, &format!("/jobs/{job}"))).await;
    let left = |why: &str| {
        let failure = Failure::from(format!("job {job}: {why}"));
        failure.with_facts(json!({ "jobid": job }))
    };
    match cancelled {
        Ok(Ok(_)) => {}
        Ok(Err(failure)) => {
            // It may have ended by itself; then its end says how.
            tokio::select! {
                answer = &mut end => return answer,
                () = sleep(AGAIN) => return Err(left(&format!("interrupted, and not cancelled yet: {failure}"))),
            }
        }
        Err(_) => {
            return Err(left(
                "interrupted, and the jobmanager has not answered that it is cancelled",
            ));
        }
    }
    tokio::select! {
        answer = end => answer,
        () = interrupted() => Err(left("it is being cancelled, and its end was not waited for")),
    }
}

/// Says again and again that this command is there. Whether that was heard is no matter for who waits: he hears of the job itself.
async fn beat(rest: &Rest, job: &str, interval: Duration) {
    let path = format!("/jobs/{job}/clientHeartbeat");
    loop {
        let beat = timeout(PATIENCE, rest.send(Method::PATCH, &path)).await;
        let heard = matches!(beat, Ok(Ok(_)));
        sleep(if heard { interval } else { interval.min(AGAIN) }).await;
    }
}

/// Returns at Ctrl-C, and when the process is told to end.
async fn interrupted() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals = kinds.map(|kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Then the process ends by it, and the heartbeats with it.
            Err(_) => std::future::pending().await,
        }
    });
    let [interrupt, terminate, hangup] = signals;
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
        () = hangup => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> (Result<Attachment, Failure>, BTreeMap<String, String>) {
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut settings = settings.collect();
        (Attachment::of(&mut settings), settings)
    }

    #[test]
    fn the_cluster_is_told_what_the_settings_mean() {
        let (attachment, said) = of(&[("a", "b")]);
        assert_eq!(attachment.unwrap(), Attachment::Waits);
        assert_eq!((said.len(), &*said["a"]), (1, "b"));
        let detached = [
            ("execution.attached", "false"),
            ("execution.shutdown-on-attached-exit", "true"),
        ];
        assert_eq!(of(&detached).0.unwrap(), Attachment::Detached);
        let (attachment, said) = of(&[
            ("execution.shutdown-on-attached-exit", "true"),
            ("client.heartbeat.interval", "2 s"),
            ("client.heartbeat.timeout", "1 min"),
        ]);
        let interval = Duration::from_secs(2);
        assert_eq!(attachment.unwrap(), Attachment::EndsWith { interval });
        assert_eq!(said["execution.attached"], "true");
        assert_eq!(said["client.heartbeat.timeout"], "60000 ms");
    }

    #[test]
    fn an_interval_that_is_too_long_or_none_is_refused_before_anything_is_asked_for() {
        let ends = ("execution.shutdown-on-attached-exit", "true");
        let why = of(&[ends, ("client.heartbeat.interval", "3 min")]).0.unwrap_err();
        assert!(why.to_string().contains("client.heartbeat.timeout"), "{why}");
        let why = of(&[ends, ("client.heartbeat.timeout", "soon")]).0.unwrap_err();
        assert!(why.to_string().contains("client.heartbeat.timeout"), "{why}");
    }
}
