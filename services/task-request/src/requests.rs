//! Requests by message: a program that writes to the same database can ask for a task in its own
//! transaction, with `pgmq.send('orchestration_task_requests', …)`.

use std::time::Duration;

use serde::Deserialize;
use tasker_api::v1;
use tasker_pgmq::{Message, Queue};
use tasker_stack::{
    gather::{Gather, Refused},
    sweep::{Sweep, Wake},
};
use tasker_stage::Database;
use tasker_store::{NewTask, StoreError, TemplateName};
use tasker_trace::TraceContext;
use tokio::sync::oneshot;

use crate::{
    create_tasks::{CreateTasks, Outcome},
    repeats::Repeats,
    resolve,
    task_service::TRIES,
};

/// Where programs put their requests.
const QUEUE: &str = "orchestration_task_requests";
/// What is read at once.
const BATCH: i32 = 100;
/// How long a message that was read is hidden.
const HIDE: Duration = Duration::from_secs(30);
/// A message that was read so often and is still there is parked.
const MAX_READS: i32 = 20;

/// The message: `CreateTaskRequest` as JSON, with the context as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    namespace: String,
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    context: serde_json::Value,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    correlation_id: String,
    #[serde(default)]
    requested_by: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    priority: i32,
}

/// Reads the queue.
pub struct Requests {
    pub database: Database,
    pub births: Gather<CreateTasks>,
    pub repeats: Repeats,
    /// Has the queue read.
    pub wake: Wake,
}

impl Requests {
    pub async fn run(self, every: Option<Duration>, drain: tokio_util::sync::CancellationToken) {
        let sweep = Sweep {
            queue: QUEUE,
            wake: self.wake.clone(),
            every,
            after_error: Duration::from_secs(1),
        };
        let queue = Queue::new(QUEUE).expect("our own names fit");
        sweep.run(drain, || self.read(&queue)).await;
    }

    async fn park(&self, message: &Message, reason: &str) -> Result<(), StoreError> {
        self.database.store.park(QUEUE, message.id, reason).await
    }

    /// Works one batch off. Says whether there may be more.
    async fn read(&self, queue: &Queue) -> Result<bool, StoreError> {
        let messages = queue.read(self.database.store.pool(), HIDE, BATCH).await?;
        let more = messages.len() == usize::try_from(BATCH).expect("a small number");
        let (mut submitted, mut repeats) = (Vec::new(), Vec::new());
        for message in messages {
            match self.submit(&message).await {
                Ok(asked) => submitted.push((message, asked)),
                Err(Bad::Repeat) => repeats.push(message.id),
                Err(Bad::Message(reason)) => self.park(&message, &reason).await?,
                // It is read again when it is no longer hidden.
                Err(Bad::Time) => return Ok(false),
            }
        }
        for (message, asked) in submitted {
            match self.settle(&message, asked).await {
                Ok(Outcome::Repeated(_)) | Err(Bad::Repeat) => repeats.push(message.id),
                Ok(Outcome::Exists(task)) => {
                    self.park(&message, &format!("the same task exists already: {task}")).await?;
                }
                Ok(Outcome::Born | Outcome::Gone) => {}
                Err(Bad::Message(reason)) => self.park(&message, &reason).await?,
                Ok(Outcome::Unsettled) | Err(Bad::Time) => return Ok(false),
            }
        }
        if !repeats.is_empty() {
            self.database.store.drop_requests(&repeats).await?;
        }
        Ok(more)
    }

    /// Makes a request of a message, and hands it in.
    async fn submit(&self, message: &Message) -> Result<Asked, Bad> {
        let (name, task) = self.request(message).await?;
        let answer = self.births.submit_in_turn(task).await.map_err(|_| Bad::Time)?;
        Ok(Asked { name, answer })
    }

    /// Waits for what becomes of a request, and asks again as long as that is open.
    async fn settle(&self, message: &Message, mut asked: Asked) -> Result<Outcome, Bad> {
        for _ in 1..TRIES {
            let outcome = asked.outcome().await?;
            if outcome != Outcome::Unsettled {
                return Ok(outcome);
            }
            self.database.store.forget_template_name(&asked.name).await;
            asked = self.submit(message).await?;
        }
        asked.outcome().await
    }

    async fn request(&self, message: &Message) -> Result<(TemplateName, NewTask), Bad> {
        if message.reads > MAX_READS {
            return Err(Bad::Message(format!("read {} times without success", message.reads - 1)));
        }
        let body: Body = serde_json::from_value(message.body.clone())
            .map_err(|error| Bad::Message(error.to_string()))?;
        let reference =
            v1::TemplateRef { namespace: body.namespace, name: body.name, version: body.version };
        let found = resolve::template(&self.database, Some(reference)).await;
        let found = found.map_err(|status| match status.code() {
            tonic::Code::Unavailable => Bad::Time,
            _ => Bad::Message(status.message().to_owned()),
        })?;
        let context = (!body.context.is_null()).then(|| v1::Payload {
            data: body.context.to_string().into(),
            ..v1::Payload::default()
        });
        let request_id = body.request_id.clone();
        let asked = v1::CreateTaskRequest {
            template: None,
            context,
            request_id: body.request_id,
            idempotency_key: body.idempotency_key,
            correlation_id: body.correlation_id,
            requested_by: body.requested_by,
            reason: body.reason,
            priority: body.priority,
        };
        let trace = TraceContext {
            traceparent: message.header("traceparent").to_owned(),
            tracestate: message.header("tracestate").to_owned(),
        };
        match resolve::request(&found, asked, trace) {
            Ok(task) => Ok((found.name, NewTask { message_id: Some(message.id), ..task })),
            Err(invalid) => match self.repeats.of(&request_id).await {
                Ok(None) => {
                    let all = invalid.violations().iter();
                    let all = all.map(|(path, what)| format!("{path}: {what}"));
                    Err(Bad::Message(all.collect::<Vec<_>>().join("; ")))
                }
                Ok(Some(_)) => Err(Bad::Repeat),
                Err(_) => Err(Bad::Time),
            },
        }
    }
}

/// A request that has been handed in.
struct Asked {
    name: TemplateName,
    answer: oneshot::Receiver<Result<Outcome, Refused<StoreError>>>,
}

impl Asked {
    async fn outcome(&mut self) -> Result<Outcome, Bad> {
        match (&mut self.answer).await.unwrap_or(Err(Refused::Closed)) {
            Ok(outcome) => Ok(outcome),
            Err(Refused::Failed(error)) if !error.is_unavailable() => {
                Err(Bad::Message(error.to_string()))
            }
            Err(Refused::Panicked) => Err(Bad::Message("it could not be worked off".to_owned())),
            Err(_) => Err(Bad::Time),
        }
    }
}

/// Why a message makes no request.
enum Bad {
    /// It never will.
    Message(String),
    /// It has been one before: the newest version may ask for more since.
    Repeat,
    /// The database is away, or the service ends.
    Time,
}
