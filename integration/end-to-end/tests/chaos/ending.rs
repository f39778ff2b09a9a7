//! The JobMaster dies while it ends its job: when the end is recorded, and when the job's checkpoints are gone.

use super::rescale::{settings, submit};
use super::{RATE, Trial, alone};
use hurtig_core::steps::{DIE_AT, Step};

/// Nobody looks for a checkpoint to go on from when a job has come to its end.
fn ends_well(step: Step) {
    let trial = Trial::new(1, None);
    let (count, mark) = (RATE * 3, trial.stand.path("died"));
    let death = format!("{DIE_AT}={}:1:{}", step.name(), mark.display());
    let more = ["0".to_owned(), count.to_string(), death];
    submit(&trial, (count, &more), &settings(&trial, "hashmap", false));
    trial.end(count);
    assert!(mark.exists(), "no JobMaster has died");
}

#[test]
fn a_job_ends_as_it_has_ended_whenever_its_job_master_dies() {
    let _one = alone();
    ends_well(Step::EndBegun);
    ends_well(Step::Cleared);
}
