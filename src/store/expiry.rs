//! When a limiter's state expires. It must not go before it says nothing any more; moving its expiry at each call would
//! cost more than the rest of the write. So the expiry is set late, and kept for as long as it is late enough.

use redis_meter_core::time::{Millis, Nanos};

const SECOND: i64 = 1_000_000_000;

/// The expiry to set on state that is needed until `needed`, a span of at most `reach` ahead; `None` if `present` is
/// late enough, and no later than a second and a quarter of `reach` after `needed`.
pub(crate) fn due(present: Option<Millis>, needed: Nanos, reach: Nanos) -> Option<Millis> {
    let latest = Nanos(needed.0.saturating_add(SECOND + reach.0 / 4)).floor_millis();
    match present {
        Some(at) if (needed.ceil_millis()..=latest).contains(&at) => None,
        _ => Some(latest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_expiry_lies_between_the_need_and_a_second_and_a_quarter_of_the_reach_later(
            needed in 0..=i64::MAX / 2,
            reach in 0..=i64::MAX / 4,
        ) {
            let (needed, reach) = (Nanos(needed), Nanos(reach));
            let expiry = due(None, needed, reach).expect("state without an expiry gets one");
            let nanos = i128::from(expiry.0) * 1_000_000;
            prop_assert!(nanos >= i128::from(needed.0));
            prop_assert!(nanos <= i128::from(needed.0) + i128::from(SECOND) + i128::from(reach.0 / 4));
            prop_assert_eq!(due(Some(expiry), needed, reach), None);
            prop_assert_eq!(due(Some(needed.ceil_millis()), needed, reach), None);
            prop_assert_eq!(due(Some(Millis(expiry.0 + 1)), needed, reach), Some(expiry));
            prop_assert_eq!(due(Some(Millis(needed.ceil_millis().0 - 1)), needed, reach), Some(expiry));
        }
    }
}
