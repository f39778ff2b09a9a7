//! Typed records, over any store.

use crate::world::World;
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_ha::kv::Change;
use hurtig_ha::records::{
    CheckpointPointer, Cleanup, DeploymentRecord, Digest, Epoch, EpochToken, Failure, FinalStatus,
    InitialRestore, Intent, IntentOutcome, JobIntent, JobRecord, LeaderToken, PointerKind, Records,
    ResultRecord, Submission,
};
use std::collections::BTreeMap;

pub(crate) fn job(number: u8, graph: u8) -> JobRecord {
    JobRecord {
        job: JobId::from_u128(u128::from(number)),
        name: format!("job {number}"),
        artifact: Some(Digest([1; 32])),
        graph: Digest([graph; 32]),
        restore: InitialRestore::default(),
        requirements: BTreeMap::new(),
        submitted_ms: 17,
        exits: Vec::new(),
    }
}

pub(crate) fn result(job: &JobRecord, status: FinalStatus) -> ResultRecord {
    ResultRecord {
        artifact: job.artifact,
        graph: job.graph,
        status,
        ended_ms: 18,
        error: None,
        archive: None,
        cleanup: Cleanup::Dirty,
    }
}

pub(crate) fn pointer(id: u64) -> CheckpointPointer {
    CheckpointPointer {
        id: CheckpointId(id),
        kind: PointerKind::Checkpoint,
        location: format!("/checkpoints/chk-{id}"),
        completed_ms: 19,
        drain: false,
    }
}

/// A job that is claimed by a process.
pub(crate) async fn claimed(records: &Records, leader: &LeaderToken, job: &JobRecord) -> EpochToken {
    records.submit(leader, job).await.unwrap();
    let raised = records.raise_epoch(leader, job.job).await.unwrap();
    records.claim(job.job, raised.epoch, "process 1").await.unwrap()
}

pub(crate) async fn a_job_is_taken_in_once(world: &World) {
    let (records, leader) = (world.records(), world.lead().await);
    assert_eq!(records.submit(&leader, &job(1, 1)).await, Ok(Submission::Created));
    assert_eq!(records.submit(&leader, &job(1, 1)).await, Ok(Submission::Running));
    assert!(matches!(
        records.submit(&leader, &job(1, 2)).await,
        Err(Failure::Conflict(_))
    ));
    let jobs = records.jobs().await.unwrap();
    assert_eq!(
        jobs[&JobId::from_u128(1)].record.as_ref().unwrap().value,
        job(1, 1)
    );
}

pub(crate) async fn an_epoch_is_claimed_once_and_fences_the_one_before(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let id = one.job;
    assert_eq!(records.raise_epoch(&leader, id).await, Err(Failure::NoJob(id)));
    let token = claimed(&records, &leader, &one).await;
    assert_eq!(token.epoch, Epoch(1));
    let fenced = |epoch: u64| Failure::Fenced {
        job: id,
        epoch: Epoch(epoch),
    };
    // The same process again, another one, another epoch.
    assert_eq!(records.claim(id, Epoch(1), "process 1").await, Ok(token));
    assert_eq!(records.claim(id, Epoch(1), "process 2").await, Err(fenced(1)));
    assert_eq!(records.claim(id, Epoch(2), "process 2").await, Err(fenced(2)));
    records
        .record_deployment(&token, &DeploymentRecord::default())
        .await
        .unwrap();
    records.consume_restore(&token).await.unwrap();
    let raised = records.raise_epoch(&leader, id).await.unwrap();
    let writes = [
        records
            .record_deployment(&token, &DeploymentRecord::default())
            .await,
        records.consume_restore(&token).await,
        records.commit_checkpoint(&token, &pointer(1)).await,
        records
            .reserve_checkpoint_ids(&token, CheckpointId(0), 64)
            .await
            .map(drop),
        records
            .finish(&token, &result(&one, FinalStatus::Finished), None)
            .await,
        records
            .begin_end(&token, &result(&one, FinalStatus::Finished), None)
            .await,
        records.claim(id, Epoch(1), "process 1").await.map(drop),
    ];
    for write in writes {
        assert_eq!(write, Err(fenced(1)));
    }
    let token = records.claim(id, raised.epoch, "process 2").await.unwrap();
    records
        .record_deployment(&token, &DeploymentRecord::default())
        .await
        .unwrap();
    let job = records.jobs().await.unwrap().remove(&id).unwrap();
    assert!(job.record.unwrap().value.restore.consumed && job.result.is_none());
}

pub(crate) async fn a_job_with_a_result_is_never_run_again(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    let unclaimed = records.raise_epoch(&leader, one.job).await.unwrap();
    let failed = result(&one, FinalStatus::Failed);
    // Not by the leader while the epoch is claimed, nor by who has lost it.
    let again = records
        .claim(one.job, unclaimed.epoch, "process 2")
        .await
        .unwrap();
    assert_eq!(
        records.end_job(&leader, &unclaimed, (&failed, None)).await,
        Err(unclaimed.fenced())
    );
    assert_eq!(records.finish(&token, &failed, None).await, Err(token.fenced()));
    let finished = result(&one, FinalStatus::Finished);
    assert_eq!(records.ending(one.job).await, Ok(None));
    // The end that was said first stands.
    records.begin_end(&again, &finished, None).await.unwrap();
    records.begin_end(&again, &failed, None).await.unwrap();
    assert_eq!(records.ending(one.job).await, Ok(Some(finished.clone())));
    records.finish(&again, &finished, None).await.unwrap();
    records.finish(&again, &finished, None).await.unwrap();
    assert_eq!(
        records.begin_end(&again, &failed, None).await,
        Ok(()),
        "it is there"
    );
    let ended = Err(Failure::Ended(one.job));
    assert_eq!(records.finish(&again, &failed, None).await, ended.clone());
    assert_eq!(
        records.raise_epoch(&leader, one.job).await.map(drop),
        ended.clone()
    );
    assert_eq!(
        records
            .update_job(&leader, one.job, |job| job.name.clear())
            .await
            .map(drop),
        ended
    );
    let answer = records.submit(&leader, &one).await;
    assert_eq!(answer, Ok(Submission::Ended(Box::new(finished.clone()))));
    assert!(matches!(
        records.submit(&leader, &job(1, 2)).await,
        Err(Failure::Conflict(_))
    ));
    // Neither when it is cleaned up.
    records.clean_job(&leader, one.job).await.unwrap();
    let clean = ResultRecord {
        cleanup: Cleanup::Clean,
        ..finished
    };
    assert_eq!(
        records.submit(&leader, &one).await,
        Ok(Submission::Ended(Box::new(clean)))
    );
    // A job that nobody runs is ended by the leader.
    let two = job(2, 2);
    records.submit(&leader, &two).await.unwrap();
    let epoch = records.raise_epoch(&leader, two.job).await.unwrap();
    records
        .end_job(&leader, &epoch, (&result(&two, FinalStatus::Canceled), None))
        .await
        .unwrap();
    assert_eq!(
        records.claim(two.job, epoch.epoch, "late").await.map(drop),
        Err(Failure::Ended(two.job))
    );
}

pub(crate) async fn checkpoint_ids_are_never_given_twice(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    let first = records
        .reserve_checkpoint_ids(&token, CheckpointId(0), 64)
        .await
        .unwrap();
    assert_eq!((first.first, first.end), (CheckpointId(1), CheckpointId(65)));
    let raised = records.raise_epoch(&leader, one.job).await.unwrap();
    let token = records.claim(one.job, raised.epoch, "process 2").await.unwrap();
    let second = records
        .reserve_checkpoint_ids(&token, CheckpointId(0), 64)
        .await
        .unwrap();
    assert_eq!(second.first, first.end);
    // Somebody has used more than were reserved.
    let third = records
        .reserve_checkpoint_ids(&token, CheckpointId(500), 64)
        .await
        .unwrap();
    assert_eq!((third.first, third.end), (CheckpointId(500), CheckpointId(564)));
}

pub(crate) async fn a_checkpoint_is_committed_once_and_goes_forward(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    for id in [1, 2, 5] {
        records.commit_checkpoint(&token, &pointer(id)).await.unwrap();
    }
    records.commit_checkpoint(&token, &pointer(5)).await.unwrap();
    for id in [3, 4] {
        let late = records.commit_checkpoint(&token, &pointer(id)).await;
        assert!(matches!(late, Err(Failure::Conflict(_))), "{late:?}");
    }
    assert_eq!(records.checkpoints(one.job).await.unwrap(), [pointer(5)]);
    records.commit_checkpoint(&token, &pointer(6)).await.unwrap();
    assert_eq!(records.checkpoints(one.job).await.unwrap(), [pointer(6)]);
    let latest = records.jobs().await.unwrap()[&one.job].latest.clone().unwrap();
    assert_eq!(latest.value.id, CheckpointId(6));
}

pub(crate) async fn intents_are_written_once_and_not_after_the_end(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    let asked = |trigger: &str, intent: Intent| JobIntent {
        trigger: trigger.into(),
        intent,
        asked_ms: 1,
    };
    let stop = Intent::Stop {
        directory: Some("/s".into()),
        drain: true,
        format: None,
    };
    records
        .intend(&leader, one.job, &asked("a", stop.clone()))
        .await
        .unwrap();
    records.intend(&leader, one.job, &asked("a", stop)).await.unwrap();
    let other = records
        .intend(&leader, one.job, &asked("a", Intent::Cancel))
        .await;
    assert!(matches!(other, Err(Failure::Conflict(_))));
    let path = records
        .intend(&leader, one.job, &asked("../record", Intent::Cancel))
        .await;
    assert!(matches!(path, Err(Failure::Conflict(_))));
    let outcome = |at_ms| IntentOutcome {
        at_ms,
        location: Some("/s/1".into()),
        ..IntentOutcome::default()
    };
    records
        .answer_intent(&token, (one.job, "a"), &outcome(5))
        .await
        .unwrap();
    records
        .answer_intent(&token, (one.job, "a"), &outcome(6))
        .await
        .unwrap();
    assert_eq!(
        records.intents(one.job).await.unwrap()["a"].outcome,
        Some(outcome(5))
    );
    assert_eq!(records.forget_intent(&leader, one.job, "a", 5).await, Ok(false));
    assert_eq!(records.forget_intent(&leader, one.job, "a", 6).await, Ok(true));
    records
        .finish(&token, &result(&one, FinalStatus::Finished), None)
        .await
        .unwrap();
    let late = records
        .intend(&leader, one.job, &asked("b", Intent::Cancel))
        .await;
    assert_eq!(late, Err(Failure::Ended(one.job)));
}

pub(crate) async fn cleaning_deletes_everything_but_the_result(world: &World) {
    let (records, leader, one) = (world.records(), world.lead().await, job(1, 1));
    let token = claimed(&records, &leader, &one).await;
    records
        .record_deployment(&token, &DeploymentRecord::default())
        .await
        .unwrap();
    records
        .reserve_checkpoint_ids(&token, CheckpointId(0), 64)
        .await
        .unwrap();
    // More than one transaction deletes.
    for id in 1..120 {
        records.commit_checkpoint(&token, &pointer(id)).await.unwrap();
    }
    assert_eq!(
        records.clean_job(&leader, one.job).await,
        Err(Failure::NoJob(one.job))
    );
    records
        .finish(&token, &result(&one, FinalStatus::Finished), None)
        .await
        .unwrap();
    assert!(matches!(
        records.forget_job(&leader, one.job).await,
        Err(Failure::Conflict(_))
    ));
    records.clean_job(&leader, one.job).await.unwrap();
    records.clean_job(&leader, one.job).await.unwrap();
    let left = world.store.list(&world.keys().job(one.job)).await.unwrap();
    let left: Vec<&str> = left.entries.iter().map(|entry| entry.key.last_part()).collect();
    assert_eq!(left, ["result"]);
    records.forget_job(&leader, one.job).await.unwrap();
    assert!(records.jobs().await.unwrap().is_empty());
}

pub(crate) async fn a_condemned_blob_gets_no_owner_and_one_with_an_owner_lives(world: &World) {
    let (records, leader, digest) = (world.records(), world.lead().await, Digest([7; 32]));
    let fresh = records.before_storing(digest).await.unwrap();
    records.refer_to_blob(&leader, &fresh, "job-1", 1).await.unwrap();
    assert_eq!(records.condemn_blob(&leader, digest, 2).await, Ok(None));
    assert!(records.referenced_blobs().await.unwrap().contains(&digest));
    records.release_blob(&leader, digest, "job-1").await.unwrap();
    // Somebody has taken the file for present before it is condemned.
    let stale = records.before_storing(digest).await.unwrap();
    let condemned = records.condemn_blob(&leader, digest, 3).await.unwrap().unwrap();
    let refused = Err(Failure::Condemned(digest.to_string()));
    assert_eq!(records.refer_to_blob(&leader, &stale, "job-2", 4).await, refused);
    assert_eq!(records.before_storing(digest).await.map(drop), refused);
    // A collector that died is followed by another one; the first one may not go on.
    let second = records.condemn_blob(&leader, digest, 5).await.unwrap().unwrap();
    assert_eq!(records.recheck_blob(&leader, condemned).await, Ok(None));
    let checked = records.recheck_blob(&leader, second).await.unwrap().unwrap();
    records.blob_deleted(&leader, checked, 6).await.unwrap();
    assert_eq!(records.refer_to_blob(&leader, &stale, "job-2", 7).await, refused);
    // Stored again, it is needed again.
    let revived = records.before_storing(digest).await.unwrap();
    assert_eq!(records.forget_deleted_blob(&leader, digest, 6).await, Ok(false));
    records
        .refer_to_blob(&leader, &revived, "job-2", 8)
        .await
        .unwrap();
    assert_eq!(records.condemn_blob(&leader, digest, 9).await, Ok(None));
}

pub(crate) async fn a_deposed_leader_writes_nothing(world: &World) {
    let (records, old, one) = (world.records(), world.lead().await, job(1, 1));
    records.submit(&old, &one).await.unwrap();
    let leader = world.lead().await;
    let deposed = Failure::Deposed(old.term());
    assert_eq!(records.submit(&old, &job(2, 2)).await, Err(deposed.clone()));
    assert_eq!(records.raise_epoch(&old, one.job).await, Err(deposed.clone()));
    let asked = JobIntent {
        trigger: "a".into(),
        intent: Intent::Cancel,
        asked_ms: 1,
    };
    assert_eq!(records.intend(&old, one.job, &asked).await, Err(deposed.clone()));
    let token = claimed(&records, &leader, &one).await;
    let unclaimed = EpochToken { ..token };
    assert_eq!(
        records
            .end_job(&old, &unclaimed, (&result(&one, FinalStatus::Failed), None))
            .await,
        Err(deposed)
    );
    assert!(records.jobs().await.unwrap()[&one.job].result.is_none());
}

pub(crate) async fn what_is_too_large_is_not_written(world: &World) {
    let (records, leader, mut one) = (world.records(), world.lead().await, job(1, 1));
    one.name = "x".repeat(9000);
    assert!(matches!(
        records.submit(&leader, &one).await,
        Err(Failure::TooLarge { .. })
    ));
    assert!(records.jobs().await.unwrap().is_empty());
    // What is there and too large is damage, and no absence.
    let key = world.keys().record(one.job);
    let put = Change::Put(key.clone(), vec![0; 9000], None);
    let transaction = hurtig_ha::kv::Transaction::new(vec![hurtig_ha::kv::Guard::Absent(key)], vec![put]);
    crate::world::done(world.store.commit(transaction).await);
    assert!(matches!(records.jobs().await, Err(Failure::Damaged { .. })));
}
