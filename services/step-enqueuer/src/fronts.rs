//! Where looks into worker queues begin: not at the first message that ever was. What has been taken must be
//! passed by each look for as long as somebody's old snapshot keeps it from being cleared away.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// After what time a look begins at the first message again, in case one has come very late. One that has found
/// less than it could is repeated so at once.
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

    /// Notes the first message that a look has found which began at `from`. Only one that began at the first
    /// has seen all.
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
        for callable in callables {
            let key = (namespace.to_owned(), callable);
            match first {
                Some(first) => {
                    let message_id = (first - LATE).max(0);
                    self.0.insert(key, Front { message_id, looked_at: Instant::now() });
                }
                None => {
                    self.0.remove(&key);
                }
            }
        }
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
        // An empty queue has no front.
        fronts.found("n", callables(&["b"]), 0, None);
        assert_eq!(fronts.of("n", &callables(&["a", "b"])), 0);
    }
}
