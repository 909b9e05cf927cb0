//! How far looks at what limits hold have come: one takes in so many values, and the next goes on from there,
//! round and round.

use std::collections::HashMap;

use tasker_domain::usage::Limited;

/// Where looks go on that have not come to the last value, by namespace and callable.
#[derive(Default)]
pub struct Rounds(HashMap<(String, String), Round>);

/// A way through the values of limits, in their order.
struct Round {
    /// The note that it is for: each asks for a whole round.
    note: u64,
    /// The value behind which the next look begins; none for the first.
    at: Option<Limited>,
    /// Where the round began.
    from: Option<Limited>,
    /// Whether it has come to the last value, and begun anew.
    turned: bool,
}

impl Rounds {
    /// Behind which value a look begins that is for a note.
    pub fn go_on(&mut self, namespace: &str, callable: &str, note: u64) -> Option<Limited> {
        let fresh = || Round { note, at: None, from: None, turned: false };
        let round = self.0.entry((namespace.to_owned(), callable.to_owned())).or_insert_with(fresh);
        if round.note != note {
            round.begin(note);
        }
        round.at.clone()
    }

    /// Notes how far a look has come: to a value, or to the last. Says whether all have been looked at since the
    /// note. What is left for want of a worker asks for a whole round once more.
    pub fn has_come_round(
        &mut self,
        namespace: &str,
        callable: &str,
        last: Option<Limited>,
        some_are_left: bool,
    ) -> bool {
        let key = (namespace.to_owned(), callable.to_owned());
        let Some(round) = self.0.get_mut(&key) else { return true };
        let all = match &last {
            None => round.turned || round.from.is_none(),
            Some(last) => round.turned && Some(last) >= round.from.as_ref(),
        };
        round.turned |= last.is_none();
        round.at = last;
        if all || some_are_left {
            round.begin(round.note);
        }
        if round.at.is_none() && round.from.is_none() {
            // As if none had begun.
            self.0.remove(&key);
        }
        all
    }
}

impl Round {
    fn begin(&mut self, note: u64) {
        (self.note, self.from, self.turned) = (note, self.at.clone(), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many values, of which a look takes in three.
    struct Walk {
        values: usize,
        rounds: Rounds,
    }

    impl Walk {
        fn of(values: usize) -> Self {
            Self { values, rounds: Rounds::default() }
        }

        /// Looks once. Returns what it has seen, and whether that was all.
        fn look(&mut self, note: u64, some_are_left: bool) -> (Vec<usize>, bool) {
            let after = self.rounds.go_on("n", "c", note);
            let first = after.map_or(0, |after| after.value.parse::<usize>().unwrap() + 1);
            let seen: Vec<usize> = (first..self.values).take(3).collect();
            let last = (seen.len() == 3)
                .then(|| Limited { name: "l".to_owned(), value: format!("{:03}", seen[2]) });
            let all = self.rounds.has_come_round("n", "c", last, some_are_left);
            (seen, all)
        }

        /// How many looks it takes until all are seen, and what they have seen.
        fn round(&mut self, note: u64) -> (usize, Vec<usize>) {
            let mut all_seen = Vec::new();
            for looks in 1..100 {
                let (seen, all) = self.look(note, false);
                all_seen.extend(seen);
                if all {
                    all_seen.sort_unstable();
                    all_seen.dedup();
                    return (looks, all_seen);
                }
            }
            panic!("the round has no end");
        }
    }

    #[test]
    fn few_values_are_seen_by_one_look_each_time() {
        let mut walk = Walk::of(2);
        for note in 1..4 {
            assert_eq!(walk.look(note, false), (vec![0, 1], true));
        }
        assert_eq!(walk.look(4, true), (vec![0, 1], true));
        assert_eq!(walk.look(4, false), (vec![0, 1], true));
        assert!(walk.rounds.0.is_empty());
    }

    #[test]
    fn each_note_has_every_value_seen_wherever_the_looks_are() {
        for values in 0..20 {
            let mut walk = Walk::of(values);
            for note in 1..20 {
                // Cut short by the next note, and a whole one.
                let cut_short = usize::try_from(note).unwrap() % 5;
                for _ in 0..cut_short {
                    walk.look(2 * note, false);
                }
                let (looks, seen) = walk.round(2 * note + 1);
                assert_eq!(seen, (0..values).collect::<Vec<_>>());
                assert!(looks <= values / 3 + 3, "{values} values took {looks} looks");
            }
        }
    }

    #[test]
    fn a_stream_of_notes_keeps_no_value_from_being_seen() {
        let mut walk = Walk::of(10);
        let mut seen: Vec<usize> = (1..5).flat_map(|note| walk.look(note, false).0).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_left_is_seen_again_without_a_note() {
        let mut walk = Walk::of(7);
        assert_eq!(walk.look(1, true), (vec![0, 1, 2], false));
        // From behind the last of them, round to them again.
        let (_, seen) = walk.round(1);
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }
}
