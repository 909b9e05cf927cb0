//! Which moves of the task machine are made: by running the statements on tasks wherever they may stand.

use std::collections::BTreeSet;

use tasker_domain::{StepCounts, StepState, TaskEvent, TaskId, TaskState};
use tasker_store::{ByHand, ToEnd};

use crate::{
    bench::{AStep, Bench},
    verb::Verb,
};

const ACTOR: &str = "parity";
/// More steps than any case needs.
const TOTAL: i32 = 9;

pub(crate) fn name(state: TaskState, event: TaskEvent) -> String {
    format!("{state} + {event:?}")
}

/// Legal, and made by no statement.
pub(crate) fn made_by_none() -> BTreeSet<String> {
    use TaskEvent as On;
    use TaskState::{EnqueuingSteps, Initializing, WaitingForDependencies};

    let mut unmade = BTreeSet::new();
    // A task is born with its steps, of which at least one is ready, or with none.
    unmade.insert(name(Initializing, On::NoDependenciesReady));
    // A step that cannot be enqueued is one whose message is parked: its task is a dead letter, and stands.
    unmade.insert(name(EnqueuingSteps, On::EnqueueFailed));
    // Nothing of it is at a worker.
    unmade.insert(name(WaitingForDependencies, On::StepCompleted));
    unmade.insert(name(WaitingForDependencies, On::StepFailed));
    // The result that is the last says StepCompleted, and the one that unlocks others, too: nobody else has to
    // tell the task.
    for state in TaskState::ALL.into_iter().filter(|state| state.awaits_results()) {
        unmade.insert(name(state, On::AllStepsCompleted));
        unmade.insert(name(state, On::DependenciesReady));
    }
    unmade
}

#[derive(Default)]
struct Moves(BTreeSet<String>);

impl Moves {
    /// Notes what a task has passed since it stood there.
    async fn note(&mut self, bench: &Bench, task: uuid::Uuid, from: TaskState) {
        bench.passed(task).await.into_iter().fold(from, |state, event| {
            self.0.insert(name(state, event));
            state.after(event).unwrap()
        });
    }

    /// Has a verb come to a step of a task that stands there.
    async fn try_verb(&mut self, bench: &Bench, verb: Verb, state: TaskState, counts: StepCounts) {
        let step = a_step(bench, verb).await;
        bench.stands(step.held.task_id, state, counts).await;
        verb.apply(bench, &step).await;
        self.note(bench, step.held.task_id, state).await;
    }
}

/// A step that the verb may come to.
async fn a_step(bench: &Bench, verb: Verb) -> AStep {
    let state = StepState::ALL.into_iter().find(|state| verb.expected(*state).is_some());
    bench.a_step(verb, state.unwrap()).await
}

pub(crate) async fn made_by_statements(bench: &Bench) -> BTreeSet<String> {
    let mut moves = Moves::default();
    let newborn = a_step(bench, Verb::Start).await.held.task_id;
    moves.note(bench, newborn, TaskState::Pending).await;
    results(bench, &mut moves).await;
    held_steps(bench, &mut moves).await;
    repairs(bench, &mut moves).await;
    finalizations(bench, &mut moves).await;
    ends(bench, &mut moves).await;
    moves.0
}

/// What else may be where beside the step that moves.
fn beside() -> [StepCounts; 5] {
    let none = StepCounts { total: TOTAL, ..StepCounts::default() };
    [
        none,
        StepCounts { ready: 1, ..none },
        StepCounts { in_flight: 1, ..none },
        StepCounts { waiting_for_retry: 1, ..none },
        // All others are satisfied.
        StepCounts { satisfied: TOTAL - 1, ..none },
    ]
}

async fn results(bench: &Bench, moves: &mut Moves) {
    use TaskState::{EnqueuingSteps, StepsInProcess, WaitingForRetry};

    for state in [EnqueuingSteps, StepsInProcess, WaitingForRetry] {
        for counts in beside() {
            let at_a_worker = StepCounts { in_flight: counts.in_flight + 1, ..counts };
            for verb in [Verb::Complete, Verb::FailForGood] {
                moves.try_verb(bench, verb, state, at_a_worker).await;
            }
            let waits = StepCounts { waiting_for_retry: counts.waiting_for_retry + 1, ..counts };
            moves.try_verb(bench, Verb::Retry, state, waits).await;
        }
    }
    for counts in beside() {
        let ready = StepCounts { ready: counts.ready + 1, ..counts };
        moves.try_verb(bench, Verb::Enqueue, EnqueuingSteps, ready).await;
    }
}

/// A pause holds a step, and lets it go.
async fn held_steps(bench: &Bench, moves: &mut Moves) {
    let by = ByHand { operator: ACTOR.to_owned(), reason: String::new() };
    for counts in beside() {
        let step = a_step(bench, Verb::Enqueue).await;
        let task = step.held.task_id;
        let ready = StepCounts { ready: counts.ready + 1, ..counts };
        bench.stands(task, TaskState::EnqueuingSteps, ready).await;
        bench.store.pause_task(TaskId(task), &by).await.unwrap();
        Verb::Enqueue.apply(bench, &step).await;
        bench.store.resume_task(TaskId(task), &by).await.unwrap();
        moves.note(bench, task, TaskState::EnqueuingSteps).await;
    }
}

async fn repairs(bench: &Bench, moves: &mut Moves) {
    let counts = StepCounts { total: TOTAL, ..StepCounts::default() };
    let open = TaskState::ALL.into_iter().filter(|state| state.awaits_results());
    for state in open.chain([TaskState::BlockedByFailures]) {
        moves.try_verb(bench, Verb::ResolveManually, state, counts).await;
    }
    moves.try_verb(bench, Verb::Reopen, TaskState::Error, counts).await;
}

async fn finalizations(bench: &Bench, moves: &mut Moves) {
    use TaskState::{EvaluatingResults, Initializing};

    let none = StepCounts { total: TOTAL, ..StepCounts::default() };
    let cases = [
        (Initializing, StepCounts::default()),
        (EvaluatingResults, none),
        (EvaluatingResults, StepCounts { failed: 1, ..none }),
        (EvaluatingResults, StepCounts { satisfied: TOTAL, ..none }),
    ];
    for (state, counts) in cases {
        let task = a_step(bench, Verb::Start).await.held.task_id;
        bench.stands(task, state, counts).await;
        let finalization = bench.send_a_finalization(task).await;
        bench.store.finalize_tasks(&[finalization], ACTOR).await.unwrap();
        moves.note(bench, task, state).await;
    }
}

async fn ends(bench: &Bench, moves: &mut Moves) {
    use TaskEvent::{Cancel, GiveUp, ManualResolution, Timeout};

    let counts = StepCounts { total: TOTAL, ..StepCounts::default() };
    for state in TaskState::ALL.into_iter().filter(|state| !state.is_end()) {
        for event in [Cancel, Timeout, ManualResolution, GiveUp] {
            let task = a_step(bench, Verb::Start).await.held.task_id;
            bench.stands(task, state, counts).await;
            let (actor, reason) = (ACTOR.to_owned(), String::new());
            let end = ToEnd { task_id: TaskId(task), event, actor, reason };
            bench.store.end_tasks(&[end]).await.unwrap();
            moves.note(bench, task, state).await;
        }
    }
}
