//! Twins that were built wrong: the checker sees it, so that what it does not see is worth something.

use stateright::{Checker, Model};

use crate::{flaw::Flaw, graph::Graph, life_cycle::LifeCycle, promises, statements::Rules};

/// Deeper than any way to break a promise that is looked for here.
const DEEP: usize = 12;

/// Looks for a shortest way to break a promise, and prints it.
fn breaks(flaw: Flaw, promise: &'static str) {
    let rules = Rules { graph: Graph::chain(2), max_attempts: 2, flaw: Some(flaw) };
    let life_cycle = LifeCycle { rules, workers: 2, faults: 1, interventions: 2 };
    let within = |depth| {
        let checker = life_cycle.clone().checker().target_max_depth(depth);
        checker.spawn_bfs().join().discovery(promise)
    };
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
