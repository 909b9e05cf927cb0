//! What comes of each thing that happens.

use tasker_domain::{StepEvent, TaskEvent};

use crate::{
    action::{Action, Way},
    database::{Delivery, Outcome},
    fault::{Fault, Intervention},
    flaw::Flaw,
    life_cycle::LifeCycle,
    statements::{self, Pauses, Source},
    world::{Commit, World},
};

impl LifeCycle {
    pub(crate) fn apply(&self, world: &mut World, action: Action) {
        use Commit::{Durable, Relaxed};

        let rules = &self.rules;
        match action {
            Action::Enqueue { step, worker } => {
                let place = worker.map(|worker| world.session(worker));
                world.commit(Relaxed, |database| {
                    let paused = database.paused;
                    statements::enqueue(database, rules, (step, place), paused);
                });
            }
            Action::Start { step, worker } => {
                let session = world.session(worker);
                world.commit(Relaxed, |database| statements::start(database, rules, step, session));
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
            Action::Admit { step, worker } => self.admit(world, step, worker),
            Action::AdmitTogether { steps, worker } => {
                let session = world.session(worker);
                world.commit(Relaxed, |database| {
                    let has_room = statements::has_room(database, rules);
                    for step in steps {
                        statements::admit(database, rules, step, session, has_room);
                    }
                });
            }
            Action::Pause => {
                world.pauses -= 1;
                world.commit(Durable, statements::pause);
            }
            Action::Resume => self.resume(world),
            Action::LetGo => self.let_go(world),
            Action::EnqueueMeanwhile { step, worker } => {
                let (paused, place) = (world.database.paused, Some(world.session(worker)));
                if paused {
                    self.resume(world);
                    self.let_go(world);
                } else {
                    world.commit(Durable, statements::pause);
                }
                world.commit(Relaxed, |database| {
                    statements::enqueue(database, rules, (step, place), paused);
                });
            }
            Action::TimePasses => self.pass_time(world),
            Action::Yield { delivery, worker, keeps } => {
                world.yields -= 1;
                if keeps {
                    world.spend_a_fault();
                } else {
                    world.hands.remove(&(delivery, worker));
                }
                world.commit(Durable, |database| statements::yield_step(database, rules, delivery));
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
            Action::Intervene(intervention) => self.intervene(world, &intervention),
        }
    }

    fn admit(&self, world: &mut World, step: usize, worker: usize) {
        let session = world.session(worker);
        world.commit(Commit::Relaxed, |database| {
            let has_room = statements::has_room(database, &self.rules);
            statements::admit(database, &self.rules, step, session, has_room);
        });
    }

    fn pass_time(&self, world: &mut World) {
        world.pass_time(|database| statements::time_passes(database, &self.rules));
    }

    fn resume(&self, world: &mut World) {
        world.commit(Commit::Durable, |database| statements::resume(database, &self.rules));
        world.lets_go = self.rules.pauses == Pauses::Template;
    }

    fn let_go(&self, world: &mut World) {
        world.lets_go = false;
        world.commit(Commit::Durable, statements::let_go);
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
            Fault::AdmitLate { step, worker } => {
                // So late that there is time.
                for _ in 0..world.database.begun.unwrap_or_default() {
                    if !statements::has_room(&world.database, &self.rules) {
                        self.pass_time(world);
                    }
                }
                self.admit(world, step, worker);
            }
            Fault::LoseLettingGo => {
                world.lets_go = false;
                world.messages_were_lost = true;
            }
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

    fn intervene(&self, world: &mut World, intervention: &Intervention) {
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
                statements::repair(database, rules, *step, (StepEvent::ResetForRetry, None));
            }
            Intervention::CompleteManually { step, chosen } => {
                let says = (StepEvent::CompleteManually, Some(chosen.as_slice()));
                statements::repair(database, rules, *step, says);
            }
            Intervention::ResolveManually(step) => {
                statements::repair(database, rules, *step, (StepEvent::ResolveManually, None));
            }
        });
        if world.database != before {
            world.interventions -= 1;
        }
    }
}
