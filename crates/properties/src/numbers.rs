//! Texts that clients send: integers, periods, prices, dates; and counts that move.

use chrono::{Datelike, NaiveDate, Timelike};

use redis_meter_core::calendar::{Day, END_OF_TIME, day_and_hour};
use redis_meter_core::number::{PeriodError, format_integer, parse_integer, parse_natural, parse_period};
use redis_meter_core::price::{Price, PriceError, Tariff, Tier};
use redis_meter_core::tally::{Tally, TallyError};
use redis_meter_core::time::{Millis, Nanos};

use crate::bytes::Bytes;

/// An integer is read exactly if the standard library reads it and writes it back as it was.
pub fn number(text: &[u8]) {
    let expected = std::str::from_utf8(text).ok().and_then(|text| {
        let number: i64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    });
    assert_eq!(parse_integer(text), expected);
    assert_eq!(parse_natural(text), expected.filter(|&number| number >= 0));
    if let Some(number) = expected {
        assert_eq!(format_integer(number, &mut [0; 20]), text);
    }
}

/// A period is `digits[.digits]` seconds in nanoseconds, in wide integers.
pub fn period(text: &[u8]) {
    let found = parse_period(text);
    let Some((whole, fraction)) = decimal(text) else {
        assert_eq!(found, Err(PeriodError::Malformed));
        return;
    };
    if fraction.len() > 9 {
        assert_eq!(found, Err(PeriodError::TooPrecise));
        return;
    }
    // Forty digits of seconds are far past the limit, whatever comes after them.
    if whole.len() > 40 {
        assert_eq!(found, Err(PeriodError::TooLong));
        return;
    }
    let saturated = |digits: &str| {
        digits.bytes().fold(0u128, |sum, digit| sum.saturating_mul(10).saturating_add(u128::from(digit - b'0')))
    };
    let nanos = saturated(&whole).saturating_mul(1_000_000_000).saturating_add(saturated(&format!("{fraction:0<9}")));
    let expected = match i64::try_from(nanos) {
        Err(_) => Err(PeriodError::TooLong),
        Ok(0) => Err(PeriodError::Zero),
        Ok(nanos) => Ok(Nanos(nanos)),
    };
    assert_eq!(found, expected);
}

/// The digits before and after the point of a decimal number without a sign or needless zeros; `None` for other texts.
fn decimal(text: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_minimal = whole == "0" || (!whole.is_empty() && !whole.starts_with('0'));
    (is_minimal && are_digits(whole) && are_digits(fraction)).then(|| (whole.to_owned(), fraction.to_owned()))
}

/// One unit costs its price, to the digit; and tiers of one price are that price.
pub fn price(text: &[u8]) {
    let found = Price::parse(text);
    let Some((whole, fraction)) = decimal(text) else {
        assert_eq!(found, Err(PriceError::Malformed));
        return;
    };
    let expected_error = match (fraction.len(), whole.len()) {
        (19.., _) => Some(PriceError::TooPrecise),
        (_, 19..) => Some(PriceError::TooHigh),
        _ => None,
    };
    assert_eq!(found.err(), expected_error);
    let Ok(price) = found else { return };
    let cost = |usage| Tariff::Rate(price).cost(usage).map(|amount| amount.to_string());
    assert_eq!(cost(1).as_deref().map(str::as_bytes), Ok(text));
    let split = |at| vec![Tier { upto: at, price }, Tier { upto: i64::MAX, price }];
    for usage in [0, 1, 7, 1 << 40, i64::MAX] {
        for tariff in [Tariff::Graduated(split(5)), Tariff::Volume(split(1 << 39))] {
            assert_eq!(tariff.cost(usage).map(|amount| amount.to_string()), cost(usage));
        }
    }
}

/// A date is read exactly if the calendar of chrono has it.
pub fn date(text: &[u8]) {
    let found = Day::parse(text);
    let digits: Vec<u8> = match text {
        [a, b, c, d, b'-', e, f, b'-', g, h] => [*a, *b, *c, *d, *e, *f, *g, *h].into(),
        other => other.to_vec(),
    };
    let expected = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| {
            let [year, month, day] = [&text[..4], &text[4..6], &text[6..]].map(|part| part.parse::<u32>().ok());
            NaiveDate::from_ymd_opt(i32::try_from(year?).ok()?, month?, day?).filter(|date| date.year() >= 1)
        });
    assert_eq!(found.is_some(), expected.is_some());
    let (Some(day), Some(date)) = (found, expected) else { return };
    assert_eq!(day.digits().as_slice(), digits);
    let before = date.pred_opt().filter(|date| date.year() >= 1);
    assert_eq!(day.previous().map(Day::number), before.map(number_of));
    assert_eq!(day.month().first().number(), number_of(date) / 100 * 100 + 1);
    assert_eq!(Day::FIRST.days_to(day), u64::from(date.num_days_from_ce().unsigned_abs()));
}

fn number_of(date: NaiveDate) -> u32 {
    date.year().unsigned_abs() * 10_000 + date.month() * 100 + date.day()
}

/// The day and hour of an instant are those that chrono says.
pub fn instant(input: &[u8]) {
    let at = Bytes(input).any().rem_euclid(END_OF_TIME.0);
    let Some(expected) = chrono::DateTime::from_timestamp_millis(at) else { panic!("{at} is an instant") };
    let (day, hour) = day_and_hour(Millis(at));
    assert_eq!(day.number(), number_of(expected.date_naive()));
    assert_eq!(u32::from(hour.number()), expected.hour());
    assert!(day.end().0 > at);
}

/// Both counts of a tally move, or neither; none leaves 0..=2⁶³ − 1.
pub fn tally(input: &[u8]) {
    let mut input = Bytes(input);
    let mut tally = Tally { day: input.any() & i64::MAX, hour: input.any() & i64::MAX };
    while !input.is_empty() {
        let n = input.any();
        let exact = [tally.day, tally.hour].map(|count| i128::from(count) + i128::from(n));
        match tally.plus(n) {
            Ok(after) => {
                assert_eq!([after.day, after.hour].map(i128::from), exact);
                assert!(after.day >= 0 && after.hour >= 0);
                tally = after;
            }
            Err(TallyError::BelowZero) => assert!(exact.iter().any(|&count| count < 0)),
            Err(TallyError::TooLarge) => assert!(exact.iter().any(|&count| count > i128::from(i64::MAX))),
        }
    }
}
