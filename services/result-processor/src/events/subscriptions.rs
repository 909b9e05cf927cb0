//! Who listens to fast events, at this replica: each with a bounded box of what waits for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prost::Message as _;
use tasker_api::v1::{self, EventsMissed, subscribe_events_response::Message};
use tasker_domain::EventPattern;
use tokio::sync::{Notify, watch};

/// Subscribers at once.
const MAX_SUBSCRIBERS: usize = 1_000;
/// Events that wait for one subscriber, and their bytes; a larger one waits alone.
const MAX_WAITING: (usize, usize) = (1_000, 8 << 20);

/// Everyone who listens. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    boxes: Arc<Mutex<HashMap<u64, Arc<Mailbox>>>>,
    next: Arc<AtomicU64>,
    /// Whether announcements are heard.
    hears: watch::Sender<bool>,
}

/// What somebody wants to hear of.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Empty: all.
    pub namespace: String,
    /// None: all.
    pub pattern: Option<EventPattern>,
}

/// One subscriber's end; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    mailbox: Arc<Mailbox>,
    subscriptions: Subscriptions,
}

/// There are as many subscribers as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

#[derive(Debug)]
struct Mailbox {
    wanted: Wanted,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    said: VecDeque<Said>,
    bytes: usize,
    /// After all that waits; 0 if nobody knows how many.
    missed: Option<u64>,
}

#[derive(Debug)]
enum Said {
    Event(Arc<v1::DomainEvent>),
    Missed(u64),
}

impl Wanted {
    fn includes(&self, namespace: &str, name: &str) -> bool {
        (self.namespace.is_empty() || self.namespace == namespace)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

impl Subscriptions {
    /// Listens from now on, once announcements are heard.
    pub async fn subscribe(&self, wanted: Wanted) -> Result<Subscription, TooMany> {
        let mut hears = self.hears.subscribe();
        hears.wait_for(|hears| *hears).await.expect("the sender is one of our own fields");
        let mailbox =
            Arc::new(Mailbox { wanted, waiting: Mutex::default(), wake: Notify::default() });
        let mut boxes = self.boxes();
        if boxes.len() >= MAX_SUBSCRIBERS {
            return Err(TooMany);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        boxes.insert(id, mailbox.clone());
        Ok(Subscription { id, mailbox, subscriptions: self.clone() })
    }

    /// Notes whether announcements are heard. When they are not, everybody misses some.
    pub fn hears(&self, now: bool) {
        self.hears.send_replace(now);
        if !now {
            self.boxes().values().for_each(|mailbox| mailbox.miss(0));
        }
    }

    /// Whether somebody wants events of that name.
    pub fn are_for(&self, namespace: &str, name: &str) -> bool {
        self.boxes().values().any(|mailbox| mailbox.wanted.includes(namespace, name))
    }

    /// Tells an event to everyone who wants it.
    pub fn tell(&self, namespace: &str, event: &Arc<v1::DomainEvent>) {
        let bytes = event.encoded_len();
        for mailbox in self.boxes().values() {
            if mailbox.wanted.includes(namespace, &event.name) {
                mailbox.put(event.clone(), bytes);
            }
        }
    }

    /// Tells those who want events of that name that they miss one.
    pub fn miss_one(&self, namespace: &str, name: &str) {
        let boxes = self.boxes();
        let of = boxes.values().filter(|mailbox| mailbox.wanted.includes(namespace, name));
        of.for_each(|mailbox| mailbox.miss(1));
    }

    /// Tells everyone that so many are missed which nobody knows the names of.
    pub fn miss(&self, count: u64) {
        self.boxes().values().for_each(|mailbox| mailbox.miss(count));
    }

    fn boxes(&self) -> MutexGuard<'_, HashMap<u64, Arc<Mailbox>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Waits for what is said next.
    pub async fn next(&mut self) -> Message {
        loop {
            if let Some(said) = self.mailbox.take() {
                return match said {
                    Said::Event(event) => Message::Event(Arc::unwrap_or_clone(event)),
                    Said::Missed(count) => {
                        let count = i64::try_from(count).unwrap_or(i64::MAX);
                        Message::Missed(EventsMissed { count })
                    }
                };
            }
            // A wake that came before is kept.
            self.mailbox.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscriptions.boxes().remove(&self.id);
    }
}

impl Mailbox {
    fn put(&self, event: Arc<v1::DomainEvent>, bytes: usize) {
        let mut waiting = self.waiting();
        let full = waiting.said.len() >= MAX_WAITING.0 || waiting.bytes + bytes > MAX_WAITING.1;
        if full && !waiting.said.is_empty() {
            waiting.miss(1);
        } else {
            if let Some(missed) = waiting.missed.take() {
                waiting.said.push_back(Said::Missed(missed));
            }
            waiting.said.push_back(Said::Event(event));
            waiting.bytes += bytes;
        }
        self.wake.notify_one();
    }

    fn miss(&self, count: u64) {
        self.waiting().miss(count);
        self.wake.notify_one();
    }

    fn take(&self) -> Option<Said> {
        let mut waiting = self.waiting();
        match waiting.said.pop_front() {
            Some(Said::Event(event)) => {
                waiting.bytes -= event.encoded_len();
                Some(Said::Event(event))
            }
            Some(missed) => Some(missed),
            None => waiting.missed.take().map(Said::Missed),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn miss(&mut self, count: u64) {
        self.missed = Some(self.missed.unwrap_or(0).saturating_add(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Arc<v1::DomainEvent> {
        Arc::new(v1::DomainEvent { name: name.to_owned(), ..v1::DomainEvent::default() })
    }

    fn wanted(namespace: &str, pattern: &str) -> Wanted {
        Wanted { namespace: namespace.to_owned(), pattern: pattern.parse().ok() }
    }

    async fn said(subscription: &mut Subscription) -> String {
        match subscription.next().await {
            Message::Event(event) => event.name,
            Message::Missed(EventsMissed { count }) => format!("{count} missed"),
        }
    }

    #[tokio::test]
    async fn everyone_hears_what_he_wants_and_no_more() {
        let subscriptions = Subscriptions::default();
        subscriptions.hears(true);
        let mut orders = subscriptions.subscribe(wanted("", "orders.*")).await.unwrap();
        let mut shop = subscriptions.subscribe(wanted("shop", "")).await.unwrap();
        subscriptions.tell("other", &event("orders.paid"));
        subscriptions.tell("shop", &event("stock.low"));
        assert!(subscriptions.are_for("shop", "x") && !subscriptions.are_for("other", "x"));
        subscriptions.miss(2);
        assert_eq!(said(&mut orders).await, "orders.paid");
        assert_eq!(said(&mut orders).await, "2 missed");
        assert_eq!(said(&mut shop).await, "stock.low");
        drop((orders, shop));
        assert!(subscriptions.boxes().is_empty());
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_where_and_how_many_it_missed() {
        let subscriptions = Subscriptions::default();
        subscriptions.hears(true);
        let mut slow = subscriptions.subscribe(wanted("", "")).await.unwrap();
        for _ in 0..MAX_WAITING.0 + 5 {
            subscriptions.tell("n", &event("early"));
        }
        for _ in 0..MAX_WAITING.0 {
            assert_eq!(said(&mut slow).await, "early");
        }
        subscriptions.tell("n", &event("late"));
        assert_eq!(said(&mut slow).await, "5 missed");
        assert_eq!(said(&mut slow).await, "late");
        subscriptions.hears(false);
        assert_eq!(said(&mut slow).await, "0 missed");
    }

    #[tokio::test]
    async fn a_subscription_waits_until_announcements_are_heard() {
        let subscriptions = Subscriptions::default();
        let subscribed = subscriptions.subscribe(wanted("", ""));
        let hears = async {
            tokio::task::yield_now().await;
            assert!(subscriptions.boxes().is_empty());
            subscriptions.hears(true);
        };
        assert!(tokio::join!(subscribed, hears).0.is_ok());
    }
}
