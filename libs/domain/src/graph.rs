//! The graph of a template's steps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Orders nodes so that each comes after all it depends on, otherwise as declared.
///
/// `dependencies[n]` are the nodes that `n` depends on.
///
/// # Errors
/// There are cycles: returns one of them, each node depending on the next and the last on the first.
pub fn order(dependencies: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut dependants = vec![Vec::new(); dependencies.len()];
    let mut unmet: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    for (node, parents) in dependencies.iter().enumerate() {
        for parent in parents {
            dependants[*parent].push(node);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..unmet.len()).filter(|node| unmet[*node] == 0).map(Reverse).collect();
    let mut ordered = Vec::with_capacity(unmet.len());
    while let Some(Reverse(node)) = ready.pop() {
        ordered.push(node);
        for dependant in &dependants[node] {
            unmet[*dependant] -= 1;
            if unmet[*dependant] == 0 {
                ready.push(Reverse(*dependant));
            }
        }
    }
    if ordered.len() == unmet.len() { Ok(ordered) } else { Err(cycle(dependencies, &unmet)) }
}

/// Walks from an unmet node to an unmet dependency until a node comes again.
fn cycle(dependencies: &[Vec<usize>], unmet: &[usize]) -> Vec<usize> {
    let blocked = |node: &usize| unmet[*node] > 0;
    let mut path = Vec::new();
    let mut place = vec![None; unmet.len()];
    let mut node = (0..unmet.len()).find(blocked).expect("some node was not ordered");
    loop {
        if let Some(start) = place[node] {
            return path.split_off(start);
        }
        place[node] = Some(path.len());
        path.push(node);
        let next = dependencies[node].iter().find(|parent| blocked(parent));
        node = *next.expect("a node that is not ordered has a parent that is not");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cycle_is_named_without_what_leads_to_it() {
        // 0 waits for 1; 1, 2 and 3 wait for each other.
        let cycle = order(&[vec![1], vec![2], vec![3], vec![1]]).unwrap_err();
        assert_eq!(cycle, [1, 2, 3]);
        assert_eq!(order(&[vec![0]]).unwrap_err(), [0]);
    }

    proptest! {
        #[test]
        fn every_node_comes_after_all_it_depends_on(
            edges in prop::collection::vec((0usize..40, 0usize..40), 0..200),
        ) {
            let mut dependencies = vec![Vec::new(); 40];
            for (one, other) in edges {
                // Only from higher to lower: no cycles.
                if one != other && !dependencies[one.max(other)].contains(&one.min(other)) {
                    dependencies[one.max(other)].push(one.min(other));
                }
            }
            let ordered = order(&dependencies).unwrap();
            let place = |node: usize| ordered.iter().position(|other| *other == node).unwrap();
            for (node, parents) in dependencies.iter().enumerate() {
                for parent in parents {
                    prop_assert!(place(*parent) < place(node));
                }
            }
        }
    }
}
