//! What operators do to a task meanwhile.

use futures::{StreamExt as _, stream};
use tasker_client::{
    Client, Operator,
    v1::{Remedy, TaskState, TemplateRef},
};
use tasker_integration_tests::{Ledger, until};

use super::{
    CALLERS, NAMESPACE, PATIENCE,
    plan::{Hand, Plan},
};

/// Does to each task what is planned, when it has come so far. Returns when all of it is done.
pub(super) async fn operate(client: &Client, ledger: &Ledger, plans: &[Plan], tasks: &[String]) {
    let operated = plans.iter().zip(tasks).filter(|(plan, _)| plan.hand != Hand::Off);
    let operate = |(plan, task_id): (&Plan, &String)| {
        let hands = Hands { client: client.clone(), ledger, by: by(), task_id: task_id.clone() };
        let plan = plan.clone();
        async move { hands.do_as(&plan).await }
    };
    stream::iter(operated).for_each_concurrent(CALLERS, operate).await;
}

fn by() -> Operator {
    Operator::new("random", "to see what comes of it")
}

struct Hands<'l> {
    client: Client,
    ledger: &'l Ledger,
    by: Operator,
    task_id: String,
}

impl Hands<'_> {
    async fn do_as(&self, plan: &Plan) {
        if plan.hand == Hand::Resolves {
            return self.resolve_until_it_completes().await;
        }
        until("the task has come so far", PATIENCE, async || {
            let far = self.ledger.starts(&self.task_id).await >= plan.after;
            (far || self.ledger.rests(&self.task_id).await).then_some(())
        })
        .await;
        match plan.hand {
            Hand::Off | Hand::Resolves => {}
            Hand::Cancels => self.cancel().await,
            Hand::PausesTask => {
                if self.has_not_ended(self.client.pause_task(&self.task_id, &self.by).await) {
                    self.nothing_begins().await;
                    let resumed = self.client.resume_task(&self.task_id, &self.by).await;
                    self.has_not_ended(resumed);
                }
            }
            Hand::PausesTemplate => {
                let template = || TemplateRef {
                    namespace: NAMESPACE.to_owned(),
                    name: plan.name.clone(),
                    version: String::new(),
                };
                self.client.pause_template(template(), &self.by).await.unwrap();
                self.nothing_begins().await;
                self.client.resume_template(template(), &self.by).await.unwrap();
            }
        }
    }

    /// Waits until the pause holds all that could begin, and sees that nothing has.
    async fn nothing_begins(&self) {
        // What was judged before the pause may begin after it: until each statement has ended that ran then.
        let paused_at = self.ledger.now().await;
        until("what ran before the pause has ended", PATIENCE, async || {
            (self.ledger.running_since_before(paused_at).await == 0).then_some(())
        })
        .await;
        let starts = self.ledger.starts(&self.task_id).await;
        until("the pause holds all that could begin", PATIENCE, async || {
            (self.ledger.not_held(&self.task_id).await == 0).then_some(())
        })
        .await;
        // After the last result it is the finalizer's turn.
        until("the task says that it waits for what is held", PATIENCE, async || {
            (!self.ledger.stands_wrongly(&self.task_id).await).then_some(())
        })
        .await;
        let since = self.ledger.starts(&self.task_id).await - starts;
        assert_eq!(since, 0, "steps of {} have begun while it was paused", self.task_id);
    }

    async fn cancel(&self) {
        self.has_not_ended(self.client.cancel_task(&self.task_id, &self.by).await);
    }

    /// What nobody can settle by hand, decisions and plans, ends the task.
    async fn resolve_until_it_completes(&self) {
        loop {
            let task = self.client.wait_for_task(&self.task_id, PATIENCE).await.unwrap();
            match task.state() {
                TaskState::Complete => return,
                TaskState::BlockedByFailures => {}
                state => panic!("task {} is {state:?}", self.task_id),
            }
            let repaired = self.client.repair_task(&self.task_id, Remedy::Resolve, &self.by).await;
            if let Err(error) = repaired {
                assert_eq!(error.reason(), Some("OUTCOME_NEEDED"), "{error:?}");
                return self.cancel().await;
            }
        }
    }

    /// Whether it was still time. Nothing else may be refused.
    fn has_not_ended<T>(&self, done: Result<T, tasker_client::Error>) -> bool {
        let Err(error) = done else { return true };
        assert_eq!(error.reason(), Some("TASK_ENDED"), "{}: {error:?}", self.task_id);
        false
    }
}
