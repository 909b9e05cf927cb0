//! Steps that limits held begin, as far as the limits let them.

use std::time::Duration;

use tasker_domain::{
    template::Limit,
    usage::{Blocked, limited},
};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    held_steps::{Asked, HeldStep, usage},
    steps::{Held, start::Started},
};

/// A held step, and whom it goes to if its limits let it.
#[derive(Debug, Clone)]
pub struct ToAdmit {
    /// As it was found.
    pub step: HeldStep,
    /// What it is held to.
    pub limits: Vec<Limit>,
    /// Its new lease.
    pub delivery_id: Uuid,
    /// Whose.
    pub session_id: Uuid,
    /// How long the attempt may take, in ms.
    pub timeout_ms: i64,
}

/// What came of a batch of held steps.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Those that are at a worker now. A place that is not among them came too late, or to a limit.
    pub started: Vec<Started>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
    /// How long until the first rate may let another begin.
    pub wait: Option<Duration>,
}

/// What is to be known of the use of these limits.
pub fn asked<'a>(steps: impl IntoIterator<Item = (&'a HeldStep, &'a [Limit])>) -> Asked {
    let mut asked = Asked::new();
    for (step, limits) in steps {
        for (limited, limit) in limited(limits, &step.limit_values) {
            asked
                .entry(limited)
                .or_default()
                .extend(limit.rate.map(tasker_domain::template::limit::Rate::per));
        }
    }
    asked
}

impl Store {
    /// Begins held steps of one namespace in their order, as far as their limits let them: under the locks
    /// of the limits, so that no other replica begins more. `refused` are steps that another limit holds
    /// than was thought. Does not wait for the disk.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn admit_steps(
        &self,
        namespace: &str,
        items: &[ToAdmit],
        refused: &[(HeldStep, Blocked)],
        actor: &str,
    ) -> Result<Admitted, StoreError> {
        let asked = asked(items.iter().map(|item| (&item.step, item.limits.as_slice())));
        let names: Vec<String> = asked.keys().map(|limited| limited.name.clone()).collect();
        let values: Vec<String> = asked.keys().map(|limited| limited.value.clone()).collect();
        let mut tx = self.relaxed.begin().await?;
        sqlx::query_file!("sql/limit_grants/lock.sql", namespace, &names, &values)
            .fetch_all(&mut *tx)
            .await?;
        // In a statement of its own: it sees what was begun while the one before waited.
        let mut usage = usage(&mut tx, namespace, &asked).await?;
        let mut admitted = Admitted::default();
        let mut begin: Vec<&ToAdmit> = Vec::new();
        let mut refused: Vec<(&HeldStep, Blocked)> =
            refused.iter().map(|(step, blocked)| (step, blocked.clone())).collect();
        for item in items {
            match usage.take(&item.limits, &item.step.limit_values) {
                Ok(()) => begin.push(item),
                Err(blocked) => {
                    let waits = admitted.wait.into_iter().chain(blocked.wait);
                    admitted.wait = waits.min();
                    refused.push((&item.step, blocked));
                }
            }
        }
        let mut taken = Taken::default();
        for item in &begin {
            for (limited, limit) in limited(&item.limits, &item.step.limit_values) {
                let per =
                    limit.rate.map_or(Duration::ZERO, tasker_domain::template::limit::Rate::per);
                taken.task_ids.push(item.step.task_id);
                taken.ordinals.push(item.step.ordinal);
                taken.names.push(limited.name);
                taken.values.push(limited.value);
                taken.per_ms.push(i64::try_from(per.as_millis()).unwrap_or(i64::MAX));
            }
        }
        let rows = sqlx::query_file!(
            "sql/steps/admit.sql",
            &begin.iter().map(|item| item.step.task_id).collect::<Vec<_>>(),
            &begin.iter().map(|item| item.step.ordinal).collect::<Vec<_>>(),
            &begin.iter().map(|item| item.delivery_id).collect::<Vec<_>>(),
            &begin.iter().map(|item| item.session_id).collect::<Vec<_>>(),
            &begin.iter().map(|item| item.timeout_ms).collect::<Vec<_>>(),
            &refused.iter().map(|(step, _)| step.task_id).collect::<Vec<_>>(),
            &refused.iter().map(|(step, _)| step.ordinal).collect::<Vec<_>>(),
            &refused.iter().map(|(_, blocked)| blocked.by.name.clone()).collect::<Vec<_>>(),
            &refused.iter().map(|(_, blocked)| blocked.by.value.clone()).collect::<Vec<_>>(),
            namespace,
            &taken.task_ids,
            &taken.ordinals,
            &taken.names,
            &taken.values,
            &taken.per_ms,
            actor
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        for row in rows {
            let held =
                Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id };
            admitted.watched.extend(row.watched.then_some(row.task_id));
            admitted.started.push(Started {
                held,
                name: row.name,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                has_checkpoint: row.has_checkpoint,
            });
        }
        Ok(admitted)
    }
}

/// A row for each limit of each step that begins.
#[derive(Default)]
struct Taken {
    task_ids: Vec<Uuid>,
    ordinals: Vec<i32>,
    names: Vec<String>,
    values: Vec<String>,
    per_ms: Vec<i64>,
}
