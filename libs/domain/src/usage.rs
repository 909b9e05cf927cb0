//! What is in use of limits, and which steps they let begin.

use std::{collections::HashMap, time::Duration};

use crate::template::Limit;

/// A limit, and the value of its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limited {
    /// Of the limit.
    pub name: String,
    /// Empty for a limit without key.
    pub value: String,
}

/// How many steps run that a limit counts, and how many have begun in the time of a rate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    running: HashMap<Limited, u64>,
    /// By the time of the rate.
    begun: HashMap<(Limited, Duration), Begun>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Begun {
    steps: u64,
    /// How long until the first of them no longer counts; `None`: all have begun just now.
    counts_for: Option<Duration>,
}

/// Which limit holds a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The first that does.
    pub by: Limited,
    /// How long until its rate may let it begin; `None`: when another step ends.
    pub wait: Option<Duration>,
}

/// What a step is held to: its limits, each with the value of its key.
pub fn limited<'a>(
    limits: &'a [Limit],
    values: &'a [String],
) -> impl Iterator<Item = (Limited, &'a Limit)> {
    limits.iter().enumerate().map(|(nth, limit)| {
        // A step whose values are missing counts where those count that have none.
        let value = values.get(nth).cloned().unwrap_or_default();
        (Limited { name: limit.name.clone(), value }, limit)
    })
}

impl Usage {
    /// Notes how many steps run that a limit counts.
    pub fn note_running(&mut self, limited: Limited, steps: u64) {
        self.running.insert(limited, steps);
    }

    /// Notes how many steps have begun in the time of a rate, and how long the first of them still counts, if
    /// there is one.
    pub fn note_begun(
        &mut self,
        limited: Limited,
        per: Duration,
        steps: u64,
        counts_for: Option<Duration>,
    ) {
        self.begun.insert((limited, per), Begun { steps, counts_for });
    }

    /// How many steps run that a limit counts.
    #[must_use]
    pub fn running(&self, limited: &Limited) -> u64 {
        self.running.get(limited).copied().unwrap_or_default()
    }

    /// How many steps have begun in the time of a rate, and how long the first of them still counts.
    #[must_use]
    pub fn begun(&self, limited: &Limited, per: Duration) -> (u64, Option<Duration>) {
        let begun = self.begun.get(&(limited.clone(), per)).copied().unwrap_or_default();
        (begun.steps, begun.counts_for)
    }

    /// Lets a step begin, and counts it, if all its limits do.
    ///
    /// # Errors
    /// The first that does not.
    pub fn take(&mut self, limits: &[Limit], values: &[String]) -> Result<(), Blocked> {
        for (by, limit) in limited(limits, values) {
            let running = self.running.get(&by).copied().unwrap_or_default();
            if limit.max_concurrent.is_some_and(|max| running >= max.into()) {
                return Err(Blocked { by, wait: None });
            }
            let Some(rate) = limit.rate else { continue };
            let key = (by, rate.per());
            let begun = self.begun.get(&key).copied().unwrap_or_default();
            if begun.steps >= rate.count.into() {
                // If all of it was taken just now, the whole time has to pass.
                return Err(Blocked { by: key.0, wait: Some(begun.counts_for.unwrap_or(key.1)) });
            }
        }
        for (limited, limit) in limited(limits, values) {
            if let Some(rate) = limit.rate {
                self.begun.entry((limited.clone(), rate.per())).or_default().steps += 1;
            }
            *self.running.entry(limited).or_default() += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::limit::Rate;

    fn limit(name: &str, max_concurrent: Option<u32>, rate: Option<(u32, u32)>) -> Limit {
        let rate = rate.map(|(count, per_seconds)| Rate { count, per_seconds });
        Limit { name: name.to_owned(), key: None, max_concurrent, rate }
    }

    fn named(name: &str, value: &str) -> Limited {
        Limited { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn no_more_begin_than_a_limit_has_room_for() {
        let mut usage = Usage::default();
        usage.note_running(named("l", "a"), 1);
        let limits = [limit("l", Some(3), None)];
        let a = ["a".to_owned()];
        assert_eq!(usage.take(&limits, &a), Ok(()));
        assert_eq!(usage.take(&limits, &a), Ok(()));
        let blocked = Err(Blocked { by: named("l", "a"), wait: None });
        assert_eq!(usage.take(&limits, &a), blocked);
        assert_eq!(usage.take(&limits, &["b".to_owned()]), Ok(()), "each value has its own");
    }

    #[test]
    fn a_rate_says_how_long_to_wait() {
        let mut usage = Usage::default();
        let (minute, rest) = (Duration::from_secs(60), Duration::from_secs(7));
        usage.note_begun(named("l", ""), minute, 1, Some(rest));
        let limits = [limit("l", None, Some((2, 60)))];
        assert_eq!(usage.take(&limits, &[]), Ok(()));
        assert_eq!(usage.take(&limits, &[]), Err(Blocked { by: named("l", ""), wait: Some(rest) }));
        let mut fresh = Usage::default();
        assert_eq!(fresh.take(&limits, &[]), Ok(()));
        assert_eq!(fresh.take(&limits, &[]), Ok(()));
        let whole = Err(Blocked { by: named("l", ""), wait: Some(minute) });
        assert_eq!(fresh.take(&limits, &[]), whole);
    }

    #[test]
    fn a_rate_of_which_no_time_is_left_does_not_begin_anew() {
        let mut usage = Usage::default();
        let limits = [limit("l", None, Some((1, 60)))];
        usage.note_begun(named("l", ""), Duration::from_secs(60), 1, Some(Duration::ZERO));
        let at_once = Err(Blocked { by: named("l", ""), wait: Some(Duration::ZERO) });
        assert_eq!(usage.take(&limits, &[]), at_once);
    }

    #[test]
    fn what_one_limit_holds_takes_nothing_of_the_others() {
        let mut usage = Usage::default();
        usage.note_running(named("full", ""), 1);
        let both = [limit("free", Some(1), None), limit("full", Some(1), None)];
        assert_eq!(usage.take(&both, &[]), Err(Blocked { by: named("full", ""), wait: None }));
        assert_eq!(usage.take(&both[..1], &[]), Ok(()));
    }

    #[test]
    fn templates_that_share_a_limit_are_each_held_to_their_own_number() {
        let mut usage = Usage::default();
        usage.note_running(named("l", ""), 2);
        assert!(usage.take(&[limit("l", Some(2), None)], &[]).is_err());
        assert_eq!(usage.take(&[limit("l", Some(3), None)], &[]), Ok(()));
        assert!(usage.take(&[limit("l", Some(3), None)], &[]).is_err());
    }
}
