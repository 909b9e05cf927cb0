//! The promises hold on every small graph.

use stateright::{Checker, Model};

use crate::{graph::Graph, life_cycle::LifeCycle, statements::Rules};

/// Follows every path to its end, and prints how many states there are.
fn holds(graph: Graph, faults: u8, interventions: u8) {
    let rules = Rules { graph, max_attempts: 2, flaw: None };
    let life_cycle = LifeCycle { rules, workers: 2, faults, interventions };
    let checked = life_cycle.checker().symmetry().spawn_dfs().join();
    println!("{} states, {} deep", checked.unique_state_count(), checked.max_depth());
    checked.assert_properties();
}

#[test]
fn a_chain_survives_any_three_faults() {
    holds(Graph::chain(2), 3, 0);
}

#[test]
fn a_chain_survives_a_fault_and_two_interventions() {
    holds(Graph::chain(2), 1, 2);
}

#[test]
fn a_fork_survives_any_fault() {
    holds(Graph::fork(), 1, 0);
}

#[test]
fn a_join_survives_any_two_faults() {
    holds(Graph::join(), 2, 0);
}

#[test]
fn a_join_survives_a_fault_and_an_intervention() {
    holds(Graph::join(), 1, 1);
}

#[test]
fn a_diamond_survives_any_fault() {
    holds(Graph::diamond(), 1, 0);
}

#[test]
fn a_diamond_survives_an_intervention() {
    holds(Graph::diamond(), 0, 1);
}

#[test]
fn a_decision_survives_any_fault() {
    holds(Graph::decision(), 1, 0);
}

#[test]
fn a_decision_survives_an_intervention() {
    holds(Graph::decision(), 0, 1);
}
