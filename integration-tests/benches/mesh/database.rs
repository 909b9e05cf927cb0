//! What the database has done, by its own counters.

use anyhow::Result;
use sqlx::{PgPool, Row as _, postgres::PgPoolOptions};

/// One connection, for looking.
pub struct Database(pub PgPool);

/// What was done since another time.
pub struct Spent {
    pub commits: f64,
    pub row_writes: f64,
    pub wal_bytes: f64,
    /// Of the updates of `steps`, how many wrote no index.
    pub steps_hot_percent: f64,
}

/// The counters at one time.
pub struct Counters {
    commits: i64,
    row_writes: i64,
    wal: i64,
    updates: i64,
    hot: i64,
}

impl Database {
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self(PgPoolOptions::new().max_connections(1).connect(url).await?))
    }

    /// Reads the counters. Idle backends report theirs after ten seconds: wait before the last look.
    pub async fn counters(&self) -> Result<Counters> {
        let row = sqlx::query(
            "SELECT xact_commit + xact_rollback, tup_inserted + tup_updated + tup_deleted,
                (pg_current_wal_insert_lsn() - '0/0')::bigint,
                (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'steps'),
                (SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'steps')
            FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&self.0)
        .await?;
        Ok(Counters {
            commits: row.get(0),
            row_writes: row.get(1),
            wal: row.get(2),
            updates: row.get(3),
            hot: row.get(4),
        })
    }
}

impl Counters {
    pub fn since(&self, before: &Self) -> Spent {
        let updates = (self.updates - before.updates).max(1);
        Spent {
            commits: (self.commits - before.commits) as f64,
            row_writes: (self.row_writes - before.row_writes) as f64,
            wal_bytes: (self.wal - before.wal) as f64,
            steps_hot_percent: 100.0 * (self.hot - before.hot) as f64 / updates as f64,
        }
    }
}
