//! No more tasks than can be worked off before long: a namespace in which too many steps wait for
//! workers takes no new ones.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tasker_api::status;
use tasker_domain::ErrorKind;
use tasker_stage::Database;
use tonic::Status;

/// How old what is known may be. Between two looks a namespace may take a second's worth more.
const FRESH: Duration = Duration::from_secs(1);
/// Namespaces that something is known of.
const NAMESPACES: usize = 10_000;

/// What waits in each namespace, as far as somebody has asked. Clones are one.
#[derive(Clone)]
pub struct Backlog {
    database: Database,
    /// In steps.
    limit: u32,
    seen: Arc<Mutex<HashMap<String, Look>>>,
}

/// The last look into a namespace.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    full: bool,
}

impl Backlog {
    pub fn new(database: Database, limit: u32) -> Self {
        Self { database, limit, seen: Arc::default() }
    }

    /// Whether a namespace takes one more task, by a look that is at most about a second old. The look
    /// is not in the caller's way: who asks first has the next one made.
    ///
    /// # Errors
    /// Too many steps wait: try again later.
    pub fn admit(&self, namespace: &str) -> Result<(), Status> {
        let mut seen = self.seen();
        let last = seen.get(namespace).copied();
        if last.is_none_or(|look| look.at.elapsed() >= FRESH) {
            if seen.len() >= NAMESPACES {
                seen.retain(|_, look| look.at.elapsed() < FRESH);
            }
            // Until that look is done, the last one counts.
            let look = Look { at: Instant::now(), full: last.is_some_and(|look| look.full) };
            seen.insert(namespace.to_owned(), look);
            let (backlog, namespace) = (self.clone(), namespace.to_owned());
            tokio::spawn(async move { backlog.look(namespace).await });
        }
        if last.is_some_and(|look| look.full) {
            let limit = self.limit;
            return Err(status(
                ErrorKind::Overloaded,
                format!(
                    "{limit} steps or more wait for workers in {namespace}, as many as may (task_request.max_backlog): \
                     add workers, or try again later"
                ),
            ));
        }
        Ok(())
    }

    async fn look(&self, namespace: String) {
        match self.database.store.waits_for_workers(&namespace, self.limit.into()).await {
            Ok(waiting) => {
                let full = waiting >= i64::from(self.limit);
                if let Some(look) = self.seen().get_mut(&namespace) {
                    if full && !look.full {
                        tracing::warn!(
                            namespace,
                            "{namespace} takes no tasks: {waiting} steps wait"
                        );
                    }
                    look.full = full;
                }
            }
            // What was known counts until the next look.
            Err(error) => {
                self.database.noticed(&error);
                tracing::warn!(namespace, "the backlog could not be looked at: {error}");
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Look>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
