use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

type Inbox = mpsc::Receiver<Result<WorkResponse, tonic::Status>>;

fn member(session: SessionId, handlers: &[&str], credit: usize) -> (Member, Inbox) {
    let (out, inbox) = mpsc::channel(16);
    let member = Member {
        session,
        namespaces: vec!["n".to_owned()],
        handlers: handlers.iter().map(|handler| (*handler).to_owned()).collect(),
        credit,
        reserved: 0,
        holding: HashMap::new(),
        acknowledges: true,
        out,
    };
    (member, inbox)
}

/// A roster with one worker whose queues have been looked into and found empty.
fn roster(credit: usize) -> (Roster, Seat, Inbox) {
    let (roster, session) = (Roster::default(), SessionId::new());
    let (member, inbox) = member(session, &["a", "b"], credit);
    roster.join(session, member);
    roster.claimable();
    (roster, Seat { place: session, session }, inbox)
}

fn holding() -> Holding {
    let held = Held { task_id: Uuid::now_v7(), ordinal: 0, delivery_id: Uuid::now_v7() };
    let now = Instant::now();
    Holding {
        held,
        attempt: 1,
        acknowledged: false,
        since: now,
        times_out: now + Duration::from_secs(60),
    }
}

#[test]
fn a_worker_never_has_more_than_its_credit() {
    let (roster, seat, _inbox) = roster(2);
    assert_eq!(roster.reserve_fresh("n", "a"), Some(seat));
    assert_eq!(roster.reserve_fresh("n", "b"), Some(seat));
    assert_eq!(roster.reserve_fresh("n", "a"), None);
    let one = holding();
    assert_eq!(roster.hold(vec![(seat, one.clone())]), []);
    assert_eq!(roster.reserve_fresh("n", "a"), None);
    roster.release(seat.place, [one.held.delivery_id]);
    assert_eq!(roster.reserve_fresh("n", "a"), Some(seat));
}

#[test]
fn a_fresh_step_does_not_pass_those_that_wait() {
    let (roster, seat, _inbox) = roster(1);
    roster.wait_for("n", ["a".to_owned()]);
    assert_eq!(roster.reserve_fresh("n", "a"), None);
    assert_eq!(roster.reserve_fresh("n", "b"), Some(seat));
    roster.unreserve(seat);
    let claimable = roster.claimable();
    assert_eq!(claimable.len(), 1);
    assert_eq!(
        (claimable[0].callables.as_slice(), claimable[0].credit),
        (&["a".to_owned()][..], 1)
    );
    assert_eq!(roster.reserve("n", "a"), Some(seat));
}

#[test]
fn nothing_is_claimed_for_workers_without_room_and_nothing_forgotten() {
    let (roster, seat, _inbox) = roster(1);
    roster.reserve("n", "a");
    roster.wait_for("n", ["a".to_owned()]);
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
    roster.claimable();
    assert_eq!(roster.reserve_fresh("n", "a").map(|seat| seat.place), Some(large));
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
