//! How long history is kept, wherever it lies.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use tasker_store::{Options, Store};
use tasker_testing::TestDatabase;

const TABLES: [&str; 2] = ["task_transitions", "step_transitions"];
const KEEP_DAYS: i32 = 30;
const DAYS_AHEAD: i32 = 3;

struct Bench {
    store: Store,
    pool: PgPool,
    _database: TestDatabase,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            application_name: "retention".to_owned(),
        };
        let store = Store::connect(&options).await.unwrap();
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { store, pool, _database: database }
    }

    async fn run(&self, statement: String) {
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }

    async fn number(&self, statement: String) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&self.pool).await.unwrap()
    }

    /// A row of each table, of so many days ago.
    async fn happened(&self, days_ago: i32) {
        let at = format!("now() - {days_ago} * interval '1 day'");
        self.run(format!(
            "INSERT INTO task_transitions (task_id, events, to_state, actor, occurred_at)
             VALUES (gen_random_uuid(), '{{Cancel}}', 'cancelled', 'retention', {at})"
        ))
        .await;
        self.run(format!(
            "INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, occurred_at)
             VALUES (gen_random_uuid(), 0, '{{Cancel}}', 'cancelled', 0, 'retention', {at})"
        ))
        .await;
    }

    /// Makes the partition of the day so many days ago.
    async fn partition(&self, table: &str, days_ago: i32) {
        let day = format!("(SELECT current_date - {days_ago})");
        let name: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT format('CREATE TABLE {table}_%s PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
                to_char({day}, 'YYYYMMDD'), {day}, {day} + 1)"
        )))
        .fetch_one(&self.pool)
        .await
        .unwrap();
        self.run(name).await;
    }

    /// Whether the day so many days ago, or ahead if negative, has a partition.
    async fn has(&self, table: &str, days_ago: i32) -> bool {
        let name = format!("'{table}_' || to_char(current_date - ({days_ago}), 'YYYYMMDD')");
        self.number(format!("SELECT count(to_regclass({name}))")).await == 1
    }

    async fn in_default(&self, table: &str) -> i64 {
        self.number(format!("SELECT count(*) FROM {table}_default")).await
    }
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_when_they_are_old() {
    let bench = Bench::new().await;
    for table in TABLES {
        for days_ago in [KEEP_DAYS + 1, KEEP_DAYS] {
            bench.partition(table, days_ago).await;
        }
    }
    bench.happened(KEEP_DAYS + 1).await;
    bench.happened(KEEP_DAYS).await;
    bench.happened(0).await;
    for _ in 0..2 {
        bench.store.maintain_history(DAYS_AHEAD, KEEP_DAYS).await.unwrap();
        for table in TABLES {
            for ahead in 1..=DAYS_AHEAD {
                assert!(bench.has(table, -ahead).await, "{table}, {ahead} days ahead");
            }
            assert!(!bench.has(table, KEEP_DAYS + 1).await, "{table} is kept too long");
            assert!(bench.has(table, KEEP_DAYS).await, "{table} is not kept");
            assert_eq!(bench.number(format!("SELECT count(*) FROM {table}")).await, 2);
        }
    }
}

#[tokio::test]
async fn what_no_partition_was_made_for_in_time_is_kept_as_long_as_the_rest() {
    let bench = Bench::new().await;
    for days_ago in [KEEP_DAYS + 2, KEEP_DAYS + 1, KEEP_DAYS + 1, KEEP_DAYS, KEEP_DAYS - 1] {
        bench.happened(days_ago).await;
    }
    // In batches, of tasks and of steps.
    let mut batches = 1;
    while bench.store.purge_history(KEEP_DAYS, 2).await.unwrap() {
        batches += 1;
    }
    assert_eq!(batches, 2);
    for table in TABLES {
        assert_eq!(bench.in_default(table).await, 2, "{table}");
    }
}

#[tokio::test]
async fn pauses_are_kept_as_long_as_the_history_that_tells_of_them() {
    let bench = Bench::new().await;
    let (old, young) = (KEEP_DAYS + 1, KEEP_DAYS - 1);
    // Who paused, when that ended, and when its task has.
    for (who, resumed, ended) in [
        ("resumed long ago", Some(old), Some(old)),
        ("resumed lately", Some(young), Some(young)),
        ("never, and ended long ago", None, Some(old)),
        ("never, and ended lately", None, Some(young)),
        ("never", None, None),
    ] {
        let days_ago = |days: Option<i32>| {
            days.map_or("NULL".to_owned(), |days| format!("now() - {days} * interval '1 day'"))
        };
        let (resumed_at, ended_at) = (days_ago(resumed), days_ago(ended));
        let resumed_by = resumed.map_or("NULL", |_| "'ada'");
        bench
            .run(format!(
                "WITH task AS (
                    INSERT INTO task_search
                        (task_id, namespace, name, version, correlation_id, ended_at)
                    VALUES (gen_random_uuid(), 'retention', 'any', '1.0.0', '', {ended_at})
                    RETURNING task_id
                )
                INSERT INTO pauses (task_id, paused_by, reason, resumed_by, resume_reason, resumed_at)
                SELECT task_id, '{who}', '', {resumed_by}, {resumed_by}, {resumed_at} FROM task"
            ))
            .await;
    }
    bench.store.purge_pauses(KEEP_DAYS).await.unwrap();
    let kept: Vec<String> = sqlx::query_scalar("SELECT paused_by FROM pauses ORDER BY paused_by")
        .fetch_all(&bench.pool)
        .await
        .unwrap();
    assert_eq!(kept, ["never", "never, and ended lately", "resumed lately"]);
}
