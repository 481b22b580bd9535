//! The headers that say what is left of a limit.

use std::time::Duration;

use redis_meter_client::Verdict;

use crate::gateway::{Decision, Headers, Status};
use crate::name;

/// The header that a lease is given in, and renewed by.
pub(super) const LEASE: &str = "lease";

/// The greatest integer of a structured field (RFC 9651).
const MOST: u64 = 999_999_999_999_999;

/// Names and values, for HTTP and for gRPC.
pub(super) fn headers(decision: &Decision, style: Headers) -> Vec<(&'static str, String)> {
    let mut headers = match style {
        Headers::Draft10 => draft_10(&decision.statuses),
        Headers::Draft03 => of_tightest(decision, ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"], true),
        Headers::X => of_tightest(decision, ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"], false),
        Headers::None => Vec::new(),
    };
    let limited = decision.statuses.iter().filter(|status| status.limited);
    let waits = limited.filter_map(|status| status.verdict?.retry_after).max();
    if let (true, Some(wait)) = (decision.limited, waits) {
        headers.push(("retry-after", seconds(wait).max(1).to_string()));
    }
    if let Some(lease) = &decision.lease {
        headers.push((LEASE, lease.to_string()));
    }
    headers
}

/// A list of policies, and what is left of each, by the same names.
fn draft_10(statuses: &[Status]) -> Vec<(&'static str, String)> {
    let limits = statuses.iter().filter_map(|status| Some((status, status.limit.as_deref()?)));
    let policies: Vec<String> = limits
        .map(|(status, limit)| {
            let name = string(status.shown());
            let window = if limit.is_lease() { String::new() } else { format!(";w={}", seconds(limit.span)) };
            format!("{name};q={}{window}", limit.limit.min(MOST))
        })
        .collect();
    let verdicts = statuses.iter().filter_map(|status| Some((status, status.verdict?)));
    let left: Vec<String> = verdicts
        .map(|(status, verdict)| {
            let Verdict { remaining, reset_after, .. } = verdict;
            format!("{};r={};t={}", string(status.shown()), remaining.min(MOST), seconds(reset_after))
        })
        .collect();
    let fields = [("ratelimit-policy", policies), ("ratelimit", left)];
    fields.into_iter().filter(|(_, items)| !items.is_empty()).map(|(name, items)| (name, items.join(", "))).collect()
}

fn of_tightest(decision: &Decision, names: [&'static str; 3], with_window: bool) -> Vec<(&'static str, String)> {
    let known = decision.statuses.iter().filter_map(|status| Some((status, status.limit.as_deref()?, status.verdict?)));
    let tightest = known.min_by_key(|(status, _, verdict)| (!status.limited, verdict.remaining));
    let Some((_, limit, verdict)) = tightest else { return Vec::new() };
    let quota = limit.limit;
    let limit = match with_window && !limit.is_lease() {
        true => format!("{quota}, {quota};w={}", seconds(limit.span)),
        false => quota.to_string(),
    };
    let values = [limit, verdict.remaining.to_string(), seconds(verdict.reset_after).to_string()];
    names.into_iter().zip(values).collect()
}

/// Whole seconds, rounded up.
fn seconds(span: Duration) -> u64 {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).min(MOST)
}

/// A string of a structured field; what is no printable ASCII is percent-encoded.
fn string(text: &str) -> String {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    format!("\"{}\"", name::to_path(text.as_bytes()))
}
