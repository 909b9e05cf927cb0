//! What tasks came to is forgotten some time after their end.

use crate::{Store, StoreError};

impl Store {
    /// Forgets the contexts and results of tasks that ended more than so many days ago, of at most `count`
    /// tasks. Says of how many.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn purge_results(&self, keep_days: i32, count: i64) -> Result<i64, StoreError> {
        let purged = sqlx::query_file_scalar!("sql/tasks/purge.sql", keep_days, count)
            .fetch_one(&self.durable)
            .await?;
        Ok(purged)
    }
}
