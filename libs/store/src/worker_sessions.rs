//! Workers' sessions: one row renewed for each worker, not one for each step.

use std::time::Duration;

use tasker_domain::SessionId;
use uuid::Uuid;

use crate::{Store, StoreError};

impl Store {
    /// Opens a session of a worker for these namespaces and handlers, that lives for `ttl` unless it is
    /// renewed.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn open_session(
        &self,
        session: SessionId,
        worker_id: &str,
        namespaces: &[String],
        handlers: &[String],
        ttl: Duration,
    ) -> Result<(), StoreError> {
        sqlx::query_file!(
            "sql/worker_sessions/open.sql",
            session.0,
            worker_id,
            millis(ttl),
            namespaces,
            handlers
        )
        .execute(&self.relaxed)
        .await?;
        Ok(())
    }

    /// Keeps sessions alive for another `ttl`. Returns those that there still are.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn renew_sessions(
        &self,
        sessions: &[SessionId],
        ttl: Duration,
    ) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let rows = sqlx::query_file!("sql/worker_sessions/renew.sql", &ids, millis(ttl))
            .fetch_all(&self.relaxed)
            .await?;
        Ok(rows.into_iter().map(|row| SessionId(row.session_id)).collect())
    }

    /// Ends a session now.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn end_session(&self, session: SessionId) -> Result<(), StoreError> {
        sqlx::query_file!("sql/worker_sessions/end.sql", session.0).execute(&self.relaxed).await?;
        Ok(())
    }

    /// Forgets sessions that have expired and hold nothing.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn purge_sessions(&self) -> Result<u64, StoreError> {
        let done =
            sqlx::query_file!("sql/worker_sessions/purge.sql").execute(&self.relaxed).await?;
        Ok(done.rows_affected())
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
