//! Takes waiting steps from the worker queues, for the credit of the workers connected here.

use std::{collections::BTreeMap, future::pending, time::Duration};

use tasker_domain::{Rank, TemplateId};
use tasker_store::{Announcement, Front, Held, StoreError, ToStart, WaitingStep};
use tasker_trace::TraceContext;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    admit::{self, Candidate},
    at_hand::TaskAtHand,
    deliver::{Deliveries, Match},
    fronts::Fronts,
    roster::{Claimable, Roster, Seat},
    rounds::Rounds,
};

/// How many more messages are looked at than may be taken: of the oldest, and of the most urgent.
const WIDER: usize = 4;
/// The window's bounds.
const WINDOW: std::ops::RangeInclusive<usize> = 100..=2_000;
/// How long to wait after an error.
const AGAIN: Duration = Duration::from_millis(500);

/// How long to wait where no queue is ever read without a call.
const NEVER: Duration = Duration::from_secs(3600);

/// The only reader of the worker queues, at this replica.
pub struct Claims {
    pub deliveries: Deliveries,
    /// How often queues are looked into though nobody has announced anything.
    pub every: Option<Duration>,
}

impl Claims {
    /// Claims when woken, and now and then, until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        let roster = &self.deliveries.roster;
        let mut looks = interval(self.every.unwrap_or(NEVER));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When a rate lets another step begin.
        let mut next: Option<Instant> = None;
        let (mut rounds, mut fronts) = (Rounds::default(), Fronts::default());
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = roster.claim.woken() => {}
                _ = looks.tick() => roster.wait_everywhere(),
                () = until(next) => {
                    next = None;
                    roster.may_begin_anywhere();
                }
            }
            if roster.take_unsure() {
                self.look_for_limited().await;
            }
            let limited = roster.take_ended();
            self.deliveries.announcer.announce(Announcement { limited, ..Announcement::default() });
            let mut claimable = roster.claimable();
            // Round by round: none waits for another's backlog.
            while !claimable.is_empty() {
                let (wait, complete) = self.claim(claimable, &mut rounds, &mut fronts).await;
                let at = wait.map(|wait| Instant::now() + wait);
                next = next.into_iter().chain(at).min();
                if !complete {
                    drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
                if drain.is_cancelled() {
                    return;
                }
                claimable = roster.claimable();
            }
        }
    }

    /// Has waiting steps begin, as far as there is room. All namespaces are looked into before a place is
    /// given: a worker's places go by rank, whichever of its namespaces a step is of. Returns how long until
    /// the first rate may let another begin, and whether nothing failed.
    async fn claim(
        &self,
        claimable: Vec<Claimable>,
        rounds: &mut Rounds,
        fronts: &mut Fronts,
    ) -> (Option<Duration>, bool) {
        let roster = &self.deliveries.roster;
        let (mut wait, mut complete) = (None, true);
        roster.take_late().iter().for_each(|namespace| fronts.forget(namespace));
        // Of many namespaces less each, so that a round stays as large.
        let most = (WINDOW.end() / claimable.len()).max(*WINDOW.start());
        let mut seen = Vec::with_capacity(claimable.len());
        for found in claimable {
            let namespace = found.namespace.clone();
            match self.look(found, most, rounds, fronts).await {
                Ok(found) => seen.push(found),
                Err(error) => {
                    self.deliveries.database.noticed(&error);
                    tracing::warn!("the queue of {namespace} could not be read: {error}");
                    complete = false;
                }
            }
        }
        for (seen, placed) in place(roster, seen, rounds) {
            match self.begin(&seen, placed).await {
                Ok(rate) => wait = wait.into_iter().chain(rate).min(),
                Err(error) => {
                    let namespace = &seen.claimable.namespace;
                    self.deliveries.database.noticed(&error);
                    tracing::warn!("steps of {namespace} could not be started: {error}");
                    // What was placed waits again.
                    roster.wait_in(namespace, Rank::FIRST);
                    complete = false;
                }
            }
        }
        (wait, complete)
    }

    /// Learns of what limits hold though nobody has announced it.
    async fn look_for_limited(&self) {
        let Deliveries { database, roster, .. } = &self.deliveries;
        match database.store.handlers_held_by_limits().await {
            Ok(held) => {
                for (namespace, callable) in held {
                    roster.may_begin(&namespace, [callable]);
                }
            }
            Err(error) => {
                database.noticed(&error);
                tracing::warn!("what limits hold could not be looked up: {error}");
            }
        }
    }

    /// Looks at what waits in a namespace, and takes nothing.
    async fn look(
        &self,
        claimable: Claimable,
        most: usize,
        rounds: &mut Rounds,
        fronts: &mut Fronts,
    ) -> Result<Seen, StoreError> {
        let Deliveries { database, roster, .. } = &self.deliveries;
        let namespace = &claimable.namespace;
        let window = (claimable.credit * WIDER).clamp(*WINDOW.start(), most);
        let limit = i64::try_from(window).expect("a window is small");
        let callables: Vec<String> =
            claimable.callables.iter().map(|(callable, _)| callable.clone()).collect();
        let mut from = fronts.of(namespace, &callables);
        let mut waiting = database.store.waiting_steps(namespace, &callables, &from, limit).await?;
        if from.message_id > 0 && waiting.beyond.is_none() {
            // No look need follow, so this one must have seen all.
            from = Front::default();
            waiting = database.store.waiting_steps(namespace, &callables, &from, limit).await?;
        }
        fronts.found(namespace, callables, &from, &waiting);
        let limited = roster.limited(namespace, &claimable.callables).into_iter();
        let after = limited.map(|(callable, note)| {
            let after = rounds.go_on(namespace, &callable, note);
            (callable, after)
        });
        let (after, credit) = (after.collect(), claimable.credit);
        let mut held = admit::look(&self.deliveries, namespace, after, credit).await?;
        let candidates = std::mem::take(&mut held.may_begin);
        let steps = waiting.steps.into_iter().map(Next::Waiting);
        let steps = steps.chain(candidates.into_iter().map(Next::Held)).collect();
        let beyond = waiting
            .beyond
            .map(|beyond| roster.aged(beyond.priority, beyond.task_id, beyond.waited));
        Ok(Seen { claimable, steps, beyond, held })
    }

    /// Begins steps of a namespace in the places that were reserved for them. Returns how long until the
    /// first rate may let another begin.
    async fn begin(
        &self,
        seen: &Seen,
        steps: Vec<(Next, Seat)>,
    ) -> Result<Option<Duration>, StoreError> {
        let Deliveries { database, roster, .. } = &self.deliveries;
        let namespace = &seen.claimable.namespace;
        let (mut placed, mut given_back) = (Vec::new(), Vec::new());
        let (mut batch, mut matches) = (Vec::new(), Vec::new());
        let mut spans = Vec::new();
        let mut steps = steps.into_iter();
        while let Some((step, seat)) = steps.next() {
            let step = match step {
                Next::Waiting(step) => step,
                Next::Held(candidate) => {
                    placed.push((candidate, seat));
                    continue;
                }
            };
            let template = database.store.template(TemplateId(step.template_id)).await;
            let template = match template {
                Ok(template) => template,
                Err(error) => {
                    roster.unreserve(seat);
                    let Err(error) = self.park(namespace, &step, error).await else { continue };
                    placed.iter().for_each(|(_, seat)| roster.unreserve(*seat));
                    steps.for_each(|(_, seat)| roster.unreserve(seat));
                    self.deliveries.failed(&error, &matches);
                    return Err(error);
                }
            };
            if admit::has_limits(&template, step.declared()) {
                roster.unreserve(seat);
                given_back.push((step, template));
                continue;
            }
            let (span, traceparent) = traced(&step, namespace);
            spans.push(span);
            let delivery_id = Uuid::now_v7();
            let held = Held { task_id: step.task_id, ordinal: step.ordinal, delivery_id };
            let task = TaskAtHand::new(template, step.priority);
            let declared = step.declared();
            let found =
                Match { held, declared, seat, freed_by: None, task, traceparent, content: None };
            let timeout = found.timeout();
            matches.push(found);
            batch.push(ToStart {
                waiting: step,
                delivery_id,
                session_id: seat.session.0,
                timeout_ms: i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
            });
        }
        if !batch.is_empty() {
            let started = self.start(namespace, batch, matches).await;
            started.inspect_err(|_| placed.iter().for_each(|(_, seat)| roster.unreserve(*seat)))?;
        }
        let wait = admit::admit(&self.deliveries, namespace, placed, &seen.held).await?;
        // After those that were held before: they have waited for the place.
        admit::hold(&self.deliveries, namespace, given_back).await?;
        Ok(seen.held.wait.into_iter().chain(wait).min())
    }

    /// Starts steps in one transaction; if it fails, halves of them, until the bad one is alone, and parked.
    async fn start(
        &self,
        namespace: &str,
        batch: Vec<ToStart>,
        matches: Vec<Match>,
    ) -> Result<(), StoreError> {
        let Deliveries { database, actor, announcer, .. } = &self.deliveries;
        let mut rest = vec![(batch, matches)];
        while let Some((mut batch, mut matches)) = rest.pop() {
            match database.store.start_steps(namespace, &batch, actor).await {
                Ok((started, watched)) => {
                    let tasks = watched.into_iter().collect();
                    announcer.announce(Announcement { tasks, ..Announcement::default() });
                    self.deliveries.deliver(started, matches).await;
                }
                Err(error) if !error.is_unavailable() && batch.len() > 1 => {
                    let half = batch.len() / 2;
                    rest.push((batch.split_off(half), matches.split_off(half)));
                    rest.push((batch, matches));
                }
                Err(error) => {
                    self.deliveries.failed(&error, &matches);
                    let parked = match &batch[..] {
                        [item] => self.park(namespace, &item.waiting, error).await,
                        // Not taken apart above: the database is away.
                        _ => Err(error),
                    };
                    if let Err(error) = parked {
                        for (_, matches) in &rest {
                            self.deliveries.failed(&error, matches);
                        }
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a message aside that nothing can be done with, so that the rest goes on.
    ///
    /// # Errors
    /// The database is away: then the message is as good as it was.
    async fn park(
        &self,
        namespace: &str,
        step: &WaitingStep,
        error: StoreError,
    ) -> Result<(), StoreError> {
        if error.is_unavailable() {
            return Err(error);
        }
        let queue = format!("worker_{namespace}_queue");
        self.deliveries.database.store.park(&queue, step.message_id, &error.to_string()).await
    }
}

/// What a look into a namespace has found.
struct Seen {
    claimable: Claimable,
    steps: Vec<Next>,
    /// If others wait beyond the window: the first rank that one of them may have.
    beyond: Option<Rank>,
    held: admit::Look,
}

/// Reserves places for what waits, by rank over all namespaces, and notes what none was left for.
fn place(
    roster: &Roster,
    mut seen: Vec<Seen>,
    rounds: &mut Rounds,
) -> Vec<(Seen, Vec<(Next, Seat)>)> {
    let mut steps = Vec::new();
    for (nth, seen) in seen.iter_mut().enumerate() {
        let found = std::mem::take(&mut seen.steps).into_iter();
        steps.extend(found.map(|step| (step.place(roster), nth, step)));
    }
    steps.sort_by_key(|(place, nth, _)| (*place, *nth));
    let mut placed: Vec<_> =
        seen.into_iter().map(|seen| (seen, Vec::new(), BTreeMap::new())).collect();
    for ((rank, _), nth, step) in steps {
        let (seen, placed, left) = &mut placed[nth];
        match roster.reserve(&seen.claimable.namespace, step.callable()) {
            Some(seat) => placed.push((step, seat)),
            // In order: the first of each is its first rank.
            None => {
                left.entry(step.callable().to_owned()).or_insert(rank);
            }
        }
    }
    let noted = placed.into_iter().map(|(seen, placed, mut left)| {
        let Claimable { namespace, callables, .. } = &seen.claimable;
        if let Some(beyond) = seen.beyond {
            for (callable, _) in callables {
                left.entry(callable.clone()).or_insert(beyond);
            }
        }
        for (callable, last) in &seen.held.reached {
            let some_are_left = left.contains_key(callable);
            if !rounds.has_come_round(namespace, callable, last.clone(), some_are_left) {
                // Of the values that were not looked at, any may have room.
                left.entry(callable.clone()).or_insert(Rank::FIRST);
            }
        }
        roster.none_limited(namespace, callables, &seen.held.gone);
        // Before the steps are taken: those that come meanwhile must not pass these by.
        roster.looked(namespace, callables, &left);
        (seen, placed)
    });
    noted.collect()
}

/// A step that waits for a worker with room.
enum Next {
    /// In its queue.
    Waiting(WaitingStep),
    /// Held, but its limits may let it begin.
    Held(Candidate),
}

impl Next {
    fn callable(&self) -> &str {
        match self {
            Self::Waiting(step) => &step.callable,
            Self::Held(candidate) => &candidate.step.callable,
        }
    }

    /// Its rank, and what decides between equal ones.
    fn place(&self, roster: &Roster) -> (Rank, i32) {
        match self {
            Self::Waiting(step) => {
                (roster.aged(step.priority, step.task_id, step.waited), step.ordinal)
            }
            Self::Held(Candidate { step, .. }) => {
                (roster.aged(step.priority, step.task_id, step.waited), step.ordinal)
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn traced(step: &WaitingStep, namespace: &str) -> (tracing::Span, String) {
    let span = tracing::info_span!(
        "step.start",
        task.id = %step.task_id,
        step.ordinal = step.ordinal,
        namespace,
    );
    let traceparent = TraceContext::through(&step.traceparent, &span);
    (span, traceparent)
}
