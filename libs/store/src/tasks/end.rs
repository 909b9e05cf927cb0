//! Tasks end by hand or by rule.

use tasker_domain::{TaskEvent, TaskId, TaskState};
use uuid::Uuid;

use crate::{Store, StoreError};

/// A task to end.
#[derive(Debug, Clone)]
pub struct ToEnd {
    /// Which.
    pub task_id: TaskId,
    /// `Cancel`, `Timeout`, `ManualResolution` or `GiveUp`.
    pub event: TaskEvent,
    /// Who is named in the history.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What became of a task that was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It has ended in this state.
    Ended(TaskState),
    /// It stands in this state, which does not take the event.
    Stands(TaskState),
    /// There is no such task.
    Unknown,
}

/// What came of a batch of ends.
#[derive(Debug, Default)]
pub struct Ended {
    /// One for each item, in order.
    pub endings: Vec<Ending>,
    /// Tasks that ended and are watched.
    pub watched: Vec<Uuid>,
    /// Deliveries that workers have lost.
    pub lost: Vec<Uuid>,
}

impl Store {
    /// Ends tasks, and cancels what is open of them. Each task at most once a batch.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn end_tasks(&self, items: &[ToEnd]) -> Result<Ended, StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.task_id.0).collect();
        let events: Vec<String> = items.iter().map(|item| format!("{:?}", item.event)).collect();
        let actors: Vec<String> = items.iter().map(|item| item.actor.clone()).collect();
        let reasons: Vec<Option<&str>> = items.iter().map(|item| said(&item.reason)).collect();
        let mut tx = self.hold_tasks(&task_ids).await?;
        let rows = sqlx::query_file!(
            "sql/tasks/end.sql",
            &task_ids,
            &events,
            &actors,
            &reasons as &[Option<&str>]
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut ended = Ended { endings: vec![Ending::Unknown; items.len()], ..Ended::default() };
        for row in rows {
            if let Some(delivery) = row.lost {
                ended.lost.push(delivery);
                continue;
            }
            let ending = match row.state {
                Some(state) => Ending::Ended(parse(&state)?),
                None => Ending::Stands(parse(&row.before)?),
            };
            if let Some(place) = task_ids.iter().position(|task| *task == row.task_id) {
                ended.endings[place] = ending;
            }
            if row.watched {
                ended.watched.push(row.task_id);
            }
        }
        Ok(ended)
    }
}

/// A reason as the history keeps it: nothing where there is none.
pub(crate) fn said(reason: &str) -> Option<&str> {
    (!reason.is_empty()).then_some(reason)
}

fn parse(state: &str) -> Result<TaskState, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { table: "tasks", what };
    state.parse().map_err(|error| corrupt(format!("{error}")))
}
