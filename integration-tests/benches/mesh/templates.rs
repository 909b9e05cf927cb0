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
