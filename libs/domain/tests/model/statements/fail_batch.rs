//! `steps/fail_batch.sql`

use tasker_domain::{StepEvent, StepState};

use super::Rules;
use crate::{database::Database, flaw::Flaw};

/// Fails the workers of a batch that have not begun, since one has failed for good.
pub(super) fn fail_batch(database: &mut Database, rules: &Rules) {
    for worker in rules.graph.workers() {
        let Some(row) = &database.steps[worker] else { continue };
        // What has answered and waits in its queue has yielded, or was reset: it goes on.
        let answered = row.accepted.is_some() && rules.flaw != Some(Flaw::CutsOffWhatHasYielded);
        let goes_on = row.state == StepState::Enqueued && answered;
        if !row.state.is_before_start() || row.attempt > 0 || goes_on {
            continue;
        }
        database.let_go(worker);
        let Some(row) = &mut database.steps[worker] else { continue };
        match row.state {
            StepState::Enqueued => database.counts.in_flight -= 1,
            _ if row.unmet_dependencies == 0 => database.counts.ready -= 1,
            _ => {}
        }
        row.unmet_dependencies = 0;
        database.counts.failed += 1;
        database.move_step(worker, StepEvent::Fail);
    }
}
