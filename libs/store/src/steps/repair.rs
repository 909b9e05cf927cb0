//! Steps are repaired by hand, and their tasks go on.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;
use sqlx::{Postgres, Transaction};
use tasker_domain::{Ordinal, StepEvent, StepState, TaskId, TaskState, TemplateId};
use uuid::Uuid;

use crate::{
    EndedStep, FailedByRule, Finalization, Payload, ReadyStep, Settlement, Store, StoreError,
    ToExpand, WorkersToAdmit,
    messages::sent,
    steps::{admit_workers::admit_workers, expand::expand},
    tasks::end::said,
};

/// What to repair in a task.
#[derive(Debug, Clone)]
pub struct ToRepair {
    /// Which task.
    pub task_id: TaskId,
    /// Which step, by name; `None`: all that have failed, which can be reset or resolved.
    pub step: Option<String>,
    /// How.
    pub remedy: Remedy,
    /// What the operator's result says of what comes into being by it, as the contract encodes it.
    pub said: Option<Bytes>,
    /// Who is named in the history.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What to do about a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Run it again, with all its attempts.
    Reset,
    /// Let its dependants run without its result.
    Resolve,
    /// Take this as its result.
    Complete(Payload),
}

/// What became of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the names of the steps that it was about.
    Repaired(Vec<String>),
    /// No step of the task has failed.
    NothingFailed,
    /// Nothing was done.
    Refused(Refusal),
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The step stands in this state, which does not allow it.
    StepStands(StepState),
    /// The step of this name decides or plans what comes into being, and nobody has said what does.
    Undecided(String),
    /// What the operator says cannot be taken.
    Unfit(Unfit),
    /// There is no such step.
    NoStep,
    /// The task has ended in this state.
    TaskStands(TaskState),
    /// What the task worked on, and came to, has been purged.
    Purged,
    /// There is no such task.
    NoTask,
}

/// Why what an operator says of a step cannot be taken: its template asks for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Of the request.
    pub field: &'static str,
    /// For programs.
    pub error_type: &'static str,
    /// For people.
    pub message: String,
}

/// What an operator's remedy comes to by its template: what comes into being by it, if anything does.
pub type Fitness = Result<Option<ToExpand>, Unfit>;

/// A step that is about to be repaired.
#[derive(Debug, Clone)]
pub struct Repairable {
    /// What its task was made from.
    pub template_id: TemplateId,
    /// Its place in the task.
    pub ordinal: Ordinal,
    /// The step of the template that it is, or is a run of.
    pub declared: Ordinal,
    /// Where its task's trace begins; may be empty.
    pub traceparent: String,
}

/// A step that was settled by hand.
#[derive(Debug, Clone)]
pub struct SettledByHand {
    /// By which item.
    pub place: usize,
    /// Which.
    pub step: EndedStep,
}

/// What came of a batch of repairs.
#[derive(Debug, Default)]
pub struct Repaired {
    /// One for each item, in order.
    pub outcomes: Vec<Outcome>,
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Messages sent: tasks in which nothing moves any more.
    pub finalizations: Vec<Finalization>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
    /// Deliveries that workers have lost.
    pub lost: Vec<Uuid>,
    /// The steps that are settled, without the plain ones.
    pub settled: Vec<SettledByHand>,
    /// Those that have failed, since the end of their task had cut off their last attempt; without the plain ones.
    pub cut_off: Vec<FailedByRule>,
}

impl Remedy {
    /// The event that it passes.
    #[must_use]
    pub fn event(&self) -> StepEvent {
        match self {
            Self::Reset => StepEvent::ResetForRetry,
            Self::Resolve => StepEvent::ResolveManually,
            Self::Complete(_) => StepEvent::CompleteManually,
        }
    }

    fn result(&self) -> Option<&Payload> {
        match self {
            Self::Complete(payload) => Some(payload),
            Self::Reset | Self::Resolve => None,
        }
    }
}

/// What a batch has touched.
#[derive(Default)]
struct Touched {
    /// Places of the items that were repaired.
    tasks: Vec<usize>,
    /// Steps that moved, and then those that they unlocked.
    moved: Steps,
    /// Those that were settled.
    settled: Steps,
    /// Those that were reopened, and have failed.
    cut_off: Steps,
}

/// Steps, by task and ordinal.
#[derive(Default)]
struct Steps {
    task_ids: Vec<Uuid>,
    ordinals: Vec<i32>,
}

impl Steps {
    /// Takes out what messages were sent of.
    fn remove(&mut self, sent: &[ReadyStep]) {
        let sent: HashSet<(Uuid, i32)> =
            sent.iter().map(|step| (step.task_id, step.ordinal)).collect();
        let steps = self.task_ids.iter().copied().zip(self.ordinals.iter().copied());
        (self.task_ids, self.ordinals) = steps.filter(|step| !sent.contains(step)).unzip();
    }

    fn add(&mut self, task_id: Uuid, ordinal: i32) {
        self.task_ids.push(task_id);
        self.ordinals.push(ordinal);
    }
}

impl Store {
    /// Begins to repair steps of these tasks: holds them.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn begin_repairs(&self, tasks: &[Uuid]) -> Result<Settlement, StoreError> {
        Ok(Settlement { transaction: self.hold_tasks(tasks).await? })
    }

    /// Repairs steps of tasks that are held, brings into being what the operators' results say, unlocks what
    /// waited for steps that are settled, and has their tasks go on: also those that had failed. Each task at
    /// most once a batch. `judged`: what each item comes to.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn repair_steps(
        &self,
        settlement: &mut Settlement,
        items: &[ToRepair],
        judged: Vec<Fitness>,
    ) -> Result<Repaired, StoreError> {
        let tx = &mut settlement.transaction;
        let mut repaired = Repaired {
            outcomes: vec![Outcome::Refused(Refusal::NoTask); items.len()],
            ..Repaired::default()
        };
        let mut touched = repair(tx, items, &judged, &mut repaired).await?;
        let done: HashSet<usize> = touched.tasks.iter().copied().collect();
        let of_done = judged.into_iter().enumerate().filter(|(place, _)| done.contains(place));
        let expansions: Vec<ToExpand> =
            of_done.filter_map(|(_, judged)| judged.ok().flatten()).collect();
        repaired.ready = expand(tx, &expansions, false).await?;
        repaired.settled = settled(tx, items, &touched.settled).await?;
        repaired.cut_off = cut_off(tx, &touched.cut_off).await?;
        unlock(tx, &mut touched).await?;
        self.readmit(tx, &mut touched, &mut repaired).await?;
        resume(tx, items, &touched, &mut repaired).await?;
        Ok(repaired)
    }

    /// Gives free places in batches to the workers that wait for them, the repaired ones among them.
    async fn readmit(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        touched: &mut Touched,
        repaired: &mut Repaired,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query!(
            r#"SELECT DISTINCT task_id AS "task_id!", template_id AS "template_id!", declared AS "declared!",
                traceparent AS "traceparent?"
            FROM unnest($1::uuid[], $2::integer[]) AS moved (task_id, ordinal)
            JOIN steps USING (task_id, ordinal)
            JOIN tasks USING (task_id)
            LEFT JOIN task_details USING (task_id)
            WHERE declared IS NOT NULL"#,
            &touched.moved.task_ids,
            &touched.moved.ordinals
        )
        .fetch_all(&mut **tx)
        .await?;
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            let template = self.template(TemplateId(row.template_id)).await?;
            let Some(batching) = template.batching(Ordinal(row.declared)) else { continue };
            batches.push(WorkersToAdmit {
                task_id: row.task_id,
                declared: row.declared,
                first: i32::try_from(template.steps.len()).expect("a template's size is bounded"),
                parallelism: batching.parallelism.cast_signed(),
                leaving: 0,
                traceparent: row.traceparent.unwrap_or_default(),
            });
        }
        if batches.is_empty() {
            return Ok(());
        }
        let ready = admit_workers(tx, &batches, false).await?;
        touched.moved.remove(&ready);
        repaired.ready.extend(ready);
        Ok(())
    }
}

impl Settlement {
    /// What is known of steps that are about to be repaired, by name. None where there is no such step.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn repairable(
        &mut self,
        steps: &[(Uuid, String)],
    ) -> Result<Vec<Option<Repairable>>, StoreError> {
        let (task_ids, names): (Vec<Uuid>, Vec<String>) = steps.iter().cloned().unzip();
        let rows = sqlx::query!(
            r#"SELECT position AS "position!", template_id, ordinal, coalesce(declared, ordinal) AS "declared!",
                traceparent
            FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS item (task_id, name, position)
            -- By an array: a join of two unknown sizes may read the table whole.
            JOIN steps ON steps.task_id = item.task_id AND steps.task_id = ANY($1) AND steps.name = item.name
            JOIN tasks ON tasks.task_id = item.task_id
            JOIN task_details ON task_details.task_id = item.task_id"#,
            &task_ids,
            &names
        )
        .fetch_all(self.connection())
        .await?;
        let mut found: Vec<Option<Repairable>> = steps.iter().map(|_| None).collect();
        for row in rows {
            let place = usize::try_from(row.position - 1).ok().and_then(|n| found.get_mut(n));
            let Some(place) = place else { continue };
            *place = Some(Repairable {
                template_id: TemplateId(row.template_id),
                ordinal: Ordinal(row.ordinal),
                declared: Ordinal(row.declared),
                traceparent: row.traceparent,
            });
        }
        Ok(found)
    }
}

/// Moves the steps themselves.
async fn repair(
    tx: &mut Transaction<'static, Postgres>,
    items: &[ToRepair],
    judged: &[Fitness],
    repaired: &mut Repaired,
) -> Result<Touched, StoreError> {
    let column = |field: fn(&ToRepair) -> Option<&str>| items.iter().map(field).collect();
    let task_ids: Vec<Uuid> = items.iter().map(|item| item.task_id.0).collect();
    let names: Vec<Option<&str>> = column(|item| item.step.as_deref());
    let events: Vec<String> =
        items.iter().map(|item| format!("{:?}", item.remedy.event())).collect();
    let results = || items.iter().map(|item| item.remedy.result());
    let types: Vec<Option<&str>> =
        results().map(|result| result.map(|it| it.content_type.as_str())).collect();
    let data: Vec<Option<&[u8]>> =
        results().map(|result| result.map(|it| it.data.as_ref())).collect();
    let metadata: Vec<Option<Value>> =
        results().map(|result| result.and_then(Payload::metadata_column)).collect();
    let actors: Vec<String> = items.iter().map(|item| item.actor.clone()).collect();
    let reasons: Vec<Option<&str>> = column(|item| said(&item.reason));
    let says: Vec<bool> = judged.iter().map(|judged| matches!(judged, Ok(Some(_)))).collect();
    let unfit: Vec<bool> = judged.iter().map(Result::is_err).collect();
    let rows = sqlx::query_file!(
        "sql/steps/repair.sql",
        &task_ids,
        &names as &[Option<&str>],
        &events,
        &types as &[Option<&str>],
        &data as &[Option<&[u8]>],
        &metadata as &[Option<Value>],
        &actors,
        &reasons as &[Option<&str>],
        &says,
        &unfit
    )
    .fetch_all(&mut **tx)
    .await?;
    let places: HashMap<Uuid, usize> =
        task_ids.iter().enumerate().map(|(place, task)| (*task, place)).collect();
    let mut touched = Touched::default();
    let mut names: BTreeMap<usize, Vec<(i32, String)>> = BTreeMap::new();
    for row in rows {
        let Some(place) = places.get(&row.task_id).copied() else { continue };
        let state = row.state.as_deref();
        match (row.kind.as_str(), row.ordinal, row.name) {
            (kind @ ("chosen" | "reopened"), Some(ordinal), Some(name)) => {
                touched.moved.add(row.task_id, ordinal);
                repaired.lost.extend(row.lost);
                if kind == "chosen" {
                    names.entry(place).or_default().push((ordinal, name));
                    if items[place].remedy != Remedy::Reset {
                        touched.settled.add(row.task_id, ordinal);
                    }
                } else if parse::<StepState>("steps", state)? == StepState::Error {
                    touched.cut_off.add(row.task_id, ordinal);
                }
            }
            ("repaired", ..) => {
                touched.tasks.push(place);
                names.entry(place).or_default();
            }
            ("nothing_failed", ..) => repaired.outcomes[place] = Outcome::NothingFailed,
            ("no_step", ..) => repaired.outcomes[place] = Outcome::Refused(Refusal::NoStep),
            ("purged", ..) => repaired.outcomes[place] = Outcome::Refused(Refusal::Purged),
            ("unfit", ..) => {
                if let Err(unfit) = &judged[place] {
                    repaired.outcomes[place] = Outcome::Refused(Refusal::Unfit(unfit.clone()));
                }
            }
            ("undecided", _, Some(name)) => {
                repaired.outcomes[place] = Outcome::Refused(Refusal::Undecided(name));
            }
            ("step_stands", ..) => {
                let stands = Refusal::StepStands(parse("steps", state)?);
                repaired.outcomes[place] = Outcome::Refused(stands);
            }
            ("task_stands", ..) => {
                let stands = Refusal::TaskStands(parse("tasks", state)?);
                repaired.outcomes[place] = Outcome::Refused(stands);
            }
            (kind, ..) => {
                let what = format!("a repair is {kind}");
                return Err(StoreError::Corrupt { table: "steps", what });
            }
        }
    }
    for (place, mut steps) in names {
        steps.sort_unstable();
        let steps = steps.into_iter().map(|(_, name)| name).collect();
        repaired.outcomes[place] = Outcome::Repaired(steps);
    }
    Ok(touched)
}

/// What is known of steps that are settled now and are not plain.
async fn settled(
    tx: &mut Transaction<'static, Postgres>,
    items: &[ToRepair],
    steps: &Steps,
) -> Result<Vec<SettledByHand>, StoreError> {
    let places: HashMap<Uuid, usize> =
        items.iter().enumerate().map(|(place, item)| (item.task_id.0, place)).collect();
    let settled = ended(tx, steps)
        .await?
        .into_iter()
        .filter_map(|(step, _)| Some(SettledByHand { place: *places.get(&step.task_id.0)?, step }));
    Ok(settled.collect())
}

/// What is known of steps that have failed now and are not plain.
async fn cut_off(
    tx: &mut Transaction<'static, Postgres>,
    steps: &Steps,
) -> Result<Vec<FailedByRule>, StoreError> {
    let failed = ended(tx, steps).await?.into_iter().filter_map(|(step, error)| {
        let (error_type, error_message) = error?;
        Some(FailedByRule { step, error_type, error_message })
    });
    Ok(failed.collect())
}

/// What is known of steps that have ended and are not plain, with the error that each has kept: type and message.
async fn ended(
    tx: &mut Transaction<'static, Postgres>,
    steps: &Steps,
) -> Result<Vec<(EndedStep, Option<(String, String)>)>, StoreError> {
    if steps.task_ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"SELECT task_id AS "task_id!", ordinal AS "ordinal!", coalesce(declared, ordinal) AS "declared!",
            steps.name, steps.attempt, template_id, correlation_id, traceparent,
            error_type AS "error_type?", error_message AS "error_message?"
        FROM unnest($1::uuid[], $2::integer[]) AS ended (task_id, ordinal)
        JOIN steps USING (task_id, ordinal)
        JOIN tasks USING (task_id)
        JOIN task_details USING (task_id)
        LEFT JOIN step_results USING (task_id, ordinal)
        WHERE NOT plain
        ORDER BY task_id, ordinal"#,
        &steps.task_ids,
        &steps.ordinals
    )
    .fetch_all(&mut **tx)
    .await?;
    let ended = rows.into_iter().map(|row| {
        let step = EndedStep {
            template_id: TemplateId(row.template_id),
            task_id: TaskId(row.task_id),
            ordinal: Ordinal(row.ordinal),
            declared: Ordinal(row.declared),
            name: row.name,
            attempt: row.attempt,
            correlation_id: row.correlation_id,
            traceparent: row.traceparent,
        };
        (step, row.error_type.zip(row.error_message))
    });
    Ok(ended.collect())
}

async fn unlock(
    tx: &mut Transaction<'static, Postgres>,
    touched: &mut Touched,
) -> Result<(), StoreError> {
    if touched.settled.task_ids.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query_file!(
        "sql/steps/unlock.sql",
        &touched.settled.task_ids,
        &touched.settled.ordinals
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().for_each(|row| touched.moved.add(row.task_id, row.ordinal));
    Ok(())
}

async fn resume(
    tx: &mut Transaction<'static, Postgres>,
    items: &[ToRepair],
    touched: &Touched,
    repaired: &mut Repaired,
) -> Result<(), StoreError> {
    if touched.tasks.is_empty() {
        return Ok(());
    }
    let items = || touched.tasks.iter().map(|place| &items[*place]);
    let task_ids: Vec<Uuid> = items().map(|item| item.task_id.0).collect();
    let actors: Vec<String> = items().map(|item| item.actor.clone()).collect();
    let reasons: Vec<Option<&str>> = items().map(|item| said(&item.reason)).collect();
    let rows = sqlx::query_file!(
        "sql/tasks/resume.sql",
        &task_ids,
        &actors,
        &reasons as &[Option<&str>],
        &touched.moved.task_ids,
        &touched.moved.ordinals
    )
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        match row.kind.as_str() {
            "ready" => {
                repaired.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?);
            }
            "finalization" => {
                let message = sent(row.message_id, row.message, row.headers.as_ref())?;
                repaired.finalizations.push(message);
            }
            _ => repaired.watched.extend(row.task_id),
        }
    }
    Ok(())
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    state: Option<&str>,
) -> Result<T, StoreError> {
    let state = state.unwrap_or_default().parse();
    state.map_err(|error: T::Err| StoreError::Corrupt { table, what: error.to_string() })
}
