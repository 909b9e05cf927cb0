//! A task is one trace, whoever had a part in it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tasker_client::{
    NewTask, Operator,
    v1::{TaskState, TemplateRef},
};
use tasker_integration_tests::{
    Mesh, Program, ReceivedSpan, SpanReceiver, register_examples, until,
};
use tasker_worker::{HandlerError, Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_four_steps_is_one_trace_without_orphans() {
    let receiver = SpanReceiver::start().await;
    let endpoint = receiver.endpoint();
    let mesh = Mesh::setup().with("telemetry.otlp_endpoint", &endpoint).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let environment =
        [("TASKER_GATEWAY", mesh.gateway()), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    let worker = Program::start("tasker-example-worker", "worker", &[], environment, mesh.logs());
    let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 6})).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let traceparent = client.get_task(&task_id).await.unwrap().trace.unwrap().traceparent;
    let trace_id = traceparent.split('-').nth(1).unwrap();

    // Whoever ends has sent its last spans before.
    assert!(worker.stop().await.success());
    mesh.stop().await;
    let spans = receiver.spans();
    let ours: Vec<_> = spans.iter().filter(|span| span.trace_id == trace_id).collect();

    let services: BTreeSet<_> = ours.iter().map(|span| span.service.as_str()).collect();
    let expected = [
        "tasker-example-worker",
        "tasker-gateway",
        "tasker-result-processor",
        "tasker-step-enqueuer",
        "tasker-task-request",
    ];
    assert_eq!(services, BTreeSet::from(expected), "{ours:#?}");
    let ids: BTreeSet<_> = ours.iter().map(|span| span.span_id.as_str()).collect();
    let orphans: Vec<_> = ours
        .iter()
        .filter(|span| !span.parent_id.is_empty() && !ids.contains(span.parent_id.as_str()))
        .collect();
    assert!(orphans.is_empty(), "{orphans:#?}");
    let roots: Vec<_> = ours.iter().filter(|span| span.parent_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    assert_eq!(roots[0].service, "tasker-gateway");

    each_step_ran_in_it(&ours);
    let strays: Vec<_> = spans
        .iter()
        .filter(|span| span.attributes.get("task.id") == Some(&task_id))
        .filter(|span| span.trace_id != trace_id && span.service != "tasker-gateway")
        .collect();
    assert!(strays.is_empty(), "spans of the task in other traces: {strays:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_result_is_judged_under_one_span_whichever_way_it_goes() {
    let receiver = SpanReceiver::start().await;
    let mesh = Mesh::setup().with("telemetry.otlp_endpoint", &receiver.endpoint()).start().await;
    let client = mesh.client();
    // But for the first, what is asked of them has the fast way leave them alone.
    let yaml = "{namespace: ways, name: all, version: 1.0.0, steps: [
        {name: plain, handler: {callable: number}},
        {name: fits, handler: {callable: number}, result_schema: {type: integer}},
        {name: breaks, handler: {callable: number}, result_schema: {type: string}},
        {name: tells, handler: {callable: fails}, retry: {max_attempts: 2, backoff: none},
         publishes_events: [{name: it.failed, condition: failure}]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("number", |_: StepContext| async { Ok(1) });
    handlers.register_fn("fails", |_: StepContext| async {
        Err::<i32, _>(HandlerError::retryable("busy", "never"))
    });
    let worker = mesh.worker(&["ways"], &handlers);
    let task_id = client.create_task(NewTask::of("ways", "all")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    worker.stop().await;
    mesh.stop().await;

    let spans = receiver.spans();
    let mut judged: Vec<_> = spans
        .iter()
        .filter(|span| span.service == "tasker-result-processor")
        .filter(|span| span.attributes.get("task.id") == Some(&task_id))
        .filter(|span| ["step.complete", "step.fail"].contains(&span.name.as_str()))
        .map(|span| (span.name.as_str(), span.attributes.get("error.type").map(String::as_str)))
        .collect();
    judged.sort_unstable();
    let expected = [
        ("step.complete", None),
        ("step.complete", None),
        ("step.fail", Some("RESULT_SCHEMA_VIOLATION")),
        ("step.fail", Some("busy")),
        ("step.fail", Some("busy")),
    ];
    assert_eq!(judged, expected);
}

fn each_step_ran_in_it(spans: &[&ReceivedSpan]) {
    let ran: BTreeSet<_> = spans
        .iter()
        .filter(|span| span.service == "tasker-example-worker")
        .filter_map(|span| span.attributes.get("step.name").map(String::as_str))
        .collect();
    assert_eq!(ran, BTreeSet::from(["square_1", "square_2", "square_3", "square_4"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_whose_handler_no_worker_has_are_counted_by_namespace() {
    let receiver = SpanReceiver::start().await;
    let mesh = Mesh::setup()
        .with("telemetry.otlp_endpoint", &receiver.endpoint())
        .with("step_enqueuer.count_interval", "1s")
        .with_variable("OTEL_METRIC_EXPORT_INTERVAL", "500")
        .start()
        .await;
    let client = mesh.client();
    let yaml = "{namespace: stranded, name: both, version: 1.0.0, steps: [
        {name: queued, handler: {callable: nobodys}},
        {name: limited, handler: {callable: nobodys}, limits: [{name: one, max_concurrent: 1}]},
        {name: served, handler: {callable: somebodys}}]}";
    client.register_template(yaml).await.unwrap();
    let handlers = |name: &str| {
        let mut handlers = tasker_worker::Registry::new();
        handlers.register_fn(name, |_| async { Ok(1) });
        handlers
    };
    let worker = mesh.worker(&["stranded"], &handlers("somebodys"));
    let task_id = client.create_task(NewTask::of("stranded", "both")).await.unwrap().task_id;
    let level = |expected| {
        let receiver = &receiver;
        async move {
            until("the metric says so", PATIENCE, async || {
                let gauge = "tasker.steps.without_worker";
                let level = receiver.level(gauge, "namespace", "stranded");
                (level == Some(expected)).then_some(())
            })
            .await;
        }
    };
    level(2).await;
    // What is paused begins at no worker: nobody has to be alarmed.
    let by = Operator::new("ida", "not now");
    client.pause_task(&task_id, &by).await.unwrap();
    level(0).await;
    client.resume_task(&task_id, &by).await.unwrap();
    level(2).await;
    let template = TemplateRef {
        namespace: "stranded".to_owned(),
        name: "both".to_owned(),
        ..TemplateRef::default()
    };
    client.pause_template(template.clone(), &by).await.unwrap();
    level(0).await;
    client.resume_template(template, &by).await.unwrap();
    level(2).await;
    // Nor does what has ended.
    let ended = client.create_task(NewTask::of("stranded", "both")).await.unwrap().task_id;
    level(4).await;
    client.cancel_task(&ended, &by).await.unwrap();
    level(2).await;
    let other = mesh.worker(&["stranded"], &handlers("nobodys"));
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    level(0).await;
    worker.stop().await;
    other.stop().await;
}
