//! One statement makes tasks, once for each identity, of the template that was asked for.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::{collections::HashMap, time::Duration};

use sqlx::PgPool;
use tasker_domain::{SessionId, TaskId, Template, TemplateId, identity};
use tasker_store::{
    ByHand, NewTask, Options, Payload, Place, Registered, Store, StoreError, TemplateName, Unborn,
};
use tasker_testing::TestDatabase;
use uuid::Uuid;

const ACTOR: &str = "births";
const PATIENCE: Duration = Duration::from_secs(30);
const QUEUE: &str = "orchestration_task_requests";

/// Two replicas, and a look into what they share.
struct Bench {
    here: Store,
    there: Store,
    pool: PgPool,
    _database: TestDatabase,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            application_name: ACTOR.to_owned(),
        };
        Self {
            here: Store::connect(&options).await.unwrap(),
            there: Store::connect(&options).await.unwrap(),
            pool: PgPool::connect(database.url()).await.unwrap(),
            _database: database,
        }
    }

    async fn number(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.unwrap()
    }

    async fn tasks(&self) -> i64 {
        self.number("SELECT count(*) FROM tasks").await
    }

    /// A request's message, as a program leaves it.
    async fn message(&self) -> i64 {
        let sent = sqlx::query_scalar("SELECT pgmq.send($1, '{}')").bind(QUEUE);
        sent.fetch_one(&self.pool).await.unwrap()
    }

    async fn messages(&self) -> Vec<i64> {
        let left = "SELECT msg_id FROM pgmq.q_orchestration_task_requests ORDER BY msg_id";
        sqlx::query_scalar(left).fetch_all(&self.pool).await.unwrap()
    }
}

async fn register(store: &Store, version: &str) -> TemplateId {
    let yaml = format!(
        "{{namespace: births, name: two_steps, version: {version}, steps: [
            {{name: first, handler: {{callable: any}}}},
            {{name: second, handler: {{callable: any}}, dependencies: [first]}}]}}"
    );
    let template = Template::parse(&yaml).unwrap();
    match store.register_template(&template, &yaml, "").await.unwrap() {
        Registered::As(row) => row.template_id,
        Registered::Otherwise => panic!("{version} is registered otherwise"),
    }
}

fn named(version: &str) -> TemplateName {
    TemplateName {
        namespace: "births".to_owned(),
        name: "two_steps".to_owned(),
        version: version.to_owned(),
    }
}

async fn by_name(store: &Store, version: &str) -> Option<TemplateId> {
    store.template_by_name(&named(version)).await.unwrap().map(|(id, _)| id)
}

fn a_task(template: TemplateId) -> NewTask {
    NewTask {
        message_id: None,
        task_id: TaskId::new(),
        template_id: template.0,
        newest: false,
        steps: 2,
        repetition: None,
        identity: None,
        priority: 0,
        context: Payload {
            content_type: "application/json".to_owned(),
            data: "{}".into(),
            ..Payload::default()
        },
        idempotency_key: String::new(),
        correlation_id: String::new(),
        requested_by: String::new(),
        reason: String::new(),
        look_after: None,
        traceparent: String::new(),
        tracestate: String::new(),
    }
}

/// Why the only task of a batch is not born; `None` if it is.
async fn create(store: &Store, task: &NewTask) -> Option<Unborn> {
    let born = store.create_tasks([task], ACTOR).await.unwrap();
    let ready: Vec<_> = born.ready.iter().map(|step| step.task_id).collect();
    match born.unborn[..] {
        [] => {
            assert_eq!(ready, [task.task_id.0], "what is born has a step that is ready");
            None
        }
        [(task_id, why)] => {
            assert_eq!((task_id, ready.len()), (task.task_id, 0));
            Some(why)
        }
        _ => panic!("{:?}", born.unborn),
    }
}

/// A place for the first step of a task.
fn place(session: SessionId) -> Place {
    let (delivery_id, session_id) = (Uuid::now_v7(), session.0);
    Place { ordinal: 0, delivery_id, session_id, timeout_ms: 60_000 }
}

#[tokio::test]
async fn a_first_step_begins_in_the_place_kept_for_it_unless_its_template_is_paused() {
    let bench = Bench::new().await;
    let template = register(&bench.here, "1.0.0").await;
    let session = SessionId::new();
    bench.here.open_session(session, "worker", &[], &[], Duration::from_secs(60)).await.unwrap();
    let [begins, waits] = [a_task(template), a_task(template)];
    let kept = place(session);
    let places = HashMap::from([(begins.task_id.0, vec![kept])]);
    let born = bench.here.create_tasks_in_places([&begins, &waits], &places, ACTOR).await.unwrap();
    let [started] = &born.started[..] else { panic!("{:?}", born.started) };
    assert_eq!((started.held.task_id, started.held.ordinal), (begins.task_id.0, 0));
    assert_eq!((started.held.delivery_id, started.attempt), (kept.delivery_id, 1));
    assert_eq!((started.name.as_str(), started.max_attempts), ("first", 3));
    let ready: Vec<_> = born.ready.iter().map(|step| step.task_id).collect();
    assert_eq!(ready, [waits.task_id.0]);
    let leased = "SELECT count(*) FROM leases JOIN steps USING (task_id, ordinal, delivery_id)
        JOIN tasks USING (task_id)
        WHERE steps.state = 'in_progress' AND attempt = 1 AND tasks.state = 'steps_in_process'
          AND (ready, in_flight, total) = (0, 1, 2)";
    assert_eq!(bench.number(leased).await, 1);
    // The task's own beginning is told before its step's.
    let in_order = "SELECT count(*) FROM task_transitions AS task JOIN step_transitions AS step USING (task_id)
        WHERE task.transition_id < step.transition_id
          AND task.events = '{Start,ReadyStepsFound,StepsEnqueued}' AND step.events = '{Enqueue,Start}'";
    assert_eq!(bench.number(in_order).await, 1);

    let operator = ByHand { operator: "operator:ana".to_owned(), reason: String::new() };
    assert!(bench.there.pause_template(&named(""), &operator).await.unwrap());
    let paused = a_task(template);
    let places = HashMap::from([(paused.task_id.0, vec![place(session)])]);
    let born = bench.here.create_tasks_in_places([&paused], &places, ACTOR).await.unwrap();
    assert!(born.started.is_empty(), "{:?}", born.started);
    assert_eq!(born.ready.len(), 1);
}

#[tokio::test]
async fn a_newer_version_is_used_by_every_replica_once_its_registration_is_answered() {
    let bench = Bench::new().await;
    assert_eq!(by_name(&bench.there, "").await, None, "what is not there is not remembered");
    let old = register(&bench.here, "1.9.0").await;
    assert_eq!(by_name(&bench.there, "").await, Some(old));
    let newest = NewTask { newest: true, ..a_task(old) };
    assert_eq!(create(&bench.there, &newest).await, None);

    let new = register(&bench.here, "1.10.0").await;
    assert_eq!(by_name(&bench.here, "").await, Some(new));
    assert_eq!(by_name(&bench.there, "").await, Some(old), "the other replica was not told");
    let outdated = NewTask { newest: true, ..a_task(old) };
    assert_eq!(create(&bench.there, &outdated).await, Some(Unborn::Outdated));
    assert_eq!(bench.tasks().await, 1);

    bench.there.forget_template_name(&named("")).await;
    assert_eq!(by_name(&bench.there, "").await, Some(new));
    assert_eq!(create(&bench.there, &NewTask { newest: true, ..a_task(new) }).await, None);
    // Who names a version gets it.
    assert_eq!(by_name(&bench.there, "1.9.0").await, Some(old));
    assert_eq!(create(&bench.there, &a_task(old)).await, None);
    // Neither an older version nor a pre-release is newer.
    register(&bench.here, "1.2.0").await;
    register(&bench.here, "2.0.0-rc.1").await;
    assert_eq!(create(&bench.there, &NewTask { newest: true, ..a_task(new) }).await, None);
}

#[tokio::test]
async fn a_template_that_is_not_there_gives_no_task() {
    let bench = Bench::new().await;
    let lost = a_task(TemplateId::new());
    assert_eq!(create(&bench.here, &lost).await, Some(Unborn::Outdated));
    assert_eq!(bench.tasks().await, 0);
}

#[tokio::test]
async fn known_keys_give_no_task_and_say_which_has_them() {
    let bench = Bench::new().await;
    let template = register(&bench.here, "1.0.0").await;
    let (request, identity) = (identity::request_key("one"), identity::request_key("two"));
    let keyed = |repetition, identity| NewTask { repetition, identity, ..a_task(template) };
    let first = keyed(Some(request), Some(identity));
    assert_eq!(create(&bench.here, &first).await, None);

    let repeated = Some(Unborn::Repeated(first.task_id));
    let exists = Some(Unborn::Exists(first.task_id));
    let other = identity::request_key("three");
    assert_eq!(create(&bench.there, &keyed(Some(request), Some(identity))).await, repeated);
    assert_eq!(create(&bench.there, &keyed(Some(request), None)).await, repeated);
    assert_eq!(create(&bench.there, &keyed(Some(other), Some(identity))).await, exists);

    // A repeat is one though the newest version is another since; a twin of an old version is not.
    register(&bench.here, "1.1.0").await;
    let newest = |repetition, identity| NewTask { newest: true, ..keyed(repetition, identity) };
    assert_eq!(create(&bench.there, &newest(Some(request), Some(identity))).await, repeated);
    let outdated = newest(Some(other), Some(identity));
    assert_eq!(create(&bench.there, &outdated).await, Some(Unborn::Outdated));

    // What is known stands in nobody's way.
    let (known, new) = (keyed(Some(request), None), keyed(Some(other), None));
    let born = bench.here.create_tasks([&known, &new, &a_task(template)], ACTOR).await.unwrap();
    assert_eq!(born.unborn, [(known.task_id, Unborn::Repeated(first.task_id))]);
    assert_eq!(born.ready.len(), 2);
    assert_eq!(bench.tasks().await, 3);
    assert_eq!(bench.number("SELECT count(*) FROM task_identities").await, 3);
}

#[tokio::test]
async fn a_key_that_another_takes_at_the_same_moment_is_a_conflict_and_known_to_the_next_try() {
    let bench = Bench::new().await;
    let template = register(&bench.here, "1.0.0").await;
    let key = identity::request_key("one");
    let first = TaskId::new();
    let mut other = bench.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready)
         VALUES ($1, $2, 'births', 0, 'enqueuing_steps', 2, 1)",
    )
    .bind(first.0)
    .bind(template.0)
    .execute(&mut *other)
    .await
    .unwrap();
    sqlx::query("INSERT INTO task_identities (identity, task_id) VALUES ($1, $2)")
        .bind(key.as_slice())
        .bind(first.0)
        .execute(&mut *other)
        .await
        .unwrap();
    let process: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *other).await.unwrap();
    let second = NewTask { repetition: Some(key), ..a_task(template) };
    let waits = async {
        let blocked =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))";
        let is_blocked = async || {
            let asked = sqlx::query_scalar::<_, bool>(blocked).bind(process);
            asked.fetch_one(&bench.pool).await.unwrap()
        };
        let until = async { while !is_blocked().await {} };
        tokio::time::timeout(PATIENCE, until).await.expect("the second task waits for the first");
        other.commit().await.unwrap();
    };
    let (tried, ()) = tokio::join!(bench.here.create_tasks([&second], ACTOR), waits);
    assert!(matches!(tried, Err(StoreError::Conflict { .. })), "{tried:?}");
    assert_eq!(create(&bench.here, &second).await, Some(Unborn::Repeated(first)));
    assert_eq!(bench.tasks().await, 1);
}

#[tokio::test]
async fn a_message_goes_with_what_it_asked_for_and_stays_where_nothing_was_done() {
    let bench = Bench::new().await;
    let template = register(&bench.here, "1.0.0").await;
    let (request, identity) = (identity::request_key("one"), identity::request_key("two"));
    let by = |message_id, repetition, identity| NewTask {
        message_id: Some(message_id),
        repetition,
        identity,
        ..a_task(template)
    };
    let message = bench.message().await;
    let first = by(message, Some(request), Some(identity));
    assert_eq!(create(&bench.here, &first).await, None);
    assert!(bench.messages().await.is_empty());

    // Read by two replicas, since it was hidden for too short a time.
    let again = by(message, None, None);
    assert_eq!(create(&bench.there, &again).await, Some(Unborn::Gone));

    let repeat = by(bench.message().await, Some(request), Some(identity));
    let repeated = Some(Unborn::Repeated(first.task_id));
    assert_eq!(create(&bench.here, &repeat).await, repeated);
    assert!(bench.messages().await.is_empty(), "a repeat's message is worked off");

    let twin = by(bench.message().await, None, Some(identity));
    let exists = Some(Unborn::Exists(first.task_id));
    assert_eq!(create(&bench.here, &twin).await, exists);
    let left = bench.messages().await;
    assert_eq!(left.len(), 1, "the caller parks it, with the reason");
    bench.here.drop_requests(&left).await.unwrap();
    assert!(bench.messages().await.is_empty());
    assert_eq!(bench.tasks().await, 1);
}

#[tokio::test]
async fn a_message_that_somebody_else_is_at_is_left_to_them() {
    let bench = Bench::new().await;
    let template = register(&bench.here, "1.0.0").await;
    let message = bench.message().await;
    let mut other = bench.pool.begin().await.unwrap();
    sqlx::query("DELETE FROM pgmq.q_orchestration_task_requests WHERE msg_id = $1")
        .bind(message)
        .execute(&mut *other)
        .await
        .unwrap();
    let task = NewTask { message_id: Some(message), ..a_task(template) };
    assert_eq!(create(&bench.here, &task).await, Some(Unborn::Gone));
    other.rollback().await.unwrap();
    assert_eq!(create(&bench.here, &task).await, None);
    assert_eq!(bench.tasks().await, 1);
}
