//! What is acknowledged is done in the end, whichever process is killed meanwhile.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use tasker_client::{
    NewTask,
    v1::{ResultVerdict, TaskState},
};
use tasker_integration_tests::{
    Mesh, Program, Recorder, Service, Session, Signal, register_examples, success, until,
};
use tasker_worker::Registry;

use crate::under_load::{Load, PATIENCE, example_worker};

/// Short, so that what a killed worker held comes back soon.
const SESSION_TTL: (&str, &str) = ("step_enqueuer.session_ttl", "3s");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_completes_though_each_service_and_a_worker_are_killed_under_load() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let (killed, other) = (example_worker(&mesh, "killed"), example_worker(&mesh, "other"));
    let load = Load::start(&client, 350);
    for (part, service) in [0.1, 0.25, 0.4, 0.55, 0.7].into_iter().zip(Service::ALL) {
        load.until(part).await;
        mesh.kill(service, 0);
        mesh.restart(service, 0).await;
    }
    load.until(0.85).await;
    killed.kill();
    let ledger = mesh.ledger().await;
    load.ends_well(&ledger).await;
    assert!(other.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_of_each_service_may_be_killed_and_stay_away() {
    let mesh = Mesh::setup().replicas(2).with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    // The gateway that stays is the first: clients and workers know but one address.
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = example_worker(&mesh, "worker");
    let load = Load::start(&client, 200);
    load.until(0.3).await;
    for service in Service::ALL {
        mesh.kill(service, 1);
    }
    let ledger = mesh.ledger().await;
    load.ends_well(&ledger).await;
    assert!(worker.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_step_comes_back_within_the_session_time() {
    a_lost_workers_step_comes_back(Signal::SIGKILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_workers_step_comes_back_within_the_session_time() {
    a_lost_workers_step_comes_back(Signal::SIGSTOP).await;
}

async fn a_lost_workers_step_comes_back(signal: Signal) {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    let yaml = "{namespace: faults, name: held, version: 1.0.0,
        steps: [{name: only, handler: {callable: hold}}]}";
    client.register_template(yaml).await.unwrap();
    let arguments = [mesh.gateway(), "faults", "hold"];
    let none: [(&str, &str); 0] = [];
    let lost = Program::start("tasker-test-worker", "lost", &arguments, none, mesh.logs());
    let task_id = client.create_task(NewTask::of("faults", "held")).await.unwrap().task_id;
    // What it has saved is answered after its acknowledgement has been heard: the attempt has begun.
    until("the worker has saved a checkpoint of the step", PATIENCE, async || {
        lost.log().contains("has saved only").then_some(())
    })
    .await;
    // A step comes back to whoever is there; it must be the time of the session that passes, not
    // the time until the next worker comes.
    let recorder = Recorder::default();
    let mut handlers = Registry::new();
    handlers.register_fn("hold", |_| async { Ok(1) });
    let worker = mesh.worker(&["faults"], &recorder.of(&handlers));
    lost.signal(signal);
    let lost_at = Instant::now();
    let ledger = mesh.ledger().await;
    ledger.until_completed(1, PATIENCE).await;
    let run = recorder.runs(&task_id).remove("only").unwrap();
    // A hung worker is noticed by its silence, which a busy machine may notice a little later.
    let waited = run.began - lost_at;
    assert!(waited < Duration::from_secs(3 + 2), "it took {waited:?}");
    lost.kill();
    worker.stop().await;
    assert_eq!(run.attempt, 2);
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_step_whose_place_goes_while_its_task_is_born_is_run_and_loses_no_attempt() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: faults, name: newborn, version: 1.0.0,
        steps: [{name: only, handler: {callable: only}}]}";
    client.register_template(yaml).await.unwrap();
    // While the mesh starts, or a machine is slow to answer, a task may be born without places.
    until("a step has begun in a place that went", 4 * PATIENCE, async || {
        let hello = Session::hello("worker", "faults", &["only"], 1);
        let session = Session::open(mesh.channel().await, hello.clone()).await.unwrap();
        let held = ledger.lock_table("LOCK TABLE task_details IN SHARE MODE").await;
        let born = tokio::spawn({
            let client = client.clone();
            async move { client.create_task(NewTask::of("faults", "newborn")).await }
        });
        ledger.until_waiting(1).await;
        mesh.kill(Service::StepEnqueuer, 0);
        held.rollback().await.unwrap();
        let task = born.await.unwrap().unwrap().task_id;
        drop(session);
        mesh.restart(Service::StepEnqueuer, 0).await;
        let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
        let delivery = session.take().await;
        assert_eq!((delivery.task_id.as_str(), delivery.attempt), (task.as_str(), 1));
        session.report(success(&delivery.delivery_token, "1")).await;
        client.wait_for_task(&task, PATIENCE).await.unwrap();
        session.drain().await;
        let history: Vec<_> = client.list_transitions(&task, "only").try_collect().await.unwrap();
        let begun = history.iter().filter(|it| it.events.contains(&"Start".to_owned()));
        (begun.count() == 2).then_some(())
    })
    .await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_taken_though_nobody_is_there_to_judge_it() {
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    let yaml = "{namespace: faults, name: unjudged, version: 1.0.0, steps: [
        {name: first, handler: {callable: only}},
        {name: second, handler: {callable: only}, dependencies: [first]}]}";
    client.register_template(yaml).await.unwrap();
    let task_id = client.create_task(NewTask::of("faults", "unjudged")).await.unwrap().task_id;
    let hello = Session::hello("worker", "faults", &["only"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let token = session.take().await.delivery_token;
    mesh.kill(Service::ResultProcessor, 0);
    assert_eq!(session.report(success(&token, "1")).await, ResultVerdict::Committed);
    assert_eq!(session.report(success(&token, "2")).await, ResultVerdict::Duplicate);
    let ledger = mesh.ledger().await;
    let queued = "SELECT count(*) FROM pgmq.q_orchestration_step_results";
    assert_eq!(ledger.number(queued).await, 1);

    mesh.restart(Service::ResultProcessor, 0).await;
    let second = session.take().await;
    assert_eq!(second.dependency_results["first"].data, "1");
    let verdict = session.report(success(&second.delivery_token, "3")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    session.drain().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}
