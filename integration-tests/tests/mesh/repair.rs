//! Steps that are repaired by hand: their tasks go on at once, with the right counts, wherever they stood.

use std::{collections::HashSet, time::Duration};

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        ListTasksRequest, Payload, Remedy, RepairTasksRequest, RepairTasksResponse, ResultVerdict,
        StepState, Task, TaskState, watch_task_response::Transition,
    },
};
use tasker_integration_tests::{Ledger, Mesh, Service, Session, failure, success, until};
use tasker_worker::{Batches, HandlerError, Registry};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
const CHAIN: &str = "{namespace: repairs, name: chain, version: 1.0.0, steps: [
    {name: first, handler: {callable: work}, retry: {max_attempts: 2, backoff: none}},
    {name: second, handler: {callable: work}, dependencies: [first]}]}";
const BRANCHES: &str = "{namespace: repairs, name: branches, version: 1.0.0, steps: [
    {name: a, handler: {callable: work}, retry: {retryable: false}},
    {name: b, handler: {callable: work}, retry: {retryable: false}},
    {name: end, handler: {callable: work}, dependencies: [a, b]}]}";

in_both_shapes![
    a_step_that_is_reset_has_all_its_attempts_and_its_task_goes_on,
    a_step_that_is_resolved_unlocks_its_dependants_without_its_result,
    a_result_of_the_operators_reaches_the_dependants_and_the_workers_own_is_refused,
    a_result_of_the_operators_is_what_the_template_asks_for,
    a_step_that_waits_is_settled_and_nobody_gets_it,
    a_task_that_was_given_up_comes_back_to_life,
    all_failed_steps_of_a_task_are_repaired_at_once,
    many_tasks_are_repaired_by_filter_within_a_bound_and_after_a_preview,
    a_preview_says_what_the_repair_then_does,
    a_repair_of_many_tasks_tells_of_them_page_by_page,
    a_task_that_fails_to_be_repaired_is_named_and_keeps_no_other_from_it,
    what_cannot_be_repaired_says_where_it_stands,
];

fn carol() -> Operator {
    Operator::new("carol", "the bank is back")
}

fn json(text: &str) -> Payload {
    Payload { data: text.to_owned().into(), ..Payload::default() }
}

async fn submit(client: &Client, yaml: &str) -> String {
    let template = client.register_template(yaml).await.unwrap().r#ref.unwrap();
    client.create_task(NewTask::of(template.namespace, template.name)).await.unwrap().task_id
}

async fn session(mesh: &Mesh) -> Session {
    let hello = Session::hello("worker", "repairs", &["work"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

/// Takes the next step, which has to be this one, and fails it for good.
async fn fail(worker: &mut Session, step: &str) {
    let delivery = worker.take().await;
    assert_eq!(delivery.step_name, step);
    let verdict = worker.report(failure(&delivery.delivery_token, "no", false)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
}

/// Takes the next step, which has to be this one, and returns the results that it is given.
async fn succeed(worker: &mut Session, step: &str) -> Vec<(String, String)> {
    let delivery = worker.take().await;
    assert_eq!(delivery.step_name, step);
    let verdict = worker.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let text = |payload: Payload| String::from_utf8(payload.data.to_vec()).unwrap();
    let results = delivery.dependency_results.into_iter();
    results.map(|(parent, result)| (parent, text(result))).collect()
}

async fn settles(client: &Client, task_id: &str, state: TaskState) -> Task {
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), state);
    task
}

/// Nothing is left, and every task counts what its steps say.
async fn all_is_well(ledger: &Ledger) {
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
    let wrong = ledger.number(
        "SELECT count(*) FROM tasks JOIN (
            SELECT task_id, count(*) FILTER (WHERE state = 'error') AS failed,
                count(*) FILTER (WHERE state IN ('complete', 'resolved_manually')) AS satisfied
            FROM steps GROUP BY task_id) AS counted USING (task_id)
         WHERE (tasks.failed, tasks.satisfied) <> (counted.failed, counted.satisfied)
            OR ready + in_flight + waiting_for_retry <> 0",
    );
    assert_eq!(wrong.await, 0, "tasks with wrong counts");
    let search = ledger.number(
        "SELECT count(*) FROM tasks JOIN task_search USING (task_id)
         WHERE rests_in IS DISTINCT FROM state OR (ended_at IS NOT NULL) <> is_end(state)",
    );
    assert_eq!(search.await, 0, "tasks that lists show elsewhere");
}

async fn a_step_that_is_reset_has_all_its_attempts_and_its_task_goes_on(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(mesh).await;
    for attempt in 1..=2 {
        let delivery = worker.take().await;
        assert_eq!(delivery.attempt, attempt);
        worker.report(failure(&delivery.delivery_token, "no", true)).await;
    }
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    let step = client.reset_step(&task_id, "first", &carol()).await.unwrap();
    assert_ne!(step.state(), StepState::Error);
    let delivery = worker.take().await;
    assert_eq!((delivery.step_name.as_str(), delivery.attempt), ("first", 1));
    worker.report(success(&delivery.delivery_token, "1")).await;
    succeed(&mut worker, "second").await;
    let task = settles(&client, &task_id, TaskState::Complete).await;
    assert_eq!(task.steps.unwrap().satisfied, 2);

    let events: Vec<_> = client.watch_task(&task_id).try_collect().await.unwrap();
    let by_carol = events.iter().filter(|event| event.actor == "operator:carol");
    let told: Vec<_> = by_carol
        .map(|event| match event.transition.clone().unwrap() {
            Transition::Task(task) => (task.event, task.reason),
            Transition::Step(step) => (step.event, step.reason),
            Transition::Paused(_) | Transition::Resumed(_) => panic!("nobody has paused it"),
        })
        .collect();
    let expected = ["ResetForRetry", "StepResolved", "ReadyStepsFound"]
        .map(|event| (event.to_owned(), "the bank is back".to_owned()));
    assert_eq!(told, expected);
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_step_that_is_resolved_unlocks_its_dependants_without_its_result(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(mesh).await;
    fail(&mut worker, "first").await;
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    let step = client.resolve_step(&task_id, "first", &carol()).await.unwrap();
    assert_eq!(step.state(), StepState::ResolvedManually);
    assert_eq!(succeed(&mut worker, "second").await, []);
    settles(&client, &task_id, TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_result_of_the_operators_reaches_the_dependants_and_the_workers_own_is_refused(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(mesh).await;
    let token = worker.take().await.delivery_token;
    let step = client.complete_step(&task_id, "first", json("42"), &carol()).await.unwrap();
    assert_eq!(step.state(), StepState::Complete);
    assert_eq!(step.result.unwrap().payload.unwrap().data, "42");
    // Who runs it is told to stop, and comes too late.
    assert_eq!(worker.cancelled().await, std::slice::from_ref(&token));
    let results = succeed(&mut worker, "second").await;
    assert_eq!(results, [("first".to_owned(), "42".to_owned())]);
    assert_eq!(worker.report(success(&token, "1")).await, ResultVerdict::LeaseLost);
    settles(&client, &task_id, TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_result_of_the_operators_is_what_the_template_asks_for(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: repairs, name: strict, version: 1.0.0, steps: [
        {name: only, handler: {callable: work}, result_schema: {type: integer}}]}";
    let task_id = submit(&client, yaml).await;
    let wrong = client.complete_step(&task_id, "only", json("\"1\""), &carol()).await.unwrap_err();
    let reason = wrong.reason().map(str::to_owned);
    assert_eq!(
        (wrong.code(), reason.as_deref()),
        (Code::InvalidArgument, Some("RESULT_SCHEMA_VIOLATION"))
    );
    client.complete_step(&task_id, "only", json("1"), &carol()).await.unwrap();
    settles(&client, &task_id, TaskState::Complete).await;
}

async fn a_step_that_waits_is_settled_and_nobody_gets_it(mesh: &Mesh) {
    let client = mesh.client();
    // In its worker queue, while there is no worker; and behind a step that is not done.
    let task_id = submit(&client, CHAIN).await;
    until("the first step is enqueued", PATIENCE, async || {
        let step = client.get_step(&task_id, "first").await.unwrap();
        (step.state() == StepState::Enqueued).then_some(())
    })
    .await;
    client.resolve_step(&task_id, "second", &carol()).await.unwrap();
    assert_eq!(client.get_task(&task_id).await.unwrap().state(), TaskState::StepsInProcess);
    client.resolve_step(&task_id, "first", &carol()).await.unwrap();
    settles(&client, &task_id, TaskState::Complete).await;
    let next = submit(&client, BRANCHES).await;
    let mut worker = session(mesh).await;
    for _ in 0..3 {
        let delivery = worker.take().await;
        assert_eq!(delivery.task_id, next, "a settled step was delivered");
        worker.report(success(&delivery.delivery_token, "1")).await;
    }
    settles(&client, &next, TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_task_that_was_given_up_comes_back_to_life(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(mesh).await;
    fail(&mut worker, "first").await;
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    client.give_up_task(&task_id, &carol()).await.unwrap();
    let second = client.get_step(&task_id, "second").await.unwrap();
    assert_eq!(second.state(), StepState::Cancelled);

    client.reset_step(&task_id, "first", &carol()).await.unwrap();
    let task = client.get_task(&task_id).await.unwrap();
    assert!(task.end_time.is_none(), "{task:?}");
    let second = client.get_step(&task_id, "second").await.unwrap();
    assert_eq!((second.state(), second.unmet_dependencies), (StepState::Pending, 1));
    succeed(&mut worker, "first").await;
    succeed(&mut worker, "second").await;
    settles(&client, &task_id, TaskState::Complete).await;
    // Who looks at the whole is told of the first end and of the last.
    let events: Vec<_> = client.watch_task(&task_id).try_collect().await.unwrap();
    let last = events.last().unwrap().transition.clone().unwrap();
    assert!(matches!(last, Transition::Task(task) if task.state() == TaskState::Complete));
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn all_failed_steps_of_a_task_are_repaired_at_once(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, BRANCHES).await;
    let mut worker = session(mesh).await;
    for _ in 0..2 {
        let token = worker.take().await.delivery_token;
        worker.report(failure(&token, "no", false)).await;
    }
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    let reset = client.repair_task(&task_id, Remedy::Reset, &carol()).await.unwrap();
    assert_eq!(reset.step_names, ["a", "b"]);
    for _ in 0..2 {
        let token = worker.take().await.delivery_token;
        worker.report(failure(&token, "no", false)).await;
    }
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    let resolved = client.repair_task(&task_id, Remedy::Resolve, &carol()).await.unwrap();
    assert_eq!(resolved.step_names, ["a", "b"]);
    // A second try finds nothing to do.
    let again = client.repair_task(&task_id, Remedy::Resolve, &carol()).await.unwrap();
    assert_eq!(again.step_names, Vec::<String>::new());
    assert_eq!(succeed(&mut worker, "end").await, []);
    let task = settles(&client, &task_id, TaskState::Complete).await;
    assert_eq!(task.steps.unwrap().satisfied, 3);
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn many_tasks_are_repaired_by_filter_within_a_bound_and_after_a_preview(mesh: &Mesh) {
    let client = mesh.client();
    let mut worker = session(mesh).await;
    let mut failed = Vec::new();
    for _ in 0..5 {
        let task_id = submit(&client, CHAIN).await;
        fail(&mut worker, "first").await;
        settles(&client, &task_id, TaskState::BlockedByFailures).await;
        failed.push(task_id);
    }
    client.give_up_task(&failed[4], &carol()).await.unwrap();
    worker.drain().await;
    failed.reverse();
    let asked = RepairTasksRequest {
        namespace: "repairs".to_owned(),
        remedy: Remedy::Resolve.into(),
        operator: "carol".to_owned(),
        reason: "the bank is back".to_owned(),
        ..RepairTasksRequest::default()
    };
    let told = async |request: RepairTasksRequest| -> Vec<RepairTasksResponse> {
        client.repair_tasks(request).try_collect().await.unwrap()
    };
    let tasks = |told: &[RepairTasksResponse]| -> Vec<String> {
        let tasks = told.iter().flat_map(|response| &response.tasks);
        tasks.map(|task| task.task_id.clone()).collect()
    };

    let preview = told(RepairTasksRequest { preview: true, ..asked.clone() }).await;
    assert_eq!(tasks(&preview), failed);
    assert!(preview.iter().flat_map(|it| &it.tasks).all(|task| task.step_names == ["first"]));
    for task_id in &failed {
        let step = client.get_step(task_id, "first").await.unwrap();
        assert_eq!(step.state(), StepState::Error, "a preview has changed something");
    }
    // The newest two, of which one had been given up.
    let bounded = told(RepairTasksRequest { max_tasks: 2, ..asked.clone() }).await;
    assert_eq!(tasks(&bounded), failed[..2]);
    let last = bounded.last().unwrap();
    assert_eq!((last.task_count, last.step_count, last.more), (2, 2, true));
    let rest = told(asked.clone()).await;
    assert_eq!(tasks(&rest), failed[2..]);
    assert!(!rest.last().unwrap().more);
    let mut worker = session(mesh).await;
    for _ in 0..5 {
        succeed(&mut worker, "second").await;
    }
    for task_id in &failed {
        settles(&client, task_id, TaskState::Complete).await;
    }
    assert!(tasks(&told(asked.clone()).await).is_empty());
    let blocked = vec![TaskState::BlockedByFailures.into(), TaskState::Error.into()];
    let listed = ListTasksRequest { states: blocked, ..ListTasksRequest::default() };
    assert_eq!(client.list_tasks(listed).try_collect::<Vec<_>>().await.unwrap(), []);

    let wrong = RepairTasksRequest {
        states: vec![TaskState::Complete.into()],
        remedy: Remedy::Unspecified.into(),
        max_tasks: -1,
        operator: String::new(),
        ..asked
    };
    let refused = client.repair_tasks(wrong).try_collect::<Vec<_>>().await.unwrap_err();
    let mut fields: Vec<_> = refused.violations().iter().map(|it| it.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["max_tasks", "operator", "remedy", "states"]);
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_preview_says_what_the_repair_then_does(mesh: &Mesh) {
    let client = mesh.client();
    let decides = "{namespace: repairs, name: decides, version: 1.0.0, steps: [
        {name: decide, type: decision, handler: {callable: work}, retry: {retryable: false}},
        {name: one, handler: {callable: work}, dependencies: [decide]}]}";
    let batch = "{namespace: repairs, name: batch, version: 1.0.0, steps: [
        {name: plan, type: batchable, handler: {callable: plan},
         batch_config: {failure_strategy: continue_on_failure}},
        {name: part, type: batch_worker, handler: {callable: refuse}, dependencies: [plan],
         retry: {retryable: false}},
        {name: sum, type: deferred_convergence, handler: {callable: refuse}, dependencies: [part],
         retry: {retryable: false}}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("plan", |_| async { Ok(Batches::of(0..2)) });
    for handler in ["refuse", "work"] {
        handlers.register_fn(handler, |_| async {
            Err::<(), _>(HandlerError::permanent("no", "it is not to be"))
        });
    }
    let worker = mesh.worker(&["repairs"], &handlers);
    let mut tasks = Vec::new();
    for yaml in [decides, batch, CHAIN] {
        let task_id = submit(&client, yaml).await;
        settles(&client, &task_id, TaskState::BlockedByFailures).await;
        tasks.push(task_id);
    }
    worker.stop().await;
    let told = async |remedy: Remedy, preview: bool| -> Vec<(String, Vec<String>, String)> {
        let asked = RepairTasksRequest {
            namespace: "repairs".to_owned(),
            remedy: remedy.into(),
            operator: "carol".to_owned(),
            preview,
            ..RepairTasksRequest::default()
        };
        let told: Vec<RepairTasksResponse> =
            client.repair_tasks(asked).try_collect().await.unwrap();
        let tasks = told.into_iter().flat_map(|response| response.tasks);
        tasks.map(|task| (task.task_id, task.step_names, task.skipped)).collect()
    };
    let named = |steps: [&str; 1]| steps.map(str::to_owned).to_vec();
    let preview = told(Remedy::Reset, true).await;
    let steps: Vec<_> = preview.iter().rev().map(|(_, steps, _)| steps.clone()).collect();
    // Not those of the batch whose failures count as done.
    assert_eq!(steps, [named(["decide"]), named(["sum"]), named(["first"])]);
    let preview = told(Remedy::Resolve, true).await;
    let (decision, steps, skipped) = &preview[2];
    assert_eq!((decision, steps.len()), (&tasks[0], 0));
    assert!(skipped.contains("decide"), "{skipped}");
    assert_eq!(told(Remedy::Resolve, false).await, preview);
}

async fn a_repair_of_many_tasks_tells_of_them_page_by_page(mesh: &Mesh) {
    const TASKS: usize = 230;
    let client = mesh.client();
    client.register_template(CHAIN).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("work", |_| async {
        Err::<(), _>(HandlerError::permanent("no", "the bank is away"))
    });
    let worker = mesh.worker(&["repairs"], &handlers);
    for _ in 0..TASKS {
        client.create_task(NewTask::of("repairs", "chain")).await.unwrap();
    }
    let ledger = mesh.ledger().await;
    until("all are blocked", PATIENCE, async || {
        let blocked = "SELECT count(*) FROM tasks WHERE state = 'blocked_by_failures'";
        (ledger.number(blocked).await == 230).then_some(())
    })
    .await;
    worker.stop().await;
    let asked = RepairTasksRequest {
        namespace: "repairs".to_owned(),
        remedy: Remedy::Resolve.into(),
        operator: "carol".to_owned(),
        max_tasks: 220,
        ..RepairTasksRequest::default()
    };
    let told = async |preview: bool| -> Vec<RepairTasksResponse> {
        let asked = RepairTasksRequest { preview, ..asked.clone() };
        client.repair_tasks(asked).try_collect().await.unwrap()
    };
    for preview in [true, false] {
        let told = told(preview).await;
        let counts: Vec<_> = (told.iter())
            .map(|page| (page.tasks.len(), page.task_count, page.step_count, page.more))
            .collect();
        assert_eq!(counts, [(100, 100, 100, false), (100, 200, 200, false), (20, 220, 220, true)]);
        let tasks: HashSet<_> =
            told.iter().flat_map(|page| &page.tasks).map(|task| &task.task_id).collect();
        assert_eq!(tasks.len(), 220, "a task was told twice");
    }
    let blocked = "SELECT count(*) FROM tasks WHERE state = 'blocked_by_failures'";
    assert_eq!(ledger.number(blocked).await, 10);
}

async fn a_task_that_fails_to_be_repaired_is_named_and_keeps_no_other_from_it(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let mut worker = session(mesh).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(submit(&client, BRANCHES).await);
        fail(&mut worker, "a").await;
        fail(&mut worker, "b").await;
        settles(&client, tasks.last().unwrap(), TaskState::BlockedByFailures).await;
    }
    // A fault that stays until somebody mends it, in the task in the middle.
    for statement in [
        "CREATE TABLE refused AS SELECT task_id FROM tasks ORDER BY task_id OFFSET 1 LIMIT 1",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM refused WHERE task_id = NEW.task_id) THEN RAISE EXCEPTION 'not this one'; END IF;
            RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON steps FOR EACH ROW EXECUTE FUNCTION refuse()",
    ] {
        ledger.change(statement).await;
    }
    let repaired = async || {
        let asked = RepairTasksRequest {
            namespace: "repairs".to_owned(),
            remedy: Remedy::Resolve.into(),
            operator: "carol".to_owned(),
            ..RepairTasksRequest::default()
        };
        let mut told: Vec<RepairTasksResponse> =
            client.repair_tasks(asked).try_collect().await.unwrap();
        assert_eq!(told.len(), 1);
        told.swap_remove(0)
    };
    let told = repaired().await;
    assert_eq!((told.task_count, told.step_count), (2, 4));
    for task in &told.tasks {
        let (steps, refused) = (task.step_names.len(), !task.skipped.is_empty());
        let expected = if task.task_id == tasks[1] { (0, true) } else { (2, false) };
        assert_eq!((steps, refused), expected, "{task:?}");
    }
    for _ in 0..2 {
        succeed(&mut worker, "end").await;
    }
    for task in [&tasks[0], &tasks[2]] {
        settles(&client, task, TaskState::Complete).await;
    }
    settles(&client, &tasks[1], TaskState::BlockedByFailures).await;

    for statement in ["DROP TRIGGER refuse ON steps", "DROP TABLE refused"] {
        ledger.change(statement).await;
    }
    let told = repaired().await;
    assert_eq!((told.task_count, told.tasks[0].task_id.as_str()), (1, tasks[1].as_str()));
    succeed(&mut worker, "end").await;
    settles(&client, &tasks[1], TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&ledger).await;
}

async fn what_cannot_be_repaired_says_where_it_stands(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(mesh).await;
    let stands = |error: &tasker_client::Error| {
        assert_eq!(error.code(), Code::FailedPrecondition);
        (error.reason().unwrap().to_owned(), error.failure().unwrap().metadata["state"].clone())
    };
    let reset = client.reset_step(&task_id, "second", &carol()).await.unwrap_err();
    assert_eq!(stands(&reset), ("STEP_STANDS".to_owned(), "pending".to_owned()));
    let unknown = client.reset_step(&task_id, "nowhere", &carol()).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.reason()), (Code::NotFound, Some("STEP_NOT_FOUND")));
    let nobody = uuid::Uuid::now_v7().to_string();
    let unknown = client.resolve_step(&nobody, "first", &carol()).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.reason()), (Code::NotFound, Some("TASK_NOT_FOUND")));

    succeed(&mut worker, "first").await;
    let done = client.complete_step(&task_id, "first", json("2"), &carol()).await.unwrap_err();
    assert_eq!(stands(&done), ("STEP_STANDS".to_owned(), "complete".to_owned()));
    succeed(&mut worker, "second").await;
    settles(&client, &task_id, TaskState::Complete).await;
    let ended = client.repair_task(&task_id, Remedy::Reset, &carol()).await.unwrap_err();
    assert_eq!(stands(&ended), ("TASK_ENDED".to_owned(), "complete".to_owned()));

    // To resolve again is a success; and a wrong request is told all that is wrong.
    let task_id = submit(&client, CHAIN).await;
    for _ in 0..2 {
        let step = client.resolve_step(&task_id, "second", &carol()).await.unwrap();
        assert_eq!(step.state(), StepState::ResolvedManually);
    }
    let nobody = Operator::new("", "");
    let wrong = client.complete_step("no id", "", json("{"), &nobody).await.unwrap_err();
    let mut fields: Vec<_> = wrong.violations().iter().map(|it| it.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["operator", "result.data", "step_name", "task_id"]);
    succeed(&mut worker, "first").await;
    settles(&client, &task_id, TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_comes_through_although_the_stages_are_killed() {
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "1s").start().await;
    let client = mesh.client();
    let task_id = submit(&client, CHAIN).await;
    let mut worker = session(&mesh).await;
    fail(&mut worker, "first").await;
    settles(&client, &task_id, TaskState::BlockedByFailures).await;
    drop(worker);
    // Nobody is there to tell of the step that is ready: its message waits.
    mesh.kill(Service::StepEnqueuer, 0);
    mesh.kill(Service::ResultProcessor, 0);
    let reset = tokio::spawn({
        let (client, task_id) = (client.clone(), task_id.clone());
        async move { client.reset_step(&task_id, "first", &carol()).await }
    });
    mesh.restart(Service::ResultProcessor, 0).await;
    let step = tokio::time::timeout(PATIENCE, reset).await.unwrap().unwrap().unwrap();
    assert_eq!(step.state(), StepState::Pending);
    mesh.restart(Service::StepEnqueuer, 0).await;
    let mut worker = session(&mesh).await;
    succeed(&mut worker, "first").await;
    succeed(&mut worker, "second").await;
    settles(&client, &task_id, TaskState::Complete).await;
    worker.drain().await;
    all_is_well(&mesh.ledger().await).await;
}
