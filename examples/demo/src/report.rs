//! The table at the end.

use std::{io::Write as _, time::Duration};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use crate::{cases::Case, follow::Outcome};

/// Columns of a terminal that a table can be read on.
const NARROWEST: u16 = 60;

pub(crate) fn print(cases: &[Case], outcomes: &[Outcome]) -> std::io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["Task", "Template", "Came to", "Expected", "Latency"]);
    for (case, outcome) in cases.iter().zip(outcomes) {
        table.add_row([
            case.name.clone(),
            format!("{}/{}", case.namespace, case.template),
            outcome.got.clone(),
            judged(case, outcome),
            milliseconds(outcome.latency),
        ]);
    }
    // Some terminals do not know how wide they are.
    if table.width().is_some_and(|width| width < NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    if let Some(latency) = table.column_mut(4) {
        latency.set_cell_alignment(CellAlignment::Right);
    }
    let good = cases.iter().zip(outcomes).filter(|(case, outcome)| is_good(case, outcome)).count();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{table}\n{good} of {} tasks came out as expected.", cases.len())
}

pub(crate) fn is_good(case: &Case, outcome: &Outcome) -> bool {
    case.expected == outcome.got
}

fn judged(case: &Case, outcome: &Outcome) -> String {
    if is_good(case, outcome) {
        "✓ the same".to_owned()
    } else {
        format!("✗ {}", case.expected)
    }
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
