//! Asks step-enqueuer for places at workers, so that first steps begin in the commit that gives birth to
//! their tasks.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tasker_api::mesh::v1::{
    NewbornTask, NewbornTasks, StartFirstStepsRequest, StartFirstStepsResponse, StartedStep,
    StartedSteps, start_first_steps_request::Message,
    step_enqueuer_service_client::StepEnqueuerServiceClient,
};
use tasker_runtime::mesh::TracedBalance;
use tasker_stage::wire;
use tasker_store::{Held, NewTask, Place, Started, ToRelease};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::create_tasks::small_content;

/// How long places are waited for: longer, and the queue is the shorter way.
const ANSWER: Duration = Duration::from_millis(50);
/// How long nobody is asked after there was no answer.
const AFTER_NONE: Duration = Duration::from_secs(1);
/// How long nobody is asked after there was no place: others wait for the next ones.
const AFTER_NO_PLACE: Duration = Duration::from_millis(20);

/// Asks for places.
pub struct FirstSteps {
    client: Option<StepEnqueuerServiceClient<TracedBalance>>,
    /// Until when nobody is asked.
    rests_until: Mutex<Option<Instant>>,
}

/// Places that are kept as long as this is there.
#[derive(Default)]
pub struct Kept {
    pub places: HashMap<Uuid, Vec<Place>>,
    call: Option<Call>,
}

struct Call {
    messages: mpsc::Sender<StartFirstStepsRequest>,
    answers: Streaming<StartFirstStepsResponse>,
}

impl FirstSteps {
    /// With nobody to ask, there are no places.
    pub fn new(client: Option<StepEnqueuerServiceClient<TracedBalance>>) -> Self {
        Self { client, rests_until: Mutex::default() }
    }

    /// Places for the first steps of these tasks: none where nobody has any, or answers in time.
    pub async fn keep(&self, tasks: &[&NewTask]) -> Kept {
        let Some(client) = self.client.clone().filter(|_| !self.rests()) else {
            return Kept::default();
        };
        let (kept, rest) = match timeout(ANSWER, ask(client, tasks)).await {
            Ok(Ok(kept)) if kept.places.is_empty() => (kept, Some(AFTER_NO_PLACE)),
            Ok(Ok(kept)) => (kept, None),
            Ok(Err(status)) => {
                tracing::debug!("no places for first steps: {}", status.message());
                (Kept::default(), Some(AFTER_NONE))
            }
            Err(_) => (Kept::default(), Some(AFTER_NONE)),
        };
        if let Some(rest) = rest {
            *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Instant::now() + rest);
        }
        kept
    }

    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

async fn ask(
    mut client: StepEnqueuerServiceClient<TracedBalance>,
    tasks: &[&NewTask],
) -> Result<Kept, Status> {
    // Two messages are all that there are.
    let (messages, sent) = mpsc::channel(2);
    let tasks = NewbornTasks { tasks: tasks.iter().copied().map(newborn).collect() };
    messages.try_send(message(Message::Tasks(tasks))).expect("there is room for two");
    let answers = client.start_first_steps(ReceiverStream::new(sent)).await?;
    let mut answers = answers.into_inner();
    let kept = answers.message().await?.unwrap_or_default().places;
    let mut places = HashMap::with_capacity(kept.len());
    for of_task in kept {
        let task = tasker_api::field::task_id(&of_task.task_id)?;
        places.insert(task.0, wire::places(&of_task.places)?);
    }
    Ok(Kept { places, call: Some(Call { messages, answers }) })
}

impl Kept {
    /// Has delivered what has begun in these places, soon. The others are given back. Returns what nobody can
    /// be told of any more: it is for the queue.
    pub fn begin(self, begun: &[Started], tasks: &[&NewTask]) -> Vec<ToRelease> {
        let Some(Call { messages, mut answers }) = self.call else { return Vec::new() };
        let traces: HashMap<Uuid, &str> =
            tasks.iter().map(|task| (task.task_id.0, task.traceparent.as_str())).collect();
        let started = |Started { held, name, attempt, max_attempts, .. }: Started| StartedStep {
            task_id: held.task_id.to_string(),
            ordinal: held.ordinal,
            delivery_id: held.delivery_id.to_string(),
            name,
            attempt,
            max_attempts,
            traceparent: traces.get(&held.task_id).copied().unwrap_or_default().to_owned(),
        };
        let steps = StartedSteps { steps: begun.iter().cloned().map(started).collect() };
        if messages.try_send(message(Message::Started(steps))).is_err() {
            return begun.iter().map(|step| never_told(step.held)).collect();
        }
        // Whoever hangs up before the end has it all given back.
        tokio::spawn(async move {
            if let Err(status) = answers.message().await {
                tracing::debug!("first steps go back to their queues: {}", status.message());
            }
        });
        Vec::new()
    }
}

fn never_told(held: Held) -> ToRelease {
    ToRelease { held, session: None, reason: "never delivered".to_owned() }
}

fn message(message: Message) -> StartFirstStepsRequest {
    StartFirstStepsRequest { message: Some(message) }
}

fn newborn(task: &NewTask) -> NewbornTask {
    NewbornTask {
        task_id: task.task_id.to_string(),
        template_id: task.template_id.to_string(),
        priority: task.priority.into(),
        content: small_content(task).map(wire::content),
    }
}
