//! Twins that were built wrong: the checker sees it, so that what it does not see is worth something.

use stateright::{Checker, Model};

use crate::{
    flaw::Flaw,
    graph::{Batch, Graph},
    life_cycle::LifeCycle,
    promises,
    statements::{Limit, Pauses, Rules},
};

/// Deeper than any way to break a promise that is looked for here.
const DEEP: usize = 16;

/// What is built wrong in a small task.
fn of(graph: Graph, flaw: Flaw) -> LifeCycle {
    let (limit, pauses) = (None, Pauses::Task);
    let rules = Rules { graph, max_attempts: 2, limit, pauses, flaw: Some(flaw) };
    LifeCycle { rules, workers: 2, faults: 1, interventions: 0, pauses: 0, yields: 0 }
}

/// Also while operators step in.
fn breaks(flaw: Flaw, promise: &'static str) {
    found(&LifeCycle { interventions: 2, ..of(Graph::chain(2), flaw) }, promise);
}

/// Where two steps share a limit of one.
fn breaks_a_limit(flaw: Flaw, promise: &'static str) {
    let mut life_cycle = of(Graph::side_by_side(2), flaw);
    life_cycle.rules.limit = Some(Limit { max_concurrent: Some(1), rate: None });
    found(&life_cycle, promise);
}

/// Where so many of two steps may begin in a time.
fn breaks_a_rate(flaw: Flaw, (most, faults): (usize, u8), promise: &'static str) {
    let mut life_cycle = of(Graph::side_by_side(2), flaw);
    life_cycle.rules.limit = Some(Limit { max_concurrent: None, rate: Some(most) });
    found(&LifeCycle { faults, ..life_cycle }, promise);
}

/// Where a task is paused.
fn breaks_a_pause(flaw: Flaw, promise: &'static str) {
    found(&LifeCycle { pauses: 1, ..of(Graph::chain(2), flaw) }, promise);
}

/// Where a template is paused.
fn breaks_a_pause_of_a_template(flaw: Flaw, promise: &'static str) {
    let mut life_cycle = of(Graph::chain(2), flaw);
    life_cycle.rules.pauses = Pauses::Template;
    found(&LifeCycle { faults: 0, pauses: 1, ..life_cycle }, promise);
}

/// Where a worker of a batch may yield that has a place beside the other.
fn breaks_a_yield(flaw: Flaw, promise: &'static str) {
    let graph = Graph::batch(Batch { most: 2, parallelism: 2, fails_fast: true });
    found(&LifeCycle { faults: 0, yields: 1, ..of(graph, flaw) }, promise);
}

/// Where two workers of a batch share one place.
fn breaks_a_batch(flaw: Flaw, (fails_fast, interventions): (bool, u8), promise: &'static str) {
    let graph = Graph::batch(Batch { most: 2, parallelism: 1, fails_fast });
    found(&LifeCycle { faults: 0, interventions, ..of(graph, flaw) }, promise);
}

/// Looks for a shortest way to break a promise, and prints it.
fn found(life_cycle: &LifeCycle, promise: &'static str) {
    let within = |depth| {
        let checker = life_cycle.clone().checker().target_max_depth(depth);
        checker.spawn_bfs().join().discovery(promise)
    };
    let flaw = life_cycle.rules.flaw;
    let found = (1..DEEP).find_map(within);
    let path = found.unwrap_or_else(|| panic!("{flaw:?} does not break \"{promise}\""));
    println!("{flaw:?} breaks \"{promise}\":");
    for action in path.into_actions() {
        println!("  {action:?}");
    }
}

#[test]
fn without_the_fence_a_late_result_is_taken() {
    breaks(Flaw::NoFence, promises::TAKEN_ONCE);
}

#[test]
fn a_failure_judged_by_its_verdict_alone_ends_a_step_that_an_operator_has_brought_back() {
    breaks(Flaw::AsksForTheVerdict, promises::COUNTS);
}

#[test]
fn a_child_counted_down_after_the_commit_is_lost() {
    breaks(Flaw::CountsAfterTheCommit, promises::NO_STEP_IS_LOST);
}

#[test]
fn a_lost_lease_that_costs_no_attempt_lets_a_step_kill_workers_for_ever() {
    breaks(Flaw::LostLeasesAreFree, promises::ATTEMPTS);
}

#[test]
fn a_finalization_that_does_not_look_at_the_counts_completes_a_failed_task() {
    breaks(Flaw::FinalizesUnseen, promises::COMPLETE_IS_SATISFIED);
}

#[test]
fn a_last_result_that_does_not_look_at_the_counts_completes_a_failed_task() {
    let beside = of(Graph::side_by_side(2), Flaw::EndsWithWhatMovesLast);
    found(&beside, promises::COMPLETE_IS_SATISFIED);
}

#[test]
fn an_end_that_leaves_its_steps_leaves_them_open() {
    breaks(Flaw::EndsOnlyTheTask, promises::ENDS_WITH_ITS_STEPS);
}

#[test]
fn a_step_reopened_after_its_last_attempt_has_one_too_many() {
    breaks(Flaw::ReopensWhatIsSpent, promises::ATTEMPTS);
}

#[test]
fn a_delivery_counted_by_the_database_is_given_twice_after_a_crash() {
    breaks(Flaw::CountedDeliveries, promises::ONE_HOLDER);
}

#[test]
fn a_place_that_does_not_look_at_the_pause_lets_a_child_begin() {
    breaks_a_pause(Flaw::PlacesPassThePause, promises::PAUSES);
}

#[test]
fn a_hold_that_is_not_counted_has_its_task_enqueue_what_nobody_will() {
    breaks_a_pause(Flaw::HoldsUncounted, promises::STANDS);
}

#[test]
fn a_resume_that_does_not_let_go_leaves_steps_held_for_no_reason() {
    breaks_a_pause(Flaw::ResumesAlone, promises::OUTBOX);
}

#[test]
fn a_limit_judged_before_its_lock_lets_two_replicas_begin_what_has_room_for_one() {
    breaks_a_limit(Flaw::JudgesBeforeTheLock, promises::LIMITS);
}

#[test]
fn a_step_given_back_that_begins_without_a_slot_finds_another_in_its_place() {
    breaks_a_limit(Flaw::BeginsFromItsQueue, promises::LIMITS);
}

#[test]
fn a_slot_given_back_by_the_results_statement_is_lost_with_a_worker() {
    breaks_a_limit(Flaw::SlotsAreGivenBack, promises::NO_STEP_IS_LOST);
}

#[test]
fn a_rate_judged_before_its_lock_lets_two_replicas_begin_what_there_is_time_for_one() {
    breaks_a_rate(Flaw::JudgesBeforeTheLock, (1, 0), promises::RATES);
}

#[test]
fn a_step_given_back_that_begins_from_its_queue_is_one_too_many_for_its_rate() {
    breaks_a_rate(Flaw::BeginsFromItsQueue, (1, 1), promises::RATES);
}

#[test]
fn a_rate_that_counts_what_runs_forgets_what_has_ended() {
    breaks_a_rate(Flaw::RatesCountWhatRuns, (1, 0), promises::RATES);
}

#[test]
fn a_rate_that_is_refilled_lets_too_many_begin_around_its_refill() {
    breaks_a_rate(Flaw::RatesAreRefilled, (2, 0), promises::RATES);
}

#[test]
fn a_rate_that_counts_for_ever_holds_a_step_for_ever() {
    breaks_a_rate(Flaw::RatesCountForEver, (1, 0), promises::NO_STEP_IS_LOST);
}

#[test]
fn a_pause_judged_before_its_lock_lets_a_step_begin_after_its_answer() {
    breaks_a_pause_of_a_template(Flaw::JudgesPausesBeforeTheirLock, promises::PAUSES);
}

#[test]
fn a_pause_judged_before_its_lock_holds_a_step_after_all_was_let_go() {
    breaks_a_pause_of_a_template(Flaw::JudgesPausesBeforeTheirLock, promises::OUTBOX);
}

#[test]
fn a_worker_that_has_yielded_and_is_taken_for_one_that_has_not_begun_is_cut_off() {
    breaks_a_yield(Flaw::CutsOffWhatHasYielded, promises::YIELDS);
}

#[test]
fn a_failure_that_keeps_its_place_leaves_the_next_worker_waiting() {
    breaks_a_batch(Flaw::FailuresKeepTheirPlace, (false, 0), promises::PLACES_ARE_USED);
}

#[test]
fn a_retry_that_left_its_place_makes_one_worker_too_many() {
    breaks_a_batch(Flaw::RetriesLeaveTheirPlace, (false, 0), promises::PLACES);
}

#[test]
fn a_batch_that_goes_on_after_a_failure_does_not_fail_fast() {
    breaks_a_batch(Flaw::GoesOnAfterAFailure, (true, 0), promises::FAILS_FAST);
}

#[test]
fn a_repaired_worker_that_asks_for_no_place_makes_one_too_many() {
    breaks_a_batch(Flaw::RepairsAskForNoPlace, (true, 2), promises::PLACES);
}
