//! Limits of a task's life: what a template allows, and what comes of a task that takes longer.

use std::time::Duration;

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        LifecycleLimit, ListStaleTasksRequest, ResultVerdict, StaleTask, StepState, TaskHealth,
        TaskState, Transition, transition::Moved,
    },
};
use tasker_integration_tests::{Mesh, Session, Setup, success, until};
use tasker_worker::{HandlerError, Registry};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![
    set up by setup;
    a_task_that_takes_longer_than_it_may_ends_in_error_and_late_results_are_refused,
    a_task_that_waits_too_long_for_a_retry_ends_in_error,
    a_task_that_is_blocked_for_too_long_is_given_up,
    a_stale_task_is_reported_and_goes_on_if_its_template_says_no_more,
    a_task_is_warned_of_before_it_is_stale,
    the_health_of_one_task_is_told_with_since_when_it_is_so,
    a_task_whose_handler_no_worker_has_for_too_long_ends_in_error,
    an_end_that_could_not_be_written_is_tried_again_soon,
    a_task_that_was_ended_by_a_limit_and_is_reopened_has_its_limits_anew,
];

fn setup() -> Setup {
    Mesh::setup().with("finalizer.limits_interval", "100ms")
}

async fn submit(client: &Client, lifecycle: &str, step: &str) -> String {
    let yaml = format!(
        "{{namespace: limits, name: limited, version: 1.0.0, lifecycle: {lifecycle},
          steps: [{step}, {{name: after, handler: {{callable: any}}, dependencies: [first]}}]}}"
    );
    client.register_template(yaml).await.unwrap();
    client.create_task(NewTask::of("limits", "limited")).await.unwrap().task_id
}

/// The last move of the task, once it has ended.
async fn end_of(client: &Client, task: &str) -> Transition {
    let told: Vec<_> = client.watch_task(task).try_collect().await.unwrap();
    assert!(!told.is_empty());
    let history: Vec<_> = client.list_transitions(task, "").try_collect().await.unwrap();
    let of_task = |transition: &Transition| matches!(transition.moved, Some(Moved::Task(_)));
    history.into_iter().rev().find(of_task).unwrap()
}

async fn states(client: &Client, task: &str) -> Vec<StepState> {
    let steps: Vec<_> = client.list_steps(task).try_collect().await.unwrap();
    steps.iter().map(tasker_client::v1::Step::state).collect()
}

async fn stale(client: &Client) -> Vec<StaleTask> {
    client.list_stale_tasks(ListStaleTasksRequest::default()).try_collect().await.unwrap()
}

async fn a_task_that_takes_longer_than_it_may_ends_in_error_and_late_results_are_refused(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let lifecycle = "{max_duration_seconds: 1, when_stale: error}";
    let task = submit(&client, lifecycle, "{name: first, handler: {callable: any}}").await;
    let hello = Session::hello("slow", "limits", &["any"], 1);
    let mut worker = Session::open(mesh.channel().await, hello).await.unwrap();
    let delivery = worker.take().await;
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Error);
    let late = worker.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(late, ResultVerdict::LeaseLost);
    assert_eq!(states(&client, &task).await, [StepState::Cancelled, StepState::Cancelled]);
    let end = end_of(&client, &task).await;
    assert_eq!(end.events, ["Timeout"]);
    assert!(end.actor.starts_with("finalizer"), "{}", end.actor);
    assert!(end.reason.contains("may last 1 s"), "{}", end.reason);
    assert!(stale(&client).await.is_empty());
    worker.drain().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
    assert_eq!(ledger.number("SELECT count(*) FROM limited_tasks").await, 0);
}

async fn a_task_that_waits_too_long_for_a_retry_ends_in_error(mesh: &Mesh) {
    let client = mesh.client();
    let lifecycle =
        "{max_duration_seconds: 3600, max_waiting_for_retry_seconds: 1, when_stale: error}";
    let step = "{name: first, handler: {callable: busy},
        retry: {backoff_base_ms: 3600000, max_backoff_ms: 3600000}}";
    let task = submit(&client, lifecycle, step).await;
    let mut handlers = Registry::new();
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    let worker = mesh.worker(&["limits"], &handlers);
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Error);
    assert_eq!(states(&client, &task).await, [StepState::Cancelled, StepState::Cancelled]);
    let end = end_of(&client, &task).await;
    assert_eq!(end.events, ["Timeout"]);
    assert!(end.reason.starts_with("waiting for a retry has lasted"), "{}", end.reason);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_task_that_is_blocked_for_too_long_is_given_up(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(
        &client,
        "{max_blocked_seconds: 1, when_stale: error}",
        "{name: first, handler: {callable: refuse}}",
    )
    .await;
    let mut handlers = Registry::new();
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "never"))
    });
    let worker = mesh.worker(&["limits"], &handlers);
    let end = end_of(&client, &task).await;
    assert_eq!(end.events, ["GiveUp"]);
    assert!(end.reason.starts_with("being blocked by failures has lasted"), "{}", end.reason);
    let Some(Moved::Task(moved)) = end.moved else { panic!("{end:?}") };
    assert_eq!((moved.from(), moved.to()), (TaskState::BlockedByFailures, TaskState::Error));
    let stayed = end.duration.unwrap();
    assert!(stayed.seconds >= 1, "{stayed:?}");
    worker.stop().await;
    mesh.ledger().await.histories_hold().await;
}

async fn a_stale_task_is_reported_and_goes_on_if_its_template_says_no_more(mesh: &Mesh) {
    let client = mesh.client();
    let task =
        submit(&client, "{max_duration_seconds: 1}", "{name: first, handler: {callable: any}}")
            .await;
    let found = until("the task is reported", PATIENCE, async || {
        stale(&client).await.into_iter().find(|task| task.health() == TaskHealth::Stale)
    })
    .await;
    assert_eq!(found.task_id, task);
    assert_eq!(found.limit(), LifecycleLimit::Duration);
    assert_eq!(found.allowed.unwrap().seconds, 1);
    assert!(found.lasted.unwrap().seconds >= 1);
    assert_eq!(found.template.unwrap().name, "limited");
    let other =
        ListStaleTasksRequest { namespace: "other".to_owned(), ..ListStaleTasksRequest::default() };
    let others: Vec<_> = client.list_stale_tasks(other).try_collect().await.unwrap();
    assert!(others.is_empty());

    let mut handlers = Registry::new();
    handlers.register_fn("any", |_| async { Ok(1) });
    let worker = mesh.worker(&["limits"], &handlers);
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Complete);
    assert!(stale(&client).await.is_empty());
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    assert_eq!(ledger.number("SELECT count(*) FROM task_dead_letters").await, 0);
}

async fn a_task_is_warned_of_before_it_is_stale(mesh: &Mesh) {
    let client = mesh.client();
    let task =
        submit(&client, "{max_duration_seconds: 8}", "{name: first, handler: {callable: any}}")
            .await;
    let mut healths = Vec::new();
    until("the task is stale", PATIENCE, async || {
        for found in stale(&client).await {
            assert_eq!(found.task_id, task);
            if healths.last() != Some(&found.health()) {
                healths.push(found.health());
            }
        }
        healths.contains(&TaskHealth::Stale).then_some(())
    })
    .await;
    assert_eq!(healths, [TaskHealth::Warning, TaskHealth::Stale]);
}

async fn the_health_of_one_task_is_told_with_since_when_it_is_so(mesh: &Mesh) {
    let client = mesh.client();
    let nanos = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap();
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    let close = |one: i128, other: i128| (one - other).abs() < 50_000_000;
    let step = "{name: first, handler: {callable: any}}";
    let healthy = submit(&client, "{max_duration_seconds: 3600}", step).await;
    let reading = client.task_health(&healthy).await.unwrap();
    assert_eq!(reading.health(), TaskHealth::Healthy);
    assert_eq!(reading.limit(), LifecycleLimit::Duration);
    assert_eq!(reading.allowed.unwrap().seconds, 3600);
    let born = nanos(client.get_task(&healthy).await.unwrap().create_time);
    assert!(close(nanos(reading.since_time), born), "{reading:?}");

    let yaml = "{namespace: limits, name: free, version: 1.0.0,
        steps: [{name: first, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let free = client.create_task(NewTask::of("limits", "free")).await.unwrap().task_id;
    let reading = client.task_health(&free).await.unwrap();
    assert_eq!(reading.health(), TaskHealth::Healthy);
    assert_eq!((reading.limit(), reading.lasted), (LifecycleLimit::Unspecified, None));
    let born = nanos(client.get_task(&free).await.unwrap().create_time);
    assert_eq!(nanos(reading.since_time), born);

    let yaml =
        "{namespace: limits, name: short, version: 1.0.0, lifecycle: {max_duration_seconds: 2},
        steps: [{name: first, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let short = client.create_task(NewTask::of("limits", "short")).await.unwrap().task_id;
    let born = nanos(client.get_task(&short).await.unwrap().create_time);
    for (health, after) in
        [(TaskHealth::Warning, 1_600_000_000), (TaskHealth::Stale, 2_000_000_000)]
    {
        let reading = until("the task is so", PATIENCE, async || {
            let reading = client.task_health(&short).await.unwrap();
            (reading.health() == health).then_some(reading)
        })
        .await;
        assert!(close(nanos(reading.since_time), born + after), "{reading:?}");
    }
    client.cancel_task(&short, &Operator::new("ada", "")).await.unwrap();
    let reading = client.task_health(&short).await.unwrap();
    assert_eq!((reading.health(), reading.since_time), (TaskHealth::Unspecified, None));
    assert_eq!(reading.state(), TaskState::Cancelled);
    let nobody = "01890000-0000-7000-8000-000000000000";
    assert_eq!(client.task_health(nobody).await.unwrap_err().code(), Code::NotFound);
}

async fn a_task_whose_handler_no_worker_has_for_too_long_ends_in_error(mesh: &Mesh) {
    let client = mesh.client();
    let lifecycle = "{max_waiting_for_worker_seconds: 1, when_stale: error}";
    let task = submit(&client, lifecycle, "{name: first, handler: {callable: any}}").await;
    let end = end_of(&client, &task).await;
    assert_eq!(end.events, ["Timeout"]);
    assert!(end.reason.starts_with("waiting for a worker"), "{}", end.reason);
    assert_eq!(states(&client, &task).await, [StepState::Cancelled, StepState::Cancelled]);
    mesh.ledger().await.histories_hold().await;
}

async fn an_end_that_could_not_be_written_is_tried_again_soon(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not now'; END $$";
    ledger.change(refuse).await;
    let on = "CREATE TRIGGER not_now BEFORE UPDATE ON tasks
        FOR EACH ROW WHEN (NEW.state = 'error') EXECUTE FUNCTION refuse()";
    ledger.change(on).await;
    let lifecycle = "{max_duration_seconds: 1, when_stale: error}";
    let task = submit(&client, lifecycle, "{name: first, handler: {callable: any}}").await;
    until("its end is refused", PATIENCE, async || {
        let stale = "SELECT count(*) FROM limited_tasks WHERE health = 'stale'";
        (ledger.number(stale).await == 1).then_some(())
    })
    .await;
    ledger.change("DROP TRIGGER not_now ON tasks").await;
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Error);
}

async fn a_task_that_was_ended_by_a_limit_and_is_reopened_has_its_limits_anew(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(
        &client,
        "{max_blocked_seconds: 1, when_stale: error}",
        "{name: first, handler: {callable: refuse}}",
    )
    .await;
    let mut handlers = Registry::new();
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "never"))
    });
    let worker = mesh.worker(&["limits"], &handlers);
    // Each time that its end is told, it is reopened at once: its monitor may not have forgotten it yet.
    // It is blocked first each time, which `wait_for_task` takes for an answer.
    let ends = async || {
        until("the task has ended", PATIENCE, async || {
            let state = client.get_task(&task).await.unwrap().state();
            (state == TaskState::Error).then_some(())
        })
        .await;
    };
    for _ in 0..3 {
        ends().await;
        client.reset_step(&task, "first", &Operator::new("ada", "")).await.unwrap();
    }
    ends().await;
    worker.stop().await;
}
