//! The suite finds what it is there to find: each deliberate fault fails the scenario that is named with it.

mod faults;
mod harness;
mod storage;
mod tools;

use storage_conformance_tests::{SCENARIOS, Scenario, Verdict, conformance_tests, verdict};

use faults::Fault;
use harness::Wrapped;

conformance_tests!(Wrapped::with(Fault::None));

/// The listed scenario of this name.
fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).expect("the scenario is listed")
}

fn assert_fails(fault: Fault, name: &str) {
    match verdict(Wrapped::with(fault), scenario(name)) {
        Verdict::Failed(why) => eprintln!("{fault:?} is found by {name}: {why}"),
        other => panic!("with the fault {fault:?} the scenario {name} ended with {other:?}"),
    }
}

macro_rules! faults {
    ($($test:ident: $fault:ident fails $($scenario:ident)and+;)+) => {
        mod a_storage_that {
            use super::{Fault, assert_fails};

            $(
                #[test]
                fn $test() {
                    $(assert_fails(Fault::$fault, stringify!($scenario));)+
                }
            )+
        }

        #[test]
        fn every_fault_is_tried() {
            let tried = [Fault::None, $(Fault::$fault),+];
            for fault in Fault::ALL.iter().copied() {
                assert!(tried.contains(&fault), "{fault:?} is not tried");
            }
        }
    };
}

faults! {
    drops_a_label: DropsALabel fails a_new_job_is_found_again_equal_in_every_field;
    rounds_times: RoundsTimes fails a_new_job_is_found_again_equal_in_every_field;
    tidies_payloads_up: TidiesPayloads fails payloads_come_back_byte_for_byte;
    overwrites_jobs_that_exist: InsertOverwrites fails an_id_that_exists_is_reported_and_the_rest_inserted;
    inserts_before_it_checks_sizes: InsertsBeforeCheckingSizes fails
        a_payload_over_the_limit_is_refused_with_its_whole_batch;
    ignores_the_version: IgnoresTheVersion fails a_stale_save_is_reported_and_changes_nothing and
        random_operations_give_the_results_of_the_model;
    brings_purged_jobs_back: RevivesPurgedJobs fails saving_a_purged_job_is_a_conflict_and_leaves_it_gone;
    names_losers_in_another_order: NamesLosersInAnotherOrder fails
        winners_of_a_batch_are_stored_and_losers_named_in_order;
    lets_the_second_mention_win: LetsTheSecondMentionWin fails
        the_second_mention_of_a_job_in_one_save_is_a_conflict;
    rewrites_history: RewritesHistory fails a_save_never_rewrites_older_entries;
    shortens_history: ShortensHistory fails a_long_history_is_kept_whole;
    makes_a_version_of_metadata: MetadataTakesAVersion fails
        saving_metadata_changes_neither_version_nor_time;
    purges_beyond_the_limit: PurgesBeyondTheLimit fails a_purge_takes_the_oldest_within_its_limit;
    purges_what_is_exactly_old_enough: PurgeIncludesTheInstant fails the_instant_of_a_purge_is_exclusive;
    claims_twice: ClaimsTwice fails a_claimed_job_is_not_offered_again;
    forgets_the_claim_limit: ForgetsTheClaimLimit fails a_claim_keeps_its_limit;
    ignores_priorities: IgnoresPriorities fails all_queues_are_claimed_as_one_line and
        random_operations_give_the_results_of_the_model;
    makes_a_line_of_each_job_type: ClaimsTypeByType fails job_types_do_not_disturb_the_order;
    claims_unwanted_types: ClaimsUnwantedTypes fails job_types_not_asked_for_are_not_touched;
    dates_claims_back: DatesClaimsBack fails a_claim_never_dates_back;
    sends_given_back_jobs_to_the_end: SendsGivenBackJobsToTheEnd fails
        a_job_given_back_returns_to_its_old_place_in_line;
    claims_in_two_steps: ClaimsInTwoSteps fails claimers_at_once_take_each_job_once;
    releases_early: ReleasesEarly fails a_job_due_in_a_microsecond_is_not_released;
    releases_beyond_the_limit: ReleasesBeyondTheLimit fails
        a_release_keeps_its_limit_and_tells_the_next_due_time;
    forgets_the_next_due_time: ForgetsTheNextDueTime fails
        a_release_keeps_its_limit_and_tells_the_next_due_time;
    ignores_the_queue_of_a_query: ListIgnoresTheQueue fails each_criterion_finds_what_it_says;
    ignores_a_second_condition: ListIgnoresTheTypeBesideAnError fails
        every_pair_of_criteria_finds_what_fits_both;
    matches_labels_by_prefix: LabelsMatchByPrefix fails labels_match_exactly_whatever_is_in_them;
    shows_the_job_at_the_cursor_again: CursorIsOffByOne fails going_on_from_a_cursor_sees_each_job_once;
    orders_ties_in_one_direction: TiesIgnoreTheDirection fails equal_instants_are_ordered_by_id;
    forgets_deletions_in_its_counts: CountsForgetDeletions fails
        counts_by_state_equal_a_recount_at_any_time;
    counts_successes_that_are_there: SuccessesGoWithTheirJobs fails
        all_time_successes_grow_with_each_and_survive_the_purge;
    saves_stale_recurring_jobs: RecurringIgnoresTheVersion fails a_stale_recurring_job_is_a_conflict;
    deletes_recurring_jobs_saved_anew: DeletesStaleRecurringJobs fails a_recurring_job_saved_anew_outlives_its_removal;
    lists_paused_recurring_jobs_as_due: PausedIsDue fails
        due_recurring_jobs_are_those_not_paused_whose_time_has_come;
    revives_servers: HeartbeatRevives fails a_heartbeat_of_a_removed_server_says_so_and_revives_nobody;
    removes_servers_heard_at_the_instant: SilenceIncludesTheInstant fails
        servers_silent_since_before_the_instant_are_removed;
    reports_a_silent_server_to_all: SilentServersAreReportedTwice fails
        callers_at_once_report_each_silent_server_once;
    forgets_when_a_value_was_created: OverwritingMovesCreatedAt fails
        overwriting_keeps_created_at_and_moves_updated_at;
    sets_without_comparing: SetsWithoutComparing fails a_value_is_replaced_only_by_who_knows_it;
    compares_and_sets_in_two_steps: ComparesAndSetsInTwoSteps fails
        increments_at_once_by_comparison_lose_none;
    loses_hints: LosesHints fails inserting_ready_jobs_gives_a_hint;
    forgets_who_waits: ForgetsWaits fails who_waits_beside_the_one_that_ends_a_job_is_told;
    stays_open: StaysOpen fails after_close_every_call_says_closed;
    saves_in_two_steps: SavesInTwoSteps fails a_dropped_save_leaves_the_job_old_or_new and
        tasks_that_do_anything_at_once_keep_every_invariant;
    hangs: Hangs fails a_claim_keeps_its_limit;
}

#[test]
fn an_ability_that_is_declared_but_missing_is_found() {
    let boaster = || Wrapped::with(Fault::None).boasting();

    for name in ["the_declared_abilities_are_those_there_are", "an_unreadable_job_fails_no_list_and_no_count"]
    {
        let verdict = verdict(boaster(), scenario(name));
        assert!(matches!(verdict, Verdict::Failed(_)), "{name} ended with {verdict:?}");
    }
}

#[test]
fn a_missing_ability_is_told() {
    let verdict = verdict(Wrapped::with(Fault::None), scenario("a_hostile_prefix_is_refused"));

    assert!(matches!(verdict, Verdict::DoesNotApply(storage_conformance_tests::Ability::Prefixes)));
}

#[test]
fn a_missing_database_is_a_failure_exactly_where_all_are_required() {
    let is_required = std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");

    match verdict(harness::Absent, scenario("an_unknown_id_is_none")) {
        Verdict::Failed(why) => assert!(is_required && why.contains("no server"), "{why}"),
        Verdict::Skipped(why) => assert!(!is_required && why.contains("no server"), "{why}"),
        other => panic!("{other:?} without a database"),
    }
}
