//! Nothing new begins of what is paused; what runs goes on; a resume drives on at once.

use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::{PgPool, Postgres, Transaction};
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        ListTasksRequest, ResultVerdict, TaskState, TemplateRef, watch_task_response::Transition,
    },
};
use tasker_integration_tests::{
    Ledger, Mesh, Recorder, Service, Session, Setup, success, until, worker,
};
use tasker_worker::{HandlerError, Registry, StepContext};
use tokio::task::JoinHandle;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
const CHAIN: &str = "{namespace: pause, name: chain, version: 1.0.0, steps: [
    {name: first, handler: {callable: any}},
    {name: second, handler: {callable: any}, dependencies: [first]}]}";
const CHAIN_2: &str = "{namespace: pause, name: chain, version: 2.0.0, steps: [
    {name: first, handler: {callable: any}},
    {name: second, handler: {callable: any}, dependencies: [first]}]}";
const OTHER: &str = "{namespace: pause, name: other, version: 1.0.0, steps: [
    {name: only, handler: {callable: any}}]}";

in_both_shapes![
    set up by setup;
    what_runs_of_a_paused_task_goes_on_and_nothing_else_begins_until_it_is_resumed,
    a_step_that_waits_for_a_worker_does_not_begin_while_its_task_is_paused,
    a_retry_that_is_due_waits_while_its_task_is_paused,
    nothing_begins_of_a_paused_template_whatever_its_version,
    a_version_can_be_paused_alone,
    who_paused_and_resumed_and_why_is_kept_and_a_repeat_changes_nothing,
    a_pause_of_what_does_not_exist_or_has_ended_is_refused,
    nothing_begins_of_a_template_once_its_pause_is_answered,
    what_is_held_while_its_template_is_resumed_goes_on_at_once,
    a_watcher_is_told_who_paused_and_resumed_the_task_and_why,
    who_waits_is_told_the_same_of_a_task_that_ends_paused_as_who_reads_it,
];

/// What is not announced is not found in time, and nothing is repaired.
fn setup() -> Setup {
    Mesh::setup().with("mesh.fallback_interval", "1h").with("finalizer.reconcile_interval", "1h")
}

async fn submit(client: &Client, name: &str) -> String {
    client.create_task(NewTask::of("pause", name)).await.unwrap().task_id
}

fn template(version: &str) -> TemplateRef {
    TemplateRef {
        namespace: "pause".to_owned(),
        name: "chain".to_owned(),
        version: version.to_owned(),
    }
}

/// A worker that may hold one delivery.
async fn session(mesh: &Mesh) -> Session {
    let hello = Session::hello("one_at_a_time", "pause", &["any"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

/// Takes the next delivery and reports its result. Says which step of which task it was.
async fn run(session: &mut Session) -> (String, String) {
    let delivery = session.take().await;
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    (delivery.task_id, delivery.step_name)
}

fn step(task: &str, step: &str) -> (String, String) {
    (task.to_owned(), step.to_owned())
}

async fn until_held(ledger: &Ledger, steps: i64) {
    let count = "SELECT count(*) FROM held_steps";
    until("the steps are held", PATIENCE, async || {
        (ledger.number(count).await == steps).then_some(())
    })
    .await;
}

async fn completes(client: &Client, task: &str) {
    let task = client.wait_for_task(task, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
}

async fn what_runs_of_a_paused_task_goes_on_and_nothing_else_begins_until_it_is_resumed(
    mesh: &Mesh,
) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    client.register_template(OTHER).await.unwrap();
    let mut session = session(mesh).await;
    let task = submit(&client, "chain").await;
    let delivery = session.take().await;
    assert!(
        client.pause_task(&task, &Operator::new("alice", "wrong amount")).await.unwrap().paused
    );

    // The place that its result frees is not for its next step, though that is older than the other.
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    until_held(&ledger, 1).await;
    let other = submit(&client, "other").await;
    assert_eq!(run(&mut session).await, step(&other, "only"));
    completes(&client, &other).await;
    let stands = client.get_task(&task).await.unwrap();
    assert!(stands.paused);
    assert_eq!(
        (stands.state(), stands.steps.unwrap().satisfied),
        (TaskState::WaitingForDependencies, 1)
    );
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");

    assert!(!client.resume_task(&task, &Operator::new("bob", "")).await.unwrap().paused);
    assert_eq!(run(&mut session).await, step(&task, "second"));
    completes(&client, &task).await;
    session.drain().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

async fn a_step_that_waits_for_a_worker_does_not_begin_while_its_task_is_paused(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    client.register_template(OTHER).await.unwrap();
    let paused = submit(&client, "chain").await;
    let other = submit(&client, "other").await;
    let count = "SELECT count(*) FROM pgmq.q_worker_pause_queue";
    until("both wait", PATIENCE, async || (ledger.number(count).await == 2).then_some(())).await;
    client.pause_task(&paused, &Operator::new("alice", "")).await.unwrap();

    let mut session = session(mesh).await;
    assert_eq!(run(&mut session).await, step(&other, "only"));
    until_held(&ledger, 1).await;
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");
    client.resume_task(&paused, &Operator::new("alice", "")).await.unwrap();
    assert_eq!(run(&mut session).await, step(&paused, "first"));
    assert_eq!(run(&mut session).await, step(&paused, "second"));
    completes(&client, &paused).await;
    session.drain().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

async fn a_retry_that_is_due_waits_while_its_task_is_paused(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: pause, name: again, version: 1.0.0, steps: [
        {name: only, handler: {callable: fail_once}, retry: {backoff_base_ms: 300, jitter: false}}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("fail_once", |step: StepContext| async move {
        match step.attempt() {
            1 => Err(HandlerError::retryable("busy", "not yet")),
            second => Ok(second),
        }
    });
    let worker = mesh.worker(&["pause"], &handlers);
    let task = submit(&client, "again").await;
    until("the first attempt has failed", PATIENCE, async || {
        let step = client.get_step(&task, "only").await.unwrap();
        step.result.is_some().then_some(())
    })
    .await;
    client.pause_task(&task, &Operator::new("alice", "")).await.unwrap();
    until_held(&ledger, 1).await;
    let waiting = client.get_step(&task, "only").await.unwrap();
    assert_eq!(waiting.attempt, 1, "the second attempt has begun");
    client.resume_task(&task, &Operator::new("alice", "")).await.unwrap();
    completes(&client, &task).await;
    worker.stop().await;
    ledger.nothing_is_left().await;
}

async fn nothing_begins_of_a_paused_template_whatever_its_version(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    client.register_template(OTHER).await.unwrap();
    let mut session = session(mesh).await;
    let begun = submit(&client, "chain").await;
    let delivery = session.take().await;
    client.pause_template(template(""), &Operator::new("alice", "deploying")).await.unwrap();
    // What is registered during the pause is paused, too.
    client.register_template(CHAIN_2).await.unwrap();
    let fresh = submit(&client, "chain").await;
    session.report(success(&delivery.delivery_token, "1")).await;
    until_held(&ledger, 2).await;
    let other = submit(&client, "other").await;
    assert_eq!(run(&mut session).await, step(&other, "only"));
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");

    client.resume_template(template(""), &Operator::new("alice", "")).await.unwrap();
    let mut order = [run(&mut session).await, run(&mut session).await, run(&mut session).await];
    order.sort();
    let mut expected = [step(&begun, "second"), step(&fresh, "first"), step(&fresh, "second")];
    expected.sort();
    assert_eq!(order, expected);
    completes(&client, &begun).await;
    completes(&client, &fresh).await;
    session.drain().await;
    ledger.every_task_has_completed_once(3).await;
    ledger.nothing_is_left().await;
}

async fn a_version_can_be_paused_alone(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    client.register_template(CHAIN_2).await.unwrap();
    client.pause_template(template("1.0.0"), &Operator::new("alice", "")).await.unwrap();
    let mut session = session(mesh).await;
    let task = NewTask::of("pause", "chain").version("1.0.0");
    let first = client.create_task(task).await.unwrap().task_id;
    until_held(&ledger, 1).await;
    let second = submit(&client, "chain").await;
    assert_eq!(run(&mut session).await, step(&second, "first"));
    assert_eq!(run(&mut session).await, step(&second, "second"));
    // The pause of all is another: it holds what is let go of the version's.
    client.pause_template(template(""), &Operator::new("alice", "")).await.unwrap();
    client.resume_template(template("1.0.0"), &Operator::new("alice", "")).await.unwrap();
    assert_eq!(ledger.number("SELECT count(*) FROM held_steps").await, 1);
    client.resume_template(template(""), &Operator::new("alice", "")).await.unwrap();
    assert_eq!(run(&mut session).await, step(&first, "first"));
    assert_eq!(run(&mut session).await, step(&first, "second"));
    completes(&client, &first).await;
    completes(&client, &second).await;
    session.drain().await;
    ledger.nothing_is_left().await;
}

async fn who_paused_and_resumed_and_why_is_kept_and_a_repeat_changes_nothing(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    let task = submit(&client, "chain").await;
    client.pause_task(&task, &Operator::new("alice", "wrong amount")).await.unwrap();
    client.pause_task(&task, &Operator::new("eve", "")).await.unwrap();
    client.resume_task(&task, &Operator::new("bob", "amount corrected")).await.unwrap();
    client.resume_task(&task, &Operator::new("eve", "")).await.unwrap();
    client.pause_template(template(""), &Operator::new("alice", "deploying")).await.unwrap();
    client.pause_template(template(""), &Operator::new("eve", "")).await.unwrap();
    client.resume_template(template(""), &Operator::new("bob", "deployed")).await.unwrap();
    client.resume_template(template(""), &Operator::new("eve", "")).await.unwrap();
    let kept = "SELECT count(*) FROM pauses WHERE (paused_by, resumed_by) = ('alice', 'bob')
        AND (reason, resume_reason) IN (('wrong amount', 'amount corrected'), ('deploying', 'deployed'))";
    assert_eq!(ledger.number(kept).await, 2);
    assert_eq!(ledger.number("SELECT count(*) FROM pauses").await, 2);
}

async fn a_pause_of_what_does_not_exist_or_has_ended_is_refused(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(OTHER).await.unwrap();
    let refused =
        |error: tasker_client::Error| (error.code(), error.reason().unwrap_or_default().to_owned());
    let nobody = "01890000-0000-7000-8000-000000000000";
    let not_found = |what: &str| (Code::NotFound, format!("{what}_NOT_FOUND"));
    let error = client.pause_task(nobody, &Operator::new("alice", "")).await.unwrap_err();
    assert_eq!(refused(error), not_found("TASK"));
    let error = client.resume_task(nobody, &Operator::new("alice", "")).await.unwrap_err();
    assert_eq!(refused(error), not_found("TASK"));
    let error = client.pause_template(template(""), &Operator::new("alice", "")).await.unwrap_err();
    assert_eq!(refused(error), not_found("TEMPLATE"));
    let error =
        client.resume_template(template(""), &Operator::new("alice", "")).await.unwrap_err();
    assert_eq!(refused(error), not_found("TEMPLATE"));
    let error = client.pause_task(nobody, &Operator::new("", "")).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "operator");

    let mut session = session(mesh).await;
    let task = submit(&client, "other").await;
    run(&mut session).await;
    completes(&client, &task).await;
    let ended = (Code::FailedPrecondition, "TASK_ENDED".to_owned());
    assert_eq!(
        refused(client.pause_task(&task, &Operator::new("alice", "")).await.unwrap_err()),
        ended
    );
    assert_eq!(
        refused(client.resume_task(&task, &Operator::new("alice", "")).await.unwrap_err()),
        ended
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_outlives_every_process_and_holds_at_every_replica() {
    let mesh = Mesh::setup().replicas(2).start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    client.register_template(OTHER).await.unwrap();
    let of_template = submit(&client, "chain").await;
    client.pause_template(template(""), &Operator::new("alice", "")).await.unwrap();
    let of_task = submit(&client, "other").await;
    client.pause_task(&of_task, &Operator::new("alice", "")).await.unwrap();
    let replicas = || Service::ALL.into_iter().flat_map(|service| [(service, 0), (service, 1)]);
    for (service, replica) in replicas() {
        mesh.kill(service, replica);
    }
    for (service, replica) in replicas() {
        mesh.restart(service, replica).await;
    }

    let ran = Recorder::default();
    let mut handlers = Registry::new();
    handlers.register_fn("any", |_| async { Ok(1) });
    let workers: Vec<_> = mesh
        .gateways()
        .iter()
        .map(|gateway| worker(gateway, &["pause"], &ran.of(&handlers)))
        .collect();
    for _ in 0..10 {
        completes(&client, &submit(&client, "other").await).await;
    }
    until_held(&ledger, 2).await;
    assert_eq!(ran.count(), 10, "something of what is paused has run");
    client.resume_template(template(""), &Operator::new("alice", "")).await.unwrap();
    completes(&client, &of_template).await;
    client.resume_task(&of_task, &Operator::new("alice", "")).await.unwrap();
    completes(&client, &of_task).await;
    for worker in workers {
        worker.stop().await;
    }
    ledger.every_task_has_completed_once(12).await;
    ledger.nothing_is_left().await;
}

/// A task, locked by hand, with a step that a statement is about to begin.
async fn about_to_begin(mesh: &Mesh, pool: &PgPool) -> (Transaction<'static, Postgres>, Session) {
    let mut by_hand = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM tasks FOR NO KEY UPDATE").execute(&mut *by_hand).await.unwrap();
    let session = session(mesh).await;
    waits_for_a_lock(pool, 1).await;
    (by_hand, session)
}

/// Waits until so many sessions wait for locks of others.
async fn waits_for_a_lock(pool: &PgPool, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    until("a statement waits for a lock", PATIENCE, async || {
        let found: i64 = sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap();
        (found >= sessions).then_some(())
    })
    .await;
}

/// Waits until a call is answered, or waits for somebody's lock.
async fn answered_or_waiting<T>(call: &JoinHandle<T>, pool: &PgPool) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    until("the call is answered, or waits", PATIENCE, async || {
        let found: i64 = sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap();
        (call.is_finished() || found > 0).then_some(())
    })
    .await;
}

async fn nothing_begins_of_a_template_once_its_pause_is_answered(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    let task = submit(&client, "chain").await;
    let count = "SELECT count(*) FROM pgmq.q_worker_pause_queue";
    until("it waits", PATIENCE, async || (ledger.number(count).await == 1).then_some(())).await;
    let pool = PgPool::connect(mesh.database_url()).await.unwrap();
    let (by_hand, mut session) = about_to_begin(mesh, &pool).await;
    let pause = tokio::spawn({
        let client = client.clone();
        async move { client.pause_template(template(""), &Operator::new("alice", "")).await }
    });
    answered_or_waiting(&pause, &pool).await;
    let answered_first = pause.is_finished();
    by_hand.commit().await.unwrap();
    pause.await.unwrap().unwrap();
    let begun = ledger.number("SELECT count(*) FROM leases").await;
    assert!(!answered_first && begun == 1, "what had not begun by the answer would begin after it");

    let delivery = session.take().await;
    session.report(success(&delivery.delivery_token, "1")).await;
    until_held(&ledger, 1).await;
    client.resume_template(template(""), &Operator::new("alice", "")).await.unwrap();
    assert_eq!(run(&mut session).await, step(&task, "second"));
    completes(&client, &task).await;
    session.drain().await;
    pool.close().await;
    ledger.nothing_is_left().await;
}

async fn what_is_held_while_its_template_is_resumed_goes_on_at_once(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    let task = submit(&client, "chain").await;
    let count = "SELECT count(*) FROM pgmq.q_worker_pause_queue";
    until("it waits", PATIENCE, async || (ledger.number(count).await == 1).then_some(())).await;
    client.pause_template(template(""), &Operator::new("alice", "")).await.unwrap();
    let pool = PgPool::connect(mesh.database_url()).await.unwrap();
    let (by_hand, mut session) = about_to_begin(mesh, &pool).await;
    let resume = tokio::spawn({
        let client = client.clone();
        async move { client.resume_template(template(""), &Operator::new("alice", "")).await }
    });
    answered_or_waiting(&resume, &pool).await;
    by_hand.commit().await.unwrap();
    resume.await.unwrap().unwrap();
    assert_eq!(run(&mut session).await, step(&task, "first"));
    assert_eq!(run(&mut session).await, step(&task, "second"));
    completes(&client, &task).await;
    session.drain().await;
    pool.close().await;
    ledger.nothing_is_left().await;
}

async fn a_watcher_is_told_who_paused_and_resumed_the_task_and_why(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(OTHER).await.unwrap();
    let task = submit(&client, "other").await;
    let mut live = std::pin::pin!(client.watch_task(&task));
    assert!(live.try_next().await.unwrap().is_some(), "the birth is told");
    client.pause_task(&task, &Operator::new("alice", "wrong amount")).await.unwrap();
    // Told at once, and not when somebody looks anyway.
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(event) = live.try_next().await.unwrap() {
            if let Some(Transition::Paused(paused)) = event.transition {
                return (event.actor, paused.reason, event.cursor);
            }
        }
        panic!("the watch has ended before the task");
    });
    let (actor, reason, cursor) = told.await.unwrap();
    assert_eq!((actor.as_str(), reason.as_str()), ("operator:alice", "wrong amount"));
    client.resume_task(&task, &Operator::new("bob", "amount corrected")).await.unwrap();
    let mut session = session(mesh).await;
    run(&mut session).await;
    completes(&client, &task).await;
    session.drain().await;

    // From there on, and from the beginning: once each, in their order.
    let after: Vec<_> = client.watch_task_from(&task, &cursor).try_collect().await.unwrap();
    // The pause may have held its step, which moves the task.
    let mut after = after.iter().filter(|it| !matches!(it.transition, Some(Transition::Task(_))));
    let first = after.next();
    assert!(
        first.is_some_and(|it| matches!(it.transition, Some(Transition::Resumed(_)))),
        "{first:?}"
    );
    let whole: Vec<_> = client.watch_task(&task).try_collect().await.unwrap();
    let pauses = whole.iter().filter_map(|event| match event.transition.as_ref()? {
        Transition::Paused(paused) => Some((true, event.actor.as_str(), paused.reason.as_str())),
        Transition::Resumed(resumed) => {
            Some((false, event.actor.as_str(), resumed.reason.as_str()))
        }
        Transition::Task(_) | Transition::Step(_) => None,
    });
    let expected =
        [(true, "operator:alice", "wrong amount"), (false, "operator:bob", "amount corrected")];
    assert_eq!(pauses.collect::<Vec<_>>(), expected);
}

async fn who_waits_is_told_the_same_of_a_task_that_ends_paused_as_who_reads_it(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(CHAIN).await.unwrap();
    let named = NewTask::of("pause", "chain").priority(7).correlation_id("order 42");
    let task = client.create_task(named).await.unwrap().task_id;
    let mut session = session(mesh).await;
    assert_eq!(run(&mut session).await, step(&task, "first"));
    let last = session.take().await;
    client.pause_task(&task, &Operator::new("alice", "")).await.unwrap();
    let waiting = tokio::spawn({
        let (client, task) = (client.clone(), task.clone());
        async move { client.wait_for_task(&task, PATIENCE).await }
    });
    let count = "SELECT count(*) FROM tasks WHERE awaited";
    until("it waits", PATIENCE, async || (ledger.number(count).await == 1).then_some(())).await;
    let verdict = session.report(success(&last.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);

    let told = waiting.await.unwrap().unwrap();
    assert!(told.paused && told.state() == TaskState::Complete, "{told:?}");
    let read: Vec<_> = client.list_tasks(ListTasksRequest::default()).try_collect().await.unwrap();
    assert_eq!([told], *read);
    session.drain().await;
    ledger.nothing_is_left().await;
}
