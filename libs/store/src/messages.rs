//! What the stages send each other, as queues hold it. The RPCs between them carry the same.
//! A function of `migrations/0025_messages.sql` builds each; a test holds the two to the same fields.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tasker_domain::{DeadLetterReason, Ordinal};
use tasker_pgmq::Queue;
use uuid::Uuid;

use crate::{Content, NewDeadLetter, Store, StoreError, dead_letters};

/// How long a message that was read is hidden: as long as a batch may take.
const HIDE: Duration = Duration::from_secs(10);
/// A message that was read so often and is still there kills its readers, or is refused each time.
const MAX_READS: i32 = 20;

/// In `orchestration_ready_steps`: a step whose dependencies are all satisfied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyStep {
    /// Of the message.
    #[serde(skip)]
    pub message_id: i64,
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// Whose worker queue it goes to.
    pub namespace: String,
    /// What it was made from.
    pub template_id: Uuid,
    /// Larger goes first.
    pub priority: i16,
    /// Of the worker of a batch: the step of the template that it is a run of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<i32>,
    /// Of what made it ready.
    #[serde(skip)]
    pub traceparent: String,
    /// What its delivery carries, where that is known.
    #[serde(skip)]
    pub content: Option<Content>,
}

/// In `orchestration_task_finalizations`: a task in which nothing moves any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalization {
    /// Of the message.
    #[serde(skip)]
    pub message_id: i64,
    /// Which task.
    pub task_id: Uuid,
    /// Of what brought it here.
    #[serde(skip)]
    pub traceparent: String,
}

/// In `orchestration_step_results`: a result that is stored and waits to be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedResult {
    /// Of the message.
    #[serde(skip)]
    pub message_id: i64,
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// The fence.
    pub delivery_id: Uuid,
    /// Which attempt it was.
    pub attempt: i32,
    /// Whether it is a failure.
    pub failed: bool,
    /// Of a failure: for programs.
    #[serde(default)]
    pub error_type: String,
    /// Of a failure: whether another attempt may help.
    #[serde(default)]
    pub retryable: bool,
    /// Who ran it, or found it lost.
    #[serde(default)]
    pub worker_id: String,
    /// Whether the next attempt need not wait.
    #[serde(default)]
    pub at_once: bool,
    /// Whether it says what comes into being by it: that is stored, too.
    #[serde(default)]
    pub says: bool,
    /// What the worker asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
    /// Of what handed it in.
    #[serde(skip)]
    pub traceparent: String,
}

/// In `worker_<namespace>_queue`: a step that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStep {
    /// Of the message.
    #[serde(skip)]
    pub message_id: i64,
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// What it was made from.
    pub template_id: Uuid,
    /// Larger goes first.
    pub priority: i16,
    /// What a worker must have registered.
    pub callable: String,
    /// Of the worker of a batch: the step of the template that it is a run of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<i32>,
    /// Of what queued it.
    #[serde(skip)]
    pub traceparent: String,
    /// How long it has, by the database's clock.
    #[serde(skip)]
    pub waited: Duration,
}

impl ReadyStep {
    /// The step of the template that it is, or is a run of.
    #[must_use]
    pub fn declared(&self) -> Ordinal {
        Ordinal(self.declared.unwrap_or(self.ordinal))
    }
}

impl WaitingStep {
    /// The step of the template that it is, or is a run of.
    #[must_use]
    pub fn declared(&self) -> Ordinal {
        Ordinal(self.declared.unwrap_or(self.ordinal))
    }
}

/// A message with an id and a trace beside its body.
pub trait Queued: DeserializeOwned {
    /// Sets what is not in the body.
    fn set_envelope(&mut self, message_id: i64, traceparent: String);

    /// Reads a message as a queue holds it.
    ///
    /// # Errors
    /// The body is not of this kind: says why.
    fn read(message_id: i64, body: Value, headers: Option<&Value>) -> Result<Self, String> {
        let mut message: Self = serde_json::from_value(body).map_err(|error| error.to_string())?;
        let traceparent = headers.and_then(|headers| headers.get("traceparent")?.as_str());
        message.set_envelope(message_id, traceparent.unwrap_or_default().to_owned());
        Ok(message)
    }
}

macro_rules! queued {
    ($($name:ident),*) => { $(
        impl Queued for $name {
            fn set_envelope(&mut self, message_id: i64, traceparent: String) {
                self.message_id = message_id;
                self.traceparent = traceparent;
            }
        }
    )* };
}
queued!(ReadyStep, Finalization, QueuedResult, WaitingStep);

/// Reads a message that a statement has just sent.
pub(crate) fn sent<M: Queued>(
    message_id: Option<i64>,
    body: Option<Value>,
    headers: Option<&Value>,
) -> Result<M, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { table: "pgmq", what };
    let (Some(message_id), Some(body)) = (message_id, body) else {
        return Err(corrupt("a message without id or body".to_owned()));
    };
    M::read(message_id, body, headers).map_err(corrupt)
}

impl Store {
    /// Reads a stage's queue: the fall-back where no call came.
    pub(crate) async fn read_queue<M: Queued>(
        &self,
        queue: &'static str,
        count: i32,
    ) -> Result<Vec<M>, StoreError> {
        let queue = Queue::new(queue).expect("our own names fit");
        let messages = queue.read(&self.relaxed, HIDE, count).await?;
        let mut read = Vec::with_capacity(messages.len());
        for message in messages {
            let taken = if message.reads > MAX_READS {
                Err(format!("read {} times without success", message.reads - 1))
            } else {
                M::read(message.id, message.body.clone(), message.headers.as_ref())
            };
            match taken {
                Ok(message) => read.push(message),
                Err(reason) => {
                    self.park_message(&queue, message.id, &reason).await?;
                }
            }
        }
        Ok(read)
    }

    /// Whether a message between stages has been waiting for so long to be read.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn messages_wait(&self, time: Duration) -> Result<bool, StoreError> {
        let waits = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM pgmq.q_orchestration_ready_steps WHERE vt < now() - time)
                OR EXISTS (SELECT FROM pgmq.q_orchestration_step_results WHERE vt < now() - time)
                OR EXISTS (SELECT FROM pgmq.q_orchestration_task_finalizations WHERE vt < now() - time)
                OR EXISTS (SELECT FROM pgmq.q_orchestration_task_requests WHERE vt < now() - time)
                AS "waits!"
            FROM (SELECT $1::double precision * interval '1 s') AS given (time)"#,
            time.as_secs_f64()
        )
        .fetch_one(&self.relaxed)
        .await?;
        Ok(waits)
    }

    /// Parks a message that cannot be worked off, with the reason. A task that it names is put among the
    /// dead letters: the message will not move it any more.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn park(&self, queue: &str, id: i64, reason: &str) -> Result<(), StoreError> {
        let queue = Queue::new(queue)
            .map_err(|error| StoreError::Corrupt { table: "pgmq", what: error.to_string() })?;
        self.park_message(&queue, id, reason).await
    }

    pub(crate) async fn park_message(
        &self,
        queue: &Queue,
        id: i64,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.durable.begin().await?;
        let body = queue.park(&mut *tx, id, reason).await?;
        let task = body.and_then(|body| body.get("task_id")?.as_str()?.parse().ok());
        if let Some(task_id) = task {
            let detail = format!("message {id} of {queue} was parked: {reason}");
            let reason = DeadLetterReason::PoisonMessage;
            let letter = NewDeadLetter { task_id, reason, detail, lasted: None };
            dead_letters::create(&mut *tx, &[letter], queue.name()).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
