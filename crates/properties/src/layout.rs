//! Stored values and names of keys: every text that can be read is written back unchanged.

use redis_meter_core::layout::{
    Cell, EARLIEST_LEASE, EARLIEST_TAT, HIGHEST_COUNT, append_member, lease_end, parse_count, parse_member, parse_tat,
    score_count,
};

use crate::bytes::Bytes;

/// A part of a key's name encodes at most one member, and is its only encoding.
pub fn member(part: &[u8]) {
    if let Some(member) = parse_member(part) {
        let mut written = Vec::new();
        append_member(&mut written, &member);
        assert_eq!(written, [b":", part].concat());
    }
    let mut written = Vec::new();
    append_member(&mut written, part);
    assert!(written[1..].iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.~#-%".contains(byte)));
    let read = parse_member(&written[1..]);
    assert_eq!(read.as_deref(), Some(part).filter(|part| !part.is_empty()));
}

/// A member of a log is a cell only if that cell is written so.
pub fn cell(member: &[u8]) {
    if let Some(cell) = Cell::parse(member) {
        assert_eq!(cell.member(&mut [0; 48]), member);
        assert!(cell.time.0 >= 0);
    }
}

/// Texts and scores of states are within the ranges that distinguish them from other values.
pub fn state(input: &[u8]) {
    let canonical = std::str::from_utf8(input).ok().and_then(|text| text.parse::<i64>().ok());
    let canonical = canonical.filter(|number| number.to_string().as_bytes() == input);
    assert_eq!(parse_tat(input).map(|tat| tat.0), canonical.filter(|&number| number >= EARLIEST_TAT));
    assert_eq!(parse_count(input), canonical.filter(|number| (0..=HIGHEST_COUNT).contains(number)));
    let score = f64::from_bits(Bytes(input).any().cast_unsigned());
    let count = score_count(score);
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let as_score = count.map(|count| count as f64);
    assert!(as_score.is_none_or(|found| found.total_cmp(&score.abs()).is_eq()));
    assert_eq!(lease_end(score).map(|end| end.0), count.filter(|&end| end >= EARLIEST_LEASE));
}
