//! Bad input is refused at the gateway, says what is wrong and where, and leaves nothing behind.

use tasker_client::v1::{
    CreateTaskRequest, GetStepRequest, GetTaskRequest, GetTemplateRequest, ListStepsRequest,
    ListTasksRequest, ListTemplatesRequest, Payload, RegisterTemplateRequest, TemplateRef,
    WatchTaskRequest, step_service_client::StepServiceClient,
    task_service_client::TaskServiceClient, template_service_client::TemplateServiceClient,
};
use tasker_integration_tests::{Mesh, Session};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

const GOOD: &str = "{namespace: bad_input, name: good, version: 1.0.0,
    steps: [{name: only, handler: {callable: none}}]}";
const UNKNOWN: &str = "018f3c5e-0000-7000-8000-000000000000";

/// What a refusal must say: its code, its reason, and the path of the field, if one is wrong.
type Expected = (Code, &'static str, Option<&'static str>);

const fn invalid(field: &'static str) -> Expected {
    (Code::InvalidArgument, "INVALID_ARGUMENT", Some(field))
}

in_both_shapes![bad_input_is_refused_by_its_field_and_leaves_no_row_behind];

async fn bad_input_is_refused_by_its_field_and_leaves_no_row_behind(mesh: &Mesh) {
    mesh.client().register_template(GOOD).await.unwrap();
    let ledger = mesh.ledger().await;
    let before = ledger.row_counts().await;
    let channel = mesh.channel().await;
    tasks(&channel).await;
    payloads(&channel).await;
    templates(&channel).await;
    reads(&channel).await;
    lists(&channel).await;
    sessions(mesh).await;
    assert_eq!(ledger.row_counts().await, before);
}

fn refused<T>(what: &str, answer: Result<T, Status>, (code, reason, field): Expected) {
    let Err(status) = answer else { panic!("{what} was taken") };
    assert_eq!(status.code(), code, "{what}: {status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{what}: no ErrorInfo"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "tasker"), "{what}");
    let fields: Vec<_> = details
        .bad_request()
        .iter()
        .flat_map(|bad| &bad.field_violations)
        .map(|violation| violation.field.as_str())
        .collect();
    let expected: Vec<_> = field.into_iter().collect();
    assert_eq!(fields, expected, "{what}: {}", status.message());
    for secret in ["SELECT", "INSERT", "sqlx", "postgres"] {
        assert!(!status.message().contains(secret), "{what}: {}", status.message());
    }
}

fn of(name: &str, version: &str) -> CreateTaskRequest {
    let template = TemplateRef {
        namespace: "bad_input".to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
    };
    CreateTaskRequest { template: Some(template), ..CreateTaskRequest::default() }
}

fn good() -> CreateTaskRequest {
    of("good", "")
}

async fn tasks(channel: &Channel) {
    let mut tasks = TaskServiceClient::new(channel.clone());
    let not_found = (Code::NotFound, "TEMPLATE_NOT_FOUND", None);
    let long = "x".repeat(129);
    let cases = [
        ("no template", CreateTaskRequest::default(), invalid("template")),
        ("an unknown template", of("ghost", ""), not_found),
        ("an unknown version", of("good", "9.9.9"), not_found),
        ("a version that is none", of("good", "newest"), invalid("template.version")),
        ("a name that no template can have", of("Not A Name", ""), not_found),
        ("a low priority", CreateTaskRequest { priority: -101, ..good() }, invalid("priority")),
        ("a high priority", CreateTaskRequest { priority: 101, ..good() }, invalid("priority")),
        (
            "a long request id",
            CreateTaskRequest { request_id: long.clone(), ..good() },
            invalid("request_id"),
        ),
        (
            "a long correlation id",
            CreateTaskRequest { correlation_id: long, ..good() },
            invalid("correlation_id"),
        ),
        (
            "a NUL",
            CreateTaskRequest { requested_by: "a\0b".to_owned(), ..good() },
            invalid("requested_by"),
        ),
        (
            "a long reason",
            CreateTaskRequest { reason: "x".repeat(1025), ..good() },
            invalid("reason"),
        ),
    ];
    for (what, request, expected) in cases {
        refused(what, tasks.create_task(request).await, expected);
    }
}

async fn payloads(channel: &Channel) {
    let mut tasks = TaskServiceClient::new(channel.clone());
    let too_large = (Code::InvalidArgument, "PAYLOAD_TOO_LARGE", Some("context.data"));
    let malformed = (Code::InvalidArgument, "PAYLOAD_MALFORMED", Some("context.data"));
    let bomb = "[".repeat(100_000);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    let cases = [
        ("bad JSON", "{\"n\": 1,}".to_owned(), malformed),
        ("no JSON at all", "\u{0}\u{1}".to_owned(), malformed),
        ("a depth bomb", bomb, malformed),
        ("JSON that is a little too deep", deep, malformed),
        ("5 MiB", large, too_large),
    ];
    for (what, data, expected) in cases {
        let context = Some(Payload { data: data.into(), ..Payload::default() });
        let request = CreateTaskRequest { context, ..good() };
        refused(what, tasks.create_task(request).await, expected);
    }
    let huge = Payload { data: vec![b' '; 9 << 20].into(), ..Payload::default() };
    let request = CreateTaskRequest { context: Some(huge), ..good() };
    let expected = (Code::InvalidArgument, "MESSAGE_TOO_LARGE", None);
    refused("more than the gateway passes", tasks.create_task(request).await, expected);
}

async fn templates(channel: &Channel) {
    let mut templates = TemplateServiceClient::new(channel.clone());
    let cases = [
        ("no YAML", "{a: [", "yaml"),
        ("a bad version", "{namespace: n, name: t, version: one, steps: []}", "version"),
        ("a bad namespace", "{namespace: No, name: t, version: 1.0.0, steps: []}", "namespace"),
        (
            "an unknown field",
            "{namespace: n, name: t, version: 1.0.0, steps: [{name: a, handler: {callable: c}, retrys: 3}]}",
            "steps[0].retrys",
        ),
        (
            "a dependency that is missing",
            "{namespace: n, name: t, version: 1.0.0, steps: [{name: a, handler: {callable: c}, dependencies: [b]}]}",
            "steps[0].dependencies[0]",
        ),
        (
            "a cycle",
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: a, handler: {callable: c}, dependencies: [b]},
                {name: b, handler: {callable: c}, dependencies: [a]}]}",
            "steps[0].dependencies",
        ),
        ("no name", "{namespace: n, version: 1.0.0, steps: []}", "yaml"),
    ];
    for (what, yaml, field) in cases {
        let request = RegisterTemplateRequest { yaml: yaml.to_owned() };
        let expected = (Code::InvalidArgument, "TEMPLATE_INVALID", Some(field));
        refused(what, templates.register_template(request).await, expected);
    }
    let large = RegisterTemplateRequest { yaml: " ".repeat((1 << 20) + 1) };
    let expected = (Code::InvalidArgument, "TEMPLATE_INVALID", Some("yaml"));
    refused("a template of more than 1 MiB", templates.register_template(large).await, expected);
    let other = RegisterTemplateRequest { yaml: GOOD.replace("callable: none", "callable: other") };
    let expected = (Code::AlreadyExists, "TEMPLATE_VERSION_EXISTS", None);
    refused("another definition", templates.register_template(other).await, expected);

    let template =
        Some(TemplateRef { name: "ghost".to_owned(), ..of("ghost", "").template.unwrap() });
    let expected = (Code::NotFound, "TEMPLATE_NOT_FOUND", None);
    refused("a ghost", templates.get_template(GetTemplateRequest { template }).await, expected);
}

async fn reads(channel: &Channel) {
    let mut tasks = TaskServiceClient::new(channel.clone());
    let mut steps = StepServiceClient::new(channel.clone());
    let not_found = (Code::NotFound, "TASK_NOT_FOUND", None);
    for (id, expected) in
        [("17", invalid("task_id")), ("", invalid("task_id")), (UNKNOWN, not_found)]
    {
        let task_id = id.to_owned();
        refused(id, tasks.get_task(GetTaskRequest { task_id: task_id.clone() }).await, expected);
        let watch = WatchTaskRequest { task_id: task_id.clone(), cursor: String::new() };
        let watched = match tasks.watch_task(watch).await {
            Ok(stream) => stream.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        refused(id, watched, expected);
        let list = ListStepsRequest { task_id: task_id.clone(), ..ListStepsRequest::default() };
        refused(id, steps.list_steps(list).await, expected);
    }
    let step = GetStepRequest { task_id: "17".to_owned(), step_name: "only".to_owned() };
    refused("a step of no task", steps.get_step(step).await, invalid("task_id"));
}

async fn lists(channel: &Channel) {
    let mut tasks = TaskServiceClient::new(channel.clone());
    let mut steps = StepServiceClient::new(channel.clone());
    let mut templates = TemplateServiceClient::new(channel.clone());
    let size = invalid("page_size");
    let request = ListTasksRequest { page_size: -1, ..ListTasksRequest::default() };
    refused("tasks", tasks.list_tasks(request).await, size);
    let request = ListTemplatesRequest { page_size: -1, ..ListTemplatesRequest::default() };
    refused("templates", templates.list_templates(request).await, size);
    let request =
        ListStepsRequest { task_id: UNKNOWN.to_owned(), page_size: -1, ..Default::default() };
    refused("steps", steps.list_steps(request).await, size);
    let page_token = "made up".to_owned();
    let request = ListTasksRequest { page_token, ..ListTasksRequest::default() };
    refused("a token", tasks.list_tasks(request).await, invalid("page_token"));
    let request = ListTasksRequest { states: vec![9, 99], ..ListTasksRequest::default() };
    refused("an unknown state", tasks.list_tasks(request).await, invalid("states[1]"));
}

async fn sessions(mesh: &Mesh) {
    let good = || Session::hello("worker", "bad_input", &["none"], 1);
    let mut cases = vec![
        ("no worker id", good(), "hello.worker_id"),
        ("another protocol", good(), "hello.protocol_version"),
        ("no namespaces", good(), "hello.namespaces"),
        ("no handlers", good(), "hello.handlers"),
        ("a negative credit", good(), "hello.credit"),
        ("a credit too large", good(), "hello.credit"),
    ];
    cases[0].1.worker_id.clear();
    cases[1].1.protocol_version = 99;
    cases[2].1.namespaces.clear();
    cases[3].1.handlers.clear();
    cases[4].1.credit = -1;
    cases[5].1.credit = 10_001;
    for (what, hello, field) in cases {
        let opened = Session::open(mesh.channel().await, hello).await;
        refused(what, opened, invalid(field));
    }
}
