//! Where looks into worker queues begin: not at the first message that ever was. What has been taken must be
//! passed by each look for as long as somebody's old snapshot keeps it from being cleared away.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tasker_store::{Front, SeenWaiting};
use tokio::time::Instant;

/// After what time a look begins at the first message again, in case one has come very late. One that has found
/// less than it could is repeated so at once, and so is the next one when a step's time has come: its message is old.
const WHOLE: Duration = Duration::from_secs(5);
/// How far before the first message that waits: so many may have got their numbers before it, and be committed
/// after it. Four batches of the usual size. Where it is not enough, one is found by the next whole look.
const LATE: i64 = 2_000;
/// Of how many priorities the taken messages are not passed.
const PRIORITIES: usize = 8;

/// The fronts, by namespace and callable.
#[derive(Default)]
pub struct Fronts(HashMap<(String, String), Known>);

struct Known {
    front: Front,
    /// Last from the first message on.
    looked_at: Instant,
}

impl Fronts {
    /// Where a look for these handlers begins.
    pub fn of(&self, namespace: &str, callables: &[String]) -> Front {
        let mut all: Option<Front> = None;
        for callable in callables {
            let known = self.0.get(&(namespace.to_owned(), callable.clone()));
            let Some(Known { front, .. }) = known.filter(|it| it.looked_at.elapsed() < WHOLE)
            else {
                return Front::default();
            };
            match &mut all {
                None => all = Some(front.clone()),
                Some(all) => {
                    all.message_id = all.message_id.min(front.message_id);
                    all.priorities.extend(&front.priorities);
                }
            }
        }
        all.unwrap_or_default()
    }

    /// Notes what a look has found which began at `from`. Where no more waits than a look takes in, no front is
    /// worth it. Only a look that began at the first message has seen all: another moves fronts on and
    /// learns of priorities, and no more.
    pub fn found(
        &mut self,
        namespace: &str,
        callables: Vec<String>,
        from: &Front,
        seen: &SeenWaiting,
    ) {
        let first = seen.steps.iter().map(|step| step.message_id).min();
        let message_id = first.filter(|_| seen.beyond.is_some()).map_or(0, |first| first - LATE);
        let priorities = usual_priorities(seen);
        let keys = callables.into_iter().map(|callable| (namespace.to_owned(), callable));
        if from.message_id > 0 {
            for key in keys {
                if let Some(Known { front, .. }) = self.0.get_mut(&key) {
                    front.message_id = front.message_id.max(message_id);
                    for priority in &priorities {
                        let known = &mut front.priorities;
                        if known.len() < PRIORITIES && !known.contains(priority) {
                            known.push(*priority);
                        }
                    }
                }
            }
            return;
        }
        let looked_at = Instant::now();
        // What is too old counts no more: nothing gathers of workers that have left.
        self.0.retain(|_, known| known.looked_at.elapsed() < WHOLE);
        for key in keys {
            if message_id > 0 {
                let front = Front { message_id, priorities: priorities.clone() };
                self.0.insert(key, Known { front, looked_at });
            } else {
                self.0.remove(&key);
            }
        }
    }

    /// Has the next look into a namespace begin at its first message.
    pub fn forget(&mut self, namespace: &str) {
        self.0.retain(|(of, _), _| of != namespace);
    }
}

/// Those that most of what was seen has.
fn usual_priorities(seen: &SeenWaiting) -> Vec<i16> {
    let mut counts = BTreeMap::<i16, usize>::new();
    for step in &seen.steps {
        *counts.entry(step.priority).or_default() += 1;
    }
    let mut priorities: Vec<(i16, usize)> = counts.into_iter().collect();
    // Of equal ones the higher: more of them have been taken.
    priorities.sort_by_key(|&(priority, count)| Reverse((count, priority)));
    priorities.into_iter().take(PRIORITIES).map(|(priority, _)| priority).collect()
}

#[cfg(test)]
mod tests {
    use tasker_store::{Beyond, WaitingStep};
    use uuid::Uuid;

    use super::*;

    fn callables(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// A look that found these messages, each with its priority, and could not take in all.
    fn crowd(messages: &[(i64, i16)]) -> SeenWaiting {
        let step = |&(message_id, priority): &(i64, i16)| WaitingStep {
            message_id,
            task_id: Uuid::nil(),
            ordinal: 0,
            template_id: Uuid::nil(),
            priority,
            callable: "a".to_owned(),
            declared: None,
            traceparent: String::new(),
            waited: Duration::ZERO,
        };
        let beyond = Beyond { priority: 0, task_id: Uuid::nil(), waited: Duration::ZERO };
        SeenWaiting { steps: messages.iter().map(step).collect(), beyond: Some(beyond) }
    }

    fn front(message_id: i64) -> Front {
        Front { message_id, priorities: vec![0] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_begins_a_little_before_the_first_that_waits_and_now_and_then_at_the_first_of_all()
     {
        let (mut fronts, both) = (Fronts::default(), callables(&["a", "b"]));
        assert_eq!(fronts.of("n", &both), Front::default());
        fronts.found("n", both.clone(), &Front::default(), &crowd(&[(60_000, 0), (50_000, 0)]));
        assert_eq!(fronts.of("n", &both).message_id, 48_000);
        tokio::time::advance(WHOLE / 2).await;
        // A partial look moves it on, never back, and does not put the next whole one off.
        fronts.found("n", both.clone(), &front(48_000), &crowd(&[(90_000, 0)]));
        fronts.found("n", both.clone(), &front(48_000), &crowd(&[(70_000, 0)]));
        fronts.found("n", both.clone(), &front(48_000), &SeenWaiting::default());
        assert_eq!(fronts.of("n", &both).message_id, 88_000);
        tokio::time::advance(WHOLE / 2).await;
        assert_eq!(fronts.of("n", &both), Front::default());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_passed_of_a_handler_or_namespace_that_was_not_looked_for() {
        let (mut fronts, whole) = (Fronts::default(), Front::default());
        fronts.found("n", callables(&["a"]), &whole, &crowd(&[(50_000, 0)]));
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), whole);
        assert_eq!(fronts.of("m", &callables(&["a"])), whole);
        fronts.found("n", callables(&["b"]), &whole, &crowd(&[(20_000, 0)]));
        assert_eq!(fronts.of("n", &callables(&["a", "b"])).message_id, 18_000);
        // Where little waits there is no front, nor where steps have come late.
        fronts.found("n", callables(&["b"]), &whole, &SeenWaiting::default());
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), whole);
        fronts.found("m", callables(&["a"]), &whole, &crowd(&[(30_000, 0)]));
        fronts.forget("n");
        assert_eq!(fronts.of("n", &callables(&["a"])), whole);
        assert_eq!(fronts.of("m", &callables(&["a"])).message_id, 28_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_usual_priorities_are_known_and_no_more_of_them_than_are_worth_it() {
        let (mut fronts, whole) = (Fronts::default(), Front::default());
        let of_each = (0..20).flat_map(|n| (0..=n).map(move |_| (50_000, n)));
        fronts.found("n", callables(&["a"]), &whole, &crowd(&of_each.collect::<Vec<_>>()));
        assert_eq!(fronts.of("n", &callables(&["a"])).priorities, [19, 18, 17, 16, 15, 14, 13, 12]);

        fronts.found("n", callables(&["a"]), &whole, &crowd(&[(50_000, 1), (50_001, 2)]));
        let from = fronts.of("n", &callables(&["a"]));
        assert_eq!(from.priorities, [2, 1]);
        fronts.found("n", callables(&["a"]), &from, &crowd(&[(50_000, 2), (50_001, 3)]));
        // However often a look that began there tells of it.
        fronts.found("n", callables(&["a"]), &from, &crowd(&[(50_000, 3)]));
        assert_eq!(fronts.of("n", &callables(&["a"])).priorities, [2, 1, 3]);
    }
}
