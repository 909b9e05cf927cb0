//! Those who send a message, and those who read it, mean the same.

use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tasker_store::{Finalization, Queued, QueuedResult, ReadyStep, WaitingStep};
use tasker_testing::TestDatabase;

use crate::explained::{Statement, connection};

/// What builds the messages, and the headers of each.
const BUILDERS: [&str; 5] =
    ["ready_step", "waiting_step", "queued_result", "finalization", "trace_headers"];

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The body that `call` builds, and what its reader makes of it.
async fn built<M: Queued>(call: &'static str) -> (Value, M) {
    let database = TestDatabase::fresh().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let body: Value = sqlx::query_scalar(call).fetch_one(&mut connection).await.unwrap();
    let headers: Value = sqlx::query_scalar("SELECT trace_headers($1)")
        .bind(TRACEPARENT)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let message = M::read(7, body.clone(), Some(&headers)).unwrap();
    (body, message)
}

/// Written again, a message says what it was read from: no field was passed over, and none made up.
async fn read_to_the_last_field<M: Queued + Serialize>(call: &'static str) {
    let (body, message) = built::<M>(call).await;
    assert_eq!(serde_json::to_value(&message).unwrap(), body, "{call}");
}

#[tokio::test]
async fn a_ready_step_is_read_to_the_last_field() {
    read_to_the_last_field::<ReadyStep>(
        "SELECT ready_step(gen_random_uuid(), 3, 'orders', gen_random_uuid(), -7::smallint, 2)",
    )
    .await;
    read_to_the_last_field::<ReadyStep>(
        "SELECT ready_step(gen_random_uuid(), 3, 'orders', gen_random_uuid(), 7::smallint, NULL)",
    )
    .await;
}

#[tokio::test]
async fn a_waiting_step_is_read_to_the_last_field() {
    read_to_the_last_field::<WaitingStep>(
        "SELECT waiting_step(gen_random_uuid(), 3, gen_random_uuid(), -7::smallint, 'pay', 2)",
    )
    .await;
    read_to_the_last_field::<WaitingStep>(
        "SELECT waiting_step(gen_random_uuid(), 3, gen_random_uuid(), 7::smallint, 'pay', NULL)",
    )
    .await;
}

#[tokio::test]
async fn a_queued_result_is_read_to_the_last_field() {
    read_to_the_last_field::<QueuedResult>(
        "SELECT queued_result(gen_random_uuid(), 3, gen_random_uuid(), 2, true, 'declined', true,
            'worker', true, true, 1500)",
    )
    .await;
    read_to_the_last_field::<QueuedResult>(
        "SELECT queued_result(gen_random_uuid(), 3, gen_random_uuid(), 1, false, '', false,
            'worker', false, false, NULL)",
    )
    .await;
}

#[tokio::test]
async fn a_finalization_is_read_to_the_last_field() {
    read_to_the_last_field::<Finalization>("SELECT finalization(gen_random_uuid())").await;
}

#[tokio::test]
async fn a_message_is_read_with_the_span_that_sent_it() {
    let (_, message) = built::<Finalization>("SELECT finalization(gen_random_uuid())").await;
    assert_eq!((message.message_id, message.traceparent.as_str()), (7, TRACEPARENT));
}

#[test]
fn no_statement_builds_a_message_by_itself() {
    let builds = |statement: &Statement| {
        let text = statement.text.to_lowercase();
        text.contains("json_build_") || text.contains("jsonb_build_")
    };
    let found = Statement::all().into_iter().filter(builds).map(|statement| statement.name);
    assert_eq!(
        found.collect::<Vec<_>>(),
        [""; 0],
        "use a function of migrations/0025_messages.sql"
    );
}

#[tokio::test]
async fn no_statement_pays_for_the_call_of_what_builds_its_messages() {
    let database = TestDatabase::fresh().await;
    let mut connection = connection(&database).await;
    let mut sending = 0;
    for statement in Statement::all() {
        let plan = statement.plan(&mut connection).await.to_string();
        for builder in BUILDERS.iter().map(|name| format!("{name}(")) {
            if statement.text.contains(&builder) {
                assert!(plan.contains("jsonb_build_object("), "{}: {plan}", statement.name);
                sending += 1;
            }
            assert!(!plan.contains(&builder), "{} calls {builder}…): {plan}", statement.name);
        }
    }
    assert!(sending > BUILDERS.len());
}
