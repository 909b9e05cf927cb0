//! What this machine can do at best.

use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::database::Database;

/// The median time of a durable one-row commit, in ms.
pub async fn durable_commit(database: &Database) -> Result<f64> {
    sqlx::query("CREATE TABLE floor (n bigint)").execute(&database.0).await?;
    let mut times = Histogram::<u64>::new(3)?;
    for n in 0..500i64 {
        let begun = Instant::now();
        sqlx::query("INSERT INTO floor VALUES ($1)").bind(n).execute(&database.0).await?;
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
    }
    sqlx::query("DROP TABLE floor").execute(&database.0).await?;
    Ok(times.value_at_quantile(0.5) as f64 / 1e3)
}
