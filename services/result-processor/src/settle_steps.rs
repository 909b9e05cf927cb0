//! The long way: settles results of steps that are not plain.
//!
//! A plain step's result concerns the step and its dependants, and one statement takes it. What else a
//! template may ask of a result is done here, in one transaction for a batch: steps are locked with their
//! tasks, the results are judged with the templates at hand ([`judge`](crate::judge)), what comes of that
//! is written, and the steps are completed or failed by the statements of the fast way.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tasker_domain::{Ordinal, Template, TemplateId, expand::Limits, template::Step};
use tasker_stack::gather::{Gap, Stage};
use tasker_store::{
    Completion, DomainEvent, Failure, Held, Judged, Locked, Payload, Settlement, Started,
    StoreError, ToLock, Verdict,
};
use tracing::Span;
use uuid::Uuid;

use crate::{
    announce::Outlets,
    complete_steps::{self, Completed},
    events::{End, Ending, Event, events_of, events_of_failed, undeclared},
    expansions::Expansions,
    fail_steps::{self, Failed},
    judge::{Judgement, judge},
    patience::Patience,
};

/// What the fast way made of a result.
pub enum Fast<T> {
    /// It is judged.
    Judged(T),
    /// Nothing: its step is not plain.
    NotPlain(Box<Unsettled>),
}

/// A result that goes the long way.
#[derive(Debug, Clone)]
pub struct Unsettled {
    pub result: Unjudged,
    /// Of the fast way, where it is found that a step is not plain: the work goes on under it, and a
    /// failure waits as long as was found there.
    span: Option<Span>,
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub enum Unjudged {
    Good(Completion),
    Bad(Failed),
}

/// The verb.
pub struct SettleSteps {
    pub outlets: Outlets,
    pub patience: Patience,
    /// How far one decision may go.
    pub limits: Limits,
}

/// What is known of the step of a result that will be taken.
pub struct Known {
    pub template: Arc<Template>,
    pub held: Held,
    pub locked: Locked,
}

/// What a batch comes to, each with its place among the items.
#[derive(Default)]
struct Settled {
    good: Vec<(usize, Completion)>,
    bad: Vec<(usize, Failure)>,
    /// Without a place: of a step that has failed with another.
    events: Vec<(Option<usize>, Event)>,
    spans: Vec<Span>,
}

impl Unsettled {
    /// A good result that goes the long way from the beginning.
    pub fn good(item: Completion) -> Self {
        Self { result: Unjudged::Good(item), span: None }
    }

    /// A result, traced, that the fast way has left.
    pub fn left(result: Unjudged, span: Span) -> Self {
        Self { result, span: Some(span) }
    }

    fn held(&self) -> Held {
        match &self.result {
            Unjudged::Good(item) => item.held,
            Unjudged::Bad(item) => item.failure.held,
        }
    }

    fn message_id(&self) -> Option<i64> {
        match &self.result {
            Unjudged::Good(item) => item.message_id,
            Unjudged::Bad(item) => item.failure.message_id,
        }
    }
}

impl Stage for SettleSteps {
    type Item = Unsettled;
    type Answer = Completed;
    type Error = StoreError;
    type Key = (Uuid, i32);

    // Gathered by step-enqueuer.
    const GAP: Gap = Gap::None;

    fn key(item: &Unsettled) -> (Uuid, i32) {
        (item.held().task_id, item.held().ordinal)
    }

    async fn apply(&self, items: &[Unsettled]) -> Result<Vec<Completed>, StoreError> {
        let mut settled = Settled::default();
        let judged = self.settle(items, &mut settled).await;
        let (verdicts, started) = self.outlets.tell(judged)?;
        self.outlets.events.tell(settled.fast_events());
        Ok(settled.answers(verdicts, started))
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

impl SettleSteps {
    async fn settle(
        &self,
        items: &[Unsettled],
        settled: &mut Settled,
    ) -> Result<Judged, StoreError> {
        let actor = &self.outlets.actor;
        let waits = self.waits(items).await?;
        let mut settlement = self.outlets.database.store.begin_settlement().await?;
        let known = self.lock(&mut settlement, items).await?;
        let mut expansions = Expansions::read(&mut settlement, items, &known, self.limits).await?;
        for (place, (item, known)) in items.iter().zip(&known).enumerate() {
            settled.judge(place, item, known.as_ref(), &waits, &mut expansions)?;
        }
        let written = expansions.write(&mut settlement, actor).await?;
        let completed = settlement.complete(&items_of(&settled.good), actor).await?;
        let failed = settlement.fail(&items_of(&settled.bad), actor).await?;
        let mut judged = settled.joined(completed, failed);
        judged.ready.extend(written.ready);
        settled.forget_events_of_the_refused(&judged.verdicts);
        let by_rule = events_of_failed(&self.outlets.database.store, &written.failed).await?;
        settled.events.extend(by_rule.into_iter().map(|event| (None, event)));
        settlement.publish(&settled.durable_events()).await?;
        settlement.commit().await?;
        Ok(judged)
    }

    /// How long each failure waits, by place, where that is not known yet.
    async fn waits(&self, items: &[Unsettled]) -> Result<HashMap<usize, Duration>, StoreError> {
        let bad = items.iter().enumerate().filter_map(|(place, item)| match &item.result {
            Unjudged::Bad(failed) if item.span.is_none() => Some((place, failed.clone())),
            Unjudged::Good(_) | Unjudged::Bad(_) => None,
        });
        let (places, failed): (Vec<usize>, Vec<Failed>) = bad.unzip();
        if failed.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(places.into_iter().zip(self.patience.waits(&failed).await?).collect())
    }

    /// Locks the steps of a batch. Of a result that will not be taken nothing is known: the statements
    /// say why.
    async fn lock(
        &self,
        settlement: &mut Settlement,
        items: &[Unsettled],
    ) -> Result<Vec<Option<Known>>, StoreError> {
        let to_lock =
            |item: &Unsettled| ToLock { message_id: item.message_id(), held: item.held() };
        let to_lock: Vec<ToLock> = items.iter().map(to_lock).collect();
        let locked = settlement.lock(&to_lock).await?;
        let mut known = Vec::with_capacity(items.len());
        for (item, locked) in items.iter().zip(locked) {
            known.push(match locked.filter(|locked| locked.is_held) {
                Some(locked) => {
                    let template = TemplateId(locked.template_id);
                    let template = self.outlets.database.store.template(template).await?;
                    Some(Known { template, held: item.held(), locked })
                }
                None => None,
            });
        }
        Ok(known)
    }
}

impl Known {
    /// The step, as its template declares it.
    pub fn step(&self) -> Result<&Step, StoreError> {
        let Held { task_id, ordinal, .. } = self.held;
        self.template.step(self.declared()).ok_or_else(|| undeclared(task_id, ordinal))
    }

    /// The step, as one that ends.
    fn ending<'a>(&'a self, traceparent: &'a str) -> Result<Ending<'a>, StoreError> {
        Ok(Ending {
            template: &self.template,
            step: self.step()?,
            task_id: self.held.task_id,
            ordinal: self.held.ordinal,
            name: &self.locked.name,
            attempt: self.locked.attempt,
            correlation_id: &self.locked.correlation_id,
            traceparent,
        })
    }

    /// The step of the template that it is, or is a run of.
    pub fn declared(&self) -> Ordinal {
        self.locked.declared
    }

    /// The result itself: stored already, if it was queued.
    fn result<'a>(&'a self, good: &'a Completion) -> &'a Payload {
        match &self.locked.stored {
            Some(Ok(stored)) => stored,
            _ => &good.payload,
        }
    }

    /// What a failure says: stored already, if it was queued.
    fn error<'a>(&'a self, failure: &'a Failure) -> (&'a str, &'a str) {
        match &self.locked.stored {
            Some(Err((error_type, message))) => (error_type, message),
            _ => (&failure.error_type, &failure.error_message),
        }
    }

    /// Whether a failure is the end, as fail.sql judges it.
    fn ends_with(&self, failure: &Failure) -> bool {
        !failure.retryable || self.locked.attempt >= self.locked.max_attempts
    }
}

fn items_of<T: Clone>(items: &[(usize, T)]) -> Vec<T> {
    items.iter().map(|(_, item)| item.clone()).collect()
}

impl Settled {
    fn judge(
        &mut self,
        place: usize,
        item: &Unsettled,
        known: Option<&Known>,
        waits: &HashMap<usize, Duration>,
        expansions: &mut Expansions<'_>,
    ) -> Result<(), StoreError> {
        match (&item.result, known) {
            (Unjudged::Good(good), None) => {
                let good = self.traced_good(good.clone(), item.span.as_ref());
                self.good.push((place, good));
                Ok(())
            }
            (Unjudged::Good(good), Some(known)) => {
                let judgement = match judge(known.step()?, known.result(good)) {
                    Judgement::Complete => expansions.judge(known, good)?,
                    failed @ Judgement::Fail { .. } => failed,
                };
                match judgement {
                    Judgement::Complete => {
                        let good = self.traced_good(good.clone(), item.span.as_ref());
                        self.complete(place, good, known, expansions)
                    }
                    Judgement::Fail { error_type, message } => {
                        let failed = refused(good, known.locked.attempt, error_type, message);
                        let failure = match &item.span {
                            Some(span) => {
                                fail_steps::name_for_failure(span, &failed);
                                failed.failure
                            }
                            None => self.traced_bad(failed, Duration::ZERO),
                        };
                        self.fail(place, failure, Some(known), expansions)
                    }
                }
            }
            (Unjudged::Bad(failed), known) => {
                let failure = match waits.get(&place) {
                    Some(wait) => self.traced_bad(failed.clone(), *wait),
                    None => failed.failure.clone(),
                };
                self.fail(place, failure, known, expansions)
            }
        }
    }

    /// Under the span that it has, or one of its own.
    fn traced_good(&mut self, good: Completion, begun: Option<&Span>) -> Completion {
        if begun.is_some() {
            return good;
        }
        let (span, good) = complete_steps::traced(good);
        self.spans.push(span);
        good
    }

    fn traced_bad(&mut self, failed: Failed, wait: Duration) -> Failure {
        let (span, failure) = fail_steps::traced((failed, wait));
        self.spans.push(span);
        failure
    }

    fn complete(
        &mut self,
        place: usize,
        good: Completion,
        known: &Known,
        expansions: &mut Expansions<'_>,
    ) -> Result<(), StoreError> {
        expansions.end_well(known, &good)?;
        let events = events_of(known.ending(&good.traceparent)?, End::Success(known.result(&good)));
        self.events.extend(events.into_iter().map(|event| (Some(place), event)));
        self.good.push((place, good));
        Ok(())
    }

    fn fail(
        &mut self,
        place: usize,
        mut failure: Failure,
        known: Option<&Known>,
        expansions: &mut Expansions<'_>,
    ) -> Result<(), StoreError> {
        if let Some(known) = known.filter(|known| known.ends_with(&failure)) {
            failure.passed_over = expansions.end_badly(known, &failure.traceparent)?;
            let (error_type, message) = known.error(&failure);
            let end = End::Failure { error_type, message, retryable: failure.retryable };
            let events = events_of(known.ending(&failure.traceparent)?, end);
            self.events.extend(events.into_iter().map(|event| (Some(place), event)));
        }
        self.bad.push((place, failure));
        Ok(())
    }

    /// What both statements say, as if it were one; verdicts in the order of the items.
    fn joined(&self, completed: Judged, failed: Judged) -> Judged {
        let mut verdicts = vec![Verdict::LeaseLost; self.good.len() + self.bad.len()];
        let of_good = self.good.iter().map(|(place, _)| *place).zip(completed.verdicts);
        let of_bad = self.bad.iter().map(|(place, _)| *place).zip(failed.verdicts);
        for (place, verdict) in of_good.chain(of_bad) {
            verdicts[place] = verdict;
        }
        let mut watched = completed.watched;
        watched.extend(failed.watched);
        let mut finalizations = completed.finalizations;
        finalizations.extend(failed.finalizations);
        let Judged { started, ready, rested, awaited, .. } = completed;
        let retries = failed.retries;
        Judged { verdicts, started, ready, finalizations, watched, rested, awaited, retries }
    }

    /// A result that is not taken tells nothing.
    fn forget_events_of_the_refused(&mut self, verdicts: &[Verdict]) {
        self.events
            .retain(|(place, _)| place.is_none_or(|place| verdicts[place] == Verdict::Committed));
    }

    fn durable_events(&self) -> Vec<&DomainEvent> {
        let durable = self.events.iter().filter(|(_, (_, way))| way.is_durable());
        durable.map(|(_, (event, _))| event).collect()
    }

    fn fast_events(&mut self) -> impl Iterator<Item = DomainEvent> + use<> {
        let events = std::mem::take(&mut self.events).into_iter();
        events.filter(|(_, (_, way))| way.is_fast()).map(|(_, (event, _))| event)
    }

    /// The answer to each item, in order.
    fn answers(self, verdicts: Vec<Verdict>, started: Vec<Started>) -> Vec<Completed> {
        let good: HashMap<usize, Completion> = self.good.into_iter().collect();
        let mut started = complete_steps::by_delivery(started);
        let answer = |(place, verdict)| match good.get(&place) {
            Some(item) => complete_steps::answer(item, verdict, &mut started),
            None => Completed::without_next(verdict),
        };
        verdicts.into_iter().enumerate().map(answer).collect()
    }
}

/// A good result that its step fails for.
fn refused(good: &Completion, attempt: i32, error_type: &str, message: String) -> Failed {
    Failed {
        attempt,
        retry_after: Duration::ZERO,
        at_once: true,
        failure: Failure {
            message_id: good.message_id,
            held: good.held,
            error_type: error_type.to_owned(),
            error_message: message,
            retryable: false,
            wait_ms: 0,
            worker_id: good.worker_id.clone(),
            traceparent: good.traceparent.clone(),
            passed_over: false,
        },
    }
}
