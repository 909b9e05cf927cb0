//! Tables are counted for plans, and vacuumed, while they are under load: nobody is to wait for it.

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::Template;
use tasker_store::{Options, Store};
use tasker_testing::TestDatabase;

const YAML: &str = "{namespace: counted, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}, publishes_events: [{name: done, delivery: durable}]}]}";

async fn store(database: &TestDatabase) -> Store {
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(10),
        application_name: "counted".to_owned(),
    };
    Store::connect(&options).await.unwrap()
}

#[tokio::test]
async fn of_tables_that_move_no_column_has_more_than_a_tenth_of_the_usual_rows_counted() {
    let database = TestDatabase::fresh().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    // For each, 300 rows are read, for all columns the same; unset, it is 100.
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attrelid::regclass || '.' || attname FROM pg_attribute
        WHERE attrelid IN ('tasks'::regclass, 'task_details'::regclass, 'task_identities'::regclass,
                'steps'::regclass, 'step_results'::regclass)
            AND attnum > 0 AND NOT attisdropped AND coalesce(attstattarget, -1) NOT BETWEEN 0 AND 10",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(columns.is_empty(), "ALTER COLUMN … SET STATISTICS 10, as migration 37: {columns:?}");
}

#[tokio::test]
async fn history_is_never_counted_whichever_partition_it_lies_in() {
    let database = TestDatabase::fresh().await;
    let store = store(&database).await;
    store.maintain_history(3, 30).await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    let partitions: Vec<(String, Option<Vec<String>>)> = sqlx::query_as(
        "SELECT relname::text, reloptions FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent IN ('task_transitions'::regclass, 'step_transitions'::regclass)",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(partitions.len() >= 2 * (1 + 4), "{partitions:?}");
    for (name, options) in partitions {
        let never = "autovacuum_analyze_threshold=2147483647".to_owned();
        assert!(options.unwrap_or_default().contains(&never), "{name}");
    }
}

/// How a table is told to be counted and vacuumed.
#[derive(sqlx::FromRow)]
struct Upkeep {
    name: String,
    count_after: f64,
    count_share: f64,
    inserts: f64,
    inserts_share: f64,
    dead: f64,
    dead_share: f64,
}

/// Too often, and all is planned anew each time; too seldom, and lists are planned by what was.
#[tokio::test]
async fn tables_that_move_are_counted_again_when_they_have_grown_neither_before_nor_much_later() {
    let database = TestDatabase::fresh().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    // All that keep their pages move; a few hold nothing most of the time, and are never counted.
    let tables: Vec<Upkeep> = sqlx::query_as(
        "SELECT relname::text AS name,
            coalesce(told->>'autovacuum_analyze_threshold', '50')::float AS count_after,
            coalesce(told->>'autovacuum_analyze_scale_factor', '0.1')::float AS count_share,
            coalesce(told->>'autovacuum_vacuum_insert_threshold', '1000')::float AS inserts,
            coalesce(told->>'autovacuum_vacuum_insert_scale_factor', '0.2')::float AS inserts_share,
            coalesce(told->>'autovacuum_vacuum_threshold', '50')::float AS dead,
            coalesce(told->>'autovacuum_vacuum_scale_factor', '0.2')::float AS dead_share
        FROM pg_class, LATERAL (
            SELECT jsonb_object_agg(option_name, option_value) AS told FROM pg_options_to_table(reloptions)
        ) AS options
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND told->>'vacuum_truncate' = 'false'
            AND told->>'autovacuum_analyze_threshold' IS DISTINCT FROM '2147483647'
        ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, GROWING.map(|(name, ..)| name), "say here how rows of a new table change");
    for (table, (name, changes, dead)) in tables.iter().zip(GROWING) {
        let counted = counts(table, changes, dead);
        let apart = counted.windows(2).map(|two| two[1] / two[0]);
        assert!(apart.clone().all(|by| by > 1.25), "{name} is counted too often: {counted:?}");
        assert!(table.inserts_share >= 1.0, "{name} is vacuumed too often for what was inserted");
        let grown = apart.fold(LARGEST / counted.last().unwrap_or(&1.0), f64::max);
        assert!(
            grown < 4.0,
            "{name} grows {grown:.1}-fold before it is counted again: {counted:?}"
        );
    }
}

/// Tables that grow, with how often a row of four linear steps is written, and how often that leaves a dead row for vacuum
/// to clear away.
const GROWING: [(&str, f64, f64); 8] = [
    ("limited_tasks", 1.0, 0.0),
    ("step_checkpoints", 1.0, 0.0),
    ("step_results", 1.0, 0.0),
    ("steps", 3.0, 0.1),
    ("task_details", 1.0, 0.0),
    ("task_identities", 1.0, 0.0),
    ("task_search", 2.0, 1.0),
    ("tasks", 6.0, 0.1),
];

/// Until how many rows a table is followed.
const LARGEST: f64 = 2e7;
/// Rows that come between two visits of autovacuum.
const COME: f64 = 15_000.0;

/// With how many rows a growing table is counted, as autovacuum decides it ("Routine Vacuuming", PostgreSQL 15): by the
/// changes since it was counted, and the rows that there were when it was last counted or vacuumed.
fn counts(table: &Upkeep, changes: f64, dead: f64) -> Vec<f64> {
    let (mut rows, mut known) = (0.0, 0.0);
    let (mut changed, mut inserted, mut left) = (0.0, 0.0, 0.0);
    let mut counted = Vec::new();
    while rows < LARGEST {
        rows += COME;
        inserted += COME;
        changed += COME * changes;
        left += COME * dead;
        let count = changed > table.count_after + table.count_share * known;
        let vacuum = inserted > table.inserts + table.inserts_share * known
            || left > table.dead + table.dead_share * known;
        if vacuum {
            (known, inserted, left) = (rows, 0.0, 0.0);
        }
        if count {
            (known, changed) = (rows, 0.0);
            counted.push(rows);
        }
    }
    counted
}

#[tokio::test]
async fn vacuum_locks_no_table_that_moves_to_give_pages_back() {
    let database = TestDatabase::fresh().await;
    let store = store(&database).await;
    store.register_template(&Template::parse(YAML).unwrap(), YAML, "").await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    // With what holds their large values.
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT of.oid::regclass::text,
            coalesce(of.reloptions @> '{vacuum_truncate=false}', false)
                AND coalesce(large.reloptions @> '{vacuum_truncate=false}', large.oid IS NULL)
        FROM pg_class AS of LEFT JOIN pg_class AS large ON large.oid = of.reltoastrelid
        WHERE of.relkind = 'r' AND of.relnamespace IN ('public'::regnamespace, 'pgmq'::regnamespace)",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    for queue in ["pgmq.q_worker_counted_queue", "pgmq.q_counted_domain_events"] {
        assert!(names.contains(&queue), "{queue} is missing: {names:?}");
    }
    for (table, keeps_its_pages) in &tables {
        let told = "SELECT keep_pages(…) in a migration, or a place among those that stand";
        assert!(*keeps_its_pages || stands(table), "{table}: {told}");
    }
}

/// Whether a table changes rarely, is small, or only grows until it is dropped.
fn stands(table: &str) -> bool {
    const STAND: [&str; 13] = [
        "_sqlx_migrations",
        "oldest_program",
        "pauses",
        "purged_results",
        "rate_windows",
        "step_batches",
        "step_expansions",
        "task_dead_letters",
        "task_reruns",
        "template_dependencies",
        "template_steps",
        "templates",
        "worker_sessions",
    ];
    let history = ["task_transitions", "step_transitions"].iter().any(|of| table.starts_with(of));
    let parked = table.starts_with("pgmq.q_") && table.ends_with("_dlq");
    let of_pgmq = table.starts_with("pgmq.") && !table.starts_with("pgmq.q_");
    history || parked || of_pgmq || STAND.contains(&table)
}
