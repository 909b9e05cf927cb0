//! A delivery carries the results that its step asks for: of its parents, or of all steps before it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tasker_client::{
    NewTask,
    v1::{TaskState, Template},
};
use tasker_integration_tests::Mesh;
use tasker_worker::{Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![
    a_step_gets_the_results_of_its_parents_alone,
    a_step_that_asks_gets_all_results_before_it_once_each,
    a_chain_hands_on_what_is_at_hand_and_reads_the_rest,
];

/// Runs a task whose steps say which results they got; returns that by step.
async fn what_steps_got(mesh: &Mesh, steps: &str) -> BTreeMap<String, Vec<String>> {
    let client = mesh.client();
    let yaml = format!("{{namespace: carried, name: graph, version: 1.0.0, steps: [{steps}]}}");
    let template: Template = client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("tell", |step: StepContext| async move {
        Ok(step.dependencies::<Value>()?.into_keys().collect::<Vec<String>>())
    });
    let worker = mesh.worker(&["carried"], &handlers);
    let task_id = client.create_task(NewTask::of("carried", "graph")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    worker.stop().await;
    let mut got = BTreeMap::new();
    for step in template.steps {
        let result = client.get_step(&task_id, &step.name).await.unwrap().result.unwrap();
        let names = serde_json::from_slice(&result.payload.unwrap().data).unwrap();
        got.insert(step.name, names);
    }
    got
}

async fn a_step_gets_the_results_of_its_parents_alone(mesh: &Mesh) {
    let got = what_steps_got(
        mesh,
        "{name: start, handler: {callable: tell}},
         {name: left, handler: {callable: tell}, dependencies: [start]},
         {name: right, handler: {callable: tell}, dependencies: [start]},
         {name: end, handler: {callable: tell}, dependencies: [left, right]}",
    );
    let got = got.await;
    assert_eq!(got["start"], [""; 0]);
    assert_eq!(got["left"], ["start"]);
    assert_eq!(got["end"], ["left", "right"]);
}

async fn a_step_that_asks_gets_all_results_before_it_once_each(mesh: &Mesh) {
    let got = what_steps_got(
        mesh,
        "{name: start, handler: {callable: tell}},
         {name: left, handler: {callable: tell}, dependencies: [start]},
         {name: right, handler: {callable: tell}, dependencies: [start]},
         {name: join, handler: {callable: tell}, dependencies: [left, right]},
         {name: aside, handler: {callable: tell}},
         {name: end, handler: {callable: tell}, dependencies: [join, left],
          dependency_results: ancestors}",
    );
    let got = got.await;
    assert_eq!(got["join"], ["left", "right"]);
    assert_eq!(got["end"], ["join", "left", "right", "start"]);
}

async fn a_chain_hands_on_what_is_at_hand_and_reads_the_rest(mesh: &Mesh) {
    let got = what_steps_got(
        mesh,
        "{name: a, handler: {callable: tell}},
         {name: b, handler: {callable: tell}, dependencies: [a], dependency_results: ancestors},
         {name: c, handler: {callable: tell}, dependencies: [b], dependency_results: ancestors},
         {name: d, handler: {callable: tell}, dependencies: [c]}",
    );
    let got = got.await;
    assert_eq!(got["b"], ["a"]);
    assert_eq!(got["c"], ["a", "b"]);
    assert_eq!(got["d"], ["c"]);
}
