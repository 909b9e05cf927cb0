//! Whether results that operators give are what their templates ask for, and what comes into being by them.

use std::collections::HashMap;

use tasker_domain::{
    Template,
    expand::{Limits, Unexpandable},
};
use tasker_stage::said;
use tasker_store::{
    Fitness, Remedy, Repairable, Settlement, Standing, Store, StoreError, ToExpand, ToRepair, Unfit,
};
use uuid::Uuid;

use super::{existing_in, new_step};
use crate::judge::{self, Judgement};

/// Judges what operators say, of steps of tasks that are held: as if workers had said so. In the order of the
/// items. Of a step that is not there nothing is wrong here.
pub async fn judge(
    store: &Store,
    settlement: &mut Settlement,
    items: &[ToRepair],
    limits: &Limits,
) -> Result<Vec<Fitness>, StoreError> {
    let (mut results, mut steps) = (Vec::new(), Vec::new());
    for (place, item) in items.iter().enumerate() {
        if let (Remedy::Complete(result), Some(name)) = (&item.remedy, &item.step) {
            results.push((place, result));
            steps.push((item.task_id.0, name.clone()));
        }
    }
    let mut judged: Vec<Fitness> = items.iter().map(|_| Ok(None)).collect();
    if steps.is_empty() {
        return Ok(judged);
    }
    let mut completed = Vec::with_capacity(steps.len());
    for ((place, result), step) in results.into_iter().zip(settlement.repairable(&steps).await?) {
        let Some(step) = step else { continue };
        let template = store.template(step.template_id).await?;
        let declared = template.step(step.declared);
        match declared.map(|step| judge::judge(step, result)) {
            Some(Judgement::Fail { error_type, message }) => {
                judged[place] = Err(Unfit { field: "result", error_type, message });
            }
            Some(Judgement::Complete) | None => completed.push((place, step, template)),
        }
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
                judged[place] = Err(unfit(&said.unexpected()));
            }
            continue;
        }
        let standing = standing.remove(&item.task_id.0).unwrap_or_default();
        let (expansion, mut cursors) = said.unzip();
        let births =
            existing_in(&template, &standing)?.expand(step.declared, expansion.as_ref(), limits);
        judged[place] = births.map_err(|why| unfit(&why)).map(|births| {
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

fn unfit(why: &Unexpandable) -> Unfit {
    Unfit { field: "expansion", error_type: why.error_type(), message: why.to_string() }
}
