//! Readiness that follows the database, at next to no cost while it is well.

use std::{fmt::Display, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{Condition, Context};

/// How often a well database is asked: seldom, since the stages read their queues more often, and
/// doubt it at the first failure.
const WHILE_WELL: Duration = Duration::from_secs(30);
/// How often an unreachable one is asked.
const WHILE_LOST: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Keeps the condition `database` true while `ping` succeeds, until the service drains.
///
/// `ping` asks something like `SELECT 1`. It is called every 30 s, at once when someone
/// [doubts](Condition::doubt) the returned condition, and every 500 ms while it fails; no answer
/// within 2 s is a failure.
pub fn database_readiness<P, F, E>(context: &Context, ping: P) -> Condition
where
    P: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send,
    E: Display + Send,
{
    let condition = context.readiness.condition("database");
    let (database, drain) = (condition.clone(), context.drain.clone());
    context.spawn("the check of the database", async move {
        drain.run_until_cancelled(follow(&database, ping)).await;
    });
    condition
}

async fn follow<P, F, E>(database: &Condition, ping: P)
where
    P: Fn() -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    loop {
        let pause = match timeout(ANSWER, ping()).await {
            Ok(Ok(())) => {
                database.ready();
                WHILE_WELL
            }
            Ok(Err(error)) => {
                database.not_ready(error.to_string());
                WHILE_LOST
            }
            Err(_) => {
                database.not_ready("no answer within 2 s");
                WHILE_LOST
            }
        };
        if pause == WHILE_LOST {
            // Nobody's doubt could make it sooner: it is known.
            sleep(pause).await;
        } else {
            timeout(pause, database.doubted()).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::config;

    #[tokio::test(start_paused = true)]
    async fn readiness_follows_the_database_away_and_back() {
        let context = Context::new("test", &config::Drain::default());
        let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let mut changes = context.readiness.watch();
        let condition = database_readiness(&context, {
            let (well, asked) = (well.clone(), asked.clone());
            move || {
                asked.fetch_add(1, SeqCst);
                let well = well.load(SeqCst);
                async move { if well { Ok(()) } else { Err("cut off") } }
            }
        });
        assert!(!context.readiness.is_ready());
        while !context.readiness.is_ready() {
            changes.changed().await;
        }

        sleep(Duration::from_secs(60)).await;
        assert!(asked.load(SeqCst) <= 13, "asked {} times in a minute", asked.load(SeqCst));

        well.store(false, SeqCst);
        let lost = Instant::now();
        condition.doubt();
        changes.changed().await;
        assert!(!context.readiness.is_ready());
        assert!(lost.elapsed() < Duration::from_millis(100));
        assert_eq!(context.readiness.reasons()["database"], "cut off");

        well.store(true, SeqCst);
        changes.changed().await;
        assert!(context.readiness.is_ready());
        assert!(lost.elapsed() < Duration::from_secs(1));

        context.drain.cancel();
        context.tracker.close();
        context.tracker.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_is_unreachable() {
        let context = Context::new("test", &config::Drain::default());
        let mut changes = context.readiness.watch();
        let _condition = database_readiness(&context, std::future::pending::<Result<(), String>>);
        changes.changed().await;
        changes.changed().await;
        assert_eq!(context.readiness.reasons()["database"], "no answer within 2 s");
    }
}
