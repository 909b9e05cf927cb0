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
use tasker_store::StoreError;
use tasker_trace::TraceContext;
use tokio::sync::oneshot;

use crate::{
    create_tasks::{CreateTasks, Outcome, Request},
    resolve,
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
}

impl Requests {
    pub async fn run(self, every: Option<Duration>, drain: tokio_util::sync::CancellationToken) {
        let sweep = Sweep {
            queue: QUEUE,
            wake: Wake::default(),
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
        let mut submitted: Vec<(Message, oneshot::Receiver<_>)> = Vec::new();
        for message in messages {
            match self.request(&message).await {
                Ok(request) => match self.births.submit_in_turn(request).await {
                    Ok(answer) => submitted.push((message, answer)),
                    // It is read again when it is no longer hidden.
                    Err(_) => return Ok(false),
                },
                Err(Bad::Message(reason)) => self.park(&message, &reason).await?,
                Err(Bad::Time) => return Ok(false),
            }
        }
        for (message, answer) in submitted {
            match answer.await.unwrap_or(Err(Refused::Closed)) {
                Ok(Outcome::Born(_)) => {}
                Ok(Outcome::Exists(task)) => {
                    self.park(&message, &format!("the same task exists already: {task}")).await?;
                }
                Err(Refused::Failed(error)) if !error.is_unavailable() => {
                    self.park(&message, &error.to_string()).await?;
                }
                Err(Refused::Panicked) => {
                    self.park(&message, "it could not be worked off").await?;
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(more)
    }

    async fn request(&self, message: &Message) -> Result<Request, Bad> {
        if message.reads > MAX_READS {
            return Err(Bad::Message(format!("read {} times without success", message.reads - 1)));
        }
        let body: Body = serde_json::from_value(message.body.clone())
            .map_err(|error| Bad::Message(error.to_string()))?;
        let reference =
            v1::TemplateRef { namespace: body.namespace, name: body.name, version: body.version };
        let found = resolve::template(&self.database, Some(reference)).await;
        let (template_id, template) = found.map_err(|status| match status.code() {
            tonic::Code::Unavailable => Bad::Time,
            _ => Bad::Message(status.message().to_owned()),
        })?;
        let context = (!body.context.is_null()).then(|| v1::Payload {
            data: body.context.to_string().into(),
            ..v1::Payload::default()
        });
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
        let mut request =
            resolve::request(template_id, &template, asked, trace).map_err(|invalid| {
                let (path, what) = &invalid.violations()[0];
                Bad::Message(format!("{path}: {what}"))
            })?;
        request.task.message_id = Some(message.id);
        Ok(request)
    }
}

/// Why a message makes no request.
enum Bad {
    /// It never will.
    Message(String),
    /// The database is away.
    Time,
}
