//! Open tasks whose template limits how long they may take or wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tasker_domain::{TaskId, TaskState, TemplateId, template::lifecycle::Health};
use uuid::Uuid;

use crate::{Store, StoreError};

/// How long a task has lasted, and stood where it stands, by the database's clock.
#[derive(Debug, Clone)]
pub struct LimitedTask {
    /// Which.
    pub task_id: TaskId,
    /// What it was made from.
    pub template_id: TemplateId,
    /// Of its template.
    pub namespace: String,
    /// Of its template.
    pub name: String,
    /// Of its template.
    pub version: String,
    /// Where it stands.
    pub state: TaskState,
    /// Since its birth, or since an operator reopened it.
    pub lasted: Duration,
    /// Since it came where it stands.
    pub in_state: Duration,
    /// For how long of that it or its template was paused, where it waits for dependencies.
    pub paused: Duration,
    /// When it was looked at.
    pub looked_at: DateTime<Utc>,
}

/// The right to look at a task.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Which.
    pub task_id: TaskId,
    /// Until when nobody else looks at it, and what the claim is known by.
    pub until: DateTime<Utc>,
}

/// What a look has found, and when the next one is due.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Of which task, and by what right.
    pub claim: Claim,
    /// How it stands towards its limits.
    pub health: Health,
    /// From now on.
    pub again: Duration,
}

impl Store {
    /// Takes at most `count` tasks that it is time to look at, and hides them from other replicas for a
    /// while.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn claim_limited_tasks(
        &self,
        count: i64,
        hide: Duration,
    ) -> Result<Vec<Claim>, StoreError> {
        let rows = sqlx::query_file!("sql/limited_tasks/claim.sql", count, millis(hide))
            .fetch_all(&self.relaxed)
            .await?;
        let claims =
            rows.into_iter().map(|row| Claim { task_id: TaskId(row.task_id), until: row.look_at });
        Ok(claims.collect())
    }

    /// How long tasks have lasted that are open and limited; the others are not in the answer.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn limited_tasks(&self, tasks: &[TaskId]) -> Result<Vec<LimitedTask>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT tasks.task_id, template_id, search.namespace, search.name, search.version,
                tasks.state::text AS "state!", now() AS "looked_at!",
                (extract(epoch FROM now() - began_at) * 1000)::bigint AS "lasted_ms!",
                (extract(epoch FROM now() - came_at) * 1000)::bigint AS "in_state_ms!",
                (extract(epoch FROM paused.lasted) * 1000)::bigint AS "paused_ms!"
            FROM limited_tasks
            JOIN tasks USING (task_id)
            JOIN task_search AS search USING (task_id)
            LEFT JOIN LATERAL (
                SELECT occurred_at FROM task_transitions AS moved
                WHERE moved.task_id = tasks.task_id
                  -- The history of days before its birth is not looked into; an hour, since clocks are set.
                  AND moved.occurred_at >= search.created_at - interval '1 hour'
                ORDER BY transition_id DESC LIMIT 1
            ) AS moved ON true
            CROSS JOIN LATERAL (
                SELECT least(coalesce(moved.occurred_at, created_at), now()) AS came_at
            ) AS stay
            CROSS JOIN LATERAL (
                -- Pauses of both may go on at once.
                SELECT coalesce(sum(upper(stretch) - lower(stretch)), interval '0') AS lasted
                FROM unnest((
                    SELECT range_agg(tstzrange(came_at, now())
                        * tstzrange(paused_at, greatest(coalesce(resumed_at, now()), paused_at)))
                    FROM pauses
                    WHERE tasks.state = 'waiting_for_dependencies' AND (pauses.task_id = tasks.task_id
                        OR (pauses.task_id IS NULL
                            AND (pauses.namespace, pauses.name) = (search.namespace, search.name)
                            AND pauses.version IN ('', search.version)))
                )) AS stretch
            ) AS paused
            WHERE tasks.task_id = ANY($1) AND NOT is_end(tasks.state)
            ORDER BY tasks.task_id"#,
            &ids(tasks)
        )
        .fetch_all(&self.relaxed)
        .await?;
        let corrupt = |what: String| StoreError::Corrupt { table: "tasks", what };
        rows.into_iter()
            .map(|row| {
                Ok(LimitedTask {
                    task_id: TaskId(row.task_id),
                    template_id: TemplateId(row.template_id),
                    namespace: row.namespace,
                    name: row.name,
                    version: row.version,
                    state: row.state.parse().map_err(|error| corrupt(format!("{error}")))?,
                    lasted: duration(row.lasted_ms),
                    in_state: duration(row.in_state_ms),
                    paused: duration(row.paused_ms),
                    looked_at: row.looked_at,
                })
            })
            .collect()
    }

    /// Of tasks, those with a step that waits for a worker, or for its limits, while no connected worker has
    /// its handler, and how long the first such step has waited.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn tasks_without_worker(
        &self,
        tasks: &[TaskId],
    ) -> Result<Vec<(TaskId, Duration)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT tasks.task_id,
                (extract(epoch FROM now() - min(waits.since)) * 1000)::bigint AS "waited_ms!"
            FROM tasks
            JOIN task_search AS search USING (task_id)
            JOIN steps USING (task_id)
            JOIN template_steps AS declaration
                ON (declaration.template_id, declaration.ordinal)
                    = (tasks.template_id, coalesce(steps.declared, steps.ordinal))
            LEFT JOIN held_steps AS held
                ON (held.task_id, held.ordinal) = (steps.task_id, steps.ordinal)
            CROSS JOIN LATERAL (
                SELECT coalesce(held.held_at, max(occurred_at)) AS since FROM step_transitions AS moved
                WHERE moved.task_id = steps.task_id AND moved.ordinal = steps.ordinal
                  AND moved.occurred_at >= search.created_at - interval '1 hour'
            ) AS waits
            WHERE tasks.task_id = ANY($1) AND NOT is_end(tasks.state) AND NOT tasks.paused
              AND (SELECT true FROM paused_templates_by_id AS paused
                WHERE paused.template_id = tasks.template_id) IS NULL
              -- What a limit holds could begin at no worker either.
              AND CASE WHEN held.task_id IS NULL THEN steps.state = 'enqueued'
                ELSE held.limit_name IS NOT NULL END
              AND workers_for(coalesce(declaration.queue, tasks.namespace), declaration.callable) = 0
            GROUP BY tasks.task_id HAVING min(waits.since) IS NOT NULL"#,
            &ids(tasks)
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(|row| (TaskId(row.task_id), duration(row.waited_ms))).collect())
    }

    /// Notes what looks have found, where their claims still hold. Returns the tasks that were not found so
    /// before.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn look_at_limited_tasks(&self, looks: &[Look]) -> Result<Vec<TaskId>, StoreError> {
        let tasks: Vec<Uuid> = looks.iter().map(|look| look.claim.task_id.0).collect();
        let until: Vec<DateTime<Utc>> = looks.iter().map(|look| look.claim.until).collect();
        let healths: Vec<String> =
            looks.iter().map(|look| look.health.as_str().to_owned()).collect();
        let again: Vec<i64> = looks.iter().map(|look| millis(look.again)).collect();
        let rows =
            sqlx::query_file!("sql/limited_tasks/look.sql", &tasks, &until, &healths, &again)
                .fetch_all(&self.relaxed)
                .await?;
        Ok(rows.into_iter().filter(|row| row.changed).map(|row| TaskId(row.task_id)).collect())
    }

    /// Forgets the limits of tasks, where their claims still hold.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn forget_limited_tasks(&self, claims: &[Claim]) -> Result<(), StoreError> {
        let tasks: Vec<Uuid> = claims.iter().map(|claim| claim.task_id.0).collect();
        let until: Vec<DateTime<Utc>> = claims.iter().map(|claim| claim.until).collect();
        sqlx::query_file!("sql/limited_tasks/forget.sql", &tasks, &until)
            .execute(&self.relaxed)
            .await?;
        Ok(())
    }

    /// Tasks that were not healthy when they were looked at, in the order of their ids.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn unhealthy_tasks(
        &self,
        after: Option<TaskId>,
        count: i64,
    ) -> Result<Vec<TaskId>, StoreError> {
        let rows = sqlx::query_scalar!(
            "SELECT task_id FROM limited_tasks
            WHERE health <> 'healthy' AND task_id > $1 ORDER BY task_id LIMIT $2",
            after.map_or(Uuid::nil(), |task| task.0),
            count
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(TaskId).collect())
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Clocks may be set back.
fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn ids(tasks: &[TaskId]) -> Vec<Uuid> {
    tasks.iter().map(|task| task.0).collect()
}
