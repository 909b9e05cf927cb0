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

/// Each time, the statements that name the table are planned anew.
#[tokio::test]
async fn tables_that_move_are_counted_and_visited_again_when_they_have_grown() {
    let database = TestDatabase::fresh().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    // All that keep their pages move.
    let often: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regclass::text
        FROM pg_class, LATERAL (
            SELECT jsonb_object_agg(option_name, option_value) AS told FROM pg_options_to_table(reloptions)
        ) AS options
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND told->>'vacuum_truncate' = 'false'
            AND told->>'autovacuum_analyze_threshold' IS DISTINCT FROM '2147483647'
            AND NOT coalesce((told->>'autovacuum_analyze_scale_factor')::float BETWEEN 1 AND 2
                AND (told->>'autovacuum_vacuum_insert_scale_factor')::float >= 1, false)",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(often.is_empty(), "ALTER TABLE … SET (…), as migration 40: {often:?}");
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
