//! Who looks at a limited task, and what of that holds.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::{TaskId, template::lifecycle::Health};
use tasker_store::{Claim, Look, Options, Store};
use tasker_testing::TestDatabase;
use uuid::Uuid;

const A_MINUTE: Duration = Duration::from_secs(60);
/// As `sql/tasks/resume.sql`, where a task is reopened.
const REOPEN: &str = "INSERT INTO limited_tasks (task_id, look_at) VALUES ($1, now())
    ON CONFLICT (task_id) DO UPDATE SET began_at = now(), look_at = now(), health = 'healthy'";

struct Bench {
    store: Store,
    pool: PgPool,
    _database: TestDatabase,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            application_name: "limited_tasks".to_owned(),
        };
        let store = Store::connect(&options).await.unwrap();
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { store, pool, _database: database }
    }

    async fn reopen(&self, task: TaskId) {
        sqlx::query(REOPEN).bind(task.0).execute(&self.pool).await.unwrap();
    }

    async fn claim(&self) -> Vec<Claim> {
        self.store.claim_limited_tasks(10, A_MINUTE).await.unwrap()
    }

    /// Those that are due.
    async fn due(&self) -> Vec<TaskId> {
        self.claim().await.into_iter().map(|claim| claim.task_id).collect()
    }

    async fn known(&self) -> Vec<Uuid> {
        let known = "SELECT task_id FROM limited_tasks ORDER BY task_id";
        sqlx::query_scalar(known).fetch_all(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn a_task_that_is_reopened_while_it_is_looked_at_keeps_its_limits() {
    let bench = Bench::new().await;
    let (reopened, over) = (TaskId::new(), TaskId::new());
    bench.reopen(reopened).await;
    bench.reopen(over).await;
    let claims = bench.claim().await;
    assert_eq!(claims.len(), 2);
    bench.reopen(reopened).await;
    bench.store.forget_limited_tasks(&claims).await.unwrap();
    assert_eq!(bench.known().await, [reopened.0]);
    assert_eq!(bench.due().await, [reopened]);
}

#[tokio::test]
async fn what_was_found_before_a_task_was_reopened_does_not_put_off_its_next_look() {
    let bench = Bench::new().await;
    let task = TaskId::new();
    bench.reopen(task).await;
    let claims = bench.claim().await;
    bench.reopen(task).await;
    let looks: Vec<Look> = claims
        .into_iter()
        .map(|claim| Look { claim, health: Health::Stale, again: A_MINUTE })
        .collect();
    assert!(bench.store.look_at_limited_tasks(&looks).await.unwrap().is_empty());
    assert_eq!(bench.due().await, [task]);
    assert!(bench.due().await.is_empty(), "the claim hides it");
}
