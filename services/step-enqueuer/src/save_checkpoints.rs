//! Workers save how far they have come.

use tasker_api::{
    Invalid,
    v1::{Checkpoint, Progress, ProgressAck, ProgressVerdict},
};
use tasker_stack::gather::{Gather, Refused, Stage};
use tasker_stage::{
    Database,
    result::{self, sentence},
};
use tasker_store::{StoreError, ToSave, Verdict};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{checkpoint, hello};

/// The most bytes in one transaction.
const MAX_BYTES: usize = 8 << 20;

/// The verb.
pub struct SaveCheckpoints {
    pub database: Database,
}

impl Stage for SaveCheckpoints {
    type Item = ToSave;
    type Answer = Verdict;
    type Error = StoreError;
    type Key = (Uuid, i32);

    const MAX_WEIGHT: usize = MAX_BYTES;

    fn weight(item: &ToSave) -> usize {
        item.checkpoint.len()
    }

    fn key(item: &ToSave) -> (Uuid, i32) {
        (item.held.task_id, item.held.ordinal)
    }

    async fn apply(&self, items: &[ToSave]) -> Result<Vec<Verdict>, StoreError> {
        let saved = self.database.store.save_checkpoints(items).await;
        saved.inspect_err(|error| self.database.noticed(error))
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

/// Where workers' progress goes in.
#[derive(Clone)]
pub struct Progresses {
    pub saving: Gather<SaveCheckpoints>,
    pub max_checkpoint_bytes: usize,
}

/// Progress on its way.
pub struct Saving {
    ack: ProgressAck,
    verdict: Option<oneshot::Receiver<Result<Verdict, Refused<StoreError>>>>,
}

impl Progresses {
    /// Hands progress in as soon as there is a place.
    ///
    /// # Errors
    /// The service ends.
    pub async fn save(&self, progress: Progress) -> Result<Saving, Refused<StoreError>> {
        let Progress { delivery_token, checkpoint, sequence } = progress;
        let checked = self.check(&delivery_token, checkpoint);
        let mut ack = ProgressAck { delivery_token, sequence, ..ProgressAck::default() };
        let verdict = match checked {
            Ok(item) => Some(self.saving.submit_in_turn(item).await?),
            Err(invalid) => {
                ack.set_verdict(ProgressVerdict::Invalid);
                ack.reason = sentence(&invalid);
                None
            }
        };
        Ok(Saving { ack, verdict })
    }

    fn check(&self, token: &str, checkpoint: Option<Checkpoint>) -> Result<ToSave, Invalid> {
        let token = result::token(token)?;
        let Some(given) = checkpoint else {
            return Err(Invalid::field("checkpoint", "there is none"));
        };
        let checkpoint = checkpoint::check("checkpoint", &given, self.max_checkpoint_bytes)?;
        Ok(ToSave { held: hello::held(&token), checkpoint })
    }
}

impl Saving {
    /// Whether anything is being saved: what cannot be is answered without that.
    pub fn is_on_its_way(&self) -> bool {
        self.verdict.is_some()
    }

    /// The answer, after the commit.
    ///
    /// # Errors
    /// Whether it was saved is not known: it is to be sent again.
    pub async fn saved(self) -> Result<ProgressAck, Refused<StoreError>> {
        let Self { mut ack, verdict } = self;
        if let Some(verdict) = verdict {
            match verdict.await.unwrap_or(Err(Refused::Closed))? {
                // A checkpoint has no twin: the same again is saved again.
                Verdict::Committed | Verdict::Duplicate => {
                    ack.set_verdict(ProgressVerdict::Committed);
                }
                Verdict::LeaseLost => {
                    ack.set_verdict(ProgressVerdict::LeaseLost);
                    "the lease is not the step's current one".clone_into(&mut ack.reason);
                }
            }
        }
        Ok(ack)
    }
}
