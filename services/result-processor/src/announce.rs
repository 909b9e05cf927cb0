//! Where the outcome of a batch goes, after its commit.

use tasker_stage::{Announcer, Database, Hints};
use tasker_store::{
    Announcement, CompletedTask, Finalization, Judged, ReadyStep, Started, StoreError,
};

use crate::events::announcer::EventAnnouncer;

/// The next stages, and whoever watches.
#[derive(Debug, Clone)]
pub struct Outlets {
    pub database: Database,
    /// Who is named in the history.
    pub actor: String,
    pub step_enqueuer: Hints<ReadyStep>,
    pub finalizer: Hints<Finalization>,
    /// Tells who waits for tasks that have completed.
    pub waiters: Hints<CompletedTask>,
    pub announcer: Announcer,
    pub events: EventAnnouncer,
}

impl Outlets {
    /// Tells the next stages of their messages, and watchers of their tasks. Returns the verdicts, and
    /// the steps that have begun.
    pub fn tell<V>(
        &self,
        judged: Result<Judged<V>, StoreError>,
    ) -> Result<(Vec<V>, Vec<Started>), StoreError> {
        let judged = judged.inspect_err(|error| self.database.noticed(error))?;
        self.step_enqueuer.tell(judged.ready);
        self.finalizer.tell(judged.finalizations);
        self.waiters.tell(judged.awaited);
        self.announcer.rest(judged.rested);
        self.announcer.announce(Announcement {
            tasks: judged.watched.into_iter().collect(),
            retries: judged.retries,
            ..Announcement::default()
        });
        Ok((judged.verdicts, judged.started))
    }
}
