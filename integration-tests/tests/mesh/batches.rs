//! A batchable step plans, its worker is run once for each batch, and what waits for it is given all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        DlqReason, ListDlqEntriesRequest, NoBatches, Remedy, StepState, TaskState, Transition,
        expanded::Outcome,
    },
};
use tasker_integration_tests::{Mesh, until};
use tasker_worker::{Batches, Checkpoint, HandlerError, Registry, StepContext, Yield};
use tokio::sync::{Barrier, Semaphore};

const PATIENCE: Duration = Duration::from_secs(60);

in_both_shapes![
    every_batch_has_its_worker_and_what_waits_for_it_is_given_all_results,
    no_batches_is_one_worker_that_is_told_so,
    as_many_workers_run_at_once_as_parallelism_allows_and_no_more,
    a_failed_worker_counts_as_done_where_the_batch_continues,
    the_first_failure_ends_a_batch_that_fails_fast,
    a_worker_that_has_yielded_goes_on_where_its_batch_fails_fast,
    workers_of_a_batch_that_are_repaired_run_no_more_at_once_than_parallelism_allows,
    a_plan_is_run_again_and_not_resolved_by_hand,
    an_isolated_failure_holds_back_what_waits_and_not_the_others,
    a_plan_goes_no_further_than_its_template_allows,
    a_task_is_not_blocked_by_workers_that_its_batch_passed_over,
];

async fn register(client: &Client, name: &str, config: &str) {
    let yaml = format!(
        "{{namespace: batches, name: {name}, version: 1.0.0, steps: [
        {{name: plan, type: batchable, handler: {{callable: plan}}, batch_config: {{{config}}}}},
        {{name: work, type: batch_worker, handler: {{callable: work}}, dependencies: [plan],
         retry: {{max_attempts: 2, backoff: none}}}},
        {{name: sum, type: deferred_convergence, handler: {{callable: sum}}, dependencies: [work]}},
        {{name: tell, handler: {{callable: tell}}, dependencies: [sum]}}]}}"
    );
    client.register_template(yaml).await.unwrap();
}

/// Handlers: `plan` makes as many batches as the context's `count`, `sum` gives what it was delivered.
/// `work` is the test's.
fn handlers() -> Registry {
    let mut handlers = Registry::new();
    handlers.register_fn("plan", |step: StepContext| async move {
        let input: BTreeMap<String, usize> = step.input()?;
        Ok(Batches::of(0..input["count"]))
    });
    handlers.register_fn("sum", |step: StepContext| async move {
        let failed: Vec<_> =
            step.failures().iter().map(|(name, error)| json!([name, error.r#type])).collect();
        Ok(json!({"done": step.dependencies::<Value>()?, "failed": failed}))
    });
    handlers.register_fn("tell", |_| async { Ok(1) });
    handlers
}

async fn submit(client: &Client, name: &str, count: usize) -> String {
    let task = NewTask::of("batches", name).context(&json!({"count": count})).unwrap();
    client.create_task(task).await.unwrap().task_id
}

async fn ends(client: &Client, task_id: &str, state: TaskState) -> tasker_client::v1::Task {
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), state);
    task
}

async fn result(client: &Client, task_id: &str, step: &str) -> Value {
    let step = client.get_step(task_id, step).await.unwrap();
    assert_eq!(step.state(), StepState::Complete, "{}", step.name);
    serde_json::from_slice(&step.result.unwrap().payload.unwrap().data).unwrap()
}

async fn every_batch_has_its_worker_and_what_waits_for_it_is_given_all_results(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "plain", "").await;
    let mut handlers = handlers();
    handlers.register_fn("work", |step: StepContext| async move {
        if step.attempt() == 1 && step.batch_id() == Some("2") {
            return Err(HandlerError::retryable("busy", "not yet"));
        }
        let cursor: u32 = step.cursor()?;
        Ok(json!([step.batch_id(), cursor, step.dependency::<u32>("plan")?, step.is_no_op()]))
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "plain", 3).await;
    let task = ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(task.steps.unwrap().total, 6);
    let done = json!({
        "work_1": ["1", 0, 3, false], "work_2": ["2", 1, 3, false], "work_3": ["3", 2, 3, false]
    });
    assert_eq!(result(&client, &task_id, "sum").await, json!({"done": done, "failed": []}));
    let second = client.get_step(&task_id, "work_2").await.unwrap();
    assert_eq!((second.attempt, second.handler.as_str()), (2, "work"));
    assert_eq!(second.dependencies, ["plan"]);
    let plan = client.get_step(&task_id, "plan").await.unwrap();
    assert_eq!(plan.expanded.unwrap().outcome, Some(Outcome::BatchCount(3)));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn no_batches_is_one_worker_that_is_told_so(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "none", "").await;
    let mut handlers = handlers();
    handlers.register_fn("work", |step: StepContext| async move {
        Ok(json!([step.is_no_op(), step.cursor::<u32>().is_err()]))
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "none", 0).await;
    ends(&client, &task_id, TaskState::Complete).await;
    let done = json!({"done": {"work_1": [true, true]}, "failed": []});
    assert_eq!(result(&client, &task_id, "sum").await, done);
    let plan = client.get_step(&task_id, "plan").await.unwrap();
    assert_eq!(plan.expanded.unwrap().outcome, Some(Outcome::NoBatches(NoBatches {})));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn as_many_workers_run_at_once_as_parallelism_allows_and_no_more(mesh: &Mesh) {
    const AT_ONCE: usize = 3;
    let client = mesh.client();
    register(&client, "parallel", "parallelism: 3").await;
    // Nobody passes until three are there: with fewer at once, the task would never end.
    let together = Arc::new(Barrier::new(AT_ONCE));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut handlers = handlers();
    let seen = most.clone();
    handlers.register_fn("work", move |_| {
        let (together, running, seen) = (together.clone(), running.clone(), seen.clone());
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            together.wait().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(1)
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "parallel", 12).await;
    ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn a_failed_worker_counts_as_done_where_the_batch_continues(mesh: &Mesh) {
    let client = mesh.client();
    let config = "parallelism: 2, failure_strategy: continue_on_failure";
    register(&client, "continues", config).await;
    let mut handlers = handlers();
    handlers.register_fn("work", |step: StepContext| async move {
        match step.cursor::<u32>()? {
            1 => Err(HandlerError::permanent("bad_row", "it cannot be read")),
            4 => Err(HandlerError::retryable("busy", "never")),
            cursor => Ok(cursor),
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "continues", 5).await;
    let task = ends(&client, &task_id, TaskState::Complete).await;
    let counts = task.steps.unwrap();
    assert_eq!((counts.failed, counts.satisfied, counts.total), (0, 8, 8));
    let expected = json!({
        "done": {"work_1": 0, "work_3": 2, "work_4": 3},
        "failed": [["work_2", "bad_row"], ["work_5", "busy"]]
    });
    assert_eq!(result(&client, &task_id, "sum").await, expected);
    let failed = client.get_step(&task_id, "work_5").await.unwrap();
    assert_eq!((failed.state(), failed.attempt), (StepState::Error, 2));

    // Also where all of them fail.
    let task_id = submit(&client, "continues", 2).await;
    ends(&client, &task_id, TaskState::Complete).await;
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn the_first_failure_ends_a_batch_that_fails_fast(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "fast", "parallelism: 2, failure_strategy: fail_fast").await;
    let go_on = Arc::new(Semaphore::new(0));
    let both = Arc::new(Barrier::new(2));
    let mut handlers = handlers();
    let signal = go_on.clone();
    handlers.register_fn("work", move |step: StepContext| {
        let (signal, both) = (signal.clone(), both.clone());
        async move {
            both.wait().await;
            if step.cursor::<u32>()? == 0 {
                return Err(HandlerError::permanent("bad_row", "it cannot be read"));
            }
            signal.acquire().await.expect("it is not closed").forget();
            Ok(1)
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "fast", 6).await;
    until("the first has failed", PATIENCE, async || {
        let step = client.get_step(&task_id, "work_1").await.ok()?;
        (step.state() == StepState::Error).then_some(())
    })
    .await;
    // What has not begun never does; what runs goes on to its end.
    for batch in 3..=6 {
        let step = client.get_step(&task_id, &format!("work_{batch}")).await.unwrap();
        assert_eq!((step.state(), step.attempt), (StepState::Error, 0));
        assert_eq!(step.result.unwrap().error.unwrap().r#type, "BATCH_FAILED_FAST");
    }
    let second = client.get_step(&task_id, "work_2").await.unwrap();
    assert_eq!(second.state(), StepState::InProgress);
    go_on.add_permits(1);
    let task = ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let counts = task.steps.unwrap();
    assert_eq!((counts.failed, counts.satisfied, counts.total), (5, 2, 9));
    let sum = client.get_step(&task_id, "sum").await.unwrap();
    assert_eq!((sum.state(), sum.unmet_dependencies), (StepState::Pending, 5));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_worker_that_has_yielded_goes_on_where_its_batch_fails_fast(mesh: &Mesh) {
    const DELAY: Duration = Duration::from_secs(2);
    let client = mesh.client();
    register(&client, "yields", "parallelism: 2, failure_strategy: fail_fast").await;
    let fail = Arc::new(Semaphore::new(0));
    let mut handlers = handlers();
    let signal = fail.clone();
    handlers.register_fn("work", move |step: StepContext| {
        let signal = signal.clone();
        async move {
            if step.cursor::<u32>()? == 0 {
                signal.acquire().await.expect("it is not closed").forget();
                return Err(HandlerError::permanent("bad_row", "it cannot be read"));
            }
            match step.checkpoint() {
                None => Err(Yield::at(Checkpoint::at(&1)?).after(DELAY).into()),
                Some(_) => Ok(2),
            }
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "yields", 3).await;
    let stands = async |step: &str, state| {
        until("the step has got so far", PATIENCE, async || {
            let step = client.get_step(&task_id, step).await.ok()?;
            (step.state() == state).then_some(step)
        })
        .await
    };
    until("it has yielded", PATIENCE, async || {
        let history: Vec<Transition> =
            client.list_transitions(&task_id, "work_2").try_collect().await.ok()?;
        history.iter().any(|it| it.reason == "yielded").then_some(())
    })
    .await;
    fail.add_permits(1);
    stands("work_1", StepState::Error).await;
    // It has begun, though the attempt was not used up.
    let third = stands("work_3", StepState::Error).await;
    let error = third.result.unwrap().error.unwrap();
    assert_eq!(error.message, "another worker of the batch has failed before this one began");
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    assert_eq!(result(&client, &task_id, "work_2").await, json!(2));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn workers_of_a_batch_that_are_repaired_run_no_more_at_once_than_parallelism_allows(
    mesh: &Mesh,
) {
    let client = mesh.client();
    register(&client, "repaired", "parallelism: 1, failure_strategy: fail_fast").await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let broken = Arc::new(AtomicBool::new(true));
    let mut handlers = handlers();
    let (at_once, peak, fails) = (running.clone(), most.clone(), broken.clone());
    handlers.register_fn("work", move |step: StepContext| {
        let (at_once, peak, fails) = (at_once.clone(), peak.clone(), fails.clone());
        async move {
            if fails.load(Ordering::SeqCst) {
                return Err(HandlerError::permanent("bad_row", "it cannot be read"));
            }
            peak.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Others that are let in have the time to come.
            tokio::task::yield_now().await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            step.cursor::<u32>()
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "repaired", 8).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    broken.store(false, Ordering::SeqCst);
    let by = Operator::new("ana", "the rows are mended");
    let repaired = client.repair_task(&task_id, Remedy::Reset, &by).await.unwrap();
    assert_eq!(repaired.step_names.len(), 8, "{repaired:?}");
    ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_plan_is_run_again_and_not_resolved_by_hand(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "settled", "parallelism: 2").await;
    let mut handlers = handlers();
    let broken = Arc::new(AtomicBool::new(true));
    let fails = broken.clone();
    handlers.register_fn("plan", move |_: StepContext| {
        let fails = fails.clone();
        async move {
            if fails.load(Ordering::SeqCst) {
                return Err(HandlerError::permanent("no_rows", "the table is locked"));
            }
            Ok(Batches::of([1, 2]))
        }
    });
    handlers.register_fn("work", |_| async { Ok(1) });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "settled", 2).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let by = || Operator::new("ana", "");
    let refused = client.resolve_step(&task_id, "plan", &by()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("OUTCOME_NEEDED"), "{refused:?}");
    broken.store(false, Ordering::SeqCst);
    client.reset_step(&task_id, "plan", &by()).await.unwrap();
    let task = ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(task.steps.unwrap().total, 5);
    worker.stop().await;
    mesh.ledger().await.nothing_is_left().await;
}

async fn an_isolated_failure_holds_back_what_waits_and_not_the_others(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "isolated", "parallelism: 1, failure_strategy: isolate").await;
    let mut handlers = handlers();
    handlers.register_fn("work", |step: StepContext| async move {
        match step.cursor::<u32>()? {
            1 => Err(HandlerError::permanent("bad_row", "it cannot be read")),
            cursor => Ok(cursor),
        }
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "isolated", 4).await;
    let task = ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let counts = task.steps.unwrap();
    assert_eq!((counts.failed, counts.satisfied, counts.total), (1, 4, 7));
    let sum = client.get_step(&task_id, "sum").await.unwrap();
    assert_eq!((sum.state(), sum.unmet_dependencies), (StepState::Pending, 1));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_plan_goes_no_further_than_its_template_allows(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "bounded", "max_batches: 3").await;
    let mut handlers = handlers();
    handlers.register_fn("work", |_| async { Ok(1) });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "bounded", 4).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let plan = client.get_step(&task_id, "plan").await.unwrap();
    let error = plan.result.unwrap().error.unwrap();
    assert_eq!((error.r#type.as_str(), error.retryable), ("TOO_MANY_BATCHES", false));
    let task_id = submit(&client, "bounded", 3).await;
    ends(&client, &task_id, TaskState::Complete).await;
    worker.stop().await;
    mesh.ledger().await.nothing_is_left().await;
}

async fn a_task_is_not_blocked_by_workers_that_its_batch_passed_over(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "passes", "failure_strategy: continue_on_failure").await;
    let mut handlers = handlers();
    handlers
        .register_fn("work", |_| async { Err::<(), _>(HandlerError::retryable("busy", "never")) });
    handlers.register_fn("sum", |_| async {
        Err::<(), _>(HandlerError::permanent("no_rows", "there is nothing to add up"))
    });
    let worker = mesh.worker(&["batches"], &handlers);
    let task_id = submit(&client, "passes", 2).await;
    let of_task = ListDlqEntriesRequest { task_id, ..ListDlqEntriesRequest::default() };
    let entry = until("the task is among the dead letters", PATIENCE, async || {
        let found: Vec<_> = client.list_dlq_entries(of_task.clone()).try_collect().await.unwrap();
        found.into_iter().next()
    })
    .await;
    assert_eq!(
        (entry.reason(), entry.detail.as_str()),
        (DlqReason::PermanentFailure, "sum: no_rows")
    );
    worker.stop().await;
}
