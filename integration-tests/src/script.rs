//! Handlers that do what their task's context tells them, attempt by attempt.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasker_worker::{
    Batches, Checkpoint, Decision, HandlerError, IntoOutput as _, Output, Registry, StepContext,
    Yield,
};
use tokio::time::sleep;

/// What a task is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Script {
    /// Whose it is: the key of limits.
    pub who: String,
    /// By step: runs of a batch have names of their own.
    pub steps: BTreeMap<String, Told>,
}

/// What a step is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// Beside its result.
    pub says: Says,
    /// For each attempt.
    pub lines: Vec<Line>,
}

/// What a good result says of what comes into being.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Says {
    /// It is none that could.
    Nothing,
    /// These of its dependants.
    Chooses(Vec<String>),
    /// So many runs of its worker.
    Plans(u32),
}

/// What a handler does in one attempt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Line {
    /// How long each delivery works, in ms.
    pub works_ms: u64,
    /// How often it yields before it ends, each time a page further.
    pub pages: u32,
    /// How it ends.
    pub end: End,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With an [`Answer`].
    Success,
    /// With an answer whose attempt is negative: not what a schema asks for.
    Misfit,
    /// With a failure that may be tried again, no sooner than this, in ms.
    Retryable {
        /// 0: as the step's template says.
        retry_after_ms: u64,
    },
    /// With a failure that may not.
    Permanent,
}

/// The good result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which attempt it is of; negative if that is a misfit.
    pub attempt: i32,
    /// How many pages are done, in all attempts together.
    pub pages: u32,
    /// Whose results it was given.
    pub given: BTreeSet<String>,
    /// Whose failures.
    pub failures: BTreeSet<String>,
    /// Which batch it is for, and whether there is nothing to do.
    pub batch: Option<(String, bool)>,
}

/// What a delivery comes to.
#[derive(Debug)]
pub enum Turn {
    /// One page is done, and the step goes on later.
    Page(Progress),
    /// A good end.
    Good(Output),
    /// A bad one.
    Bad(HandlerError),
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Progress {
    /// In all attempts.
    pub pages: u32,
    attempt: i32,
    of_attempt: u32,
}

/// The one handler: `follow`.
#[must_use]
pub fn scripted() -> Registry {
    let mut registry = Registry::new();
    registry.register_fn("follow", |step: StepContext| async move {
        sleep(line(&step)?.works()).await;
        match turn(&step)? {
            Turn::Good(output) => Ok(output),
            Turn::Bad(error) => Err(error),
            Turn::Page(progress) if progress.pages % 2 == 1 => {
                step.save_checkpoint(Checkpoint::at(&progress)?).await?;
                Err(Yield::from_last().into())
            }
            Turn::Page(progress) => Err(Yield::at(Checkpoint::at(&progress)?).into()),
        }
    });
    registry
}

/// What this delivery comes to.
///
/// # Errors
/// The task has no script for it.
pub fn turn(step: &StepContext) -> Result<Turn, HandlerError> {
    let (told, line) = (told(step)?, line(step)?);
    let before = step.checkpoint().unwrap_or_default();
    let before = before.cursor::<Progress>()?.unwrap_or_default();
    let of_attempt = if before.attempt == step.attempt() { before.of_attempt } else { 0 };
    if of_attempt < line.pages {
        return Ok(Turn::Page(Progress {
            pages: before.pages + 1,
            attempt: step.attempt(),
            of_attempt: of_attempt + 1,
        }));
    }
    let good = |attempt| said(&told.says, &answer(step, attempt, before.pages)?).map(Turn::Good);
    match line.end {
        End::Success => good(step.attempt()),
        End::Misfit => good(-step.attempt()),
        End::Retryable { retry_after_ms } => {
            let failure = HandlerError::retryable("told_to", "as the script says");
            Ok(Turn::Bad(failure.after(Duration::from_millis(retry_after_ms))))
        }
        End::Permanent => Ok(Turn::Bad(HandlerError::permanent("told_to", "as the script says"))),
    }
}

fn answer(step: &StepContext, attempt: i32, pages: u32) -> Result<Answer, HandlerError> {
    Ok(Answer {
        attempt,
        pages,
        given: step.dependencies::<Value>()?.into_keys().collect(),
        failures: step.failures().keys().cloned().collect(),
        batch: step.batch_id().map(|batch| (batch.to_owned(), step.is_no_op())),
    })
}

fn said(says: &Says, answer: &Answer) -> Result<Output, HandlerError> {
    match says {
        Says::Nothing => answer.into_output(),
        Says::Chooses(steps) => Decision::create_steps(steps).with_result(answer).into_output(),
        Says::Plans(count) => Batches::of(0..*count).with_result(answer).into_output(),
    }
}

/// What this attempt is told.
///
/// # Errors
/// The task has no script for it.
pub fn line(step: &StepContext) -> Result<Line, HandlerError> {
    let nth = usize::try_from(step.attempt() - 1).unwrap_or_default();
    let none = || HandlerError::permanent("no_line", "the script has no line for this attempt");
    told(step)?.lines.get(nth).copied().ok_or_else(none)
}

fn told(step: &StepContext) -> Result<Told, HandlerError> {
    let mut script = step.input::<Script>()?;
    let none = || HandlerError::permanent("no_line", "the script has no line for this step");
    script.steps.remove(step.step_name()).ok_or_else(none)
}

impl Line {
    /// How long each delivery works.
    #[must_use]
    pub fn works(&self) -> Duration {
        Duration::from_millis(self.works_ms)
    }
}
