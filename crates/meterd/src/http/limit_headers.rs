//! The headers that say what is left of a limit.

use std::fmt::Write as _;
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
    // Nothing is known of a limit that could not be asked.
    if decision.failure.is_some() {
        return Vec::new();
    }
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
    let (mut policies, mut left) = (String::new(), String::new());
    for status in statuses {
        let Some(limit) = status.limit.as_deref() else { continue };
        item(&mut policies, status.shown());
        number(&mut policies, ";q=", limit.limit.min(MOST));
        if !limit.is_lease() {
            number(&mut policies, ";w=", seconds(limit.span));
        }
        let Some(Verdict { remaining, reset_after, .. }) = status.verdict else { continue };
        item(&mut left, status.shown());
        number(&mut left, ";r=", remaining.min(MOST));
        number(&mut left, ";t=", seconds(reset_after));
    }
    let fields = [("ratelimit-policy", policies), ("ratelimit", left)];
    fields.into_iter().filter(|(_, items)| !items.is_empty()).collect()
}

fn number(to: &mut String, name: &str, number: u64) {
    // A string takes any text.
    let _ = write!(to, "{name}{number}");
}

/// Begins an item of a list: a string of a structured field; what is no printable ASCII is percent-encoded.
fn item(list: &mut String, text: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push('"');
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        list.push_str(&name::to_path(text.as_bytes()));
    } else if text.contains(['\\', '"']) {
        list.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
    } else {
        list.push_str(text);
    }
    list.push('"');
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
