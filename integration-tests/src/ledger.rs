//! A look into the database: what must hold there, whatever happened.

use std::{collections::BTreeMap, fmt::Debug, str::FromStr, time::Duration};

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction, postgres::PgPoolOptions};
use tasker_api::DeliveryToken;
use tasker_domain::{StepEvent, StepState, TaskEvent, TaskState};
use tasker_store::{Held, Options, Payload, Store, ToQueue, Verdict};
use uuid::Uuid;

use crate::wait::until;

mod record;

pub use record::{Grant, Move, Record, Row};

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads what the mesh has written. Every method panics if the database does not answer.
#[derive(Debug)]
pub struct Ledger {
    url: String,
    pool: PgPool,
}

/// How long a step has waited for its next attempt.
#[derive(Debug)]
pub struct Wait {
    /// Its name.
    pub step: String,
    /// How long it was to wait.
    pub waits: Duration,
    /// How much later it was made ready.
    pub late: Duration,
}

impl Ledger {
    pub(crate) async fn open(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(2).connect(url).await;
        Self { url: url.to_owned(), pool: pool.expect("the database answers") }
    }

    /// A number, such as a count.
    pub async fn number(&self, statement: &'static str) -> i64 {
        let number = sqlx::query_scalar(statement).fetch_one(&self.pool).await;
        number.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Puts a message into a queue.
    pub async fn send(&self, queue: &str, message: &str) {
        let sent = sqlx::query("SELECT pgmq.send($1, $2::jsonb)").bind(queue).bind(message);
        sent.execute(&self.pool).await.unwrap_or_else(|error| panic!("{queue}: {error}"));
    }

    /// Locks a table, and keeps it until what is returned is rolled back.
    pub async fn lock_table(&self, lock: &'static str) -> Transaction<'static, Postgres> {
        let mut transaction = self.pool.begin().await.expect("the database answers");
        let locked = sqlx::query(lock).execute(&mut *transaction).await;
        locked.unwrap_or_else(|error| panic!("{lock}: {error}"));
        transaction
    }

    /// Waits until so many statements wait for locks.
    pub async fn until_waiting(&self, statements: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("statements wait for locks", PATIENCE, async || {
            (self.number(waiting).await >= statements).then_some(())
        })
        .await;
    }

    /// Changes or deletes rows, and says how many.
    pub async fn change(&self, statement: &'static str) -> u64 {
        let changed = sqlx::query(statement).execute(&self.pool).await;
        changed.unwrap_or_else(|error| panic!("{statement}: {error}")).rows_affected()
    }

    /// How many tasks are complete.
    pub async fn completed(&self) -> i64 {
        self.number("SELECT count(*) FROM tasks WHERE state = 'complete'").await
    }

    /// Waits until so many tasks are complete.
    ///
    /// # Panics
    /// They are not in time: says where the others stand.
    pub async fn until_completed(&self, tasks: usize, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        while self.completed().await < i64::try_from(tasks).expect("a test's numbers are small") {
            if tokio::time::Instant::now() >= deadline {
                panic!(
                    "not all tasks are complete after {within:?}: {:#?}",
                    self.open_work().await
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Says of every table and queue how many rows it has.
    pub async fn row_counts(&self) -> BTreeMap<String, i64> {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname IN ('public', 'pgmq') AND tablename !~ '_transitions_'",
        )
        .fetch_all(&self.pool)
        .await
        .expect("the catalogue can be read");
        let mut counts = BTreeMap::new();
        for table in tables {
            // The name comes from the catalogue, quoted by it.
            let statement = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let rows: i64 = sqlx::query_scalar(statement)
                .fetch_one(&self.pool)
                .await
                .unwrap_or_else(|error| panic!("{table}: {error}"));
            counts.insert(table, rows);
        }
        counts
    }

    /// Checks that nothing is left where nothing should be: no message, no lease, no session, no step held.
    ///
    /// Sessions end a moment after their streams, so this waits for them.
    ///
    /// # Panics
    /// Something is left, or the reconciler finds something to repair.
    pub async fn nothing_is_left(&self) {
        until("nothing is left in queues, leases, sessions and held steps", PATIENCE, async || {
            let left = self.left_over().await;
            if !left.is_empty() {
                eprintln!("still there: {left:?}");
            }
            left.is_empty().then_some(())
        })
        .await;
        assert_eq!(self.repairs().await, 0, "the reconciler found something to repair");
    }

    /// What is in tables that are empty when nothing runs.
    async fn left_over(&self) -> BTreeMap<String, i64> {
        let mut counts = self.row_counts().await;
        counts.retain(|table, rows| {
            // Domain events stay until whoever wants them has read them.
            let passing = table.starts_with("pgmq.q_") && !table.ends_with("_domain_events")
                || ["public.leases", "public.worker_sessions", "public.held_steps"]
                    .contains(&table.as_str());
            passing && *rows > 0
        });
        counts
    }

    /// Has the reconciler look, and says how many repairs it made.
    pub async fn repairs(&self) -> i64 {
        let store = self.store().await;
        let findings = until("no replica is looking", PATIENCE, async || {
            store.reconcile("ledger").await.expect("the database answers")
        })
        .await;
        store.close().await;
        findings.total()
    }

    /// Takes a delivery's result in as step-enqueuer does, and tells nobody that it waits to be judged.
    pub async fn queue_a_result(&self, token: DeliveryToken) {
        let DeliveryToken { task_id, ordinal, delivery_id, .. } = token;
        let content_type = "application/json".to_owned();
        let item = ToQueue {
            held: Held { task_id, ordinal, delivery_id },
            outcome: Ok(Payload { content_type, data: "1".into(), ..Payload::default() }),
            said: None,
            retry_after_ms: 0,
            worker_id: "ledger".to_owned(),
            traceparent: String::new(),
        };
        let store = self.store().await;
        let verdicts = store.queue_results(&[item]).await.expect("the database answers");
        assert_eq!(verdicts, [Verdict::Committed]);
        store.close().await;
    }

    async fn store(&self) -> Store {
        let options = Options {
            url: self.url.clone(),
            max_connections: 2,
            acquire_timeout: PATIENCE,
            application_name: "ledger".to_owned(),
        };
        Store::connect(&options).await.expect("the database answers")
    }

    /// Checks that every task has completed, once, with each result accepted once, in the order of its
    /// graph, by legal transitions only.
    ///
    /// # Panics
    /// Says what does not hold.
    pub async fn every_task_has_completed_once(&self, tasks: usize) {
        let tasks = i64::try_from(tasks).expect("a test's numbers are small");
        assert_eq!(self.number("SELECT count(*) FROM tasks").await, tasks, "tasks");
        assert_eq!(self.completed().await, tasks, "completed tasks: {:#?}", self.open_work().await);
        self.none(
            "a task that has not completed exactly once",
            "SELECT task_id FROM tasks LEFT JOIN task_transitions AS moved USING (task_id)
             GROUP BY task_id HAVING count(*) FILTER (WHERE moved.to_state = 'complete') <> 1",
        )
        .await;
        self.none(
            "a task whose counts are not those of its steps",
            "SELECT task_id FROM tasks JOIN steps USING (task_id) GROUP BY tasks.task_id
             HAVING satisfied <> count(*) OR total <> count(*)
                OR ready + held + in_flight + waiting_for_retry + failed <> 0
                OR bool_or(unmet_dependencies <> 0 OR steps.state <> 'complete')",
        )
        .await;
        self.histories_hold().await;
        self.none(
            "a step whose result was not accepted exactly once",
            "SELECT steps.task_id FROM steps
             LEFT JOIN step_transitions AS moved USING (task_id, ordinal)
             GROUP BY steps.task_id, steps.ordinal
             HAVING count(*) FILTER (WHERE 'Complete' = ANY(moved.events)) <> 1",
        )
        .await;
        self.none(
            "a step without its result",
            "SELECT task_id FROM steps LEFT JOIN step_results USING (task_id, ordinal) WHERE data IS NULL",
        )
        .await;
    }

    /// Checks of every history that each transition was legal, that it leads to where task or step
    /// stands, that attempts are counted, and that no step began before its parents were complete.
    ///
    /// # Panics
    /// Says what does not hold.
    pub async fn histories_hold(&self) {
        self.fold::<TaskState, TaskEvent, _>(
            "SELECT task_id, 0, events::text[], moved.to_state::text, tasks.state::text
             FROM tasks JOIN task_transitions AS moved USING (task_id)
             ORDER BY task_id, transition_id",
            TaskState::Pending,
            &TaskEvent::ALL,
            |state, event| state.after(event).ok(),
        )
        .await;
        self.fold::<StepState, StepEvent, _>(
            "SELECT task_id, ordinal, events::text[], moved.to_state::text, steps.state::text
             FROM steps JOIN step_transitions AS moved USING (task_id, ordinal)
             ORDER BY task_id, ordinal, transition_id",
            StepState::Pending,
            &StepEvent::ALL,
            |state, event| state.after(event).ok(),
        )
        .await;
        self.none(
            "a step whose attempts are not its starts",
            "SELECT steps.task_id FROM steps JOIN step_transitions AS moved USING (task_id, ordinal)
             WHERE transition_id > coalesce((
                -- A repair gives attempts back.
                SELECT max(transition_id) FROM step_transitions AS repair
                WHERE (repair.task_id, repair.ordinal) = (steps.task_id, steps.ordinal)
                  AND repair.events && '{ResetForRetry,Reopen}' AND repair.attempt = 0), 0)
             GROUP BY steps.task_id, steps.ordinal
             HAVING steps.attempt <> count(*) FILTER (WHERE 'Start' = ANY(moved.events))
                - count(*) FILTER (WHERE 'Release' = ANY(moved.events))",
        )
        .await;
        self.none(
            "a step that began before its parents were complete",
            "SELECT tasks.task_id FROM tasks
             JOIN template_dependencies AS edge USING (template_id)
             JOIN steps AS child USING (task_id)
             JOIN steps AS parent USING (task_id)
             JOIN step_transitions AS began
                ON (began.task_id, began.ordinal) = (child.task_id, child.ordinal)
             -- Of a parent that never came into being nothing is wanted.
             WHERE coalesce(child.declared, child.ordinal) = edge.child
               AND coalesce(parent.declared, parent.ordinal) = edge.parent
               AND 'Start' = ANY(began.events)
               AND NOT EXISTS (
                SELECT FROM step_transitions AS done
                WHERE (done.task_id, done.ordinal) = (parent.task_id, parent.ordinal)
                  AND (done.events && '{Complete,CompleteManually,ResolveManually}' OR EXISTS (
                    SELECT FROM step_batches AS batch
                    WHERE (batch.task_id, batch.ordinal) = (parent.task_id, parent.ordinal)
                      AND passed_over AND 'Fail' = ANY(done.events)))
                  AND done.transition_id < began.transition_id)",
        )
        .await;
    }

    /// Checks that each attempt at each step has ended once: by a result that was taken, or by the loss of
    /// its worker. Cancelled steps are left out, and no step may have been reset.
    ///
    /// # Panics
    /// Says what does not hold.
    pub async fn every_attempt_has_ended_once(&self) {
        self.none(
            "an attempt that has not ended exactly once",
            "SELECT steps.task_id FROM steps CROSS JOIN generate_series(1, steps.attempt) AS nth
             LEFT JOIN step_transitions AS ended
                ON (ended.task_id, ended.ordinal, ended.attempt) = (steps.task_id, steps.ordinal, nth)
               AND ended.events && '{EnqueueForOrchestration, EnqueueAsErrorForOrchestration,
                    LeaseExpired}'::step_event[]
             WHERE steps.state <> 'cancelled'
             GROUP BY steps.task_id, steps.ordinal, nth HAVING count(ended.task_id) <> 1",
        )
        .await;
    }

    /// Notes from now on until when each step waits for its next attempt.
    pub async fn note_waits(&self) {
        for statement in [
            "CREATE TABLE noted_waits (task_id uuid, ordinal integer, attempt integer,
                noted_at timestamptz DEFAULT now(), retry_at timestamptz)",
            "CREATE FUNCTION note_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO noted_waits (task_id, ordinal, attempt, retry_at)
                VALUES (NEW.task_id, NEW.ordinal, NEW.attempt, NEW.retry_at);
                RETURN NEW;
             END $$",
            "CREATE TRIGGER note_wait AFTER UPDATE ON steps FOR EACH ROW
             WHEN (NEW.retry_at IS DISTINCT FROM OLD.retry_at AND NEW.retry_at IS NOT NULL)
             EXECUTE FUNCTION note_wait()",
        ] {
            self.change(statement).await;
        }
    }

    /// The waits that were noted, in the order of each step's attempts. All must be over.
    pub async fn waits(&self) -> Vec<Wait> {
        let rows: Vec<(String, f64, f64)> = sqlx::query_as(
            "SELECT name, extract(epoch FROM noted.retry_at - noted_at)::double precision,
                extract(epoch FROM occurred_at - noted.retry_at)::double precision
             FROM noted_waits AS noted JOIN step_transitions AS retried USING (task_id, ordinal, attempt)
             JOIN steps USING (task_id, ordinal)
             WHERE 'Retry' = ANY(retried.events)
             ORDER BY task_id, ordinal, noted.attempt",
        )
        .fetch_all(&self.pool)
        .await
        .expect("the waits can be read");
        let wait = |(step, waits, late)| Wait {
            step,
            waits: Duration::from_secs_f64(waits),
            late: Duration::from_secs_f64(late),
        };
        rows.into_iter().map(wait).collect()
    }

    async fn none(&self, what: &str, statement: &'static str) {
        let found: Vec<Uuid> = sqlx::query_scalar(statement)
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found.is_empty(), "{} times {what}, such as in task {}", found.len(), found[0]);
    }

    /// Walks each history through the machine.
    async fn fold<S, E, F>(&self, statement: &'static str, first: S, events: &[E], after: F)
    where
        S: Copy + Debug + PartialEq + FromStr<Err: Debug>,
        E: Copy + Debug,
        F: Fn(S, E) -> Option<S>,
    {
        type Row = (Uuid, i32, Vec<String>, String, String);
        let rows: Vec<Row> =
            sqlx::query_as(statement).fetch_all(&self.pool).await.expect("the history can be read");
        let by_name: BTreeMap<String, E> =
            events.iter().map(|event| (format!("{event:?}"), *event)).collect();
        let state = |text: &str| text.parse::<S>().expect("the database has the same states");
        let mut walks: BTreeMap<(Uuid, i32), (S, S)> = BTreeMap::new();
        for (task, ordinal, passed, to, stands) in rows {
            let (at, _) = walks.get(&(task, ordinal)).copied().unwrap_or((first, state(&stands)));
            let next = passed.iter().try_fold(at, |at, name| after(at, by_name[name]));
            assert_eq!(
                next,
                Some(state(&to)),
                "task {task}, step {ordinal}: {passed:?} in {at:?} does not lead to {to}"
            );
            walks.insert((task, ordinal), (state(&to), state(&stands)));
        }
        for ((task, ordinal), (walked, stands)) in walks {
            assert_eq!(walked, stands, "task {task}, step {ordinal}: the history ends elsewhere");
        }
    }

    /// Where everything stands that has not ended, for the message of a test that waits in vain.
    async fn open_work(&self) -> Vec<String> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT format('%s tasks %s', count(*), state) FROM tasks GROUP BY state
             UNION ALL SELECT format('%s steps %s', count(*), state) FROM steps GROUP BY state
             UNION ALL SELECT format('%s leases', count(*)) FROM leases
             UNION ALL SELECT format('%s sessions', count(*)) FROM worker_sessions",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap_or_default();
        let queues = self.row_counts().await.into_iter().filter(|(_, rows)| *rows > 0);
        rows.into_iter()
            .map(|row| row.0)
            .chain(queues.map(|(name, rows)| format!("{name}: {rows}")))
            .collect()
    }
}
