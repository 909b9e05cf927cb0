//! Dead letters: every task that somebody has to look into is in one place, with how it stood.

use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::Value;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        CreateDlqEntryRequest, DlqEntry, DlqInvestigation, DlqReason, DlqStatus,
        GetInvestigationQueueRequest, ListDlqEntriesRequest, TaskState, UpdateDlqEntryRequest,
        dlq_service_client::DlqServiceClient,
    },
};
use tasker_integration_tests::{Mesh, Session, Setup, until};
use tasker_worker::{HandlerError, Registry, StepContext};
use tonic::Code;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![
    set up by setup;
    a_blocked_task_is_found_with_its_failures_and_how_it_stood,
    an_entry_is_made_by_hand_once_and_resolved_once,
    a_request_for_an_entry_that_is_repeated_is_given_the_entry_that_it_made,
    what_matters_most_is_looked_into_first_and_counted_by_reason,
    a_task_that_can_never_go_on_is_found,
    a_parked_message_leads_to_the_task_that_it_names,
    a_task_whose_handler_no_worker_has_is_found_and_one_that_waits_its_turn_is_not,
    an_entry_is_closed_when_its_task_ends,
    what_somebody_else_has_found_is_kept_when_the_task_is_blocked,
    a_task_that_is_blocked_again_is_found_as_it_stands_now,
    a_task_that_has_passed_a_limit_is_found_whichever_limit_it_is,
];

fn setup() -> Setup {
    Mesh::setup()
        .with("finalizer.limits_interval", "100ms")
        .with("finalizer.reconcile_interval", "1s")
}

const TWO_STEPS: &str = "{namespace: letters, name: two_steps, version: 1.0.0, steps: [
    {name: first, handler: {callable: first}},
    {name: second, handler: {callable: second}, dependencies: [first]}]}";

async fn submit(client: &Client, yaml: &str, name: &str, priority: i32) -> String {
    client.register_template(yaml).await.unwrap();
    let mut task = tasker_client::v1::CreateTaskRequest::from(NewTask::of("letters", name));
    task.priority = priority;
    client.create_task(task).await.unwrap().task_id
}

fn of_task(task: &str) -> ListDlqEntriesRequest {
    ListDlqEntriesRequest { task_id: task.to_owned(), ..ListDlqEntriesRequest::default() }
}

async fn entries(client: &Client, filter: ListDlqEntriesRequest) -> Vec<DlqEntry> {
    client.list_dlq_entries(filter).try_collect().await.unwrap()
}

/// The only entry of a task, with its snapshot, once it is there.
async fn entry_of(client: &Client, task: &str) -> DlqEntry {
    let entry = until("the task is among the dead letters", PATIENCE, async || {
        let mut found = entries(client, of_task(task)).await;
        assert!(found.len() <= 1, "{found:?}");
        found.pop()
    })
    .await;
    assert!(entry.snapshot.is_none(), "lists leave it out");
    client.get_dlq_entry(&entry.entry_id).await.unwrap()
}

fn snapshot(entry: &DlqEntry) -> Value {
    serde_json::from_slice(&entry.snapshot.as_ref().unwrap().data).unwrap()
}

fn by_hand(task: &str) -> CreateDlqEntryRequest {
    CreateDlqEntryRequest {
        task_id: task.to_owned(),
        operator: "ada".to_owned(),
        reason: "it looks odd".to_owned(),
        request_id: String::new(),
    }
}

async fn a_blocked_task_is_found_with_its_failures_and_how_it_stood(mesh: &Mesh) {
    let client = mesh.client();
    let tired = "{namespace: letters, name: tired, version: 1.0.0, steps: [
        {name: pass, handler: {callable: pass}},
        {name: tired, handler: {callable: busy}, dependencies: [pass],
         retry: {max_attempts: 2, backoff: none}},
        {name: never, handler: {callable: pass}, dependencies: [tired]}]}";
    let refused = "{namespace: letters, name: refused, version: 1.0.0,
        steps: [{name: only, handler: {callable: refuse}}]}";
    let tired = submit(&client, tired, "tired", 7).await;
    let refused = submit(&client, refused, "refused", 0).await;
    let mut handlers = Registry::new();
    handlers.register_fn("pass", |_| async { Ok(1) });
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("card_declined", "the card is declined"))
    });
    let worker = mesh.worker(&["letters"], &handlers);

    let entry = entry_of(&client, &tired).await;
    assert_eq!(entry.reason(), DlqReason::RetriesExhausted);
    assert_eq!(entry.status(), DlqStatus::Pending);
    assert_eq!(entry.task_state(), TaskState::BlockedByFailures);
    assert_eq!(entry.detail, "tired: busy");
    assert!(entry.actor.starts_with("finalizer"), "{}", entry.actor);
    let stood = snapshot(&entry);
    assert_eq!(stood["task"]["state"], "blocked_by_failures");
    assert_eq!(stood["task"]["task_id"], tired.as_str());
    assert_eq!(stood["task"]["steps"]["failed"], 1);
    let steps = stood["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["tired", "never", "pass"],
        "those that failed first, those that are done last"
    );
    assert_eq!((&steps[0]["state"], &steps[0]["attempt"]), (&"error".into(), &2.into()));
    assert_eq!(steps[0]["error_message"], "try later");
    assert_eq!((&steps[1]["state"], &steps[2]["state"]), (&"pending".into(), &"complete".into()));

    let entry = entry_of(&client, &refused).await;
    assert_eq!(entry.reason(), DlqReason::PermanentFailure);
    assert_eq!(entry.detail, "only: card_declined");
    worker.stop().await;
    // Every blocked task, in one place.
    let pending = ListDlqEntriesRequest {
        namespace: "letters".to_owned(),
        statuses: vec![DlqStatus::Pending.into()],
        ..ListDlqEntriesRequest::default()
    };
    assert_eq!(entries(&client, pending).await.len(), 2);
}

async fn an_entry_is_made_by_hand_once_and_resolved_once(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let entry = client.create_dlq_entry(by_hand(&task)).await.unwrap();
    assert_eq!((entry.reason(), entry.status()), (DlqReason::Manual, DlqStatus::Pending));
    assert_eq!((entry.actor.as_str(), entry.detail.as_str()), ("operator:ada", "it looks odd"));
    assert_eq!(snapshot(&entry)["task"]["task_id"], task.as_str());

    let again = client.create_dlq_entry(by_hand(&task)).await.unwrap_err();
    assert_eq!((again.code(), again.reason()), (Code::AlreadyExists, Some("DLQ_ENTRY_PENDING")));
    assert_eq!(again.failure().unwrap().metadata["entry_id"], entry.entry_id);
    let nobody = Uuid::now_v7().to_string();
    let unknown = client.create_dlq_entry(by_hand(&nobody)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let nothing = client.create_dlq_entry(CreateDlqEntryRequest::default()).await.unwrap_err();
    let fields: Vec<_> = nothing.violations().iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["task_id", "reason", "operator"]);
    assert_eq!(client.get_dlq_entry(&nobody).await.unwrap_err().code(), Code::NotFound);

    let update = |status: DlqStatus, notes: Option<&str>| UpdateDlqEntryRequest {
        entry_id: entry.entry_id.clone(),
        operator: "eve".to_owned(),
        status: status.into(),
        notes: notes.map(str::to_owned),
    };
    let noted = client.update_dlq_entry(update(DlqStatus::Unspecified, Some("why?"))).await;
    let noted = noted.unwrap();
    assert_eq!((noted.status(), noted.notes.as_str()), (DlqStatus::Pending, "why?"));
    assert!(noted.resolve_time.is_none());
    let resolved = client.update_dlq_entry(update(DlqStatus::Cancelled, None)).await.unwrap();
    assert_eq!((resolved.status(), resolved.notes.as_str()), (DlqStatus::Cancelled, "why?"));
    assert_eq!(resolved.resolver, "operator:eve");
    assert!(resolved.resolve_time.is_some());
    // The same again is a success, and changes nothing.
    let again = client.update_dlq_entry(update(DlqStatus::Cancelled, None)).await.unwrap();
    assert_eq!(again, resolved);
    let otherwise = client.update_dlq_entry(update(DlqStatus::PermanentFailure, None)).await;
    let otherwise = otherwise.unwrap_err();
    assert_eq!(otherwise.code(), Code::FailedPrecondition);
    assert_eq!(otherwise.reason(), Some("DLQ_ENTRY_RESOLVED"));
    assert_eq!(otherwise.failure().unwrap().metadata["status"], "cancelled");
    let missing = UpdateDlqEntryRequest { entry_id: nobody, ..update(DlqStatus::Cancelled, None) };
    assert_eq!(client.update_dlq_entry(missing).await.unwrap_err().code(), Code::NotFound);

    // The task may be put there again, and the list tells both, the newest first.
    let second = client.create_dlq_entry(by_hand(&task)).await.unwrap();
    let all = entries(&client, of_task(&task)).await;
    let ids: Vec<_> = all.iter().map(|entry| entry.entry_id.as_str()).collect();
    assert_eq!(ids, [second.entry_id.as_str(), entry.entry_id.as_str()]);
}

async fn what_matters_most_is_looked_into_first_and_counted_by_reason(mesh: &Mesh) {
    let client = mesh.client();
    let refused = "{namespace: letters, name: refused, version: 1.0.0,
        steps: [{name: only, handler: {callable: refuse}}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "never"))
    });
    let worker = mesh.worker(&["letters"], &handlers);
    let blocked = submit(&client, refused, "refused", 0).await;
    let urgent = submit(&client, refused, "refused", 50).await;
    let old = submit(&client, refused, "refused", 0).await;
    for task in [&blocked, &urgent, &old] {
        entry_of(&client, task).await;
    }
    worker.stop().await;
    let manual = submit(&client, TWO_STEPS, "two_steps", 0).await;
    until("the task waits for a worker, and moves no more", PATIENCE, async || {
        let task = client.get_task(&manual).await.unwrap();
        (task.state() == TaskState::StepsInProcess).then_some(())
    })
    .await;
    client.create_dlq_entry(by_hand(&manual)).await.unwrap();
    let ledger = mesh.ledger().await;
    let aged = ledger
        .change(
            "UPDATE task_dead_letters SET created_at = created_at - interval '70 hours'
             WHERE task_id = (SELECT max(task_id::text)::uuid FROM tasks WHERE state = 'blocked_by_failures')",
        )
        .await;
    assert_eq!(aged, 1);
    let queue: Vec<DlqInvestigation> = client.investigation_queue("").try_collect().await.unwrap();
    let order: Vec<_> =
        queue.iter().map(|it| (it.entry.as_ref().unwrap().task_id.as_str(), it.score)).collect();
    let expected = [(manual.as_str(), 300), (old.as_str(), 270), (urgent.as_str(), 250)];
    assert_eq!(order[..3], expected);
    assert_eq!(order[3..], [(blocked.as_str(), 200)]);

    // In pages of any size, and narrowed.
    let mut dlq = DlqServiceClient::new(mesh.channel().await);
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            GetInvestigationQueueRequest { page_size: 1, page_token, ..Default::default() };
        let page = dlq.get_investigation_queue(request).await.unwrap().into_inner();
        assert!(page.investigations.len() <= 1);
        paged.extend(page.investigations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, queue);
    let other: Vec<_> = client.investigation_queue("other").try_collect().await.unwrap();
    assert!(other.is_empty());

    let resolved = UpdateDlqEntryRequest {
        entry_id: queue[1].entry.as_ref().unwrap().entry_id.clone(),
        operator: "ada".to_owned(),
        status: DlqStatus::ManuallyResolved.into(),
        notes: None,
    };
    client.update_dlq_entry(resolved).await.unwrap();
    let stats = client.dlq_stats("letters").await.unwrap();
    let counts: Vec<_> = stats.iter().map(|it| (it.reason(), it.pending, it.resolved)).collect();
    assert_eq!(counts, [(DlqReason::PermanentFailure, 2, 1), (DlqReason::Manual, 1, 0)]);
    assert_eq!(stats[0].mean_time_to_resolve.unwrap().seconds / 3_600, 70);
    assert!(stats[0].oldest_pending_time.is_some() && stats[1].mean_time_to_resolve.is_none());
}

async fn a_task_that_can_never_go_on_is_found(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let ledger = mesh.ledger().await;
    // What no template can say: a step that waits for one that is not there.
    let changed =
        ledger.change("UPDATE steps SET unmet_dependencies = 2 WHERE name = 'second'").await;
    assert_eq!(changed, 1);
    let mut handlers = Registry::new();
    handlers.register_fn("first", |_| async { Ok(1) });
    let worker = mesh.worker(&["letters"], &handlers);
    let entry = entry_of(&client, &task).await;
    assert_eq!(entry.reason(), DlqReason::Impossible);
    assert_eq!(entry.task_state(), TaskState::WaitingForDependencies);
    assert_eq!(snapshot(&entry)["steps"][0]["unmet_dependencies"], 1);
    worker.stop().await;
}

async fn a_parked_message_leads_to_the_task_that_it_names(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let ledger = mesh.ledger().await;
    let message = format!(r#"{{"task_id": "{task}", "ordinal": "none"}}"#);
    ledger.send("orchestration_step_results", &message).await;
    // One that names no task that there is.
    let message = format!(r#"{{"task_id": "{}", "ordinal": "none"}}"#, Uuid::now_v7());
    ledger.send("orchestration_step_results", &message).await;
    let entry = entry_of(&client, &task).await;
    assert_eq!(entry.reason(), DlqReason::PoisonMessage);
    assert_eq!(entry.actor, "orchestration_step_results");
    assert!(entry.detail.contains("orchestration_step_results was parked"), "{}", entry.detail);
    until("both are parked", PATIENCE, async || {
        let parked = "SELECT count(*) FROM pgmq.q_orchestration_step_results_dlq";
        (ledger.number(parked).await == 2).then_some(())
    })
    .await;
    assert_eq!(ledger.number("SELECT count(*) FROM task_dead_letters").await, 1);
}

async fn a_task_whose_handler_no_worker_has_is_found_and_one_that_waits_its_turn_is_not(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let yaml = |name: &str| {
        format!(
            "{{namespace: letters, name: {name}, version: 1.0.0,
              lifecycle: {{max_waiting_for_worker_seconds: 1, when_stale: dlq}},
              steps: [{{name: only, handler: {{callable: {name}}}}}]}}"
        )
    };
    let hello = Session::hello("busy", "letters", &["had"], 1);
    let mut worker = Session::open(mesh.channel().await, hello).await.unwrap();
    let running = submit(&client, &yaml("had"), "had", 0).await;
    let delivery = worker.take().await;
    assert_eq!(delivery.task_id, running);
    let waiting = submit(&client, &yaml("had"), "had", 0).await;
    let lonely = submit(&client, &yaml("not_had"), "not_had", 0).await;
    let entry = entry_of(&client, &lonely).await;
    assert_eq!(entry.reason(), DlqReason::WorkerUnavailable);
    assert_eq!(entry.task_state(), TaskState::StepsInProcess);
    // It began to wait earlier, and its worker is only busy.
    for task in [&running, &waiting] {
        assert!(entries(&client, of_task(task)).await.is_empty());
    }
}

async fn an_entry_is_closed_when_its_task_ends(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let entry = client.create_dlq_entry(by_hand(&task)).await.unwrap();
    let mut handlers = Registry::new();
    for name in ["first", "second"] {
        handlers.register_fn(name, |step: StepContext| async move { Ok(step.attempt()) });
    }
    let worker = mesh.worker(&["letters"], &handlers);
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Complete);
    let closed = until("the entry is closed", PATIENCE, async || {
        let entry = client.get_dlq_entry(&entry.entry_id).await.unwrap();
        (entry.status() != DlqStatus::Pending).then_some(entry)
    })
    .await;
    assert_eq!(closed.status(), DlqStatus::ManuallyResolved);
    assert_eq!(closed.notes, "The task has ended since: complete.");
    assert_eq!(closed.resolve_time, ended.end_time);
    worker.stop().await;
}

async fn a_request_for_an_entry_that_is_repeated_is_given_the_entry_that_it_made(mesh: &Mesh) {
    let client = mesh.client();
    let task = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let request = CreateDlqEntryRequest { request_id: "odd-1".to_owned(), ..by_hand(&task) };
    let both = tokio::join!(
        client.create_dlq_entry(request.clone()),
        client.create_dlq_entry(request.clone())
    );
    let (entry, twin) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(entry.entry_id, twin.entry_id);
    let other = CreateDlqEntryRequest { request_id: "odd-2".to_owned(), ..by_hand(&task) };
    let error = client.create_dlq_entry(other).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::AlreadyExists, Some("DLQ_ENTRY_PENDING")));
    // Also once it is resolved: the request is answered, and makes no second entry.
    let resolved = UpdateDlqEntryRequest {
        entry_id: entry.entry_id.clone(),
        operator: "ada".to_owned(),
        status: DlqStatus::ManuallyResolved.into(),
        notes: None,
    };
    client.update_dlq_entry(resolved).await.unwrap();
    let again = client.create_dlq_entry(request).await.unwrap();
    assert_eq!((&again.entry_id, again.status()), (&entry.entry_id, DlqStatus::ManuallyResolved));
    assert_eq!(entries(&client, of_task(&task)).await.len(), 1);
    // An id names one request: for another task it is none of it.
    let another = submit(&client, TWO_STEPS, "two_steps", 0).await;
    let request = CreateDlqEntryRequest { request_id: "odd-1".to_owned(), ..by_hand(&another) };
    let error = client.create_dlq_entry(request).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::AlreadyExists, Some("REQUEST_ID_USED")));
    let about = &error.failure().unwrap().metadata;
    assert_eq!((&about["entry_id"], &about["task_id"]), (&entry.entry_id, &task));
    assert!(entries(&client, of_task(&another)).await.is_empty());
    let long = CreateDlqEntryRequest { request_id: "x".repeat(129), ..by_hand(&task) };
    let error = client.create_dlq_entry(long).await.unwrap_err();
    assert_eq!(error.violations()[0].field, "request_id");
}

async fn what_somebody_else_has_found_is_kept_when_the_task_is_blocked(mesh: &Mesh) {
    let client = mesh.client();
    let refused = "{namespace: letters, name: refused, version: 1.0.0,
        steps: [{name: only, handler: {callable: refuse}}]}";
    let by_hand_before = submit(&client, refused, "refused", 0).await;
    let request =
        CreateDlqEntryRequest { request_id: "odd-3".to_owned(), ..by_hand(&by_hand_before) };
    let made = client.create_dlq_entry(request.clone()).await.unwrap();
    let poisoned = submit(&client, refused, "refused", 0).await;
    let message = format!(r#"{{"task_id": "{poisoned}", "ordinal": "none"}}"#);
    mesh.ledger().await.send("orchestration_step_results", &message).await;
    let parked = entry_of(&client, &poisoned).await;
    assert_eq!(parked.reason(), DlqReason::PoisonMessage);

    let mut handlers = Registry::new();
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "never"))
    });
    let worker = mesh.worker(&["letters"], &handlers);
    for entry in [&made, &parked] {
        until("the task is blocked", PATIENCE, async || {
            let now = client.get_dlq_entry(&entry.entry_id).await.unwrap();
            let blocked = now.task_state() == TaskState::BlockedByFailures;
            // All of it: the reason, who found it, and how the task stood then.
            blocked.then(|| assert_eq!(DlqEntry { task_state: entry.task_state, ..now }, *entry))
        })
        .await;
    }
    assert_eq!(client.create_dlq_entry(request).await.unwrap().entry_id, made.entry_id);
    worker.stop().await;
}

async fn a_task_that_is_blocked_again_is_found_as_it_stands_now(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: letters, name: refused, version: 1.0.0,
        steps: [{name: only, handler: {callable: refuse}}]}";
    let task = submit(&client, yaml, "refused", 0).await;
    let refuses = |why: &'static str| {
        let mut handlers = Registry::new();
        handlers.register_fn("refuse", move |_| async move {
            Err::<(), _>(HandlerError::permanent(why, "never"))
        });
        mesh.worker(&["letters"], &handlers)
    };
    let worker = refuses("declined");
    let first = entry_of(&client, &task).await;
    assert_eq!(first.detail, "only: declined");
    worker.stop().await;
    let worker = refuses("expired");
    client.reset_step(&task, "only", &Operator::new("ada", "")).await.unwrap();
    let second = until("the entry is renewed", PATIENCE, async || {
        let entry = entry_of(&client, &task).await;
        (entry.detail == "only: expired").then_some(entry)
    })
    .await;
    assert_eq!(second.entry_id, first.entry_id);
    assert_eq!(snapshot(&second)["steps"][0]["error_type"], "expired");
    worker.stop().await;
}

async fn a_task_that_has_passed_a_limit_is_found_whichever_limit_it_is(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = |name: &str, limit: &str| {
        format!(
            "{{namespace: letters, name: {name}, version: 1.0.0,
              lifecycle: {{{limit}: 1, when_stale: dlq}}, steps: [
                {{name: first, handler: {{callable: {name}}},
                  retry: {{backoff_base_ms: 3600000, max_backoff_ms: 3600000}}}},
                {{name: second, handler: {{callable: lonely}}, dependencies: [first]}}]}}"
        )
    };
    let lasts = yaml("lonely", "max_duration_seconds");
    let lasts = submit(&client, &lasts, "lonely", 0).await;
    let retries = yaml("busy", "max_waiting_for_retry_seconds");
    let retries = submit(&client, &retries, "busy", 0).await;
    let blocked = yaml("refuse", "max_blocked_seconds");
    let blocked = submit(&client, &blocked, "refuse", 0).await;
    let waits = yaml("pass", "max_waiting_for_dependencies_seconds");
    let waits = submit(&client, &waits, "pass", 0).await;
    // What no template can say: a step that waits for one that is not there.
    let unmet = "UPDATE steps SET unmet_dependencies = 2 WHERE name = 'second'";
    mesh.ledger().await.change(unmet).await;
    let mut handlers = Registry::new();
    handlers.register_fn("pass", |_| async { Ok(1) });
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "never"))
    });
    let worker = mesh.worker(&["letters"], &handlers);
    // Somebody has looked into these, and left them as they are.
    for (task, reason) in [(&blocked, DlqReason::PermanentFailure), (&waits, DlqReason::Impossible)]
    {
        let entry = entry_of(&client, task).await;
        assert_eq!(entry.reason(), reason);
        let resolved = UpdateDlqEntryRequest {
            entry_id: entry.entry_id,
            operator: "ada".to_owned(),
            status: DlqStatus::ManuallyResolved.into(),
            notes: None,
        };
        client.update_dlq_entry(resolved).await.unwrap();
    }
    let details = [
        (&lasts, "the task has lasted"),
        (&retries, "waiting for a retry has lasted"),
        (&blocked, "being blocked by failures has lasted"),
        (&waits, "waiting for dependencies has lasted"),
    ];
    for (task, detail) in details {
        let stale = ListDlqEntriesRequest {
            reasons: vec![DlqReason::Staleness.into()],
            statuses: vec![DlqStatus::Pending.into()],
            ..of_task(task)
        };
        let entry = until("the stale task is found", PATIENCE, async || {
            entries(&client, stale.clone()).await.pop()
        })
        .await;
        assert!(entry.detail.starts_with(detail), "{}", entry.detail);
        assert!(client.get_task(task).await.unwrap().end_time.is_none(), "it goes on");
    }
    worker.stop().await;
}
