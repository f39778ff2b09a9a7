//! Clients that wait for jobs which are to end with them: how long ago they were heard of.
//!
//! Time counts while a client could have been heard: not while the store of high availability is away, since requests are refused then, nor
//! while this process was stopped. A leader that takes a job on gives its client the whole time again.

use super::shell::{Dispatcher, DispatcherInput};
use crate::error::ClusterError;
use crate::process::launch::JobLaunch;
use hurtig_core::config::{ConfigOption, ConfigValue, options};
use hurtig_core::ids::JobId;
use hurtig_core::time::Time;
use hurtig_kit::{Reply, ShellCx};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is looked who is silent.
const LOOK: Duration = Duration::from_millis(250);
/// What passes between two looks at the most, whatever the clock says.
const LONGEST: Duration = Duration::from_millis(500);
/// After how long a job is cancelled again that goes on all the same: its cancellation was not recorded.
const AGAIN: Duration = Duration::from_secs(5);

/// Clients of jobs that end with them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<JobId, Client>,
    last: Option<Time>,
}

#[derive(Debug)]
struct Client {
    /// How long it may be silent, unless it says itself until when.
    timeout: Duration,
    /// How much of that is left.
    left: Duration,
}

impl Clients {
    /// A job ends with its client, which may be silent for so long.
    fn expect(&mut self, job: JobId, timeout: Duration) {
        let left = timeout;
        self.clients.insert(job, Client { timeout, left });
    }

    /// A client is there, and will be heard of again within this time. Who waits for a job that goes on without him changes nothing.
    fn heard(&mut self, job: JobId, within: Option<Duration>) {
        if let Some(client) = self.clients.get_mut(&job) {
            client.left = within.unwrap_or(client.timeout);
        }
    }

    pub(super) fn forget(&mut self, job: JobId) {
        self.clients.remove(&job);
    }

    /// Time has passed, in which clients could be heard or not. The jobs whose clients are gone.
    fn look(&mut self, now: Time, heard: bool) -> Vec<JobId> {
        let passed = self.last.replace(now).map_or(Duration::ZERO, |last| {
            Duration::from_nanos(now.as_nanos().saturating_sub(last.as_nanos())).min(LONGEST)
        });
        if !heard {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (job, client) in &mut self.clients {
            client.left = client.left.saturating_sub(passed);
            if client.left.is_zero() {
                gone.push(*job);
                client.left = AGAIN;
            }
        }
        gone
    }

    /// Whether anybody has to look from now on.
    fn begins(&mut self, now: Time) -> bool {
        let begins = !self.clients.is_empty() && self.last.is_none();
        if begins {
            self.last = Some(now);
        }
        begins
    }

    /// Whether anybody has to go on looking.
    fn goes_on(&mut self) -> bool {
        if self.clients.is_empty() {
            self.last = None;
        }
        self.last.is_some()
    }
}

/// How long the client of a job may be silent, if the job is to end with it: as its submission says, and nobody else.
fn attached(launch: &JobLaunch) -> Option<Duration> {
    let is = |option| said(launch, option).unwrap_or(false);
    let ends = is(&options::ATTACHED) && is(&options::SHUTDOWN_ON_ATTACHED_EXIT);
    let timeout = &options::CLIENT_HEARTBEAT_TIMEOUT;
    ends.then(|| said(launch, timeout).unwrap_or_else(|| timeout.default_value()))
}

fn said<T: ConfigValue>(launch: &JobLaunch, option: &ConfigOption<T>) -> Option<T> {
    launch
        .config
        .get(option.key())
        .and_then(|text| option.parse(text))
}

impl Dispatcher {
    /// A job was submitted, or taken on.
    pub(super) fn expect_client(&mut self, job: JobId, launch: &JobLaunch, cx: &mut ShellCx<'_, Self>) {
        if let Some(timeout) = attached(launch) {
            self.clients.expect(job, timeout);
            if self.clients.begins(cx.now()) {
                cx.after(LOOK, DispatcherInput::LookAfterClients);
            }
        }
    }

    /// A client says that it is there.
    pub(super) fn heartbeat(&mut self, job: JobId, until_ms: Option<i64>) -> Result<(), ClusterError> {
        self.brain.status(job)?;
        let wall_ms = self.wall_ms;
        let within = until_ms.map(|until| {
            let within = u64::try_from(until.saturating_sub(wall_ms)).unwrap_or(0);
            Duration::from_millis(within)
        });
        self.clients.heard(job, within);
        Ok(())
    }

    pub(super) fn look_after_clients(&mut self, cx: &mut ShellCx<'_, Self>) {
        let processes = self.setup.processes.as_ref();
        let heard = !processes.is_some_and(|processes| processes.durable.is_suspended());
        for job in self.clients.look(cx.now(), heard) {
            tracing::warn!(%job, "nothing was heard of its client in time (client.heartbeat.timeout): it is cancelled");
            // Nobody waits for the answer; if it was in vain, it is tried again.
            let (answer, _) = Reply::new();
            match self.job(job) {
                Some(_) => self.write_cancel(job, answer, cx),
                None => self.cancel(job, answer, cx),
            }
        }
        if self.clients.goes_on() {
            cx.after(LOOK, DispatcherInput::LookAfterClients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId::from_u128(1);

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// When a job is given up, looking every 250 ms up to 10 s; `heard` says in which look clients can be heard.
    fn gone_at(clients: &mut Clients, from_ms: u64, heard: impl Fn(u64) -> bool) -> Option<u64> {
        let looks = (1..).map(|turn| from_ms + turn * 250);
        let mut looks = looks.take_while(|ms| *ms <= from_ms + 10_000);
        looks.find(|ms| !clients.look(at(*ms), heard(*ms)).is_empty())
    }

    fn expecting(timeout_ms: u64) -> Clients {
        let mut clients = Clients::default();
        clients.expect(JOB, Duration::from_millis(timeout_ms));
        assert!(
            clients.begins(at(0)) && !clients.begins(at(0)),
            "one timer is enough"
        );
        clients
    }

    #[test]
    fn a_silent_client_is_gone_after_its_time_and_one_that_is_heard_is_not() {
        let mut clients = expecting(2_000);
        assert_eq!(gone_at(&mut clients, 0, |_| true), Some(2_000));
        assert_eq!(
            gone_at(&mut clients, 2_000, |_| true),
            Some(7_000),
            "it is tried again"
        );
        let mut clients = expecting(2_000);
        for turn in 1..100 {
            assert_eq!(clients.look(at(turn * 250), true), []);
            clients.heard(JOB, None);
        }
        clients.heard(JOB, Some(Duration::from_millis(500)));
        assert_eq!(gone_at(&mut clients, 24_750, |_| true), Some(25_250));
        clients.forget(JOB);
        assert_eq!(gone_at(&mut clients, 30_000, |_| true), None);
        assert!(!clients.goes_on() && !clients.begins(at(40_000)));
    }

    #[test]
    fn time_in_which_nobody_can_be_heard_does_not_count() {
        let away = |ms: u64| !(500..5_000).contains(&ms);
        let mut clients = expecting(2_000);
        assert_eq!(gone_at(&mut clients, 0, away), Some(6_500));
        // Stopped for an hour, as its client may have been: half a second of that counts.
        let mut clients = expecting(2_000);
        assert_eq!(clients.look(at(3_600_000), true), []);
        assert_eq!(gone_at(&mut clients, 3_600_000, |_| true), Some(3_601_500));
    }

    #[test]
    fn who_says_when_it_will_be_heard_of_is_believed_and_strangers_are_not() {
        let mut clients = expecting(2_000);
        clients.heard(JOB, Some(Duration::ZERO));
        assert_eq!(clients.look(at(0), true), [JOB], "its time is over");
        let mut clients = Clients::default();
        clients.heard(JOB, Some(Duration::ZERO));
        assert!(!clients.begins(at(0)), "the job does not end with anybody");
        assert_eq!(clients.look(at(1_000), true), []);
    }

    #[test]
    fn a_job_ends_with_its_client_only_if_its_submission_says_both() {
        let of = |settings: &[(&str, &str)]| {
            let config = settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            attached(&JobLaunch {
                artifact: String::new(),
                args: Vec::new(),
                config: config.collect(),
                defaults: [
                    ("execution.attached".to_owned(), "true".to_owned()),
                    (
                        "execution.shutdown-on-attached-exit".to_owned(),
                        "true".to_owned(),
                    ),
                ]
                .into(),
                parallelism: None,
                graph: None,
            })
        };
        let (waits, ends) = (
            ("execution.attached", "true"),
            ("execution.shutdown-on-attached-exit", "true"),
        );
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[waits]), None);
        assert_eq!(of(&[ends]), None);
        assert_eq!(of(&[waits, ends]), Some(Duration::from_secs(180)));
        let timeout = ("client.heartbeat.timeout", "5 s");
        assert_eq!(of(&[waits, ends, timeout]), Some(Duration::from_secs(5)));
    }
}
