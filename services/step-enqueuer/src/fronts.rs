//! Where looks into worker queues begin: not at the first message that ever was. What has been taken must be
//! passed by each look for as long as somebody's old snapshot keeps it from being cleared away.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// After what time a look begins at the first message again, in case one has come very late. One that has found
/// less than it could is repeated so at once, and so is the next one when a step's time has come: its message is old.
const WHOLE: Duration = Duration::from_secs(5);
/// How far before the first message that waits: so many may have got their numbers before it, and be committed
/// after it.
const LATE: i64 = 10_000;

/// The fronts, by namespace and callable.
#[derive(Default)]
pub struct Fronts(HashMap<(String, String), Front>);

struct Front {
    message_id: i64,
    looked_at: Instant,
}

impl Fronts {
    /// The message that a look for these handlers begins at; 0 for the first.
    pub fn of(&self, namespace: &str, callables: &[String]) -> i64 {
        let front = |callable: &String| {
            let front = self.0.get(&(namespace.to_owned(), callable.clone()));
            front.filter(|it| it.looked_at.elapsed() < WHOLE).map_or(0, |it| it.message_id)
        };
        callables.iter().map(front).min().unwrap_or(0)
    }

    /// Notes the first message that a look has found which began at `from`; none if no front is worth it. Only a
    /// look that began at the first message has seen all.
    pub fn found(
        &mut self,
        namespace: &str,
        callables: Vec<String>,
        from: i64,
        first: Option<i64>,
    ) {
        if from > 0 {
            return;
        }
        let looked_at = Instant::now();
        // What is too old counts no more: nothing gathers of workers that have left.
        self.0.retain(|_, front| front.looked_at.elapsed() < WHOLE);
        let message_id = first.map_or(0, |first| first - LATE);
        for callable in callables {
            let key = (namespace.to_owned(), callable);
            if message_id > 0 {
                self.0.insert(key, Front { message_id, looked_at });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn callables(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_begins_a_little_before_the_first_that_waits_and_now_and_then_at_the_first_of_all()
     {
        let (mut fronts, both) = (Fronts::default(), callables(&["a", "b"]));
        assert_eq!(fronts.of("n", &both), 0);
        fronts.found("n", both.clone(), 0, Some(50_000));
        assert_eq!(fronts.of("n", &both), 40_000);
        // What a partial look has found is not the first that there is.
        fronts.found("n", both.clone(), 40_000, Some(90_000));
        fronts.found("n", both.clone(), 40_000, None);
        assert_eq!(fronts.of("n", &both), 40_000);
        tokio::time::advance(WHOLE).await;
        assert_eq!(fronts.of("n", &both), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_passed_of_a_handler_or_namespace_that_was_not_looked_for() {
        let mut fronts = Fronts::default();
        fronts.found("n", callables(&["a"]), 0, Some(50_000));
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), 0);
        assert_eq!(fronts.of("m", &callables(&["a"])), 0);
        fronts.found("n", callables(&["b"]), 0, Some(20_000));
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), 10_000);
        // Where little waits there is no front, nor where steps have come late.
        fronts.found("n", callables(&["b"]), 0, None);
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), 0);
        fronts.found("m", callables(&["a"]), 0, Some(30_000));
        fronts.forget("n");
        assert_eq!(fronts.of("n", &callables(&["a"])), 0);
        assert_eq!(fronts.of("m", &callables(&["a"])), 20_000);
    }
}
