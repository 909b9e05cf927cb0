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

/// What a session holds.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Step and lease.
    pub held: Held,
    /// How long ago it was granted.
    pub age: Duration,
    /// How long the attempt may still take; zero: it has taken too long.
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

/// What has come of leases by now.
#[derive(Debug, Clone, Default)]
pub struct LostLeases {
    /// Those that are lost.
    pub lost: Vec<Lost>,
    /// How long until the first of the others has taken too long, if that is soon.
    pub next: Option<Duration>,
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

    /// What a session holds.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn leases_of(&self, session: SessionId) -> Result<Vec<Lease>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT task_id, ordinal, delivery_id,
                extract(epoch FROM clock_timestamp() - granted_at)::double precision AS "age!",
                extract(epoch FROM times_out_at - clock_timestamp())::double precision AS "time_left!"
            FROM leases WHERE session_id = $1"#,
            session.0
        )
        .fetch_all(&self.relaxed)
        .await?;
        let leases = rows.into_iter().map(|row| Lease {
            held: Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id },
            age: Duration::from_secs_f64(row.age.max(0.0)),
            time_left: Duration::from_secs_f64(row.time_left.max(0.0)),
        });
        Ok(leases.collect())
    }

    /// Leases whose session has expired or ended, and those that have taken too long, or will have soon: at
    /// most `count`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn lost_leases(&self, count: i64, soon: Duration) -> Result<LostLeases, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT leases.task_id, leases.ordinal, leases.delivery_id, leases.session_id,
                of_it.is_lost AS "is_lost!", leases.times_out_at < now() AS "timed_out!",
                extract(epoch FROM leases.times_out_at - now())::double precision AS "time_left!"
            FROM leases LEFT JOIN worker_sessions AS session USING (session_id)
            CROSS JOIN LATERAL (
                SELECT session.session_id IS NULL OR session.expires_at < now()
                    OR leases.times_out_at < now() AS is_lost
            ) AS of_it
            WHERE of_it.is_lost OR leases.times_out_at < now() + $2::double precision * interval '1 s'
            ORDER BY of_it.is_lost DESC, leases.times_out_at LIMIT $1"#,
            count,
            soon.as_secs_f64()
        )
        .fetch_all(&self.relaxed)
        .await?;
        let mut found = LostLeases::default();
        for row in rows {
            let held =
                Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id };
            if row.is_lost {
                let (session, timed_out) = (SessionId(row.session_id), row.timed_out);
                found.lost.push(Lost { held, session, timed_out });
            } else {
                found.next.get_or_insert(Duration::from_secs_f64(row.time_left.max(0.0)));
            }
        }
        Ok(found)
    }
}
