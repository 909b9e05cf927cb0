//! Which session has which step.

use std::time::Duration;

use tasker_domain::SessionId;
use uuid::Uuid;

use crate::{Store, StoreError, steps::Held};

/// A lease that a worker has kept through a reconnect.
#[derive(Debug, Clone, Copy)]
pub struct Adopted {
    /// The fence.
    pub delivery_id: Uuid,
    /// How long the attempt may still take.
    pub time_left: Duration,
}

/// A lease whose worker is lost, or whose attempt took too long.
#[derive(Debug, Clone, Copy)]
pub struct Lost {
    /// Step and lease.
    pub held: Held,
    /// Who has it.
    pub session: SessionId,
    /// Whether it took too long; else its session has expired.
    pub timed_out: bool,
}

impl Store {
    /// Gives leases of a worker's earlier sessions to its new one. Returns those that were still its own.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn adopt_leases(
        &self,
        held: &[Held],
        worker_id: &str,
        session: SessionId,
    ) -> Result<Vec<Adopted>, StoreError> {
        let task_ids: Vec<Uuid> = held.iter().map(|held| held.task_id).collect();
        let ordinals: Vec<i32> = held.iter().map(|held| held.ordinal).collect();
        let deliveries: Vec<Uuid> = held.iter().map(|held| held.delivery_id).collect();
        let rows = sqlx::query_file!(
            "sql/leases/adopt.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            worker_id,
            session.0
        )
        .fetch_all(&self.durable)
        .await?;
        let adopted = rows.into_iter().map(|row| Adopted {
            delivery_id: row.delivery_id,
            time_left: Duration::from_secs_f64(row.time_left_s.max(0.0)),
        });
        Ok(adopted.collect())
    }

    /// What a session holds, with how long ago each lease was granted.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn leases_of(&self, session: SessionId) -> Result<Vec<(Held, Duration)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT task_id, ordinal, delivery_id,
                extract(epoch FROM clock_timestamp() - granted_at)::double precision AS "age!"
            FROM leases WHERE session_id = $1"#,
            session.0
        )
        .fetch_all(&self.relaxed)
        .await?;
        let held = rows.into_iter().map(|row| {
            let held =
                Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id };
            (held, Duration::from_secs_f64(row.age.max(0.0)))
        });
        Ok(held.collect())
    }

    /// Leases whose session has expired or ended, and those that have taken too long, at most `count`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn lost_leases(&self, count: i64) -> Result<Vec<Lost>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT leases.task_id, leases.ordinal, leases.delivery_id, leases.session_id,
                leases.times_out_at < now() AS "timed_out!"
            FROM leases LEFT JOIN worker_sessions AS session USING (session_id)
            WHERE session.session_id IS NULL OR session.expires_at < now() OR leases.times_out_at < now()
            LIMIT $1"#,
            count
        )
        .fetch_all(&self.relaxed)
        .await?;
        let lost = rows.into_iter().map(|row| Lost {
            held: Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id },
            session: SessionId(row.session_id),
            timed_out: row.timed_out,
        });
        Ok(lost.collect())
    }
}
