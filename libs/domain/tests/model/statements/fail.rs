//! `steps/fail.sql`

use tasker_domain::{StepEvent, TaskEvent};

use super::{
    Rules, Source, admit_workers::admit_workers, fail_batch::fail_batch, is_fenced,
    usage::give_back,
};
use crate::{
    database::{Database, Delivery, Message, Outcome},
    flaw::Flaw,
    graph::Batch,
};

/// Judges a failure: what may be tried again waits for its back-off, the rest has failed for good.
pub(crate) fn fail(
    database: &mut Database,
    rules: &Rules,
    (delivery, retryable): (Delivery, bool),
    source: Source,
) {
    let step = delivery.step;
    let attempt = database.steps[step].as_ref().map_or(0, |step| step.attempt);
    let again = retryable && attempt < rules.max_attempts;
    let verdict = if again { StepEvent::WaitForRetry } else { StepEvent::Fail };
    let events: &[StepEvent] = match source {
        Source::Worker => &[StepEvent::EnqueueAsErrorForOrchestration, verdict],
        Source::Queue => &[verdict],
    };
    // Asked by what only a result that waits for its judge takes. Fail may come to a pending step, too:
    // a message that comes again after an operator's reset would end the step's new life.
    let asked = match source {
        Source::Worker => StepEvent::EnqueueAsErrorForOrchestration,
        Source::Queue if rules.flaw == Some(Flaw::AsksForTheVerdict) => verdict,
        Source::Queue => StepEvent::WaitForRetry,
    };
    let taken = source == Source::Worker
        || database.take(&Message::Result(delivery, Outcome::Failure { retryable }));
    let fenced = is_fenced(database, rules, delivery, source);
    let task = database.task.after(TaskEvent::StepFailed);
    if !taken || !fenced || task.is_err() || !database.allows(step, &[asked]) {
        return;
    }
    if let Some(batch) = rules.graph.batch_of(step) {
        leave_the_batch(database, rules, batch, again);
    }
    for event in events {
        database.move_step(step, *event);
    }
    if source == Source::Worker {
        database.accept(delivery);
    }
    if source == Source::Worker {
        give_back(database, rules, step);
    }
    database.counts.in_flight -= 1;
    if again {
        database.counts.waiting_for_retry += 1;
    } else {
        database.counts.failed += 1;
    }
    database.move_task(TaskEvent::StepFailed);
    database.evaluate();
}

/// What the failure of a worker does to its batch. One that is tried again keeps its place.
fn leave_the_batch(database: &mut Database, rules: &Rules, batch: Batch, again: bool) {
    if again {
        if rules.flaw == Some(Flaw::RetriesLeaveTheirPlace) {
            admit_workers(database, rules, 1);
        }
        return;
    }
    let fails_fast = batch.fails_fast && rules.flaw != Some(Flaw::GoesOnAfterAFailure);
    if fails_fast {
        fail_batch(database, rules);
    } else if rules.flaw != Some(Flaw::FailuresKeepTheirPlace) {
        admit_workers(database, rules, 1);
    }
}
