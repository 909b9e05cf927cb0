//! Steps with limits begin where a worker has room, a limit a place, and a rate time for them. Until then
//! they are held: they take no places that results bring, and pass no worker queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tasker_domain::{
    Ordinal, Template, TemplateId,
    template::Limit,
    usage::{Blocked, Limited, limited},
};
use tasker_store::{
    Announcement, Content, Held, HeldStep, ReadyStep, StoreError, ToAdmit, ToHold, WaitingStep,
    asked,
};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::{
    at_hand::TaskAtHand,
    deliver::{Deliveries, Match},
    roster::Seat,
};

/// Values of limits that one look takes in; of each, so many of the steps that go next.
const VALUES: usize = 1_000;
const OF_EACH: std::ops::RangeInclusive<usize> = 1..=50;

/// A held step that its limits let begin, as far as a look without locks can tell.
pub struct Candidate {
    pub step: HeldStep,
    template: Arc<Template>,
}

/// What a look at the held steps of a namespace has found.
#[derive(Default)]
pub struct Look {
    pub may_begin: Vec<Candidate>,
    /// Those that another limit holds than was thought.
    refused: Vec<(HeldStep, Blocked)>,
    /// How far it has come with each callable: to a value behind which there may be more, or to the last.
    pub reached: Vec<(String, Option<Limited>)>,
    /// Callables of which nothing is held any more.
    pub gone: Vec<String>,
    /// How long until the first rate may let another begin.
    pub wait: Option<Duration>,
}

impl Candidate {
    fn limits(&self) -> &[Limit] {
        limits(&self.template, self.step.declared)
    }
}

fn limits(template: &Template, declared: Ordinal) -> &[Limit] {
    template.step(declared).map_or(&[], |step| &step.limits)
}

/// A step that waits for something, and may have limits.
pub trait Waits {
    /// Whose step it is, and which.
    fn key(&self) -> (Uuid, i32);
    /// The step of the template that it is, or is a run of.
    fn declared(&self) -> Ordinal;
    /// The task's context, if it is known.
    fn context(&self) -> Option<&[u8]>;
}

impl Waits for ReadyStep {
    fn key(&self) -> (Uuid, i32) {
        (self.task_id, self.ordinal)
    }

    fn declared(&self) -> Ordinal {
        self.declared()
    }

    fn context(&self) -> Option<&[u8]> {
        let content = self.content.as_ref().filter(|content| content.has_context());
        content.map(|content: &Content| content.context.data.as_ref())
    }
}

impl Waits for WaitingStep {
    fn key(&self) -> (Uuid, i32) {
        (self.task_id, self.ordinal)
    }

    fn declared(&self) -> Ordinal {
        self.declared()
    }

    fn context(&self) -> Option<&[u8]> {
        None
    }
}

/// Whether a step of a template has limits.
pub fn has_limits(template: &Template, declared: Ordinal) -> bool {
    !limits(template, declared).is_empty()
}

/// The first limit that a step is held to, and the values of all; nothing for steps without limits.
pub async fn held_to<S: Waits>(
    deliveries: &Deliveries,
    steps: &[(&S, Arc<Template>)],
) -> Result<HashMap<(Uuid, i32), (Limited, Vec<String>)>, StoreError> {
    let with_limits: Vec<_> =
        steps.iter().filter(|(step, template)| has_limits(template, step.declared())).collect();
    if with_limits.is_empty() {
        return Ok(HashMap::new());
    }
    let unknown = with_limits.iter().filter(|(step, template)| {
        let keyed = limits(template, step.declared()).iter().any(|limit| limit.key.is_some());
        keyed && step.context().is_none()
    });
    let unknown: Vec<Uuid> = unknown.map(|(step, _)| step.key().0).collect();
    let read: HashMap<Uuid, Vec<u8>> = if unknown.is_empty() {
        HashMap::new()
    } else {
        deliveries.database.store.contexts(&unknown).await?.into_iter().collect()
    };
    let held = with_limits.into_iter().filter_map(|(step, template)| {
        let (task, _) = step.key();
        let context = read.get(&task).map(Vec::as_slice).or(step.context()).unwrap_or_default();
        // What is no JSON has no values.
        let context: Value = serde_json::from_slice(context).unwrap_or_default();
        let limits = limits(template, step.declared());
        let values: Vec<String> = limits.iter().map(|limit| limit.value_of(&context)).collect();
        let (first, _) = limited(limits, &values).next()?;
        Some((step.key(), (first, values)))
    });
    Ok(held.collect())
}

/// Has steps held by their limits that lie in a worker queue: their workers gave them back, and they have
/// no place any more.
pub async fn hold(
    deliveries: &Deliveries,
    namespace: &str,
    found: Vec<(WaitingStep, Arc<Template>)>,
) -> Result<(), StoreError> {
    if found.is_empty() {
        return Ok(());
    }
    let steps: Vec<_> = found.iter().map(|(step, template)| (step, template.clone())).collect();
    let mut held_to = held_to(deliveries, &steps).await?;
    let items = found.into_iter().filter_map(|(waiting, _)| {
        let (first, values) = held_to.remove(&waiting.key())?;
        Some(ToHold { waiting, first, values })
    });
    let items: Vec<ToHold> = items.collect();
    deliveries.database.store.hold_steps(namespace, &items).await?;
    let callables: BTreeSet<String> = items.into_iter().map(|item| item.waiting.callable).collect();
    deliveries.roster.may_begin(namespace, callables.iter().cloned());
    let limited = BTreeMap::from([(namespace.to_owned(), callables)]);
    deliveries.announcer.announce(Announcement { limited, ..Announcement::default() });
    Ok(())
}

/// Looks which held steps may begin for some callables, each from a value on, and takes none.
pub async fn look(
    deliveries: &Deliveries,
    namespace: &str,
    after: Vec<(String, Option<Limited>)>,
    credit: usize,
) -> Result<Look, StoreError> {
    if after.is_empty() {
        return Ok(Look::default());
    }
    let store = &deliveries.database.store;
    let of_each = i64::try_from(credit.clamp(*OF_EACH.start(), *OF_EACH.end())).unwrap_or(1);
    let values = (VALUES / after.len()).max(1);
    let at_most = i64::try_from(values).expect("few values are looked at");
    let held = store.held_by_limits(namespace, &after, of_each, at_most).await?;
    let mut look = Look::default();
    for (callable, after) in after {
        let seen = held.iter().filter(|step| step.callable == callable).map(|step| &step.by);
        let seen: BTreeSet<&Limited> = seen.collect();
        if seen.is_empty() && after.is_none() {
            look.gone.push(callable.clone());
        }
        let last = seen.last().filter(|_| seen.len() >= values).copied();
        look.reached.push((callable, last.cloned()));
    }
    let mut found = Vec::with_capacity(held.len());
    for step in held {
        match store.template(TemplateId(step.template_id)).await {
            Ok(template) => found.push(Candidate { step, template }),
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => {
                tracing::error!(task.id = %step.task_id, "a held step cannot begin: {error}");
            }
        }
    }
    let asked = asked(found.iter().map(|candidate| (&candidate.step, candidate.limits())));
    let mut usage = store.usage(namespace, &asked).await?;
    found.sort_by_key(|candidate| {
        let HeldStep { priority, task_id, ordinal, waited, .. } = candidate.step;
        (deliveries.roster.aged(priority, task_id, waited), ordinal)
    });
    for candidate in found {
        match usage.take(candidate.limits(), &candidate.step.limit_values) {
            Ok(()) => look.may_begin.push(candidate),
            Err(blocked) => {
                look.wait = look.wait.into_iter().chain(blocked.wait).min();
                if blocked.by != candidate.step.by {
                    look.refused.push((candidate.step, blocked));
                }
            }
        }
    }
    Ok(look)
}

/// Begins held steps in the places that were reserved for them, as far as their limits still let them.
/// Returns how long until the first rate may let another begin.
pub async fn admit(
    deliveries: &Deliveries,
    namespace: &str,
    placed: Vec<(Candidate, Seat)>,
    look: &Look,
) -> Result<Option<Duration>, StoreError> {
    if placed.is_empty() && look.refused.is_empty() {
        return Ok(None);
    }
    let (mut items, mut matches, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for (candidate, seat) in placed {
        let limits = candidate.limits().to_vec();
        let Candidate { step, template } = candidate;
        let span = tracing::info_span!(
            "step.start",
            task.id = %step.task_id,
            step.ordinal = step.ordinal,
            namespace,
        );
        let delivery_id = Uuid::now_v7();
        let found = Match {
            held: Held { task_id: step.task_id, ordinal: step.ordinal, delivery_id },
            declared: step.declared,
            seat,
            freed_by: None,
            task: TaskAtHand::new(template, step.priority),
            traceparent: TraceContext::through(&step.traceparent, &span),
            content: None,
        };
        spans.push(span);
        let timeout_ms = i64::try_from(found.timeout().as_millis()).unwrap_or(i64::MAX);
        matches.push(found);
        let session_id = seat.session.0;
        items.push(ToAdmit { step, limits, delivery_id, session_id, timeout_ms });
    }
    let Deliveries { database, actor, announcer, .. } = deliveries;
    let mut wait = None;
    let mut others_may_begin = !look.refused.is_empty();
    let mut refused = look.refused.as_slice();
    // If that fails, halves of them, until the bad one is alone.
    let mut rest = vec![(items, matches)];
    while let Some((mut items, mut matches)) = rest.pop() {
        match database.store.admit_steps(namespace, &items, refused, actor).await {
            Ok(admitted) => {
                refused = &[];
                others_may_begin |= admitted.started.len() < items.len();
                wait = wait.into_iter().chain(admitted.wait).min();
                let tasks = admitted.watched.into_iter().collect();
                announcer.announce(Announcement { tasks, ..Announcement::default() });
                deliveries.deliver(admitted.started, matches).await;
            }
            Err(error) if !error.is_unavailable() && items.len() > 1 => {
                let half = items.len() / 2;
                rest.push((items.split_off(half), matches.split_off(half)));
                rest.push((items, matches));
            }
            Err(error) => {
                deliveries.failed(&error, &matches);
                if error.is_unavailable() {
                    rest.iter().for_each(|(_, matches)| deliveries.failed(&error, matches));
                    return Err(error);
                }
                for item in &items {
                    tracing::error!(task.id = %item.step.task_id, "a held step cannot begin: {error}");
                }
            }
        }
    }
    if others_may_begin {
        // What another limit holds, or a pause, or what has moved on, stood before others that its former
        // limit may let begin.
        deliveries.roster.may_begin(namespace, []);
    }
    Ok(wait)
}
