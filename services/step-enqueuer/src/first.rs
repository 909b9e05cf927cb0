//! The first steps of a task begin at once, where workers have places for them: in the commit that gives
//! birth to it.

use std::collections::HashMap;

use tasker_api::{Invalid, field, mesh::v1 as mesh};
use tasker_domain::{Rank, TaskId, TemplateId, template::Step};
use tasker_stage::wire;
use tasker_store::{Content, Held, StoreError};
use uuid::Uuid;

use crate::{
    at_hand::TaskAtHand,
    deliver::{Deliveries, Match},
    next::Next,
};

/// How many steps of one task may begin so: where more are ready at once, a batch of them is as good.
const AT_ONCE: usize = 16;

/// A task that is about to be born.
pub struct Newborn {
    task_id: TaskId,
    template_id: TemplateId,
    priority: i16,
    content: Option<Content>,
}

impl TryFrom<mesh::NewbornTask> for Newborn {
    type Error = Invalid;

    fn try_from(task: mesh::NewbornTask) -> Result<Self, Invalid> {
        Ok(Self {
            task_id: field::task_id(&task.task_id)?,
            template_id: field::id("template_id", &task.template_id)?,
            priority: i16::try_from(task.priority)
                .map_err(|_| Invalid::field("priority", "out of range"))?,
            content: task.content.map(wire::from_content),
        })
    }
}

/// Keeps places for first steps, unless steps that go before them wait for such places.
pub async fn keep_places(
    deliveries: &Deliveries,
    mut tasks: Vec<Newborn>,
) -> Result<Next, StoreError> {
    let mut next = Next::none(deliveries);
    tasks.sort_by_key(|task| Rank::of(task.priority, task.task_id));
    for Newborn { task_id, template_id, priority, content } in tasks {
        let template = deliveries.database.store.template(template_id).await?;
        let rank = Rank::of(priority, task_id);
        let task = TaskAtHand::new(template.clone(), priority);
        content.iter().for_each(|content| task.keep(content));
        // What has limits is judged by them before it begins.
        let begins = |step: &Step| step.dependencies.is_empty() && step.limits.is_empty();
        for (ordinal, step) in template.ordinals().filter(|(_, it)| begins(it)).take(AT_ONCE) {
            let seat = deliveries.roster.reserve_fresh(&step.queue, &step.callable, rank);
            let Some(seat) = seat else { continue };
            next.keep(Match {
                held: Held { task_id: task_id.0, ordinal: ordinal.0, delivery_id: Uuid::now_v7() },
                declared: ordinal,
                seat,
                freed_by: None,
                task: task.clone(),
                traceparent: String::new(),
                content: content.clone().filter(Content::has_context),
            });
        }
    }
    Ok(next)
}

/// The places, by their tasks.
pub fn by_task(next: &Next) -> Vec<mesh::KeptPlaces> {
    let mut by_task: HashMap<Uuid, Vec<mesh::Place>> = HashMap::new();
    for (task, place) in next.places_with_tasks() {
        by_task.entry(task).or_default().push(place);
    }
    let kept = |(task, places): (Uuid, _)| mesh::KeptPlaces { task_id: task.to_string(), places };
    by_task.into_iter().map(kept).collect()
}

/// Steps that have begun, by their deliveries.
pub fn by_delivery(started: mesh::StartedSteps) -> HashMap<String, mesh::StartedStep> {
    started.steps.into_iter().map(|step| (step.delivery_id.clone(), step)).collect()
}
