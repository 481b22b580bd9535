//! What a request takes: which limits its descriptors meet, and in which keys. Pure, and done before anything is asked.

use std::fmt;
use std::sync::Arc;

use super::lease::{HEAD, LeaseId};
use super::limit::Limit;
use super::request::{Descriptor, Request};
use super::rules::{Domain, OnError, Policy, Rule, Rules, Settings, gcra};
use super::tally::{Tallies, Tally};
use super::{Algorithm, unit::Unit};
use crate::name;

/// The most limits that one step can take: those of a CELL.MTHROTTLE.
const MOST_TAKES: usize = 1000;

/// Why a request can't be checked, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that one check takes.
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) settings: Option<Arc<Settings>>,
    pub(super) descriptors: Vec<Planned>,
    pub(super) takes: Vec<Take>,
    pub(crate) holder: String,
    pub(super) is_dry: bool,
}

/// A descriptor, and the limits that it meets.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// The name of the limit that it meets, if any.
    pub(super) name: Option<Arc<str>>,
    pub(super) is_unlimited: bool,
    pub(super) is_shadow: bool,
    pub(super) tally: Option<Arc<Tally>>,
    /// Which of the takes are its own.
    pub(super) takes: Vec<usize>,
}

/// One limit to take from.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) key: Vec<u8>,
    pub(super) limit: Arc<Limit>,
    pub(super) quantity: i64,
    /// Whether it may refuse the request.
    pub(super) is_enforced: bool,
    pub(super) on_error: OnError,
}

impl Plan {
    /// What a request meets. Of a domain without rules nothing is limited.
    ///
    /// # Errors
    /// When the request brings a limit that is none, or its limits can't be taken all or none.
    pub fn new(rules: &Rules, tallies: &Tallies, request: &Request) -> Result<Self, Invalid> {
        let mut plan = Self { is_dry: request.is_dry, ..Self::default() };
        let Some(domain) = rules.domain(&request.domain) else {
            plan.descriptors.resize_with(request.descriptors.len(), Planned::default);
            return Ok(plan);
        };
        plan.settings = Some(domain.settings.clone());
        let met: Vec<Option<&Arc<Rule>>> =
            request.descriptors.iter().map(|descriptor| met(domain, descriptor)).collect();
        let is_replaced = |name: Option<&str>| {
            name.is_some_and(|name| met.iter().flatten().any(|rule| rule.replaces.iter().any(|other| other == name)))
        };
        let mut shards = Vec::new();
        for (descriptor, rule) in request.descriptors.iter().zip(&met) {
            let quantity = descriptor.hits.unwrap_or(request.hits);
            let planned = match (descriptor.limit, rule) {
                (Some((count, unit)), _) => {
                    plan.add_own(domain, descriptor, brought(count, unit)?, (count, unit), quantity)
                }
                (None, Some(rule)) if !is_replaced(rule.name.as_deref()) => {
                    plan.add_rule(domain, tallies, descriptor, rule, quantity)
                }
                _ => Planned::default(),
            };
            if let (false, Some(key)) = (planned.takes.is_empty(), &domain.settings.shard_by) {
                shards.push(shard(descriptor, key).ok_or_else(|| {
                    Invalid(format!("each descriptor of the domain has the key \"{key}\", and one here has not"))
                })?);
            }
            plan.descriptors.push(planned);
        }
        if shards.windows(2).any(|pair| pair[0] != pair[1]) {
            let key = domain.settings.shard_by.as_deref().unwrap_or_default();
            return Err(Invalid(format!(
                "the limits of two values of \"{key}\" can't be taken all or none: ask twice"
            )));
        }
        if plan.takes.len() > MOST_TAKES {
            return Err(Invalid(format!("a request meets at most {MOST_TAKES} limits, and not {}", plan.takes.len())));
        }
        if plan.takes.iter().any(|take| take.limit.is_lease()) {
            plan.holder = LeaseId::holder().ok_or_else(|| Invalid("the system has no random bytes".to_owned()))?;
        }
        Ok(plan)
    }

    /// The keys that it takes from.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.takes.iter().map(|take| take.key.as_slice())
    }

    /// The commands of a dry run, each with the place of its descriptor.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (usize, &[u8], &Limit)> {
        let of = |take: usize| self.descriptors.iter().position(|planned| planned.takes.contains(&take)).unwrap_or(0);
        self.takes.iter().enumerate().map(move |(place, take)| (of(place), take.key.as_slice(), take.limit.as_ref()))
    }

    fn add_own(
        &mut self,
        domain: &Domain,
        descriptor: &Descriptor,
        limit: Limit,
        (count, unit): (u64, Unit),
        quantity: i64,
    ) -> Planned {
        let key = key(domain, descriptor, &format!("gcra-{count}-{unit:?}"), None);
        let take = self.add(Take { key, limit: Arc::new(limit), quantity, is_enforced: true, on_error: OnError::Deny });
        let name = descriptor.entries.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join("/");
        Planned {
            name: Some(name.into()),
            tally: Some(domain.by_request.clone()),
            takes: vec![take],
            ..Planned::default()
        }
    }

    fn add_rule(
        &mut self,
        domain: &Domain,
        tallies: &Tallies,
        descriptor: &Descriptor,
        rule: &Arc<Rule>,
        quantity: i64,
    ) -> Planned {
        let value = descriptor.entries.last().map_or("", |(_, value)| value.as_str());
        let Policy(limits) = rule.policy(value);
        let takes = limits.iter().map(|limit| {
            let key = key(domain, descriptor, limit.kind(), rule.shared.as_deref());
            let is_enforced = !rule.is_shadow;
            self.add(Take { key, limit: limit.clone(), quantity, is_enforced, on_error: rule.on_error })
        });
        let takes = takes.collect();
        let detail = || tallies.detail(&domain.settings.domain, &rule.label, value);
        let tally = if rule.is_detailed { detail() } else { None };
        Planned {
            name: Some(rule.name.clone().unwrap_or_else(|| rule.label.clone())),
            is_unlimited: limits.is_empty(),
            is_shadow: rule.is_shadow,
            tally: Some(tally.unwrap_or_else(|| rule.tally.clone())),
            takes,
        }
    }

    /// Adds a take, or its quantity to that of the same key: a key can be taken from once only.
    fn add(&mut self, take: Take) -> usize {
        if let Some(place) = self.takes.iter().position(|other| other.key == take.key) {
            let same = &mut self.takes[place];
            same.quantity = same.quantity.saturating_add(take.quantity);
            same.is_enforced |= take.is_enforced;
            return place;
        }
        self.takes.push(take);
        self.takes.len() - 1
    }
}

/// The rule of a descriptor that brings no limit along.
fn met<'a>(domain: &'a Domain, descriptor: &Descriptor) -> Option<&'a Arc<Rule>> {
    if descriptor.limit.is_some() { None } else { domain.find(&descriptor.entries) }
}

fn brought(count: u64, unit: Unit) -> Result<Limit, Invalid> {
    let algorithm = if count == 0 { Algorithm::Never } else { gcra(count, unit.span(), None).map_err(Invalid)? };
    Ok(Limit { algorithm, limit: count, span: unit.span() })
}

fn shard<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.entries.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
}

/// `limit:{domain}:kind:key=value/key=value`; what stands in braces says on which node of a cluster it lies.
fn key(domain: &Domain, descriptor: &Descriptor, kind: &str, shared: Option<&str>) -> Vec<u8> {
    let mut key = format!("{HEAD}{{{}", name::to_path(domain.settings.domain.as_bytes()));
    if let Some(value) = domain.settings.shard_by.as_deref().and_then(|by| shard(descriptor, by)) {
        key.push('/');
        key += &name::to_path(value.as_bytes());
    }
    key += "}:";
    key += kind;
    let last = descriptor.entries.len().saturating_sub(1);
    for (place, (name, value)) in descriptor.entries.iter().enumerate() {
        key.push(if place == 0 { ':' } else { '/' });
        key += &name::to_path(name.as_bytes());
        key.push('=');
        match shared {
            // No value has a star, since it would be encoded.
            Some(pattern) if place == last => {
                key += &name::to_path(pattern.trim_end_matches('*').as_bytes());
                key.push('*');
            }
            _ => key += &name::to_path(value.as_bytes()),
        }
    }
    key.into_bytes()
}
