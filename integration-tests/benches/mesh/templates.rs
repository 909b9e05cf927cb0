//! Templates that only a bench needs. Their tasks take an `n` of 0, whose squares do not grow.

use std::fmt::Write as _;

/// So many steps in a row.
pub fn chain(steps: usize) -> String {
    let mut yaml = heading(&format!("chain_{steps}"));
    for nth in 0..steps {
        let parents: &[usize] = if nth == 0 { &[] } else { &[nth - 1] };
        step(&mut yaml, nth, parents);
    }
    yaml
}

/// One step, so many that wait for it, and one that waits for all of them.
pub fn fan_out(children: usize) -> String {
    let mut yaml = heading(&format!("fan_out_{children}"));
    step(&mut yaml, 0, &[]);
    for nth in 1..=children {
        step(&mut yaml, nth, &[0]);
    }
    let all: Vec<usize> = (1..=children).collect();
    step(&mut yaml, children + 1, &all);
    yaml
}

/// So many layers of so many steps. A step waits for the one above it, every second one also for
/// that one's neighbour.
pub fn layers(layers: usize, width: usize) -> String {
    let mut yaml = heading(&format!("graph_{}", layers * width));
    for nth in 0..layers * width {
        let (layer, place) = (nth / width, nth % width);
        let above = |place: usize| (layer - 1) * width + place % width;
        let parents = match (layer, nth % 2) {
            (0, _) => vec![],
            (_, 0) => vec![above(place)],
            _ => vec![above(place), above(place + 1)],
        };
        step(&mut yaml, nth, &parents);
    }
    yaml
}

fn heading(name: &str) -> String {
    format!("namespace: arithmetic\nname: {name}\nversion: 1.0.0\nsteps:\n")
}

fn step(yaml: &mut String, nth: usize, parents: &[usize]) {
    let callable = if parents.len() > 1 { "multiply_and_square" } else { "square" };
    let parents: Vec<String> = parents.iter().map(|parent| format!("s{parent}")).collect();
    let parents = parents.join(", ");
    writeln!(
        yaml,
        "- {{name: s{nth}, handler: {{callable: {callable}}}, dependencies: [{parents}]}}"
    )
    .expect("writing to a string cannot fail");
}
