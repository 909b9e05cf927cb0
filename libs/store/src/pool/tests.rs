//! Whatever the database believes about its tables, the statements of the hot path find rows by key.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tasker_testing::TestDatabase;

use super::*;

/// What has as many rows as there are tasks, or may have on a bad day.
const LARGE: [&str; 8] = [
    "tasks",
    "steps",
    "step_results",
    "task_details",
    "task_search",
    "leases",
    "held_steps",
    "limit_grants",
];

macro_rules! statements {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../sql/", $name, ".sql")))),*]
    };
}

const HOT: [(&str, &str); 13] = statements! {
    "tasks/create" "tasks/finalize" "steps/enqueue" "steps/start" "steps/complete" "steps/fail"
    "steps/queue_result" "steps/release" "steps/expire" "steps/retry" "steps/yield" "steps/admit"
    "leases/adopt"
};

/// What the database may have counted when a plan is made.
const STATES: [(&str, &str); 3] = [
    ("nothing", "SELECT"),
    (
        "what is mostly empty",
        "VACUUM ANALYZE leases, held_steps, limit_grants, pgmq.q_orchestration_ready_steps,
            pgmq.q_orchestration_step_results, pgmq.q_orchestration_task_finalizations,
            pgmq.q_orchestration_task_requests",
    ),
    (
        // Fewer than what autovacuum counts, but anybody may say ANALYZE.
        "a few tasks",
        "INSERT INTO templates (template_id, namespace, name, version, precedence, digest, yaml,
            step_count, root_count)
        VALUES (gen_random_uuid(), 'a', 'b', '1.0.0', '', '', '', 4, 1);
        INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready)
        SELECT gen_random_uuid(), template_id, 'a', 0, 'enqueuing_steps', 4, 1
        FROM templates, generate_series(1, 50);
        INSERT INTO steps (task_id, ordinal, name, unmet_dependencies, max_attempts)
        SELECT task_id, ordinal, ordinal::text, 0, 1 FROM tasks, generate_series(0, 3) AS ordinal;
        INSERT INTO step_results (task_id, ordinal, attempt, content_type, data)
        SELECT task_id, ordinal, 1, '', '' FROM steps;
        INSERT INTO task_search (task_id, namespace, name, version, correlation_id)
        SELECT task_id, 'a', 'b', '1.0.0', '' FROM tasks;
        INSERT INTO task_details (task_id, content_type, context, idempotency_key, correlation_id,
            requested_by, reason, traceparent, tracestate)
        SELECT task_id, '', '', '', '', '', '', '', '' FROM tasks;
        ANALYZE",
    ),
];

#[tokio::test]
async fn no_hot_statement_reads_a_table_whole_whatever_was_counted() {
    let database = TestDatabase::fresh().await;
    let store = Store::connect_lazy(&Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: std::time::Duration::from_secs(10),
        application_name: "plans".to_owned(),
    })
    .unwrap();
    let mut wrong = Vec::new();
    for (counted, count) in STATES {
        sqlx::raw_sql(count).execute(&store.durable).await.unwrap();
        for (name, statement) in HOT {
            let plan = plan(&store, statement).await;
            let mut reads = Vec::new();
            whole_reads(&plan[0]["Plan"], &mut reads);
            wrong.extend(reads.iter().map(|read| format!("{name}: {read}, {counted} counted")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The plan that the services' connections would keep.
async fn plan(store: &Store, statement: &str) -> serde_json::Value {
    let mut connection: PgConnection = store.durable.acquire().await.unwrap().detach();
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE hot AS {statement}")))
        .execute(&mut connection)
        .await
        .unwrap();
    let parameters =
        "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'hot'";
    let parameters: i32 = sqlx::query_scalar(parameters).fetch_one(&mut connection).await.unwrap();
    let nulls = vec!["NULL"; usize::try_from(parameters).unwrap()].join(", ");
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE hot ({nulls})");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    serde_json::from_str(row.try_get_unchecked::<&str, _>(0).unwrap()).unwrap()
}

fn whole_reads(node: &serde_json::Value, found: &mut Vec<String>) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let table = node["Relation Name"].as_str().unwrap_or_default();
    let large = LARGE.contains(&table) || table.starts_with("q_");
    let by_key = ["Index Cond", "Recheck Cond"].iter().any(|key| !node[*key].is_null());
    if large && kind != "ModifyTable" && !by_key {
        found.push(format!("{kind} of {table}"));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        whole_reads(child, found);
    }
}
