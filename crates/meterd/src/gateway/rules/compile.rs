//! Compiles documents to rules; every mistake is found here, with its line.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis_meter_client::Unit as CalendarUnit;
use redis_meter_core::calendar::Day;
use redis_meter_core::gcra;
use redis_meter_core::lease::MAX_TTL;
use redis_meter_core::log::MAX_LIMIT as MOST_LOGGED;
use redis_meter_core::quota::{MOST, Offset};
use redis_meter_core::time::Nanos;
use serde_saphyr::Spanned;

use super::file::{Document, Entry, InFlight, RateLimit};
use super::{Domain, Headers, Node, OnError, Policy, Rule, Settings};
use crate::config::{Error, MOST_DEADLINE};
use crate::gateway::limit::{Algorithm, Limit};
use crate::gateway::tally::Tallies;
use crate::gateway::unit::Unit;

/// The time to live of a lease that is neither renewed nor released.
const LEASE: Duration = Duration::from_secs(60);
/// The longest period: now and one of it must lie before the year 2262.
const MOST_SPAN: Duration = Duration::from_secs(36_525 * 86_400);

/// What all entries of a document need.
struct Context<'a> {
    file: &'a Path,
    tallies: &'a Tallies,
    domain: &'a str,
    shard_by: Option<&'a str>,
}

impl Context<'_> {
    fn wrong<T>(&self, place: &Spanned<T>, message: impl Into<String>) -> Error {
        Error::on_line(self.file, place.referenced.line(), message)
    }
}

/// The domain of a document.
///
/// # Errors
/// What is wrong in it, with its line.
pub(super) fn domain(file: &Path, document: &Document, tallies: &Tallies) -> Result<Domain, Error> {
    let name = document.domain.value.as_str();
    let shard_by = document.shard_by.as_ref().map(|key| key.value.as_str());
    let context = Context { file, tallies, domain: name, shard_by };
    if name.is_empty() {
        return Err(context.wrong(&document.domain, "the domain is empty: name it, as in  domain: shop"));
    }
    if let Some(key) = document.shard_by.as_ref().filter(|key| key.value.is_empty()) {
        return Err(context.wrong(key, "shard_by is empty: name the key that every descriptor has, or leave it out"));
    }
    let headers = match &document.headers {
        None => Headers::default(),
        Some(text) => Headers::parse(&text.value).ok_or_else(|| {
            context.wrong(text, format!("headers \"{}\" is not known: use {}", text.value, Headers::NAMES))
        })?,
    };
    let span = |text: &Spanned<String>| match span("deadline", &text.value) {
        Ok(span) if span > MOST_DEADLINE => Err(context.wrong(text, "deadline is at most 1h")),
        span => span.map_err(|message| context.wrong(text, message)),
    };
    let deadline = document.deadline.as_ref().map(span).transpose()?;
    let settings = Settings {
        domain: name.to_owned(),
        headers,
        deadline,
        remember_refusals: document.remember_refusals,
        shard_by: shard_by.map(ToOwned::to_owned),
    };
    no_circle(&context, &document.descriptors)?;
    let mut root = Node::default();
    add_all(&context, &mut root, &document.descriptors, "", false)?;
    Ok(Domain { settings: Arc::new(settings), root, by_request: tallies.of(name, "(of the request)") })
}

fn add_all(
    context: &Context<'_>,
    node: &mut Node,
    entries: &[Spanned<Entry>],
    path: &str,
    has_shard: bool,
) -> Result<(), Error> {
    for entry in entries {
        if entry.value.key.is_empty() {
            return Err(context.wrong(entry, "the key is empty: name what requests send, as in  key: api_key"));
        }
        let Entry { key, value, .. } = &entry.value;
        let part = if value.is_empty() { key.clone() } else { format!("{key}={value}") };
        let path = if path.is_empty() { part } else { format!("{path}/{part}") };
        let has_shard = has_shard || context.shard_by == Some(key);
        let mut child = Node { rule: rule(context, entry, &path, has_shard)?.map(Arc::new), ..Node::default() };
        add_all(context, &mut child, &entry.value.descriptors, &path, has_shard)?;
        if !node.add(key, value, child) {
            return Err(context.wrong(entry, format!("\"{path}\" stands here twice: put both into one")));
        }
    }
    Ok(())
}

fn rule(context: &Context<'_>, entry: &Spanned<Entry>, path: &str, has_shard: bool) -> Result<Option<Rule>, Error> {
    let Entry { rate_limit, in_flight, overrides, on_error, value, .. } = &entry.value;
    let is_fixed = !value.is_empty() && !value.ends_with('*');
    if let Some(first) = overrides.values().next() {
        let wrong = |message: &str| Err(context.wrong(first, message));
        if rate_limit.is_none() {
            return wrong("overrides change a rate_limit, and there is none beside them");
        } else if entry.value.share_threshold {
            return wrong(
                "overrides are by value, and share_threshold gives all values one limit: leave one of them out",
            );
        } else if is_fixed {
            return wrong("overrides are by value, and this descriptor has a single one: leave  value  out");
        }
    }
    if entry.value.share_threshold && !value.ends_with('*') {
        return Err(context.wrong(entry, "share_threshold is for a value that ends in *, whose matches share a limit"));
    }
    if rate_limit.is_none() && in_flight.is_none() {
        return Ok(None);
    }
    if let (Some(key), false) = (context.shard_by, has_shard) {
        let message = format!(
            "\"{path}\" lacks the key \"{key}\" of shard_by: its limits may lie on another node than those that a \
             request meets beside them, and can't be taken all or none. Put it below a descriptor with that key, or \
             drop shard_by, so that all limits of the domain share a node"
        );
        return Err(context.wrong(entry, message));
    }
    let on_error = match on_error.as_ref().map(|text| (text, text.value.as_str())) {
        None | Some((_, "deny")) => OnError::Deny,
        Some((_, "allow")) => OnError::Allow,
        Some((text, _)) => return Err(context.wrong(text, "on_error is allow or deny")),
    };
    let policy = policy(context, rate_limit.as_ref(), in_flight.as_ref())?;
    let mut by_value = Vec::new();
    for (value, change) in overrides {
        let RateLimit { algorithm, name, replaces, .. } = &change.value;
        if algorithm.is_some() || name.is_some() || !replaces.is_empty() {
            return Err(context.wrong(change, "an override changes numbers, not the algorithm, the name or replaces"));
        }
        let merged = rate_limit.as_ref().map(|base| base.value.overridden(&change.value)).unwrap_or_default();
        let merged = Spanned { value: merged, referenced: change.referenced, defined: change.defined };
        by_value.push((value.clone(), self::policy(context, Some(&merged), in_flight.as_ref())?));
    }
    let replaces = rate_limit.as_ref().map(|limit| replaced(context, limit)).transpose()?.unwrap_or_default();
    Ok(Some(Rule {
        label: path.into(),
        name: rate_limit.as_ref().and_then(|limit| limit.value.name.as_deref()).map(Arc::from),
        replaces,
        policy,
        overrides: by_value.into_iter().collect(),
        is_shadow: entry.value.shadow_mode,
        is_detailed: entry.value.detailed_metric,
        shared: entry.value.share_threshold.then(|| value.clone()),
        on_error,
        tally: context.tallies.of(context.domain, path),
    }))
}

fn replaced(context: &Context<'_>, limit: &Spanned<RateLimit>) -> Result<Vec<String>, Error> {
    let names = limit.value.replaces.iter().map(|replaced| match replaced.name.as_str() {
        "" => Err(context.wrong(limit, "replaces has an empty name: name the rate_limit that it replaces")),
        name if limit.value.name.as_deref() == Some(name) => {
            Err(context.wrong(limit, format!("replaces names \"{name}\", which is this limit itself")))
        }
        name => Ok(name.to_owned()),
    });
    names.collect()
}

/// Limits that replace each other: a request that meets them all would have none.
fn no_circle(context: &Context<'_>, entries: &[Spanned<Entry>]) -> Result<(), Error> {
    let mut limits = Vec::new();
    let mut open: Vec<&Spanned<Entry>> = entries.iter().collect();
    while let Some(entry) = open.pop() {
        limits.extend(&entry.value.rate_limit);
        open.extend(&entry.value.descriptors);
    }
    let replaced = |limit: &Spanned<RateLimit>| -> Vec<String> {
        limit.value.replaces.iter().map(|other| other.name.clone()).collect()
    };
    for limit in &limits {
        let Some(own) = limit.value.name.as_deref() else { continue };
        let (mut seen, mut open) = (BTreeSet::new(), replaced(limit));
        while let Some(name) = open.pop() {
            if name == own {
                return Err(
                    context.wrong(limit, format!("\"{own}\" replaces itself, by way of those that it replaces"))
                );
            }
            let named = limits.iter().filter(|other| other.value.name.as_deref() == Some(name.as_str()));
            if seen.insert(name.clone()) {
                open.extend(named.flat_map(|limit| replaced(limit)));
            }
        }
    }
    Ok(())
}

fn policy(
    context: &Context<'_>,
    rate_limit: Option<&Spanned<RateLimit>>,
    in_flight: Option<&Spanned<InFlight>>,
) -> Result<Policy, Error> {
    let mut limits = Vec::new();
    if let Some(rate) = rate_limit {
        if rate.value.unlimited != Some(true) {
            limits.push(Arc::new(rated(&rate.value).map_err(|message| context.wrong(rate, message))?));
        } else if rate.value.unit.is_some() || rate.value.period.is_some() {
            return Err(context.wrong(rate, "unlimited has no unit and no period: leave them out"));
        }
    }
    if let Some(places) = in_flight {
        limits.push(Arc::new(leased(context, places)?));
    }
    Ok(Policy(limits))
}

fn leased(context: &Context<'_>, places: &Spanned<InFlight>) -> Result<Limit, Error> {
    let InFlight { limit, ttl } = &places.value;
    let span = ttl.as_ref().map_or(Ok(LEASE), |text| span("ttl", text));
    let span = span.map_err(|message| context.wrong(places, message))?;
    if span.as_millis() > u128::from(MAX_TTL.0.unsigned_abs()) {
        return Err(context.wrong(places, "ttl is at most 366 days"));
    }
    if *limit > MOST.unsigned_abs() {
        return Err(context.wrong(places, format!("limit is at most {MOST}")));
    }
    let algorithm = if *limit == 0 { Algorithm::Never } else { Algorithm::InFlight };
    Ok(Limit { algorithm, limit: *limit, span })
}

/// The limit that a `rate_limit` describes.
///
/// # Errors
/// A sentence.
fn rated(rate: &RateLimit) -> Result<Limit, String> {
    let algorithm = rate.algorithm.as_deref().unwrap_or("gcra");
    let limit = match (rate.requests_per_unit, rate.limit) {
        (Some(limit), None) | (None, Some(limit)) => limit,
        (None, None) => return Err("requests_per_unit is missing (0 refuses everything)".to_owned()),
        (Some(_), Some(_)) => return Err("requests_per_unit and limit are the same: give one of them".to_owned()),
    };
    let by_name =
        |text: &String| Unit::parse(text).ok_or_else(|| format!("unit \"{text}\" is not known: use {}", Unit::NAMES));
    let unit = rate.unit.as_ref().map(by_name).transpose()?;
    let span = match (unit, &rate.period) {
        (Some(unit), None) => unit.span(),
        (None, Some(text)) => span("period", text)?,
        (None, None) => return Err("unit is missing: add  unit: minute,  or  period: 30s".to_owned()),
        (Some(_), Some(_)) => return Err("unit and period are the same: give one of them".to_owned()),
    };
    for (option, is_given, owner) in [
        ("burst", rate.burst.is_some(), "gcra"),
        ("block", rate.block.is_some(), "window"),
        ("anchor", rate.anchor.is_some(), "quota"),
        ("offset", rate.offset.is_some(), "quota"),
    ] {
        if is_given && owner != algorithm {
            return Err(format!("{option} belongs to  algorithm: {owner},  not to {algorithm}"));
        }
    }
    // A window's count goes one beyond its limit when it blocks.
    let most = MOST - i64::from(algorithm == "window");
    if limit > most.unsigned_abs() {
        return Err(format!("the limit is at most {most}"));
    }
    let algorithm = match algorithm {
        "gcra" if limit > 0 => gcra(limit, span, rate.burst)?,
        "window" => Algorithm::Window { block: rate.block.as_ref().map(|text| self::span("block", text)).transpose()? },
        "log" if limit > MOST_LOGGED.unsigned_abs() => return Err(format!("a log has at most {MOST_LOGGED} cells")),
        "log" => Algorithm::Log,
        "slide" => Algorithm::Slide,
        "quota" => quota(unit, rate)?,
        "gcra" => Algorithm::Never,
        other => return Err(format!("algorithm \"{other}\" is not known: use gcra, window, log, slide or quota")),
    };
    let algorithm = if limit == 0 { Algorithm::Never } else { algorithm };
    Ok(Limit { algorithm, limit, span })
}

/// A whole unit's worth may come at once, unless a burst says otherwise.
///
/// # Errors
/// A sentence, for a rate or a burst beyond what the algorithm can hold.
pub(crate) fn gcra(count: u64, period: Duration, burst: Option<u64>) -> Result<Algorithm, String> {
    let burst = burst.unwrap_or(count - 1);
    let numbers = (i64::try_from(burst), i64::try_from(count), i64::try_from(period.as_nanos()));
    let (Ok(max_burst), Ok(cells), Ok(nanos)) = numbers else {
        return Err("burst, limit and period must each fit 63 bits, the period in nanoseconds".to_owned());
    };
    match gcra::Quota::new(max_burst, cells, Nanos(nanos)) {
        Ok(_) => Ok(Algorithm::Gcra { burst, count, period }),
        Err(gcra::QuotaError::TooFast) => Err(format!("the rate is above {} a second", gcra::MAX_RATE)),
        Err(gcra::QuotaError::TooLong) => Err("the burst takes longer than 292 years to drain: lower it".to_owned()),
    }
}

fn quota(unit: Option<Unit>, rate: &RateLimit) -> Result<Algorithm, String> {
    let unit = unit.and_then(Unit::of_calendar);
    let unit = unit.ok_or("a quota needs  unit: hour, day, week, month or year,  and no period")?;
    if let Some(date) = &rate.anchor {
        if unit == CalendarUnit::Hour {
            return Err("anchor is for days and longer: leave it out".to_owned());
        }
        Day::parse(date.as_bytes()).ok_or_else(|| format!("anchor \"{date}\" is no date: write 2022-07-17"))?;
    }
    if let Some(offset) = &rate.offset {
        Offset::parse(offset.as_bytes()).ok_or_else(|| format!("offset \"{offset}\" is no offset: write +02:00"))?;
    }
    Ok(Algorithm::Quota { unit, anchor: rate.anchor.clone(), offset: rate.offset.clone() })
}

fn span(name: &str, text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).ok();
    let span = span.filter(|span| !span.is_zero());
    if span.is_some_and(|span| span > MOST_SPAN) {
        return Err(format!("{name} \"{text}\" is longer than a hundred years"));
    }
    span.ok_or_else(|| format!("{name} \"{text}\" is no duration: write 500ms, 30s, 15m or 2h"))
}
