//! Ready steps go to a connected worker, or to their queue.

use std::collections::{BTreeMap, BTreeSet};

use tasker_domain::{Rank, TaskId, TemplateId};
use tasker_stack::gather::Stage;
use tasker_store::{Announcement, Content, Held, ReadyStep, StoreError, ToEnqueue};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::{
    admit,
    at_hand::TaskAtHand,
    deliver::{Deliveries, Match},
};

/// The verb.
pub struct EnqueueSteps {
    pub deliveries: Deliveries,
}

impl Stage for EnqueueSteps {
    type Item = ReadyStep;
    type Answer = ();
    type Error = StoreError;
    type Key = i64;

    fn key(item: &ReadyStep) -> i64 {
        item.message_id
    }

    async fn apply(&self, items: &[ReadyStep]) -> Result<Vec<()>, StoreError> {
        let Deliveries { database, roster, actor, announcer } = &self.deliveries;
        let mut batch = Vec::with_capacity(items.len());
        let mut spans = Vec::with_capacity(items.len());
        let mut matches = Vec::new();
        let mut waiting: Vec<(String, String, Rank)> = Vec::new();
        let mut limited: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let template = database.store.template(TemplateId(item.template_id)).await;
            steps.push((item, template.inspect_err(|error| database.noticed(error))?));
        }
        let held_to = admit::held_to(&self.deliveries, &steps).await;
        let mut held_to = held_to.inspect_err(|error| database.noticed(error))?;
        // Those that were gathered together have come at once: the places there are go by rank.
        steps.sort_by_key(|(item, _)| place(item));
        for (item, template) in steps {
            let (span, traceparent) = traced(item);
            spans.push(span);
            let (rank, _) = place(item);
            let step = template.step(item.declared());
            let held_to = held_to.remove(&(item.task_id, item.ordinal));
            if let (Some(_), Some(step)) = (&held_to, step) {
                let callables = limited.entry(step.queue.clone()).or_default();
                callables.insert(step.callable.clone());
            }
            let seat = step.filter(|_| held_to.is_none()).and_then(|step| {
                let seat = roster.reserve_fresh(&step.queue, &step.callable, rank);
                if seat.is_none() {
                    // Before the commit, too: what comes meanwhile does not pass it by.
                    roster.expect(&step.queue, [(step.callable.clone(), rank)]);
                    waiting.push((step.queue.clone(), step.callable.clone(), rank));
                }
                seat
            });
            let to = seat.map(|seat| {
                let delivery_id = Uuid::now_v7();
                let found = Match {
                    held: Held { task_id: item.task_id, ordinal: item.ordinal, delivery_id },
                    declared: item.declared(),
                    seat,
                    freed_by: None,
                    task: TaskAtHand::new(template.clone(), item.priority),
                    traceparent: traceparent.clone(),
                    // With nothing of parents: it has none.
                    content: item.content.clone().filter(Content::has_context),
                };
                if let Some(content) = &found.content {
                    found.task.keep(content);
                }
                let timeout = i64::try_from(found.timeout().as_millis()).unwrap_or(i64::MAX);
                matches.push(found);
                (delivery_id, seat.session.0, timeout)
            });
            let (queue, callable) = match step {
                Some(step) => (step.queue.clone(), step.callable.clone()),
                None => (item.namespace.clone(), String::new()),
            };
            batch.push(ToEnqueue {
                ready: item.clone(),
                to,
                traceparent,
                queue,
                callable,
                held_to,
            });
        }
        let enqueued = database.store.enqueue_steps(&batch, actor).await;
        let enqueued = enqueued.inspect_err(|error| self.deliveries.failed(error, &matches))?;
        let mut announcement = Announcement {
            tasks: enqueued.watched.into_iter().collect(),
            waiting: enqueued.queued.into_iter().map(|queued| (queued, Rank::LAST)).collect(),
            ..Announcement::default()
        };
        for (namespace, callable, rank) in waiting {
            if let Some(first) = announcement.waiting.get_mut(&namespace) {
                *first = rank.min(*first);
            }
            roster.wait_for(&namespace, [(callable, rank)]);
        }
        for (namespace, callables) in &limited {
            roster.may_begin(namespace, callables.iter().cloned());
        }
        announcement.limited = limited;
        announcer.announce(announcement);
        self.deliveries.deliver(enqueued.started, matches).await;
        Ok(vec![(); items.len()])
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

/// Its rank, and what decides between equal ones.
fn place(item: &ReadyStep) -> (Rank, i32) {
    (Rank::of(item.priority, TaskId(item.task_id)), item.ordinal)
}

/// The span of one item, which its message or delivery names.
fn traced(item: &ReadyStep) -> (tracing::Span, String) {
    let span = tracing::info_span!(
        "step.enqueue",
        task.id = %item.task_id,
        step.ordinal = item.ordinal,
        namespace = item.namespace
    );
    let traceparent = TraceContext::through(&item.traceparent, &span);
    (span, traceparent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_steps_that_come_at_once_the_most_urgent_then_the_oldest_gets_the_first_place() {
        let (older, younger) = (TaskId::new(), TaskId::new());
        let ready = |priority, task: TaskId, ordinal| ReadyStep {
            message_id: 0,
            task_id: task.0,
            ordinal,
            namespace: String::new(),
            template_id: Uuid::nil(),
            priority,
            declared: None,
            traceparent: String::new(),
            content: None,
        };
        let mut steps = [
            ready(-100, older, 0),
            ready(0, younger, 1),
            ready(0, younger, 0),
            ready(0, older, 7),
            ready(100, younger, 0),
        ];
        steps.sort_by_key(place);
        let order = steps.map(|step| (step.priority, step.task_id, step.ordinal));
        let (older, younger) = (older.0, younger.0);
        let expected =
            [(100, younger, 0), (0, older, 7), (0, younger, 0), (0, younger, 1), (-100, older, 0)];
        assert_eq!(order, expected);
    }
}
