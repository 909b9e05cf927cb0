//! Pauses: of a task, or of the dispatch of a template. Nothing new begins meanwhile; what would is held.

use chrono::{DateTime, Utc};
use tasker_domain::TaskId;
use uuid::Uuid;

use crate::{ReadyStep, Store, StoreError, TemplateName, messages::sent};

/// Tasks whose held steps are let go in one transaction.
const BATCH: i64 = 500;

/// Who asks for something by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// As the caller says.
    pub operator: String,
    /// May be empty.
    pub reason: String,
}

impl ByHand {
    /// As histories name who does something by hand.
    fn actor(&self) -> String {
        format!("operator:{}", self.operator)
    }
}

/// A pause that goes on.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Of which template, as it was paused: all versions if it names none. `None`: of the task itself.
    pub template: Option<TemplateName>,
    /// Who paused it, and why.
    pub by: ByHand,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// How a task stood that was to be paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood {
    /// It had ended: nothing of it begins any more.
    pub ended: bool,
    /// It was paused or resumed by this, and somebody watches it.
    pub watched: bool,
}

/// What was held, and is sent again.
#[derive(Debug, Default)]
pub struct LetGo {
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Namespaces whose worker queue has got messages.
    pub queued: Vec<String>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
}

impl Store {
    /// Has no further step of a task begin. A task that has ended cannot be paused; `None`: there is no such
    /// task. A pause that goes on is not changed.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn pause_task(&self, task: TaskId, by: &ByHand) -> Result<Option<Stood>, StoreError> {
        let stood = sqlx::query_file_as!(
            Stood,
            "sql/pauses/pause_task.sql",
            task.0,
            by.operator,
            by.reason
        );
        Ok(stood.fetch_optional(&self.durable).await?)
    }

    /// Lets a task go on. `None`: there is no such task.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn resume_task(
        &self,
        task: TaskId,
        by: &ByHand,
    ) -> Result<Option<(Stood, LetGo)>, StoreError> {
        let mut tx = self.durable.begin().await?;
        let stood = sqlx::query_file_as!(
            Stood,
            "sql/pauses/resume_task.sql",
            task.0,
            by.operator,
            by.reason
        );
        let Some(stood) = stood.fetch_optional(&mut *tx).await? else { return Ok(None) };
        // In a statement of its own: it sees what was held while the one before waited for the task.
        let let_go = let_go(&mut tx, &[task.0], &by.actor()).await?;
        tx.commit().await?;
        Ok(Some((stood, let_go)))
    }

    /// Has no further step begin of a template's tasks from this answer on; of all its versions if `template`
    /// names none. Says whether there is such a template.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn pause_template(
        &self,
        template: &TemplateName,
        by: &ByHand,
    ) -> Result<bool, StoreError> {
        let TemplateName { namespace, name, version } = template;
        let mut tx = self.lock_pauses().await?;
        let known = sqlx::query_file_scalar!(
            "sql/pauses/pause_template.sql",
            namespace,
            name,
            version,
            by.operator,
            by.reason
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(known)
    }

    /// Ends a pause of a template; what it held is then [let go](Self::let_go_of_template). Says whether
    /// there is such a template.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn resume_template(
        &self,
        template: &TemplateName,
        by: &ByHand,
    ) -> Result<bool, StoreError> {
        let TemplateName { namespace, name, version } = template;
        let mut tx = self.lock_pauses().await?;
        let known = sqlx::query_file_scalar!(
            "sql/pauses/resume_template.sql",
            namespace,
            name,
            version,
            by.operator,
            by.reason
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(known)
    }

    /// Begins what pauses or resumes a template: what was held by the pause is there to be let go after it.
    async fn lock_pauses(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StoreError> {
        let mut tx = self.durable.begin().await?;
        sqlx::query_file_scalar!("sql/pauses/lock.sql").fetch_one(&mut *tx).await?;
        Ok(tx)
    }

    /// Lets go what pauses of a template held that are over, of some tasks after `after`. Returns the last
    /// of these tasks; `None`: there are no more.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn let_go_of_template(
        &self,
        template: &TemplateName,
        after: Uuid,
        by: &ByHand,
    ) -> Result<(Option<Uuid>, LetGo), StoreError> {
        let mut tx = self.durable.begin().await?;
        let tasks = sqlx::query_scalar!(
            "SELECT DISTINCT task_id FROM held_steps
             WHERE task_id > $3 AND template_id IN (
                SELECT template_id FROM templates WHERE namespace = $1 AND name = $2
             )
             ORDER BY task_id LIMIT $4",
            template.namespace,
            template.name,
            after,
            BATCH
        )
        .fetch_all(&mut *tx)
        .await?;
        let let_go = let_go(&mut tx, &tasks, &by.actor()).await?;
        tx.commit().await?;
        Ok((tasks.last().copied(), let_go))
    }

    /// Forgets pauses that ended more than so many days ago, themselves or with their tasks.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn purge_pauses(&self, keep_days: i32) -> Result<(), StoreError> {
        sqlx::query_file!("sql/pauses/purge.sql", keep_days).execute(&self.durable).await?;
        Ok(())
    }

    /// The pauses that hold a task: its own, then those of its template.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn pauses_of(&self, task: TaskId) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT NULL AS namespace, NULL AS name, NULL AS version, paused_by AS "paused_by!",
                reason AS "reason!", paused_at AS "paused_at!"
            FROM pauses WHERE task_id = $1 AND resumed_at IS NULL
            UNION ALL
            SELECT pauses.namespace, pauses.name, pauses.version, paused_by, reason, paused_at
            FROM tasks JOIN templates USING (template_id)
            JOIN pauses ON (pauses.namespace, pauses.name) = (templates.namespace, templates.name)
            WHERE tasks.task_id = $1 AND pauses.task_id IS NULL AND resumed_at IS NULL
              AND pauses.version IN ('', templates.version)"#,
            task.0
        )
        .fetch_all(&self.relaxed)
        .await?;
        let pauses = rows.into_iter().map(|row| Pause {
            template: row
                .namespace
                .zip(row.name)
                .zip(row.version)
                .map(|((namespace, name), version)| TemplateName { namespace, name, version }),
            by: ByHand { operator: row.paused_by, reason: row.reason },
            paused_at: row.paused_at,
        });
        Ok(pauses.collect())
    }
}

pub(crate) async fn let_go(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    tasks: &[Uuid],
    actor: &str,
) -> Result<LetGo, StoreError> {
    let rows =
        sqlx::query_file!("sql/held_steps/let_go.sql", tasks, actor).fetch_all(&mut **tx).await?;
    let mut let_go = LetGo::default();
    for row in rows {
        match row.kind.as_str() {
            "ready" => let_go.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?),
            "watched" => let_go.watched.extend(row.task_id),
            _ => let_go.queued.extend(row.namespace),
        }
    }
    Ok(let_go)
}
