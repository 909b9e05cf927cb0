//! Which tasks earlier tries of requests have brought: asked for many at once, since under overload most of
//! those who are refused ask.

use tasker_domain::{TaskId, identity};
use tasker_stack::gather::{Bounds, Gather, Refused, Stage};
use tasker_stage::Database;
use tasker_store::StoreError;
use uuid::Uuid;

/// Asks for them. Clones are one.
#[derive(Clone)]
pub struct Repeats(Gather<FindRepeats>);

struct FindRepeats {
    database: Database,
}

impl Repeats {
    /// As many at once as births.
    pub fn new(database: Database, births: Bounds) -> Self {
        Self(Gather::spawn(FindRepeats { database }, Bounds { lanes: 1, ..births }))
    }

    /// The task that an earlier try of a request has brought.
    ///
    /// # Errors
    /// The database is not available, or too many ask.
    pub async fn of(&self, request_id: &str) -> Result<Option<TaskId>, Refused<StoreError>> {
        if request_id.is_empty() {
            return Ok(None);
        }
        let mut answers = self.0.call([(Uuid::now_v7(), identity::request_key(request_id))]).await;
        answers.pop().unwrap_or(Err(Refused::Closed))
    }
}

impl Stage for FindRepeats {
    /// Who asks, and for what: many may ask for the same.
    type Item = (Uuid, identity::Key);
    type Answer = Option<TaskId>;
    type Error = StoreError;
    type Key = Uuid;

    fn key((caller, _): &(Uuid, identity::Key)) -> Uuid {
        *caller
    }

    async fn apply(
        &self,
        requests: &[(Uuid, identity::Key)],
    ) -> Result<Vec<Option<TaskId>>, StoreError> {
        let keys: Vec<_> = requests.iter().map(|(_, key)| *key).collect();
        let known = self.database.store.tasks_of_requests(&keys).await;
        let known = known.inspect_err(|error| self.database.noticed(error))?;
        Ok(keys.iter().map(|key| known.get(key).copied()).collect())
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}
