//! The deliveries that this worker holds, from receipt until their results are settled.
//!
//! They outlive connections. As many as the concurrency run; there are at most twice as many in all,
//! since a delivery may overtake the acknowledgement that made room for it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tasker_api::v1::{Delivery, ResultVerdict, ResultVerdictFor, StepResult};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    context::StepContext,
    delivery::{self, Limits},
    failure::HandlerError,
    registry::Registry,
    saves::Saver,
};

pub(crate) struct Holdings {
    registry: Arc<Registry>,
    saver: Saver,
    concurrency: usize,
    grace: Duration,
    held: HashMap<String, Held>,
    /// In order of arrival; some may have left `held` since.
    waiting: VecDeque<String>,
    /// Handlers that run; those of lost deliveries, too, until they have stopped.
    running: JoinSet<StepResult>,
}

/// Where a delivery stands here.
enum Held {
    /// Waits for another handler to end.
    Waiting(StepContext, Option<Instant>),
    Running(CancellationToken),
    Done(StepResult),
    /// Done, and sent for the second time, after the mesh could not take the first result.
    Replaced(StepResult),
}

/// What became of a delivery that came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Held from now on, or held before.
    Yes,
    /// Not wanted: more than was asked for, or too late.
    No,
}

impl Holdings {
    pub(crate) fn new(
        registry: Arc<Registry>,
        saver: Saver,
        concurrency: usize,
        grace: Duration,
    ) -> Self {
        Self {
            registry,
            saver,
            concurrency,
            grace,
            held: HashMap::new(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = &String> {
        self.held.keys()
    }

    /// Takes a delivery. The same again changes nothing.
    pub(crate) fn take(&mut self, delivery: Delivery) -> Taken {
        let token = delivery.delivery_token.clone();
        if self.known(&token) == Taken::Yes {
            return Taken::Yes;
        }
        if self.held.len() >= 2 * self.concurrency {
            return Taken::No;
        }
        // Counted from the receipt: the server's clock is not ours, and it will say `Cancel` anyway.
        let timeout = delivery.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let step = StepContext::new(delivery).with_saver(self.saver.clone());
        self.held.insert(token.clone(), Held::Waiting(step, deadline));
        self.waiting.push_back(token);
        Taken::Yes
    }

    /// Takes only what is held already.
    pub(crate) fn known(&self, token: &str) -> Taken {
        if self.held.contains_key(token) { Taken::Yes } else { Taken::No }
    }

    /// Begins what waits, as far as there is room.
    pub(crate) fn begin_waiting(&mut self) {
        while self.running.len() < self.concurrency {
            let Some(token) = self.waiting.pop_front() else { return };
            if let Some(held @ Held::Waiting(..)) = self.held.get_mut(&token) {
                held.begin(&self.registry, self.grace, &mut self.running);
            }
        }
    }

    pub(crate) fn has_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Waits for a handler to end. Returns which deliveries are done now: all that have ended.
    ///
    /// Returns at once if none runs.
    pub(crate) async fn done(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        if let Some(Ok(result)) = self.running.join_next().await {
            done.extend(self.finish(result));
        }
        self.collect(&mut done);
        done
    }

    /// Returns which deliveries are done now, without waiting.
    pub(crate) fn collect(&mut self, done: &mut Vec<String>) {
        while let Some(ended) = self.running.try_join_next() {
            // The other ends are those of handlers that were dropped, whose results are made up.
            if let Ok(result) = ended {
                done.extend(self.finish(result));
            }
        }
    }

    fn finish(&mut self, result: StepResult) -> Option<String> {
        let token = result.delivery_token.clone();
        let held = self.held.get_mut(&token)?;
        // A result that was made up meanwhile stands.
        matches!(held, Held::Running(_)).then(|| *held = Held::Done(result))?;
        Some(token)
    }

    /// The result to send for a delivery, if it is done.
    pub(crate) fn result(&self, token: &str) -> Option<&StepResult> {
        match self.held.get(token)? {
            Held::Done(result) | Held::Replaced(result) => Some(result),
            Held::Waiting(..) | Held::Running(_) => None,
        }
    }

    /// Acts on the mesh's answer to a result. Returns whether there is another one to send.
    pub(crate) fn settle(&mut self, answer: &ResultVerdictFor) -> bool {
        let token = answer.delivery_token.as_str();
        if self.result(token).is_none() {
            return false;
        }
        match answer.verdict() {
            ResultVerdict::Committed | ResultVerdict::Duplicate => {}
            ResultVerdict::LeaseLost => debug!("A result came too late: its lease was lost"),
            ResultVerdict::Invalid => return self.refuse(answer),
            ResultVerdict::Unspecified => warn!(
                verdict = answer.verdict,
                "A result was answered in a way unknown here: taken as settled"
            ),
        }
        self.held.remove(token);
        false
    }

    fn refuse(&mut self, answer: &ResultVerdictFor) -> bool {
        let (token, reason) = (answer.delivery_token.as_str(), answer.reason.as_str());
        let Some(Held::Done(refused)) = self.held.remove(token) else {
            error!(reason, "The mesh refuses even the failure that stands for a refused result");
            return false;
        };
        error!(reason, "The mesh refuses a result: the step fails instead");
        let failure = HandlerError::permanent("RESULT_REFUSED", reason);
        let result = delivery::result(token, refused.trace, Err(failure));
        self.held.insert(token.to_owned(), Held::Replaced(result));
        true
    }

    /// Puts a failure in the place of a result that cannot be sent.
    pub(crate) fn replace(&mut self, token: &str, failure: HandlerError) {
        let result = delivery::result(token, None, Err(failure));
        self.held.insert(token.to_owned(), Held::Replaced(result));
    }

    /// Lets go of a delivery that is lost, and tells its handler to stop.
    pub(crate) fn lose(&mut self, token: &str) {
        if let Some(Held::Running(cancellation)) = self.held.remove(token) {
            cancellation.cancel();
        }
    }

    /// Lets go of all but these. Returns what was lost.
    pub(crate) fn keep(&mut self, resumed: &HashSet<String>) -> Vec<String> {
        let lost: Vec<_> =
            self.tokens().filter(|token| !resumed.contains(*token)).cloned().collect();
        if !lost.is_empty() {
            warn!(lost = lost.len(), "Leases were lost while there was no connection");
        }
        for token in &lost {
            self.lose(token);
        }
        lost
    }

    /// Lets go of what was not begun. Returns it.
    pub(crate) fn give_back(&mut self) -> Vec<String> {
        let mut waiting: Vec<_> = self.waiting.drain(..).collect();
        waiting.retain(|token| matches!(self.held.get(token), Some(Held::Waiting(..))));
        for token in &waiting {
            self.held.remove(token);
        }
        waiting
    }

    /// Drops all handlers. What they were at fails; returns it.
    pub(crate) fn abandon(&mut self) -> Vec<String> {
        self.running.abort_all();
        let open = |held: &Held| matches!(held, Held::Running(_) | Held::Waiting(..));
        let open: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| open(held))
            .map(|(token, _)| token.clone())
            .collect();
        for token in &open {
            self.lose(token);
            let failure = HandlerError::retryable("WORKER_STOPPED", "the worker has stopped");
            let result = delivery::result(token, None, Err(failure));
            self.held.insert(token.clone(), Held::Done(result));
        }
        open
    }
}

impl Held {
    fn begin(&mut self, registry: &Registry, grace: Duration, running: &mut JoinSet<StepResult>) {
        let Self::Waiting(step, deadline) = self else { return };
        let (step, limits) = (step.clone(), Limits { deadline: *deadline, grace });
        *self = Self::Running(step.cancellation().clone());
        let handler = registry.handler(&step.delivery().handler);
        running.spawn(delivery::run(handler, step, limits));
    }
}
