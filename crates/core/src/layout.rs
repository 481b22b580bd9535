//! The formats of limiters' stored values and of the names of a meter's keys. Each has one form only, so that another
//! program's leaderboard or counter is not taken for a state.

use crate::number::{format_integer, parse_natural};
use crate::time::{Micros, Millis, Nanos};

/// No TAT is before this instant in March 1973, in nanoseconds: a lower number is another program's counter.
pub const EARLIEST_TAT: i64 = 100_000_000_000_000_000;

/// The highest stored count: a higher number is something else, such as a TAT.
pub const HIGHEST_COUNT: i64 = 1 << 53;

/// No lease ends before this instant in March 1973, in milliseconds.
pub const EARLIEST_LEASE: i64 = 100_000_000_000;

/// Digits of a cell's number, at least: with them the order of members is that of their numbers.
const NUMBER_WIDTH: usize = 6;

/// A TAT: decimal nanoseconds since the epoch, from [`EARLIEST_TAT`] on.
#[inline(always)]
pub fn parse_tat(text: &[u8]) -> Option<Nanos> {
    parse_natural(text).filter(|&tat| tat >= EARLIEST_TAT).map(Nanos)
}

/// The count of a window or a quota, 0..=[`HIGHEST_COUNT`].
#[inline(always)]
pub fn parse_count(text: &[u8]) -> Option<i64> {
    parse_natural(text).filter(|&count| count <= HIGHEST_COUNT)
}

/// The end of a lease as a score has it: whole milliseconds from [`EARLIEST_LEASE`] to 2⁵³.
pub fn lease_end(score: f64) -> Option<Millis> {
    whole(score).filter(|&end| end >= EARLIEST_LEASE).map(Millis)
}

/// The count of a member as a score has it: a whole number, 0..=2⁵³.
pub fn score_count(score: f64) -> Option<i64> {
    whole(score)
}

/// A score that is a whole number, 0..=2⁵³: below that, sorted sets are exact.
fn whole(score: f64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "2^53 has no loss")]
    let highest = HIGHEST_COUNT as f64;
    #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    ((0.0..=highest).contains(&score) && score.fract() == 0.0).then_some(score as i64)
}

/// A cell of a log: its member is `<time>-<number>`, the time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// When it was taken; ≥ 0. Its score is the same.
    pub time: Micros,
    /// Distinguishes the cells of one microsecond; below 10¹⁸.
    pub number: u64,
}

impl Cell {
    /// The member, written into `buffer`.
    pub fn member(self, buffer: &mut [u8; 48]) -> &[u8] {
        let (mut time_digits, mut number_digits) = ([0; 20], [0; 20]);
        let time = format_integer(self.time.0, &mut time_digits);
        let number = format_integer(self.number.cast_signed(), &mut number_digits);
        buffer.fill(b'0');
        buffer[..time.len()].copy_from_slice(time);
        buffer[time.len()] = b'-';
        let end = time.len() + 1 + number.len().max(NUMBER_WIDTH);
        buffer[end - number.len()..end].copy_from_slice(number);
        &buffer[..end]
    }

    /// The cell whose member this is; `None` for every other text.
    pub fn parse(member: &[u8]) -> Option<Self> {
        let dash = member.iter().position(|&byte| byte == b'-')?;
        let (time, digits) = (parse_natural(&member[..dash])?, &member[dash + 1..]);
        let is_padded = digits.len() == NUMBER_WIDTH || (digits.len() > NUMBER_WIDTH && digits[0] != b'0');
        if !is_padded || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(Self { time: Micros(time), number })
    }

    /// Whether a member with this score is this cell.
    pub fn has_score(self, score: f64) -> bool {
        whole(score) == Some(self.time.0)
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The bytes of members that are not encoded in names of keys.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'#' | b'-');
        byte += 1;
    }
    plain
};

/// Appends a member to the name of the set that it is in, after a colon: the name of the set below it. Bytes outside
/// `A-Z a-z 0-9 _ . ~ # -` are percent-encoded, so that no member has a colon and no two paths share a key.
pub fn append_member(name: &mut Vec<u8>, member: &[u8]) {
    name.push(b':');
    for &byte in member {
        if PLAIN[usize::from(byte)] {
            name.push(byte);
        } else {
            name.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// The member that a part of a key's name encodes; `None` if no member has this encoding.
pub fn parse_member(part: &[u8]) -> Option<Vec<u8>> {
    let mut member = Vec::with_capacity(part.len());
    let mut bytes = part.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|&digit| HEX.iter().position(|&hex| hex == digit));
            let (high, low) = (digit()?, digit()?);
            let byte = u8::try_from(high * 16 + low).ok()?;
            member.push(Some(byte).filter(|&byte| !PLAIN[usize::from(byte)])?);
        } else if PLAIN[usize::from(byte)] {
            member.push(byte);
        } else {
            return None;
        }
    }
    (!member.is_empty()).then_some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_instant_in_nanoseconds_is_a_tat() {
        assert_eq!(parse_tat(b"1660054277326000000"), Some(Nanos(1_660_054_277_326_000_000)));
        assert_eq!(parse_tat(b"100000000000000000"), Some(Nanos(EARLIEST_TAT)));
        for text in ["", "0", "12345", "99999999999999999", "-1", "1.5", "01", "1e18", "9223372036854775808", "abc"] {
            assert_eq!(parse_tat(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_tat_is_no_count_and_a_count_no_tat() {
        assert_eq!(parse_count(b"9007199254740992"), Some(HIGHEST_COUNT));
        for text in ["9007199254740993", "1660054277326000000", "-1", "1.5", ""] {
            assert_eq!(parse_count(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn only_whole_milliseconds_end_a_lease() {
        assert_eq!(lease_end(1_660_054_277_326.0), Some(Millis(1_660_054_277_326)));
        for score in [0.0, 99_999_999_999.0, 1_660_054_277_326.5, -1.0, f64::NAN, f64::INFINITY, 1e17] {
            assert_eq!(lease_end(score), None, "{score}");
        }
    }

    #[test]
    fn other_members_are_no_cells() {
        assert_eq!(Cell::parse(b"1660054277326000-1000000").map(|cell| cell.number), Some(1_000_000));
        for text in ["", "ann", "20220809", "-1", "7", "7-", "7-00000x", "7-1", "07-000000", "7-0000001", "7--00001"] {
            assert_eq!(Cell::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_cell_has_the_score_that_is_its_time_and_no_other() {
        let cell = Cell { time: Micros(100), number: 0 };
        assert!(cell.has_score(100.0));
        for score in [7.0, 101.0, -1.0, 100.5, f64::NAN, f64::NEG_INFINITY] {
            assert!(!cell.has_score(score), "{score}");
        }
    }

    proptest! {
        #[test]
        fn a_cell_is_read_as_it_was_written(time in 0..=i64::MAX, number in 0..1_000_000_000_000_000_000u64) {
            let cell = Cell { time: Micros(time), number };
            prop_assert_eq!(Cell::parse(cell.member(&mut [0; 48])), Some(cell));
        }

        #[test]
        fn a_member_is_read_as_it_was_written_and_has_no_colon(member in prop::collection::vec(any::<u8>(), 1..40)) {
            let mut name = Vec::new();
            append_member(&mut name, &member);
            prop_assert!(!name[1..].contains(&b':'));
            prop_assert_eq!(parse_member(&name[1..]), Some(member));
        }
    }
}
