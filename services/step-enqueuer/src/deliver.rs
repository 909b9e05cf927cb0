//! Started steps reach their workers, each delivery complete in itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use tasker_api::{DeliveryToken, MAX_MESSAGE_BYTES, time, v1};
use tasker_domain::{Ordinal, Rank, SessionId, template::Step};
use tasker_stage::{Announcer, Database, wire::payload};
use tasker_store::{Announcement, Batch, Content, Expiry, Held, Started, StoreError, ToRelease};
use uuid::Uuid;

use crate::{
    at_hand::TaskAtHand,
    batches,
    roster::{Holding, Roster, Seat},
};

/// How long to wait before deliveries are taken back once more.
const AGAIN: Duration = Duration::from_millis(500);

/// What it takes to deliver.
#[derive(Clone)]
pub struct Deliveries {
    pub database: Database,
    pub roster: Roster,
    /// Who is named in the history.
    pub actor: String,
    pub announcer: Announcer,
}

/// Why no worker can be told of a step.
#[derive(Debug, thiserror::Error)]
enum Undeliverable {
    #[error(
        "context, dependency results and checkpoint are more than {MAX_MESSAGE_BYTES} bytes: store them elsewhere and pass references"
    )]
    TooLarge,
    #[error("the task's context, the step's declaration or what it goes on from cannot be read")]
    Corrupt,
}

impl Undeliverable {
    fn error_type(&self) -> &'static str {
        match self {
            Self::TooLarge => "DELIVERY_TOO_LARGE",
            Self::Corrupt => "TASK_CORRUPT",
        }
    }
}

/// A step on its way to a worker that has a place for it.
pub struct Match {
    pub held: Held,
    /// The step of the template that it is, or is a run of.
    pub declared: Ordinal,
    pub seat: Seat,
    /// The delivery whose result frees the place, if it is one that is still held.
    pub freed_by: Option<Uuid>,
    pub task: Arc<TaskAtHand>,
    pub traceparent: String,
    /// What it carries, if that is known.
    pub content: Option<Content>,
}

impl Match {
    /// How long the attempt may take.
    pub fn timeout(&self) -> Duration {
        self.step().map_or(Duration::ZERO, |step| step.timeout)
    }

    /// As the template declares it.
    pub fn step(&self) -> Option<&Step> {
        self.task.template.step(self.declared)
    }
}

impl Deliveries {
    /// Hands started steps to their workers. Matches that came to nothing give their places back.
    pub async fn deliver(&self, started: Vec<Started>, matches: Vec<Match>) {
        let mut matched: HashMap<Uuid, Match> =
            matches.into_iter().map(|found| (found.held.delivery_id, found)).collect();
        let started: Vec<(Started, Match)> = started
            .into_iter()
            .filter_map(|started| Some((matched.remove(&started.held.delivery_id)?, started)))
            .map(|(found, started)| (started, found))
            .collect();
        for came_to_nothing in matched.into_values() {
            self.roster.unreserve(came_to_nothing.seat);
        }
        if started.is_empty() {
            return;
        }
        // Held first: what then cannot be read or sent is not acknowledged, and so comes back.
        let holding = started.iter().map(|(started, found)| (found.seat, holding(started, found)));
        let orphaned = self.roster.hold(holding.collect());
        match tokio::try_join!(self.contents(&started), self.checkpoints(&started)) {
            Ok((mut contents, mut checkpoints)) => {
                let mut by_seat: HashMap<Seat, Vec<v1::Delivery>> = HashMap::new();
                let mut undeliverable = Vec::new();
                for (started, mut found) in started {
                    let known = found.content.take();
                    let content = known.or_else(|| contents.remove(&started.held.delivery_id));
                    let checkpoint = checkpoints.remove(&started.held.delivery_id);
                    match delivery(&started, &found, content, checkpoint) {
                        Ok(delivery) => by_seat.entry(found.seat).or_default().push(delivery),
                        Err(why) => {
                            self.roster.release(found.seat.place, [started.held.delivery_id]);
                            undeliverable.push((started.held, why));
                        }
                    }
                }
                self.refuse(undeliverable).await;
                for (seat, deliveries) in by_seat {
                    self.roster.deliver(seat, deliveries);
                }
            }
            Err(error) => {
                self.database.noticed(&error);
                tracing::warn!("what deliveries carry could not be read, they come back: {error}");
            }
        }
        for (session, held) in orphaned {
            self.release(session, vec![held], "the worker has left").await;
        }
    }

    /// Reads what deliveries carry, where that is not known.
    async fn contents(
        &self,
        started: &[(Started, Match)],
    ) -> Result<HashMap<Uuid, Content>, StoreError> {
        let unknown = started.iter().filter(|(_, found)| found.content.is_none());
        let carried = |(started, found): &(Started, Match)| {
            (started.held, found.task.template.dependency_results(found.declared))
        };
        let unknown: Vec<(Held, Vec<Ordinal>)> = unknown.map(carried).collect();
        if unknown.is_empty() {
            return Ok(HashMap::new());
        }
        let mut contents = self.database.store.delivery_contents(&unknown).await?;
        batches::add(&self.database.store, started, &mut contents).await?;
        for (started, found) in started {
            if let Some(content) = contents.get(&started.held.delivery_id) {
                found.task.keep(content);
            }
        }
        Ok(contents)
    }

    /// Reads what steps go on from that have saved any.
    async fn checkpoints(
        &self,
        started: &[(Started, Match)],
    ) -> Result<HashMap<Uuid, Vec<u8>>, StoreError> {
        let saved = started.iter().map(|(started, _)| started).filter(|step| step.has_checkpoint);
        let saved: Vec<Held> = saved.map(|step| step.held).collect();
        if saved.is_empty() {
            return Ok(HashMap::new());
        }
        self.database.store.checkpoints(&saved).await
    }

    /// Fails attempts that no worker can be told of.
    async fn refuse(&self, undeliverable: Vec<(Held, Undeliverable)>) {
        if undeliverable.is_empty() {
            return;
        }
        let expiry = |(held, why): (Held, Undeliverable)| {
            tracing::error!(task.id = %held.task_id, step.ordinal = held.ordinal, "a step cannot be delivered: {why}");
            Expiry {
                held,
                session: None,
                error_type: why.error_type(),
                error_message: why.to_string(),
            }
        };
        let items: Vec<Expiry> = undeliverable.into_iter().map(expiry).collect();
        match self.database.store.expire_leases(&items, &self.actor).await {
            Ok((_, watched)) => {
                let tasks = watched.into_iter().collect();
                let said = Announcement { tasks, results: true, ..Announcement::default() };
                self.announcer.announce(said);
            }
            // Their leases end at the steps' timeouts.
            Err(error) => {
                self.database.noticed(&error);
                tracing::warn!(
                    "attempts that cannot be delivered could not be failed yet: {error}"
                );
            }
        }
    }

    /// Puts deliveries back into their queues that were never begun.
    pub async fn release(&self, session: SessionId, held: Vec<Held>, reason: &str) {
        if held.is_empty() {
            return;
        }
        let session = Some(session);
        let items: Vec<ToRelease> = held
            .into_iter()
            .map(|held| ToRelease { held, session, reason: reason.to_owned() })
            .collect();
        if let Err(error) = self.try_to_release(&items).await {
            tracing::warn!("deliveries could not be taken back yet: {error}");
            let deliveries = self.clone();
            tokio::spawn(async move { deliveries.release_later(&items).await });
        }
    }

    /// Their session may well go on: nothing else would bring them back before the step's timeout.
    async fn release_later(&self, items: &[ToRelease]) {
        loop {
            tokio::time::sleep(AGAIN).await;
            match self.try_to_release(items).await {
                Err(error) if error.is_unavailable() => {}
                Err(error) => return tracing::error!("deliveries cannot be taken back: {error}"),
                Ok(()) => return,
            }
        }
    }

    async fn try_to_release(&self, items: &[ToRelease]) -> Result<(), StoreError> {
        let released = self.database.store.release_steps(items, &self.actor).await;
        let (queued, watched) = released.inspect_err(|error| self.database.noticed(error))?;
        queued.iter().for_each(|namespace| self.roster.wait_in(namespace, Rank::FIRST));
        let waiting = queued.into_iter().map(|namespace| (namespace, Rank::FIRST)).collect();
        let tasks = watched.into_iter().collect();
        self.announcer.announce(Announcement { waiting, tasks, ..Announcement::default() });
        Ok(())
    }

    /// After an error: the places that were promised are free again. Whether the steps were started is
    /// not known if only the answer was lost: if they were, they go back.
    pub fn failed(&self, error: &StoreError, matches: &[Match]) {
        self.database.noticed(error);
        self.give_back(matches, error.is_unavailable());
    }

    /// Frees places that were promised. What may have been started there goes back.
    pub fn give_back(&self, matches: &[Match], may_have_started: bool) {
        for found in matches {
            if let Some(delivery) = found.freed_by {
                self.roster.keep(found.seat.place, delivery);
            }
            self.roster.unreserve(found.seat);
        }
        let held: Vec<_> = matches.iter().map(|found| (found.seat.session, found.held)).collect();
        if may_have_started && !held.is_empty() {
            let deliveries = self.clone();
            tokio::spawn(async move {
                for (session, held) in held {
                    deliveries.release(session, vec![held], "never delivered").await;
                }
            });
        }
    }
}

fn holding(started: &Started, found: &Match) -> Holding {
    let since = Instant::now();
    let timeout = found.timeout();
    Holding {
        held: started.held,
        task: Some(found.task.clone()),
        attempt: started.attempt,
        acknowledged: false,
        since,
        times_out: since + timeout,
        passed_on: false,
    }
}

fn delivery(
    started: &Started,
    found: &Match,
    content: Option<Content>,
    checkpoint: Option<Vec<u8>>,
) -> Result<v1::Delivery, Undeliverable> {
    let step = found.step().ok_or(Undeliverable::Corrupt)?;
    let template = &found.task.template;
    let content = content.filter(Content::has_context).ok_or(Undeliverable::Corrupt)?;
    let Held { task_id, ordinal, delivery_id } = started.held;
    let token = DeliveryToken { task_id, ordinal, delivery_id, attempt: started.attempt };
    let timeout = chrono_timeout(step.timeout);
    let checkpoint = checkpoint.map(|saved| v1::Checkpoint::decode(saved.as_slice()));
    let of_template =
        |(parent, result)| Some((template.step(parent)?.name.clone(), payload(result)));
    let mut dependency_results: BTreeMap<String, v1::Payload> =
        content.dependency_results.into_iter().filter_map(of_template).collect();
    let mut dependency_failures = BTreeMap::new();
    for (name, result) in content.worker_results {
        match result {
            Ok(result) => {
                dependency_results.insert(name, payload(result));
            }
            Err((r#type, message, retryable)) => {
                dependency_failures.insert(name, v1::StepError { r#type, message, retryable });
            }
        }
    }
    let delivery = v1::Delivery {
        delivery_token: token.to_string(),
        task_id: task_id.to_string(),
        namespace: template.namespace.clone(),
        template_name: template.name.clone(),
        template_version: template.version.to_string(),
        step_name: started.name.clone(),
        handler: step.callable.clone(),
        initialization: Some(v1::Payload {
            content_type: tasker_api::field::JSON.to_owned(),
            data: step.initialization.to_string().into(),
            ..v1::Payload::default()
        }),
        context: Some(payload(content.context)),
        dependency_results,
        attempt: started.attempt,
        max_attempts: started.max_attempts,
        timeout_time: Some(time::timestamp(timeout)),
        timeout: Some(time::duration(step.timeout)),
        idempotency_key: format!("{task_id}/{}", started.name),
        trace: Some(v1::TraceContext {
            traceparent: found.traceparent.clone(),
            tracestate: String::new(),
        }),
        correlation_id: content.correlation_id,
        checkpoint: checkpoint.transpose().map_err(|_| Undeliverable::Corrupt)?,
        batch: content.batch.map(batch),
        dependency_failures,
    };
    if delivery.encoded_len() > MAX_MESSAGE_BYTES {
        Err(Undeliverable::TooLarge)
    } else {
        Ok(delivery)
    }
}

fn batch(batch: Batch) -> v1::Batch {
    v1::Batch {
        batch_id: batch.batch.to_string(),
        no_op: batch.cursor.is_none(),
        cursor: batch.cursor.map(payload),
    }
}

fn chrono_timeout(timeout: Duration) -> chrono::DateTime<chrono::Utc> {
    let timeout = chrono::TimeDelta::from_std(timeout).unwrap_or(chrono::TimeDelta::MAX);
    chrono::Utc::now()
        .checked_add_signed(timeout)
        .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}
