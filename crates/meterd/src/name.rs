//! Names of meters, members and keys as text: they are bytes, which JSON, URLs and pages can't hold.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use redis_meter_core::calendar::Day;

/// What stays as it is in a part of a key's name, and in a part of a URL's path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'~').remove(b'-');

/// UTF-8 as it is; any other name percent-encoded, as parts of key names are.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(percent_encode(name, PLAIN).to_string()),
    }
}

/// A name as one segment of a URL's path; [`from_path`] reads it.
pub fn to_path(name: &[u8]) -> String {
    percent_encode(name, PLAIN).to_string()
}

/// The bytes that a segment of a URL's path stands for.
pub fn from_path(segment: &str) -> Vec<u8> {
    percent_decode_str(segment).collect()
}

/// Whether a key is a breakdown of a meter's day, stored or sealed: `K:day:20220809:path`, or below it.
pub fn is_breakdown(key: &[u8]) -> bool {
    after_days(key).any(|rest| rest == b":path" || rest.starts_with(b":path:"))
}

/// Whether a meter of that name would lie where another meter has a part of a day: `K:day:20220809`, its breakdown, its
/// distinct ids or its events.
pub fn is_part_of_a_day(name: &[u8]) -> bool {
    is_breakdown(name) || after_days(name).any(|rest| matches!(rest, b"" | b":unique" | b":once"))
}

/// What follows each `:day:` with a date.
fn after_days(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    const MARK: &[u8] = b":day:";
    const LEN: usize = MARK.len() + b"20220809".len();
    let is_day = |part: &[u8]| part.starts_with(MARK) && Day::parse(&part[MARK.len()..]).is_some();
    key.windows(LEN).enumerate().filter(move |(_, part)| is_day(part)).map(|(at, _)| &key[at + LEN..])
}

/// The bytes of a name or a value of a query.
pub fn from_query(text: &str) -> Vec<u8> {
    if text.contains('+') { from_path(&text.replace('+', " ")) } else { from_path(text) }
}

/// What a glob pattern must say to mean these bytes and no others.
pub fn glob(name: &[u8]) -> Vec<u8> {
    let escaped = name.iter().flat_map(|&byte| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' => vec![b'\\', byte],
        _ => vec![byte],
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_from_a_path() {
        let all: Vec<u8> = (0..=255).collect();
        for name in [&all[..], b"kpi:sessions:app:shop", b"", b"a/b?c#d%", "naïve".as_bytes()] {
            assert_eq!(from_path(&to_path(name)), name);
        }
    }

    #[test]
    fn parts_of_meters_are_told_from_meters() {
        let breakdowns: [&[u8]; 4] = [
            b"m:day:20220809:path",
            b"{m}:day:20220809:path:users%23update",
            b"m:sealed:effbb6c3cf72a618cf24a5ab25298333:day:20220809:path",
            b"m:day:20220808:eu:day:20220809:path:a",
        ];
        for key in breakdowns {
            assert!(is_breakdown(key) && is_part_of_a_day(key), "{}", shown(key));
        }
        for key in [&b"m:day:20220809"[..], b"m:day:20220809:unique", b"m:day:20220809:once"] {
            assert!(!is_breakdown(key) && is_part_of_a_day(key), "{}", shown(key));
        }
        for key in [&b"m"[..], b"per:day:counts", b"m:day:20221309", b"orders:day:20220809:eu", b"m:day:20220809:paths"]
        {
            assert!(!is_part_of_a_day(key), "{}", shown(key));
        }
    }

    #[test]
    fn only_names_that_are_not_utf8_are_encoded() {
        assert_eq!(shown("kpi:näme%".as_bytes()), "kpi:näme%");
        assert_eq!(shown(b"kpi:\xff"), "kpi%3A%FF");
    }
}
