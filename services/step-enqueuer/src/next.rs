//! The steps that a result unlocks begin at once, where workers have places for them: in the commit
//! that takes the result.

use std::collections::{HashMap, HashSet};

use tasker_api::{
    DeliveryToken,
    mesh::v1::{self as mesh, SubmittedResult},
    time,
    v1::step_result::Outcome,
};
use tasker_domain::{Ordinal, SessionId};
use tasker_store::{Held, Started};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::{
    deliver::{Deliveries, Match},
    hello,
};

/// A result on its way, and by whose stream it came.
#[derive(Debug, Clone)]
pub struct Submission {
    pub result: SubmittedResult,
    /// None where the worker has no stream: it is asked again when it polls.
    pub session: Option<SessionId>,
}

/// Places that are kept for what one result may unlock, and what has begun in them.
///
/// Dropped before it is delivered, the places are given back, and what has begun there goes to others.
pub struct Next {
    deliveries: Deliveries,
    matches: Vec<Match>,
    started: Vec<Started>,
}

impl Submission {
    fn token(&self) -> Option<DeliveryToken> {
        self.result.result.as_ref()?.delivery_token.parse().ok()
    }

    /// Keeps places for the steps that the result may unlock. `wanted` are those that have one already.
    pub fn keep_places(
        &self,
        deliveries: &Deliveries,
        wanted: &mut HashSet<(Uuid, Ordinal)>,
    ) -> Next {
        let mut next = Next::none(deliveries);
        let outcome = self.result.result.as_ref().and_then(|result| result.outcome.as_ref());
        if let (Some(session), Some(token), Some(Outcome::Success(result))) =
            (self.session, self.token(), outcome)
        {
            let held = hello::held(&token);
            for kept in deliveries.roster.reserve_next(session, &held, wanted) {
                let content = kept.task.content_after(kept.ordinal, Ordinal(held.ordinal), result);
                let held = Held {
                    task_id: held.task_id,
                    ordinal: kept.ordinal.0,
                    delivery_id: Uuid::now_v7(),
                };
                next.matches.push(Match {
                    held,
                    declared: kept.ordinal,
                    seat: kept.seat,
                    freed_by: kept.freed_by,
                    task: kept.task,
                    traceparent: String::new(),
                    content,
                });
            }
        }
        next
    }
}

impl Next {
    /// Nothing was unlocked.
    pub fn none(deliveries: &Deliveries) -> Self {
        Self { deliveries: deliveries.clone(), matches: Vec::new(), started: Vec::new() }
    }

    /// Adds a place that is kept.
    pub fn keep(&mut self, place: Match) {
        self.matches.push(place);
    }

    /// The places, for result-processor.
    pub fn places(&self) -> Vec<mesh::Place> {
        self.places_with_tasks().map(|(_, place)| place).collect()
    }

    /// The places, each with its task.
    pub fn places_with_tasks(&self) -> impl Iterator<Item = (Uuid, mesh::Place)> {
        self.matches.iter().map(|found| {
            let place = mesh::Place {
                ordinal: found.held.ordinal,
                delivery_id: found.held.delivery_id.to_string(),
                session_id: found.seat.session.to_string(),
                timeout: Some(time::duration(found.timeout())),
            };
            (found.held.task_id, place)
        })
    }

    /// Notes the steps that have begun in these places. `started` are all, by their deliveries.
    pub fn begin(&mut self, started: &mut HashMap<String, mesh::StartedStep>) {
        for place in &mut self.matches {
            let step = started.remove(&place.held.delivery_id.to_string());
            self.started.extend(step.map(|step| begun(place, step)));
        }
    }

    /// Adds the places of another.
    pub fn join(&mut self, mut other: Self) {
        self.matches.append(&mut other.matches);
        self.started.append(&mut other.started);
    }

    /// Takes the places at one worker out.
    pub fn split_off(&mut self, place: SessionId) -> Self {
        let mut taken = Self::none(&self.deliveries);
        let matches = std::mem::take(&mut self.matches);
        (taken.matches, self.matches) =
            matches.into_iter().partition(|found| found.seat.place == place);
        let ids: HashSet<Uuid> = taken.matches.iter().map(|found| found.held.delivery_id).collect();
        let started = std::mem::take(&mut self.started);
        (taken.started, self.started) =
            started.into_iter().partition(|step| ids.contains(&step.held.delivery_id));
        taken
    }

    /// Delivers what has begun, and gives the other places back.
    pub async fn deliver(mut self) {
        let (started, matches) =
            (std::mem::take(&mut self.started), std::mem::take(&mut self.matches));
        self.deliveries.deliver(started, matches).await;
    }
}

/// A step that has begun in a place.
fn begun(place: &mut Match, step: mesh::StartedStep) -> Started {
    let span = tracing::info_span!(
        "step.start",
        task.id = %place.held.task_id,
        step.ordinal = place.held.ordinal,
        namespace = place.task.template.namespace,
    );
    place.traceparent = TraceContext::through(&step.traceparent, &span);
    let mesh::StartedStep { name, attempt, max_attempts, .. } = step;
    // What a result unlocks has never begun before.
    Started { held: place.held, name, attempt, max_attempts, has_checkpoint: false }
}

impl Drop for Next {
    fn drop(&mut self) {
        self.deliveries.give_back(&self.matches, true);
    }
}
