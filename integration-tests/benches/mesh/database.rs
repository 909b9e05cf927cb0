//! What the database has done, by its own counters and rows.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use sqlx::{
    PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// Tasks whose steps are counted are not older.
const OLDEST: Duration = Duration::from_secs(60);

/// Two connections, for looking while something else looks.
#[derive(Clone)]
pub struct Database(pub PgPool);

/// The counters at one time.
pub struct Counters {
    commits: i64,
    row_writes: i64,
    wal: i64,
    /// Updates of `steps` and of `tasks`: all, and those that wrote no index.
    updates: [(i64, i64); 2],
}

/// What was done since another time.
pub struct Spent {
    pub commits: f64,
    pub row_writes: f64,
    pub wal_bytes: f64,
    /// Of the updates of `steps`, how many wrote no index.
    pub steps_hot_percent: f64,
    /// The same of `tasks`.
    pub tasks_hot_percent: f64,
}

impl Database {
    pub async fn connect(url: &str) -> Result<Self> {
        // What is looked at may have grown since it was last analyzed: a look must not read all of it.
        let options =
            url.parse::<PgConnectOptions>()?.options([("enable_seqscan", "off"), ("jit", "off")]);
        Ok(Self(PgPoolOptions::new().max_connections(2).connect_with(options).await?))
    }

    /// What it is and whether it waits for the disk, for the reader of the figures.
    pub async fn describe(&self) -> Result<String> {
        let described = sqlx::query_scalar(
            "SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s', current_setting('server_version'),
                current_setting('fsync'), current_setting('synchronous_commit'))",
        );
        Ok(described.fetch_one(&self.0).await?)
    }

    /// Clears dead tuples away, as autovacuum does before long.
    pub async fn vacuum(&self) -> Result<()> {
        sqlx::raw_sql("VACUUM (ANALYZE)").execute(&self.0).await?;
        Ok(())
    }

    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Reads the counters. Idle connections report theirs after ten seconds: wait before the last look.
    pub async fn counters(&self) -> Result<Counters> {
        let row = sqlx::query(
            "SELECT xact_commit + xact_rollback, tup_inserted + tup_updated + tup_deleted,
                (pg_current_wal_insert_lsn() - '0/0')::bigint,
                steps.n_tup_upd, steps.n_tup_hot_upd, tasks.n_tup_upd, tasks.n_tup_hot_upd
            FROM pg_stat_database, pg_stat_user_tables AS steps, pg_stat_user_tables AS tasks
            WHERE datname = current_database() AND steps.relid = 'steps'::regclass
              AND tasks.relid = 'tasks'::regclass",
        )
        .fetch_one(&self.0)
        .await?;
        Ok(Counters {
            commits: row.get(0),
            row_writes: row.get(1),
            wal: row.get(2),
            updates: [(row.get(3), row.get(4)), (row.get(5), row.get(6))],
        })
    }

    /// Statements that have committed by themselves, or transactions.
    pub async fn commits(&self) -> Result<i64> {
        let commits = sqlx::query_scalar(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
        );
        Ok(commits.fetch_one(&self.0).await?)
    }

    /// Whether autovacuum may run: its transactions are counted like any.
    pub async fn tidy_by_itself(&self, on: bool) -> Result<()> {
        let set =
            if on { "ALTER SYSTEM RESET autovacuum" } else { "ALTER SYSTEM SET autovacuum = off" };
        sqlx::raw_sql(set).execute(&self.0).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&self.0).await?;
        Ok(())
    }

    /// Makes the files of the log that a server which has been busy before keeps, and uses again.
    pub async fn fill_log(&self) -> Result<()> {
        // No checkpoint meanwhile, which would free the first of them before the last are made.
        sqlx::raw_sql("ALTER SYSTEM SET max_wal_size = '16GB'").execute(&self.0).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&self.0).await?;
        let files = "SELECT pg_size_bytes(current_setting('min_wal_size'))
            / pg_size_bytes(current_setting('wal_segment_size'))";
        let files: i64 = sqlx::query_scalar(files).fetch_one(&self.0).await?;
        for _ in 0..files {
            sqlx::raw_sql("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
                .execute(&self.0)
                .await?;
        }
        sqlx::raw_sql("ALTER SYSTEM RESET max_wal_size").execute(&self.0).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&self.0).await?;
        // Only now are they free.
        sqlx::raw_sql("CHECKPOINT").execute(&self.0).await?;
        let ready: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_ls_waldir()").fetch_one(&self.0).await?;
        ensure!(ready >= files, "{ready} files of the log are there instead of {files}");
        Ok(())
    }

    /// Whether the server logs each statement that it runs, from soon on.
    pub async fn log_statements(&self, on: bool) -> Result<()> {
        let set = if on {
            "ALTER SYSTEM SET log_min_duration_statement = 0"
        } else {
            "ALTER SYSTEM RESET log_min_duration_statement"
        };
        sqlx::raw_sql(set).execute(&self.0).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&self.0).await?;
        Ok(())
    }

    /// Tasks that have neither ended nor come to rest.
    pub async fn open_tasks(&self) -> Result<usize> {
        let open = "SELECT count(*) FROM task_search WHERE rests_in IS NULL";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&self.0).await?;
        Ok(usize::try_from(open)?)
    }

    /// Tasks born since `first` that have completed.
    pub async fn complete_since(&self, first: Uuid) -> Result<usize> {
        let complete = "SELECT count(*) FROM tasks WHERE task_id >= $1 AND state = 'complete'";
        let complete: i64 = sqlx::query_scalar(complete).bind(first).fetch_one(&self.0).await?;
        Ok(usize::try_from(complete)?)
    }

    /// Steps completed between two times, of tasks born since `first` and at most a minute before:
    /// that bounds the search.
    pub async fn steps_completed(
        &self,
        first: Uuid,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<usize> {
        let completed = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM step_results WHERE task_id >= $1 AND data IS NOT NULL
              AND recorded_at >= to_timestamp($2) AND recorded_at < to_timestamp($3)",
        );
        let completed = completed
            .bind(first.max(born_at(from - OLDEST)?))
            .bind(seconds(from)?)
            .bind(seconds(to)?);
        Ok(usize::try_from(completed.fetch_one(&self.0).await?)?)
    }

    /// When steps completed between two times, in seconds since the first, in order; of tasks as above.
    pub async fn completion_times(
        &self,
        first: Uuid,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Vec<f64>> {
        let times = sqlx::query_scalar(
            "SELECT extract(epoch FROM recorded_at)::double precision - $2 FROM step_results
             WHERE task_id >= $1 AND data IS NOT NULL
               AND recorded_at >= to_timestamp($2) AND recorded_at < to_timestamp($3)
             ORDER BY recorded_at",
        );
        let times = times.bind(first.max(born_at(from - OLDEST)?));
        Ok(times.bind(seconds(from)?).bind(seconds(to)?).fetch_all(&self.0).await?)
    }

    /// Rows that updates and deletes have left behind, by table; the queues together as `queues`.
    pub async fn dead_tuples(&self) -> Result<BTreeMap<String, f64>> {
        let rows: Vec<(String, f64)> = sqlx::query_as(
            "SELECT CASE schemaname WHEN 'pgmq' THEN 'queues' ELSE relname END,
                sum(n_dead_tup)::double precision
            FROM pg_stat_user_tables
            WHERE relname IN ('tasks', 'steps', 'leases', 'task_search')
               OR (schemaname = 'pgmq' AND relname LIKE 'q\\_%')
            GROUP BY 1",
        )
        .fetch_all(&self.0)
        .await?;
        Ok(rows.into_iter().collect())
    }
}

/// Not larger than the id of any task born at this time or later.
fn born_at(time: SystemTime) -> Result<Uuid> {
    let millis = u64::try_from(time.duration_since(UNIX_EPOCH)?.as_millis())?;
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
}

/// As the database counts time; its clock is this machine's.
fn seconds(time: SystemTime) -> Result<f64> {
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs_f64())
}

impl Counters {
    pub fn since(&self, before: &Self) -> Spent {
        let hot = |table: usize| {
            let (now, then) = (self.updates[table], before.updates[table]);
            100.0 * (now.1 - then.1) as f64 / (now.0 - then.0).max(1) as f64
        };
        Spent {
            commits: (self.commits - before.commits) as f64,
            row_writes: (self.row_writes - before.row_writes) as f64,
            wal_bytes: (self.wal - before.wal) as f64,
            steps_hot_percent: hot(0),
            tasks_hot_percent: hot(1),
        }
    }
}
