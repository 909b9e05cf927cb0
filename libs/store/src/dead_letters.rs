//! Tasks that somebody has to look into.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, Postgres, QueryBuilder, Row as _, postgres::PgRow};
use tasker_domain::{DeadLetterId, DeadLetterReason, DeadLetterStatus, TaskId, TaskState};
use uuid::Uuid;

use crate::{Store, StoreError, limited_tasks::millis};

/// A task to be put among the dead letters.
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
    /// Which.
    pub task_id: TaskId,
    /// Why.
    pub reason: DeadLetterReason,
    /// For people: what is wrong.
    pub detail: String,
    /// How long it has been so: an entry for the same reason from this time is the same.
    pub lasted: Option<Duration>,
}

/// One time that a task was put among the dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Which.
    pub entry_id: DeadLetterId,
    /// Of which task.
    pub task_id: TaskId,
    /// Of the task's template.
    pub namespace: String,
    /// Of the task's template.
    pub name: String,
    /// Of the task's template.
    pub version: String,
    /// Where the task stands now.
    pub task_state: TaskState,
    /// Why it was put there.
    pub reason: DeadLetterReason,
    /// For people: what was wrong.
    pub detail: String,
    /// Who put it there.
    pub actor: String,
    /// What has come of it.
    pub status: DeadLetterStatus,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who changed it last; may be empty.
    pub resolver: String,
    /// May be empty.
    pub notes: String,
}

/// Which entries to list; what is empty does not narrow.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of the task's template.
    pub namespace: String,
    /// Of which task.
    pub task: Option<TaskId>,
    /// Any of them.
    pub reasons: Vec<DeadLetterReason>,
    /// Any of them.
    pub statuses: Vec<DeadLetterStatus>,
}

/// A place in the queue of investigation, as it was at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueuePlace {
    /// When scores were made: those of later pages are of the same time.
    pub as_of: DateTime<Utc>,
    /// Of the last entry.
    pub score: i32,
    /// The last entry.
    pub entry_id: DeadLetterId,
}

/// What somebody notes of an entry.
#[derive(Debug, Clone)]
pub struct DeadLetterUpdate {
    /// `None`: as it is.
    pub status: Option<DeadLetterStatus>,
    /// `None`: as they are.
    pub notes: Option<String>,
    /// Who says so.
    pub resolver: String,
}

/// What came of putting a task among the dead letters by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreatedByHand {
    /// The entry that this request has made, now or before.
    Entry(DeadLetterId),
    /// Nothing was done: the request has made this entry before, of this other task.
    MadeOfAnother(DeadLetterId, TaskId),
    /// Nothing was done: the task has this entry, which nobody has resolved.
    Pending(DeadLetterId),
    /// There is no such task.
    NoTask,
}

/// What came of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated {
    /// It is as asked for.
    Done,
    /// It was resolved before, otherwise.
    Resolved(DeadLetterStatus),
    /// There is no such entry.
    Missing,
}

/// What there is of one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterCounts {
    /// Which.
    pub reason: DeadLetterReason,
    /// Entries that nobody has resolved.
    pub pending: i64,
    /// Entries that somebody has.
    pub resolved: i64,
    /// Since when the oldest is pending.
    pub oldest_pending: Option<DateTime<Utc>>,
    /// How long it took to resolve one, in the mean.
    pub mean_time_to_resolve: Option<Duration>,
}

/// The index by which a request makes one entry.
const ONE_FOR_EACH_REQUEST: &str = "a_request_makes_one_dead_letter";

/// The most points that age gives, one for each hour.
const MAX_AGE_POINTS: i32 = 240;

/// What every read of an entry selects.
const COLUMNS: &str =
    "SELECT entry_id, entry.task_id, entry.namespace, search.name, search.version,
    tasks.state::text AS task_state, reason::text AS reason, detail, actor, status::text AS status,
    entry.created_at, resolved_at, resolver, notes";
const TABLES: &str = "
FROM task_dead_letters AS entry JOIN task_search AS search USING (task_id) JOIN tasks USING (task_id)
WHERE true";

pub(crate) async fn create(
    executor: impl PgExecutor<'_>,
    letters: &[NewDeadLetter],
    actor: &str,
) -> Result<Vec<(TaskId, DeadLetterId)>, StoreError> {
    let tasks: Vec<Uuid> = letters.iter().map(|letter| letter.task_id.0).collect();
    let reasons: Vec<String> = letters.iter().map(|letter| letter.reason.to_string()).collect();
    let details: Vec<String> = letters.iter().map(|letter| letter.detail.clone()).collect();
    let lasted: Vec<Option<i64>> = letters.iter().map(|letter| letter.lasted.map(millis)).collect();
    let rows = sqlx::query_file!(
        "sql/task_dead_letters/create.sql",
        &tasks,
        &reasons,
        &details,
        &lasted as &[Option<i64>],
        actor
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (TaskId(row.task_id), DeadLetterId(row.entry_id))).collect())
}

impl Store {
    /// Puts tasks among the dead letters, each with how it stands now. Those that are not in the answer
    /// have a pending entry already, or had one for what still lasts, or do not exist.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn create_dead_letters(
        &self,
        letters: &[NewDeadLetter],
        actor: &str,
    ) -> Result<Vec<(TaskId, DeadLetterId)>, StoreError> {
        create(&self.durable, letters, actor).await
    }

    /// Puts a task among the dead letters by hand. The same request again, if it has an id, is given the entry
    /// that it has made.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn create_dead_letter_by_hand(
        &self,
        task: TaskId,
        detail: &str,
        actor: &str,
        request_id: &str,
    ) -> Result<CreatedByHand, StoreError> {
        let row = loop {
            let row = sqlx::query_file!(
                "sql/task_dead_letters/create_by_hand.sql",
                task.0,
                detail,
                actor,
                request_id
            );
            match row.fetch_optional(&self.durable).await.map_err(StoreError::from) {
                // The same request was quicker, and has committed: the next look finds what it has made.
                Err(StoreError::Conflict { constraint }) if constraint == ONE_FOR_EACH_REQUEST => {}
                done => break done?,
            }
        };
        Ok(row.map_or(CreatedByHand::NoTask, |row| {
            match (DeadLetterId(row.entry_id), TaskId(row.task_id)) {
                (entry, of) if of != task => CreatedByHand::MadeOfAnother(entry, of),
                (entry, _) if row.by_request => CreatedByHand::Entry(entry),
                (entry, _) => CreatedByHand::Pending(entry),
            }
        }))
    }

    /// Notes what somebody has found out about an entry.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn update_dead_letter(
        &self,
        entry: DeadLetterId,
        update: &DeadLetterUpdate,
    ) -> Result<Updated, StoreError> {
        let row = sqlx::query_file!(
            "sql/task_dead_letters/update.sql",
            entry.0,
            update.status.map(DeadLetterStatus::as_str),
            update.notes.as_deref(),
            update.resolver
        )
        .fetch_optional(&self.durable)
        .await?;
        match row {
            None => Ok(Updated::Missing),
            Some(row) if row.changed => Ok(Updated::Done),
            Some(row) => Ok(Updated::Resolved(row.status.parse().map_err(corrupt)?)),
        }
    }

    /// Closes pending entries whose task has ended since. Says how many.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn close_dead_letters(&self, actor: &str) -> Result<u64, StoreError> {
        let done = sqlx::query_file!("sql/task_dead_letters/close.sql", actor)
            .execute(&self.durable)
            .await?;
        Ok(done.rows_affected())
    }

    /// Forgets entries that were resolved more than so many days ago, at most `count`. Says how many.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn purge_dead_letters(&self, keep_days: i32, count: i64) -> Result<u64, StoreError> {
        let done = sqlx::query_file!("sql/task_dead_letters/purge.sql", keep_days, count)
            .execute(&self.durable)
            .await?;
        Ok(done.rows_affected())
    }

    /// One entry, with how its task stood then.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn dead_letter(
        &self,
        entry: DeadLetterId,
    ) -> Result<Option<(DeadLetter, Value)>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push(", snapshot").push(TABLES).push(" AND entry_id = ").push_bind(entry.0);
        let row = query.build().fetch_optional(&self.relaxed).await?;
        row.map(|row| Ok((dead_letter(&row)?, row.try_get("snapshot")?))).transpose()
    }

    /// Entries, newest first, older than `before`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn list_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        before: Option<DeadLetterId>,
        count: i64,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push(TABLES);
        if !filter.namespace.is_empty() {
            query.push(" AND entry.namespace = ").push_bind(&filter.namespace);
        }
        if let Some(task) = filter.task {
            query.push(" AND entry.task_id = ").push_bind(task.0);
        }
        if !filter.reasons.is_empty() {
            let reasons: Vec<String> = filter.reasons.iter().map(ToString::to_string).collect();
            query.push(" AND reason = ANY(").push_bind(reasons).push("::dead_letter_reason[])");
        }
        if !filter.statuses.is_empty() {
            let statuses: Vec<String> = filter.statuses.iter().map(ToString::to_string).collect();
            query.push(" AND status = ANY(").push_bind(statuses).push("::dead_letter_status[])");
        }
        if let Some(before) = before {
            query.push(" AND entry_id < ").push_bind(before.0);
        }
        query.push(" ORDER BY entry_id DESC LIMIT ").push_bind(count);
        let rows = query.build().fetch_all(&self.relaxed).await?;
        rows.iter().map(dead_letter).collect()
    }

    /// Pending entries with their scores, those first that are to be looked into first. The score is the
    /// weight of the reason, plus the task's priority, plus a point for each hour, up to 240.
    ///
    /// Returns when the scores were made, too.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn dead_letters_to_look_into(
        &self,
        namespace: &str,
        after: Option<QueuePlace>,
        count: i64,
    ) -> Result<Vec<(DeadLetter, QueuePlace)>, StoreError> {
        let (reasons, weights): (Vec<&str>, Vec<i32>) =
            DeadLetterReason::ALL.into_iter().map(|it| (it.as_str(), it.weight())).unzip();
        let mut query = QueryBuilder::<Postgres>::new("SELECT * FROM (");
        query.push(COLUMNS).push(", as_of, weight + entry.priority + least(");
        query.push_bind(MAX_AGE_POINTS);
        query.push(
            ", floor(extract(epoch FROM as_of - entry.created_at) / 3600))::integer AS score",
        );
        query.push(" FROM (SELECT coalesce(").push_bind(after.map(|place| place.as_of));
        query.push("::timestamptz, now()) AS as_of) AS time, unnest(").push_bind(reasons);
        query.push("::text[], ").push_bind(weights).push(
            "::integer[]) AS weighed (of_reason, weight)
            JOIN task_dead_letters AS entry ON entry.reason = of_reason::dead_letter_reason
            JOIN task_search AS search USING (task_id) JOIN tasks USING (task_id)
            WHERE status = 'pending' AND entry.created_at <= as_of",
        );
        if !namespace.is_empty() {
            query.push(" AND entry.namespace = ").push_bind(namespace);
        }
        query.push(") AS scored");
        if let Some(place) = after {
            query.push(" WHERE (-score, entry_id) > (").push_bind(-place.score);
            query.push(", ").push_bind(place.entry_id.0).push(")");
        }
        query.push(" ORDER BY -score, entry_id LIMIT ").push_bind(count);
        let rows = query.build().fetch_all(&self.relaxed).await?;
        rows.iter()
            .map(|row| {
                let entry = dead_letter(row)?;
                let (as_of, score) = (row.try_get("as_of")?, row.try_get("score")?);
                let entry_id = entry.entry_id;
                Ok((entry, QueuePlace { as_of, score, entry_id }))
            })
            .collect()
    }

    /// What there is of each reason that there is something of. An empty namespace does not narrow.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn count_dead_letters(
        &self,
        namespace: &str,
    ) -> Result<Vec<DeadLetterCounts>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT reason::text AS "reason!",
                count(*) FILTER (WHERE status = 'pending') AS "pending!",
                count(*) FILTER (WHERE status <> 'pending') AS "resolved!",
                min(created_at) FILTER (WHERE status = 'pending') AS oldest_pending,
                (extract(epoch FROM avg(resolved_at - created_at)) * 1000)::bigint AS mean_ms
            FROM task_dead_letters WHERE $1 = '' OR namespace = $1
            GROUP BY reason ORDER BY reason"#,
            namespace
        )
        .fetch_all(&self.relaxed)
        .await?;
        let mean = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        rows.into_iter()
            .map(|row| {
                Ok(DeadLetterCounts {
                    reason: row.reason.parse().map_err(corrupt)?,
                    pending: row.pending,
                    resolved: row.resolved,
                    oldest_pending: row.oldest_pending,
                    mean_time_to_resolve: row.mean_ms.map(mean),
                })
            })
            .collect()
    }
}

fn dead_letter(row: &PgRow) -> Result<DeadLetter, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    Ok(DeadLetter {
        entry_id: DeadLetterId(row.try_get("entry_id")?),
        task_id: TaskId(row.try_get("task_id")?),
        namespace: text("namespace")?,
        name: text("name")?,
        version: text("version")?,
        task_state: text("task_state")?.parse().map_err(corrupt)?,
        reason: text("reason")?.parse().map_err(corrupt)?,
        detail: text("detail")?,
        actor: text("actor")?,
        status: text("status")?.parse().map_err(corrupt)?,
        created_at: row.try_get("created_at")?,
        resolved_at: row.try_get("resolved_at")?,
        resolver: text("resolver")?,
        notes: text("notes")?,
    })
}

fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { table: "task_dead_letters", what: what.to_string() }
}
