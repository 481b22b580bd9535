//! Units of time, as rules and the protocol of Envoy name them.

use std::time::Duration;

use redis_meter_client::Unit as CalendarUnit;

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A second.
    Second = 1,
    /// A minute.
    Minute = 2,
    /// An hour.
    Hour = 3,
    /// A day.
    Day = 4,
    /// Thirty days, or a calendar month of a quota.
    Month = 5,
    /// 365 days, or a calendar year of a quota.
    Year = 6,
    /// Seven days, or a week from Monday on of a quota.
    Week = 7,
}

const ALL: [(&str, Unit); 7] = [
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("year", Unit::Year),
];

impl Unit {
    /// For error messages.
    pub(super) const NAMES: &str = "second, minute, hour, day, week, month or year";

    /// By its name, in any case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, unit)| *unit)
    }

    /// By its number in the protocol.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        ALL.iter().find(|(_, unit)| *unit as i32 == number).map(|(_, unit)| *unit)
    }

    /// The unit that is exactly so long.
    pub(crate) fn of_span(span: Duration) -> Option<Self> {
        ALL.iter().find(|(_, unit)| unit.span() == span).map(|(_, unit)| *unit)
    }

    /// Its length.
    pub(super) fn span(self) -> Duration {
        const DAY: u64 = 24 * 60 * 60;
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        })
    }

    /// The same of the calendar.
    pub(super) fn of_calendar(self) -> Option<CalendarUnit> {
        match self {
            Self::Second | Self::Minute => None,
            Self::Hour => Some(CalendarUnit::Hour),
            Self::Day => Some(CalendarUnit::Day),
            Self::Week => Some(CalendarUnit::Week),
            Self::Month => Some(CalendarUnit::Month),
            Self::Year => Some(CalendarUnit::Year),
        }
    }
}
