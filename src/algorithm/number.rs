//! Numbers as clients write them: the integers that Redis itself takes, and periods in decimal seconds.

use crate::time::Nanos;

/// An integer in the one form that Redis takes: `0`, or an optional `-` and digits that do not start with `0`.
/// `None` for everything else (`01`, `+1`, ` 1`, `1.5`, `-0`, an empty string) and for what does not fit in 64 bits.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    if text == b"0" {
        return Some(0);
    }
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // Nineteen digits always fit in a u64, so the sum below cannot wrap.
    if digits.is_empty() || digits.len() > 19 || digits[0] == b'0' {
        return None;
    }
    let mut magnitude: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// The decimal digits of a number, as they are stored and replicated, at the end of `digits`. The server's own way of
/// writing numbers of nineteen digits takes several times as long.
pub(crate) fn format_integer(number: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

/// Why a text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeriodError {
    /// Not `digits` or `digits.digits`.
    Malformed,
    /// More than nine digits after the point.
    TooPrecise,
    /// Zero.
    Zero,
    /// More than 2⁶³ − 1 nanoseconds, about 292 years.
    TooLong,
}

/// A period in seconds, as `60` or `0.25`: above zero, at most nine digits after the point, at most 2⁶³ − 1 ns.
pub(crate) fn parse_period(text: &[u8]) -> Result<Nanos, PeriodError> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    if whole.is_empty() || !whole.iter().all(u8::is_ascii_digit) || (whole.len() > 1 && whole[0] == b'0') {
        return Err(PeriodError::Malformed);
    }
    let mut nanos: i64 = 0;
    if let Some(fraction) = fraction {
        if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
            return Err(PeriodError::Malformed);
        }
        if fraction.len() > 9 {
            return Err(PeriodError::TooPrecise);
        }
        for place in 0..9 {
            nanos = nanos * 10 + i64::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
        }
    }
    let seconds = parse_integer(whole).ok_or(PeriodError::TooLong)?;
    let nanos =
        seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos)).ok_or(PeriodError::TooLong)?;
    if nanos == 0 {
        return Err(PeriodError::Zero);
    }
    Ok(Nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_form_is_an_integer() {
        for refused in ["", "-", "+1", "01", "-01", "-0", " 1", "1 ", "1.5", "1e3", "0x1", "٣", "1\0"] {
            assert_eq!(parse_integer(refused.as_bytes()), None, "{refused:?}");
        }
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"9223372036854775808"), None);
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_integer(b"-9223372036854775809"), None);
        assert_eq!(parse_integer(b"10000000000000000000"), None);
        assert_eq!(parse_integer(&[b'9'; 1_000]), None);
    }

    #[test]
    fn the_extremes_are_written_as_they_print() {
        for number in [i64::MIN, -1, 0, 9, 10, i64::MAX] {
            assert_eq!(format_integer(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn periods_are_decimal_seconds() {
        assert_eq!(parse_period(b"60"), Ok(Nanos(60_000_000_000)));
        assert_eq!(parse_period(b"0.25"), Ok(Nanos(250_000_000)));
        assert_eq!(parse_period(b"0.000000001"), Ok(Nanos(1)));
        assert_eq!(parse_period(b"9223372036.854775807"), Ok(Nanos(i64::MAX)));
        assert_eq!(parse_period(b"9223372036.854775808"), Err(PeriodError::TooLong));
        assert_eq!(parse_period(b"99999999999999999999"), Err(PeriodError::TooLong));
        assert_eq!(parse_period(b"0"), Err(PeriodError::Zero));
        assert_eq!(parse_period(b"0.0"), Err(PeriodError::Zero));
        assert_eq!(parse_period(b"1.0000000001"), Err(PeriodError::TooPrecise));
        for malformed in ["", ".", ".5", "1.", "-1", "+1", "01", "1e3", " 1", "inf", "nan", "1.2.3", "1,5"] {
            assert_eq!(parse_period(malformed.as_bytes()), Err(PeriodError::Malformed), "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_reads_back(number: i64) {
            prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn integers_are_written_as_they_print(number: i64) {
            let mut digits = [0; 20];
            let text = number.to_string();
            prop_assert_eq!(format_integer(number, &mut digits), text.as_bytes());
        }

        #[test]
        fn an_integer_is_what_prints_the_same(text in "[-+]?[0-9 .]{0,22}") {
            let canonical = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
            prop_assert_eq!(parse_integer(text.as_bytes()), canonical);
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = parse_integer(&text);
            let _ = parse_period(&text);
        }

        #[test]
        fn every_period_reads_back(seconds in 0..=9_223_372_035i64, nanos in 0..1_000_000_000i64) {
            prop_assume!(seconds + nanos > 0);
            let text = format!("{seconds}.{nanos:09}");
            prop_assert_eq!(parse_period(text.as_bytes()), Ok(Nanos(seconds * 1_000_000_000 + nanos)));
        }
    }
}
