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
    /// Each counts the interruptions that it was told of.
    watched: Arc<Mutex<HashMap<Uuid, watch::Sender<u64>>>>,
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
        let moved = watched.entry(task).or_insert_with(|| watch::channel(0).0).subscribe();
        let interruptions = *moved.borrow();
        Watch { task, moved, interruptions, watches: self.clone() }
    }

    /// Tells those who listen to these tasks. Returns the tasks that nobody here listens to.
    pub fn moved(&self, tasks: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |task: &Uuid| watched.get(task).map(|watch| watch.send_modify(|_| {}));
        tasks.into_iter().filter(|task| tell(task).is_none()).collect()
    }

    /// Tells all that their tasks may have moved.
    pub fn any_moved(&self) {
        for watch in self.watched.lock().unwrap_or_else(PoisonError::into_inner).values() {
            watch.send_modify(|_| {});
        }
    }

    /// Tells all that the connection was lost, and announcements with it.
    pub fn interrupted(&self) {
        for watch in self.watched.lock().unwrap_or_else(PoisonError::into_inner).values() {
            watch.send_modify(|interruptions| *interruptions += 1);
        }
    }
}

impl Watch {
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
        if watched.get(&self.task).is_some_and(|watch| watch.receiver_count() <= 1) {
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
        let elsewhere = Uuid::now_v7();
        assert_eq!(watches.moved([task, elsewhere]), [elsewhere]);
        assert_eq!(one.heard().await, Heard::Moved);
        watches.any_moved();
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
}
