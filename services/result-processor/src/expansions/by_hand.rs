//! What comes into being by results that operators give.

use std::collections::HashMap;

use tasker_domain::{
    Template,
    expand::{Limits, Unexpandable},
};
use tasker_stage::said;
use tasker_store::{
    Remedy, Repairable, Settlement, Standing, Store, StoreError, ToExpand, ToRepair,
};
use uuid::Uuid;

use super::{existing_in, new_step};

/// What an operator's result brings into being; None of a step that neither decides nor plans. Or why it
/// cannot be taken as what it says.
pub type Judged = Result<Option<ToExpand>, Unexpandable>;

/// Judges what operators' results say, of steps of tasks that are held: as if workers had said so. In the
/// order of the items. Of a step that is not there nothing is wrong here.
pub async fn judge(
    store: &Store,
    settlement: &mut Settlement,
    items: &[ToRepair],
    limits: &Limits,
) -> Result<Vec<Judged>, StoreError> {
    let named = |(place, item): (usize, &ToRepair)| match (&item.remedy, &item.step) {
        (Remedy::Complete(_), Some(name)) => Some((place, (item.task_id.0, name.clone()))),
        _ => None,
    };
    let (places, steps): (Vec<usize>, Vec<(Uuid, String)>) =
        items.iter().enumerate().filter_map(named).unzip();
    let mut judged: Vec<Judged> = items.iter().map(|_| Ok(None)).collect();
    if steps.is_empty() {
        return Ok(judged);
    }
    let mut completed = Vec::with_capacity(steps.len());
    for (place, step) in places.into_iter().zip(settlement.repairable(&steps).await?) {
        let Some(step) = step else { continue };
        let template = store.template(step.template_id).await?;
        completed.push((place, step, template));
    }
    let expands = |template: &Template, step: &Repairable| {
        template.step(step.declared).is_some_and(|step| step.kind.expands())
    };
    let expanding = completed.iter().filter(|(_, step, template)| expands(template, step));
    let tasks: Vec<Uuid> = expanding.map(|(place, ..)| items[*place].task_id.0).collect();
    let mut standing: HashMap<Uuid, Standing> =
        if tasks.is_empty() { HashMap::new() } else { settlement.standing(&tasks).await? };
    for (place, step, template) in completed {
        let item = &items[place];
        let said = item.said.as_deref().map(said::read).transpose()?;
        if !expands(&template, &step) {
            if let Some((said, _)) = said {
                judged[place] = Err(said.unexpected());
            }
            continue;
        }
        let standing = standing.remove(&item.task_id.0).unwrap_or_default();
        let (expansion, mut cursors) = said.unzip();
        let births =
            existing_in(&template, &standing)?.expand(step.declared, expansion.as_ref(), limits);
        judged[place] = births.map(|births| {
            let cursors = cursors.get_or_insert_default();
            Some(ToExpand {
                task_id: item.task_id.0,
                ordinal: step.ordinal.0,
                said: item.said.clone().unwrap_or_default(),
                births: births.into_iter().map(|birth| new_step(birth, cursors)).collect(),
                traceparent: step.traceparent,
            })
        });
    }
    Ok(judged)
}
