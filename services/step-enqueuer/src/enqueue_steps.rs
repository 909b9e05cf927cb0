//! Ready steps go to a connected worker, or to their queue.

use tasker_domain::{Ordinal, TemplateId};
use tasker_stack::gather::Stage;
use tasker_store::{Announcement, Held, ReadyStep, StoreError, ToEnqueue};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::{
    deliver::{Deliveries, Match},
    roster::Seat,
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
        let mut waiting: Vec<(String, String)> = Vec::new();
        for item in items {
            let (span, traceparent) = traced(item);
            spans.push(span);
            let template = database.store.template(TemplateId(item.template_id)).await;
            let template =
                template.inspect_err(|error| self.deliveries.give_back(error, &matches))?;
            let to = match template.step(Ordinal(item.ordinal)) {
                Some(step) => match roster.reserve_fresh(&item.namespace, &step.callable) {
                    Some(seat) => Some((seat, step.timeout)),
                    None => {
                        waiting.push((item.namespace.clone(), step.callable.clone()));
                        None
                    }
                },
                None => None,
            };
            let to = to.map(|(seat, timeout): (Seat, _)| {
                let delivery_id = Uuid::now_v7();
                let template = template.clone();
                let held = Held { task_id: item.task_id, ordinal: item.ordinal, delivery_id };
                let traceparent = traceparent.clone();
                matches.push(Match { held, seat, template, traceparent });
                (
                    delivery_id,
                    seat.session.0,
                    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
                )
            });
            batch.push(ToEnqueue { ready: item.clone(), to, traceparent });
        }
        let enqueued = database.store.enqueue_steps(&batch, actor).await;
        let enqueued = enqueued.inspect_err(|error| self.deliveries.give_back(error, &matches))?;
        announcer.announce(Announcement {
            tasks: enqueued.watched.into_iter().collect(),
            waiting: enqueued.queued.into_iter().collect(),
            ..Announcement::default()
        });
        for (namespace, callable) in waiting {
            roster.wait_for(&namespace, [callable]);
        }
        self.deliveries.deliver(enqueued.started, matches).await;
        Ok(vec![(); items.len()])
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
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
