//! What became of each task, step by step.

use std::collections::BTreeMap;

use tasker_domain::{StepEvent, StepState, TaskState};
use uuid::Uuid;

use super::Ledger;

/// A task as it stands, and how it came there.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which task.
    pub task_id: String,
    /// Where it stands.
    pub state: TaskState,
    /// Its steps, by name.
    pub rows: BTreeMap<String, Row>,
    /// What its steps passed, in order.
    pub moves: Vec<Move>,
}

/// A step as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub state: StepState,
    /// Attempts begun.
    pub attempt: i32,
    /// Its good result.
    pub result: Option<String>,
}

/// A commit in which a step moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Larger is later, in all tasks.
    pub id: i64,
    /// Which step, by name.
    pub step: String,
    /// What it passed.
    pub events: Vec<StepEvent>,
    /// Attempts begun.
    pub attempt: i32,
    /// Why, if that is said.
    pub reason: Option<String>,
}

/// A limit has let a step begin, and counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of which task.
    pub task_id: String,
    /// Which step, by name.
    pub step: String,
    /// The limit's name.
    pub limit: String,
    /// Of its key; empty without one.
    pub value: String,
    /// When, by the database's clock, in µs.
    pub at_us: i64,
}

impl Ledger {
    /// Notes from now on what limits let begin: the mesh forgets what no limit counts any more.
    pub async fn note_grants(&self) {
        for statement in [
            "CREATE TABLE noted_grants (LIKE limit_grants)",
            "CREATE FUNCTION note_grant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO noted_grants VALUES (NEW.*);
                RETURN NEW;
             END $$",
            "CREATE TRIGGER note_grant AFTER INSERT ON limit_grants FOR EACH ROW
             EXECUTE FUNCTION note_grant()",
        ] {
            self.change(statement).await;
        }
    }

    /// What limits have let begin, as far as it was noted.
    pub async fn grants(&self) -> Vec<Grant> {
        let rows: Vec<(Uuid, String, String, String, i64)> = sqlx::query_as(
            "SELECT task_id, name, limit_name, limit_value,
                (extract(epoch FROM granted_at) * 1000000)::bigint
             FROM noted_grants JOIN steps USING (task_id, ordinal)",
        )
        .fetch_all(&self.pool)
        .await
        .expect("what was noted can be read");
        let grant = |(task, step, limit, value, at_us): (Uuid, _, _, _, _)| Grant {
            task_id: task.to_string(),
            step,
            limit,
            value,
            at_us,
        };
        rows.into_iter().map(grant).collect()
    }

    /// What became of all tasks, by id.
    pub async fn records(&self) -> BTreeMap<String, Record> {
        let tasks: Vec<(Uuid, String)> = sqlx::query_as("SELECT task_id, state::text FROM tasks")
            .fetch_all(&self.pool)
            .await
            .expect("the tasks can be read");
        let record = |(id, state): (Uuid, String)| {
            let task_id = id.to_string();
            let state = state.parse().expect("the database has the same states");
            let (rows, moves) = (BTreeMap::new(), Vec::new());
            (id, Record { task_id, state, rows, moves })
        };
        let mut records: BTreeMap<Uuid, Record> = tasks.into_iter().map(record).collect();
        type OfStep = (Uuid, String, String, i32, Option<String>);
        let rows: Vec<OfStep> = sqlx::query_as(
            "SELECT task_id, name, state::text, steps.attempt, convert_from(data, 'utf8')
             FROM steps LEFT JOIN step_results USING (task_id, ordinal)",
        )
        .fetch_all(&self.pool)
        .await
        .expect("the steps can be read");
        for (task, name, state, attempt, result) in rows {
            let state = state.parse().expect("the database has the same states");
            let of = records.get_mut(&task).expect("a step has a task");
            of.rows.insert(name, Row { state, attempt, result });
        }
        type OfMove = (i64, Uuid, String, Vec<String>, i32, Option<String>);
        let moves: Vec<OfMove> = sqlx::query_as(
            "SELECT transition_id, task_id, name, events::text[], moved.attempt, reason
             FROM step_transitions AS moved JOIN steps USING (task_id, ordinal)
             ORDER BY transition_id",
        )
        .fetch_all(&self.pool)
        .await
        .expect("the history can be read");
        for (id, task, step, events, attempt, reason) in moves {
            let events = events.iter().map(|event| event_named(event)).collect();
            let of = records.get_mut(&task).expect("a step has a task");
            of.moves.push(Move { id, step, events, attempt, reason });
        }
        records.into_values().map(|record| (record.task_id.clone(), record)).collect()
    }

    /// How often steps of a task have been given to workers.
    pub async fn starts(&self, task_id: &str) -> i64 {
        self.number_of(
            "SELECT count(*) FROM step_transitions WHERE task_id = $1 AND 'Start' = ANY(events)",
            task_id,
        )
        .await
    }

    /// How much goes on in a paused task: what runs, is judged, or could begin and is not held.
    pub async fn not_held(&self, task_id: &str) -> i64 {
        self.number_of(
            "SELECT count(*) FROM steps WHERE task_id = $1 AND CASE state
                WHEN 'pending' THEN unmet_dependencies = 0 AND NOT EXISTS (
                    SELECT FROM held_steps AS held
                    WHERE (held.task_id, held.ordinal) = (steps.task_id, steps.ordinal))
                WHEN 'enqueued' THEN NOT EXISTS (
                    SELECT FROM held_steps AS held
                    WHERE (held.task_id, held.ordinal) = (steps.task_id, steps.ordinal))
                ELSE state NOT IN ('complete', 'error', 'cancelled', 'resolved_manually')
             END",
            task_id,
        )
        .await
    }

    /// Whether a task, in which nothing goes on, does not say so: all that could is held, and counted.
    pub async fn stands_wrongly(&self, task_id: &str) -> bool {
        let statement = "SELECT count(*) FROM tasks WHERE task_id = $1 AND (
            held <> (
                SELECT count(*) FROM held_steps JOIN steps USING (task_id, ordinal)
                WHERE held_steps.task_id = tasks.task_id AND steps.state = 'pending')
            OR held > 0 AND in_flight = 0 AND state <> 'waiting_for_dependencies')";
        self.number_of(statement, task_id).await > 0
    }

    /// Whether a task rests.
    pub async fn rests(&self, task_id: &str) -> bool {
        let statement =
            "SELECT count(*) FROM task_search WHERE task_id = $1 AND rests_in IS NOT NULL";
        self.number_of(statement, task_id).await > 0
    }

    /// When it is, by the database's clock.
    pub async fn now(&self) -> i64 {
        self.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await
    }

    /// How many statements run that others began before a time.
    pub async fn running_since_before(&self, time: i64) -> i64 {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND extract(epoch FROM xact_start) * 1000000 < $1",
        );
        count.bind(time).fetch_one(&self.pool).await.expect("the activity can be read")
    }

    /// A number that a statement finds about a task.
    async fn number_of(&self, statement: &'static str, task_id: &str) -> i64 {
        let task_id: Uuid = task_id.parse().expect("a task's id is a UUID");
        let number = sqlx::query_scalar(statement).bind(task_id).fetch_one(&self.pool).await;
        number.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }
}

fn event_named(name: &str) -> StepEvent {
    let mut events = StepEvent::ALL.into_iter();
    events.find(|event| format!("{event:?}") == name).expect("the database has the same events")
}
