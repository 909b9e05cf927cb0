//! Which step goes next, and to whom.

use std::time::Duration;

use futures::TryStreamExt as _;
use tasker_client::{Client, NewTask, v1::ResultVerdict};
use tasker_integration_tests::{Mesh, Session, success, until, yielded};

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: dispatch, name: chain, version: 1.0.0, steps: [
    {name: first, handler: {callable: any}},
    {name: second, handler: {callable: any}, dependencies: [first]},
    {name: third, handler: {callable: any}, dependencies: [second]}]}";

in_both_shapes![
    the_first_step_of_a_task_begins_in_the_commit_that_gives_birth_to_it,
    the_place_that_a_result_frees_goes_to_the_step_that_it_unlocks,
    larger_priorities_go_first_then_older_tasks_whoever_has_begun,
    a_worker_that_drains_gets_no_next_step,
    a_long_chain_does_not_pass_a_more_urgent_step_of_another_handler,
    a_long_chain_does_not_pass_a_more_urgent_step_of_another_namespace,
    what_waits_in_several_namespaces_of_a_worker_is_served_by_rank,
    a_step_whose_time_has_come_passes_a_backlog_of_younger_ones,
];

async fn register(client: &Client) {
    client.register_template(YAML).await.unwrap();
}

async fn submit(client: &Client, priority: i32) -> String {
    let task = NewTask::of("dispatch", "chain").priority(priority);
    client.create_task(task).await.unwrap().task_id
}

/// A worker that may hold one delivery.
async fn session(mesh: &Mesh) -> Session {
    let hello = Session::hello("one_at_a_time", "dispatch", &["any"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

/// Takes the next delivery and reports its result. Says which step of which task it was.
async fn run(session: &mut Session) -> (String, String) {
    let delivery = session.take().await;
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    (delivery.task_id, delivery.step_name)
}

async fn until_waiting(mesh: &Mesh, steps: i64) {
    let ledger = mesh.ledger().await;
    let count = "SELECT count(*) FROM pgmq.q_worker_dispatch_queue";
    until("the steps wait", PATIENCE, async || (ledger.number(count).await == steps).then_some(()))
        .await;
}

async fn the_first_step_of_a_task_begins_in_the_commit_that_gives_birth_to_it(mesh: &Mesh) {
    let client = mesh.client();
    register(&client).await;
    let mut session = session(mesh).await;
    // While the mesh starts, or a machine is slow to answer, a task may be born without places.
    until("a step begins so", PATIENCE, async || {
        let task = submit(&client, 0).await;
        for step in ["first", "second", "third"] {
            assert_eq!(run(&mut session).await, (task.clone(), step.to_owned()));
        }
        let history = client.list_transitions(&task, "first").try_collect::<Vec<_>>();
        let begun = history.await.unwrap().swap_remove(0);
        assert_eq!(begun.events[0], "Enqueue");
        (begun.events.len() == 2 && begun.actor.starts_with("task-request")).then_some(())
    })
    .await;
    session.drain().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn the_place_that_a_result_frees_goes_to_the_step_that_it_unlocks(mesh: &Mesh) {
    let client = mesh.client();
    register(&client).await;
    let mut session = session(mesh).await;
    let task = submit(&client, 0).await;
    for (step, parent) in [("first", None), ("second", Some("first")), ("third", Some("second"))] {
        let delivery = session.take().await;
        assert_eq!((delivery.task_id.as_str(), delivery.step_name.as_str()), (task.as_str(), step));
        let parents: Vec<_> = delivery.dependency_results.keys().map(String::as_str).collect();
        assert_eq!(parents, parent.into_iter().collect::<Vec<_>>());
        assert_eq!(delivery.context.unwrap().data.as_ref(), b"{}");
        session.report(success(&delivery.delivery_token, "1")).await;
    }
    client.wait_for_task(&task, PATIENCE).await.unwrap();
    session.drain().await;
    // Only the first step has passed a queue.
    let ledger = mesh.ledger().await;
    let sent = "SELECT last_value FROM pgmq.q_orchestration_ready_steps_msg_id_seq";
    assert_eq!(ledger.number(sent).await, 1);
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn larger_priorities_go_first_then_older_tasks_whoever_has_begun(mesh: &Mesh) {
    let client = mesh.client();
    register(&client).await;
    let mut session = session(mesh).await;
    let begun = submit(&client, 0).await;
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, begun);
    let younger = submit(&client, 0).await;
    let urgent = submit(&client, 7).await;
    until_waiting(mesh, 2).await;

    session.report(success(&delivery.delivery_token, "1")).await;
    let ledger = mesh.ledger().await;
    let count = "SELECT count(*) FROM steps WHERE state = 'enqueued' AND name = 'second'";
    until("what has begun waits, too", PATIENCE, async || {
        (ledger.number(count).await == 1).then_some(())
    })
    .await;
    let mut order = Vec::new();
    for _ in 0..8 {
        order.push(run(&mut session).await);
    }
    let step = |task: &String, step: &str| (task.clone(), step.to_owned());
    assert_eq!(
        order,
        [
            step(&urgent, "first"),
            step(&urgent, "second"),
            step(&urgent, "third"),
            step(&begun, "second"),
            step(&begun, "third"),
            step(&younger, "first"),
            step(&younger, "second"),
            step(&younger, "third"),
        ]
    );
}

async fn a_worker_that_drains_gets_no_next_step(mesh: &Mesh) {
    let client = mesh.client();
    register(&client).await;
    let mut draining = session(mesh).await;
    let task = submit(&client, 0).await;
    let delivery = draining.take().await;
    draining.say_that_it_drains().await;
    assert_eq!(
        draining.report(success(&delivery.delivery_token, "1")).await,
        ResultVerdict::Committed
    );
    let mut other = session(mesh).await;
    assert_eq!(run(&mut other).await, (task.clone(), "second".to_owned()));
    assert_eq!(run(&mut other).await, (task, "third".to_owned()));
}

/// Of another handler, or another namespace, than the chain.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "dispatch",
        "{namespace: dispatch, name: other, version: 1.0.0, steps: [
        {name: only, handler: {callable: other}}]}",
    ),
    (
        "elsewhere",
        "{namespace: elsewhere, name: other, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}}]}",
    ),
];

/// A worker that may hold one delivery, whatever of it.
async fn versatile(mesh: &Mesh) -> Session {
    let mut hello = Session::hello("versatile", "dispatch", &["any", "other"], 1);
    hello.namespaces.push("elsewhere".to_owned());
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn submit_other(client: &Client, namespace: &str, priority: i32) -> String {
    let task = NewTask::of(namespace, "other").priority(priority);
    client.create_task(task).await.unwrap().task_id
}

async fn a_long_chain_does_not_pass_a_more_urgent_step_of_another_handler(mesh: &Mesh) {
    a_long_chain_does_not_pass_a_more_urgent_step(mesh, ELSEWHERE[0]).await;
}

async fn a_long_chain_does_not_pass_a_more_urgent_step_of_another_namespace(mesh: &Mesh) {
    a_long_chain_does_not_pass_a_more_urgent_step(mesh, ELSEWHERE[1]).await;
}

async fn a_long_chain_does_not_pass_a_more_urgent_step(
    mesh: &Mesh,
    (namespace, yaml): (&str, &str),
) {
    let client = mesh.client();
    register(&client).await;
    client.register_template(yaml).await.unwrap();
    let mut session = versatile(mesh).await;
    let chain = submit(&client, -100).await;
    let first = session.take().await;
    assert_eq!(first.task_id, chain);
    let urgent = submit_other(&client, namespace, 100).await;
    let ledger = mesh.ledger().await;
    let waits = "SELECT count(*) FROM steps WHERE state = 'enqueued'";
    until("the urgent step waits", PATIENCE, async || {
        (ledger.number(waits).await == 1).then_some(())
    })
    .await;
    session.report(success(&first.delivery_token, "1")).await;
    let order = [run(&mut session).await, run(&mut session).await, run(&mut session).await];
    let step = |task: &String, step: &str| (task.clone(), step.to_owned());
    assert_eq!(order, [step(&urgent, "only"), step(&chain, "second"), step(&chain, "third")]);
}

async fn what_waits_in_several_namespaces_of_a_worker_is_served_by_rank(mesh: &Mesh) {
    let client = mesh.client();
    for (_, yaml) in ELSEWHERE {
        client.register_template(yaml).await.unwrap();
    }
    let mut tasks = Vec::new();
    for priority in 0..6 {
        let namespace = if priority % 2 == 0 { "dispatch" } else { "elsewhere" };
        tasks.push(submit_other(&client, namespace, priority).await);
    }
    let ledger = mesh.ledger().await;
    until("all of them wait", PATIENCE, async || {
        let waiting = "SELECT count(*) FROM steps WHERE state = 'enqueued'";
        (ledger.number(waiting).await == 6).then_some(())
    })
    .await;
    let mut session = versatile(mesh).await;
    for expected in tasks.iter().rev() {
        assert_eq!(run(&mut session).await.0, *expected);
    }
}

async fn a_step_whose_time_has_come_passes_a_backlog_of_younger_ones(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: dispatch, name: single, version: 1.0.0,
        steps: [{name: only, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let create =
        async || client.create_task(NewTask::of("dispatch", "single")).await.unwrap().task_id;
    let mut session = session(mesh).await;
    let late = create().await;
    let token = session.take().await.delivery_token;
    let verdict = session.report(yielded(&token, "2", Duration::from_secs(2))).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    // As if very many messages had come since, of which more wait than a look takes in.
    let numbers = "SELECT setval('pgmq.q_worker_dispatch_queue_msg_id_seq', 1000000)";
    assert_eq!(ledger.number(numbers).await, 1_000_000);
    create().await;
    let held = session.take().await;
    assert_ne!(held.task_id, late);
    futures::future::join_all((0..250).map(|_| create())).await;
    // Looks begin where the others wait, before its time and after.
    session.report(success(&held.delivery_token, "1")).await;
    let mut delivery = session.take().await;
    let waits = "SELECT count(*) FROM pgmq.q_worker_dispatch_queue WHERE msg_id < 1000000 AND vt > clock_timestamp()";
    until("its time has come", PATIENCE, async || (ledger.number(waits).await == 0).then_some(()))
        .await;
    // The timer may be a moment later.
    let mut passed = 0;
    while delivery.task_id != late {
        session.report(success(&delivery.delivery_token, "1")).await;
        delivery = session.take().await;
        passed += 1;
        assert!(passed < 100, "so many younger steps went first");
    }
    session.report(success(&delivery.delivery_token, "1")).await;
    session.drain().await;
}
