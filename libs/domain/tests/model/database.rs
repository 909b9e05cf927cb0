//! One task as the tables and queues hold it.

use std::collections::BTreeMap;

use tasker_domain::{StepCounts, StepEvent, StepState, TaskEvent, TaskState};

/// What one commit changes as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) task: TaskState,
    pub(crate) counts: StepCounts,
    /// By ordinal; those that no decision has chosen are not there.
    pub(crate) steps: Vec<Option<Step>>,
    pub(crate) leases: BTreeMap<usize, Lease>,
    /// Whether nothing new may begin.
    pub(crate) paused: bool,
    /// Steps whose message was taken, and that may not begin.
    pub(crate) held: BTreeMap<usize, Hold>,
    /// Attempts that have begun under the limit, with how often each has.
    pub(crate) grants: BTreeMap<(usize, u8), u8>,
    /// How many of them the rate still counts.
    pub(crate) counted: u8,
    /// Where there is a rate: how many steps have begun in its time, as far as a crash has left it known.
    /// Nothing asks for it but a promise.
    pub(crate) begun: Option<u8>,
    /// In all queues together, each with how often it is there.
    messages: BTreeMap<Message, u8>,
    /// By step, how many deliveries have had an id. Services make them: no crash sets them back.
    pub(crate) minted: Vec<u8>,
    /// What became of each delivery. Nothing reads it but the promises.
    pub(crate) fates: BTreeMap<Delivery, Fate>,
    /// Whether something has begun while it was paused. Nothing reads it but a promise.
    pub(crate) began_while_paused: bool,
}

/// Why a step may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// Its task or template is paused.
    Pause,
    /// Its limit has no slot or no time for it, or nobody has looked yet.
    Limit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    pub(crate) state: StepState,
    pub(crate) unmet_dependencies: u8,
    pub(crate) attempt: u8,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) accepted: Option<Delivery>,
    /// What was taken and is not judged yet.
    pub(crate) result: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lease {
    pub(crate) delivery: Delivery,
    pub(crate) session: Session,
}

/// A worker's nth session. A worker lives in its newest; the others have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Session {
    pub(crate) worker: usize,
    pub(crate) nth: u8,
}

/// The fence: a step's nth, and never another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Delivery {
    pub(crate) step: usize,
    pub(crate) nth: u8,
}

/// What a queue may hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// In `orchestration_ready_steps`.
    Ready(usize),
    /// In a worker queue.
    Enqueued(usize),
    /// In `orchestration_step_results`.
    Result(Delivery, Outcome),
    /// In `orchestration_task_finalizations`.
    Finalization,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    /// With the steps that it chooses, if it decides.
    Success { chosen: Vec<usize> },
    /// Whether it may be tried again is said, too.
    Failure { retryable: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    /// A worker may still answer for it.
    Held,
    /// Its result was taken.
    Taken,
    /// It was taken from its worker, and the attempt counts.
    Lost,
    /// It went back and costs nothing, or a crash has undone it.
    Returned,
    /// Its worker has begun it, and gave it back to go on later. That costs nothing.
    Yielded,
    /// It belongs to a life of its step that an operator has ended.
    Past,
    /// Its result was taken twice, or after it was taken from its worker. Never.
    TakenWrongly,
}

impl Database {
    pub(crate) fn before_birth(steps: usize) -> Self {
        Self {
            task: TaskState::Pending,
            counts: StepCounts::default(),
            steps: vec![None; steps],
            leases: BTreeMap::new(),
            paused: false,
            held: BTreeMap::new(),
            grants: BTreeMap::new(),
            counted: 0,
            begun: None,
            messages: BTreeMap::new(),
            minted: vec![0; steps],
            fates: BTreeMap::new(),
            began_while_paused: false,
        }
    }

    /// The steps that their limit holds.
    pub(crate) fn held_by_limit(&self) -> impl Iterator<Item = usize> + '_ {
        let by_limit = self.held.iter().filter(|(_, hold)| **hold == Hold::Limit);
        by_limit.map(|(step, _)| *step)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.keys()
    }

    pub(crate) fn has(&self, message: &Message) -> bool {
        self.messages.contains_key(message)
    }

    pub(crate) fn send(&mut self, message: Message) {
        *self.messages.entry(message).or_default() += 1;
    }

    /// Deletes a message. Who finds it gone has nothing to do.
    pub(crate) fn take(&mut self, message: &Message) -> bool {
        let Some(copies) = self.messages.get_mut(message) else { return false };
        *copies -= 1;
        if *copies == 0 {
            self.messages.remove(message);
        }
        true
    }

    /// Where a step stands, if it was born.
    pub(crate) fn state(&self, step: usize) -> Option<StepState> {
        self.steps[step].as_ref().map(|step| step.state)
    }

    /// Whether every one of these events may come, one after the other.
    pub(crate) fn allows(&self, step: usize, events: &[StepEvent]) -> bool {
        let state = self.state(step);
        events.iter().try_fold(state, |at, event| Some(at?.after(*event).ok())).flatten().is_some()
    }

    /// Moves a step, which was born, by the real machine.
    pub(crate) fn move_step(&mut self, step: usize, event: StepEvent) -> &mut Step {
        let step = self.steps[step].as_mut().expect("a statement moves only what is there");
        step.state = step.state.after(event).expect("a statement asks before it moves a step");
        if !step.state.is_being_judged() {
            step.result = None;
        }
        step
    }

    /// Moves the task by the real machine.
    pub(crate) fn move_task(&mut self, event: TaskEvent) {
        self.task = self.task.after(event).expect("a statement asks before it moves a task");
    }

    /// Keeps a step, whose message was taken, from beginning. Its task counts it if it is ready.
    pub(crate) fn hold(&mut self, step: usize, hold: Hold) {
        let is_fresh = self.held.insert(step, hold).is_none();
        if is_fresh && self.state(step) == Some(StepState::Pending) {
            self.counts.held += 1;
        }
    }

    /// Forgets that a step is held, before it moves. Says whether it was.
    pub(crate) fn let_go(&mut self, step: usize) -> bool {
        let was_held = self.held.remove(&step).is_some();
        if was_held && self.state(step) == Some(StepState::Pending) {
            self.counts.held -= 1;
        }
        was_held
    }

    /// Where the task stands once what was held may be enqueued: where it enqueues others, it goes on.
    pub(crate) fn enqueues_again(&self) -> TaskState {
        let events = [TaskEvent::RetryReady, TaskEvent::ReadyStepsFound];
        let next = |event: TaskEvent| self.task.after(event).ok();
        events.into_iter().find_map(next).unwrap_or(self.task)
    }

    /// Moves the task on from `enqueuing_steps` if none of its steps is left to enqueue.
    pub(crate) fn has_enqueued(&mut self) {
        match TaskEvent::judged(&self.counts) {
            TaskEvent::ReadyStepsFound => {}
            TaskEvent::StepsStillInProcess => self.move_task(TaskEvent::StepsEnqueued),
            event => self.move_task(event),
        }
    }

    /// Moves the task on from `evaluating_results` as its counts say; if nothing moves any more, it is
    /// the finalizer's turn.
    pub(crate) fn evaluate(&mut self) {
        match TaskEvent::judged(&self.counts) {
            event @ (TaskEvent::ReadyStepsFound
            | TaskEvent::StepsStillInProcess
            | TaskEvent::RetryPending) => self.move_task(event),
            _ => self.send(Message::Finalization),
        }
    }

    /// Stores the result of a delivery until it is judged, with the message that says so.
    pub(crate) fn queue_result(&mut self, delivery: Delivery, outcome: Outcome) {
        if let Some(step) = &mut self.steps[delivery.step] {
            step.accepted = Some(delivery);
            step.result = Some(outcome.clone());
        }
        self.send(Message::Result(delivery, outcome));
    }

    /// An id that no delivery has had.
    pub(crate) fn mint(&mut self, step: usize) -> Delivery {
        self.minted[step] += 1;
        Delivery { step, nth: self.minted[step] }
    }

    /// Gives a step, which waits for a worker, to one: Start.
    pub(crate) fn begin(&mut self, step: usize, session: Session) {
        let delivery = self.mint(step);
        let started = self.move_step(step, StepEvent::Start);
        started.attempt += 1;
        started.delivery = Some(delivery);
        self.began_while_paused |= self.paused;
        self.begun = self.begun.map(|begun| begun + 1);
        let other = self.leases.insert(step, Lease { delivery, session });
        assert_eq!(other, None, "a step has one lease");
        self.fates.insert(delivery, Fate::Held);
    }

    /// How many steps are where, by a look at each.
    pub(crate) fn recounted(&self) -> StepCounts {
        let mut counts = StepCounts::default();
        for (ordinal, step) in self.steps.iter().enumerate() {
            let Some(step) = step else { continue };
            counts.total += 1;
            match step.state {
                StepState::Pending => {
                    let ready = step.unmet_dependencies == 0;
                    counts.ready += i32::from(ready);
                    counts.held += i32::from(ready && self.held.contains_key(&ordinal));
                }
                StepState::Enqueued
                | StepState::InProgress
                | StepState::EnqueuedForOrchestration
                | StepState::EnqueuedAsErrorForOrchestration => counts.in_flight += 1,
                StepState::WaitingForRetry => counts.waiting_for_retry += 1,
                StepState::Error => counts.failed += 1,
                StepState::Complete | StepState::ResolvedManually => counts.satisfied += 1,
                StepState::Cancelled => {}
            }
        }
        counts
    }

    /// Takes a step from its worker, if it is at one.
    pub(crate) fn end_lease(&mut self, step: usize, fate: Fate) {
        self.leases.remove(&step);
        let delivery = self.steps[step].as_mut().and_then(|step| step.delivery.take());
        if let Some(delivery) = delivery {
            self.fates.insert(delivery, fate);
        }
    }

    /// Takes the result of a delivery, which ends its lease.
    pub(crate) fn accept(&mut self, delivery: Delivery) {
        let held = self.fates.get(&delivery) == Some(&Fate::Held);
        self.end_lease(delivery.step, Fate::Lost);
        self.fates.insert(delivery, if held { Fate::Taken } else { Fate::TakenWrongly });
        if let Some(step) = &mut self.steps[delivery.step] {
            step.accepted = Some(delivery);
        }
    }
}
