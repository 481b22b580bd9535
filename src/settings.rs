//! The configuration parameters.

use redis_meter_core::calendar::{DAYS_PER_CENTURY, MILLIS_PER_DAY};

use crate::refusals;
pub(crate) use crate::server::ALWAYS_REPLICATE;
use crate::server::Setting;

/// Days for which a meter's day is kept after its end; 0 keeps it until it is removed.
pub(crate) static RETENTION_DAYS: Setting = Setting::number(c"retention-days", 0, 0..=DAYS_PER_CENTURY);

/// Days for which ids of events are remembered after the end of their day.
pub(crate) static ONCE_DAYS: Setting = Setting::number(c"once-days", 7, 0..=DAYS_PER_CENTURY);

/// How many keys a sealed batch has at most; the keys of one day stay together.
pub(crate) static SEAL_MAX_KEYS: Setting = Setting::number(c"seal-max-keys", 10_000, 1..=10_000_000);

/// How far ahead of the server's clock the time of a hit may lie, in milliseconds.
pub(crate) static MAX_FUTURE_MS: Setting =
    Setting::number(c"max-future-ms", MILLIS_PER_DAY, 0..=DAYS_PER_CENTURY * MILLIS_PER_DAY);

/// How many of the most refused keys are tracked; 0 tracks none.
pub(crate) static REFUSED_KEYS: Setting = Setting::number(c"refused-keys", 256, 0..=refusals::MOST_KEYS);

/// Whether CL.THROTTLE, the name that redis-cell uses, is registered too.
pub(crate) static CL_THROTTLE: Setting = Setting::load_switch(c"cl-throttle");
