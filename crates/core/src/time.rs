//! Units of time as types, so that no sum mixes them. Each is signed and counts either from the Unix epoch (an
//! instant) or between two instants (a span). Names of conversions say how they round.

const NANOS_PER_MICRO: i64 = 1_000;
const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const MICROS_PER_MILLI: i64 = 1_000;

/// Nanoseconds: what limiters count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub i64);

/// Microseconds: what the server's clock counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

/// Milliseconds: what expiries and clients' timestamps count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Nanos {
    /// The span or instant in milliseconds, rounded up.
    pub fn ceil_millis(self) -> Millis {
        Millis(ceil_div(self.0, NANOS_PER_MILLI))
    }

    /// The span or instant in milliseconds, rounded down.
    pub fn floor_millis(self) -> Millis {
        Millis(self.0.div_euclid(NANOS_PER_MILLI))
    }

    /// The span in whole seconds, rounded up.
    pub fn ceil_seconds(self) -> i64 {
        ceil_div(self.0, NANOS_PER_SECOND)
    }
}

impl Millis {
    /// The same instant in nanoseconds; saturates in the year 2262.
    pub fn nanos(self) -> Nanos {
        Nanos(self.0.saturating_mul(NANOS_PER_MILLI))
    }
}

impl Micros {
    /// The same instant in nanoseconds; saturates in the year 2262.
    pub fn nanos(self) -> Nanos {
        Nanos(self.0.saturating_mul(NANOS_PER_MICRO))
    }

    /// The same instant in milliseconds, rounded down.
    pub fn floor_millis(self) -> Millis {
        Millis(self.0.div_euclid(MICROS_PER_MILLI))
    }
}

fn ceil_div(dividend: i64, divisor: i64) -> i64 {
    dividend / divisor + i64::from(dividend % divisor > 0)
}
