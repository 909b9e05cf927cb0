//! The check sees what is wrong: a history that is right, and what could be wrong with it.

use tasker_domain::{StepEvent, StepEvent::*, StepState, TaskState};
use tasker_integration_tests::{Answer, End, Grant, Line, Move, Record, Row, Says, Script, Told};

use super::{limits, rates, wrong};
use crate::random::plan::{Batch, Hand, Kind, LIMITS, Plan, Step, Strategy};

const BEGINS: &[StepEvent] = &[Enqueue, Start];
const ENDS_WELL: &[StepEvent] = &[EnqueueForOrchestration, Complete];
const FAILS: &[StepEvent] = &[EnqueueAsErrorForOrchestration, Fail];

fn step(place: usize, kind: Kind, parents: &[usize]) -> Step {
    Step {
        name: format!("step_{place}"),
        kind,
        parents: parents.to_vec(),
        max_attempts: 1,
        retryable: true,
        back_off: "none",
        has_schema: false,
        limits: vec![0],
    }
}

/// All goes well in it, but for one row.
fn plan(steps: Vec<Step>, fails: &str) -> Plan {
    let rows = steps.iter().flat_map(Step::rows);
    let told = rows.map(|row| {
        let end = if row == fails { End::Permanent } else { End::Success };
        let lines = vec![Line { works_ms: 0, pages: 0, end }];
        (row, Told { says: Says::Nothing, lines })
    });
    let script = Script { who: String::new(), steps: told.collect() };
    Plan { name: "plan".to_owned(), script, steps, hand: Hand::Off, after: 0 }
}

/// A decision that chooses the first of two.
fn decision() -> Plan {
    let steps = vec![
        step(0, Kind::Decision { chosen: vec![1] }, &[]),
        step(1, Kind::Standard, &[0]),
        step(2, Kind::Standard, &[0]),
    ];
    plan(steps, "")
}

/// A plan of three batches, of which the second fails.
fn batch(strategy: Strategy) -> Plan {
    let batch = Batch { planned: 3, parallelism: 1, strategy };
    let steps = vec![
        step(0, Kind::Batchable(batch), &[]),
        step(1, Kind::BatchWorker(batch), &[0]),
        step(2, Kind::Convergence, &[1]),
    ];
    plan(steps, "step_1_2")
}

struct History(Record);

impl History {
    fn of(state: TaskState) -> Self {
        let task_id = "task".to_owned();
        Self(Record { task_id, state, rows: [].into(), moves: Vec::new() })
    }

    fn passes(&mut self, step: &str, events: &[StepEvent], reason: Option<&str>) -> &mut Self {
        let (id, reason) = (self.0.moves.len() as i64, reason.map(str::to_owned));
        let attempt = i32::from(reason.is_none());
        let (step, events) = (step.to_owned(), events.to_vec());
        self.0.moves.push(Move { id, step, events, attempt, reason });
        self
    }

    fn row(&mut self, name: &str, state: StepState, attempt: i32, given: &[&str]) -> &mut Self {
        let given = given.iter().map(|&name| name.to_owned()).collect();
        let answer = Answer { attempt, pages: 0, given, failures: [].into(), batch: None };
        let result =
            (state == StepState::Complete).then(|| serde_json::to_string(&answer).unwrap());
        self.0.rows.insert(name.to_owned(), Row { state, attempt, result });
        self
    }

    /// A step that begins and ends well.
    fn runs(&mut self, step: &str, given: &[&str]) -> &mut Self {
        self.row(step, StepState::Complete, 1, given);
        self.passes(step, BEGINS, None).passes(step, ENDS_WELL, None)
    }
}

fn decided() -> History {
    let mut history = History::of(TaskState::Complete);
    history.runs("step_0", &[]).runs("step_1", &["step_0"]);
    history
}

/// The batch up to its failure.
fn failed(state: TaskState) -> History {
    let mut history = History::of(state);
    history.runs("step_0", &[]).runs("step_1_1", &["step_0"]);
    history.row("step_1_2", StepState::Error, 1, &[]);
    history.passes("step_1_2", BEGINS, None);
    history.row("step_2", StepState::Pending, 0, &[]);
    history
}

fn failed_fast() -> History {
    let mut history = failed(TaskState::BlockedByFailures);
    history.row("step_1_3", StepState::Error, 0, &[]);
    history.passes("step_1_3", &[Fail], Some("BATCH_FAILED_FAST"));
    history.passes("step_1_2", FAILS, None);
    history
}

#[track_caller]
fn sees(what: &str, plan: &Plan, record: &Record) {
    let wrong = wrong(plan, record);
    assert!(wrong.iter().any(|it| it.contains(what)), "{what:?} is not in {wrong:#?}");
}

#[test]
fn nothing_is_wrong_where_all_is_as_it_must_be() {
    assert_eq!(wrong(&decision(), &decided().0), [""; 0]);
    assert_eq!(wrong(&batch(Strategy::FailFast), &failed_fast().0), [""; 0]);
    let mut isolated = failed(TaskState::BlockedByFailures);
    isolated.passes("step_1_2", FAILS, None).runs("step_1_3", &["step_0"]);
    assert_eq!(wrong(&batch(Strategy::Isolate), &isolated.0), [""; 0]);
}

#[test]
fn a_step_that_nobody_chose_is_seen_and_one_that_is_missing() {
    let mut history = decided();
    history.runs("step_2", &["step_0"]);
    sees("its steps are", &decision(), &history.0);
    let mut history = decided();
    history.0.rows.remove("step_1");
    history.0.moves.retain(|it| it.step != "step_1");
    sees("its steps are", &decision(), &history.0);
}

#[test]
fn a_step_that_begins_before_its_parent_has_ended_is_seen() {
    let mut history = decided();
    history.0.moves.swap(1, 2);
    sees("step_1 begins before step_0 has ended", &decision(), &history.0);
}

#[test]
fn a_result_that_is_taken_twice_is_seen() {
    let mut history = decided();
    history.passes("step_1", ENDS_WELL, None);
    sees("completed 2 times", &decision(), &history.0);
}

#[test]
fn an_attempt_that_is_not_counted_is_seen() {
    let mut history = decided();
    history.0.moves.insert(1, history.0.moves[0].clone());
    sees("makes no 1 attempts", &decision(), &history.0);
}

#[test]
fn a_result_given_to_the_wrong_step_is_seen() {
    let mut history = decided();
    history.row("step_1", StepState::Complete, 1, &["step_0", "step_2"]);
    sees("step_1 was given", &decision(), &history.0);
}

#[test]
fn a_worker_too_many_is_seen() {
    let mut history = failed(TaskState::BlockedByFailures);
    history.row("step_1_3", StepState::Complete, 1, &["step_0"]);
    history.passes("step_1_3", BEGINS, None).passes("step_1_2", FAILS, None);
    history.passes("step_1_3", ENDS_WELL, None);
    sees("have places: 1 may", &batch(Strategy::Isolate), &history.0);
}

#[test]
fn a_worker_that_begins_after_its_batch_has_failed_is_seen_and_one_cut_off_for_nothing() {
    let mut history = failed(TaskState::BlockedByFailures);
    history.passes("step_1_2", FAILS, None).runs("step_1_3", &["step_0"]);
    sees("step_1_3 begins though its batch has failed", &batch(Strategy::FailFast), &history.0);
    sees("cut off though no other", &batch(Strategy::Isolate), &failed_fast().0);
}

#[test]
fn a_step_too_many_under_a_limit_is_seen() {
    let plan = plan((0..5).map(|nth| step(nth, Kind::Standard, &[])).collect(), "");
    let mut history = History::of(TaskState::Complete);
    for nth in 0..4 {
        history.passes(&format!("step_{nth}"), BEGINS, None);
    }
    history.passes("step_0", &[Release], None).passes("step_4", BEGINS, None);
    assert_eq!(limits::wrong(&limits::most([(&plan, &history.0)])), [""; 0]);
    history.passes("step_0", &[Start], None);
    assert_eq!(limits::wrong(&limits::most([(&plan, &history.0)])).len(), 1);
}

/// Steps that begin under the third limit, each with the time in ms at which that counts it.
fn rated(times: &[i64]) -> (Plan, History, Vec<Grant>) {
    let limited = |nth| Step { limits: vec![2], ..step(nth, Kind::Standard, &[]) };
    let plan = plan((0..times.len()).map(limited).collect(), "");
    let mut history = History::of(TaskState::Complete);
    let grants = times.iter().zip(&plan.steps).map(|(at_ms, step)| {
        history.passes(&step.name, BEGINS, None);
        Grant {
            task_id: "task".to_owned(),
            step: step.name.clone(),
            limit: LIMITS[2].name.to_owned(),
            value: String::new(),
            at_us: at_ms * 1_000,
        }
    });
    let grants = grants.collect();
    (plan, history, grants)
}

#[test]
fn a_begin_too_many_in_the_time_of_a_rate_is_seen() {
    let most = LIMITS[2].rate.unwrap().count;
    let mut times: Vec<i64> = (0..most as i64).map(|nth| nth * 10).collect();
    times.push(1_000);
    let (plan, history, grants) = rated(&times);
    assert_eq!(rates::wrong([(&plan, &history.0)], &grants), [""; 0]);
    times[most] = 999;
    let (plan, history, grants) = rated(&times);
    let wrong = rates::wrong([(&plan, &history.0)], &grants);
    assert_eq!(wrong, [format!("{} began in a time of rate_of_all \"\"", most + 1)]);
}

#[test]
fn a_begin_that_its_limit_has_not_counted_is_seen() {
    let (plan, mut history, mut grants) = rated(&[0, 1]);
    history.passes("step_0", &[Release], None).passes("step_0", &[Start], None);
    assert_eq!(rates::wrong([(&plan, &history.0)], &grants).len(), 1);
    grants.push(Grant { at_us: 2, ..grants[0].clone() });
    assert_eq!(rates::wrong([(&plan, &history.0)], &grants), [""; 0]);
}
