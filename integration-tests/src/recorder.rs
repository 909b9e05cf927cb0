//! Handlers that note when they ran.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tasker_worker::{HandlerError, Output, PayloadHandler, Registry, StepContext, async_trait};

/// One run of a handler.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whose step it was.
    pub task_id: String,
    /// Which step.
    pub step: String,
    /// 1 for the first.
    pub attempt: i32,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// What handlers have run, of any number of workers.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Run>>>);

impl Recorder {
    /// The same handlers, whose runs are noted.
    pub fn of(&self, handlers: &Registry) -> Registry {
        let mut recorded = Registry::new();
        for callable in handlers.callables() {
            if let Some(inner) = handlers.handler(callable) {
                recorded.register_payload(callable, Recorded { inner, recorder: self.clone() });
            }
        }
        recorded
    }

    /// The runs of a task that have ended, by step: the last of each.
    pub fn runs(&self, task_id: &str) -> BTreeMap<String, Run> {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_task = runs.iter().filter(|run| run.task_id == task_id);
        of_task.map(|run| (run.step.clone(), run.clone())).collect()
    }

    /// How many runs have ended.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

struct Recorded {
    inner: Arc<dyn PayloadHandler>,
    recorder: Recorder,
}

#[async_trait]
impl PayloadHandler for Recorded {
    async fn run(&self, step: &StepContext) -> Result<Output, HandlerError> {
        let began = Instant::now();
        let result = self.inner.run(step).await;
        let run = Run {
            task_id: step.task_id().to_owned(),
            step: step.step_name().to_owned(),
            attempt: step.attempt(),
            began,
            ended: Instant::now(),
        };
        self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        result
    }
}
