//! Whatever somebody has put into a queue, no look into it fails.

use std::time::Duration;

use sqlx::PgPool;
use tasker_store::{Findings, Front, Options, Store};
use tasker_testing::TestDatabase;

const QUEUES: [&str; 3] =
    ["worker_queues_queue", "worker_queues_queue_dlq", "orchestration_ready_steps_dlq"];
const MESSAGES: [&str; 6] = [
    "17",
    "[]",
    r#"{"callable": "nobodys"}"#,
    r#"{"callable": "nobodys", "task_id": "none", "ordinal": 0}"#,
    r#"{"callable": "nobodys", "task_id": "01890000-0000-7000-8000-000000000000", "ordinal": "none"}"#,
    r#"{"callable": "nobodys", "task_id": "01890000-0000-7000-8000-000000000000",
        "ordinal": 99999999999999}"#,
];

#[tokio::test]
async fn a_look_finds_the_same_in_the_same_order_whichever_priorities_it_knows() {
    let database = TestDatabase::fresh().await;
    let (store, pool) = open(&database).await;
    sqlx::query("SELECT pgmq.create('worker_looks_queue')").execute(&pool).await.unwrap();
    let ordered = sqlx::query("SELECT order_queue_by_priority('worker_looks_queue')");
    ordered.execute(&pool).await.unwrap();
    let send = "SELECT pgmq.send('worker_looks_queue', waiting_step(
            gen_random_uuid(), 0, gen_random_uuid(), priority, 'any', NULL))
        FROM unnest($1::smallint[]) AS priority";
    // Later messages have higher priorities, and some the same.
    let priorities: Vec<i16> = (0..200).map(|n| n / 10 * 10 - 100).collect();
    sqlx::query(send).bind(priorities).execute(&pool).await.unwrap();
    let look = async |message_id: i64, priorities: &[i16]| {
        let from = Front { message_id, priorities: priorities.to_vec() };
        let seen = store.waiting_steps("looks", &["any".to_owned()], &from, 25).await.unwrap();
        let beyond = seen.beyond.map(|beyond| (beyond.priority, beyond.task_id));
        let mut steps: Vec<i64> = seen.steps.iter().map(|step| step.message_id).collect();
        steps.sort_unstable();
        (steps, beyond)
    };
    let (oldest, most_urgent) = (1..=25, (171..=175).chain(181..=200));
    assert_eq!(look(0, &[]).await.0, oldest.chain(most_urgent).collect::<Vec<_>>());
    for from in [0, 1, 40, 150, 190] {
        let expected = look(from, &[]).await;
        for known in [&[90][..], &[-100], &[0, 10, 80], &[90, 80, 70, 60], &[i16::MAX, i16::MIN]] {
            assert_eq!(look(from, known).await, expected, "from {from} with {known:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_names_no_step_breaks_no_count_and_no_repair() {
    let database = TestDatabase::fresh().await;
    let (store, pool) = open(&database).await;
    for queue in QUEUES {
        sqlx::query("SELECT pgmq.create($1)").bind(queue).execute(&pool).await.unwrap();
        for message in MESSAGES {
            let send = sqlx::query("SELECT pgmq.send($1, $2::jsonb)").bind(queue).bind(message);
            send.execute(&pool).await.unwrap();
        }
    }
    assert!(store.steps_without_worker().await.unwrap().is_empty());
    assert_eq!(store.reconcile("queues").await.unwrap(), Some(Findings::default()));
}

async fn open(database: &TestDatabase) -> (Store, PgPool) {
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(10),
        application_name: "queues".to_owned(),
    };
    let store = Store::connect(&options).await.expect("the database is there");
    (store, PgPool::connect(database.url()).await.expect("the database is there"))
}
