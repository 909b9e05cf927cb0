//! Steps that limits hold, and what is in use of the limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::PgConnection;
use tasker_domain::{
    Ordinal, TaskId,
    usage::{Limited, Usage},
};
use uuid::Uuid;

use crate::{Store, StoreError};

/// A ready step that waits for its limits.
#[derive(Debug, Clone)]
pub struct HeldStep {
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// Which step of the template it is, or is a run of.
    pub declared: Ordinal,
    /// What it was made from.
    pub template_id: Uuid,
    /// Larger goes first.
    pub priority: i16,
    /// What a worker must have registered.
    pub callable: String,
    /// The values of the keys of its limits, in their order.
    pub limit_values: Vec<String>,
    /// Which limit holds it, as far as it was looked at.
    pub by: Limited,
    /// Of what made it ready.
    pub traceparent: String,
    /// How long it has waited, by the database's clock.
    pub waited: Duration,
}

/// A step of a task that its limits hold.
#[derive(Debug, Clone)]
pub struct HeldToLimits {
    /// Which step.
    pub ordinal: Ordinal,
    /// Which step of the template it is, or is a run of.
    pub declared: Ordinal,
    /// Which limit holds it, as far as it was looked at.
    pub by: Limited,
    /// The values of the keys of its limits, in their order.
    pub limit_values: Vec<String>,
}

/// What is asked of the use of limits: those of some steps, each with the times of its rates.
pub type Asked = BTreeMap<Limited, BTreeSet<Duration>>;

impl Store {
    /// Looks at the steps that limits hold in a namespace for some handlers: for each, of so many values of
    /// limits that come after one, so many steps that go next, and so many of the oldest. Values are in the
    /// order of their bytes.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn held_by_limits(
        &self,
        namespace: &str,
        after: &[(String, Option<Limited>)],
        of_each: i64,
        values: i64,
    ) -> Result<Vec<HeldStep>, StoreError> {
        let handlers: Vec<&str> = after.iter().map(|(handler, _)| handler.as_str()).collect();
        let part = |part: fn(&Limited) -> &str| -> Vec<&str> {
            after.iter().map(|(_, after)| after.as_ref().map_or("", part)).collect()
        };
        let (names, after_values) = (part(|after| &after.name), part(|after| &after.value));
        // From value to value by the index, however many steps one has.
        let rows = sqlx::query!(
            r#"SELECT held.task_id AS "task_id!", held.ordinal AS "ordinal!",
                coalesce(steps.declared, steps.ordinal) AS "declared!",
                held.template_id AS "template_id!", held.priority AS "priority!",
                held.callable AS "callable!", held.limit_name AS "limit_name!",
                held.limit_value AS "limit_value!", held.limit_values AS "limit_values!",
                held.traceparent AS "traceparent!",
                extract(epoch FROM clock_timestamp() - held.held_at)::double precision AS "waited!"
            FROM unnest($2::text[], $3::text[], $4::text[]) AS asked (callable, name, value)
            CROSS JOIN LATERAL (
                WITH RECURSIVE found AS (
                    (SELECT limit_name COLLATE "C" AS name, limit_value COLLATE "C" AS value
                     FROM held_steps
                     WHERE namespace = $1 AND held_steps.callable = asked.callable
                       AND limit_name IS NOT NULL
                       AND (limit_name COLLATE "C", limit_value COLLATE "C") > (asked.name, asked.value)
                     ORDER BY limit_name COLLATE "C", limit_value COLLATE "C" LIMIT 1)
                    UNION ALL
                    SELECT next.name, next.value FROM found CROSS JOIN LATERAL (
                        SELECT limit_name COLLATE "C" AS name, limit_value COLLATE "C" AS value
                        FROM held_steps
                        WHERE namespace = $1 AND held_steps.callable = asked.callable
                          AND limit_name IS NOT NULL
                          AND (limit_name COLLATE "C", limit_value COLLATE "C") > (found.name, found.value)
                        ORDER BY limit_name COLLATE "C", limit_value COLLATE "C" LIMIT 1
                    ) AS next
                )
                SELECT name, value FROM found LIMIT $6
            ) AS found
            CROSS JOIN LATERAL (
                (SELECT * FROM held_steps
                 WHERE (namespace, held_steps.callable) = ($1, asked.callable)
                   AND limit_name COLLATE "C" = found.name AND limit_value COLLATE "C" = found.value
                 ORDER BY priority DESC, task_id, ordinal LIMIT $5)
                UNION
                (SELECT * FROM held_steps
                 WHERE (namespace, held_steps.callable) = ($1, asked.callable)
                   AND limit_name COLLATE "C" = found.name AND limit_value COLLATE "C" = found.value
                 ORDER BY held_at LIMIT $5)
            ) AS held
            JOIN steps ON (steps.task_id, steps.ordinal) = (held.task_id, held.ordinal)"#,
            namespace,
            &handlers as &[&str],
            &names as &[&str],
            &after_values as &[&str],
            of_each,
            values
        )
        .fetch_all(&self.relaxed)
        .await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            held.push(HeldStep {
                task_id: row.task_id,
                ordinal: row.ordinal,
                declared: Ordinal(row.declared),
                template_id: row.template_id,
                priority: row.priority,
                callable: row.callable,
                limit_values: serde_json::from_value(row.limit_values)
                    .map_err(|error| corrupt(&error))?,
                by: Limited { name: row.limit_name, value: row.limit_value },
                traceparent: row.traceparent,
                waited: Duration::try_from_secs_f64(row.waited).unwrap_or_default(),
            });
        }
        Ok(held)
    }

    /// The steps of a task that limits hold.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn limits_that_hold(&self, task: TaskId) -> Result<Vec<HeldToLimits>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT steps.ordinal, coalesce(declared, steps.ordinal) AS "declared!",
                limit_name AS "name!", limit_value AS "value!", limit_values AS "limit_values!"
            FROM held_steps JOIN steps USING (task_id, ordinal)
            WHERE task_id = $1 AND limit_name IS NOT NULL
            ORDER BY steps.ordinal"#,
            task.0
        )
        .fetch_all(&self.relaxed)
        .await?;
        let held = rows.into_iter().map(|row| {
            Ok(HeldToLimits {
                ordinal: Ordinal(row.ordinal),
                declared: Ordinal(row.declared),
                by: Limited { name: row.name, value: row.value },
                limit_values: serde_json::from_value(row.limit_values)
                    .map_err(|error| corrupt(&error))?,
            })
        });
        held.collect()
    }

    /// The steps that run and that a limit counts, the longest first: task and name, so many at most.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn holders_of_limit(
        &self,
        namespace: &str,
        limited: &Limited,
        at_most: i64,
    ) -> Result<Vec<(TaskId, String)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT task_id, steps.name FROM limit_grants AS granted JOIN steps USING (task_id, ordinal)
             WHERE (namespace, limit_name, limit_value) = ($1, $2, $3)
               AND is_in_use(steps.state, steps.attempt, granted.attempt)
             ORDER BY granted_at LIMIT $4",
            namespace,
            limited.name,
            limited.value,
            at_most
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(|row| (TaskId(row.task_id), row.name)).collect())
    }

    /// For which handlers limits hold steps, by namespace.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn handlers_held_by_limits(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT DISTINCT namespace, callable FROM held_steps WHERE limit_name IS NOT NULL"
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(|row| (row.namespace, row.callable)).collect())
    }

    /// How many steps wait, in worker queues or for their limits, though no connected worker has their
    /// handler, by namespace.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn steps_without_worker(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT namespace AS "namespace!", sum(steps)::bigint AS "steps!"
            FROM steps_without_worker() GROUP BY namespace"#
        )
        .fetch_all(&self.relaxed)
        .await?;
        let count = |steps: i64| u64::try_from(steps).unwrap_or_default();
        Ok(rows.into_iter().map(|row| (row.namespace, count(row.steps))).collect())
    }

    /// What is in use of some limits of a namespace, as it was a moment ago.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn usage(&self, namespace: &str, asked: &Asked) -> Result<Usage, StoreError> {
        let mut line = self.relaxed.acquire().await?;
        usage(&mut line, namespace, asked).await
    }

    /// Forgets what no limit counts any more, so many at most. Says how many.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn purge_limit_grants(&self, at_most: i64) -> Result<u64, StoreError> {
        let purged =
            sqlx::query_file!("sql/limit_grants/purge.sql", at_most).execute(&self.relaxed).await?;
        Ok(purged.rows_affected())
    }

    /// The contexts of tasks, as they were given.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn contexts(&self, tasks: &[Uuid]) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT task_id, context FROM task_details WHERE task_id = ANY($1)",
            tasks
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(|row| (row.task_id, row.context)).collect())
    }
}

fn corrupt(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt { table: "held_steps", what: error.to_string() }
}

/// What is in use of limits: exactly, if their locks are held.
pub(crate) async fn usage(
    connection: &mut PgConnection,
    namespace: &str,
    asked: &Asked,
) -> Result<Usage, StoreError> {
    let mut usage = Usage::default();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let (mut rate_names, mut rate_values, mut pers) = (Vec::new(), Vec::new(), Vec::new());
    for (limited, times) in asked {
        names.push(limited.name.clone());
        values.push(limited.value.clone());
        for per in times {
            rate_names.push(limited.name.clone());
            rate_values.push(limited.value.clone());
            pers.push(i64::try_from(per.as_millis()).unwrap_or(i64::MAX));
        }
    }
    let running = sqlx::query!(
        r#"SELECT name AS "name!", value AS "value!", (
            SELECT count(*) FROM limit_grants AS granted
            WHERE (namespace, limit_name, limit_value) = ($1, name, value) AND (
                SELECT is_in_use(steps.state, steps.attempt, granted.attempt) FROM steps
                WHERE (steps.task_id, steps.ordinal) = (granted.task_id, granted.ordinal)
            )
        ) AS "steps!"
        FROM unnest($2::text[], $3::text[]) AS asked (name, value)"#,
        namespace,
        &names,
        &values
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in running {
        let steps = u64::try_from(row.steps).unwrap_or_default();
        usage.note_running(Limited { name: row.name, value: row.value }, steps);
    }
    if pers.is_empty() {
        return Ok(usage);
    }
    let begun = sqlx::query!(
        r#"SELECT name AS "name!", value AS "value!", per_ms AS "per_ms!", begun.steps AS "steps!",
            ceil(extract(epoch FROM begun.first - statement_timestamp()) * 1000 + per_ms)::bigint
                AS counts_for_ms
        FROM unnest($2::text[], $3::text[], $4::bigint[]) AS asked (name, value, per_ms)
        CROSS JOIN LATERAL (
            SELECT count(*) AS steps, min(granted_at) AS first FROM limit_grants
            WHERE (namespace, limit_name, limit_value) = ($1, name, value)
              AND granted_at > statement_timestamp() - per_ms * interval '1 ms'
        ) AS begun"#,
        namespace,
        &rate_names,
        &rate_values,
        &pers
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in begun {
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
        let steps = u64::try_from(row.steps).unwrap_or_default();
        let limited = Limited { name: row.name, value: row.value };
        usage.note_begun(limited, ms(row.per_ms), steps, row.counts_for_ms.map(ms));
    }
    Ok(usage)
}
