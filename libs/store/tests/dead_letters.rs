//! Putting tasks among the dead letters by hand.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::{DeadLetterReason, DeadLetterStatus, TaskId, Template};
use tasker_store::{
    CreatedByHand, DeadLetterUpdate, NewDeadLetter, NewTask, Options, Payload, Registered, Store,
};
use tasker_testing::TestDatabase;

const ACTOR: &str = "operator:ada";
const YAML: &str = "{namespace: letters, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}}]}";
/// As often as an entry comes and goes.
const ROUNDS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(database: &TestDatabase) -> Store {
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(10),
        application_name: "dead_letters".to_owned(),
    };
    Store::connect(&options).await.unwrap()
}

async fn a_task(store: &Store) -> TaskId {
    let template = Template::parse(YAML).unwrap();
    let registered = store.register_template(&template, YAML, "").await.unwrap();
    let Registered::As(row) = registered else { panic!("{registered:?}") };
    let task = NewTask {
        message_id: None,
        task_id: TaskId::new(),
        template_id: row.template_id.0,
        newest: false,
        steps: 1,
        look_after: None,
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
        traceparent: String::new(),
        tracestate: String::new(),
    };
    store.create_tasks([&task], ACTOR).await.unwrap();
    task.task_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_never_said_to_be_missing_while_its_entries_come_and_go() {
    let database = TestDatabase::fresh().await;
    let store = connect(&database).await;
    let task = a_task(&store).await;
    let creates = async || store.create_dead_letter_by_hand(task, "odd", ACTOR, "").await.unwrap();
    let come_and_go = async {
        let resolved = DeadLetterUpdate {
            status: Some(DeadLetterStatus::ManuallyResolved),
            notes: None,
            resolver: ACTOR.to_owned(),
        };
        for _ in 0..ROUNDS {
            let (CreatedByHand::Entry(entry) | CreatedByHand::Pending(entry)) = creates().await
            else {
                panic!("the task is there");
            };
            store.update_dead_letter(entry, &resolved).await.unwrap();
        }
    };
    let others = async {
        for _ in 0..ROUNDS {
            let created = creates().await;
            assert!(
                matches!(created, CreatedByHand::Entry(_) | CreatedByHand::Pending(_)),
                "{created:?}"
            );
        }
    };
    tokio::join!(come_and_go, others);
    let nobodys = store.create_dead_letter_by_hand(TaskId::new(), "odd", ACTOR, "").await.unwrap();
    assert_eq!(nobodys, CreatedByHand::NoTask);
    let pool = PgPool::connect(database.url()).await.unwrap();
    let pending: i64 =
        sqlx::query_scalar("SELECT count(*) FROM task_dead_letters WHERE status = 'pending'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(pending <= 1, "{pending} entries are pending");
}

/// Puts it among the dead letters while a transaction ends it, and says whether there is an entry afterwards.
async fn is_found(reason: DeadLetterReason, lasted: Option<Duration>) -> bool {
    let database = TestDatabase::fresh().await;
    let store = connect(&database).await;
    let task = a_task(&store).await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let end = "UPDATE tasks SET state = 'cancelled', ready = 0 WHERE task_id = $1";
    sqlx::query(end).bind(task.0).execute(&mut *other).await.unwrap();
    let search =
        "UPDATE task_search SET rests_in = 'cancelled', ended_at = now() WHERE task_id = $1";
    sqlx::query(search).bind(task.0).execute(&mut *other).await.unwrap();
    let process: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *other).await.unwrap();
    let letter = NewDeadLetter { task_id: task, reason, detail: "it lasts".to_owned(), lasted };
    let letters = [letter];
    let ends = async {
        let blocked =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))";
        let is_blocked = async || {
            let asked = sqlx::query_scalar::<_, bool>(blocked).bind(process);
            asked.fetch_one(&pool).await.unwrap()
        };
        let until = async { while !is_blocked().await {} };
        tokio::time::timeout(PATIENCE, until).await.expect("the entry waits for the task");
        other.commit().await.unwrap();
    };
    let (created, ()) = tokio::join!(store.create_dead_letters(&letters, ACTOR), ends);
    !created.unwrap().is_empty()
}

#[tokio::test]
async fn what_lasted_does_so_no_more_once_its_task_has_ended() {
    let lasted = Some(Duration::from_secs(1));
    assert!(!is_found(DeadLetterReason::Staleness, lasted).await);
    // A message that cannot be worked off is one, whatever has become of its task.
    assert!(is_found(DeadLetterReason::PoisonMessage, None).await);
}

#[tokio::test]
async fn an_entry_is_closed_though_what_ended_its_task_began_before_it_was_made() {
    let database = TestDatabase::fresh().await;
    let store = connect(&database).await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let (stale, odd) = (a_task(&store).await, a_task(&store).await);
    let letter = NewDeadLetter {
        task_id: stale,
        reason: DeadLetterReason::Staleness,
        detail: "it lasts".to_owned(),
        lasted: Some(Duration::from_secs(1)),
    };
    assert_eq!(store.create_dead_letters(&[letter], ACTOR).await.unwrap().len(), 1);
    // Somebody wants a task looked into that has ended: that it has closes nothing.
    store.create_dead_letter_by_hand(odd, "odd", ACTOR, "").await.unwrap();
    let ended =
        "UPDATE task_search SET rests_in = 'complete', ended_at = now() - interval '1 minute'";
    sqlx::query(ended).execute(&pool).await.unwrap();
    assert_eq!(store.close_dead_letters(ACTOR).await.unwrap(), 1);
    let closed = "SELECT task_id, resolved_at >= created_at FROM task_dead_letters
        WHERE status <> 'pending'";
    let closed: Vec<(uuid::Uuid, bool)> = sqlx::query_as(closed).fetch_all(&pool).await.unwrap();
    assert_eq!(closed, [(stale.0, true)], "resolved, and not before it was made");
}
