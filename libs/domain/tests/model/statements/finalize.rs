//! `tasks/finalize.sql`

use tasker_domain::{TaskEvent, TaskState};

use super::Rules;
use crate::{
    database::{Database, Message},
    flaw::Flaw,
};

/// Ends a task in which nothing moves any more, or says why it rests.
pub(crate) fn finalize(database: &mut Database, rules: &Rules) {
    if !database.take(&Message::Finalization) || database.task != TaskState::EvaluatingResults {
        return;
    }
    database.move_task(if rules.flaw == Some(Flaw::FinalizesUnseen) {
        TaskEvent::AllStepsSuccessful
    } else {
        TaskEvent::judged(&database.counts)
    });
}
