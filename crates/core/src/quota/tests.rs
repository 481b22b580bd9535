//! The promises of a calendar quota: units that begin and end where chrono's calendar has them, to the millisecond, on
//! any local clock; never more than the limit in one; and the contract's rules on any stored state.

use super::*;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The last end that fits in 2⁶³ ns.
const LAST: i64 = i64::MAX / 1_000_000;
/// 9 August 2022, 12:00 UTC.
const NOON: i64 = 1_660_046_400_000;

/// The calendar as a model: every date is tried whether a unit begins on it.
#[derive(Clone, Copy, Debug)]
struct Terms {
    unit: Unit,
    anchor: Option<NaiveDate>,
    minutes: i16,
}

impl Terms {
    fn calendar(self) -> Calendar {
        let text = format!(
            "{}{:02}:{:02}",
            if self.minutes < 0 { '-' } else { '+' },
            self.minutes.abs() / 60,
            self.minutes.abs() % 60
        );
        let offset = Offset::parse(text.as_bytes()).expect("an offset");
        assert_eq!(offset.minutes(), self.minutes);
        Calendar::new(self.unit, self.anchor.map(day), offset).expect("no anchor in hours")
    }

    fn begins_on(self, date: NaiveDate) -> bool {
        let anchor = self.anchor.unwrap_or(date_of(2024, 1, 1));
        let last_of_month = (date.day()..=31).filter_map(|day| date.with_day(day)).max().expect("the date at least");
        let on_its_day = date.day() == anchor.day().min(last_of_month.day());
        match self.unit {
            Unit::Hour | Unit::Day => true,
            Unit::Week => date.weekday() == anchor.weekday(),
            Unit::Month => on_its_day,
            Unit::Year => on_its_day && date.month() == anchor.month(),
        }
    }

    fn bounds(self, now: i64) -> (i64, i64) {
        let shift = TimeDelta::minutes(self.minutes.into());
        let local = DateTime::from_timestamp_millis(now).expect("an instant").naive_utc() + shift;
        let millis = |local: NaiveDateTime| (local - shift).and_utc().timestamp_millis();
        if self.unit == Unit::Hour {
            let start = local.date().and_hms_opt(local.hour(), 0, 0).expect("a full hour");
            return (millis(start), millis(start + TimeDelta::hours(1)));
        }
        let midnight = |date: NaiveDate| millis(date.and_hms_opt(0, 0, 0).expect("midnight"));
        let mut start = local.date();
        while !self.begins_on(start) {
            start = start.pred_opt().expect("a day before");
        }
        let mut end = local.date().succ_opt().expect("a day after");
        while !self.begins_on(end) {
            end = end.succ_opt().expect("a day after");
        }
        (midnight(start), midnight(end))
    }
}

fn date_of(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a date")
}

fn day(date: NaiveDate) -> Day {
    Day::parse(date.format("%Y%m%d").to_string().as_bytes()).expect("a day")
}

fn date() -> impl Strategy<Value = NaiveDate> {
    let any_day = (-719_162..=2_932_896i64).prop_map(|days| NaiveDate::default() + TimeDelta::days(days));
    let late = (select(vec![2000, 2022, 2023, 2024, 2100]), 1..=12u32, 28..=31u32)
        .prop_filter_map("a day that exists", |(year, month, day)| NaiveDate::from_ymd_opt(year, month, day));
    prop_oneof![1 => any_day, 2 => late]
}

fn terms() -> impl Strategy<Value = Terms> {
    let unit = select(vec![Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year]);
    let minutes = prop_oneof![2 => Just(0), 1 => select(vec![345, -210, 1_439, -1_439, 840]), 2 => -1_439..=1_439i16];
    (unit, proptest::option::weighted(0.8, date()), minutes).prop_map(|(unit, anchor, minutes)| Terms {
        unit,
        anchor: anchor.filter(|_| unit != Unit::Hour),
        minutes,
    })
}

/// Instants of the years 1970 to 2261, mostly close to midnight.
fn instant() -> impl Strategy<Value = i64> {
    let near_midnight = (0..106_000i64, -1_440..=1_440i64, -2..=2i64)
        .prop_map(|(days, minutes, millis)| (days * MILLIS_PER_DAY + minutes * 60_000 + millis).max(0));
    prop_oneof![1 => 0..9_190_000_000_000i64, 2 => near_midnight]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn units_begin_and_end_where_chrono_has_them(terms in terms(), now in instant()) {
        let calendar = terms.calendar();
        let (start, end) = terms.bounds(now);
        let expected = Ok((Millis(start), Millis(end)));
        prop_assert_eq!(calendar.bounds(Millis(now)), expected);
        if start >= 0 {
            prop_assert_eq!(calendar.bounds(Millis(start)), expected, "the first millisecond");
        }
        prop_assert_eq!(calendar.bounds(Millis(end - 1)), expected, "the last millisecond");
        prop_assert_eq!(calendar.bounds(Millis(end)).map(|next| next.0), Ok(Millis(end)), "no gap");
    }

    #[test]
    fn only_signed_hours_and_minutes_are_an_offset(text in "[-+]?[0-9:]{0,6}") {
        let is_offset = text.len() == 6 && text.starts_with(['+', '-']) && &text[3..4] == ":"
            && text[1..3].parse::<u8>().is_ok_and(|hours| hours <= 23)
            && text[4..].parse::<u8>().is_ok_and(|minutes| minutes <= 59)
            && text[1..].bytes().filter(u8::is_ascii_digit).count() == 4;
        prop_assert_eq!(Offset::parse(text.as_bytes()).is_some(), is_offset);
    }

    #[test]
    fn no_instant_panics(terms in terms(), now: i64, stored: i64, quantity: i64) {
        let policy = Policy { limit: 3, calendar: terms.calendar() };
        let _ = policy.decide(Some(Window { count: 2, end: Some(Millis(stored)) }), Millis(now), quantity);
        prop_assert_eq!(policy.calendar.bounds(Millis(now.min(-1))), Err(TooLong));
    }
}

#[test]
fn offsets_are_signed_and_less_than_a_day() {
    let minutes = |text: &str| Offset::parse(text.as_bytes()).map(Offset::minutes);
    for (text, expected) in [
        ("+05:45", Some(345)),
        ("-03:30", Some(-210)),
        ("+23:59", Some(1_439)),
        ("-23:59", Some(-1_439)),
        ("+00:00", Some(0)),
        ("-00:00", Some(0)),
        ("+24:00", None),
        ("+05:60", None),
        ("05:45", None),
        ("+5:45", None),
        ("+0545", None),
        ("+05:45 ", None),
        ("+-5:45", None),
        ("Z", None),
        ("", None),
    ] {
        assert_eq!(minutes(text), expected, "{text:?}");
    }
    assert_eq!(Offset::UTC, Offset::default());
}

#[test]
fn an_hour_has_no_anchor() {
    let anchor = Some(day(date_of(2022, 7, 31)));
    assert_eq!(Calendar::new(Unit::Hour, anchor, Offset::UTC), Err(NoAnchorInHours));
    assert!(Calendar::new(Unit::Hour, None, Offset::UTC).is_ok());
    for unit in [Unit::Day, Unit::Week, Unit::Month, Unit::Year] {
        assert!(Calendar::new(unit, anchor, Offset::UTC).is_ok());
    }
}

/// The first and the last day of the unit that is at noon of a day.
fn days(unit: Unit, anchor: Option<(i32, u32, u32)>, (year, month, of_month): (i32, u32, u32)) -> [String; 2] {
    let anchor = anchor.map(|(year, month, of_month)| day(date_of(year, month, of_month)));
    let noon = date_of(year, month, of_month).and_hms_opt(12, 0, 0).expect("noon").and_utc().timestamp_millis();
    let calendar = Calendar::new(unit, anchor, Offset::UTC).expect("no anchor in hours");
    let (start, end) = calendar.bounds(Millis(noon)).expect("a year that fits");
    [start.0, end.0 - 1].map(|at| DateTime::from_timestamp_millis(at).expect("an instant").date_naive().to_string())
}

#[test]
fn anchors_at_the_end_of_a_month_are_clamped_to_its_last_day() {
    let anchor = Some((2022, 7, 31));
    assert_eq!(days(Unit::Month, anchor, (2022, 8, 9)), ["2022-07-31", "2022-08-30"]);
    assert_eq!(days(Unit::Month, anchor, (2022, 9, 1)), ["2022-08-31", "2022-09-29"]);
    assert_eq!(days(Unit::Month, anchor, (2022, 9, 30)), ["2022-09-30", "2022-10-30"]);
    assert_eq!(days(Unit::Month, anchor, (2023, 2, 28)), ["2023-02-28", "2023-03-30"]);
    assert_eq!(days(Unit::Month, anchor, (2024, 2, 28)), ["2024-01-31", "2024-02-28"]);
    assert_eq!(days(Unit::Month, anchor, (2024, 2, 29)), ["2024-02-29", "2024-03-30"]);
    assert_eq!(days(Unit::Month, Some((2020, 1, 29)), (2023, 3, 1)), ["2023-02-28", "2023-03-28"]);
    assert_eq!(days(Unit::Month, Some((2020, 1, 30)), (2024, 3, 1)), ["2024-02-29", "2024-03-29"]);
    assert_eq!(days(Unit::Month, Some((2099, 1, 17)), (2022, 1, 5)), ["2021-12-17", "2022-01-16"], "it may lie ahead");
}

#[test]
fn years_may_begin_on_any_date_also_on_the_leap_day() {
    let leap_day = Some((2024, 2, 29));
    assert_eq!(days(Unit::Year, None, (2022, 8, 9)), ["2022-01-01", "2022-12-31"]);
    assert_eq!(days(Unit::Year, Some((2020, 4, 6)), (2022, 4, 5)), ["2021-04-06", "2022-04-05"]);
    assert_eq!(days(Unit::Year, leap_day, (2023, 2, 27)), ["2022-02-28", "2023-02-27"]);
    assert_eq!(days(Unit::Year, leap_day, (2023, 2, 28)), ["2023-02-28", "2024-02-28"]);
    assert_eq!(days(Unit::Year, leap_day, (2024, 2, 29)), ["2024-02-29", "2025-02-27"]);
}

#[test]
fn weeks_begin_on_monday_or_the_anchors_day_and_go_over_the_new_year() {
    assert_eq!(days(Unit::Week, None, (2023, 1, 1)), ["2022-12-26", "2023-01-01"]);
    assert_eq!(days(Unit::Week, None, (2023, 1, 2)), ["2023-01-02", "2023-01-08"]);
    assert_eq!(days(Unit::Week, Some((2022, 8, 7)), (2024, 1, 1)), ["2023-12-31", "2024-01-06"], "from Sunday");
}

#[test]
fn the_boundary_is_exact_to_the_millisecond_on_a_clock_of_5_45() {
    let offset = Offset::parse(b"+05:45").expect("an offset");
    let calendar = Calendar::new(Unit::Day, None, offset).expect("no anchor");
    // Midnight in Kathmandu is 18:15 UTC.
    let midnight = Millis(NOON + (6 * 60 + 15) * 60_000);
    assert_eq!(calendar.bounds(Millis(midnight.0 - 1)).map(|(_, end)| end), Ok(midnight));
    assert_eq!(calendar.bounds(midnight).map(|(start, _)| start), Ok(midnight));
    let hours = Calendar::new(Unit::Hour, None, offset).expect("no anchor");
    assert_eq!(hours.bounds(Millis(NOON)), Ok((Millis(NOON - 45 * 60_000), Millis(NOON + 15 * 60_000))));
}

/// The rules of the contract on a stored count, in 128 bits: the answer, and what is stored afterwards.
fn by_the_rules(
    limit: i64,
    stored: Option<Window>,
    (now, unit_end): (i64, i64),
    quantity: i64,
) -> (Answer, Option<Window>) {
    let live = stored.filter(|window| window.end.is_none_or(|Millis(end)| end > now));
    let (count, end) = match live {
        Some(Window { count: count @ 1.., end }) => (count, end.map_or(unit_end, |Millis(end)| end.min(unit_end))),
        _ => (0, unit_end),
    };
    let (taken, cells) = (i128::from(count), i128::from(quantity));
    let limited = cells > 0 && taken + cells > i128::from(limit);
    let left = if limited { taken } else { (taken + cells).max(0) };
    let left = i64::try_from(left).expect("a count that fits");
    let reset_after = Millis(if left == 0 { 0 } else { end - now }).nanos();
    let answer = Answer {
        limited,
        limit,
        remaining: (limit - left).max(0),
        retry_after: Some(reset_after).filter(|_| limited && quantity <= limit),
        reset_after,
    };
    let after = if limited || quantity == 0 {
        // Every count gets an end; one that is too late is cut by a call that asks for cells.
        let repaired = |window: Window| match window.end {
            None => Window { end: Some(Millis(unit_end)), ..window },
            Some(Millis(end)) if limited && end > unit_end => Window { end: Some(Millis(unit_end)), ..window },
            Some(_) => window,
        };
        live.map(repaired).or(stored)
    } else {
        Some(Window { count: left, end: Some(Millis(end)) }).filter(|_| left > 0)
    };
    (answer, after)
}

fn quantity(limit: i64) -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -2..=3i64,
        2 => -1..=1i64,
        2 => (-1..=1i64).prop_map(move |more| limit + more),
        1 => Just(-limit),
        1 => select(vec![i64::MIN, i64::MIN + 1, i64::MAX]),
        1 => any::<i64>(),
    ]
}

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1..=5i64, 1 => 1..=MOST, 1 => Just(MOST)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_call_follows_the_rules(
        (terms, now) in (terms(), instant()),
        (limit, quantity) in limit().prop_flat_map(|limit| (Just(limit), quantity(limit))),
        (count, end) in (prop_oneof![3 => 0..=6i64, 1 => 0..=MOST], 0..=7usize),
    ) {
        let calendar = terms.calendar();
        let unit_end = calendar.bounds(Millis(now)).expect("a year that fits").1.0;
        prop_assume!(unit_end < LAST);
        let count = if count == 6 { limit } else { count };
        let end = [
            None, Some(now - 1), Some(now), Some(now + 1), Some(unit_end - 1), Some(unit_end), Some(unit_end + 1), Some(i64::MAX),
        ][end];
        let window = Some(Window { count, end: end.map(Millis) });
        for stored in [None, window] {
            let (answer, after) = by_the_rules(limit, stored, (now, unit_end), quantity);
            let next = match after {
                _ if after == stored => Next::Keep,
                Some(after) => Next::Store(after),
                None => Next::Clear,
            };
            let decided = Policy { limit, calendar }.decide(stored, Millis(now), quantity);
            prop_assert_eq!(decided, Ok(Decision { answer, next }));
        }
    }

    /// The model: the cells that passed in the unit that chrono computes.
    #[test]
    fn no_unit_passes_more_than_the_limit_and_there_are_no_other_refusals(
        terms in terms(),
        limit in 1..=9i64,
        calls in vec((1..=9i64, prop_oneof![Just(0), 0..=86_400_000i64, 0..=3_000_000_000i64]), 1..40),
    ) {
        let policy = Policy { limit, calendar: terms.calendar() };
        let (mut now, mut stored, mut passed, mut unit) = (NOON, None, 0, (0, 0));
        for (cells, step) in calls {
            now += step;
            let quantity = (cells - 1) % limit + 1;
            let current = terms.bounds(now);
            if current != unit {
                (unit, passed) = (current, 0);
            }
            let Decision { answer, next } = policy.decide(stored, Millis(now), quantity).expect("a year that fits");
            prop_assert_eq!(answer.limited, passed + quantity > limit);
            if !answer.limited {
                passed += quantity;
            }
            prop_assert_eq!(answer.remaining, limit - passed);
            prop_assert_eq!(answer.reset_after, Millis(unit.1 - now).nanos());
            prop_assert_eq!(answer.retry_after, answer.limited.then_some(answer.reset_after));
            if let Next::Store(window) = next {
                stored = Some(window);
            }
        }
    }
}

/// A daily quota of three, a stored state and a call at noon.
fn at_noon(stored: Option<(i64, Option<i64>)>, quantity: i64) -> Decision<Window> {
    let calendar = Calendar::new(Unit::Day, None, Offset::UTC).expect("no anchor");
    let stored = stored.map(|(count, end)| Window { count, end: end.map(Millis) });
    Policy { limit: 3, calendar }.decide(stored, Millis(NOON), quantity).expect("a year that fits")
}

const MIDNIGHT: i64 = NOON + MILLIS_PER_DAY / 2;

#[test]
fn a_state_of_a_longer_unit_is_cut_by_a_take_and_one_of_a_shorter_keeps_its_end() {
    let month = Some(NOON + 20 * MILLIS_PER_DAY);
    let left = |decision: Decision<Window>| match decision.next {
        Next::Store(Window { count, end: Some(end) }) => Some((count, end.0)),
        _ => None,
    };
    let half_a_day = Millis(MIDNIGHT - NOON).nanos();
    assert_eq!(left(at_noon(Some((2, month)), 1)), Some((3, MIDNIGHT)));
    assert_eq!(left(at_noon(Some((3, month)), 1)), Some((3, MIDNIGHT)), "stored even though refused");
    assert_eq!(left(at_noon(Some((3, month)), -1)), Some((2, MIDNIGHT)));
    let dry_run = at_noon(Some((3, month)), 0);
    assert_eq!((dry_run.answer.reset_after, dry_run.next), (half_a_day, Next::Keep));
    assert_eq!(left(at_noon(Some((2, Some(NOON + 1))), 1)), Some((3, NOON + 1)));
    assert_eq!(at_noon(Some((3, Some(NOON + 1))), 1).answer.retry_after, Some(Nanos(1_000_000)));
    assert_eq!(left(at_noon(Some((2, None)), 0)), Some((2, MIDNIGHT)), "what has no end gets one from any call");
}

#[test]
fn a_stored_zero_counts_as_fresh() {
    let fresh = at_noon(None, 0).answer;
    for end in [None, Some(NOON + 1), Some(MIDNIGHT)] {
        assert_eq!(at_noon(Some((0, end)), 0).answer, fresh);
        let taken = Next::Store(Window { count: 1, end: Some(Millis(MIDNIGHT)) });
        assert_eq!(at_noon(Some((0, end)), 1).next, taken);
        assert_eq!(at_noon(Some((0, end)), -1).next, Next::Clear);
    }
}

#[test]
fn a_refund_after_the_boundary_adds_nothing_to_the_new_unit() {
    let refund = at_noon(Some((3, Some(NOON))), -1);
    assert_eq!((refund.answer.remaining, refund.next), (3, Next::Clear));
    assert_eq!(at_noon(None, -1).next, Next::Keep);
    assert_eq!(at_noon(Some((3, Some(NOON))), 4).next, Next::Keep);
}

#[test]
fn a_lowered_limit_refuses_until_the_unit_ends() {
    let Decision { answer, next } = at_noon(Some((9, Some(MIDNIGHT))), 1);
    assert_eq!((answer.limited, answer.remaining, next), (true, 0, Next::Keep));
    assert_eq!(answer.retry_after, Some(Millis(MIDNIGHT - NOON).nanos()));
    assert_eq!(at_noon(Some((9, Some(MIDNIGHT))), 4).answer.retry_after, None, "never more than the limit");
    assert_eq!(at_noon(Some((9, Some(MIDNIGHT))), -7).answer.remaining, 1);
}

#[test]
fn units_that_end_after_the_year_2262_are_too_long() {
    let calendar = Calendar::new(Unit::Year, None, Offset::UTC).expect("no anchor");
    let policy = Policy { limit: 1, calendar };
    assert!(policy.decide(None, Millis(9_190_000_000_000), 1).is_ok(), "2261");
    for quantity in [-1, 0, 1, 2] {
        assert_eq!(policy.decide(None, Millis(9_215_000_000_000), quantity), Err(TooLong), "2262");
    }
}
