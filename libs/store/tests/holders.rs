//! What only the worker that holds a step may do with it.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::PgPool;
use tasker_domain::{SessionId, TaskId, Template};
use tasker_store::{
    Expiry, Front, Held, NewTask, Options, Payload, Registered, Started, Store, ToEnqueue,
    ToRelease, ToSave, ToStart, ToYield, Verdict, Yielded,
};
use tasker_testing::TestDatabase;
use uuid::Uuid;

const ACTOR: &str = "holders";
const NAMESPACE: &str = "holders";
const WORKER: &str = "worker";
const AN_HOUR: Duration = Duration::from_secs(3600);
const YAML: &str = "{namespace: holders, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}}]}";

struct Bench {
    store: Store,
    pool: PgPool,
    template: Uuid,
    _database: TestDatabase,
}

impl Bench {
    async fn new() -> Self {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            application_name: ACTOR.to_owned(),
        };
        let store = Store::connect(&options).await.unwrap();
        let template = Template::parse(YAML).unwrap();
        let registered = store.register_template(&template, YAML, "").await.unwrap();
        let Registered::As(row) = registered else { panic!("{registered:?}") };
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { store, pool, template: row.template_id.0, _database: database }
    }

    async fn session(&self, ttl: Duration) -> SessionId {
        let session = SessionId::new();
        self.store.open_session(session, WORKER, &[], &[], ttl).await.unwrap();
        session
    }

    /// A step of a new task, at a worker.
    async fn held_by(&self, session: SessionId) -> Started {
        let context = Payload {
            content_type: "application/json".to_owned(),
            data: "{}".into(),
            ..Payload::default()
        };
        let task = NewTask {
            message_id: None,
            task_id: TaskId::new(),
            template_id: self.template,
            newest: false,
            steps: 1,
            look_after: None,
            repetition: None,
            identity: None,
            priority: 0,
            context,
            idempotency_key: String::new(),
            correlation_id: String::new(),
            requested_by: String::new(),
            reason: String::new(),
            traceparent: String::new(),
            tracestate: String::new(),
        };
        let born = self.store.create_tasks([&task], ACTOR).await.unwrap();
        let to = Some((Uuid::now_v7(), session.0, 3_600_000));
        let ready = born.ready.into_iter().next().unwrap();
        let item = ToEnqueue {
            ready,
            to,
            traceparent: String::new(),
            queue: NAMESPACE.to_owned(),
            callable: "any".to_owned(),
            held_to: None,
        };
        self.store.enqueue_steps(&[item], ACTOR).await.unwrap().started.remove(0)
    }

    /// Starts the only step that waits in the queue, if there is one that may be claimed.
    async fn start(&self, session: SessionId) -> Option<Started> {
        let looked =
            self.store.waiting_steps(NAMESPACE, &["any".to_owned()], &Front::default(), 10).await;
        let waiting = looked.unwrap().steps.pop()?;
        let item = ToStart {
            waiting,
            delivery_id: Uuid::now_v7(),
            session_id: session.0,
            timeout_ms: 3_600_000,
        };
        let (started, _) = self.store.start_steps(NAMESPACE, &[item], ACTOR).await.unwrap();
        Some(started.into_iter().next().unwrap())
    }

    async fn release(&self, held: Held, session: SessionId) {
        let item = ToRelease { held, session: Some(session), reason: "not begun".to_owned() };
        self.store.release_steps(&[item], ACTOR).await.unwrap();
    }

    async fn expire(&self, held: Held, session: SessionId) -> Vec<Uuid> {
        let item = Expiry {
            held,
            session: Some(session),
            error_type: "LEASE_EXPIRED",
            error_message: "the worker is lost".to_owned(),
        };
        self.store.expire_leases(&[item], ACTOR).await.unwrap().0
    }

    async fn save(&self, held: Held, checkpoint: &str) -> Verdict {
        let item = ToSave { held, checkpoint: checkpoint.into() };
        self.store.save_checkpoints(&[item]).await.unwrap()[0]
    }

    async fn yields(&self, held: Held, checkpoint: Option<&str>, delay_ms: i64) -> Yielded {
        let item = ToYield {
            held,
            checkpoint: checkpoint.map(Into::into),
            delay_ms,
            worker_id: WORKER.to_owned(),
            traceparent: String::new(),
        };
        self.store.yield_steps(&[item]).await.unwrap()
    }

    /// What a step goes on from.
    async fn checkpoint(&self, held: Held) -> Option<String> {
        let mut found = self.store.checkpoints(&[held]).await.unwrap();
        found.remove(&held.delivery_id).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    async fn state(&self, held: Held) -> String {
        sqlx::query_scalar("SELECT state::text FROM steps WHERE task_id = $1")
            .bind(held.task_id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_session_takes_back_only_what_it_still_holds() {
    let bench = Bench::new().await;
    let (old, new) = (bench.session(AN_HOUR).await, bench.session(AN_HOUR).await);
    let held = bench.held_by(old).await.held;
    // The worker is back before its old session has been tidied up.
    let adopted = bench.store.adopt_leases(&[held], WORKER, new).await.unwrap();
    assert_eq!(adopted.len(), 1);
    bench.release(held, old).await;
    assert_eq!(bench.state(held).await, "in_progress");
    bench.release(held, new).await;
    assert_eq!(bench.state(held).await, "enqueued");
}

#[tokio::test]
async fn a_lease_ends_only_with_the_session_that_has_it() {
    let bench = Bench::new().await;
    let (lost, alive) = (bench.session(Duration::ZERO).await, bench.session(AN_HOUR).await);
    let held = bench.held_by(lost).await.held;
    bench.store.adopt_leases(&[held], WORKER, alive).await.unwrap();
    assert_eq!(bench.expire(held, lost).await, [] as [Uuid; 0], "another has it now");
    assert_eq!(bench.expire(held, alive).await, [] as [Uuid; 0], "it lives");
    assert_eq!(bench.state(held).await, "in_progress");
    bench.store.end_session(alive).await.unwrap();
    assert_eq!(bench.expire(held, alive).await, [held.delivery_id]);
    assert_eq!(bench.state(held).await, "enqueued_as_error_for_orchestration");
}

#[tokio::test]
async fn what_a_step_has_saved_last_stays_with_it_however_its_delivery_ends() {
    let bench = Bench::new().await;
    let session = bench.session(AN_HOUR).await;
    let first = bench.held_by(session).await;
    assert!(!first.has_checkpoint);
    assert_eq!(bench.checkpoint(first.held).await, None);
    assert_eq!(bench.save(first.held, "one").await, Verdict::Committed);
    assert_eq!(bench.save(first.held, "two").await, Verdict::Committed);
    bench.release(first.held, session).await;
    let again = bench.start(session).await.unwrap();
    assert_eq!((again.attempt, again.has_checkpoint), (1, true));
    assert_eq!(bench.checkpoint(again.held).await.unwrap(), "two");
}

#[tokio::test]
async fn who_has_lost_a_step_can_neither_save_nor_yield_it() {
    let bench = Bench::new().await;
    let session = bench.session(AN_HOUR).await;
    let late = bench.held_by(session).await.held;
    bench.release(late, session).await;
    let current = bench.start(session).await.unwrap();
    assert_eq!(bench.save(current.held, "current").await, Verdict::Committed);
    assert_eq!(bench.save(late, "late").await, Verdict::LeaseLost);
    assert_eq!(bench.yields(late, Some("late"), 0).await.verdicts, [Verdict::LeaseLost]);
    assert_eq!(bench.checkpoint(current.held).await.unwrap(), "current");
    assert_eq!(bench.state(current.held).await, "in_progress");
    let nobody = Held { task_id: Uuid::now_v7(), ..current.held };
    assert_eq!(bench.save(nobody, "lost").await, Verdict::LeaseLost);
}

#[tokio::test]
async fn a_step_that_is_yielded_is_there_again_with_its_checkpoint_and_all_its_attempts() {
    let bench = Bench::new().await;
    let session = bench.session(AN_HOUR).await;
    let first = bench.held_by(session).await;
    let yielded = bench.yields(first.held, Some("half"), 0).await;
    assert_eq!((&yielded.verdicts[..], yielded.delayed), (&[Verdict::Committed][..], false));
    assert_eq!(yielded.queued, [NAMESPACE]);
    let twin = bench.yields(first.held, Some("twin"), 0).await;
    assert_eq!((&twin.verdicts[..], &twin.queued[..]), (&[Verdict::Duplicate][..], &[][..]));
    let second = bench.start(session).await.unwrap();
    assert_eq!((second.attempt, second.has_checkpoint), (1, true));
    assert_eq!(bench.checkpoint(second.held).await.unwrap(), "half");
    // Without another checkpoint, the one before stays.
    bench.yields(second.held, None, 0).await;
    let third = bench.start(session).await.unwrap();
    assert_eq!((third.attempt, third.has_checkpoint), (1, true));
    assert_eq!(bench.checkpoint(third.held).await.unwrap(), "half");
}

#[tokio::test]
async fn a_step_that_is_yielded_for_a_time_is_not_claimed_before() {
    let bench = Bench::new().await;
    let session = bench.session(AN_HOUR).await;
    assert_eq!(bench.store.next_delayed(NAMESPACE).await.unwrap(), None);
    assert_eq!(bench.store.next_delayed("nobody").await.unwrap(), None);
    let held = bench.held_by(session).await.held;
    let yielded = bench.yields(held, None, 3_600_000).await;
    assert_eq!((&yielded.queued[..], yielded.delayed), (&[][..], true));
    assert!(bench.start(session).await.is_none());
    let wait = bench.store.next_delayed(NAMESPACE).await.unwrap().unwrap();
    assert!(wait <= AN_HOUR && wait > AN_HOUR - Duration::from_secs(60), "{wait:?}");

    let held = bench.held_by(session).await.held;
    bench.yields(held, None, 1).await;
    while let Some(wait) = bench.store.next_delayed(NAMESPACE).await.unwrap() {
        if wait > Duration::from_secs(60) {
            break;
        }
    }
    assert_eq!(bench.start(session).await.unwrap().held.task_id, held.task_id);
}
