//! How PostgreSQL goes about statements, by the plan that is kept for all calls. What it must not read whole
//! is found by index, also where statistics say that the table is empty, or that it is long.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tasker_testing::TestDatabase;

use crate::explained::{Statement, connection};

const PAUSES: &str = "INSERT INTO pauses (namespace, name, version, paused_by, reason)
    SELECT 'plans', 'template ' || n, '', 'ana', '' FROM generate_series(1, 10000) AS n";
const TEMPLATES: &str =
    "INSERT INTO templates (template_id, namespace, name, version, precedence, digest,
        yaml, step_count, root_count)
    SELECT gen_random_uuid(), 'plans', 'template ' || n, '1.0.0', '', '', '', 1, 1
    FROM generate_series(1, 10000) AS n";

const PAUSABLE: [&str; 5] =
    ["steps/enqueue", "steps/start", "steps/complete", "steps/admit", "held_steps/let_go"];

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
        for statement in PAUSABLE {
            looks_up(&database, statement, "pauses", &["namespace", "name"]).await;
            looks_up(&database, statement, "templates", &["template_id"]).await;
        }
    }
}
