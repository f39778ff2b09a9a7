//! The all-round job goes from one parallelism to another while its workers are killed; and follows TaskManagers that come and
//! go.

use super::Fault::{KillJobMaster, KillLeader, KillWorker};
use super::etcd_process::Etcd;
use super::{Fault, RATE, Trial};
use crate::stand::{Stand, sleep, until};
use hurtig_end_to_end::{Random, built_example, number};
use std::time::Duration;

/// Begins the job, and says its id.
pub(super) fn submit(trial: &Trial, (count, more): (u64, &[String]), settings: &[String]) -> String {
    println!("{settings:?}");
    let settings = settings
        .iter()
        .flat_map(|setting| ["-D".to_owned(), setting.clone()]);
    let job = [
        built_example("all_round").display().to_string(),
        trial.stand.path("out").display().to_string(),
        count.to_string(),
        RATE.to_string(),
    ];
    let args: Vec<String> = settings.chain(job).chain(more.iter().cloned()).collect();
    until("a submission", || {
        trial.stand.ask(&["run", "--detached"], &args).ok()
    });
    let (list, _) = until("a job", || trial.stand.json(&["list", "-a", "--output=json"]));
    list["jobs"][0]["jid"].as_str().unwrap().to_owned()
}

pub(super) fn settings(trial: &Trial, backend: &str, unaligned: bool) -> Vec<String> {
    let mut settings = vec![
        "parallelism.default=2".to_owned(),
        format!("state.backend.type={backend}"),
        "execution.checkpointing.interval=150ms".to_owned(),
        format!(
            "execution.checkpointing.dir={}",
            trial.stand.path("checkpoints").display()
        ),
        "restart-strategy.type=fixed-delay".to_owned(),
        "restart-strategy.fixed-delay.attempts=1000000".to_owned(),
        "restart-strategy.fixed-delay.delay=10ms".to_owned(),
    ];
    if unaligned {
        settings.extend([
            "execution.checkpointing.unaligned.enabled=true".to_owned(),
            "execution.checkpointing.aligned-checkpoint-timeout=0ms".to_owned(),
        ]);
    }
    settings
}

impl Stand {
    fn json(&self, args: &[&str]) -> Option<serde_json::Value> {
        serde_json::from_str(&self.ask(args, &[]).ok()?).ok()
    }

    /// The parallelism of the job's vertices, if it runs, and all of it.
    fn parallelisms(&self, job: &str) -> Option<Vec<u64>> {
        let known = self.json(&["show", "--output=json", job])?;
        let vertices = known["vertices"].as_array()?;
        let runs = vertices.iter().all(|vertex| {
            let tasks = &vertex["tasks"];
            // A reader without a split has finished.
            let begun = ["RUNNING", "FINISHED"].map(|state| tasks[state].as_u64().unwrap_or(0));
            Some(begun[0] + begun[1]) == vertex["parallelism"].as_u64()
        });
        let widths = vertices
            .iter()
            .filter_map(|vertex| vertex["parallelism"].as_u64());
        (runs && known["state"] == "RUNNING").then(|| widths.collect())
    }

    /// Waits until all vertices of the job run with so many subtasks.
    fn await_parallelism(&self, job: &str, wanted: u64) -> Duration {
        let what = format!("parallelism {wanted}");
        let ((), took) = until(&what, || {
            let state = self.state();
            assert!(
                !matches!(state.as_deref(), Some("FINISHED" | "FAILED" | "CANCELED")),
                "{what}: the job has {state:?}"
            );
            let all = self.parallelisms(job)?;
            all.iter().all(|width| *width == wanted).then_some(())
        });
        println!("{what} after {took:.1?}");
        took
    }
}

/// From 2 to each of these, with a process of this role killed at some moment of the change.
fn rescale(
    (backend, unaligned, seed): (&str, bool, u64),
    etcd: Option<Etcd>,
    changes: &[(u64, Option<Fault>)],
) {
    let _one = super::alone();
    println!("CHAOS_SEED={seed} {backend} unaligned={unaligned}");
    let mut trial = Trial::new(seed, etcd);
    let count = RATE * number("RESCALE_SECONDS", 60);
    let job = submit(&trial, (count, &[]), &settings(&trial, backend, unaligned));
    trial.stand.await_parallelism(&job, 2);
    for (wanted, fault) in changes.iter().copied() {
        let before = trial.stand.checkpoint();
        until("a checkpoint", || {
            (trial.stand.checkpoint() > before).then_some(())
        });
        let width = wanted.to_string();
        trial.stand.ask(&["rescale", "-p", &width, &job], &[]).unwrap();
        if let Some(fault) = fault {
            let pause = trial.millis(600);
            sleep(pause);
            trial.happen(fault);
        }
        trial.stand.await_parallelism(&job, wanted);
    }
    trial.end(count);
}

fn seed() -> u64 {
    number("CHAOS_SEED", u64::from(std::process::id()))
}

#[test]
fn nothing_is_lost_or_repeated_at_any_parallelism() {
    let mut random = Random::new(seed());
    let unaligned = random.below(2) == 1;
    let changes = [
        (4, None),
        (1, Some(KillWorker)),
        (3, Some(KillJobMaster)),
        (2, Some(KillWorker)),
    ];
    rescale(("hashmap", unaligned, seed()), None, &changes);
    rescale(("rocksdb", !unaligned, seed() + 1), None, &changes);
}

#[test]
fn a_change_goes_on_under_the_next_leader() {
    if let Some(etcd) = Etcd::start() {
        let changes = [
            (4, Some(KillLeader)),
            (1, Some(KillLeader)),
            (3, Some(KillJobMaster)),
        ];
        rescale(("hashmap", false, seed()), Some(etcd), &changes);
    }
}

#[test]
fn an_adaptive_job_follows_the_task_managers_that_there_are() {
    let _one = super::alone();
    let mut trial = Trial::new(seed(), None);
    let count = RATE * number("RESCALE_SECONDS", 60);
    let mut settings = settings(&trial, "hashmap", false);
    settings[0] = "parallelism.default=6".to_owned();
    settings.push("jobmanager.scheduler=adaptive".to_owned());
    let timing = [
        ("submission.resource-stabilization-timeout", "1s"),
        ("executing.resource-stabilization-timeout", "1s"),
        ("executing.cooldown-after-rescaling", "1s"),
    ];
    settings.extend(timing.map(|(key, value)| format!("jobmanager.adaptive-scheduler.{key}={value}")));
    // Two of the three TaskManagers are gone before it comes, two slots are left.
    trial.stand.remove(2);
    trial.stand.remove(1);
    let job = submit(&trial, (count, &[]), &settings);
    trial.stand.await_parallelism(&job, 2);
    trial.stand.add(1);
    trial.stand.await_parallelism(&job, 4);
    trial.stand.add(2);
    trial.stand.await_parallelism(&job, 6);
    trial.stand.remove(1);
    trial.stand.await_parallelism(&job, 4);
    trial.end(count);
}
