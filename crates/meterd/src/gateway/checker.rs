//! Takes what a plan says: all of its limits, or none.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::{Cmd, FromRedisValue as _, Value};
use redis_meter_client::Command as _;
use redis_meter_client::{MThrottle, Release, Verdict};

use super::lease::LeaseId;
use super::limit::Limit;
use super::memory::Memory;
use super::plan::{Invalid, Plan, Planned, Take};
use super::request::Request;
use super::rules::{Headers, OnError, Rules, Settings};
use super::script::{self, Done};
use super::tally::{Outcome, Tallies};
use crate::config::Error;
use crate::connection::{Failure, Redis};

/// The rules, and the way to Redis.
pub struct Checker {
    redis: Redis,
    rules: RwLock<Arc<Rules>>,
    tallies: Tallies,
    memory: Memory,
}

/// The result of a check.
#[derive(Debug)]
pub struct Decision {
    /// Whether the request is refused.
    pub limited: bool,
    /// The result of each descriptor, in order.
    pub statuses: Vec<Status>,
    /// The lease that it took, if it has places.
    pub lease: Option<LeaseId>,
    /// Why the call to Redis failed; then `limited` is what `on_error` says.
    pub failure: Option<Failure>,
    /// The headers of the domain.
    pub headers: Headers,
}

/// The result of a descriptor.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The name of the limit that it met, if any.
    pub name: Option<Arc<str>>,
    /// Whether it met a rule that never refuses.
    pub is_unlimited: bool,
    /// Whether it refuses.
    pub limited: bool,
    /// The limit, the tightest if there are several.
    pub limit: Option<Arc<Limit>>,
    /// Its verdict; `None` if it was not asked, since another one had refused already.
    pub verdict: Option<Verdict>,
}

impl Status {
    /// The name of the limit, for messages.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl Checker {
    /// A checker without rules.
    pub fn new(redis: Redis) -> Self {
        Self { redis, rules: RwLock::default(), tallies: Tallies::default(), memory: Memory::default() }
    }

    /// Reads rules and takes them over; the old ones stay if they are wrong.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(&self, path: Option<&Path>) -> Result<(), Error> {
        let rules = path.map(|path| Rules::read(path, &self.tallies)).transpose()?.unwrap_or_default();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        // What the old rules refused the new ones may admit.
        self.memory.clear();
        Ok(())
    }

    /// The rules as they are now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// What a request takes.
    ///
    /// # Errors
    /// When it can't be checked.
    pub fn plan(&self, request: &Request) -> Result<Plan, Invalid> {
        Plan::new(&self.rules(), &self.tallies, request)
    }

    /// Takes it, within the domain's deadline and that of the caller.
    pub async fn run(&self, plan: &Plan, patience: Option<Duration>) -> Decision {
        let settings = plan.settings.as_deref();
        let deadline = settings.and_then(|settings| settings.deadline).unwrap_or(self.redis.deadline());
        let deadline = patience.map_or(deadline, |patience| patience.min(deadline));
        let known = self.known(plan, settings);
        let is_asked = known.is_none();
        let outcome = match known {
            Some(verdicts) => Ok(verdicts),
            None if plan.is_dry => self.look(plan, deadline).await,
            None => self.take(plan, deadline).await,
        };
        let decision = decide(plan, outcome);
        if !plan.is_dry {
            count(plan, &decision);
            if is_asked && settings.is_some_and(|settings| settings.remember_refusals) {
                self.remember(plan, &decision);
            }
        }
        decision
    }

    /// Whether `holder` has all places of a plan. A holder that has none would take new ones, which is no renewal; and one
    /// that a client has made up could stand for many requests.
    pub async fn holds(&self, plan: &Plan, holder: &str) -> bool {
        let places = plan.takes.iter().filter(|take| take.limit.is_lease());
        let scores: Vec<Cmd> = places.map(|take| Cmd::zscore(take.key.as_slice(), holder)).collect();
        let replies = self.redis.call_all(&scores).await.unwrap_or_default();
        !replies.is_empty() && replies.iter().all(|reply| reply.as_ref().is_ok_and(|score| *score != Value::Nil))
    }

    /// Releases the places of a lease; returns whether it had any.
    ///
    /// # Errors
    /// What Redis reports.
    pub async fn release(&self, lease: &LeaseId, keys: &[Vec<u8>]) -> Result<bool, Failure> {
        let commands: Vec<Cmd> = keys.iter().map(|key| Release::new(key, &lease.holder).to_cmd()).collect();
        let mut any = false;
        for reply in self.redis.call_all(&commands).await? {
            any |= bool::from_redis_value(reply?).map_err(|error| Failure::Unknown(error.to_string()))?;
        }
        Ok(any)
    }

    /// The verdicts where Redis need not be asked: nothing to take, or something that is known to refuse.
    fn known(&self, plan: &Plan, settings: Option<&Settings>) -> Option<Verdicts> {
        let remembers = !plan.is_dry && settings.is_some_and(|settings| settings.remember_refusals);
        let verdicts: Vec<Option<Verdict>> = plan
            .takes
            .iter()
            .map(|take| match () {
                () if take.is_never() => Some(never(take)),
                () if remembers && take.is_enforced && take.quantity > 0 => {
                    self.memory.refuses(&take.key, take.quantity)
                }
                () => None,
            })
            .collect();
        let refuses = |(take, verdict): (&Take, &Option<Verdict>)| take.is_enforced && is_limited(verdict.as_ref());
        let is_refused = plan.takes.iter().zip(&verdicts).any(refuses);
        (is_refused || verdicts.iter().all(Option::is_some)).then_some(verdicts)
    }

    async fn look(&self, plan: &Plan, deadline: Duration) -> Result<Verdicts, Failure> {
        let looks = plan.takes.iter().map(|take| async {
            if take.is_never() {
                return Ok(Some(never(take)));
            }
            let command = take.limit.command(&take.key, take.quantity, &plan.holder, true);
            self.redis.call_within(deadline, &command).await.map(Some)
        });
        futures_util::future::try_join_all(looks).await
    }

    async fn take(&self, plan: &Plan, deadline: Duration) -> Result<Verdicts, Failure> {
        let asked: Vec<&Take> = plan.takes.iter().filter(|take| !take.is_never()).collect();
        let verdicts: Vec<Verdict> = match asked.as_slice() {
            [] => Vec::new(),
            [take] => {
                let command = take.limit.command(&take.key, take.quantity, &plan.holder, false);
                vec![self.redis.call_within(deadline, &command).await?]
            }
            takes => match throttles(takes) {
                Some(command) => self.redis.call_within(deadline, &command.to_cmd()).await?,
                None => self.take_mixed(plan, takes, deadline).await?,
            },
        };
        let mut verdicts = verdicts.into_iter();
        Ok(plan.takes.iter().map(|take| if take.is_never() { Some(never(take)) } else { verdicts.next() }).collect())
    }

    async fn take_mixed(&self, plan: &Plan, takes: &[&Take], deadline: Duration) -> Result<Vec<Verdict>, Failure> {
        let [known, unknown] = script::calls(takes, &plan.holder);
        let mut outcome: script::Outcome = match self.redis.call_within(deadline, &known).await {
            Err(Failure::Refused { code, .. }) if code == "NOSCRIPT" => {
                self.redis.call_within(deadline, &unknown).await?
            }
            outcome => outcome?,
        };
        if outcome.done == Done::InPart {
            let taken =
                takes.iter().zip(&outcome.verdicts).filter(|(take, verdict)| !verdict.limited && take.quantity > 0);
            let refunds: Vec<Cmd> =
                taken.map(|(take, _)| take.limit.refund(&take.key, take.quantity, &plan.holder)).collect();
            self.redis.call_all(&refunds).await?;
        }
        if outcome.done == Done::Refused {
            // A limit that would have passed said what would be left of it then.
            for (take, verdict) in takes.iter().zip(&mut outcome.verdicts).filter(|(_, verdict)| !verdict.limited) {
                let kept = if take.limit.is_lease() { 1 } else { u64::try_from(take.quantity).unwrap_or(0) };
                verdict.remaining = verdict.remaining.saturating_add(kept).min(verdict.limit);
            }
        }
        Ok(outcome.verdicts)
    }

    fn remember(&self, plan: &Plan, decision: &Decision) {
        for (planned, status) in plan.descriptors.iter().zip(&decision.statuses) {
            let (true, Some(limit), Some(verdict)) = (status.limited, &status.limit, status.verdict) else { continue };
            let own = planned.takes.iter().map(|&place| &plan.takes[place]);
            // A place may come free at any time.
            let refused = own.filter(|take| Arc::ptr_eq(limit, &take.limit) && !take.limit.is_lease());
            for take in refused {
                self.memory.note(&take.key, take.quantity, verdict);
            }
        }
    }
}

/// Counts the result of each descriptor for its rule.
fn count(plan: &Plan, decision: &Decision) {
    for (planned, status) in plan.descriptors.iter().zip(&decision.statuses) {
        let Some(tally) = &planned.tally else { continue };
        match () {
            () if decision.failure.is_some() => tally.add(Outcome::Error),
            () if status.limited => tally.add(Outcome::Refused),
            () if decision.limited => {}
            () if is_limited(status.verdict.as_ref()) => tally.add(Outcome::Shadow),
            () => tally.add(Outcome::Allowed),
        }
    }
}

/// A verdict for each take; `None` if it was not asked.
type Verdicts = Vec<Option<Verdict>>;

impl Take {
    pub(super) fn is_never(&self) -> bool {
        self.limit.algorithm == super::Algorithm::Never
    }
}

/// The verdict of a limit of 0.
fn never(take: &Take) -> Verdict {
    let limited = take.quantity > 0;
    Verdict { limited, limit: 0, remaining: 0, retry_after: None, reset_after: Duration::ZERO, taken: None }
}

fn is_limited(verdict: Option<&Verdict>) -> bool {
    verdict.is_some_and(|verdict| verdict.limited)
}

/// One command for all, where they are of its kind.
fn throttles(takes: &[&Take]) -> Option<MThrottle> {
    let add = |all, take: &&Take| take.limit.throttle(all, &take.key, take.quantity).filter(|_| take.is_enforced);
    takes.iter().try_fold(MThrottle::new(), add)
}

fn decide(plan: &Plan, outcome: Result<Verdicts, Failure>) -> Decision {
    let headers = plan.settings.as_ref().map_or(Headers::None, |settings| settings.headers);
    let (verdicts, failure) = match outcome {
        Ok(verdicts) => (verdicts, None),
        Err(failure) => (vec![None; plan.takes.len()], Some(failure)),
    };
    let statuses: Vec<Status> = plan.descriptors.iter().map(|planned| status(plan, planned, &verdicts)).collect();
    let denies = |take: &Take| take.is_enforced && take.on_error == OnError::Deny;
    let limited = match failure {
        Some(_) => plan.takes.iter().any(denies),
        None => statuses.iter().any(|status| status.limited),
    };
    let places: Vec<&[u8]> = plan
        .takes
        .iter()
        .filter(|take| take.limit.is_lease() && take.quantity > 0)
        .map(|take| take.key.as_slice())
        .collect();
    let has_lease = !limited && failure.is_none() && !plan.is_dry && !places.is_empty();
    let lease = has_lease.then(|| LeaseId::new(&plan.holder, &places));
    Decision { limited, statuses, lease, failure, headers }
}

fn status(plan: &Plan, planned: &Planned, verdicts: &Verdicts) -> Status {
    // Refusing before passing, and little left before much.
    let tightness = |&&place: &&usize| {
        let verdict = verdicts[place];
        (!is_limited(verdict.as_ref()), verdict.map_or(u64::MAX, |verdict| verdict.remaining))
    };
    let tightest = planned.takes.iter().min_by_key(tightness);
    let verdict = tightest.and_then(|&place| verdicts[place]);
    let refuses = |&place: &usize| is_limited(verdicts[place].as_ref());
    Status {
        name: planned.name.clone(),
        is_unlimited: planned.is_unlimited,
        limited: !planned.is_shadow && planned.takes.iter().any(refuses),
        limit: tightest.map(|&place| plan.takes[place].limit.clone()),
        verdict,
    }
}
