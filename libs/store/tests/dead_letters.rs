//! Putting tasks among the dead letters by hand.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::{DeadLetterStatus, TaskId, Template};
use tasker_store::{CreatedByHand, DeadLetterUpdate, NewTask, Options, Payload, Registered, Store};
use tasker_testing::TestDatabase;

const ACTOR: &str = "operator:ada";
const YAML: &str = "{namespace: letters, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}}]}";
/// As often as an entry comes and goes.
const ROUNDS: usize = 300;

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
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(10),
        application_name: "dead_letters".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
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
