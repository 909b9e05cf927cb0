use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tasker_domain::{Ordinal, TaskId};
use tasker_store::Held;
use tokio::sync::mpsc;

use super::{places::ABOUT_AS_OLD, *};
use crate::at_hand::TaskAtHand;

type Inbox = mpsc::Receiver<Result<WorkResponse, tonic::Status>>;

fn member(session: SessionId, handlers: &[&str], credit: usize) -> (Member, Inbox) {
    let (out, inbox) = mpsc::channel(16);
    let member = Member {
        session,
        namespaces: vec!["n".to_owned()],
        handlers: handlers.iter().map(|handler| (*handler).to_owned()).collect(),
        credit,
        reserved: 0,
        passed_on: 0,
        holding: HashMap::new(),
        named: HashMap::new(),
        acknowledges: true,
        out,
    };
    (member, inbox)
}

/// Looks into all queues that may be claimed from, and finds them empty.
fn look(roster: &Roster) {
    for found in roster.claimable() {
        roster.looked(&found.namespace, &found.callables, &BTreeMap::new());
    }
}

/// A roster with one worker whose queues have been looked into and found empty.
fn roster(credit: usize) -> (Roster, Seat, Inbox) {
    let (roster, session) = (Roster::default(), SessionId::new());
    let (member, inbox) = member(session, &["a", "b"], credit);
    roster.join(session, member);
    look(&roster);
    (roster, Seat { place: session, session }, inbox)
}

fn any() -> Rank {
    Rank::of(0, TaskId::new())
}

/// A step of a task of which everything is known.
fn holding_of(task: &Arc<TaskAtHand>, task_id: TaskId) -> Holding {
    let mut holding = holding();
    holding.held.task_id = task_id.0;
    holding.task = Some(task.clone());
    holding
}

/// `a` first, then `a` and `b` beside each other, then `c`.
fn task_at_hand() -> Arc<TaskAtHand> {
    let template = tasker_domain::Template::parse(
        "{namespace: n, name: t, version: 1.0.0, steps: [
            {name: first, handler: {callable: a}},
            {name: left, handler: {callable: a}, dependencies: [first]},
            {name: right, handler: {callable: b}, dependencies: [first]},
            {name: last, handler: {callable: c}, dependencies: [left, right]}]}",
    );
    TaskAtHand::new(Arc::new(template.unwrap()), 0)
}

fn holding() -> Holding {
    let held = Held { task_id: Uuid::now_v7(), ordinal: 0, delivery_id: Uuid::now_v7() };
    let now = Instant::now();
    Holding {
        held,
        task: None,
        attempt: 1,
        acknowledged: false,
        since: now,
        times_out: now + Duration::from_secs(60),
        passed_on: false,
    }
}

/// No place.
const NONE: [bool; 0] = [];

/// A worker that runs one step of a task. Two steps of it may begin after that: `a` and `b`.
fn at_work(credit: usize) -> (Roster, Seat, Holding, Inbox) {
    let (roster, seat, inbox) = roster(credit);
    let step = holding_of(&task_at_hand(), TaskId::new());
    roster.reserve("n", "a");
    roster.hold(vec![(seat, step.clone())]);
    (roster, seat, step, inbox)
}

/// Which places are kept for what the result of a step unlocks, while others wait for a handler: `true` is the one
/// that the result frees. Afterwards all is as it was.
fn kept_beside(
    roster: &Roster,
    seat: Seat,
    step: &Holding,
    handler: &str,
    first: Rank,
) -> Vec<bool> {
    roster.wait_for("n", [(handler.to_owned(), first)]);
    let kept = roster.reserve_next(seat.session, &step.held, &mut HashSet::new());
    roster.keep(seat.session, step.held.delivery_id);
    kept.iter().for_each(|kept| roster.unreserve(kept.seat));
    // Looked at by who claims, as soon as there is room.
    roster.lock().waiting.clear();
    kept.iter().map(|kept| kept.freed_by == Some(step.held.delivery_id)).collect()
}

#[test]
fn a_worker_never_has_more_than_its_credit() {
    let (roster, seat, _inbox) = roster(2);
    assert_eq!(roster.reserve_fresh("n", "a", any()), Some(seat));
    assert_eq!(roster.reserve_fresh("n", "b", any()), Some(seat));
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    let one = holding();
    assert_eq!(roster.hold(vec![(seat, one.clone())]), []);
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    roster.release(seat.place, [one.held.delivery_id]);
    assert_eq!(roster.reserve_fresh("n", "a", any()), Some(seat));
}

#[test]
fn a_fresh_step_does_not_pass_those_that_wait() {
    let (roster, seat, _inbox) = roster(1);
    roster.wait_for("n", [("a".to_owned(), Rank::FIRST)]);
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    let claimable = roster.claimable();
    assert_eq!(claimable.len(), 1);
    assert_eq!((claimable[0].callables[0].0.as_str(), claimable[0].credit), ("a", 1));
    // Nor while somebody looks, nor if they wait since the look began.
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    roster.wait_for("n", [("a".to_owned(), Rank::FIRST)]);
    roster.looked("n", &claimable[0].callables, &BTreeMap::new());
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    look(&roster);
    assert_eq!(roster.reserve_fresh("n", "a", any()), Some(seat));
}

#[test]
fn a_fresh_step_does_not_pass_those_that_wait_for_another_handler_of_the_same_worker() {
    let (roster, seat, _inbox) = roster(1);
    let urgent = Rank::of(100, TaskId::new());
    roster.wait_for("n", [("a".to_owned(), urgent)]);
    assert_eq!(roster.reserve_fresh("n", "b", any()), None);
    assert_eq!(roster.reserve_fresh("n", "b", Rank::of(101, TaskId::new())), Some(seat));
    roster.unreserve(seat);
    // One that can only run the other has no place for those that wait.
    let only_b = SessionId::new();
    let (member, _other) = member(only_b, &["b"], 1);
    roster.join(only_b, member);
    roster.looked("n", &roster.claimable()[0].callables, &[("a".to_owned(), urgent)].into());
    assert_eq!(roster.reserve_fresh("n", "b", any()).map(|seat| seat.place), Some(only_b));
}

#[test]
fn a_fresh_step_does_not_pass_those_that_wait_in_another_namespace_of_the_same_worker() {
    let (roster, session) = (Roster::default(), SessionId::new());
    let (mut member, _inbox) = member(session, &["a", "b"], 1);
    member.namespaces.push("other".to_owned());
    roster.join(session, member);
    look(&roster);
    roster.wait_for("other", [("a".to_owned(), Rank::of(1, TaskId::new()))]);
    assert_eq!(roster.reserve_fresh("n", "b", any()), None);
    look(&roster);
    assert!(roster.reserve_fresh("n", "b", any()).is_some());
}

#[test]
fn the_place_that_a_result_frees_is_not_kept_from_one_that_waits_for_another_handler() {
    let (roster, seat, step, _inbox) = at_work(1);
    let kept = |handler, priority| {
        kept_beside(&roster, seat, &step, handler, Rank::of(priority, TaskId::new()))
    };
    // Of the two that the result unlocks, one gets the place, unless either handler is awaited before.
    assert_eq!(kept("a", -1), [true]);
    assert_eq!(kept("a", 1), NONE);
    assert_eq!(kept("b", 1), NONE);
}

#[test]
fn a_task_goes_on_in_its_place_unless_a_step_waits_that_is_more_urgent_or_of_a_clearly_older_task()
{
    let (roster, seat, step, _inbox) = at_work(1);
    let of = |priority| Rank::of(priority, TaskId(step.held.task_id));
    for handler in ["a", "b"] {
        let kept = |first| kept_beside(&roster, seat, &step, handler, first);
        assert_eq!(kept(of(0).earlier(ABOUT_AS_OLD)), [true]);
        assert_eq!(kept(of(0).earlier(ABOUT_AS_OLD + Duration::from_millis(1))), NONE);
        assert_eq!(kept(of(1)), NONE);
        assert_eq!(kept(Rank::FIRST), NONE);
    }
}

#[test]
fn a_task_gets_no_second_place_before_one_that_is_hardly_older() {
    let (roster, seat, step, _inbox) = at_work(8);
    let own = Rank::of(0, TaskId(step.held.task_id));
    let kept = |first| kept_beside(&roster, seat, &step, "a", first);
    assert_eq!(kept(own.earlier(Duration::from_millis(1))), [true]);
    assert_eq!(kept(Rank::LAST), [true, false]);
}

#[test]
fn a_task_does_not_go_on_in_its_place_before_one_that_has_waited_long() {
    let (roster, seat, step, _inbox) = at_work(1);
    let roster = Roster { ageing: Ageing(Duration::from_nanos(1)), ..roster };
    let own = Rank::of(0, TaskId(step.held.task_id));
    let refused = (0..10_000).any(|_| kept_beside(&roster, seat, &step, "a", own).is_empty());
    assert!(refused, "an aged step was passed");
}

#[test]
fn a_fresh_step_does_not_pass_one_of_a_task_that_is_hardly_older() {
    let (roster, _seat, _inbox) = roster(1);
    let fresh = any();
    roster.wait_for("n", [("a".to_owned(), fresh.earlier(Duration::from_millis(1)))]);
    assert_eq!(roster.reserve_fresh("n", "a", fresh), None);
}

#[test]
fn an_aged_step_of_another_handler_is_not_passed() {
    let roster = Roster::new(Ageing(Duration::from_nanos(1)));
    let session = SessionId::new();
    let (member, _inbox) = member(session, &["a", "b"], 1);
    roster.join(session, member);
    look(&roster);
    roster.wait_for("n", [("a".to_owned(), Rank::of(-100, TaskId::new()))]);
    let urgent = Rank::of(100, TaskId::new());
    let refused = (0..10_000).any(|_| {
        let seat = roster.reserve_fresh("n", "b", urgent);
        seat.inspect(|seat| roster.unreserve(*seat)).is_none()
    });
    assert!(refused, "an aged step was passed");
}

#[test]
fn nothing_is_claimed_for_workers_without_room_and_nothing_forgotten() {
    let (roster, seat, _inbox) = roster(1);
    roster.reserve("n", "a");
    roster.wait_for("n", [("a".to_owned(), Rank::FIRST)]);
    assert_eq!(roster.claimable(), []);
    roster.unreserve(seat);
    assert_eq!(roster.claimable().len(), 1);
}

#[test]
fn the_worker_with_the_most_room_gets_the_step() {
    let (roster, _small, _inbox) = roster(1);
    let large = SessionId::new();
    let (member, _other) = member(large, &["a"], 5);
    roster.join(large, member);
    look(&roster);
    assert_eq!(roster.reserve_fresh("n", "a", any()).map(|seat| seat.place), Some(large));
}

#[test]
fn what_a_worker_held_when_it_left_is_known_and_what_comes_late_comes_back() {
    let (roster, seat, _inbox) = roster(2);
    let (one, late) = (holding(), holding());
    roster.reserve("n", "a");
    roster.reserve("n", "a");
    roster.hold(vec![(seat, one.clone())]);
    let left = roster.leave(seat.place);
    assert_eq!(left.iter().map(|holding| holding.held).collect::<Vec<_>>(), [one.held]);
    assert_eq!(roster.hold(vec![(seat, late.clone())]), [(seat.session, late.held)]);
    assert_eq!(roster.reserve("n", "a"), None);
}

#[test]
fn an_unacknowledged_delivery_is_overdue_after_two_seconds_and_a_slow_one_at_its_timeout() {
    let (roster, seat, _inbox) = roster(2);
    let (one, two) = (holding(), holding());
    roster.reserve("n", "a");
    roster.reserve("n", "a");
    roster.hold(vec![(seat, one.clone()), (seat, two.clone())]);
    roster.acknowledge(seat.place, [two.held.delivery_id]);
    let later = |seconds| one.since + Duration::from_secs(seconds);
    assert_eq!(roster.overdue(later(1)).unacknowledged.len(), 0);
    let overdue = roster.overdue(later(3)).unacknowledged;
    assert_eq!(overdue.iter().map(|(_, holding)| holding.held).collect::<Vec<_>>(), [one.held]);
    assert_eq!(roster.overdue(later(61)).timed_out.len(), 2);
}

#[test]
fn the_place_that_a_result_frees_is_kept_for_a_step_that_it_unlocks() {
    let (roster, seat, _inbox) = roster(1);
    let (task, id) = (task_at_hand(), TaskId::new());
    let first = holding_of(&task, id);
    roster.reserve("n", "a");
    roster.hold(vec![(seat, first.clone())]);
    let kept = roster.reserve_next(seat.session, &first.held, &mut HashSet::new());
    // One place for two steps: the second has none, until there is room.
    assert_eq!(
        kept.iter().map(|kept| (kept.ordinal, kept.seat)).collect::<Vec<_>>(),
        [(Ordinal(1), seat)]
    );
    // The result is answered, and the unlocked step begins: the worker has one delivery, as it may.
    roster.release(seat.place, [first.held.delivery_id]);
    assert_eq!(roster.reserve_fresh("n", "a", any()), None);
    roster.hold(vec![(seat, holding_of(&task, id))]);
    assert_eq!(roster.holding(seat.session).len(), 1);
}

#[test]
fn a_step_that_two_results_unlock_gets_one_place() {
    let (roster, seat, _inbox) = roster(8);
    let session = SessionId::new();
    let (member, _other) = member(session, &["c"], 1);
    roster.join(session, member);
    look(&roster);
    let (task, id) = (task_at_hand(), TaskId::new());
    let mut wanted = HashSet::new();
    let kept: Vec<_> = [1, 2]
        .map(|ordinal| {
            let mut step = holding_of(&task, id);
            step.held.ordinal = ordinal;
            roster.reserve("n", "a");
            roster.hold(vec![(seat, step.clone())]);
            roster.reserve_next(seat.session, &step.held, &mut wanted)
        })
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].ordinal, kept[0].seat.place), (Ordinal(3), session));
}

#[test]
fn an_unlocked_step_does_not_pass_what_goes_before_it() {
    let (roster, seat, step, _inbox) = at_work(8);
    let kept = |first| kept_beside(&roster, seat, &step, "b", first);
    assert_eq!(kept(any().earlier(2 * ABOUT_AS_OLD)), NONE);
    assert_eq!(kept(any()), [true, false]);
    assert_eq!(kept(Rank::of(7, TaskId::new())), NONE);
    assert_eq!(kept(Rank::FIRST), NONE);
}

#[test]
fn the_places_of_several_results_are_passed_on_at_once_but_not_of_a_worker_that_drains() {
    let (roster, seat, _inbox) = roster(2);
    let task = task_at_hand();
    let steps = [holding_of(&task, TaskId::new()), holding_of(&task, TaskId::new())];
    for step in &steps {
        roster.reserve("n", "a");
        roster.hold(vec![(seat, step.clone())]);
    }
    let kept =
        |step: &Holding| roster.reserve_next(seat.session, &step.held, &mut HashSet::new()).len();
    assert_eq!((kept(&steps[0]), kept(&steps[1])), (1, 1));
    // A result that cannot be taken leaves the delivery, and the place, where they were.
    roster.keep(seat.session, steps[0].held.delivery_id);
    roster.unreserve(seat);
    assert_eq!(kept(&steps[0]), 1);
    roster.keep(seat.session, steps[0].held.delivery_id);
    roster.unreserve(seat);
    roster.set_credit(seat.session, 0);
    assert_eq!(kept(&steps[0]), 0);
}

#[test]
fn a_fresh_step_passes_one_that_waits_only_until_that_has_waited_long_enough() {
    let (old, fresh) = (Rank::of(-100, TaskId::new()), Rank::of(100, TaskId::new()));
    let session = SessionId::new();
    let refused = |ageing| {
        let roster = Roster::new(ageing);
        let (member, _inbox) = member(session, &["a"], 1);
        roster.join(session, member);
        look(&roster);
        roster.wait_for("n", [("a".to_owned(), old)]);
        (0..10_000).any(|_| match roster.reserve_fresh("n", "a", fresh) {
            Some(seat) => {
                roster.unreserve(seat);
                false
            }
            None => true,
        })
    };
    assert!(!refused(Ageing::default()), "nothing ages, and a smaller rank waited");
    assert!(refused(Ageing(Duration::from_nanos(1))), "an aged step was passed");
}
