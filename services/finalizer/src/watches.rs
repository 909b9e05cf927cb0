//! Who watches or waits for which task, at this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tasker_store::CompletedTask;
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
    news: watch::Sender<News>,
    /// Whether a call here has asked for its rest to be told.
    is_awaited: bool,
}

/// What has been told of a task.
#[derive(Debug, Clone, Copy, Default)]
struct News {
    /// How often something may have got lost.
    interruptions: u64,
    /// How it has ended, if that was told since.
    completed: Option<CompletedTask>,
}

/// What a watcher hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The task may have moved.
    Moved,
    /// This is how it has ended.
    Completed(CompletedTask),
    /// Something may have got lost: the database may have forgotten what did not wait for the disk.
    Interrupted,
}

/// One watcher's ear; dropping it forgets the task if nobody else watches it.
#[derive(Debug)]
pub struct Watch {
    task: Uuid,
    news: watch::Receiver<News>,
    interruptions: u64,
    watches: Watches,
}

impl Watches {
    /// Listens to a task from now on.
    pub fn listen(&self, task: Uuid) -> Watch {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let unwatched = || Watched { news: watch::Sender::default(), is_awaited: false };
        let news = watched.entry(task).or_insert_with(unwatched).news.subscribe();
        let interruptions = news.borrow().interruptions;
        Watch { task, news, interruptions, watches: self.clone() }
    }

    /// Tells those who listen to these tasks.
    pub fn moved(&self, tasks: impl IntoIterator<Item = Uuid>) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks {
            if let Some(Watched { news, .. }) = watched.get(&task) {
                news.send_modify(|_| {});
            }
        }
    }

    /// Tells those who listen to these tasks how they have ended. Returns the tasks of which no call here has asked
    /// to be told: who has only begun to listen is not the one that the task knows of.
    pub fn completed(&self, tasks: impl IntoIterator<Item = CompletedTask>) -> Vec<Uuid> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = |task: CompletedTask| {
            let Some(Watched { news, is_awaited }) = watched.get(&task.task_id) else {
                return false;
            };
            news.send_modify(|news| news.completed = Some(task));
            *is_awaited
        };
        let elsewhere = tasks.into_iter().filter(|task| !is_told(*task));
        elsewhere.map(|task| task.task_id).collect()
    }

    /// Tells all that the connection was lost, and announcements with it.
    pub fn interrupted(&self) {
        for watched in self.watched.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let lost = |news: &mut News| {
                *news = News { interruptions: news.interruptions + 1, completed: None };
            };
            watched.news.send_modify(lost);
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
        self.news.changed().await.expect("the sender lives as long as its listeners");
        let News { interruptions, completed } = *self.news.borrow_and_update();
        let before = std::mem::replace(&mut self.interruptions, interruptions);
        match completed {
            _ if interruptions != before => Heard::Interrupted,
            Some(task) => Heard::Completed(task),
            None => Heard::Moved,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watches.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // This ear is still among them.
        if watched.get(&self.task).is_some_and(|watched| watched.news.receiver_count() <= 1) {
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
    async fn an_end_is_told_elsewhere_unless_a_call_here_has_asked_for_it() {
        let end = |task_id| {
            let ended_at = Default::default();
            CompletedTask { task_id, ended_at, steps: 4, paused: false }
        };
        let (watches, task, other) = (Watches::default(), Uuid::now_v7(), Uuid::now_v7());
        let mut listening = watches.listen(task);
        // The call that the task knows of may be at another replica.
        assert_eq!(watches.completed([end(task), end(other)]), [task, other]);
        assert_eq!(listening.heard().await, Heard::Completed(end(task)));
        listening.has_asked();
        assert_eq!(watches.completed([end(task), end(other)]), [other]);
        assert_eq!(listening.heard().await, Heard::Completed(end(task)));
        // Of what may have got lost nothing is known any more.
        watches.interrupted();
        assert_eq!(listening.heard().await, Heard::Interrupted);
        watches.moved([task]);
        assert_eq!(listening.heard().await, Heard::Moved);
    }
}
