//! How PostgreSQL goes about statements, by the plan that is kept for all calls. What it must not read whole
//! is found by index, also where statistics say that the table is empty, or that it is long.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tasker_store::{Options, Store};
use tasker_testing::TestDatabase;

use crate::explained::{Statement, connection};

const PAUSES: &str = "INSERT INTO pauses (namespace, name, version, paused_by, reason)
    SELECT 'plans', 'template ' || n, '', 'ana', '' FROM generate_series(1, 10000) AS n";
const TEMPLATES: &str =
    "INSERT INTO templates (template_id, namespace, name, version, precedence, digest,
        yaml, step_count, root_count)
    SELECT gen_random_uuid(), 'plans', 'template ' || n, '1.0.0', '', '', '', 1, 1
    FROM generate_series(1, 10000) AS n";
const ONE_TASK: &str =
    "INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready)
    SELECT gen_random_uuid(), template_id, 'plans', 0, 'enqueuing_steps', 1, 1 FROM templates LIMIT 1";
const GRANTS: &str =
    "INSERT INTO limit_grants (namespace, limit_name, limit_value, task_id, ordinal, attempt,
        granted_at, counts_until)
    SELECT 'plans', 'limit', '', gen_random_uuid(), 0, 1, now(), now() + n * interval '1 s'
    FROM generate_series(-5000, 5000) AS n";

/// What begins steps: it asks `paused_templates_now`.
const BEGINNING: [&str; 5] =
    ["steps/enqueue", "steps/start", "steps/complete", "steps/admit", "steps/lock"];

/// A database in which these have run.
async fn with(statements: &[&str]) -> TestDatabase {
    let database = TestDatabase::fresh().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for statement in statements.iter().chain(&["ANALYZE"]) {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    database
}

/// Every node of a plan that reads a table, but for those that ask once whether it has any row.
fn reads(plan: &Value, table: &str) -> Vec<Value> {
    let mut found = Vec::new();
    match plan {
        Value::Object(node) => {
            let is = |field: &str, value: &str| node.get(field).is_some_and(|it| it == value);
            let asks = node.get("Output").is_some_and(|output| *output == json!(["true"]));
            if asks && is("Node Type", "Limit") && is("Parent Relationship", "InitPlan") {
                return found;
            }
            let scans = node.get("Node Type").and_then(Value::as_str);
            let scans = scans.is_some_and(|kind| kind.contains("Scan"));
            if scans && is("Relation Name", table) {
                found.push(plan.clone());
            }
            found.extend(node.values().flat_map(|value| reads(value, table)));
        }
        Value::Array(nodes) => found.extend(nodes.iter().flat_map(|node| reads(node, table))),
        _ => {}
    }
    found
}

/// Checks that a statement reads a table, and each time by an index and these of its columns.
async fn looks_up(database: &TestDatabase, statement: &str, table: &str, columns: &[&str]) {
    let mut connection = connection(database).await;
    let plan = Statement::named(statement).plan(&mut connection).await;
    let reads = reads(&plan, table);
    assert!(!reads.is_empty(), "{statement} does not read {table}: {plan:#}");
    for read in reads {
        let by = read["Index Cond"].as_str().unwrap_or_default();
        let whole = columns.iter().find(|column| !by.contains(**column));
        assert!(whole.is_none(), "{statement} reads {table}, and not by {whole:?}: {read:#}");
    }
}

#[tokio::test]
async fn whether_a_template_is_paused_is_looked_up_however_many_are() {
    for database in [with(&[]).await, with(&[TEMPLATES, PAUSES]).await] {
        let statement = "held_steps/let_go";
        looks_up(&database, statement, "pauses", &["namespace", "name"]).await;
        looks_up(&database, statement, "templates", &["template_id"]).await;
        let mut connection = connection(&database).await;
        for statement in BEGINNING {
            let plan = Statement::named(statement).plan(&mut connection).await;
            assert!(plan.to_string().contains("paused_templates_now("), "{statement}: {plan:#}");
            assert_eq!(reads(&plan, "pauses"), [Value::Null; 0], "{statement} asks by itself, too");
        }
        // What it reads, by the counters of its transaction.
        sqlx::raw_sql(AssertSqlSafe(ONE_TASK)).execute(&mut *connection).await.unwrap();
        let mut one = connection.begin().await.unwrap();
        let asked: i32 = sqlx::query_scalar(
            "SELECT cardinality(paused_templates_now(ARRAY(SELECT task_id FROM tasks)))",
        )
        .fetch_one(&mut *one)
        .await
        .unwrap();
        let read: i64 = sqlx::query_scalar(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
            FROM pg_stat_xact_user_tables WHERE relname IN ('pauses', 'templates')",
        )
        .fetch_one(&mut *one)
        .await
        .unwrap();
        let paused: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pauses").fetch_one(&mut *one).await.unwrap();
        assert_eq!(i64::from(asked), paused.min(1));
        assert!(read <= 5, "{read} rows are read for one task");
    }
}

#[tokio::test]
async fn what_no_limit_counts_any_more_is_found_without_reading_the_rest() {
    for database in [with(&[]).await, with(&[GRANTS]).await] {
        looks_up(&database, "limit_grants/purge", "steps", &["task_id", "ordinal"]).await;
        let mut connection = connection(&database).await;
        let plan = Statement::named("limit_grants/purge").plan(&mut connection).await;
        let kinds: Vec<_> = reads(&plan, "limit_grants")
            .iter()
            .map(|read| (read["Node Type"].clone(), read["Index Cond"].clone()))
            .collect();
        let of_index = (Value::from("Index Scan"), Value::from("(granted.counts_until < now())"));
        let by_place = (Value::from("Tid Scan"), Value::Null);
        assert!(
            kinds.len() == 2 && kinds.contains(&of_index) && kinds.contains(&by_place),
            "{plan:#}"
        );
    }
}

#[tokio::test]
async fn what_is_forgotten_of_limits_at_once_is_bounded() {
    let database = with(&[GRANTS]).await;
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(10),
        application_name: "plans".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
    let mut purged = Vec::new();
    while purged.last() != Some(&0) {
        purged.push(store.purge_limit_grants(4_000).await.unwrap());
    }
    // Those whose time is over; the last of them perhaps while this ran.
    assert_eq!(purged[0], 4_000);
    assert!((5_000..5_100).contains(&purged.iter().sum::<u64>()), "{purged:?}");
}
