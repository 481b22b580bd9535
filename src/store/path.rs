//! A day's breakdown: the sorted set `K:day:20220809:path` has the members of the first level by count, and
//! `K:day:20220809:path:m1` those below its member m1, and so on.
//!
//! In the names of keys every byte of a member outside `A-Z a-z 0-9 _ . ~ # -` is percent-encoded, so that no member
//! has a `:` and no two paths share a key.

use crate::server::{Context, Effect, Error, Key, OwnedStr, Shown, SortedSet, Str};
use redis_meter_core::calendar::Day;
use redis_meter_core::time::Millis;

use super::meter::Meter;

/// The most members that a path has.
pub(crate) const MOST_LEVELS: usize = 8;

/// The largest whole number that a sorted set's scores hold exactly with all below it.
const MOST: i64 = 1 << 53;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The bytes of members that stand as they are in names of keys.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'#' | b'-');
        byte += 1;
    }
    plain
};

/// The rest of the name of the set of the first level, after `K:`.
pub(crate) fn first_level(day: Day) -> Vec<u8> {
    let mut rest = Vec::new();
    append_first_level(&mut rest, day);
    rest
}

fn append_first_level(name: &mut Vec<u8>, day: Day) {
    name.extend_from_slice(b"day:");
    name.extend_from_slice(&day.digits());
    name.extend_from_slice(b":path");
}

/// Appends one member to the name of the set that it is in: the name of the set below it.
pub(crate) fn append(name: &mut Vec<u8>, member: &[u8]) {
    name.push(b':');
    for &byte in member {
        if PLAIN[usize::from(byte)] {
            name.push(byte);
        } else {
            name.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// The member that a part of a key's name stands for; `None` if none is written so.
pub(crate) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    let mut member = Vec::with_capacity(part.len());
    let mut bytes = part.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|&digit| HEX.iter().position(|&hex| hex == digit));
            let (high, low) = (digit()?, digit()?);
            member.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            member.push(byte);
        }
    }
    let mut written = Vec::new();
    append(&mut written, &member);
    (!member.is_empty() && written[1..] == *part).then_some(member)
}

/// The count of the member that a path leads to; 0 if there is none.
///
/// # Errors
/// A key of another type, a score that is no count, or [`Error::TryAgain`].
pub(crate) fn count(ctx: Context<'_>, meter: Meter<'_>, day: Day, path: &[Str<'_>]) -> Result<i64, Error> {
    let Some((member, above)) = path.split_last() else { return Ok(0) };
    let name = set_key(meter, day, above);
    let set = meter.read::<SortedSet>(ctx, &name)?;
    set.score(*member).map_or(Ok(0), |score| count_of(score, member.bytes()))
}

/// The key of the set below a path.
pub(crate) fn set_key(meter: Meter<'_>, day: Day, path: &[Str<'_>]) -> OwnedStr {
    let mut name = meter.name_start();
    append_first_level(&mut name, day);
    for member in path {
        append(&mut name, member.bytes());
    }
    OwnedStr::new(&name)
}

/// The count that a score is.
///
/// # Errors
/// It is none.
pub(crate) fn count_of(score: f64, member: &[u8]) -> Result<i64, Error> {
    #[expect(clippy::cast_precision_loss, reason = "2^53 has no loss")]
    let most = MOST as f64;
    if (0.0..=most).contains(&score) && score.fract() == 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
        return Ok(score as i64);
    }
    Err(Error::refused(format!(
        "the score of path member {} is no count (a whole number from 0 to {MOST}); correct it by ZADD",
        Shown(member)
    )))
}

/// The sets that a path leads through, open, and its member in each.
pub(crate) struct Breakdown<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    day: Day,
    path: &'a [Str<'a>],
    levels: Vec<Level<'a>>,
}

struct Level<'a> {
    set: Key<'a, SortedSet>,
    count: i64,
}

/// The keys of the sets that a path leads through.
pub(crate) fn keys(meter: Meter<'_>, day: Day, path: &[Str<'_>]) -> Vec<OwnedStr> {
    let Some((_, above)) = path.split_last() else { return Vec::new() };
    let mut name = meter.name_start();
    append_first_level(&mut name, day);
    let mut keys = Vec::with_capacity(path.len());
    keys.push(OwnedStr::new(&name));
    for member in above {
        append(&mut name, member.bytes());
        keys.push(OwnedStr::new(&name));
    }
    keys
}

impl<'a> Breakdown<'a> {
    /// Opens the sets of a path, whose keys are `keys`.
    ///
    /// # Errors
    /// A key of another type, a score that is no count, or [`Error::TryAgain`].
    pub(crate) fn open(
        ctx: Context<'a>,
        meter: Meter<'a>,
        day: Day,
        path: &'a [Str<'a>],
        keys: &'a [OwnedStr],
    ) -> Result<Self, Error> {
        let mut levels = Vec::with_capacity(keys.len());
        for (name, member) in keys.iter().zip(path) {
            let set = meter.write::<SortedSet>(ctx, name)?;
            let count = set.score(*member).map_or(Ok(0), |score| count_of(score, member.bytes()))?;
            levels.push(Level { set, count });
        }
        Ok(Self { ctx, meter, day, path, levels })
    }

    /// Checks that `n` more, or fewer for a negative `n`, can be counted along the path.
    ///
    /// # Errors
    /// A count would fall below zero or pass 2⁵³, or a member would go while there are counts below it.
    pub(crate) fn check(&self, n: i64) -> Result<(), Error> {
        let shown = |place: usize| Shown(self.path[place].bytes());
        for (place, level) in self.levels.iter().enumerate() {
            let member = shown(place);
            let after = i128::from(level.count) + i128::from(n);
            if after < 0 {
                return Err(Error::refused(format!("BY takes back more than was counted of path member {member}")));
            }
            if after > i128::from(MOST) {
                return Err(Error::refused(format!("the count of path member {member} would pass {MOST}")));
            }
        }
        for place in 0..self.levels.len() {
            if n < 0 && self.levels[place].count + n == 0 && self.has_more_below(place, n)? {
                return Err(Error::refused(format!(
                    "path member {} would reach zero while members below it have counts; correct those first",
                    shown(place)
                )));
            }
        }
        Ok(())
    }

    /// Whether anything is left below the member of a level when `n` has been counted.
    fn has_more_below(&self, place: usize, n: i64) -> Result<bool, Error> {
        if let Some(below) = self.levels.get(place + 1) {
            return Ok(below.set.len() > usize::from(below.count + n == 0 && below.set.exists()));
        }
        if place + 1 == MOST_LEVELS {
            return Ok(false);
        }
        let name = set_key(self.meter, self.day, self.path);
        Ok(self.meter.read::<SortedSet>(self.ctx, &name)?.exists())
    }

    /// Whether the set of the first level goes with its last member when `n` is counted; `None` if there is no path.
    pub(crate) fn empties_first_level(&self, n: i64) -> Option<bool> {
        let first = self.levels.first()?;
        Some(first.count + n == 0 && first.set.len() == usize::from(first.set.exists()))
    }

    /// Counts `n` along the path, which has been checked. The sets expire at `expire_at`, if it is given.
    pub(crate) fn add(self, n: i64, expire_at: Option<Millis>) {
        let Self { path, levels, .. } = self;
        for (level, member) in levels.into_iter().zip(path) {
            let after = level.count + n;
            let members = [*member];
            if after == 0 {
                let last = level.set.len() == 1;
                let expiry = expire_at.filter(|&at| !last && level.set.expiry() != Some(at));
                level.set.commit(&[Some(Effect::SortedSetRemove(&members)), expiry.map(Effect::ExpireAt)]);
            } else {
                let expiry = expire_at.filter(|&at| level.set.expiry() != Some(at));
                level.set.commit(&[Some(Effect::SortedSetAdd(after, &members)), expiry.map(Effect::ExpireAt)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(path: &[&[u8]]) -> String {
        let mut name = first_level(Day::parse(b"20220809").expect("a day"));
        for member in path {
            append(&mut name, member);
        }
        String::from_utf8(name).expect("ASCII")
    }

    #[test]
    fn other_bytes_are_percent_encoded() {
        assert_eq!(name(&[]), "day:20220809:path");
        assert_eq!(name(&[b"users#update", b"1337"]), "day:20220809:path:users#update:1337");
        assert_eq!(name(&[b"a:b"]), "day:20220809:path:a%3Ab");
        assert_eq!(name(&[b"{%}", b"\0\xff"]), "day:20220809:path:%7B%25%7D:%00%FF");
        assert_eq!(name(&[b"AZaz09_.~#-"]), "day:20220809:path:AZaz09_.~#-");
    }

    fn paths() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![Just(b':'), Just(b'%'), Just(b'{'), Just(b'3'), Just(b'A'), any::<u8>()];
        prop::collection::vec(prop::collection::vec(byte, 1..5), 0..4)
    }

    proptest! {
        #[test]
        fn no_two_paths_share_a_key(one in paths(), two in paths()) {
            let name = |path: &Vec<Vec<u8>>| {
                let members: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                name(&members)
            };
            prop_assert_eq!(name(&one) == name(&two), one == two);
        }

        #[test]
        fn what_is_encoded_is_decoded(member in prop::collection::vec(any::<u8>(), 1..9)) {
            let mut rest = Vec::new();
            append(&mut rest, &member);
            prop_assert_eq!(decode(&rest[1..]), Some(member));
        }

        #[test]
        fn what_is_decoded_is_encoded_so_and_in_no_other_way(part in "[a%:0-9A-F]{0,9}") {
            if let Some(member) = decode(part.as_bytes()) {
                let mut rest = Vec::new();
                append(&mut rest, &member);
                prop_assert_eq!(&rest[1..], part.as_bytes());
            }
        }

        #[test]
        fn only_whole_numbers_to_2_53_are_counts(score: f64) {
            match count_of(score, b"m") {
                Ok(count) => {
                    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
                    let back = count as f64;
                    prop_assert!((0..=MOST).contains(&count) && back == score);
                }
                Err(_) => prop_assert!(!(score >= 0.0 && score.fract() == 0.0 && score <= 9_007_199_254_740_992.0)),
            }
        }
    }
}
