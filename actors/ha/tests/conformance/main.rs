//! One suite for all stores: what a store promises, and what the records over it promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops where it cannot go on"
)]
#![allow(clippy::cognitive_complexity, reason = "a check is a list of assertions")]

mod elections;
#[cfg(feature = "etcd")]
mod etcd_faults;
#[cfg(feature = "etcd")]
mod etcd_process;
#[cfg(feature = "etcd")]
mod etcd_world;
mod faulty;
mod file_faults;
mod keeping;
mod model;
mod records;
mod transactions;
mod watches;
mod world;

/// Makes a test of each check for each store.
macro_rules! suite {
    ($($module:ident :: $check:ident),* $(,)?) => {
        suite!(@store memory, crate::world::memory; $($module::$check),*);
        suite!(@store file, crate::world::file; $($module::$check),*);
        #[cfg(feature = "etcd")]
        suite!(@store etcd, crate::etcd_world::world; $($module::$check),*);
    };
    (@store $store:ident, $open:path; $($module:ident :: $check:ident),*) => {
        mod $store {
            $(
                #[test]
                fn $check() {
                    $crate::world::run($open, |world| async move { $crate::$module::$check(&world).await });
                }
            )*
        }
    };
}

suite! {
    transactions::guards_decide_and_a_refusal_shows_what_was_seen,
    transactions::a_transaction_takes_effect_wholly_or_not_at_all,
    transactions::a_key_that_was_deleted_is_created_anew,
    transactions::a_transaction_that_is_sent_twice_takes_effect_once,
    transactions::lists_hold_what_lies_below_and_nothing_else,
    transactions::random_transactions_end_as_in_the_definition,
    transactions::a_question_without_changes_is_answered,
    watches::a_watch_tells_every_change_in_order,
    watches::a_watch_behind_a_compaction_says_so_and_a_watcher_goes_on,
    watches::keys_end_with_their_lease_and_live_while_it_is_renewed,
    watches::a_lease_that_is_gone_carries_nothing,
    records::a_job_is_taken_in_once,
    records::an_epoch_is_claimed_once_and_fences_the_one_before,
    records::a_job_with_a_result_is_never_run_again,
    records::checkpoint_ids_are_never_given_twice,
    records::a_checkpoint_is_committed_once_and_goes_forward,
    records::intents_are_written_once_and_not_after_the_end,
    records::cleaning_deletes_everything_but_the_result,
    records::a_condemned_blob_gets_no_owner_and_one_with_an_owner_lives,
    records::a_deposed_leader_writes_nothing,
    records::what_is_too_large_is_not_written,
    keeping::a_stop_is_recorded_with_its_savepoint_and_ends_with_the_job,
    keeping::what_a_savepoint_cancels_is_not_forgotten_while_the_job_runs,
    keeping::artifacts_and_disposals_are_there_for_the_next_leader,
    keeping::blobs_live_as_long_as_a_record_names_them,
    keeping::a_blob_without_a_reference_that_a_record_names_is_kept,
    keeping::a_leader_that_wakes_too_late_deletes_nothing_that_is_needed,
    keeping::a_job_whose_artifact_is_collected_meanwhile_is_not_taken_in,
    elections::one_leads_and_the_next_one_follows_under_a_greater_term,
    elections::a_lease_that_is_revoked_early_deposes,
    elections::a_candidate_whose_lease_is_gone_is_not_crowned,
    elections::who_was_paused_is_suspended_and_then_deposed,
    elections::who_is_suspended_goes_on_under_the_same_term,
}
