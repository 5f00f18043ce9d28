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
            jobs::a_save_of_a_purged_job_never_hits_a_later_one_with_its_id [8] [];
            jobs::winners_of_a_batch_are_stored_and_losers_named_in_order [9] [];
            jobs::a_large_batch_of_different_outcomes_is_stored [9] [];
            jobs::a_large_batch_names_its_conflicts_at_first_middle_and_last [10] [];
            jobs::the_second_mention_of_a_job_in_one_save_is_a_conflict [11] [];
            jobs::a_stale_first_mention_does_not_let_the_second_win [11] [];
            jobs::a_second_mention_at_the_next_version_is_a_conflict_too [11] [];
            jobs::history_written_by_others_is_kept [12] [];
            jobs::a_save_never_rewrites_older_entries [12] [];
            jobs::a_long_history_is_kept_whole [12] [];
            jobs::a_save_never_changes_the_definition [13] [];
            jobs::metadata_comes_with_a_job_that_is_found_or_claimed [1, 21] [];
            jobs::saving_metadata_changes_neither_version_nor_time [13] [];
            jobs::metadata_is_saved_name_by_name [13] [];
            jobs::any_text_up_to_256_bytes_names_metadata [13] [];
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
            claims::a_job_takes_the_place_that_its_history_gives_it [19, 28, 30] [];
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

            search::each_criterion_finds_what_it_says [37, 38, 41] [];
            search::every_pair_of_criteria_finds_what_fits_both [37, 41] [];
            search::many_criteria_at_once_must_all_hold [37] [];
            search::long_lists_in_a_query_are_accepted [37] [];
            search::a_list_follows_a_job_from_state_to_state [37] [];
            search::equal_instants_are_ordered_by_id [38] [];
            search::limit_and_offset_cut_a_window_out_of_the_list [39] [];
            search::a_list_is_bounded_unless_it_is_asked_not_to_be [39] [];
            search::going_on_from_a_cursor_sees_each_job_once [38, 40] [];
            search::a_cursor_goes_with_conditions_and_needs_no_job [40] [];
            search::paging_sees_each_job_once_while_others_are_inserted [40] [];
            search::a_count_is_the_length_of_the_unbounded_list [41] [];
            search::an_empty_storage_counts_zero [42] [];
            search::counts_by_state_equal_a_recount_at_any_time [42] [];
            search::counts_are_right_after_concurrent_work [42, 43] [];
            search::all_time_successes_grow_with_each_and_survive_the_purge [43] [];
            search::job_types_are_listed_once_and_sorted [44] [];
            search::labels_match_exactly_whatever_is_in_them [45] [];
            search::all_labels_of_a_job_are_found_and_keep_their_order [45] [];
            search::orphans_are_found_in_pages [46] [];

            recurring::a_recurring_job_is_saved_replaced_and_deleted [47] [];
            recurring::recurring_jobs_are_listed_by_id_all_5_000_of_them [48] [];
            recurring::every_field_of_a_recurring_job_survives [49] [];
            recurring::every_kind_of_schedule_survives [49] [];
            recurring::due_recurring_jobs_are_those_not_paused_whose_time_has_come [49] [];
            recurring::a_stale_recurring_job_is_a_conflict [50] [];
            recurring::a_recurring_job_saved_anew_outlives_its_removal [50] [];
            recurring::removals_and_saves_of_a_recurring_job_at_once_lose_no_save [50] [];
            recurring::of_masters_that_advance_a_tick_at_once_one_wins [50] [];
            recurring::ids_of_recurring_jobs_may_be_long_and_hold_all_allowed_characters [51] [];

            ticks::a_recurring_job_is_paused_resumed_triggered_and_deleted_by_any_process [47, 50] [];
            ticks::a_tick_has_one_run_however_many_masters_create_it [5, 50] [];

            external::a_signal_of_another_process_completes_a_parked_job [6] [];
            external::a_signal_wins_over_a_trigger_that_has_not_ended [8] [];
            external::signals_and_ends_of_triggers_at_once_complete_each_job_once [8] [];
            external::a_signalled_failure_is_retried_until_no_retries_are_left [6, 31] [];
            external::a_signal_for_the_wrong_job_changes_nothing [6] [];
            external::what_waits_for_a_signal_is_found_by_its_label [37] [];
            external::a_result_is_awaited_by_another_process [6] [];
            external::who_waits_beside_the_one_that_ends_a_job_is_told [6] [];
            external::a_result_of_the_largest_size_is_kept_and_a_larger_one_refused [6] [];

            context::what_a_run_saves_is_there_at_once_and_takes_no_version [13] [];
            context::a_step_is_done_once_whichever_run_comes_to_it [13] [];

            servers::an_announced_server_is_listed_as_it_said [52] [];
            servers::servers_are_listed_oldest_first [52] [];
            servers::announcing_twice_changes_only_the_announcement [52] [];
            servers::a_heartbeat_updates_load_and_time_only [53] [];
            servers::extreme_loads_survive [53] [];
            servers::the_time_of_the_storage_never_goes_back [53] [];
            servers::a_heartbeat_of_a_removed_server_says_so_and_revives_nobody [54] [];
            servers::a_server_is_removed_once [55] [];
            servers::servers_silent_since_before_the_instant_are_removed [55] [];
            servers::callers_at_once_report_each_silent_server_once [56] [];

            metadata::metadata_is_saved_listed_and_deleted [57] [];
            metadata::overwriting_keeps_created_at_and_moves_updated_at [58] [];
            metadata::a_value_is_replaced_only_by_who_knows_it [59] [];
            metadata::a_compared_value_keeps_its_times_like_a_saved_one [58, 59] [];
            metadata::increments_at_once_by_comparison_lose_none [59] [];
            metadata::of_callers_that_expect_nothing_one_wins [59] [];
            metadata::large_empty_and_foreign_values_survive [60] [];

            changes::inserting_ready_jobs_gives_a_hint [61] [ChangeFeed];
            changes::jobs_that_come_back_to_their_queue_give_a_hint [62] [ChangeFeed];
            changes::deleting_a_running_job_gives_a_hint [63] [ChangeFeed];
            changes::a_slow_or_dropped_subscriber_holds_up_nobody [64] [ChangeFeed];
            changes::of_a_thousand_inserts_no_last_hint_is_lost [65] [ChangeFeed];
            changes::a_feed_comes_back_after_its_connection_was_cut [66] [ChangeFeed, Connections];
            changes::calls_work_again_after_connections_were_cut [66] [Connections];
            changes::asking_sees_all_that_hints_tell [61, 62, 63] [];

            life::the_declared_abilities_are_those_there_are [] [];
            life::setting_up_again_keeps_what_is_there [67] [];
            life::eight_callers_set_up_an_empty_database_at_once [67] [];
            life::validating_an_empty_database_says_what_is_missing [68] [Schema];
            life::a_newer_schema_is_refused_and_left_alone [68] [Schema];
            life::two_prefixes_in_one_database_see_nothing_of_each_other [69] [Prefixes];
            life::a_hostile_prefix_is_refused [70] [Prefixes];
            life::long_prefixes_are_refused_or_kept_apart [69, 70] [Prefixes];
            life::after_close_every_call_says_closed [71] [];
            life::calls_that_race_with_close_end [72] [];
            life::what_was_stored_survives_closing_everything [71] [Durability];
            life::a_dropped_insert_leaves_jobs_whole_or_absent [73] [];
            life::a_dropped_save_leaves_the_job_old_or_new [73] [];
            life::a_dropped_claim_leaves_the_jobs_in_line_or_claimed [73] [];
            life::a_dropped_release_leaves_the_jobs_scheduled_or_enqueued [73] [];
            life::a_dropped_deletion_leaves_the_jobs_whole_or_gone [73] [];
            life::dropped_job_metadata_is_saved_whole_or_not_at_all [73] [];
            life::other_dropped_calls_leave_what_they_change_old_or_new [73] [];
            life::jobs_of_a_committed_transaction_all_appear [74] [CallerTransactions];
            life::jobs_of_a_rolled_back_transaction_never_were [74] [CallerTransactions];
            life::of_jobs_in_a_transaction_those_that_are_there_are_reported_and_the_others_whole
                [5, 74] [CallerTransactions];

            model::random_operations_give_the_results_of_the_model [75] [];
            concurrency::tasks_that_do_anything_at_once_keep_every_invariant [76] [];
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
