//! What the client promises about its calls, against a mesh that answers from a script.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::time::Duration;

use fake::{Fake, Script};
use futures::{StreamExt as _, TryStreamExt as _};
use tasker_client::{
    Client, NewTask, RetryPolicy,
    v1::{
        CreateTaskResponse, ListTasksRequest, ListTasksResponse, Task, TaskState,
        WaitForTaskResponse, WatchTaskResponse,
    },
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

async fn mesh(script: Script) -> (Fake, Client) {
    let (fake, address) = Fake::start(script).await;
    let client = Client::connect(&format!("http://{address}")).await.unwrap();
    (fake, client)
}

fn created(task_id: &str) -> CreateTaskResponse {
    CreateTaskResponse { task_id: task_id.to_owned(), template: None }
}

fn waited(state: TaskState) -> WaitForTaskResponse {
    WaitForTaskResponse { task: Some(Task { state: state.into(), ..Task::default() }) }
}

fn event(cursor: &str) -> WatchTaskResponse {
    WatchTaskResponse { cursor: cursor.to_owned(), ..WatchTaskResponse::default() }
}

#[tokio::test]
async fn a_submission_is_tried_again_under_the_same_request_id() {
    let busy = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
    let (fake, client) = mesh(Script {
        creates: [
            Err(Status::unavailable("away")),
            Err(Status::with_error_details(Code::ResourceExhausted, "busy", busy)),
            Ok(created("t")),
        ]
        .into(),
        ..Script::default()
    })
    .await;
    assert_eq!(client.create_task(NewTask::of("a", "b")).await.unwrap().task_id, "t");
    let seen = fake.seen.lock().unwrap();
    let ids: Vec<_> = seen.creates.iter().map(|(_, request)| &request.request_id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 36), "{ids:?}");
}

#[tokio::test]
async fn a_request_id_of_the_caller_is_kept() {
    let (fake, client) =
        mesh(Script { creates: [Ok(created("t"))].into(), ..Script::default() }).await;
    client.create_task(NewTask::of("a", "b").request_id("mine")).await.unwrap();
    assert_eq!(fake.seen.lock().unwrap().creates[0].1.request_id, "mine");
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_tells_reason_and_fields() {
    let mut details = ErrorDetails::with_bad_request_violation("template.name", "is empty");
    details.set_error_info("INVALID_FIELD", "tasker", [("n".to_owned(), "1".to_owned())]);
    let refusal = Status::with_error_details(Code::InvalidArgument, "no", details);
    let (fake, client) = mesh(Script { creates: [Err(refusal)].into(), ..Script::default() }).await;
    let error = client.create_task(NewTask::of("a", "")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.reason(), Some("INVALID_FIELD"));
    assert_eq!(error.violations()[0].field, "template.name");
    assert_eq!(error.failure().unwrap().metadata["n"], "1");
    assert_eq!(error.to_string(), "InvalidArgument (INVALID_FIELD): no; template.name: is empty");
    assert_eq!(fake.seen.lock().unwrap().creates.len(), 1);
}

#[tokio::test]
async fn second_tries_end_at_the_deadline_with_the_reason_of_the_mesh() {
    let away = || Err(Status::unavailable("away"));
    let (_fake, client) = mesh(Script {
        creates: std::iter::repeat_with(away).take(1000).collect(),
        ..Script::default()
    })
    .await;
    let deadline = Duration::from_millis(300);
    let client = client.with_retry_policy(RetryPolicy { deadline, ..RetryPolicy::default() });
    let error = client.create_task(NewTask::of("a", "b")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_try_cut_off_by_the_deadline_does_not_hide_the_reason_of_the_one_before() {
    let (_fake, client) = mesh(Script {
        creates: [Err(Status::unavailable("away")), Err(Status::deadline_exceeded("cut off"))]
            .into(),
        ..Script::default()
    })
    .await;
    let error = client.create_task(NewTask::of("a", "b")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_mesh_that_says_nothing_costs_no_more_than_the_deadline() {
    let (_fake, client) = mesh(Script::default()).await;
    let deadline = Duration::from_millis(50);
    let client = client.with_retry_policy(RetryPolicy { deadline, ..RetryPolicy::default() });
    assert_eq!(client.get_task("t").await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_call_is_a_reason_to_try_again() {
    let (_fake, address) = Fake::start(Script::default()).await;
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", between.local_addr().unwrap());
    let cut = tokio::spawn(async move {
        let (mut near, _) = between.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(address).await.unwrap();
        let broken = Duration::from_millis(100);
        let through = tokio::io::copy_bidirectional(&mut near, &mut far);
        tokio::time::timeout(broken, through).await.unwrap_err();
    });
    let deadline = Duration::from_millis(500);
    let client = Client::connect(&url)
        .await
        .unwrap()
        .with_retry_policy(RetryPolicy { deadline, ..RetryPolicy::default() });
    let error = client.get_task("t").await.unwrap_err();
    cut.await.unwrap();
    assert_eq!((error.code(), error.is_transient()), (Code::Unavailable, true), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_to_connect_and_a_reason_to_try_again() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    assert!(Client::connect(&url).await.unwrap_err().is_transient());
    let deadline = Duration::from_millis(50);
    let client = Client::connect_lazy(&url)
        .unwrap()
        .with_retry_policy(RetryPolicy { deadline, ..RetryPolicy::default() });
    let error = client.get_task("t").await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), (Code::Unavailable, true));
}

#[tokio::test]
async fn a_list_goes_over_all_its_pages_with_the_same_filter() {
    let page = |ids: &[&str], next: &str| {
        let task = |id: &&str| Task { task_id: (*id).to_owned(), ..Task::default() };
        Ok(ListTasksResponse {
            tasks: ids.iter().map(task).collect(),
            next_page_token: next.to_owned(),
        })
    };
    let (fake, client) = mesh(Script {
        lists: [page(&["1", "2"], "two"), page(&[], "three"), page(&["3"], "")].into(),
        ..Script::default()
    })
    .await;
    let filter = ListTasksRequest { namespace: "orders".to_owned(), ..Default::default() };
    let tasks: Vec<Task> = client.list_tasks(filter).try_collect().await.unwrap();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    let seen = fake.seen.lock().unwrap();
    let tokens: Vec<_> = seen.lists.iter().map(|list| list.page_token.as_str()).collect();
    assert_eq!(tokens, ["", "two", "three"]);
    assert!(seen.lists.iter().all(|list| list.namespace == "orders"));
}

#[tokio::test]
async fn waiting_goes_on_over_the_bound_of_the_server() {
    let (fake, client) = mesh(Script {
        waits: [Ok(waited(TaskState::StepsInProcess)), Ok(waited(TaskState::Complete))].into(),
        ..Script::default()
    })
    .await;
    let task = client.wait_for_task("t", Duration::from_secs(600)).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let waits = &fake.seen.lock().unwrap().waits;
    assert_eq!(
        waits.iter().map(|wait| wait.timeout.unwrap().seconds).collect::<Vec<_>>(),
        [60, 60]
    );
}

#[tokio::test]
async fn a_task_that_takes_longer_than_the_caller_waits_is_returned_as_it_stands() {
    let (_fake, client) = mesh(Script {
        waits: [Ok(waited(TaskState::WaitingForRetry))].into(),
        ..Script::default()
    })
    .await;
    let task = client.wait_for_task("t", Duration::ZERO).await.unwrap();
    assert_eq!(task.state(), TaskState::WaitingForRetry);
}

#[tokio::test]
async fn a_watch_goes_on_at_its_cursor_and_ends_with_the_task() {
    let (fake, client) = mesh(Script {
        watches: [
            Ok(vec![Ok(event("1")), Ok(event("2")), Err(Status::unavailable("going away"))]),
            Err(Status::unavailable("away")),
            Ok(vec![Ok(event("3"))]),
        ]
        .into(),
        ..Script::default()
    })
    .await;
    let events: Vec<_> = client.watch_task("t").try_collect().await.unwrap();
    let cursors: Vec<_> = events.iter().map(|event| event.cursor.as_str()).collect();
    assert_eq!(cursors, ["1", "2", "3"]);
    let asked = &fake.seen.lock().unwrap().watches;
    let asked: Vec<_> = asked.iter().map(|watch| watch.cursor.as_str()).collect();
    assert_eq!(asked, ["", "2", "2"]);
}

#[tokio::test]
async fn a_watch_of_an_unknown_task_ends_with_the_reason() {
    let (_fake, client) = mesh(Script {
        watches: [Err(Status::not_found("no such task"))].into(),
        ..Script::default()
    })
    .await;
    let events: Vec<_> = client.watch_task("t").collect().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].as_ref().unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_call_goes_on_with_the_trace_it_is_made_in() {
    use opentelemetry::trace::TracerProvider as _;
    use tracing::Instrument as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    opentelemetry::global::set_text_map_propagator(
        opentelemetry_sdk::propagation::TraceContextPropagator::new(),
    );
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (fake, client) =
        mesh(Script { creates: [Ok(created("t"))].into(), ..Script::default() }).await;

    let span = tracing::info_span!("order.submit");
    let here = tasker_trace::TraceContext::default().or_of(&span);
    client.create_task(NewTask::of("a", "b")).instrument(span).await.unwrap();

    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.creates[0].0.get("traceparent").unwrap().to_str().unwrap(), here.traceparent);
}
