//! UTC days and hours of the proleptic Gregorian calendar, as they are written in keys and replies.

use crate::time::Millis;

use super::number::{PAIRS, parse_eight};

/// Milliseconds in an hour; UTC without leap seconds, as Unix time has it.
pub const MILLIS_PER_HOUR: i64 = 3_600_000;
/// Milliseconds in a day.
pub const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;

/// Days in a hundred years, the longest retention and the furthest that a hit may lie ahead.
pub const DAYS_PER_CENTURY: i64 = 36_525;

/// The earliest instant at which something can be counted, in 1973. A smaller number of milliseconds is most often a
/// timestamp in seconds.
pub const OLDEST: Millis = Millis(100_000_000_000);

/// The first millisecond after the year 9999, the last that eight digits can write.
pub const END_OF_TIME: Millis = Millis(253_402_300_800_000);

/// A day of the years 1 to 9999, stored as the number `yyyymmdd` that it is written as: order is the calendar's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

/// A month of the years 1 to 9999, stored as the number `yyyymm` that it is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(u32);

/// A week of the ISO calendar (ISO 8601), from Monday to Sunday, stored as its year times 100 plus its number: order is
/// the calendar's. Its year is that of its Thursday, its number 1..=53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Week(u32);

/// An hour of a day, 0..=23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(u8);

/// The hours as text.
pub const HOURS: [&str; 24] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23",
];

impl Hour {
    /// The hour `number`, if it is 0..=23.
    pub fn new(number: u8) -> Option<Self> {
        (number < 24).then_some(Self(number))
    }

    /// Every hour of a day, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..24).map(Self)
    }

    /// Its number as text, not padded.
    pub fn text(self) -> &'static str {
        HOURS[usize::from(self.0)]
    }

    /// Its number, 0..=23.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The UTC day and hour of an instant, which lies between the epoch and the year 9999.
pub fn day_and_hour(at: Millis) -> (Day, Hour) {
    debug_assert!((0..END_OF_TIME.0).contains(&at.0));
    let hours = at.0 / MILLIS_PER_HOUR;
    #[expect(clippy::cast_sign_loss, reason = "0..=23")]
    let hour = (hours % 24) as u8;
    (Day::from_days(hours / 24), Hour(hour))
}

impl Month {
    /// A month written `202208`; `None` for any other text and for months that do not exist.
    pub fn parse_digits(text: &[u8]) -> Option<Self> {
        let first: [u8; 6] = text.try_into().ok()?;
        Day::parse_digits(&[&first[..], b"01"].concat()).map(Day::month)
    }

    /// The digits `202208`.
    pub fn digits(self) -> [u8; 6] {
        digits(self.0)
    }

    /// The number 202208.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its first day.
    pub fn first(self) -> Day {
        Day(self.0 * 100 + 1)
    }

    /// Its last day.
    pub fn last(self) -> Day {
        let lengths = [31, 30, 29, 28].map(|day| Day(self.0 * 100 + day));
        lengths.into_iter().find(|day| day.exists()).unwrap_or(self.first())
    }

    /// The month after it.
    pub fn next(self) -> Self {
        Self(if self.0 % 100 == 12 { self.0 + 89 } else { self.0 + 1 })
    }

    /// The month before it.
    pub fn previous(self) -> Self {
        Self(if self.0 % 100 == 1 { self.0 - 89 } else { self.0 - 1 })
    }

    /// The month of the same name `years` years later, or earlier if `years` is negative. Years 1 to 9999 only.
    pub(crate) fn plus_years(self, years: i32) -> Self {
        Self(self.0.saturating_add_signed(years * 100))
    }

    /// The month of the same name as `named`, in the year of this one.
    pub(crate) fn in_year(self, named: Self) -> Self {
        Self(self.0 / 100 * 100 + named.0 % 100)
    }

    /// The day with this number (1..=31) in it; its last day if it has fewer.
    pub fn day(self, number: u32) -> Day {
        debug_assert!((1..=31).contains(&number));
        Day(self.0 * 100 + number).min(self.last())
    }
}

impl Week {
    /// The text `2022W32`.
    pub fn text(self) -> [u8; 7] {
        let [a, b, c, d, e, f] = digits(self.0);
        [a, b, c, d, b'W', e, f]
    }

    /// Its year, 1..=9999, which near the new year need not be that of its days.
    pub fn year(self) -> u32 {
        self.0 / 100
    }

    /// Its number in its year, 1..=53.
    pub fn number(self) -> u32 {
        self.0 % 100
    }
}

/// The last digits of a number; `N` is even.
fn digits<const N: usize>(mut number: u32) -> [u8; N] {
    let mut digits = [b'0'; N];
    for pair in digits.as_chunks_mut::<2>().0.iter_mut().rev() {
        *pair = PAIRS[(number % 100) as usize];
        number /= 100;
    }
    digits
}

impl Day {
    /// The first day of the calendar, in the year 1.
    pub const FIRST: Self = Self(10_101);
    /// The last day of the calendar, in the year 9999.
    pub const LAST: Self = Self(99_991_231);

    /// A date written `20220809` or `2022-08-09`; `None` for any other text and for days that do not exist.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; 8] = match *text {
            [a, b, c, d, b'-', e, f, b'-', g, h] => [a, b, c, d, e, f, g, h],
            [a, b, c, d, e, f, g, h] => [a, b, c, d, e, f, g, h],
            _ => return None,
        };
        let day = Self(parse_eight(digits)?);
        day.exists().then_some(day)
    }

    /// The same for the form in keys alone, `20220809`.
    pub fn parse_digits(text: &[u8]) -> Option<Self> {
        Self::parse(text).filter(|_| text.len() == 8)
    }

    /// The digits `20220809`.
    pub fn digits(self) -> [u8; 8] {
        digits(self.0)
    }

    /// The number 20220809, as the index scores it.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its first millisecond.
    pub fn start(self) -> Millis {
        Millis(self.days() * MILLIS_PER_DAY)
    }

    /// The day in which an instant of the years 1 to 9999 lies.
    pub fn of(at: Millis) -> Self {
        Self::from_days(at.0.div_euclid(MILLIS_PER_DAY))
    }

    /// The first millisecond after the day.
    pub fn end(self) -> Millis {
        Millis((self.days() + 1) * MILLIS_PER_DAY)
    }

    /// Its month.
    pub fn month(self) -> Month {
        Month(self.0 / 100)
    }

    /// The day before it, if the calendar has one.
    pub fn previous(self) -> Option<Self> {
        (self > Self::FIRST).then(|| Self::from_days(self.days() - 1))
    }

    /// The day `days` days after it, or before it if `days` is negative; `None` outside of the years 1 to 9999.
    pub fn plus_days(self, days: i64) -> Option<Self> {
        let days = self.days().checked_add(days)?;
        (Self::FIRST.days()..=Self::LAST.days()).contains(&days).then(|| Self::from_days(days))
    }

    /// How many days after this one `other` comes; negative if it comes before it.
    pub fn days_between(self, other: Self) -> i64 {
        other.days() - self.days()
    }

    /// Its number in its month, 1..=31.
    pub fn of_month(self) -> u32 {
        self.0 % 100
    }

    /// How many days after Monday it comes, 0..=6.
    pub fn weekday(self) -> i64 {
        // The epoch was a Thursday.
        (self.days() + 3).rem_euclid(7)
    }

    /// The Monday of its week. The calendar begins with one.
    pub fn monday(self) -> Self {
        Self::from_days(self.days() - self.weekday())
    }

    /// Its week. That of the calendar's last days is cut off after its Friday.
    pub fn week(self) -> Week {
        let thursday = self.days() - self.weekday() + 3;
        let year = Self::from_days(thursday).0 / 10_000;
        let first = Self(year * 10_000 + 101).days();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=53")]
        let number = ((thursday - first) / 7 + 1) as u32;
        Week(year * 100 + number)
    }

    /// How many days there are from this one to `last`, both counted; 0 if `last` comes before it.
    pub fn days_to(self, last: Self) -> u64 {
        u64::try_from(last.days() - self.days() + 1).unwrap_or(0)
    }

    /// The days from this one to `last`.
    pub fn to(self, last: Self) -> impl Iterator<Item = Self> {
        (self.days()..=last.days()).map(Self::from_days)
    }

    fn exists(self) -> bool {
        let (year, month, day) = (self.0 / 10_000, self.0 / 100 % 100, self.0 % 100);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return false,
        };
        year >= 1 && (1..=last).contains(&day)
    }

    /// Days since the epoch. Years are counted from March, so that the leap day comes last, in eras of 400 years.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    fn days(self) -> i64 {
        let number = i64::from(self.0);
        let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// The inverse of [`Day::days`]; the same source, civil_from_days. From the year 1 on nothing is negative.
    fn from_days(days: i64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "years 1 to 9999 only")]
        let days = (days + 719_468) as u32;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u32::from(month <= 2);
        Self(year * 10_000 + month * 100 + day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate, Timelike};
    use proptest::prelude::*;

    fn oracle(date: NaiveDate) -> Day {
        Day::parse(date.format("%Y%m%d").to_string().as_bytes()).expect("a day that exists")
    }

    #[test]
    fn every_day_of_ten_thousand_years_agrees_with_chrono() {
        let mut date = NaiveDate::from_ymd_opt(1, 1, 1).expect("a date");
        let mut previous = None;
        while date.year() <= 9999 {
            let day = oracle(date);
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            assert_eq!(day.days(), days);
            assert_eq!(Day::from_days(days), day);
            assert_eq!(day.end().0, (days + 1) * MILLIS_PER_DAY);
            assert_eq!(day.digits().as_slice(), date.format("%Y%m%d").to_string().as_bytes());
            assert_eq!(Day::parse(date.format("%Y-%m-%d").to_string().as_bytes()), Some(day));
            let month = day.month();
            assert_eq!(i64::from(month.number()), i64::from(date.year()) * 100 + i64::from(date.month()));
            assert_eq!(month.digits().as_slice(), date.format("%Y%m").to_string().as_bytes());
            assert_eq!(month.first(), oracle(date.with_day(1).expect("a first day")));
            assert_eq!(day.previous(), previous);
            assert_eq!(day.of_month(), date.day());
            assert_eq!(
                (day.start().0, Day::of(day.start()), Day::of(Millis(day.end().0 - 1))),
                (days * MILLIS_PER_DAY, day, day)
            );
            assert_eq!(day.week().text().as_slice(), date.format("%GW%V").to_string().as_bytes());
            assert_eq!(
                (day.week().year(), day.week().number()),
                (u32::try_from(date.iso_week().year()).expect("a year"), date.iso_week().week())
            );
            assert_eq!(day.weekday(), i64::from(date.weekday().num_days_from_monday()));
            assert_eq!((day.monday().week(), day.monday().weekday()), (day.week(), 0));
            assert!((0..7).contains(&day.monday().days_between(day)));
            assert!(previous.is_none_or(|previous: Day| previous.week() <= day.week()), "order is the calendar's");
            if let Some(next) = date.succ_opt().filter(|next| next.year() <= 9999 && next.day() == 1) {
                assert_eq!(month.last(), day);
                assert_eq!(month.next(), oracle(next).month());
                assert_eq!(month.next().previous(), month);
                assert_eq!(
                    [28, 29, 30, 31].map(|number| month.day(number)),
                    [28, 29, 30, 31].map(|number| { oracle(date.with_day(number).unwrap_or(date)) })
                );
            }
            assert!(previous < Some(day), "order is the calendar's");
            previous = Some(day);
            date = date.succ_opt().expect("a next day");
        }
    }

    #[test]
    fn every_number_of_eight_digits_is_a_day_exactly_if_chrono_has_it() {
        // Two full eras: the rules of the calendar repeat after 400 years.
        for number in 19_000_000u32..27_010_000 {
            let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
            let exists = NaiveDate::from_ymd_opt(i32::try_from(year).expect("small"), month, day).is_some();
            assert_eq!(Day::parse(number.to_string().as_bytes()).is_some(), exists, "{number}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in ["", "2022089", "202208090", "2022-8-9", "2022/08/09", "2022-0809", "00000101", "-2022080", "today"]
        {
            assert_eq!(Day::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_span_has_every_day_once() {
        let day = |text: &str| Day::parse(text.as_bytes()).expect("a day that exists");
        let (from, to) = (day("20200227"), day("20200302"));
        let days: Vec<u32> = from.to(to).map(Day::number).collect();
        assert_eq!(days, [20_200_227, 20_200_228, 20_200_229, 20_200_301, 20_200_302]);
        assert_eq!((from.days_to(to), from.days_to(from), to.days_to(from)), (5, 1, 0));
        assert_eq!(Day::FIRST.days_to(Day::LAST), 3_652_059);
    }

    #[test]
    fn weeks_go_over_the_new_year() {
        let week = |text: &str| Day::parse(text.as_bytes()).map(|day| String::from_utf8(day.week().text().to_vec()));
        for (day, expected) in [
            ("20220809", "2022W32"),
            ("20210103", "2020W53"),
            ("20210104", "2021W01"),
            ("20240101", "2024W01"),
            ("20241230", "2025W01"),
            ("20230101", "2022W52"),
            ("00010101", "0001W01"),
            ("99991231", "9999W52"),
        ] {
            assert_eq!(week(day), Some(Ok(expected.to_string())), "{day}");
        }
    }

    #[test]
    fn the_constants_are_what_they_say() {
        assert_eq!(MILLIS_PER_DAY, 86_400_000);
        let century =
            NaiveDate::from_ymd_opt(2100, 1, 1).expect("a date") - NaiveDate::from_ymd_opt(2000, 1, 1).expect("a date");
        assert_eq!(century.num_days(), DAYS_PER_CENTURY);
        assert_eq!(day_and_hour(OLDEST).0.number(), 19_730_303);
    }

    #[test]
    fn the_year_9999_is_the_last() {
        let (day, hour) = day_and_hour(Millis(END_OF_TIME.0 - 1));
        assert_eq!((day.number(), hour.number()), (99_991_231, 23));
        assert_eq!(day.end(), END_OF_TIME);
    }

    proptest! {
        #[test]
        fn the_hour_of_every_instant_agrees_with_chrono(at in 0..END_OF_TIME.0) {
            let instant = chrono::DateTime::from_timestamp_millis(at).expect("an instant");
            let (day, hour) = day_and_hour(Millis(at));
            prop_assert_eq!(day, oracle(instant.date_naive()));
            prop_assert_eq!(u32::from(hour.number()), instant.hour());
        }

        #[test]
        fn days_are_added_as_chrono_adds_them(from in -719_162..=2_932_896i64, days in prop_oneof![-4_000_000..4_000_000i64, any::<i64>()]) {
            let day = Day::from_days(from);
            let date = NaiveDate::default() + chrono::TimeDelta::days(from);
            let sum = chrono::TimeDelta::try_days(days).and_then(|days| date.checked_add_signed(days));
            let expected = sum.filter(|sum| (1..=9999).contains(&sum.year())).map(oracle);
            prop_assert_eq!(day.plus_days(days), expected);
            prop_assert!(expected.is_none_or(|sum| day.days_between(sum) == days));
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = Day::parse(&text);
        }
    }
}
