//! `tasks/reconcile.sql`, and `held_steps/let_go.sql` and `tasks/recount.sql` for what it finds held wrongly.

use tasker_domain::{StepState, TaskState};

use super::pause::send_again;
use crate::database::{Database, Hold, Message};

/// Sends again what a queue has lost, and what is held for no reason any more.
pub(crate) fn reconcile(database: &mut Database) {
    let wrongly: Vec<usize> = held_wrongly(database).collect();
    let is_held = |message: &Message| match message {
        Message::Ready(step) | Message::Enqueued(step) => wrongly.contains(step),
        Message::Result(..) | Message::Finalization => false,
    };
    let mut messages = forgotten(database);
    messages.retain(|message| !is_held(message));
    for message in messages {
        database.send(message);
    }
    for step in wrongly {
        send_again(database, step);
    }
}

/// Steps that are held though the pause is over, or that have moved on. Those that a limit holds are looked
/// at anyway.
pub(crate) fn held_wrongly(database: &Database) -> impl Iterator<Item = usize> + '_ {
    database.held.keys().copied().filter(|step| !is_held_rightly(database, *step))
}

fn is_held_rightly(database: &Database, step: usize) -> bool {
    let waits = database.state(step).is_some_and(StepState::is_before_start);
    let goes_on = database.held.get(&step).is_some_and(|hold| match hold {
        Hold::Limit => true,
        Hold::Pause => database.paused,
    });
    waits && goes_on && !database.task.is_end()
}

/// What should be in a queue and is not. Nothing, unless a message was lost.
pub(crate) fn forgotten(database: &Database) -> Vec<Message> {
    // A blocked task rests: it has no message.
    if database.task.is_end() || database.task == TaskState::BlockedByFailures {
        return Vec::new();
    }
    let of_steps = (0..database.steps.len()).filter_map(|step| of_step(database, step));
    let finalization =
        (database.task == TaskState::EvaluatingResults).then_some(Message::Finalization);
    let missing = finalization.filter(|message| !database.has(message));
    of_steps.chain(missing).collect()
}

fn of_step(database: &Database, step: usize) -> Option<Message> {
    let row = database.steps[step].as_ref()?;
    if is_held_rightly(database, step) {
        return None;
    }
    match row.state {
        StepState::Pending => {
            // What is held wrongly should be on its way, wherever that has its task stand.
            let enqueues =
                database.task == TaskState::EnqueuingSteps || database.held.contains_key(&step);
            let ready = row.unmet_dependencies == 0 && enqueues;
            ready.then_some(Message::Ready(step)).filter(|message| !database.has(message))
        }
        StepState::Enqueued => {
            Some(Message::Enqueued(step)).filter(|message| !database.has(message))
        }
        StepState::EnqueuedForOrchestration | StepState::EnqueuedAsErrorForOrchestration => {
            let of_it =
                |message: &Message| matches!(message, Message::Result(of, _) if of.step == step);
            let result = row.accepted.zip(row.result.clone());
            let missing = result.filter(|_| !database.messages().any(of_it));
            missing.map(|(delivery, outcome)| Message::Result(delivery, outcome))
        }
        StepState::InProgress
        | StepState::WaitingForRetry
        | StepState::Complete
        | StepState::Error
        | StepState::Cancelled
        | StepState::ResolvedManually => None,
    }
}
