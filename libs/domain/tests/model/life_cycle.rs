//! What may happen next, and what comes of it.

use stateright::{Model, Property};
use tasker_domain::{StepState, TaskEvent};

use crate::{
    database::{Delivery, Lease, Message, Outcome},
    fault::{Fault, Intervention},
    flaw::Flaw,
    promises,
    statements::{self, Repair, Rules, Source},
    world::{Commit, World},
};

/// One life of a small task, and how much may go wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct LifeCycle {
    pub(crate) rules: Rules,
    pub(crate) workers: usize,
    pub(crate) faults: u8,
    pub(crate) interventions: u8,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A ready message is worked off: into the worker queue, or to this worker at once.
    Enqueue { step: usize, worker: Option<usize> },
    /// A worker gets a step from its queue.
    Start { step: usize, worker: usize },
    /// A worker answers, once or twice.
    Answer { delivery: Delivery, worker: usize, outcome: Outcome, way: Way, twice: bool },
    /// An answer comes again.
    AnswerAgain { delivery: Delivery, outcome: Outcome, way: Way },
    /// A result is judged from the queue.
    Judge { delivery: Delivery, outcome: Outcome },
    /// A back-off is over.
    Retry { step: usize },
    /// A finalization is worked off.
    Finalize,
    /// A lease whose session has expired ends.
    Expire { delivery: Delivery },
    /// A worker that has connected again keeps its lease.
    Adopt { delivery: Delivery },
    /// What a living worker was never told of goes back.
    TakeStrayBack { delivery: Delivery },
    /// The database's log reaches the disk.
    Flush,
    /// The reconciler looks.
    Reconcile,
    /// What a service does after its commit, in a twin.
    CountDown { parent: usize },
    /// Something goes wrong.
    Suffer(Fault),
    /// Somebody steps in.
    Intervene(Intervention),
}

/// How a worker's answer is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its judge, with a place at this worker for what it may unlock.
    Call { place: Option<usize> },
    /// Into the queue: the judge cannot be reached.
    Queue,
}

impl Model for LifeCycle {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            database: statements::create(&self.rules),
            flushed: None,
            sessions: vec![0; self.workers],
            hands: [].into(),
            echoes: [].into(),
            uncounted: [].into(),
            faults: self.faults,
            interventions: self.interventions,
            messages_were_lost: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        if world.faults > 0 {
            let faults = self.faults(world);
            actions.extend(faults.into_iter().map(Action::Suffer));
            let answers: Vec<_> = self.answers(world, true).collect();
            actions.extend(answers);
        }
        if world.interventions > 0 {
            actions.extend(self.interventions(world).into_iter().map(Action::Intervene));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.apply(&mut next, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}

impl LifeCycle {
    /// What happens by itself: nothing has gone wrong, and nobody steps in.
    pub(crate) fn progress(&self, world: &World, actions: &mut Vec<Action>) {
        let database = &world.database;
        for message in database.messages() {
            match message {
                Message::Ready(step) => {
                    let places = std::iter::once(None).chain((0..self.workers).map(Some));
                    actions.extend(places.map(|worker| Action::Enqueue { step: *step, worker }));
                }
                Message::Enqueued(step) => actions
                    .extend((0..self.workers).map(|worker| Action::Start { step: *step, worker })),
                Message::Result(delivery, outcome) => {
                    actions.push(Action::Judge { delivery: *delivery, outcome: outcome.clone() });
                }
                Message::Finalization => actions.push(Action::Finalize),
            }
        }
        actions.extend(self.answers(world, false));
        for (delivery, outcome) in &world.echoes {
            let again =
                |way| Action::AnswerAgain { delivery: *delivery, outcome: outcome.clone(), way };
            actions.extend([Way::Call { place: None }, Way::Queue].map(again));
        }
        let waits = |step: &usize| database.state(*step) == Some(StepState::WaitingForRetry);
        let waiting = (0..database.steps.len()).filter(waits);
        actions.extend(waiting.map(|step| Action::Retry { step }));
        for Lease { delivery, session } in database.leases.values().copied() {
            let holds = world.hands.contains(&(delivery, session.worker));
            match (world.is_alive(session), holds) {
                (true, true) => {}
                (true, false) => actions.push(Action::TakeStrayBack { delivery }),
                (false, true) => {
                    actions.extend([Action::Expire { delivery }, Action::Adopt { delivery }]);
                }
                (false, false) => actions.push(Action::Expire { delivery }),
            }
        }
        if world.flushed.is_some() {
            actions.push(Action::Flush);
        }
        if !statements::forgotten(database).is_empty() {
            actions.push(Action::Reconcile);
        }
        actions.extend(world.uncounted.iter().map(|parent| Action::CountDown { parent: *parent }));
    }

    /// What workers may answer for what they have in hand.
    fn answers<'a>(&'a self, world: &'a World, twice: bool) -> impl Iterator<Item = Action> + 'a {
        world.hands.iter().flat_map(move |(delivery, worker)| {
            let chosen = self.rules.graph.choices(delivery.step).into_iter();
            let failures = [true, false].map(|retryable| Outcome::Failure { retryable });
            let outcomes = chosen.map(|chosen| Outcome::Success { chosen }).chain(failures);
            outcomes.flat_map(move |outcome| {
                let places = std::iter::once(None).chain((0..self.workers).map(Some));
                let ways = places.map(|place| Way::Call { place }).chain([Way::Queue]);
                let unlocks = matches!(outcome, Outcome::Success { .. });
                let sensible =
                    move |way: &Way| unlocks || !matches!(way, Way::Call { place: Some(_) });
                ways.filter(sensible).map(move |way| Action::Answer {
                    delivery: *delivery,
                    worker: *worker,
                    outcome: outcome.clone(),
                    way,
                    twice,
                })
            })
        })
    }

    fn faults(&self, world: &World) -> Vec<Fault> {
        let mut faults = Vec::new();
        for worker in 0..self.workers {
            faults.extend([Fault::KillWorker(worker), Fault::CutWorkerOff(worker)]);
        }
        for Lease { delivery, .. } in world.database.leases.values().copied() {
            let of_it = [Fault::LoseDelivery, Fault::GiveBack, Fault::TimeOut];
            faults.extend(of_it.map(|fault| fault(delivery)));
        }
        for message in world.database.messages() {
            let of_it = [Fault::DoubleMessage, Fault::LoseMessage];
            faults.extend(of_it.map(|fault| fault(message.clone())));
        }
        if world.flushed.is_some() {
            faults.push(Fault::CrashDatabase);
        }
        faults
    }

    fn interventions(&self, world: &World) -> Vec<Intervention> {
        use Intervention::*;

        let steps =
            (0..world.database.steps.len()).filter(|step| world.database.state(*step).is_some());
        let repairs = steps
            .flat_map(|step| [ResetForRetry(step), CompleteManually(step), ResolveManually(step)]);
        [Cancel, Timeout, GiveUp, ManualResolution].into_iter().chain(repairs).collect()
    }

    fn apply(&self, world: &mut World, action: Action) {
        use Commit::{Durable, Relaxed};

        let rules = &self.rules;
        match action {
            Action::Enqueue { step, worker } => {
                let place = worker.map(|worker| world.session(worker));
                world.commit(Relaxed, |database| statements::enqueue(database, step, place));
            }
            Action::Start { step, worker } => {
                let session = world.session(worker);
                world.commit(Relaxed, |database| statements::start(database, step, session));
            }
            Action::Answer { delivery, worker, outcome, way, twice } => {
                world.hands.remove(&(delivery, worker));
                if twice {
                    world.echoes.insert((delivery, outcome.clone()));
                    world.spend_a_fault();
                }
                self.answer(world, delivery, &outcome, way);
            }
            Action::AnswerAgain { delivery, outcome, way } => {
                world.echoes.remove(&(delivery, outcome.clone()));
                self.answer(world, delivery, &outcome, way);
            }
            Action::Judge { delivery, outcome } => {
                self.judge(world, delivery, &outcome, Source::Queue, None);
            }
            Action::Retry { step } => {
                world.commit(Durable, |database| statements::retry(database, step));
            }
            Action::Finalize => {
                world.commit(Durable, |database| statements::finalize(database, rules));
            }
            Action::Expire { delivery } => {
                world.commit(Durable, |database| statements::expire(database, rules, delivery));
            }
            Action::Adopt { delivery } => self.adopt(world, delivery),
            Action::TakeStrayBack { delivery } => {
                world.commit(Relaxed, |database| statements::release(database, delivery));
            }
            Action::Flush => world.flushed = None,
            Action::Reconcile => {
                world.commit(Durable, statements::reconcile);
            }
            Action::CountDown { parent } => {
                world.uncounted.remove(&parent);
                world.commit(Durable, |database| statements::count_down(database, rules, parent));
            }
            Action::Suffer(fault) => self.suffer(world, fault),
            Action::Intervene(intervention) => self.intervene(world, intervention),
        }
    }

    fn answer(&self, world: &mut World, delivery: Delivery, outcome: &Outcome, way: Way) {
        match way {
            Way::Call { place } => self.judge(world, delivery, outcome, Source::Worker, place),
            Way::Queue => world.commit(Commit::Durable, |database| {
                statements::queue_result(database, &self.rules, delivery, outcome);
            }),
        }
    }

    fn judge(
        &self,
        world: &mut World,
        delivery: Delivery,
        outcome: &Outcome,
        source: Source,
        place: Option<usize>,
    ) {
        let rules = &self.rules;
        let place = place.map(|worker| world.session(worker));
        let satisfied = world.database.counts.satisfied;
        world.commit(Commit::Durable, |database| match outcome {
            Outcome::Success { chosen } => {
                statements::complete(database, rules, (delivery, chosen), source, place);
            }
            Outcome::Failure { retryable } => {
                statements::fail(database, rules, (delivery, *retryable), source);
            }
        });
        let completed = world.database.counts.satisfied > satisfied;
        if completed && rules.flaw == Some(Flaw::CountsAfterTheCommit) {
            world.uncounted.insert(delivery.step);
        }
    }

    fn adopt(&self, world: &mut World, delivery: Delivery) {
        let sessions: Vec<_> = (0..self.workers).map(|worker| world.session(worker)).collect();
        world.commit(Commit::Durable, |database| {
            if let Some(lease) = database.leases.get_mut(&delivery.step) {
                lease.session = sessions[lease.session.worker];
            }
        });
    }

    fn suffer(&self, world: &mut World, fault: Fault) {
        use Commit::{Durable, Relaxed};

        match fault {
            Fault::KillWorker(worker) => {
                world.hands.retain(|(_, of)| *of != worker);
                world.sessions[worker] += 1;
            }
            Fault::CutWorkerOff(worker) => world.sessions[worker] += 1,
            Fault::LoseDelivery(delivery) => world.hands.retain(|(held, _)| *held != delivery),
            Fault::GiveBack(delivery) => {
                world.commit(Relaxed, |database| statements::release(database, delivery));
            }
            Fault::TimeOut(delivery) => world.commit(Durable, |database| {
                statements::expire(database, &self.rules, delivery);
            }),
            Fault::DoubleMessage(message) => {
                world.commit(Durable, |database| database.send(message));
            }
            Fault::LoseMessage(message) => {
                world.commit(Durable, |database| {
                    database.take(&message);
                });
                world.messages_were_lost = true;
            }
            Fault::CrashDatabase => {
                world.crash(self.rules.flaw == Some(Flaw::CountedDeliveries));
            }
        }
        world.spend_a_fault();
    }

    fn intervene(&self, world: &mut World, intervention: Intervention) {
        let before = world.database.clone();
        let rules = &self.rules;
        world.commit(Commit::Durable, |database| match intervention {
            Intervention::Cancel => statements::end(database, rules, TaskEvent::Cancel),
            Intervention::Timeout => statements::end(database, rules, TaskEvent::Timeout),
            Intervention::GiveUp => statements::end(database, rules, TaskEvent::GiveUp),
            Intervention::ManualResolution => {
                statements::end(database, rules, TaskEvent::ManualResolution);
            }
            Intervention::ResetForRetry(step) => {
                statements::repair(database, rules, step, Repair::Reset);
            }
            Intervention::CompleteManually(step) => {
                statements::repair(database, rules, step, Repair::Complete);
            }
            Intervention::ResolveManually(step) => {
                statements::repair(database, rules, step, Repair::Resolve);
            }
        });
        if world.database != before {
            world.interventions -= 1;
        }
    }
}
