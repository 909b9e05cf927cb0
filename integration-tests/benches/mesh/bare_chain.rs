//! What a task among others takes where no service is: the mesh's own statements, for batches of what has come,
//! and bare calls and messages between four processes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use tasker_stack::gather::{Bounds, Gap, Gather, Refused, Stage};
use tasker_store::{NewTask, Started, Store, StoreError, Verdict};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    arrivals::arrivals,
    database_alone::{self, ACTOR, completed, new_task, place},
    echo::{Caller, Echo, Hops},
    latency::micros,
    sustained::STEPS,
};

/// One lane, as the mesh has it: what comes during a commit is the next batch.
const BOUNDS: Bounds = Bounds { batch: 500, waiting: 50_000, lanes: 1 };
/// Tasks before any is measured: plans and connections are made by them.
const FIRST: usize = 50;

/// What every task passes.
struct Chain {
    caller: Caller,
    hops: Hops,
    births: Gather<Births>,
    completions: Gather<Completions>,
    template_id: Uuid,
}

/// Linear tasks arrive in an open loop, in a database of their own. Each is a call from its client through a bare
/// gateway, and its birth; and for each step a message through a bare step-enqueuer and that gateway to a bare
/// worker and back, and its completion. Batches begin when those before them have been committed. Nothing is put
/// into a queue, and nobody is told of anything.
///
/// Returns how long tasks took from their scheduled arrival, in µs.
pub async fn measure(url: &str, tasks_per_s: f64, time: Duration) -> Result<Histogram<u64>> {
    let (store, template_id) = database_alone::open(url).await?;
    let session = Uuid::now_v7();
    // Behind the gateway: task-request for calls, and a worker for messages.
    let last = Echo::start().await?;
    let gateway = Echo::start_before(&last).await?;
    let step_enqueuer = Echo::start_before(&gateway).await?;
    let chain = Arc::new(Chain {
        caller: gateway.caller().await?,
        hops: step_enqueuer.hops().await?,
        births: Gather::spawn(Births { store: store.clone(), session }, BOUNDS),
        completions: Gather::spawn(Completions { store: store.clone(), session }, BOUNDS),
        template_id,
    });
    for _ in 0..FIRST {
        chain.run().await?;
    }
    let mut tasks = JoinSet::new();
    let mut arriving = arrivals(tasks_per_s, time);
    while let Some(arrival) = arriving.recv().await {
        let chain = chain.clone();
        tasks.spawn(async move {
            chain.run().await?;
            anyhow::Ok(arrival.at.elapsed())
        });
    }
    let mut times = Histogram::new(3)?;
    while let Some(time) = tasks.join_next().await {
        times.record(micros(time??))?;
    }
    store.close().await;
    Ok(times)
}

impl Chain {
    async fn run(&self) -> Result<()> {
        self.caller.call().await?;
        let mut begun = decide(&self.births, new_task(self.template_id)).await?;
        let mut steps = 0u8;
        while let Some(step) = begun {
            self.hops.there_and_back().await?;
            begun = decide(&self.completions, step).await?;
            steps += 1;
        }
        ensure!(f64::from(steps) == STEPS, "a task has come to its end after {steps} steps");
        Ok(())
    }
}

/// What has begun by it, if anything: the first step, or the next.
async fn decide<S>(stage: &Gather<S>, item: S::Item) -> Result<Option<Started>>
where
    S: Stage<Answer = Option<Started>, Error = StoreError>,
{
    let Ok(answer) = stage.submit_in_turn(item).await else { bail!("the stage has ended") };
    match answer.await? {
        Ok(begun) => Ok(begun),
        Err(Refused::Failed(error)) => bail!("{error}"),
        Err(refused) => bail!("{refused:?}"),
    }
}

/// Births, in which first steps begin.
struct Births {
    store: Store,
    session: Uuid,
}

impl Stage for Births {
    type Item = NewTask;
    type Answer = Option<Started>;
    type Error = StoreError;
    type Key = Uuid;

    const GAP: Gap = Gap::None;

    fn key(task: &NewTask) -> Uuid {
        task.task_id.0
    }

    async fn apply(&self, tasks: &[NewTask]) -> Result<Vec<Self::Answer>, StoreError> {
        let ids = tasks.iter().map(|task| task.task_id.0);
        let places = ids.clone().map(|id| (id, vec![place(0, self.session)])).collect();
        let born = self.store.create_tasks_in_places(tasks, &places, ACTOR).await?;
        Ok(each(born.started, ids))
    }

    fn may_be_one_items_fault(_: &StoreError) -> bool {
        false
    }
}

/// Completions, in which next steps begin, or their tasks end.
struct Completions {
    store: Store,
    session: Uuid,
}

impl Stage for Completions {
    type Item = Started;
    type Answer = Option<Started>;
    type Error = StoreError;
    type Key = Uuid;

    const GAP: Gap = Gap::None;

    fn key(step: &Started) -> Uuid {
        step.held.task_id
    }

    async fn apply(&self, steps: &[Started]) -> Result<Vec<Self::Answer>, StoreError> {
        let results = completed(steps, self.session);
        let judged = self.store.complete_steps(&results, ACTOR).await?;
        let taken = judged.verdicts.iter().all(|verdict| *verdict == Verdict::Committed.into());
        assert!(taken, "not all results have been taken: {:?}", judged.verdicts);
        Ok(each(judged.started, steps.iter().map(|step| step.held.task_id)))
    }

    fn may_be_one_items_fault(_: &StoreError) -> bool {
        false
    }
}

/// The step of each task that has begun.
fn each(started: Vec<Started>, tasks: impl Iterator<Item = Uuid>) -> Vec<Option<Started>> {
    let mut by_task: HashMap<Uuid, Started> =
        started.into_iter().map(|step| (step.held.task_id, step)).collect();
    tasks.map(|task| by_task.remove(&task)).collect()
}
