//! The promises of leases, compared with a list of holders: never more holders than the limit; a place that becomes
//! free at the millisecond of its lease's end and no earlier; one place for each holder, however often it asks; and a
//! key that expires with the last of them.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const EPOCH: i64 = 1_700_000_000_000;

/// Leases as the store keeps them: holder and end, ordered by end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StoredLeases(Vec<(i64, u32)>);

impl Leases for StoredLeases {
    fn count(&self) -> i64 {
        number(self.0.len())
    }

    fn count_up_to(&self, time: Millis) -> i64 {
        number(self.0.iter().filter(|&&(end, _)| end <= time.0).count())
    }

    fn nth_first(&self, nth: i64) -> Option<Millis> {
        self.0.get(usize::try_from(nth - 1).expect("from 1")).map(|&(end, _)| Millis(end))
    }

    fn nth_last(&self, nth: i64) -> Option<Millis> {
        self.0.iter().rev().nth(usize::try_from(nth - 1).expect("from 1")).map(|&(end, _)| Millis(end))
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a few holders")
}

/// A key's leases, when it expires, and the clock.
#[derive(Clone, Debug)]
struct Limiter {
    limit: i64,
    leases: StoredLeases,
    expire_at: Option<i64>,
    now: i64,
}

impl Limiter {
    fn new(limit: i64) -> Self {
        Self { limit, leases: StoredLeases::default(), expire_at: None, now: EPOCH }
    }

    fn own(&self, holder: u32) -> Option<Millis> {
        self.leases.0.iter().find(|lease| lease.1 == holder).map(|&(end, _)| Millis(end))
    }

    /// The server removes a key that has expired.
    fn expire(&mut self) {
        if self.expire_at.is_some_and(|at| at <= self.now) {
            (self.leases, self.expire_at) = (StoredLeases::default(), None);
        }
    }

    fn ask(&mut self, holder: u32, ttl: i64) -> Answer {
        self.expire();
        let policy = Policy { limit: self.limit, ttl: Millis(ttl) };
        let decision = policy.decide(&self.leases, self.own(holder), Millis(self.now)).expect("instants that fit");
        if let Next::Store(Grant { over, end, expire_at }) = decision.next {
            self.leases.0.drain(..usize::try_from(over).expect("0 at least"));
            self.leases.0.retain(|lease| lease.1 != holder);
            self.leases.0.push((end.0, holder));
            self.leases.0.sort_unstable();
            self.expire_at = Some(expire_at.0);
        }
        decision.answer
    }

    fn release(&mut self, holder: u32) -> bool {
        self.expire();
        match release(&self.leases, self.own(holder), Millis(self.now)) {
            Release::Absent => return false,
            Release::Clear => (self.leases, self.expire_at) = (StoredLeases::default(), None),
            Release::Remove { expire_at } => {
                self.leases.0.retain(|lease| lease.1 != holder);
                self.expire_at = Some(expire_at.0);
            }
        }
        true
    }
}

fn answered(limit: i64, limited: bool, remaining: i64, retry_after: Option<i64>, reset_after: i64) -> Answer {
    let nanos = |millis| Millis(millis).nanos();
    Answer { limited, limit, remaining, retry_after: retry_after.map(nanos), reset_after: nanos(reset_after) }
}

#[test]
fn a_holder_that_crashes_frees_its_place_at_the_end_of_its_lease_and_no_earlier() {
    let mut limiter = Limiter::new(2);
    assert_eq!(limiter.ask(1, 1_000), answered(2, false, 1, None, 1_000));
    limiter.now += 100;
    assert_eq!(limiter.ask(2, 5_000), answered(2, false, 0, None, 5_000));
    assert_eq!(limiter.ask(3, 1_000), answered(2, true, 0, Some(900), 5_000));
    limiter.now += 899;
    assert_eq!(limiter.ask(3, 1_000), answered(2, true, 0, Some(1), 4_101));
    limiter.now += 1;
    assert_eq!(limiter.ask(3, 1_000), answered(2, false, 0, None, 4_100));
    assert_eq!(limiter.own(1), None, "what is over is removed");
}

#[test]
fn a_renewal_keeps_the_place_and_may_end_earlier() {
    let mut limiter = Limiter::new(2);
    limiter.ask(1, 9_000);
    limiter.ask(2, 1_000);
    assert_eq!(limiter.ask(1, 500), answered(2, false, 0, None, 1_000));
    assert_eq!(limiter.expire_at, Some(EPOCH + 1_000), "the key's expiry goes with the last lease");
    assert_eq!(limiter.leases.0.len(), 2);
    assert_eq!(limiter.ask(1, 2_000), answered(2, false, 0, None, 2_000));
}

#[test]
fn of_two_leases_that_end_together_one_may_be_released() {
    let mut limiter = Limiter::new(3);
    limiter.ask(1, 1_000);
    limiter.ask(2, 1_000);
    assert_eq!(limiter.ask(1, 10), answered(3, false, 1, None, 1_000));
    assert!(limiter.release(1));
    assert_eq!(limiter.expire_at, Some(EPOCH + 1_000));
    assert!(limiter.release(2));
    assert_eq!(limiter.expire_at, None);
}

#[test]
fn a_late_release_frees_no_other_holders_place() {
    let mut limiter = Limiter::new(1);
    limiter.ask(1, 1_000);
    limiter.now += 1_000;
    assert!(!limiter.release(1), "it was over at the millisecond of its end");
    assert!(!limiter.ask(2, 1_000).limited);
    assert!(!limiter.release(1));
    assert!(limiter.ask(3, 1_000).limited);
    assert!(limiter.release(2));
    assert!(!limiter.release(2));
    assert_eq!(limiter.leases, StoredLeases::default());
}

/// Where others come first, the holder is told to ask again at once; where none is free, when one will be.
#[test]
fn a_refusal_tells_when_a_place_is_free_and_for_how_long_others_work() {
    let mut limiter = Limiter::new(2);
    let refused = |limiter: &Limiter| {
        let policy = Policy { limit: limiter.limit, ttl: Millis(1_000) };
        policy.refuse(&limiter.leases, Millis(limiter.now))
    };
    assert_eq!(refused(&limiter), Answer { retry_after: Some(Nanos(1)), ..answered(2, true, 0, None, 0) });
    limiter.ask(1, 1_000);
    assert_eq!(refused(&limiter), Answer { retry_after: Some(Nanos(1)), ..answered(2, true, 0, None, 1_000) });
    limiter.ask(2, 3_000);
    assert_eq!(refused(&limiter), answered(2, true, 0, Some(1_000), 3_000));
}

#[test]
fn with_a_lowered_limit_no_holder_is_evicted_and_several_leases_must_end() {
    let mut limiter = Limiter::new(4);
    for holder in 1..=4 {
        limiter.ask(holder, 1_000 * i64::from(holder));
    }
    limiter.limit = 2;
    assert_eq!(limiter.ask(9, 1_000), answered(2, true, 0, Some(3_000), 4_000));
    assert_eq!(limiter.ask(1, 1_500), answered(2, false, 0, None, 4_000), "a renewal is no new place");
    limiter.now += 2_999;
    assert_eq!(limiter.ask(9, 1_000).retry_after, Some(Millis(1).nanos()));
    limiter.now += 1;
    assert_eq!(limiter.ask(9, 500), answered(2, false, 0, None, 1_000));
}

#[test]
fn ten_thousand_holders_have_a_place_each() {
    let leases = StoredLeases((0..10_000u32).map(|holder| (EPOCH + 1_000 + i64::from(holder), holder)).collect());
    let policy = Policy { limit: 10_000, ttl: Millis(60_000) };
    let refused = policy.decide(&leases, None, Millis(EPOCH)).expect("instants that fit").answer;
    assert_eq!(refused, answered(10_000, true, 0, Some(1_000), 10_999));
    let at = Millis(EPOCH + 1_000 + 4_999);
    let granted = policy.decide(&leases, None, at).expect("instants that fit");
    let end = Millis(at.0 + 60_000);
    assert_eq!(granted.next, Next::Store(Grant { over: 5_000, end, expire_at: end }));
    assert_eq!(granted.answer.remaining, 4_999);
}

#[test]
fn leases_that_end_after_the_year_2262_are_too_long() {
    let last = i64::MAX / 1_000_000;
    let decide =
        |now| Policy { limit: 1, ttl: MAX_TTL }.decide(&StoredLeases::default(), None, Millis(now)).map(|_| ());
    assert_eq!(decide(last - MAX_TTL.0), Ok(()));
    assert_eq!(decide(last - MAX_TTL.0 + 1), Err(TooLong));
    assert_eq!(decide(i64::MAX), Err(TooLong));
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u32, i64),
    Release(u32),
    Limit(i64),
    /// The clock may go back, too.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let holder = || 0..6u32;
    let step = prop_oneof![
        6 => (holder(), 1..=30i64).prop_map(|(holder, ttl)| Step::Ask(holder, ttl)),
        2 => holder().prop_map(Step::Release),
        1 => (1..=5i64).prop_map(Step::Limit),
        4 => prop_oneof![8 => 0..=20i64, 1 => -20..0i64].prop_map(Step::Wait),
    ];
    vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The model: the holders that were given a place, and until when.
    #[test]
    fn never_more_holders_than_the_limit_and_no_other_refusals(steps in steps()) {
        let mut limiter = Limiter::new(2);
        let mut at_work: Vec<(u32, i64)> = Vec::new();
        for step in steps {
            let now = limiter.now;
            limiter.expire();
            if limiter.leases == StoredLeases::default() {
                // The server has removed the key, even if the clock goes back.
                at_work.clear();
            }
            let live = |at_work: &[(u32, i64)]| number(at_work.iter().filter(|lease| lease.1 > now).count());
            let has_place = |holder| at_work.iter().any(|&(other, end)| other == holder && end > now);
            match step {
                Step::Wait(span) => limiter.now += span,
                Step::Limit(limit) => limiter.limit = limit,
                Step::Release(holder) => {
                    let had = has_place(holder);
                    prop_assert_eq!(limiter.release(holder), had);
                    if had {
                        at_work.retain(|lease| lease.0 != holder);
                        prop_assert_eq!(limiter.own(holder), None);
                    }
                }
                Step::Ask(holder, ttl) => {
                    let had = has_place(holder);
                    let before = (limiter.leases.clone(), limiter.expire_at);
                    let passes = had || live(&at_work) < limiter.limit;
                    let answer = limiter.ask(holder, ttl);
                    prop_assert_eq!(answer.limited, !passes);
                    if passes {
                        // Leases that are over are removed: a clock that goes back does not restore them.
                        at_work.retain(|&(other, end)| other != holder && end > now);
                        at_work.push((holder, now + ttl));
                        prop_assert_eq!(limiter.own(holder), Some(Millis(now + ttl)));
                    } else {
                        prop_assert_eq!(&(limiter.leases.clone(), limiter.expire_at), &before, "refused: untouched");
                        let mut ends: Vec<i64> = at_work.iter().map(|lease| lease.1).filter(|&end| end > now).collect();
                        ends.sort_unstable();
                        let too_many = ends.len() - usize::try_from(limiter.limit).expect("small");
                        prop_assert_eq!(answer.retry_after, Some(Millis(ends[too_many] - now).nanos()));
                    }
                    let last = at_work.iter().map(|lease| lease.1).max().expect("one at least");
                    prop_assert_eq!(answer.reset_after, Millis(last - now).nanos());
                    prop_assert_eq!(answer.remaining, (limiter.limit - live(&at_work)).max(0));
                    prop_assert_eq!(answer.retry_after.is_some(), answer.limited);
                }
            }
            let last = limiter.leases.0.last().map(|&(end, _)| end);
            prop_assert_eq!(limiter.expire_at, last, "neither before the last lease nor after it");
        }
    }

    #[test]
    fn no_stored_end_panics(ends in vec(0..=1i64 << 53, 0..5), now: i64, limit in 1..=3i64, own in 0..5usize) {
        let mut ends = ends;
        ends.sort_unstable();
        let own = ends.get(own).map(|&end| Millis(end));
        let leases = StoredLeases((0..).zip(ends).map(|(holder, end)| (end, holder)).collect());
        let _ = Policy { limit, ttl: Millis(1) }.decide(&leases, own, Millis(now));
        let _ = release(&leases, own, Millis(now));
    }
}
