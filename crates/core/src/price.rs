//! The cost of usage, in exact decimals.

use std::fmt::{self, Display};

/// The most digits that a price may have after the point.
pub const MOST_DECIMALS: usize = 18;

/// A price of one unit, zero or more: `0.02` is 2 with 2 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    digits: u128,
    decimals: usize,
}

/// An amount of money: `digits` with the point before the last `decimals` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    digits: u128,
    decimals: usize,
}

/// Why a text is not a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceError {
    /// Not `digits` or `digits.digits`.
    Malformed,
    /// More than [`MOST_DECIMALS`] digits after the point.
    TooPrecise,
    /// 10¹⁸ or more.
    TooHigh,
}

/// A tier of a tariff: the price of each unit up to the `upto`th, included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The last unit of the tier, counted from 1.
    pub upto: i64,
    /// The price of each of its units.
    pub price: Price,
}

/// How usage is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tariff {
    /// Each unit at the same price.
    Rate(Price),
    /// Each unit at the price of the tier that it lies in. The tiers ascend, and the last has no end: `i64::MAX`.
    Graduated(Vec<Tier>),
    /// All units at the price of the tier that the last of them lies in; tiers as above.
    Volume(Vec<Tier>),
}

/// The cost does not fit in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooHigh;

impl Price {
    /// A price as clients write it: decimal digits, with a point and more of them or without.
    pub fn parse(text: &[u8]) -> Result<Self, PriceError> {
        let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &[][..]),
        };
        let pointless = whole.len() == text.len();
        let leading_zero = whole.len() > 1 && whole[0] == b'0';
        let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        if whole.is_empty() || leading_zero || !all_digits || (fraction.is_empty() && !pointless) {
            return Err(PriceError::Malformed);
        }
        if fraction.len() > MOST_DECIMALS {
            return Err(PriceError::TooPrecise);
        }
        if whole.len() > 18 {
            return Err(PriceError::TooHigh);
        }
        // At most 36 digits, which 128 bits hold.
        let digits = whole.iter().chain(fraction).fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        Ok(Self { digits, decimals: fraction.len() })
    }

    /// The cost of `units`, written with `decimals` decimals (at least the price's own).
    fn times(self, units: u128, decimals: usize) -> Result<u128, TooHigh> {
        let zeroes = u32::try_from(decimals - self.decimals).map_err(|_| TooHigh)?;
        // Of zero units the price may be too high to be written with these decimals.
        if units == 0 {
            return Ok(0);
        }
        let scale = 10u128.checked_pow(zeroes).ok_or(TooHigh)?;
        self.digits.checked_mul(scale).and_then(|price| price.checked_mul(units)).ok_or(TooHigh)
    }
}

impl Tariff {
    /// The cost of `usage` (≥ 0), with as many decimals as the most precise price has.
    ///
    /// # Errors
    /// The amount does not fit in 128 bits.
    pub fn cost(&self, usage: i64) -> Result<Amount, TooHigh> {
        let units = |n: i64| u128::try_from(n).unwrap_or(0);
        let (digits, decimals) = match self {
            Self::Rate(price) => (price.times(units(usage), price.decimals)?, price.decimals),
            Self::Graduated(tiers) => {
                let decimals = most_decimals(tiers);
                let (mut sum, mut charged) = (0u128, 0);
                for tier in tiers {
                    let within = usage.min(tier.upto) - charged;
                    if within > 0 {
                        sum = sum.checked_add(tier.price.times(units(within), decimals)?).ok_or(TooHigh)?;
                        charged += within;
                    }
                }
                (sum, decimals)
            }
            Self::Volume(tiers) => {
                let decimals = most_decimals(tiers);
                let tier = tiers.iter().find(|tier| usage <= tier.upto);
                (tier.map_or(Ok(0), |tier| tier.price.times(units(usage), decimals))?, decimals)
            }
        };
        Ok(Amount { digits, decimals })
    }
}

fn most_decimals(tiers: &[Tier]) -> usize {
    tiers.iter().map(|tier| tier.price.decimals).max().unwrap_or(0)
}

impl Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // At least one digit stands before the point.
        let digits = format!("{:0width$}", self.digits, width = self.decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.decimals);
        if fraction.is_empty() { out.write_str(whole) } else { write!(out, "{whole}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(text: &str) -> Price {
        Price::parse(text.as_bytes()).expect("a price")
    }

    fn tiers(tiers: &[(i64, &str)]) -> Vec<Tier> {
        tiers.iter().map(|&(upto, text)| Tier { upto, price: price(text) }).collect()
    }

    fn cost(tariff: &Tariff, usage: i64) -> String {
        tariff.cost(usage).expect("an amount").to_string()
    }

    #[test]
    fn a_flat_rate_keeps_the_decimals_of_its_price() {
        for (text, usage, expected) in [
            ("0.02", 20, "0.40"),
            ("0.02", 0, "0.00"),
            ("0.020", 20, "0.400"),
            ("3", 7, "21"),
            ("0", 7, "0"),
            ("0.000000000000000001", i64::MAX, "9.223372036854775807"),
            ("999999999999.999999", i64::MAX, "9223372036854775806990776.627963145224193"),
        ] {
            let expected = if text.starts_with("999") {
                // 9223372036854775807 * 999999999999999999 / 10^6
                let exact = 9_223_372_036_854_775_807_u128 * 999_999_999_999_999_999;
                format!("{}.{:06}", exact / 1_000_000, exact % 1_000_000)
            } else {
                expected.to_owned()
            };
            assert_eq!(cost(&Tariff::Rate(price(text)), usage), expected, "{usage} x {text}");
        }
    }

    #[test]
    fn graduated_tiers_charge_each_unit_at_its_own_tier() {
        let tariff = Tariff::Graduated(tiers(&[(10, "0.10"), (100, "0.05"), (i64::MAX, "0.011")]));
        for (usage, expected) in
            [(0, "0.000"), (1, "0.100"), (10, "1.000"), (11, "1.050"), (100, "5.500"), (101, "5.511"), (1000, "15.400")]
        {
            assert_eq!(cost(&tariff, usage), expected, "{usage}");
        }
    }

    #[test]
    fn volume_tiers_charge_all_units_at_the_tier_of_the_last() {
        let tariff = Tariff::Volume(tiers(&[(10, "0.10"), (100, "0.05"), (i64::MAX, "0.01")]));
        for (usage, expected) in [(0, "0.00"), (10, "1.00"), (11, "0.55"), (100, "5.00"), (101, "1.01")] {
            assert_eq!(cost(&tariff, usage), expected, "{usage}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let highest = price("999999999999999999.999999999999999999");
        assert_eq!(Tariff::Rate(highest).cost(i64::MAX), Err(TooHigh));
        assert!(Tariff::Rate(highest).cost(1).is_ok());
        let mixed = Tariff::Graduated(vec![
            Tier { upto: 1, price: price("0.000000000000000001") },
            Tier { upto: i64::MAX, price: price("999999999999999999") },
        ]);
        assert_eq!(mixed.cost(i64::MAX), Err(TooHigh));
    }

    #[test]
    fn other_texts_are_no_prices() {
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "01", "00.5", " 1", "1,5", "0.0.1", "inf", "1.x", "٣"] {
            assert_eq!(Price::parse(text.as_bytes()), Err(PriceError::Malformed), "{text:?}");
        }
        assert_eq!(Price::parse(b"0.0000000000000000001"), Err(PriceError::TooPrecise));
        assert_eq!(Price::parse(b"1000000000000000000"), Err(PriceError::TooHigh));
    }

    proptest! {
        #[test]
        fn tiers_of_one_price_are_its_flat_rate(
            whole in 0..1000u32, fraction in 0..100u32, usage in 0..i64::MAX, cuts in prop::collection::btree_set(1..i64::MAX - 1, 0..5),
        ) {
            let text = format!("{whole}.{fraction:02}");
            let steps: Vec<Tier> =
                cuts.into_iter().chain([i64::MAX]).map(|upto| Tier { upto, price: price(&text) }).collect();
            let flat = Tariff::Rate(price(&text)).cost(usage);
            prop_assert_eq!(Tariff::Graduated(steps.clone()).cost(usage), flat);
            prop_assert_eq!(Tariff::Volume(steps).cost(usage), flat);
        }

        #[test]
        fn graduated_tiers_agree_with_a_sum_unit_by_unit(
            usage in 0..500i64, ends in prop::collection::btree_set(1..400i64, 0..4), cents in prop::collection::vec(0..1000u32, 5),
        ) {
            let steps: Vec<(i64, u32)> = ends.into_iter().chain([i64::MAX]).zip(cents).collect();
            let by_unit: u128 = (1..=usage)
                .map(|unit| steps.iter().find(|step| unit <= step.0).map_or(0, |step| u128::from(step.1)))
                .sum();
            let steps = steps.into_iter().map(|(upto, cents)| Tier {
                upto, price: price(&format!("{}.{:02}", cents / 100, cents % 100)),
            }).collect();
            let expected = format!("{}.{:02}", by_unit / 100, by_unit % 100);
            prop_assert_eq!(cost(&Tariff::Graduated(steps), usage), expected);
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = Price::parse(&text);
        }

        #[test]
        fn a_price_is_read_as_it_is_written(whole in 0..u32::MAX, fraction in "[0-9]{0,18}") {
            let text = if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") };
            prop_assert_eq!(cost(&Tariff::Rate(price(&text)), 1), text);
        }
    }
}
