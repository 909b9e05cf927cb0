//! The two copies of each machine, in Rust and in SQL, are one.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

mod bench;
mod task_moves;
mod verb;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection as _, PgConnection};
use tasker_domain::{StepEvent, StepState, TaskEvent, TaskId, TaskState};
use tasker_store::{ByHand, Ending, FastVerdict, Remedy, ToEnd, ToRepair};
use tasker_testing::TestDatabase;

use crate::{
    bench::Bench,
    verb::{Verb, completion, failure},
};

/// What one machine says of every pair of its states and events, as the database writes them.
type Table = BTreeMap<(String, String), Option<String>>;

async fn table(url: &str, statement: &'static str) -> Table {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query_as(statement).fetch_all(&mut connection).await.unwrap();
    rows.into_iter().map(|(state, event, next)| ((state, event), next)).collect()
}

#[tokio::test]
async fn rust_and_sql_agree_about_every_state_and_event_of_a_task() {
    let database = TestDatabase::fresh().await;
    let sql = table(
        database.url(),
        "SELECT state::text, event::text, task_state_after(state, event)::text
         FROM unnest(enum_range(NULL::task_state)) AS state, unnest(enum_range(NULL::task_event)) AS event",
    );
    let mut rust = Table::new();
    for state in TaskState::ALL {
        for event in TaskEvent::ALL {
            let next = state.after(event).ok().map(|next| next.to_string());
            rust.insert((state.to_string(), format!("{event:?}")), next);
        }
    }
    assert_eq!(rust, sql.await);
}

#[tokio::test]
async fn rust_and_sql_agree_about_every_state_and_event_of_a_step() {
    let database = TestDatabase::fresh().await;
    let sql = table(
        database.url(),
        "SELECT state::text, event::text, step_state_after(state, event)::text
         FROM unnest(enum_range(NULL::step_state)) AS state, unnest(enum_range(NULL::step_event)) AS event",
    );
    let mut rust = Table::new();
    for state in StepState::ALL {
        for event in StepEvent::ALL {
            let next = state.after(event).ok().map(|next| next.to_string());
            rust.insert((state.to_string(), format!("{event:?}")), next);
        }
    }
    assert_eq!(rust, sql.await);
}

#[tokio::test]
async fn the_database_guards_every_transition() {
    let bench = Bench::new().await;
    for verb in Verb::ALL {
        for state in StepState::ALL {
            let expected = verb.expected(state);
            let step = bench.a_step(verb, state).await;
            verb.apply(&bench, &step).await;
            let (reached, remembered) = bench.look(&step).await;
            match expected {
                Some(expected) => {
                    assert_eq!(reached, expected, "{state} + {verb:?}");
                    let events: Vec<_> =
                        verb.events(state).iter().map(|event| format!("{event:?}")).collect();
                    assert_eq!(remembered, Some((events, expected)), "{state} + {verb:?}");
                }
                None => {
                    assert_eq!(reached, state, "{state} does not take {verb:?}");
                    assert_eq!(remembered, None, "{state} + {verb:?} is remembered, and was not");
                }
            }
        }
    }
}

#[test]
fn every_move_that_a_step_may_make_is_made_by_a_verb() {
    let mut made = BTreeSet::new();
    for verb in Verb::ALL {
        for from in StepState::ALL.into_iter().filter(|state| verb.expected(*state).is_some()) {
            verb.events(from).iter().fold(from, |state, event| {
                made.insert(format!("{state} + {event:?}"));
                state.after(*event).unwrap()
            });
        }
    }
    // Of all that is legal, only this nobody does: an end leaves what has failed as it is.
    made.insert(format!("{} + {:?}", StepState::Error, StepEvent::Cancel));
    let pairs = StepState::ALL.iter().flat_map(|state| StepEvent::ALL.map(|event| (state, event)));
    let legal = pairs.filter(|(state, event)| state.after(*event).is_ok());
    assert_eq!(made, legal.map(|(state, event)| format!("{state} + {event:?}")).collect());
}

/// What is legal and made by no statement is listed, with the reason: so that it is known, and does not grow.
#[tokio::test]
async fn every_move_that_a_task_may_make_is_made_by_a_statement() {
    let made = task_moves::made_by_statements(&Bench::new().await).await;
    let unmade = task_moves::made_by_none();
    let pairs = TaskState::ALL.into_iter().flat_map(|it| TaskEvent::ALL.map(|event| (it, event)));
    let legal: BTreeSet<_> = pairs
        .filter(|(state, event)| state.after(*event).is_ok())
        .map(|(state, event)| task_moves::name(state, event))
        .collect();
    assert_eq!(made.intersection(&unmade).collect::<Vec<_>>(), Vec::<&String>::new(), "are made");
    assert_eq!(legal, made.union(&unmade).cloned().collect());
}

#[tokio::test]
async fn a_pause_holds_only_what_could_begin() {
    let bench = Bench::new().await;
    let by = ByHand { operator: "ana".to_owned(), reason: String::new() };
    for verb in [Verb::Enqueue, Verb::EnqueueToWorker, Verb::Start] {
        for state in StepState::ALL {
            let step = bench.a_step(verb, state).await;
            let task = TaskId(step.held.task_id);
            let stood = bench.store.pause_task(task, &by).await.unwrap().unwrap();
            assert!(!stood.ended, "{state} + {verb:?}");
            // Perhaps a twin of a message that has had its effect: held, the step would be sent once more.
            verb.apply(&bench, &step).await;
            assert_eq!(
                bench.is_held(&step).await,
                verb.expected(state).is_some(),
                "{state} + {verb:?}"
            );
            assert_eq!(bench.look(&step).await, (state, None), "{state} + {verb:?}");
            // It is counted if it was ready: its task has nothing else that could move.
            let row = bench.store.task(task).await.unwrap().unwrap();
            let waits = verb != Verb::Start && verb.expected(state).is_some();
            assert_eq!(row.counts.held, i32::from(waits), "{state} + {verb:?}");
            assert_eq!(row.state == TaskState::WaitingForDependencies, waits, "{state} + {verb:?}");
        }
    }
}

#[tokio::test]
async fn the_database_guards_every_end_by_hand_or_by_rule() {
    use TaskEvent::{Cancel, GiveUp, ManualResolution, Timeout};

    let bench = Bench::new().await;
    for event in [Cancel, Timeout, ManualResolution, GiveUp] {
        for state in TaskState::ALL {
            let task_id = bench.a_task_in(state).await;
            let (actor, reason) = ("operator:parity".to_owned(), "because".to_owned());
            let ended = bench.store.end_tasks(&[ToEnd { task_id, event, actor, reason }]).await;
            let expected = match state.after(event) {
                Ok(next) => Ending::Ended(next),
                Err(_) => Ending::Stands(state),
            };
            assert_eq!(ended.unwrap().endings, [expected], "{state} + {event:?}");
            let task = bench.store.task(task_id).await.unwrap().unwrap();
            assert_eq!(task.state, state.after(event).unwrap_or(state), "{state} + {event:?}");
        }
    }
}

/// It may have done its work: it is not run once more than it may be, unless an operator says so.
#[tokio::test]
async fn a_step_cut_off_in_its_last_attempt_has_failed_when_its_task_comes_back_to_life() {
    let bench = Bench::new().await;
    for (step, remembered) in [
        (Some("parent"), (vec!["Reopen".to_owned(), "Fail".to_owned()], StepState::Error)),
        (Some("child"), (vec!["Reopen".to_owned()], StepState::Pending)),
        (None, (vec!["Reopen".to_owned()], StepState::Pending)),
    ] {
        let child = bench.a_step(Verb::Reopen, StepState::Cancelled).await;
        bench.has_no_attempts_left(&child).await;
        let repair = ToRepair {
            task_id: TaskId(child.held.task_id),
            step: step.map(str::to_owned),
            remedy: Remedy::Reset,
            said: None,
            actor: "operator:parity".to_owned(),
            reason: String::new(),
        };
        let mut settlement = bench.store.begin_repairs(&[repair.task_id.0]).await.unwrap();
        bench.store.repair_steps(&mut settlement, &[repair], vec![Ok(None)]).await.unwrap();
        settlement.commit().await.unwrap();
        let reached = remembered.1;
        assert_eq!(bench.look(&child).await, (reached, Some(remembered)), "reset {step:?}");
    }
}

/// Who follows a task goes by the numbers of its transitions. A lower one that is committed later, by
/// a statement that began earlier, would never be told.
#[tokio::test]
async fn moves_of_one_task_are_numbered_in_the_order_of_their_commits() {
    let bench = Bench::new().await;
    for verb in Verb::ALL {
        let state =
            StepState::ALL.into_iter().find(|state| verb.expected(*state).is_some()).unwrap();
        let step = bench.a_step(verb, state).await;
        let other = bench.begin_a_move_of(&step).await;
        tokio::select! {
            () = verb.apply(&bench, &step) => panic!("{verb:?} does not wait for another move of its task"),
            () = bench.somebody_waits_for(&other) => {}
        }
    }
}

#[tokio::test]
async fn the_fast_way_leaves_what_is_not_plain_alone_with_its_message() {
    let bench = Bench::new().await;
    let cases = [
        (Verb::Complete, StepState::InProgress),
        (Verb::CompleteQueued, StepState::EnqueuedForOrchestration),
        (Verb::FailForGood, StepState::InProgress),
        (Verb::FailQueuedForGood, StepState::EnqueuedAsErrorForOrchestration),
    ];
    for (verb, state) in cases {
        let step = bench.a_step(verb, state).await;
        bench.make_it_not_plain(&step).await;
        let judged = if matches!(verb, Verb::Complete | Verb::CompleteQueued) {
            bench.store.complete_steps(&[completion(&step)], "parity").await.unwrap()
        } else {
            bench.store.fail_steps(&[failure(&step, false)], "parity").await.unwrap()
        };
        assert_eq!(judged.verdicts, [FastVerdict::NotPlain], "{verb:?}");
        assert_eq!(bench.look(&step).await, (state, None), "{verb:?}");
        assert_eq!(bench.results_in_the_queue().await, i64::from(step.message_id.is_some()));
        bench.empty_the_queue_of_results().await;
    }
}
