//! A task in which nothing moves but what a pause or a limit holds waits for dependencies: it says so, it may be
//! limited, and it goes on by itself.

use std::time::Duration;

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        Delivery, DlqEntry, DlqReason, ListDlqEntriesRequest, ResultVerdict, TaskState, Transition,
        transition::Moved,
    },
};
use tasker_integration_tests::{Mesh, Session, Setup, failure, success, until};

const PATIENCE: Duration = Duration::from_secs(30);
/// Has the only place of the limit, for as long as its step runs.
const HOLDER: &str = "{namespace: waiting, name: holder, version: 1.0.0, steps: [
    {name: only, handler: {callable: any}, limits: [{name: one, max_concurrent: 1}]}]}";
const BRANCHES: &str = "{namespace: waiting, name: branches, version: 1.0.0, steps: [
    {name: free, handler: {callable: any}},
    {name: limited, handler: {callable: any}, limits: [{name: one, max_concurrent: 1}]}]}";

in_both_shapes![
    set up by setup;
    a_paused_task_waits_for_dependencies_once_its_other_branches_have_run,
    a_limited_task_waits_for_dependencies_once_its_other_branches_have_run,
    a_task_is_blocked_only_after_what_was_held_has_run,
    a_task_that_waits_for_dependencies_can_be_repaired_paused_and_cancelled,
    a_task_that_waits_too_long_for_dependencies_ends_in_error,
    a_task_that_waits_too_long_for_dependencies_is_put_among_the_dead_letters,
    a_pause_stops_the_clock_of_a_task_that_waits_for_dependencies,
    what_an_older_version_has_not_counted_is_counted_by_the_reconciler,
];

/// What is not announced is not found in time, and nothing is repaired.
fn setup() -> Setup {
    Mesh::setup()
        .with("mesh.fallback_interval", "1h")
        .with("finalizer.reconcile_interval", "1h")
        .with("finalizer.limits_interval", "100ms")
}

async fn submit(client: &Client, name: &str) -> String {
    client.create_task(NewTask::of("waiting", name)).await.unwrap().task_id
}

/// A worker that may hold so many deliveries.
async fn session(mesh: &Mesh, room: i32) -> Session {
    let hello = Session::hello("worker", "waiting", &["any"], room);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn report(session: &mut Session, delivery: &Delivery) {
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
}

async fn until_in(client: &Client, task: &str, state: TaskState) {
    until("the task stands there", PATIENCE, async || {
        (client.get_task(task).await.unwrap().state() == state).then_some(())
    })
    .await;
}

/// Has the only place of the limit taken: by this delivery, until its result comes.
async fn take_the_place(client: &Client, session: &mut Session) -> Delivery {
    client.register_template(HOLDER).await.unwrap();
    let holder = submit(client, "holder").await;
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, holder);
    delivery
}

/// A task of two branches, one of which runs while the other waits for its limit.
async fn with_a_held_branch(client: &Client, session: &mut Session) -> (String, Delivery) {
    client.register_template(BRANCHES).await.unwrap();
    let task = submit(client, "branches").await;
    let free = session.take().await;
    assert_eq!((free.task_id.as_str(), free.step_name.as_str()), (task.as_str(), "free"));
    until_in(client, &task, TaskState::StepsInProcess).await;
    (task, free)
}

async fn entries(client: &Client, task: &str) -> Vec<DlqEntry> {
    let of_task = ListDlqEntriesRequest { task_id: task.to_owned(), ..Default::default() };
    client.list_dlq_entries(of_task).try_collect().await.unwrap()
}

/// The events of the task alone, in their order.
async fn events(client: &Client, task: &str) -> Vec<String> {
    let history: Vec<Transition> = client.list_transitions(task, "").try_collect().await.unwrap();
    let of_task = |transition: &Transition| matches!(transition.moved, Some(Moved::Task(_)));
    history.into_iter().filter(of_task).flat_map(|transition| transition.events).collect()
}

async fn completes(client: &Client, task: &str) {
    let task = client.wait_for_task(task, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
}

async fn a_paused_task_waits_for_dependencies_once_its_other_branches_have_run(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: waiting, name: two, version: 1.0.0, steps: [
        {name: one, handler: {callable: any}}, {name: other, handler: {callable: others}},
        {name: last, handler: {callable: any}, dependencies: [one]}]}";
    client.register_template(yaml).await.unwrap();
    let mut session = session(mesh, 1).await;
    let others = Session::hello("other_worker", "waiting", &["others"], 1);
    let mut other_session = Session::open(mesh.channel().await, others).await.unwrap();
    let task = submit(&client, "two").await;
    let (one, other) = (session.take().await, other_session.take().await);
    client.pause_task(&task, &Operator::new("alice", "")).await.unwrap();

    report(&mut session, &one).await;
    until("its next step is held", PATIENCE, async || {
        (ledger.number("SELECT count(*) FROM held_steps").await == 1).then_some(())
    })
    .await;
    until_in(&client, &task, TaskState::StepsInProcess).await;
    report(&mut other_session, &other).await;
    until_in(&client, &task, TaskState::WaitingForDependencies).await;
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");
    assert!(entries(&client, &task).await.is_empty());

    client.resume_task(&task, &Operator::new("alice", "")).await.unwrap();
    let last = session.take().await;
    assert_eq!(last.step_name, "last");
    report(&mut session, &last).await;
    completes(&client, &task).await;
    let told = events(&client, &task).await;
    assert!(
        told.windows(3).any(|it| it == ["NoDependenciesReady", "RetryReady", "StepsEnqueued"]),
        "{told:?}"
    );
    session.drain().await;
    other_session.drain().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_limited_task_waits_for_dependencies_once_its_other_branches_have_run(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let mut session = session(mesh, 2).await;
    let place = take_the_place(&client, &mut session).await;
    let (task, free) = with_a_held_branch(&client, &mut session).await;
    report(&mut session, &free).await;
    until_in(&client, &task, TaskState::WaitingForDependencies).await;
    // Nothing runs of it, and nothing else is to be enqueued: it waits from its birth on.
    let other = submit(&client, "holder").await;
    until_in(&client, &other, TaskState::WaitingForDependencies).await;
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");

    report(&mut session, &place).await;
    for held in [&task, &other] {
        let delivery = session.take().await;
        assert_eq!(delivery.task_id, *held);
        until_in(&client, held, TaskState::StepsInProcess).await;
        report(&mut session, &delivery).await;
        completes(&client, held).await;
    }
    session.drain().await;
    ledger.every_task_has_completed_once(3).await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_task_is_blocked_only_after_what_was_held_has_run(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let mut session = session(mesh, 2).await;
    let place = take_the_place(&client, &mut session).await;
    let (task, free) = with_a_held_branch(&client, &mut session).await;
    session.report(failure(&free.delivery_token, "broken", false)).await;
    until_in(&client, &task, TaskState::WaitingForDependencies).await;
    assert!(entries(&client, &task).await.is_empty(), "it goes on by itself");

    report(&mut session, &place).await;
    let limited = session.take().await;
    assert_eq!(limited.step_name, "limited");
    report(&mut session, &limited).await;
    until_in(&client, &task, TaskState::BlockedByFailures).await;
    let letters = entries(&client, &task).await;
    assert_eq!(
        letters.iter().map(DlqEntry::reason).collect::<Vec<_>>(),
        [DlqReason::PermanentFailure]
    );
    session.drain().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_task_that_waits_for_dependencies_can_be_repaired_paused_and_cancelled(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let alice = Operator::new("alice", "");
    let mut session = session(mesh, 2).await;
    let place = take_the_place(&client, &mut session).await;
    let (task, free) = with_a_held_branch(&client, &mut session).await;
    session.report(failure(&free.delivery_token, "broken", false)).await;
    until_in(&client, &task, TaskState::WaitingForDependencies).await;

    // Reset, it runs; done by hand, the other is not held any more.
    client.reset_step(&task, "free", &alice).await.unwrap();
    let free = session.take().await;
    assert_eq!(free.step_name, "free");
    report(&mut session, &free).await;
    until_in(&client, &task, TaskState::WaitingForDependencies).await;
    client.pause_task(&task, &alice).await.unwrap();
    client.resume_task(&task, &alice).await.unwrap();
    until_in(&client, &task, TaskState::WaitingForDependencies).await;
    client.resolve_step(&task, "limited", &alice).await.unwrap();
    completes(&client, &task).await;

    let other = submit(&client, "holder").await;
    until_in(&client, &other, TaskState::WaitingForDependencies).await;
    client.cancel_task(&other, &alice).await.unwrap();
    assert_eq!(client.get_task(&other).await.unwrap().state(), TaskState::Cancelled);
    assert_eq!(ledger.number("SELECT sum(held)::bigint FROM tasks").await, 0);
    report(&mut session, &place).await;
    session.drain().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

/// A task whose only step waits for its limit, and that may not wait so for longer than a second.
async fn with_a_short_patience(client: &Client, when_stale: &str) -> String {
    let yaml = format!(
        "{{namespace: waiting, name: short, version: 1.0.0,
          lifecycle: {{max_waiting_for_dependencies_seconds: 1, when_stale: {when_stale}}}, steps: [
          {{name: only, handler: {{callable: any}}, limits: [{{name: one, max_concurrent: 1}}]}}]}}"
    );
    client.register_template(yaml).await.unwrap();
    let task = submit(client, "short").await;
    until_in(client, &task, TaskState::WaitingForDependencies).await;
    task
}

async fn a_task_that_waits_too_long_for_dependencies_ends_in_error(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let mut session = session(mesh, 1).await;
    let place = take_the_place(&client, &mut session).await;
    let task = with_a_short_patience(&client, "error").await;
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Error);
    assert_eq!(events(&client, &task).await.last().map(String::as_str), Some("Timeout"));
    report(&mut session, &place).await;
    session.drain().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_task_that_waits_too_long_for_dependencies_is_put_among_the_dead_letters(mesh: &Mesh) {
    let client = mesh.client();
    let mut session = session(mesh, 1).await;
    let place = take_the_place(&client, &mut session).await;
    let task = with_a_short_patience(&client, "dlq").await;
    let letter = until("it is among the dead letters", PATIENCE, async || {
        entries(&client, &task).await.pop()
    })
    .await;
    assert_eq!(letter.reason(), DlqReason::Staleness);
    assert_eq!(letter.task_state(), TaskState::WaitingForDependencies);
    // It goes on all the same.
    report(&mut session, &place).await;
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, task);
    report(&mut session, &delivery).await;
    completes(&client, &task).await;
    session.drain().await;
}

async fn a_pause_stops_the_clock_of_a_task_that_waits_for_dependencies(mesh: &Mesh) {
    let client = mesh.client();
    let mut session = session(mesh, 1).await;
    let place = take_the_place(&client, &mut session).await;
    let paused = with_a_short_patience(&client, "error").await;
    client.pause_task(&paused, &Operator::new("alice", "")).await.unwrap();
    // Twice as long as it may wait, as others that wait beside it show.
    for _ in 0..2 {
        let beside = submit(&client, "short").await;
        let ended = client.wait_for_task(&beside, PATIENCE).await.unwrap();
        assert_eq!(ended.state(), TaskState::Error);
    }
    let stands = client.get_task(&paused).await.unwrap();
    assert_eq!(stands.state(), TaskState::WaitingForDependencies);
    // Its limit holds it still: the clock goes on.
    client.resume_task(&paused, &Operator::new("alice", "")).await.unwrap();
    let ended = client.wait_for_task(&paused, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Error);
    report(&mut session, &place).await;
    session.drain().await;
}

async fn what_an_older_version_has_not_counted_is_counted_by_the_reconciler(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let mut session = session(mesh, 1).await;
    let place = take_the_place(&client, &mut session).await;
    let held = submit(&client, "holder").await;
    until_in(&client, &held, TaskState::WaitingForDependencies).await;
    // As that holds a step.
    let uncounted = "UPDATE tasks SET held = 0, state = 'enqueuing_steps' WHERE held = 1";
    assert_eq!(ledger.change(uncounted).await, 1);
    assert_eq!(ledger.repairs().await, 1);
    until_in(&client, &held, TaskState::WaitingForDependencies).await;
    assert_eq!(ledger.repairs().await, 0);
    // As that lets one go, and then takes its message for nothing.
    assert_eq!(ledger.change("DELETE FROM held_steps").await, 1);
    assert_eq!(ledger.repairs().await, 1, "its task is counted anew");
    assert_eq!(ledger.repairs().await, 1, "and its step is sent again");
    let sent = "SELECT count(*) FROM pgmq.q_orchestration_ready_steps";
    assert_eq!(ledger.number(sent).await, 1);
    until_in(&client, &held, TaskState::EnqueuingSteps).await;
    report(&mut session, &place).await;
    session.drain().await;
}
