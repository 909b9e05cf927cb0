//! Graphs run as they are drawn, and give their exact results.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use num_bigint::BigUint;
use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{StepState, TaskState, Template, WatchTaskResponse, watch_task_response::Transition},
};
use tasker_integration_tests::{Mesh, Recorder, register_examples};
use tasker_worker::{HandlerError, Registry, StepContext};
use tokio::{sync::Barrier, time::timeout};

const PATIENCE: Duration = Duration::from_secs(30);

/// Each example with its last step, and the power of `n` that it comes to.
const GRAPHS: [(&str, &str, u32); 4] = [
    ("linear", "square_4", 16),
    ("diamond", "end", 16),
    ("tree", "convergence", 64),
    ("mixed", "finalize", 64),
];

/// 6 to the 64th.
const TREE_OF_SIX: &str = "63340286662973277706162286946811886609896461828096";

in_both_shapes![
    every_graph_gives_its_exact_result_in_its_order,
    parallel_branches_run_at_the_same_time,
    a_task_without_steps_is_complete_and_says_why,
];

async fn every_graph_gives_its_exact_result_in_its_order(mesh: &Mesh) {
    let client = mesh.client();
    let templates = register_examples(&client, &GRAPHS.map(|(name, ..)| name)).await;
    let recorder = Recorder::default();
    let handlers = recorder.of(&tasker_example_worker::registry());
    let worker = mesh.worker(&["arithmetic"], &handlers);
    for (name, last, power) in GRAPHS {
        let task = NewTask::of("arithmetic", name).context(&json!({"n": 6})).unwrap();
        let task_id = client.create_task(task).await.unwrap().task_id;
        let watched = client.watch_task(&task_id).try_collect();
        let events: Vec<WatchTaskResponse> = timeout(PATIENCE, watched).await.unwrap().unwrap();

        let result = result(&client, &task_id, last).await;
        assert_eq!(result, BigUint::from(6u32).pow(power).to_string(), "{name}");
        if name == "tree" {
            assert_eq!(result, TREE_OF_SIX);
        }
        told_in_order(&templates[name], &events);
        ran_in_order(&templates[name], &recorder, &task_id);
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(GRAPHS.len()).await;
    ledger.nothing_is_left().await;
}

async fn parallel_branches_run_at_the_same_time(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: parallel, name: wide, version: 1.0.0, steps: [
        {name: start, handler: {callable: pass}},
        {name: left, handler: {callable: meet}, dependencies: [start]},
        {name: middle, handler: {callable: meet}, dependencies: [start]},
        {name: right, handler: {callable: meet}, dependencies: [start]},
        {name: end, handler: {callable: pass}, dependencies: [left, middle, right]}]}";
    client.register_template(yaml).await.unwrap();
    // Nobody passes until all three are there: one after the other, the task would never end.
    let all_there = Arc::new(Barrier::new(3));
    let mut handlers = Registry::new();
    handlers.register_fn("pass", |_| async { Ok(1) });
    handlers.register_fn("meet", move |_: StepContext| {
        let all_there = all_there.clone();
        async move {
            all_there.wait().await;
            Ok::<_, HandlerError>(1)
        }
    });
    let worker = mesh.worker(&["parallel"], &handlers);
    let task_id = client.create_task(NewTask::of("parallel", "wide")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    worker.stop().await;
}

async fn result(client: &Client, task_id: &str, step: &str) -> String {
    let step = client.get_step(task_id, step).await.unwrap();
    assert_eq!(step.state(), StepState::Complete);
    let payload = step.result.unwrap().payload.unwrap();
    String::from_utf8(payload.data.to_vec()).unwrap()
}

/// As a watcher was told: every start comes after the completion of every parent.
fn told_in_order(template: &Template, events: &[WatchTaskResponse]) {
    let place = |name: &str, what: &str| {
        events.iter().position(|event| match &event.transition {
            Some(Transition::Step(step)) => step.step_name == name && step.event == what,
            _ => false,
        })
    };
    for step in &template.steps {
        let began = place(&step.name, "Start").unwrap_or_else(|| panic!("{} begins", step.name));
        for parent in &step.dependencies {
            let ended = place(parent, "Complete").unwrap_or_else(|| panic!("{parent} completes"));
            assert!(ended < began, "{} begins before {parent} is complete", step.name);
        }
    }
    let end = events.last().unwrap().transition.clone();
    let Some(Transition::Task(end)) = end else { panic!("{end:?} is the last that is told") };
    assert_eq!(end.state(), TaskState::Complete);
}

/// As it was at the worker: no handler begins before those of all parents have ended.
fn ran_in_order(template: &Template, recorder: &Recorder, task_id: &str) {
    let runs = recorder.runs(task_id);
    for step in &template.steps {
        let run = &runs[&step.name];
        assert_eq!(run.attempt, 1);
        for parent in &step.dependencies {
            assert!(runs[parent].ended <= run.began, "{} ran before {parent}", step.name);
        }
    }
}

async fn a_task_without_steps_is_complete_and_says_why(mesh: &Mesh) {
    let client = mesh.client();
    client
        .register_template("{namespace: graphs, name: nothing, version: 1.0.0, steps: []}")
        .await
        .unwrap();
    let task = client.create_task(NewTask::of("graphs", "nothing")).await.unwrap().task_id;
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Complete);
    let history: Vec<_> = client.list_transitions(&task, "").try_collect().await.unwrap();
    let events: Vec<_> = history.iter().flat_map(|transition| &transition.events).collect();
    assert_eq!(events, ["Start", "NoStepsFound"]);
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}
