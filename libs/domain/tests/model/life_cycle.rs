//! What may happen next.

use stateright::{Model, Property};
use tasker_domain::StepState;

use crate::{
    action::{Action, Way},
    database::{Database, Hold, Lease, Message, Outcome, Session},
    fault::{Fault, Intervention},
    flaw::Flaw,
    promises,
    statements::{self, Rules},
    world::World,
};

/// One life of a small task, and how much may go wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct LifeCycle {
    pub(crate) rules: Rules,
    pub(crate) workers: usize,
    pub(crate) faults: u8,
    pub(crate) interventions: u8,
    pub(crate) pauses: u8,
    pub(crate) yields: u8,
}

impl Model for LifeCycle {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let place = Session { worker: 0, nth: 0 };
        // Steps that have a limit take no places.
        let places = [None, Some(place).filter(|_| self.rules.limit.is_none())];
        let births = places.map(|place| statements::create(&self.rules, place));
        births.map(|database| self.born(database)).into()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        if world.faults > 0 {
            let faults = self.faults(world);
            actions.extend(faults.into_iter().map(Action::Suffer));
            let answers: Vec<_> = self.answers(world, true).collect();
            actions.extend(answers);
        }
        if world.pauses > 0 && !world.database.paused && !world.database.task.is_end() {
            actions.push(Action::Pause);
        }
        if world.yields > 0 {
            actions.extend(self.yields(world));
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
        let of_a_rate = self.rules.rate().is_some().then(promises::of_a_rate);
        promises::all().into_iter().chain(of_a_rate).collect()
    }
}

impl LifeCycle {
    fn born(&self, database: Database) -> World {
        World {
            database,
            flushed: None,
            sessions: vec![0; self.workers],
            hands: [].into(),
            echoes: [].into(),
            uncounted: [].into(),
            faults: self.faults,
            interventions: self.interventions,
            pauses: self.pauses,
            yields: self.yields,
            seen: [].into(),
            lets_go: false,
            messages_were_lost: false,
        }
    }

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
        self.held(world, actions);
        if self.waits_for_time(world) {
            actions.push(Action::TimePasses);
        }
        if !statements::forgotten(database).is_empty()
            || statements::held_wrongly(database).next().is_some()
        {
            actions.push(Action::Reconcile);
        }
        actions.extend(world.uncounted.iter().map(|parent| Action::CountDown { parent: *parent }));
    }

    /// Whether a rate holds steps: until then it makes no difference that time passes.
    fn waits_for_time(&self, world: &World) -> bool {
        let begun = world.database.begun.map_or(0, usize::from);
        let is_spent = self.rules.rate().is_some_and(|most| begun >= most);
        is_spent && world.database.held_by_limit().next().is_some()
    }

    /// What becomes of steps that are held. Whoever pauses something lets it go on some time.
    fn held(&self, world: &World, actions: &mut Vec<Action>) {
        let database = &world.database;
        if database.paused && !database.task.is_end() {
            actions.push(Action::Resume);
        }
        if world.lets_go {
            actions.push(Action::LetGo);
        }
        if self.rules.flaw == Some(Flaw::JudgesPausesBeforeTheirLock) {
            let ready = database.messages().filter_map(|message| match message {
                Message::Ready(step) => Some(*step),
                _ => None,
            });
            let at_each = |step| (0..self.workers).map(move |worker| (step, worker));
            let meanwhile = ready.flat_map(at_each);
            actions
                .extend(meanwhile.map(|(step, worker)| Action::EnqueueMeanwhile { step, worker }));
        }
        if !statements::has_room(database, &self.rules) {
            return;
        }
        let workers = || 0..self.workers;
        let steps: Vec<usize> = database.held_by_limit().collect();
        for step in steps.iter().copied() {
            actions.extend(workers().map(|worker| Action::Admit { step, worker }));
        }
        if self.rules.flaw == Some(Flaw::JudgesBeforeTheLock)
            && let [one, other] = steps[..]
        {
            let together = |worker| Action::AdmitTogether { steps: [one, other], worker };
            actions.extend(workers().map(together));
        }
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

    /// What workers may give back of what they have in hand.
    fn yields<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Action> + 'a {
        let keeps = if world.faults > 0 { &[false, true][..] } else { &[false] };
        world.hands.iter().flat_map(move |(delivery, worker)| {
            keeps.iter().map(|keeps| Action::Yield {
                delivery: *delivery,
                worker: *worker,
                keeps: *keeps,
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
        if world.lets_go {
            faults.push(Fault::LoseLettingGo);
        }
        faults.extend(self.late_admissions(world));
        faults
    }

    /// Replicas that have seen a step held which is not any more.
    fn late_admissions(&self, world: &World) -> Vec<Fault> {
        let database = &world.database;
        if !statements::has_slot(database, &self.rules) {
            return Vec::new();
        }
        let moved_on = |step: &usize| database.held.get(step) != Some(&Hold::Limit);
        let steps = world.seen.iter().copied().filter(moved_on);
        let at_each = |step| (0..self.workers).map(move |worker| Fault::AdmitLate { step, worker });
        steps.flat_map(at_each).collect()
    }

    fn interventions(&self, world: &World) -> Vec<Intervention> {
        use Intervention::*;

        let steps =
            (0..world.database.steps.len()).filter(|step| world.database.state(*step).is_some());
        let repairs = steps.flat_map(|step| {
            let choices = self.rules.graph.choices(step).into_iter();
            let completes = choices.map(move |chosen| CompleteManually { step, chosen });
            [ResetForRetry(step), ResolveManually(step)].into_iter().chain(completes)
        });
        [Cancel, Timeout, GiveUp, ManualResolution].into_iter().chain(repairs).collect()
    }
}
