//! Whatever somebody has put into a queue, no look into it fails.

use std::time::Duration;

use sqlx::PgPool;
use tasker_store::{Findings, Options, Store};
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
async fn a_message_that_names_no_step_breaks_no_count_and_no_repair() {
    let database = TestDatabase::fresh().await;
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(10),
        application_name: "queues".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
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
