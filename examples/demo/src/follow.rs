//! One task: submitted, watched to its end, and asked for its answer.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use serde_json::Value;
use tasker_client::{
    Client, NewTask, has_settled, json,
    v1::{StepState, StepTransition, TaskState, watch_task_response::Transition},
};
use tokio::{sync::mpsc, time::timeout};

use crate::cases::Case;

/// What came of a task.
pub(crate) struct Outcome {
    /// In the words of [`Case::expected`], or what went wrong.
    pub(crate) got: String,
    /// From before it was submitted until it was seen to end or block.
    pub(crate) latency: Duration,
}

/// Something that happened to a task.
#[derive(Debug)]
pub(crate) enum Happening {
    Step { name: String, state: StepState, attempt: i32 },
    Settled { how: String, latency: Duration },
}

/// Tells the view about one task.
pub(crate) struct News {
    number: usize,
    tell: mpsc::Sender<(usize, Happening)>,
}

impl News {
    pub(crate) fn new(number: usize, tell: mpsc::Sender<(usize, Happening)>) -> Self {
        Self { number, tell }
    }

    async fn tell(&self, happening: Happening) {
        // A view that has failed reports it itself; the tasks go on.
        self.tell.send((self.number, happening)).await.ok();
    }
}

/// Submits a task and follows it until it ends or is blocked.
pub(crate) async fn follow(client: &Client, case: &Case, limit: Duration, news: News) -> Outcome {
    let began = Instant::now();
    let settled = timeout(limit, settle(client, case, &news)).await;
    let latency = began.elapsed();
    let (how, got) = match settled {
        Ok(Ok((task_id, state))) => {
            let got = answer(client, case, &task_id, state).await;
            (name(state.as_str_name(), "TASK_STATE_"), got)
        }
        Ok(Err(error)) => ("failed".to_owned(), Err(error)),
        Err(_) => ("not settled".to_owned(), Ok(format!("nothing within {limit:?}"))),
    };
    let got = got.unwrap_or_else(|error| format!("{error:#}"));
    news.tell(Happening::Settled { how, latency }).await;
    Outcome { got, latency }
}

async fn settle(client: &Client, case: &Case, news: &News) -> anyhow::Result<(String, TaskState)> {
    let task = NewTask::of(case.namespace, case.template)
        .context(&case.context)?
        .correlation_id(case.name.as_str())
        .requested_by("tasker-demo");
    let task_id = client.create_task(task).await.context("the submission is refused")?.task_id;
    let mut events = pin!(client.watch_task(&task_id));
    while let Some(event) = events.try_next().await.context("the watch has failed")? {
        match event.transition {
            Some(Transition::Task(moved)) if has_settled(moved.state()) => {
                return Ok((task_id, moved.state()));
            }
            Some(Transition::Step(moved)) => news.tell(step(moved)).await,
            Some(Transition::Task(_) | Transition::Paused(_) | Transition::Resumed(_)) | None => {}
        }
    }
    anyhow::bail!("the watch of task {task_id} ended before the task did")
}

fn step(moved: StepTransition) -> Happening {
    Happening::Step { state: moved.state(), attempt: moved.attempt, name: moved.step_name }
}

/// What a settled task came to.
async fn answer(
    client: &Client,
    case: &Case,
    task_id: &str,
    state: TaskState,
) -> anyhow::Result<String> {
    match state {
        TaskState::Complete => {
            let step = client.get_step(task_id, case.answer.step).await?;
            let payload = step.result.and_then(|result| result.payload);
            let result: Value = json::parse(&payload.context("there is no result")?)?;
            let answer = result.pointer(case.answer.pointer);
            let answer = answer.context("the result holds no answer")?;
            Ok(format!("{answer}{}", case.answer.unit))
        }
        TaskState::BlockedByFailures => {
            let steps: Vec<_> = client.list_steps(task_id).try_collect().await?;
            let failed = steps.into_iter().filter(|step| step.state() == StepState::Error);
            let failures = failed.map(|step| {
                let error = step.result.and_then(|result| result.error).unwrap_or_default();
                format!("{}: {}", step.name, error.r#type)
            });
            Ok(failures.collect::<Vec<_>>().join(", "))
        }
        other => Ok(name(other.as_str_name(), "TASK_STATE_")),
    }
}

/// The name of a state as people say it: `TASK_STATE_COMPLETE` is `complete`.
pub(crate) fn name(proto: &str, prefix: &str) -> String {
    proto.strip_prefix(prefix).unwrap_or(proto).to_lowercase().replace('_', " ")
}
