//! The calendar quota: at most `limit` cells in each hour, day, week, month or year of a local clock, which may begin
//! on a billing date instead of the first. Its state is a window's, whose end is the calendar's.

use crate::calendar::{Day, END_OF_TIME, MILLIS_PER_DAY, MILLIS_PER_HOUR, Month};
use crate::time::{Millis, Nanos};
use crate::window::Window;

use super::answer::{Answer, Decision, Next, TooLong};

/// The largest count of a quota, and so the largest limit: 2⁵³.
pub const MOST: i64 = 1 << 53;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From full hour to full hour of the local clock.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday, or the anchor's day of the week.
    Week,
    /// From the 1st, or the anchor's day of the month; from the last day of a month that has no such day.
    Month,
    /// From 1 January, or the anchor's month and day; from 28 February in a year that has no 29.
    Year,
}

/// How far a local clock is ahead of UTC, in minutes: −23:59 to +23:59.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i16);

impl Offset {
    /// The clock of UTC.
    pub const UTC: Self = Self(0);

    /// An offset written `+05:45` or `-03:30`; `None` for any other text and beyond 23:59.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = text else { return None };
        if ![h1, h2, m1, m2].iter().all(u8::is_ascii_digit) {
            return None;
        }
        let two = |tens: u8, ones: u8| i16::from(tens - b'0') * 10 + i16::from(ones - b'0');
        let (hours, minutes) = (two(h1, h2), two(m1, m2));
        let ahead = hours * 60 + minutes;
        (hours < 24 && minutes < 60).then_some(Self(if sign == b'-' { -ahead } else { ahead }))
    }

    /// Its minutes, −1439..=1439.
    pub fn minutes(self) -> i16 {
        self.0
    }

    fn millis(self) -> i64 {
        i64::from(self.0) * 60_000
    }
}

/// Hours have no anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnchorInHours;

/// When the units of a quota begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    unit: Unit,
    /// Only its position in the unit counts.
    anchor: Day,
    offset: Offset,
}

impl Calendar {
    /// The calendar whose units begin at the position of the local date `anchor` in the unit: its day of the week, of
    /// the month, of the year. For days it has no effect. `None` is Monday, the 1st, 1 January.
    ///
    /// # Errors
    /// An anchor with [`Unit::Hour`].
    pub fn new(unit: Unit, anchor: Option<Day>, offset: Offset) -> Result<Self, NoAnchorInHours> {
        if unit == Unit::Hour && anchor.is_some() {
            return Err(NoAnchorInHours);
        }
        // The calendar's first day is a Monday, the 1st, 1 January.
        Ok(Self { unit, anchor: anchor.unwrap_or(Day::FIRST), offset })
    }

    /// The first millisecond of the unit in which `now` lies, and the first after it.
    ///
    /// # Errors
    /// If `now` lies before the epoch, or the unit may end after the year 9999.
    pub fn bounds(&self, now: Millis) -> Result<(Millis, Millis), TooLong> {
        if !(0..END_OF_TIME.0 - 2 * 366 * MILLIS_PER_DAY).contains(&now.0) {
            return Err(TooLong);
        }
        let local = Millis(now.0 + self.offset.millis());
        let (start, end) = match self.unit {
            Unit::Hour => {
                let start = local.0 - local.0.rem_euclid(MILLIS_PER_HOUR);
                (Millis(start), Millis(start + MILLIS_PER_HOUR))
            }
            Unit::Day => (Day::of(local).start(), Day::of(local).end()),
            Unit::Week => {
                let day = Day::of(local);
                let past = (day.weekday() - self.anchor.weekday()).rem_euclid(7);
                let start = day.start().0 - past * MILLIS_PER_DAY;
                (Millis(start), Millis(start + 7 * MILLIS_PER_DAY))
            }
            Unit::Month => self.between(Day::of(local), Month::previous, Month::next),
            Unit::Year => self.between(Day::of(local), |month| month.plus_years(-1), |month| month.plus_years(1)),
        };
        let utc = |local: Millis| Millis(local.0 - self.offset.millis());
        Ok((utc(start), utc(end)))
    }

    /// The last start of a unit up to `day`, and the next; units begin in months that follow each other by these steps.
    fn between(&self, day: Day, before: fn(Month) -> Month, after: fn(Month) -> Month) -> (Millis, Millis) {
        let month = if self.unit == Unit::Year { day.month().in_year(self.anchor.month()) } else { day.month() };
        let start = |month: Month| month.day(self.anchor.of_month());
        let (first, next) = if start(month) <= day { (month, after(month)) } else { (before(month), month) };
        (start(first).start(), start(next).start())
    }
}

/// The limit of each unit, and when units begin.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// 1..=[`MOST`].
    pub limit: i64,
    /// When units begin and end.
    pub calendar: Calendar,
}

impl Policy {
    /// The result of a call for `quantity` cells at `now`: positive takes, 0 is a dry run, negative is a refund. Any
    /// call gives a count without an end the unit's end. A count that ends after its unit (a longer unit stored it) is
    /// read as ending with it, and cut to that by a call that takes or refunds; one that ends before keeps its end. A
    /// count of 0, which other programs may store, is treated as absent.
    ///
    /// # Errors
    /// If the unit's end does not fit, or `now` lies before the epoch.
    pub fn decide(&self, stored: Option<Window>, now: Millis, quantity: i64) -> Result<Decision<Window>, TooLong> {
        let (_, unit_end) = self.calendar.bounds(now)?;
        if unit_end.nanos() >= Nanos(i64::MAX) {
            return Err(TooLong);
        }
        let live = stored.filter(|window| window.end.is_none_or(|end| end > now));
        let used = live.filter(|window| window.count > 0);
        let count = used.map_or(0, |window| window.count);
        let end = used.and_then(|window| window.end).map_or(unit_end, |end| end.min(unit_end));
        let untouched = match live {
            Some(Window { count, end: None }) => Next::Store(Window { count, end: Some(unit_end) }),
            Some(window) if quantity != 0 && window.end > Some(unit_end) => {
                Next::Store(Window { end: Some(unit_end), ..window })
            }
            _ => Next::Keep,
        };

        let fitting = (self.limit - count).max(0);
        let (limited, left, next) = if quantity > fitting {
            (true, count, untouched)
        } else if quantity > 0 {
            let left = count + quantity;
            (false, left, Next::Store(Window { count: left, end: Some(end) }))
        } else if quantity == 0 {
            (false, count, untouched)
        } else {
            let left = count.saturating_add(quantity).max(0);
            let next = match stored {
                None => Next::Keep,
                Some(_) if left == 0 => Next::Clear,
                Some(_) => Next::Store(Window { count: left, end: Some(end) }),
            };
            (false, left, next)
        };

        let reset_after = Millis(if left > 0 { end.0 - now.0 } else { 0 }).nanos();
        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: (self.limit - left).max(0),
            retry_after: (limited && quantity <= self.limit).then_some(reset_after),
            reset_after,
        };
        Ok(Decision { answer, next })
    }
}

#[cfg(test)]
mod tests;
