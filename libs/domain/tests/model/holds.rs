//! The promises hold on every small graph.

use stateright::{Checker, Model};

use crate::{
    graph::{Batch, Graph},
    life_cycle::LifeCycle,
    statements::{Limit, Pauses, Rules},
};

/// What is checked: a small task, and nothing that goes wrong.
fn of(graph: Graph) -> LifeCycle {
    let rules = Rules { graph, max_attempts: 2, limit: None, pauses: Pauses::Task, flaw: None };
    LifeCycle { rules, workers: 2, faults: 0, interventions: 0, pauses: 0, yields: 0 }
}

fn faults(faults: u8, life_cycle: LifeCycle) -> LifeCycle {
    LifeCycle { faults, ..life_cycle }
}

fn interventions(interventions: u8, life_cycle: LifeCycle) -> LifeCycle {
    LifeCycle { interventions, ..life_cycle }
}

fn a_pause(life_cycle: LifeCycle) -> LifeCycle {
    LifeCycle { pauses: 1, ..life_cycle }
}

fn a_pause_of_its_template(mut life_cycle: LifeCycle) -> LifeCycle {
    life_cycle.rules.pauses = Pauses::Template;
    a_pause(life_cycle)
}

fn a_yield(life_cycle: LifeCycle) -> LifeCycle {
    LifeCycle { yields: 1, ..life_cycle }
}

/// With a limit that all steps share.
fn limited(most: usize, mut life_cycle: LifeCycle) -> LifeCycle {
    life_cycle.rules.limit = Some(Limit { max_concurrent: Some(most), rate: None });
    life_cycle
}

/// With a rate that all steps share.
fn rated(most: usize, mut life_cycle: LifeCycle) -> LifeCycle {
    let max_concurrent = life_cycle.rules.max_concurrent();
    life_cycle.rules.limit = Some(Limit { max_concurrent, rate: Some(most) });
    life_cycle
}

/// Two workers, of which so many may have a place.
fn batch(parallelism: usize, fails_fast: bool) -> LifeCycle {
    of(Graph::batch(Batch { most: 2, parallelism, fails_fast }))
}

/// Follows every path to its end, and prints how many states there are.
fn holds(life_cycle: LifeCycle) {
    let checked = life_cycle.checker().symmetry().spawn_dfs().join();
    println!("{} states, {} deep", checked.unique_state_count(), checked.max_depth());
    checked.assert_properties();
}

#[test]
fn a_chain_survives_any_three_faults() {
    holds(faults(3, of(Graph::chain(2))));
}

#[test]
fn a_chain_survives_a_fault_and_two_interventions() {
    holds(interventions(2, faults(1, of(Graph::chain(2)))));
}

#[test]
fn a_fork_survives_any_fault() {
    holds(faults(1, of(Graph::fork())));
}

#[test]
fn a_join_survives_any_two_faults() {
    holds(faults(2, of(Graph::join())));
}

#[test]
fn a_join_survives_a_fault_and_an_intervention() {
    holds(interventions(1, faults(1, of(Graph::join()))));
}

#[test]
fn a_diamond_survives_any_fault() {
    holds(faults(1, of(Graph::diamond())));
}

#[test]
fn a_diamond_survives_an_intervention() {
    holds(interventions(1, of(Graph::diamond())));
}

#[test]
fn a_decision_survives_any_fault() {
    holds(faults(1, of(Graph::decision())));
}

#[test]
fn a_decision_survives_an_intervention() {
    holds(interventions(1, of(Graph::decision())));
}

#[test]
fn a_batch_with_a_place_for_one_survives_any_fault() {
    holds(faults(1, batch(1, false)));
}

#[test]
fn a_batch_that_fails_fast_survives_any_fault() {
    holds(faults(1, batch(1, true)));
}

#[test]
fn a_batch_that_fails_fast_survives_two_interventions() {
    holds(interventions(2, batch(1, true)));
}

#[test]
fn a_pause_of_a_chain_survives_any_fault() {
    holds(a_pause(faults(1, of(Graph::chain(2)))));
}

#[test]
fn a_pause_of_a_chain_survives_an_intervention() {
    holds(a_pause(interventions(1, of(Graph::chain(2)))));
}

#[test]
fn a_limit_survives_any_two_faults() {
    holds(faults(2, limited(1, of(Graph::side_by_side(2)))));
}

#[test]
fn a_limit_survives_a_fault_and_an_intervention() {
    holds(interventions(1, faults(1, limited(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_pause_of_what_is_limited_survives_any_fault() {
    holds(a_pause(faults(1, limited(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_pause_of_its_template_survives_any_fault() {
    holds(a_pause_of_its_template(faults(1, of(Graph::chain(2)))));
}

#[test]
fn a_pause_of_the_template_of_what_is_limited_survives_any_fault() {
    holds(a_pause_of_its_template(faults(1, limited(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_rate_survives_a_fault_and_an_intervention() {
    holds(interventions(1, faults(1, rated(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_rate_of_two_beside_a_limit_of_one_survives_any_fault() {
    holds(faults(1, rated(2, limited(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_pause_of_what_has_a_rate_survives_any_fault() {
    holds(a_pause(faults(1, rated(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_yield_of_a_chain_survives_any_two_faults() {
    holds(a_yield(faults(2, of(Graph::chain(2)))));
}

#[test]
fn a_yield_of_what_is_limited_survives_any_fault() {
    holds(a_yield(faults(1, limited(1, of(Graph::side_by_side(2))))));
}

#[test]
fn a_yield_in_a_batch_that_fails_fast_survives_any_fault() {
    holds(a_yield(faults(1, batch(2, true))));
}
