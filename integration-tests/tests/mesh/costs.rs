//! What a step costs the database. Counts, not times: they are the same on every machine, so that a
//! step cannot become dearer unnoticed.
//!
//! They are the database's own counters, and what it logs of statements: no extension is needed. The
//! server is one of our own, with all that counts by itself switched off.

use std::{
    collections::BTreeMap,
    fmt, fs,
    ops::Sub,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    str::FromStr as _,
    sync::atomic::{AtomicI64, Ordering},
};

use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tasker_client::NewTask;
use tasker_domain::{TaskId, Template, identity};
use tasker_integration_tests::{Mesh, example, register_examples, until};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tasker_store::{
    Completion, Front, Options, Payload, Place, ReadyStep, Registered, Said, Started, Store,
    ToEnqueue, ToStart, Verdict,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::under_load::{PATIENCE, example_worker};

/// Of a step of four in a row, where nothing else happens.
///
/// If a change makes a step dearer on purpose, set the new count here, and say in its commit what is
/// had for it. If it makes one cheaper, set that: it is won only once nobody can lose it again.
const LONE: Cost =
    Cost { statements: 1.275, transactions: 1.2875, row_writes: 11.25, wal_bytes: 2_348.0 };

/// The same, if a call waits for the task's end: an update has it told, and nothing has to be read.
const AWAITED: Cost =
    Cost { statements: 1.525, transactions: 1.5375, row_writes: 11.5, wal_bytes: 2_357.0 };

/// Of a step of a hundred that go their way together, by the store's verbs alone: what a step costs
/// under load, if batches are full and workers have room.
const PLACED: Cost =
    Cost { statements: 0.0125, transactions: 0.0125, row_writes: 11.25, wal_bytes: 2_348.0 };

/// The same, if every step waits for a worker with room.
const QUEUED: Cost =
    Cost { statements: 0.0425, transactions: 0.0425, row_writes: 20.25, wal_bytes: 4_337.0 };

/// By what part counts may differ from one run to the next. How many connections a mesh opens, each
/// with transactions of its own, is a matter of time.
const NOISE: Cost =
    Cost { statements: 0.02, transactions: 0.06, row_writes: 0.02, wal_bytes: 0.02 };

const COUNTED_DATABASE: &str = "tasker";
/// The name of our own connections.
const LOOKING: &str = "costs";
/// How services ask whether the database answers: as often as time passes, so not counted.
const HEALTH: &str = "SELECT 1";

const STEPS: usize = 4;
/// Tasks that make connections, plans and pages.
const FEW: usize = 20;
/// Tasks that are counted.
const COUNTED: usize = 100;
/// Tasks that go their way together, and how many times so many are counted.
const BATCH: usize = 100;
const COUNTED_BATCHES: usize = 10;
/// Of a worker.
const SESSION: Uuid = Uuid::from_u128(1);
/// How long an attempt may take, in ms.
const TIMEOUT_MS: i64 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_lone_task_costs_the_database_no_more_than_it_did() {
    let server = Server::start().await;
    // Starts and ends cost the same in both: what is left is what the tasks cost.
    lone_tasks(&server, FEW, By::Looking).await;
    for (by, name, cost) in [(By::Looking, "LONE", &LONE), (By::Waiting, "AWAITED", &AWAITED)] {
        let few = server.spent(async || lone_tasks(&server, FEW, by).await).await;
        let more = server.spent(async || lone_tasks(&server, FEW + COUNTED, by).await).await;
        (more - few).of_each(COUNTED * STEPS).is_within(name, cost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_among_a_hundred_costs_the_database_no_more_than_it_did() {
    among_a_hundred(Way::Placed).await.is_within("PLACED", &PLACED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_waits_among_a_hundred_costs_the_database_no_more_than_it_did() {
    among_a_hundred(Way::Queued).await.is_within("QUEUED", &QUEUED);
}

async fn among_a_hundred(way: Way) -> Spent {
    let server = Server::start().await;
    batches(&server, 1, way).await;
    let few = server.spent(async || batches(&server, 1, way).await).await;
    let more = server.spent(async || batches(&server, 1 + COUNTED_BATCHES, way).await).await;
    (more - few).of_each(COUNTED_BATCHES * BATCH * STEPS)
}

/// How it is known that a task has ended. Not by a watch: it costs the more, the oftener its task moves between
/// two looks.
#[derive(Clone, Copy)]
enum By {
    /// At the database, by a connection that is not counted.
    Looking,
    /// WaitForTask.
    Waiting,
}

/// Runs tasks one after another through a mesh of its own, which has ended when this returns.
async fn lone_tasks(server: &Server, tasks: usize, by: By) {
    // No timer has a part in it.
    let mesh = Mesh::setup()
        .database(&server.url)
        .with("mesh.fallback_interval", "1h")
        .with("step_enqueuer.session_ttl", "1h")
        .with("finalizer.reconcile_interval", "1h")
        .with("finalizer.limits_interval", "1h")
        .start()
        .await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = example_worker(&mesh, "worker");
    for _ in 0..tasks {
        let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 6})).unwrap();
        let task = client.create_task(task).await.unwrap().task_id;
        match by {
            By::Looking => {
                until("the task is complete", PATIENCE, async || server.is_complete(&task).await)
                    .await;
            }
            By::Waiting => {
                client.wait_for_task(&task, PATIENCE).await.unwrap();
            }
        }
    }
    assert!(worker.stop().await.success());
    mesh.stop().await;
}

/// How steps come to workers.
#[derive(Clone, Copy)]
enum Way {
    /// Workers keep places for them.
    Placed,
    /// By the worker queue: no worker has room when they are ready.
    Queued,
}

/// Runs tasks by [`BATCH`] through the verbs of the store, as the stages call them under load.
async fn batches(server: &Server, batches: usize, way: Way) {
    let options = Options {
        url: server.url.clone(),
        max_connections: 1,
        acquire_timeout: PATIENCE,
        application_name: "batches".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
    let yaml = example("linear");
    let template = Template::parse(&yaml).unwrap();
    let Registered::As(template) = store.register_template(&template, &yaml, "").await.unwrap()
    else {
        panic!("the example is registered with another definition");
    };
    for _ in 0..batches {
        let tasks: Vec<_> = (0..BATCH).map(|_| new_task(template.template_id.0)).collect();
        let kept = |task: &tasker_store::NewTask| (task.task_id.0, place(0, way));
        let places = tasks.iter().map(kept).collect();
        let born = store.create_tasks_in_places(&tasks, &places, "task-request").await.unwrap();
        let (mut ready, mut started) = (born.ready, born.started);
        for _ in 0..STEPS {
            started.extend(started_of(&store, ready).await);
            assert_eq!(started.len(), BATCH);
            let results: Vec<_> = started.iter().map(|step| completion(step, way)).collect();
            let judged = store.complete_steps(&results, "result-processor").await.unwrap();
            assert!(judged.verdicts.iter().all(|verdict| *verdict == Verdict::Committed.into()));
            (ready, started) = (judged.ready, judged.started);
            assert!(judged.finalizations.is_empty(), "the last result ends its task");
        }
    }
    store.close().await;
}

/// Has ready steps begin, by the queue.
async fn started_of(store: &Store, ready: Vec<ReadyStep>) -> Vec<Started> {
    if ready.is_empty() {
        return Vec::new();
    }
    let place = |ready| ToEnqueue {
        ready,
        to: None,
        traceparent: String::new(),
        queue: "arithmetic".to_owned(),
        callable: "square".to_owned(),
        held_to: None,
    };
    let items: Vec<_> = ready.into_iter().map(place).collect();
    store.enqueue_steps(&items, "step-enqueuer").await.unwrap();
    let handlers = ["square".to_owned()];
    let looked = store
        .waiting_steps("arithmetic", &handlers, &Front::default(), BATCH as i64)
        .await
        .unwrap();
    let waiting = looked.steps;
    let start = |waiting| ToStart {
        waiting,
        delivery_id: Uuid::now_v7(),
        session_id: SESSION,
        timeout_ms: TIMEOUT_MS,
    };
    let items: Vec<_> = waiting.into_iter().map(start).collect();
    store.start_steps("arithmetic", &items, "step-enqueuer").await.unwrap().0
}

/// A step's result, with a place for the next step.
fn completion(step: &Started, way: Way) -> Completion {
    Completion {
        message_id: None,
        held: step.held,
        payload: number(),
        said: Said::Nothing,
        worker_id: "worker".to_owned(),
        traceparent: String::new(),
        places: place(step.held.ordinal + 1, way),
    }
}

/// Where a step may begin at once.
fn place(ordinal: i32, way: Way) -> Vec<Place> {
    let is_kept = matches!(way, Way::Placed) && (ordinal as usize) < STEPS;
    let place = || Place {
        ordinal,
        delivery_id: Uuid::now_v7(),
        session_id: SESSION,
        timeout_ms: TIMEOUT_MS,
    };
    is_kept.then(place).into_iter().collect()
}

fn new_task(template_id: Uuid) -> tasker_store::NewTask {
    tasker_store::NewTask {
        message_id: None,
        task_id: TaskId::new(),
        template_id,
        newest: true,
        steps: 4,
        repetition: Some(identity::request_key(&Uuid::now_v7().to_string())),
        identity: None,
        priority: 0,
        context: number(),
        idempotency_key: String::new(),
        correlation_id: String::new(),
        requested_by: String::new(),
        reason: String::new(),
        look_after: None,
        traceparent: String::new(),
        tracestate: String::new(),
    }
}

fn number() -> Payload {
    let data = b"1296".as_slice().into();
    Payload { content_type: "application/json".to_owned(), data, ..Payload::default() }
}

/// What one step may cost.
struct Cost {
    /// Sent to the server.
    statements: f64,
    /// Ended, with a commit or without.
    transactions: f64,
    /// Rows inserted, updated and deleted, in all tables.
    row_writes: f64,
    /// Bytes.
    wal_bytes: f64,
}

impl Cost {
    const NAMES: [&str; 4] = ["statements", "transactions", "row_writes", "wal_bytes"];

    fn counts(&self) -> [f64; 4] {
        [self.statements, self.transactions, self.row_writes, self.wal_bytes]
    }
}

/// What some work has cost, in the order of [`Cost::NAMES`], and its statements.
struct Spent {
    counts: [f64; 4],
    statements: BTreeMap<String, f64>,
}

impl Spent {
    /// The share of each of so many steps.
    fn of_each(mut self, steps: usize) -> Self {
        let counts = self.counts.iter_mut().chain(self.statements.values_mut());
        counts.for_each(|count| *count /= steps as f64);
        self
    }

    /// # Panics
    /// A count has grown: says which, and what the statements of a step are.
    fn is_within(&self, name: &str, ceiling: &Cost) {
        let mut grown = Vec::new();
        for (nth, count) in Cost::NAMES.into_iter().enumerate() {
            let (now, before) = (self.counts[nth], ceiling.counts()[nth]);
            eprintln!("{name}.{count}: {now:.4}, known {before:.4}");
            if now > before * (1.0 + NOISE.counts()[nth]) {
                grown.push(format!("{count} from {before:.4} to {now:.4}"));
            }
        }
        assert!(
            grown.is_empty(),
            "a step costs the database more than it did: {} have grown.\n\
             If that is intended, set {name} in {} to the new counts.\n\
             Statements of a step, by who sends them:\n{self}",
            grown.join(", "),
            file!(),
        );
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count -= other;
        }
        for (text, count) in other.statements {
            *self.statements.entry(text).or_default() -= count;
        }
        self
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut statements: Vec<_> =
            self.statements.iter().filter(|(_, count)| **count != 0.0).collect();
        statements.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        statements.into_iter().try_for_each(|(text, count)| writeln!(f, "{count:8.4}  {text}"))
    }
}

/// A PostgreSQL on which nothing happens but what a test does.
struct Server {
    postgres: PrivatePostgres,
    /// Of the database that is counted.
    url: String,
    /// Into that database, for what a test waits for. Its transactions are subtracted.
    inside: PgPool,
    looks: AtomicI64,
    /// Into another, for the counters: they are the server's, and looking at them counts there.
    outside: PgPool,
    _home: TempDir,
}

impl Server {
    async fn start() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        // Where the server's own user can enter, as a checkout usually is.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = Settings::new(home.path().join("cluster"))
            .with("shared_buffers", "32MB")
            .with("fsync", "off")
            // What is written beside the rows depends on the time, not on the work.
            .with("full_page_writes", "off")
            .with("autovacuum", "off")
            .with("checkpoint_timeout", "1d")
            // Statements are counted in the log.
            .with("log_statement", "all")
            .with("logging_collector", "on")
            .with("log_destination", "jsonlog")
            .with("log_directory", "statements")
            .with("log_filename", "log")
            .with("log_rotation_size", "0");
        settings.fallback_binaries = vec![workspace.join(".tasker/postgres/bin")];
        let postgres = PrivatePostgres::start(settings).await.unwrap();
        postgres.create_database(COUNTED_DATABASE).await.unwrap();
        let url = postgres.url(COUNTED_DATABASE);
        tasker_store::migrate(&url).await.unwrap();
        let connect = async |url: &str| {
            let options = PgConnectOptions::from_str(url).unwrap().application_name(LOOKING);
            PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
        };
        let (inside, outside) = (connect(&url).await, connect(&postgres.url("postgres")).await);
        Self { postgres, url, inside, looks: AtomicI64::new(0), outside, _home: home }
    }

    /// Whether a task is complete; the look is not counted.
    async fn is_complete(&self, task: &str) -> Option<()> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let state = sqlx::query_scalar("SELECT state = 'complete' FROM tasks WHERE task_id = $1");
        let task: Uuid = task.parse().unwrap();
        let complete: bool = state.bind(task).fetch_one(&self.inside).await.unwrap();
        complete.then_some(())
    }

    /// What `work` costs, which leaves no connection.
    async fn spent(&self, work: impl AsyncFnOnce()) -> Spent {
        let (before, logged) = (self.counters().await, self.log().await.len());
        work().await;
        let (after, log) = (self.counters().await, self.log().await);
        let mut statements = statements(&log[logged..]);
        let looks = statements.remove(HEALTH).unwrap_or_default();
        let [transactions, row_writes, wal_bytes] =
            std::array::from_fn(|nth| (after[nth] - before[nth]) as f64);
        let counts = [statements.values().sum(), transactions - looks, row_writes, wal_bytes];
        Spent { counts, statements }
    }

    /// Transactions, row writes and WAL so far, once all others have gone: who goes reports all that he
    /// has done.
    async fn counters(&self) -> [i64; 3] {
        // Our own connection is still there: it reports when it is told to.
        self.looks.fetch_add(1, Ordering::Relaxed);
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(&self.inside).await.unwrap();
        until("all connections but ours are closed", PATIENCE, async || {
            let others: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name <> $2",
            )
            .bind(COUNTED_DATABASE)
            .bind(LOOKING)
            .fetch_one(&self.outside)
            .await
            .unwrap();
            (others == 0).then_some(())
        })
        .await;
        let (transactions, row_writes, wal_bytes): (i64, i64, i64) = sqlx::query_as(
            "SELECT xact_commit + xact_rollback, tup_inserted + tup_updated + tup_deleted,
                (pg_current_wal_insert_lsn() - '0/0')::bigint
             FROM pg_stat_database WHERE datname = $1",
        )
        .bind(COUNTED_DATABASE)
        .fetch_one(&self.outside)
        .await
        .unwrap();
        [transactions - self.looks.load(Ordering::Relaxed), row_writes, wal_bytes]
    }

    /// All that has been logged so far. It is written by a process of its own, in order.
    async fn log(&self) -> String {
        let mark = format!("SELECT '{}'", Uuid::now_v7());
        sqlx::query(AssertSqlSafe(mark.as_str())).execute(&self.outside).await.unwrap();
        let file = self.postgres.data_dir().join("statements/log.json");
        until("the log has been written", PATIENCE, async || {
            let log = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            (log.contains(&mark) && log.ends_with('\n')).then_some(log)
        })
        .await
    }
}

/// How often each statement was sent, by who sent it and how it begins.
fn statements(log: &str) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        if text("dbname") != COUNTED_DATABASE || text("application_name") == LOOKING {
            continue;
        }
        // "statement: BEGIN", "execute sqlx_s_3: SELECT …"
        let Some((kind, statement)) = text("message").split_once(": ") else { continue };
        if kind == "statement" || kind.starts_with("execute ") {
            let begin = statement.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let begin: String = begin.trim().chars().take(100).collect();
            let name = match begin.as_str() {
                HEALTH => begin,
                _ => format!("{}: {begin}", text("application_name")),
            };
            *counts.entry(name).or_default() += 1.0;
        }
    }
    counts
}
