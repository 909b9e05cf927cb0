//! A database in which a step can be put into any state.

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::{StepCounts, StepState, TaskEvent, TaskId, TaskState, Template};
use tasker_store::{Finalization, Held, NewTask, Options, Payload, ReadyStep, Registered, Store};
use tasker_testing::TestDatabase;
use uuid::Uuid;

use crate::verb::Verb;

const ONE_STEP: &str = "{namespace: parity, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}}]}";
const PARENT_AND_CHILD: &str =
    "{namespace: parity, name: parent_and_child, version: 1.0.0, steps: [
    {name: parent, handler: {callable: any}},
    {name: child, handler: {callable: any}, dependencies: [parent]}]}";

pub(crate) struct Bench {
    pub(crate) store: Store,
    one_step: Uuid,
    parent_and_child: Uuid,
    pool: PgPool,
    _database: TestDatabase,
}

/// A statement on its way.
pub(crate) struct AMove {
    process: i32,
    _transaction: sqlx::Transaction<'static, sqlx::Postgres>,
}

/// A step that a verb is about to be tried on.
pub(crate) struct AStep {
    pub(crate) ready: ReadyStep,
    pub(crate) held: Held,
    /// What its parent's result names, if it has a parent.
    pub(crate) parent: Option<Held>,
    /// Of its result, if that is in the queue.
    pub(crate) message_id: Option<i64>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            application_name: "parity".to_owned(),
        };
        let store = Store::connect(&options).await.unwrap();
        let one_step = register(&store, ONE_STEP).await;
        let parent_and_child = register(&store, PARENT_AND_CHILD).await;
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { store, one_step, parent_and_child, pool, _database: database }
    }

    /// A new step in `state`, where nothing but that state can stand in the way of `verb`.
    pub(crate) async fn a_step(&self, verb: Verb, state: StepState) -> AStep {
        let has_parent = verb.comes_by_a_parent();
        let of = if has_parent { self.parent_and_child } else { self.one_step };
        let mut ready = self.a_task(of).await;
        let delivery_id = Uuid::now_v7();
        let mut parent = None;
        if has_parent {
            let state = if verb == Verb::Reopen { "error" } else { "in_progress" };
            parent = Some(self.put_a_parent(&ready, state).await);
            ready.ordinal = 1;
        }
        let held = Held { task_id: ready.task_id, ordinal: ready.ordinal, delivery_id };
        let (of_task, ready_steps, in_flight, waiting) = match verb {
            Verb::Enqueue | Verb::EnqueueToWorker | Verb::Admit => ("enqueuing_steps", 1, 0, 0),
            Verb::Retry => ("waiting_for_retry", 0, 0, 1),
            Verb::FailBatch if state == StepState::Pending => ("enqueuing_steps", 1, 0, 0),
            Verb::Reopen => ("error", 0, 0, 0),
            _ => ("steps_in_process", 0, 1, 0),
        };
        sqlx::query(
            "UPDATE tasks SET state = $2::task_state, ready = $3, in_flight = $4, waiting_for_retry = $5
             WHERE task_id = $1",
        )
        .bind(held.task_id)
        .bind(of_task)
        .bind(ready_steps)
        .bind(in_flight)
        .bind(waiting)
        .execute(&self.pool)
        .await
        .unwrap();
        let due = if verb == Verb::Retry { "-1 second" } else { "1 hour" };
        sqlx::query(
            "UPDATE steps SET state = $2::step_state, attempt = 1,
                delivery_id = CASE WHEN $2 = 'in_progress' THEN $3 END,
                accepted_delivery_id = CASE WHEN $4 THEN $3 END,
                retry_at = CASE WHEN $2 = 'waiting_for_retry' THEN now() + $5::interval END
             WHERE task_id = $1 AND ordinal = $6",
        )
        .bind(held.task_id)
        .bind(state.as_str())
        .bind(held.delivery_id)
        .bind(verb.judges_from_the_queue())
        .bind(due)
        .bind(held.ordinal)
        .execute(&self.pool)
        .await
        .unwrap();
        if verb == Verb::FailBatch {
            // The worker of a batch that has not begun, whatever its state.
            sqlx::query("UPDATE steps SET attempt = 0, declared = ordinal WHERE task_id = $1")
                .bind(held.task_id)
                .execute(&self.pool)
                .await
                .unwrap();
        }
        if matches!(verb, Verb::Release | Verb::Expire) {
            // Whatever its state: only the state may stand in the way.
            sqlx::query(
                "INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
                 VALUES ($1, $2, $3, gen_random_uuid(), now() + interval '1 hour')",
            )
            .bind(held.task_id)
            .bind(held.ordinal)
            .bind(held.delivery_id)
            .execute(&self.pool)
            .await
            .unwrap();
        }
        // What was remembered of its birth is not asked for.
        sqlx::query("DELETE FROM step_transitions WHERE task_id = $1")
            .bind(held.task_id)
            .execute(&self.pool)
            .await
            .unwrap();
        let message_id = if verb.judges_from_the_queue() {
            Some(self.send("orchestration_step_results", &held).await)
        } else {
            None
        };
        AStep { ready, held, parent, message_id }
    }

    /// Puts a task's first step into a state: `in_progress` at a worker, or `error`.
    async fn put_a_parent(&self, ready: &ReadyStep, state: &str) -> Held {
        let parent =
            Held { task_id: ready.task_id, ordinal: ready.ordinal, delivery_id: Uuid::now_v7() };
        sqlx::query(
            "UPDATE steps SET state = $4::step_state, attempt = 1,
                delivery_id = CASE WHEN $4 = 'in_progress' THEN $3 END
             WHERE task_id = $1 AND ordinal = $2",
        )
        .bind(parent.task_id)
        .bind(parent.ordinal)
        .bind(parent.delivery_id)
        .bind(state)
        .execute(&self.pool)
        .await
        .unwrap();
        parent
    }

    /// A new task in `state`, where nothing but that state can stand in the way of an end.
    pub(crate) async fn a_task_in(&self, state: TaskState) -> TaskId {
        let task = self.a_task(self.one_step).await.task_id;
        sqlx::query(
            "UPDATE tasks SET state = $2::task_state, ready = 0,
                satisfied = CASE WHEN $2 = 'complete' THEN 1 ELSE 0 END
             WHERE task_id = $1",
        )
        .bind(task)
        .bind(state.as_str())
        .execute(&self.pool)
        .await
        .unwrap();
        TaskId(task)
    }

    /// Has a step's task stand there, whatever its steps say, and forgets how it came there.
    pub(crate) async fn stands(&self, task: Uuid, state: TaskState, counts: StepCounts) {
        sqlx::query(
            "UPDATE tasks SET state = $2::task_state, total = $3, ready = $4, held = $5, in_flight = $6,
                waiting_for_retry = $7, failed = $8, satisfied = $9
             WHERE task_id = $1",
        )
        .bind(task)
        .bind(state.as_str())
        .bind(counts.total)
        .bind(counts.ready)
        .bind(counts.held)
        .bind(counts.in_flight)
        .bind(counts.waiting_for_retry)
        .bind(counts.failed)
        .bind(counts.satisfied)
        .execute(&self.pool)
        .await
        .unwrap();
        let forget = "DELETE FROM task_transitions WHERE task_id = $1";
        sqlx::query(forget).bind(task).execute(&self.pool).await.unwrap();
    }

    /// What a task has passed, as far as it is not forgotten.
    pub(crate) async fn passed(&self, task: Uuid) -> Vec<TaskEvent> {
        let rows: Vec<(Vec<String>,)> = sqlx::query_as(
            "SELECT events::text[] FROM task_transitions WHERE task_id = $1 ORDER BY transition_id",
        )
        .bind(task)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.into_iter().flat_map(|(events,)| events).map(|event| event.parse().unwrap()).collect()
    }

    /// Sends what says that nothing moves in a task.
    pub(crate) async fn send_a_finalization(&self, task: Uuid) -> Finalization {
        let held = Held { task_id: task, ordinal: 0, delivery_id: Uuid::nil() };
        let message_id = self.send("orchestration_task_finalizations", &held).await;
        Finalization { message_id, task_id: task, traceparent: String::new() }
    }

    pub(crate) async fn has_no_attempts_left(&self, step: &AStep) {
        sqlx::query("UPDATE steps SET attempt = max_attempts WHERE task_id = $1 AND ordinal = $2")
            .bind(step.held.task_id)
            .bind(step.held.ordinal)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn send_to_worker_queue(&self, step: &AStep) -> i64 {
        self.send("worker_parity_queue", &step.held).await
    }

    /// As if its template asked for more than a result.
    pub(crate) async fn make_it_not_plain(&self, step: &AStep) {
        sqlx::query("UPDATE steps SET plain = false WHERE task_id = $1 AND ordinal = $2")
            .bind(step.held.task_id)
            .bind(step.held.ordinal)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn is_held(&self, step: &AStep) -> bool {
        let held = "SELECT EXISTS (SELECT FROM held_steps WHERE task_id = $1 AND ordinal = $2)";
        sqlx::query_scalar(held)
            .bind(step.held.task_id)
            .bind(step.held.ordinal)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn results_in_the_queue(&self) -> i64 {
        let count = "SELECT count(*) FROM pgmq.q_orchestration_step_results";
        sqlx::query_scalar(count).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn empty_the_queue_of_results(&self) {
        let delete = "DELETE FROM pgmq.q_orchestration_step_results";
        sqlx::query(delete).execute(&self.pool).await.unwrap();
    }

    /// Where a step stands, and the last that is remembered of it.
    pub(crate) async fn look(&self, step: &AStep) -> (StepState, Option<(Vec<String>, StepState)>) {
        let state = "SELECT state::text FROM steps WHERE task_id = $1 AND ordinal = $2";
        let state: String = sqlx::query_scalar(state)
            .bind(step.held.task_id)
            .bind(step.held.ordinal)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let last: Option<(Vec<String>, String)> = sqlx::query_as(
            "SELECT events::text[], to_state::text FROM step_transitions
             WHERE task_id = $1 AND ordinal = $2 ORDER BY transition_id DESC LIMIT 1",
        )
        .bind(step.held.task_id)
        .bind(step.held.ordinal)
        .fetch_optional(&self.pool)
        .await
        .unwrap();
        let last = last.map(|(events, state)| (events, state.parse().unwrap()));
        (state.parse().unwrap(), last)
    }

    /// Another statement, that moves the step's task and has not committed.
    pub(crate) async fn begin_a_move_of(&self, step: &AStep) -> AMove {
        let mut transaction = self.pool.begin().await.unwrap();
        let process = sqlx::query_scalar(
            "SELECT pg_backend_pid() FROM tasks WHERE task_id = $1 FOR NO KEY UPDATE",
        )
        .bind(step.held.task_id)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
        AMove { process, _transaction: transaction }
    }

    pub(crate) async fn somebody_waits_for(&self, other: &AMove) {
        let waits =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))";
        while !sqlx::query_scalar::<_, bool>(waits)
            .bind(other.process)
            .fetch_one(&self.pool)
            .await
            .unwrap()
        {}
    }

    async fn a_task(&self, template_id: Uuid) -> ReadyStep {
        let content_type = "application/json".to_owned();
        let task = NewTask {
            message_id: None,
            task_id: TaskId::new(),
            template_id,
            newest: false,
            steps: 1,
            repetition: None,
            identity: None,
            priority: 0,
            context: Payload { content_type, data: "{}".into(), ..Payload::default() },
            idempotency_key: String::new(),
            correlation_id: String::new(),
            requested_by: String::new(),
            reason: String::new(),
            look_after: None,
            traceparent: String::new(),
            tracestate: String::new(),
        };
        let born = self.store.create_tasks(&[task], "parity").await.unwrap();
        born.ready.into_iter().next().unwrap()
    }

    async fn send(&self, queue: &str, held: &Held) -> i64 {
        sqlx::query_scalar(
            "SELECT pgmq.send($1, jsonb_build_object('task_id', $2::uuid, 'ordinal', $3::integer))",
        )
        .bind(queue)
        .bind(held.task_id)
        .bind(held.ordinal)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

async fn register(store: &Store, yaml: &str) -> Uuid {
    let template = Template::parse(yaml).unwrap();
    let registered = store.register_template(&template, yaml, "").await.unwrap();
    let Registered::As(row) = registered else { panic!("{registered:?}") };
    row.template_id.0
}
