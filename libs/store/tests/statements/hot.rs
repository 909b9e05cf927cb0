//! Whatever the database believes about its tables, the statements of the hot path find rows by key.

use serde_json::Value;
use tasker_testing::TestDatabase;

use crate::explained::{Statement, connection};

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

const HOT: [&str; 13] = [
    "tasks/create",
    "tasks/finalize",
    "steps/enqueue",
    "steps/start",
    "steps/complete",
    "steps/fail",
    "steps/queue_result",
    "steps/release",
    "steps/expire",
    "steps/retry",
    "steps/yield",
    "steps/admit",
    "leases/adopt",
];

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
    let mut connection = connection(&database).await;
    let mut wrong = Vec::new();
    for (counted, count) in STATES {
        sqlx::raw_sql(count).execute(&mut *connection).await.unwrap();
        for name in HOT {
            let plan = Statement::named(name).plan(&mut connection).await;
            let mut reads = Vec::new();
            whole_reads(&plan[0]["Plan"], &mut reads);
            wrong.extend(reads.iter().map(|read| format!("{name}: {read}, {counted} counted")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn whole_reads(node: &Value, found: &mut Vec<String>) {
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
