//! What has happened to a task: decodes, reads, encodes.

use tasker_api::{
    Invalid, field, page, status, time,
    v1::{
        self, ListTransitionsRequest, ListTransitionsResponse, StepMove, TaskMove, TaskPaused,
        TaskResumed, transition::Moved,
    },
};
use tasker_stage::{Database, store_error};
use tasker_store::{Past, PastMove, StoreError};
use tonic::Status;

/// One page of a task's history.
pub async fn list(
    database: &Database,
    request: ListTransitionsRequest,
) -> Result<ListTransitionsResponse, Status> {
    let mut invalid = Invalid::new();
    let task = invalid.take(field::task_id(&request.task_id));
    let step = invalid.take(field::text("step_name", request.step_name, 128));
    let size = invalid.take(page::size(request.page_size));
    let after = invalid.take(after(&request.page_token));
    let (Some(task), Some(step), Some(size), Some(after)) = (task, step, size, after) else {
        return Err(invalid.into());
    };
    let step = (!step.is_empty()).then_some(step);
    let failed = |error: StoreError| {
        database.noticed(&error);
        store_error(&error)
    };
    let row = database.store.task(task).await.map_err(failed)?;
    let row = row.ok_or_else(|| status::not_found("task", &task.to_string()))?;
    if let Some(name) = &step
        && database.store.step(task, name).await.map_err(failed)?.is_none()
    {
        return Err(status::not_found("step", &format!("{task}/{name}")));
    }
    let past = database.store.history(task, row.created_at, step.as_deref(), after, size + 1).await;
    let mut past = past.map_err(failed)?;
    let more = past.len() > usize::try_from(size).expect("a page is small");
    past.truncate(usize::try_from(size).expect("a page is small"));
    let last = past.last().filter(|_| more);
    let next_page_token = last.map(|past| page::token(&[&past.id.to_string()])).unwrap_or_default();
    let transitions = past.into_iter().map(transition).collect();
    Ok(ListTransitionsResponse { transitions, next_page_token })
}

/// The last transition of the page before.
fn after(page_token: &str) -> Result<i64, Invalid> {
    let wrong = || Invalid::field("page_token", "give `next_page_token` of the page before");
    match page::key::<1>(page_token)? {
        Some([id]) => id.parse().map_err(|_| wrong()),
        None => Ok(0),
    }
}

fn transition(past: Past) -> v1::Transition {
    let moved = match past.moved {
        PastMove::Task { from, to } => Moved::Task(TaskMove {
            from: from.map(v1::TaskState::from).unwrap_or_default().into(),
            to: v1::TaskState::from(to).into(),
        }),
        PastMove::Paused => {
            Moved::Paused(TaskPaused { reason: past.reason.clone().unwrap_or_default() })
        }
        PastMove::Resumed => {
            Moved::Resumed(TaskResumed { reason: past.reason.clone().unwrap_or_default() })
        }
        PastMove::Step { name, attempt, from, to } => Moved::Step(StepMove {
            step_name: name,
            from: from.map(v1::StepState::from).unwrap_or_default().into(),
            to: v1::StepState::from(to).into(),
            attempt,
        }),
    };
    v1::Transition {
        time: Some(time::timestamp(past.occurred_at)),
        actor: past.actor,
        reason: past.reason.unwrap_or_default(),
        events: past.events,
        duration: past.stayed.map(time::duration),
        moved: Some(moved),
    }
}
