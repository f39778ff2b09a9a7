//! Stops, artifacts and blobs that nobody needs, over any store.

use crate::records::{claimed, job, pointer, result};
use crate::world::World;
use hurtig_core::ids::CheckpointId;
use hurtig_ha::blob::BlobDir;
use hurtig_ha::collect::{Collected, Collector, NotCollected};
use hurtig_ha::records::{
    ArtifactRecord, CheckpointPointer, Digest, DisposalRecord, Failure, FinalStatus, Intent, IntentOutcome,
    JobIntent, JobRecord, LeaderToken, PointerKind, Reclaim, Records, ResultRecord, TakenSavepoint,
    outcome_of,
};
use hurtig_kit::{BlockingPool, BlockingThreads};
use std::time::Duration;

/// Later than any file of a test is old.
const LATER: i64 = 4_000_000_000_000_000;

fn stop() -> JobIntent {
    JobIntent {
        trigger: "stop-1".to_owned(),
        intent: Intent::Stop {
            directory: None,
            drain: true,
            format: None,
        },
        asked_ms: 1,
    }
}

fn savepoint(id: u64) -> CheckpointPointer {
    CheckpointPointer {
        kind: PointerKind::Savepoint,
        location: "/s/savepoint-1".to_owned(),
        drain: true,
        ..pointer(id)
    }
}

/// The savepoint of a stop is recorded with the stop or not at all, and what comes of it follows from the job's end.
pub(crate) async fn a_stop_is_recorded_with_its_savepoint_and_ends_with_the_job(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    records.intend(&leader, one.job, &stop()).await.unwrap();
    let trigger = Some("stop-1");
    records.commit_checkpoint(&token, &pointer(1)).await.unwrap();
    let raised = records.raise_epoch(&leader, one.job).await.unwrap();
    // Who has lost the job says neither.
    let late = records.commit_stop(&token, trigger, &savepoint(2)).await;
    assert_eq!(late, Err(token.fenced()));
    assert_eq!(
        records.intent(one.job, "stop-1").await.unwrap().unwrap().taken,
        None
    );
    let token = records.claim(one.job, raised.epoch, "process 2").await.unwrap();
    for _ in 0..2 {
        records
            .commit_stop(&token, trigger, &savepoint(70))
            .await
            .unwrap();
    }
    assert_eq!(records.checkpoints(one.job).await.unwrap(), [savepoint(70)]);
    let asked = records.intent(one.job, "stop-1").await.unwrap().unwrap();
    let taken = TakenSavepoint {
        checkpoint: CheckpointId(70),
        location: "/s/savepoint-1".to_owned(),
    };
    assert_eq!((&asked.outcome, asked.taken.as_ref()), (&None, Some(&taken)));
    let ended = |status| Some(result(&one, status));
    assert_eq!(outcome_of(&asked, None), None, "it is under way");
    let done = outcome_of(&asked, ended(FinalStatus::Finished).as_ref()).unwrap();
    assert_eq!(done.location.as_deref(), Some("/s/savepoint-1"));
    let failed = outcome_of(&asked, ended(FinalStatus::Canceled).as_ref()).unwrap();
    assert!(failed.location.is_none() && failed.error.unwrap().contains("'/s/savepoint-1' is complete"));
    let never = hurtig_ha::records::IntentRecord { taken: None, ..asked };
    let never = outcome_of(&never, ended(FinalStatus::Finished).as_ref()).unwrap();
    assert!(never.location.is_none() && never.error.unwrap().contains("ended before"));
    // It is kept with the result, and goes with it.
    let finished = result(&one, FinalStatus::Finished);
    records.finish(&token, &finished, None).await.unwrap();
    records.clean_job(&leader, one.job).await.unwrap();
    assert!(records.intent(one.job, "stop-1").await.unwrap().is_some());
    let ended_ms = finished.ended_ms;
    assert_eq!(records.forget_intents(&leader, one.job, ended_ms).await, Ok(0));
    assert_eq!(
        records.forget_intents(&leader, one.job, ended_ms + 1).await,
        Ok(1)
    );
    assert!(records.intents(one.job).await.unwrap().is_empty());
}

pub(crate) async fn what_a_savepoint_cancels_is_not_forgotten_while_the_job_runs(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    claimed(&records, &leader, &one).await;
    for (trigger, cancel) in [("a", true), ("b", false)] {
        let asked = JobIntent {
            trigger: trigger.to_owned(),
            intent: Intent::Savepoint {
                directory: None,
                format: None,
                cancel,
            },
            asked_ms: 1,
        };
        records.intend(&leader, one.job, &asked).await.unwrap();
        let outcome = IntentOutcome {
            location: Some("/s/1".to_owned()),
            ..IntentOutcome::default()
        };
        // Whoever leads may say it where no JobMaster does.
        records
            .answer_intent(&leader, (one.job, trigger), &outcome)
            .await
            .unwrap();
    }
    assert_eq!(records.forget_intent(&leader, one.job, "a", 9).await, Ok(false));
    assert_eq!(records.forget_intent(&leader, one.job, "b", 9).await, Ok(true));
}

pub(crate) async fn artifacts_and_disposals_are_there_for_the_next_leader(world: &World) {
    let (records, old) = (world.records(), world.lead().await);
    let artifact = ArtifactRecord {
        name: "words".to_owned(),
        digest: Digest([3; 32]),
        uploaded_ms: 5,
    };
    let stored = records.before_storing(artifact.digest).await.unwrap();
    records
        .add_artifact(&old, ("a-1", &artifact), &stored)
        .await
        .unwrap();
    records
        .add_artifact(&old, ("a-1", &artifact), &stored)
        .await
        .unwrap();
    let path = records.add_artifact(&old, ("../x", &artifact), &stored).await;
    assert!(matches!(path, Err(Failure::Conflict(_))));
    let asked = DisposalRecord {
        path: "/s/1".to_owned(),
        asked_ms: 1,
        outcome: None,
    };
    records.intend_disposal(&old, "d", &asked).await.unwrap();
    let leader = world.lead().await;
    assert_eq!(records.artifact("a-1").await.unwrap(), Some(artifact.clone()));
    assert!(
        records
            .blobs_in_use()
            .await
            .unwrap()
            .named
            .contains(&artifact.digest)
    );
    let deposed = Failure::Deposed(old.term());
    assert_eq!(records.remove_artifact(&old, "a-1").await, Err(deposed.clone()));
    let outcome = IntentOutcome {
        at_ms: 7,
        ..IntentOutcome::default()
    };
    assert_eq!(records.answer_disposal(&old, "d", &outcome).await, Err(deposed));
    records.answer_disposal(&leader, "d", &outcome).await.unwrap();
    assert_eq!(records.disposals().await.unwrap()["d"].outcome, Some(outcome));
    assert_eq!(records.forget_disposal(&leader, "d", 7).await, Ok(false));
    assert_eq!(records.forget_disposal(&leader, "d", 8).await, Ok(true));
    assert_eq!(records.remove_artifact(&leader, "a-1").await, Ok(true));
    assert_eq!(records.remove_artifact(&leader, "a-1").await, Ok(false));
    let left = world.store.list(world.keys().root()).await.unwrap();
    let left: Vec<&str> = left.entries.iter().map(|entry| entry.key.last_part()).collect();
    assert_eq!(left, ["leader"], "no reference is left behind");
}

/// A directory of blobs, and who collects there.
struct House {
    dir: tempfile::TempDir,
    blobs: BlobDir,
    threads: BlockingThreads,
    pool: Option<BlockingPool>,
    records: Records,
}

impl Drop for House {
    fn drop(&mut self) {
        let pool = self.pool.take();
        // Closing waits, which this thread must not.
        std::thread::spawn(move || drop(pool)).join().unwrap();
    }
}

impl House {
    fn new(world: &World) -> Self {
        let (dir, pool) = (tempfile::tempdir().unwrap(), BlockingPool::new().unwrap());
        let blobs = BlobDir::open(dir.path()).unwrap();
        Self {
            dir,
            blobs,
            threads: pool.threads(),
            pool: Some(pool),
            records: world.records(),
        }
    }

    fn collector(&self, leader: &LeaderToken) -> Collector {
        Collector {
            records: self.records.clone(),
            leader: leader.clone(),
            blobs: self.blobs.clone(),
            threads: self.threads.clone(),
            grace: Duration::from_secs(3_600),
        }
    }

    async fn keep(&self, text: &str) -> Reclaim {
        let before = self
            .records
            .before_storing(Digest::of(text.as_bytes()))
            .await
            .unwrap();
        self.blobs.store(&mut text.as_bytes(), 1_000).unwrap();
        before
    }

    fn has(&self, text: &str) -> bool {
        let digest = Digest::of(text.as_bytes());
        self.blobs
            .read_all(digest)
            .is_ok_and(|bytes| bytes == text.as_bytes())
    }

    fn has_all(&self, texts: &[&str]) {
        texts
            .iter()
            .for_each(|text| assert!(self.has(text), "{text} is needed"));
    }
}

fn named(number: u8) -> JobRecord {
    JobRecord {
        artifact: Some(Digest::of(b"artifact")),
        graph: Digest::of(b"graph"),
        ..job(number, 0)
    }
}

/// From the upload to the last result that is forgotten: what is named is there, and what is not named any more goes.
pub(crate) async fn blobs_live_as_long_as_a_record_names_them(world: &World) {
    let (house, leader) = (House::new(world), world.lead().await);
    let (records, collector) = (&house.records, house.collector(&leader));
    let uploaded = house.keep("artifact").await;
    let artifact = ArtifactRecord {
        name: "a".to_owned(),
        digest: uploaded.digest(),
        uploaded_ms: 1,
    };
    records
        .add_artifact(&leader, ("a", &artifact), &uploaded)
        .await
        .unwrap();
    house.keep("half").await;
    assert_eq!(
        collector.collect(1).await.unwrap(),
        Collected::default(),
        "all are young"
    );
    let collected = collector.collect(LATER).await.unwrap();
    assert!(collected.deleted == 1 && !house.has("half"), "{collected:?}");
    let stored = [
        house.keep("graph").await,
        records.before_storing(uploaded.digest()).await.unwrap(),
    ];
    let one = named(1);
    records.submit_stored(&leader, &one, &stored).await.unwrap();
    // The list forgets the artifact, and the job does not.
    records.remove_artifact(&leader, "a").await.unwrap();
    collector.collect(LATER).await.unwrap();
    house.has_all(&["artifact", "graph"]);
    let raised = records.raise_epoch(&leader, one.job).await.unwrap();
    let token = records.claim(one.job, raised.epoch, "process 1").await.unwrap();
    let begun = house.keep("begun").await;
    let ends = ResultRecord {
        archive: Some(begun.digest()),
        ..result(&one, FinalStatus::Finished)
    };
    records.begin_end(&token, &ends, Some(&begun)).await.unwrap();
    collector.collect(LATER).await.unwrap();
    house.has_all(&["begun"]);
    let kept = house.keep("archive").await;
    let ended = ResultRecord {
        archive: Some(kept.digest()),
        ..result(&one, FinalStatus::Finished)
    };
    records.finish(&token, &ended, Some(&kept)).await.unwrap();
    collector.collect(LATER).await.unwrap();
    house.has_all(&["artifact", "graph", "archive"]);
    records.clean_job(&leader, one.job).await.unwrap();
    assert_eq!(collector.collect(LATER).await.unwrap().deleted, 3);
    assert!(!house.has("artifact") && !house.has("graph") && !house.has("begun"));
    house.has_all(&["archive"]);
    records.forget_job(&leader, one.job).await.unwrap();
    assert_eq!(collector.collect(LATER).await.unwrap().deleted, 1);
    assert!(!house.has("archive"));
    let tmp = house.dir.path().join("tmp");
    std::fs::write(tmp.join("half"), "x").unwrap();
    assert_eq!(collector.collect(1).await.unwrap().unfinished, 0);
    assert_eq!(collector.collect(LATER).await.unwrap().unfinished, 1);
    collector.collect(LATER * 2).await.unwrap();
    let left = world.store.list(&world.keys().blobs()).await.unwrap();
    assert!(
        left.entries.is_empty(),
        "nothing is remembered for ever: {left:?}"
    );
    assert!(house.blobs.list().unwrap().is_empty() && house.blobs.aside().unwrap().is_empty());
}

/// Records of a version that wrote no references name blobs all the same.
pub(crate) async fn a_blob_without_a_reference_that_a_record_names_is_kept(world: &World) {
    let (house, leader, one) = (House::new(world), world.lead().await, named(1));
    house.keep("artifact").await;
    house.keep("graph").await;
    house.records.submit(&leader, &one).await.unwrap();
    for digest in one.blobs() {
        let owner = format!("job-{}", one.job);
        house.records.release_blob(&leader, digest, &owner).await.unwrap();
    }
    house.collector(&leader).collect(LATER).await.unwrap();
    house.has_all(&["artifact", "graph"]);
}

/// At whichever step a leader is stopped, and wakes when another one leads: nothing is lost that is needed then.
pub(crate) async fn a_leader_that_wakes_too_late_deletes_nothing_that_is_needed(world: &World) {
    let (house, old) = (House::new(world), world.lead().await);
    house.keep("blob").await;
    let digest = Digest::of(b"blob");
    let asleep = house.collector(&old);
    // It has condemned the blob, checked it again, and compared its deadline: then it is stopped.
    let condemned = asleep.condemn(digest, 5).await.unwrap().unwrap();
    let leader = world.lead().await;
    let awake = house.collector(&leader);
    let owner = |before: Reclaim| {
        let (records, leader) = (&house.records, &leader);
        let artifact = ArtifactRecord {
            name: "a".to_owned(),
            digest,
            uploaded_ms: 1,
        };
        async move { records.add_artifact(leader, ("a", &artifact), &before).await }
    };
    let refused = house.records.before_storing(digest).await;
    assert!(
        matches!(refused, Err(Failure::Condemned(_))),
        "it is being deleted"
    );
    assert_eq!(awake.collect(LATER).await.unwrap().deleted, 1);
    assert!(!house.has("blob"));
    let again = house.keep("blob").await;
    owner(again).await.unwrap();
    let woken = asleep.carry_out(condemned, 9).await;
    assert!(
        matches!(
            woken,
            Err(NotCollected::Record(Failure::Changed(_) | Failure::Deposed(_)))
        ),
        "{woken:?}"
    );
    // It has been put aside by that, and nobody misses it.
    house.has_all(&["blob"]);
    assert!(house.blobs.list().unwrap().is_empty());
    let collected = awake.collect(LATER).await.unwrap();
    assert_eq!((collected.put_back, collected.deleted), (1, 0));
    house.has_all(&["blob"]);
    assert_eq!(house.blobs.list().unwrap().len(), 1);
    // What a dead leader has put aside and nobody needs goes in the end.
    house.records.remove_artifact(&leader, "a").await.unwrap();
    let condemned = awake.condemn(digest, 5).await.unwrap().unwrap();
    house.blobs.put_aside(&condemned, 5).unwrap().unwrap();
    let next = world.lead().await;
    house.collector(&next).collect(LATER).await.unwrap();
    assert!(!house.has("blob") && house.blobs.aside().unwrap().is_empty());
}

/// Whoever took a blob for present before it was condemned is refused, and does not run without it.
pub(crate) async fn a_job_whose_artifact_is_collected_meanwhile_is_not_taken_in(world: &World) {
    let (house, leader) = (House::new(world), world.lead().await);
    let looked = [house.keep("artifact").await, house.keep("graph").await];
    house.collector(&leader).collect(LATER).await.unwrap();
    let late = house.records.submit_stored(&leader, &named(1), &looked).await;
    assert!(matches!(late, Err(Failure::Condemned(_))), "{late:?}");
    assert!(house.records.jobs().await.unwrap().is_empty());
    let again = [house.keep("artifact").await, house.keep("graph").await];
    house
        .records
        .submit_stored(&leader, &named(1), &again)
        .await
        .unwrap();
    house.collector(&leader).collect(LATER).await.unwrap();
    house.has_all(&["artifact", "graph"]);
}
