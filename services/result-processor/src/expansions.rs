//! What results bring into being, and what the ends of workers do to their batches: all that is written
//! beside the results themselves, and before them.

use std::collections::{BTreeMap, HashMap};

use tasker_api::v1;
use tasker_domain::{
    expand::{Birth, Existing, Limits},
    template::{Batching, FailureStrategy, Template},
};
use tasker_stage::{said, wire};
use tasker_store::{
    Completion, FailedByRule, NewStep, PassedOver, ReadyStep, Said, Settlement, Standing,
    StoreError, ToExpand, ToFail, WorkersToAdmit,
};
use uuid::Uuid;

use crate::{
    judge::Judgement,
    settle_steps::{Known, Unjudged, Unsettled},
};

pub mod by_hand;

/// What a batch of results brings with it.
pub struct Expansions<'k> {
    limits: Limits,
    /// By task, where something may come into being.
    existing: HashMap<Uuid, Existing<'k>>,
    /// What results say that were queued, by step.
    queued: HashMap<(Uuid, i32), Vec<u8>>,
    to_expand: Vec<ToExpand>,
    to_admit: BTreeMap<(Uuid, i32), WorkersToAdmit>,
    to_fail: BTreeMap<(Uuid, i32), ToFail>,
    to_pass_over: Vec<PassedOver>,
}

/// What was written beside the results.
pub struct Written {
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Workers of batches that have failed with another.
    pub failed: Vec<FailedByRule>,
}

impl<'k> Expansions<'k> {
    /// Reads what is needed to judge results: what exists in their tasks, and what was queued with them.
    pub async fn read(
        settlement: &mut Settlement,
        items: &[Unsettled],
        known: &'k [Option<Known>],
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let mut templates: HashMap<Uuid, &Template> = HashMap::new();
        let mut queued = Vec::new();
        for (item, known) in items.iter().zip(known) {
            let (Unjudged::Good(good), Some(known)) = (&item.result, known) else { continue };
            if known.step()?.kind.expands() {
                templates.insert(known.held.task_id, &known.template);
            }
            if good.said == Said::Stored {
                queued.push((known.held.task_id, known.held.ordinal));
            }
        }
        let said =
            if queued.is_empty() { Vec::new() } else { settlement.queued_said(&queued).await? };
        let said = queued.into_iter().zip(said);
        let tasks: Vec<Uuid> = templates.keys().copied().collect();
        let mut existing = HashMap::with_capacity(tasks.len());
        if !tasks.is_empty() {
            let mut standing = settlement.standing(&tasks).await?;
            for (task, template) in templates {
                let standing = standing.remove(&task).unwrap_or_default();
                existing.insert(task, existing_in(template, &standing)?);
            }
        }
        Ok(Self {
            limits,
            existing,
            queued: said.filter_map(|(step, said)| Some((step, said?))).collect(),
            to_expand: Vec::new(),
            to_admit: BTreeMap::new(),
            to_fail: BTreeMap::new(),
            to_pass_over: Vec::new(),
        })
    }

    /// Judges what a good result says of what comes into being by it.
    pub fn judge(&mut self, known: &Known, good: &Completion) -> Result<Judgement, StoreError> {
        let step = known.step()?;
        let (task_id, ordinal) = (known.held.task_id, known.held.ordinal);
        let said = match &good.said {
            Said::Nothing => None,
            Said::This(said) => Some(said.clone()),
            Said::Stored => self.queued.remove(&(task_id, ordinal)).map(Into::into),
        };
        let (expansion, cursors) = said.as_deref().map(said::read).transpose()?.unzip();
        let existing = self.existing.get_mut(&task_id).filter(|_| step.kind.expands());
        let births = match (existing, expansion) {
            (Some(existing), said) => {
                existing.expand(known.declared(), said.as_ref(), &self.limits)
            }
            (None, Some(said)) => Err(said.unexpected()),
            (None, None) => return Ok(Judgement::Complete),
        };
        let births = match births {
            Ok(births) => births,
            Err(why) => {
                let (error_type, message) = (why.error_type(), why.to_string());
                return Ok(Judgement::Fail { error_type, message });
            }
        };
        let mut cursors = cursors.unwrap_or_default();
        let births = births.into_iter().map(|birth| new_step(birth, &mut cursors)).collect();
        let (said, traceparent) = (said.unwrap_or_default(), good.traceparent.clone());
        self.to_expand.push(ToExpand { task_id, ordinal, said, births, traceparent });
        Ok(Judgement::Complete)
    }

    /// Notes that a step is complete. If it is the worker of a batch, another may begin.
    pub fn end_well(&mut self, known: &Known, good: &Completion) -> Result<(), StoreError> {
        if let Some(batching) = known.template.batching(known.declared()) {
            self.leave(known, batching, &good.traceparent);
        }
        Ok(())
    }

    /// Notes that a step has failed for good. Says whether that counts as done.
    pub fn end_badly(&mut self, known: &Known, traceparent: &str) -> Result<bool, StoreError> {
        let Some(batching) = known.template.batching(known.declared()) else { return Ok(false) };
        match batching.failure_strategy {
            FailureStrategy::ContinueOnFailure => {
                self.leave(known, batching, traceparent);
                self.to_pass_over.push(PassedOver {
                    task_id: known.held.task_id,
                    ordinal: known.held.ordinal,
                    declared: known.declared().0,
                    traceparent: traceparent.to_owned(),
                });
                return Ok(true);
            }
            FailureStrategy::FailFast => {
                let (task_id, declared) = (known.held.task_id, known.declared().0);
                let first = first_worker(&known.template);
                let traceparent = traceparent.to_owned();
                let failing = ToFail { task_id, declared, first, traceparent };
                self.to_fail.insert((task_id, declared), failing);
            }
            FailureStrategy::Isolate => self.leave(known, batching, traceparent),
        }
        Ok(false)
    }

    fn leave(&mut self, known: &Known, batching: Batching, traceparent: &str) {
        let (task_id, declared) = (known.held.task_id, known.declared().0);
        let place = self.to_admit.entry((task_id, declared)).or_insert_with(|| WorkersToAdmit {
            task_id,
            declared,
            first: first_worker(&known.template),
            parallelism: batching.parallelism.cast_signed(),
            leaving: 0,
            traceparent: traceparent.to_owned(),
        });
        place.leaving += 1;
    }

    /// Writes all of it.
    pub async fn write(
        self,
        settlement: &mut Settlement,
        actor: &str,
    ) -> Result<Written, StoreError> {
        let mut ready = settlement.expand(&self.to_expand).await?;
        ready.extend(settlement.pass_over(&self.to_pass_over).await?);
        // Before others are admitted: of a batch that fails, nobody is.
        let to_fail: Vec<ToFail> = self.to_fail.into_values().collect();
        let failed = settlement.fail_batches(&to_fail, actor).await?;
        let to_admit: Vec<WorkersToAdmit> = self.to_admit.into_values().collect();
        ready.extend(settlement.admit_workers(&to_admit).await?);
        Ok(Written { ready, failed })
    }
}

fn existing_in<'t>(
    template: &'t Template,
    standing: &Standing,
) -> Result<Existing<'t>, StoreError> {
    Ok(Existing::of(template, &standing.steps, &said::choices(&standing.said)?))
}

/// A step with its part of what was planned.
fn new_step(birth: Birth, cursors: &mut [v1::Payload]) -> NewStep {
    let nth = birth.batch.and_then(|batch| usize::try_from(batch).ok()?.checked_sub(1));
    let cursor = nth.and_then(|nth| cursors.get_mut(nth)).map(std::mem::take);
    NewStep { birth, cursor: cursor.map(wire::from_payload) }
}

/// Where workers of batches may be: after all steps of the template.
fn first_worker(template: &Template) -> i32 {
    i32::try_from(template.steps.len()).expect("a template's size is bounded")
}
