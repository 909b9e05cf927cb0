//! Who watches which task, at this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

/// Tells watchers that their task moved. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Watches {
    watched: Arc<Mutex<HashMap<Uuid, Watched>>>,
}

/// A task that somebody here watches.
#[derive(Debug)]
struct Watched {
    /// Counts the interruptions that were told of.
    moved: watch::Sender<u64>,
    /// Whether a call here has asked for its rest to be told.
    is_awaited: bool,
}

/// What a watcher hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The task may have moved.
    Moved,
    /// Something may have got lost: the database may have forgotten what did not wait for the disk.
    Interrupted,
}

/// One watcher's ear; dropping it forgets the task if nobody else watches it.
#[derive(Debug)]
pub struct Watch {
    task: Uuid,
    moved: watch::Receiver<u64>,
    interruptions: u64,
    watches: Watches,
}

impl Watches {
    /// Listens to a task from now on.
    pub fn listen(&self, task: Uuid) -> Watch {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let unwatched = || Watched { moved: watch::channel(0).0, is_awaited: false };
        let moved = watched.entry(task).or_insert_with(unwatched).moved.subscribe();
        let interruptions = *moved.borrow();
        Watch { task, moved, interruptions, watches: self.clone() }
    }

    /// Tells those who listen to these tasks.
    pub fn moved(&self, tasks: impl IntoIterator<Item = Uuid>) {
        self.tell(tasks);
    }

    /// Tells those who listen to these tasks. Returns the tasks of which no call here has asked to be told: who
    /// has only begun to listen is not the one that the task knows of.
    pub fn tell(&self, tasks: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = |task: &Uuid| {
            let Some(Watched { moved, is_awaited }) = watched.get(task) else { return false };
            moved.send_modify(|_| {});
            *is_awaited
        };
        tasks.into_iter().filter(|task| !is_told(task)).collect()
    }

    /// Tells all that the connection was lost, and announcements with it.
    pub fn interrupted(&self) {
        for watched in self.watched.lock().unwrap_or_else(PoisonError::into_inner).values() {
            watched.moved.send_modify(|interruptions| *interruptions += 1);
        }
    }
}

impl Watch {
    /// Notes that the task's rest will be told, since this call has asked for it.
    pub fn has_asked(&self) {
        let mut watched = self.watches.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = watched.get_mut(&self.task) {
            watched.is_awaited = true;
        }
    }

    /// Waits until something was heard since the last time.
    pub async fn heard(&mut self) -> Heard {
        self.moved.changed().await.expect("the sender lives as long as its listeners");
        let interruptions = *self.moved.borrow_and_update();
        let before = std::mem::replace(&mut self.interruptions, interruptions);
        if interruptions == before { Heard::Moved } else { Heard::Interrupted }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watches.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // This ear is still among them.
        if watched.get(&self.task).is_some_and(|watched| watched.moved.receiver_count() <= 1) {
            watched.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_move_between_two_looks_is_not_missed_and_the_last_watcher_cleans_up() {
        let (watches, task) = (Watches::default(), Uuid::now_v7());
        let (mut one, two) = (watches.listen(task), watches.listen(task));
        watches.moved([task, Uuid::now_v7()]);
        assert_eq!(one.heard().await, Heard::Moved);
        watches.interrupted();
        watches.moved([task]);
        assert_eq!(one.heard().await, Heard::Interrupted);
        watches.moved([task]);
        assert_eq!(one.heard().await, Heard::Moved);
        drop(one);
        assert_eq!(watches.watched.lock().unwrap().len(), 1);
        drop(two);
        assert_eq!(watches.watched.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_rest_is_told_elsewhere_unless_a_call_here_has_asked_for_it() {
        let (watches, task, other) = (Watches::default(), Uuid::now_v7(), Uuid::now_v7());
        let mut listening = watches.listen(task);
        // The call that the task knows of may be at another replica.
        assert_eq!(watches.tell([task, other]), [task, other]);
        assert_eq!(listening.heard().await, Heard::Moved);
        listening.has_asked();
        assert_eq!(watches.tell([task, other]), [other]);
        assert_eq!(listening.heard().await, Heard::Moved);
    }
}
