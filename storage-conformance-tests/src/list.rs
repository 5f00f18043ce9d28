//! The list of scenarios, once; the tests of every backend and [`SCENARIOS`] are made from it.

use crate::run::Scenario;

/// Calls `$callback!` with the list: module and name of each scenario, the numbers it covers, the abilities it needs.
#[doc(hidden)]
#[macro_export]
macro_rules! with_every_scenario {
    ($callback:ident $context:tt) => {
        $crate::$callback! {
            $context
            jobs::a_new_job_is_found_again_equal_in_every_field [1] [];
            jobs::payloads_come_back_byte_for_byte [1] [];
            jobs::a_payload_of_exactly_the_limit_is_stored [1, 17] [];
            jobs::extreme_priorities_names_and_times_survive [1] [];
            jobs::each_first_state_keeps_what_belongs_to_it [1] [];
            jobs::a_job_is_inserted_with_its_whole_history [1] [];
            jobs::entries_at_the_same_instant_keep_their_order [1] [];
            jobs::a_job_is_inserted_at_the_version_it_carries [1] [];
            jobs::an_unknown_id_is_none [2] [];
            jobs::batches_of_every_size_store_each_job_once [3] [];
            jobs::an_empty_batch_does_nothing [4] [];
            jobs::an_id_that_exists_is_reported_and_the_rest_inserted [5] [];
            jobs::the_same_id_twice_in_one_batch_is_inserted_once [5] [];
            jobs::of_tasks_that_insert_the_same_ids_at_once_one_wins_each [5] [];
            jobs::a_payload_over_the_limit_is_refused_with_its_whole_batch [17] [];
            jobs::a_job_lives_its_whole_life_as_saved [6] [];
            jobs::a_save_makes_the_version_one_greater [7] [];
            jobs::a_save_without_new_entries_takes_a_version_too [7] [];
            jobs::a_stale_save_is_reported_and_changes_nothing [8] [];
            jobs::a_save_from_the_future_is_a_conflict_too [8] [];
            jobs::a_save_that_lost_to_a_claim_changes_nothing [8] [];
            jobs::saving_a_purged_job_is_a_conflict_and_leaves_it_gone [8] [];
            jobs::winners_of_a_batch_are_stored_and_losers_named_in_order [9] [];
            jobs::a_large_batch_of_different_outcomes_is_stored [9] [];
            jobs::a_large_batch_names_its_conflicts_at_first_middle_and_last [10] [];
            jobs::the_second_mention_of_a_job_in_one_save_is_a_conflict [11] [];
            jobs::a_second_mention_at_the_next_version_is_a_conflict_too [11] [];
            jobs::history_written_by_others_is_kept [12] [];
            jobs::a_save_never_rewrites_older_entries [12] [];
            jobs::a_long_history_is_kept_whole [12] [];
            jobs::a_save_never_changes_the_definition [13] [];
            jobs::metadata_comes_with_a_job_that_is_found_or_claimed [1, 21] [];
            jobs::saving_metadata_changes_neither_version_nor_time [13] [];
            jobs::metadata_is_saved_name_by_name [13] [];
            jobs::a_save_leaves_metadata_alone [13] [];
            jobs::metadata_of_an_unknown_job_is_not_saved [14] [];
            jobs::metadata_written_at_once_is_all_there [13] [];
            jobs::large_metadata_survives [1] [];
            jobs::a_job_is_deleted_by_id_once [14] [];
            jobs::many_jobs_are_deleted_by_id_at_once [14] [];
            jobs::an_id_can_be_used_again_after_its_job_is_gone [14] [];
            jobs::a_purge_takes_the_oldest_within_its_limit [15] [];
            jobs::the_instant_of_a_purge_is_exclusive [15] [];
            jobs::a_purge_goes_by_the_last_update [15] [];
            jobs::a_purge_touches_no_other_state [15] [];
            jobs::a_purge_can_be_for_some_types_only [15] [];
            jobs::a_large_purge_tells_how_many_it_removed [15] [];
            jobs::an_unreadable_job_fails_no_list_and_no_count [16] [UnreadableRows];
            jobs::an_unreadable_job_is_parked_and_the_others_are_claimed [16] [UnreadableRows];
            jobs::an_unreadable_scheduled_job_does_not_hold_up_others [16] [UnreadableRows];

            claims::only_enqueued_jobs_are_claimed [18] [];
            claims::all_queues_are_claimed_as_one_line [19, 23] [];
            claims::queues_are_claimed_in_the_order_given [19] [];
            claims::job_types_do_not_disturb_the_order [19, 24] [];
            claims::queues_and_job_types_together_keep_the_order [19, 24] [];
            claims::a_job_that_comes_later_is_sorted_in [19] [];
            claims::a_claim_keeps_its_limit [20] [];
            claims::a_claim_of_everything_takes_everything [20] [];
            claims::the_limit_counts_over_all_queues [20] [];
            claims::a_claimed_job_says_who_holds_it [21] [];
            claims::a_claim_never_dates_back [21] [];
            claims::the_claimer_can_save_what_it_was_given [21] [];
            claims::a_claimed_job_is_not_offered_again [22] [];
            claims::a_claim_makes_older_claims_of_the_job_stale [22] [];
            claims::queues_not_asked_for_are_not_touched [23] [];
            claims::job_types_not_asked_for_are_not_touched [24] [];
            claims::a_backlog_of_unwanted_types_is_passed_over [24] [];
            claims::a_claim_takes_long_lists_of_queues_and_types [23, 24] [];
            claims::claimers_at_once_take_each_job_once [25] [];
            claims::claimers_of_different_queues_do_not_disturb_each_other [26] [];
            claims::claims_race_with_saves_and_deletions [27] [];
            claims::a_job_given_back_returns_to_its_old_place_in_line [28] [];
            claims::a_claim_is_right_after_100_000_finished_jobs [29] [];
            claims::a_retried_or_requeued_job_queues_behind_older_ones [30] [];

            scheduled::due_jobs_are_released_earliest_first [31] [];
            scheduled::a_release_keeps_its_limit_and_tells_the_next_due_time [31, 34] [];
            scheduled::many_due_jobs_are_released_in_one_call [31] [];
            scheduled::a_release_never_dates_back [31] [];
            scheduled::callers_at_once_release_each_job_once [32] [];
            scheduled::a_job_due_in_a_microsecond_is_not_released [33] [];
            scheduled::jobs_that_left_scheduled_are_not_due_any_more [34] [];
            scheduled::the_due_time_stays_readable_after_release [35] [];
            scheduled::the_latest_due_time_wins [36] [];
        }
    };
}

/// Makes one `#[test]` of each scenario for the storage that the harness gives.
///
/// ```ignore
/// use storage_conformance_tests::{Prefixed, conformance_tests};
///
/// conformance_tests!(MyHarness);
///
/// mod with_a_prefix {
///     use super::*;
///     conformance_tests!(Prefixed::new(MyHarness, "app_"));
/// }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::with_every_scenario! { __tests ($harness) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($harness:expr) $($module:ident::$name:ident [$($number:literal),*] [$($ability:ident),*];)+) => {
        $(
            #[test]
            fn $name() {
                let scenario = $crate::__scenario!($module::$name [$($number),*] [$($ability),*]);
                $crate::run($harness, &scenario);
            }
        )+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __scenario {
    ($module:ident::$name:ident [$($number:literal),*] [$($ability:ident),*]) => {
        $crate::Scenario {
            name: stringify!($name),
            numbers: &[$($number),*],
            needs: &[$($crate::Ability::$ability),*],
            body: |fixture| ::std::boxed::Box::pin($crate::$module::$name(fixture)),
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    (() $($module:ident::$name:ident $numbers:tt $abilities:tt;)+) => {
        &[$($crate::__scenario!($module::$name $numbers $abilities)),+]
    };
}

/// Every scenario of the suite.
pub static SCENARIOS: &[Scenario] = crate::with_every_scenario! { __table () };
