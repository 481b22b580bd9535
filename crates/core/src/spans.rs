//! Spans of days: the buckets that their counts are put into, and what a cap counts.

use crate::calendar::{Day, Hour, MILLIS_PER_DAY};
use crate::time::Millis;

/// How the counts of a span are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// By hour.
    Hour,
    /// By day.
    Day,
    /// By ISO week, from Monday to Sunday.
    Week,
    /// By month.
    Month,
    /// All in one.
    Total,
}

impl Bucket {
    /// The name of the bucket that a day is in; by hour, that of the day.
    pub fn name(self, day: Day) -> Name {
        match self {
            Self::Hour | Self::Day => Name::new(&day.digits()),
            Self::Week => Name::new(&day.week().text()),
            Self::Month => Name::new(&day.month().digits()),
            Self::Total => Name::TOTAL,
        }
    }
}

/// The name of a bucket: `2022080914`, `20220809`, `2022W32`, `202208`, `total` or `unique`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The longest, of an hour, has ten digits.
    bytes: [u8; 10],
    len: usize,
}

impl Name {
    /// That of a whole span.
    pub const TOTAL: Self = Self { bytes: *b"total\0\0\0\0\0", len: 5 };
    /// That of how many different ids a whole span has.
    pub const UNIQUE: Self = Self { bytes: *b"unique\0\0\0\0", len: 6 };

    fn new<const N: usize>(text: &[u8; N]) -> Self {
        const { assert!(N <= 10) };
        let mut bytes = [0; 10];
        bytes[..N].copy_from_slice(text);
        Self { bytes, len: N }
    }

    /// That of an hour of a day.
    pub fn of_hour(day: Day, hour: Hour) -> Self {
        let [a, b, c, d, e, f, g, h] = day.digits();
        Self::new(&[a, b, c, d, e, f, g, h, b'0' + hour.number() / 10, b'0' + hour.number() % 10])
    }

    /// Its text, ASCII.
    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A bucket's count would pass 2⁶³ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub Name);

/// Buckets that have a count, in the order of time.
#[derive(Debug, Default)]
pub struct Bars(Vec<(Name, i64)>);

impl Bars {
    /// None, with room for so many.
    pub fn with_capacity(buckets: usize) -> Self {
        Self(Vec::with_capacity(buckets))
    }

    /// Adds a count (≥ 0) to the last bucket if it has this name, else begins a new one: buckets must come in order, as
    /// days do. A count of 0 begins none.
    ///
    /// # Errors
    /// The bucket's count would not fit.
    pub fn add(&mut self, name: Name, count: i64) -> Result<(), TooLarge> {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some((last, sum)) if *last == name => *sum = sum.checked_add(count).ok_or(TooLarge(name))?,
            _ => self.0.push((name, count)),
        }
        Ok(())
    }

    /// All names and counts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], i64)> {
        self.0.iter().map(|(name, count)| (name.text(), *count))
    }
}

/// How many days before a hit's a cap may begin to count.
pub const MOST_DAYS_BEFORE: i64 = 366;

/// What a cap counts of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapSpan {
    /// The hit's hour.
    Hour,
    /// The hit's day.
    Day,
    /// The hit's month.
    Month,
    /// A day and all that follow, also those after the hit's; [`CapSpan::since`] makes it.
    Since(Day),
}

/// Why a cap can't count from a day on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceError {
    /// The day lies after the hit's.
    AfterHit,
    /// It lies more than [`MOST_DAYS_BEFORE`] days before it.
    TooLongAgo,
}

/// Why a cap can't know the count of its days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Days are kept for fewer days than the span has.
    TooShort {
        /// How many it has.
        needed: i64,
    },
    /// The first of its days have expired.
    Expired,
}

impl CapSpan {
    /// All days from this one on, for a hit on the day `hit`.
    ///
    /// # Errors
    /// See [`SinceError`].
    pub fn since(first: Day, hit: Day) -> Result<Self, SinceError> {
        match first.days_between(hit) {
            ..0 => Err(SinceError::AfterHit),
            0..=MOST_DAYS_BEFORE => Ok(Self::Since(first)),
            _ => Err(SinceError::TooLongAgo),
        }
    }

    /// The first and the last day that it counts, for a hit on the day `hit`.
    pub fn days(self, hit: Day) -> (Day, Day) {
        match self {
            Self::Hour | Self::Day => (hit, hit),
            Self::Month => (hit.month().first(), hit.month().last()),
            Self::Since(first) => (first, Day::LAST),
        }
    }

    /// Whether days that are kept for `retention` days after their end (0: for ever) are all there at `now`, up to the day
    /// `hit`.
    ///
    /// # Errors
    /// See [`NotKept`].
    pub fn ensure_kept(self, hit: Day, retention: i64, now: Millis) -> Result<(), NotKept> {
        let needed = match self {
            Self::Hour | Self::Day => return Ok(()),
            _ if retention == 0 => return Ok(()),
            Self::Month => 31,
            Self::Since(first) => first.days_between(hit) + 1,
        };
        if retention < needed {
            return Err(NotKept::TooShort { needed });
        }
        let first = self.days(hit).0;
        let expires = i128::from(first.end().0) + i128::from(retention) * i128::from(MILLIS_PER_DAY);
        if expires <= i128::from(now.0) { Err(NotKept::Expired) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::day_and_hour;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn day(text: &str) -> Day {
        Day::parse(text.as_bytes()).expect("a day that exists")
    }

    fn name(name: Name) -> String {
        String::from_utf8(name.text().to_vec()).expect("ASCII")
    }

    #[test]
    fn buckets_are_named_as_they_are_answered() {
        let (day, hour) = day_and_hour(Millis(1_660_053_600_000));
        let names =
            [Bucket::Hour, Bucket::Day, Bucket::Week, Bucket::Month, Bucket::Total].map(|by| name(by.name(day)));
        assert_eq!(names, ["20220809", "20220809", "2022W32", "202208", "total"]);
        assert_eq!(name(Name::of_hour(day, hour)), "2022080914");
        assert_eq!(name(Name::UNIQUE), "unique");
    }

    #[test]
    fn a_week_over_the_new_year_is_one_bucket() {
        let mut bars = Bars::with_capacity(1);
        for date in day("20241229").to(day("20250105")) {
            assert_eq!(bars.add(Bucket::Week.name(date), 1), Ok(()));
        }
        let weeks: Vec<_> = bars.iter().collect();
        assert_eq!(weeks, [(&b"2024W52"[..], 1), (b"2025W01", 7)]);
    }

    #[test]
    fn a_cap_counts_from_a_day_that_is_neither_after_the_hit_nor_too_long_before() {
        let hit = day("20230809");
        assert_eq!(CapSpan::since(hit, hit), Ok(CapSpan::Since(hit)));
        assert_eq!(CapSpan::since(day("20220808"), hit), Ok(CapSpan::Since(day("20220808"))), "366 days before");
        assert_eq!(CapSpan::since(day("20220807"), hit), Err(SinceError::TooLongAgo));
        assert_eq!(CapSpan::since(day("20230810"), hit), Err(SinceError::AfterHit));
        assert_eq!(CapSpan::Since(hit).days(hit), (hit, Day::LAST), "what follows counts, too");
        assert_eq!(CapSpan::Month.days(day("20240229")), (day("20240201"), day("20240229")));
        assert_eq!(CapSpan::Hour.days(hit), (hit, hit));
    }

    #[test]
    fn a_cap_needs_all_of_its_days() {
        let hit = day("20220809");
        let since = CapSpan::Since(day("20220717"));
        let kept = |span: CapSpan, retention, now| span.ensure_kept(hit, retention, now);
        assert_eq!(kept(since, 0, Millis(i64::MAX)), Ok(()), "kept for ever");
        assert_eq!(kept(since, 23, hit.start()), Err(NotKept::TooShort { needed: 24 }));
        assert_eq!(kept(since, 24, hit.start()), Ok(()));
        let expires = Millis(day("20220717").end().0 + 24 * MILLIS_PER_DAY);
        assert_eq!(kept(since, 24, Millis(expires.0 - 1)), Ok(()));
        assert_eq!(kept(since, 24, expires), Err(NotKept::Expired), "a late hit");
        assert_eq!(kept(CapSpan::Month, 30, hit.start()), Err(NotKept::TooShort { needed: 31 }));
        assert_eq!(kept(CapSpan::Month, 31, hit.start()), Ok(()));
        assert_eq!(kept(CapSpan::Day, 1, Millis(i64::MAX)), Ok(()));
        assert_eq!(kept(CapSpan::Hour, 1, Millis(i64::MAX)), Ok(()));
    }

    proptest! {
        #[test]
        fn bars_are_the_sums_by_name_without_zeros(
            from in 19_000_101..20_990_101u32,
            counts in prop::collection::vec(0..4i64, 0..100),
            by in prop::sample::select(vec![Bucket::Day, Bucket::Week, Bucket::Month, Bucket::Total]),
        ) {
            let Some(from) = Day::parse(from.to_string().as_bytes()) else { return Ok(()) };
            let (mut bars, mut expected) = (Bars::default(), BTreeMap::new());
            for (date, &count) in from.to(Day::LAST).zip(&counts) {
                prop_assert_eq!(bars.add(by.name(date), count), Ok(()));
                if count > 0 {
                    *expected.entry(name(by.name(date))).or_insert(0) += count;
                }
            }
            let bars: Vec<_> = bars.iter().map(|(name, n)| (String::from_utf8_lossy(name).into_owned(), n)).collect();
            prop_assert_eq!(bars, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_bucket_never_wraps(first in 1..=i64::MAX, second in 1..=i64::MAX) {
            let mut bars = Bars::default();
            prop_assert_eq!(bars.add(Name::TOTAL, first), Ok(()));
            let fits = first.checked_add(second);
            prop_assert_eq!(bars.add(Name::TOTAL, second).is_ok(), fits.is_some());
            prop_assert_eq!(bars.iter().next(), Some((&b"total"[..], fits.unwrap_or(first))));
        }
    }
}
