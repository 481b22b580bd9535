//! What was sealed or dropped of a month: the field `sealed` of the hash `K:month:202208`. With the days that are held it
//! makes the month's count, which a cap needs.

use std::collections::BTreeMap;

use crate::server::{Any, Constant, Context, Effect, Error, Hash, Key, OwnedStr};
use redis_meter_core::calendar::{Day, END_OF_TIME, Month, day_and_hour};
use redis_meter_core::number::parse_integer;
use redis_meter_core::time::Millis;

use super::held::HeldDay;
use super::meter::Meter;
use super::{day, index};

static SEALED: Constant = Constant::new("sealed");

/// The time of the oldest hit that is taken, in March 1973.
const OLDEST: Millis = Millis(100_000_000_000);

/// How far ahead a hit can lie at most: a hundred years.
const MOST_AHEAD_MS: i64 = 36_525 * 86_400_000;

/// How long a month is remembered after its end.
const KEPT_MS: i64 = 400 * 86_400_000;

/// The count of a month but for one of its days: that of the days held, and what was sealed or dropped.
///
/// # Errors
/// A key of another type, a count that is none, or [`Error::TryAgain`].
pub(crate) fn count_without(ctx: Context<'_>, meter: Meter<'_>, month: Month, except: Day) -> Result<i128, Error> {
    let name = meter.month_key(month);
    let (_, sealed) = open(ctx, meter, &name)?;
    let mut sum = i128::from(sealed);
    for held in index::days(ctx, meter, month.first(), month.last())? {
        if held != except {
            sum += i128::from(day::total_of(ctx, meter, held)?);
        }
    }
    Ok(sum)
}

/// The keys of all months of which something is remembered. No list of them is kept: a meter that goes looks for each.
///
/// # Errors
/// [`Error::TryAgain`] if they may be elsewhere.
pub(crate) fn remembered(ctx: Context<'_>, meter: Meter<'_>, now: Millis) -> Result<Vec<OwnedStr>, Error> {
    let month_of = |at: Millis| day_and_hour(Millis(at.0.min(END_OF_TIME.0 - 1))).0.month();
    let (mut month, newest) = (month_of(OLDEST), month_of(Millis(now.0 + MOST_AHEAD_MS)));
    // Most of them are absent, and one answers for all.
    let oldest = meter.month_key(month);
    meter.read::<Any>(ctx, &oldest)?;
    let mut names = Vec::new();
    while month <= newest {
        let name = meter.month_key(month);
        if Key::<Any>::read(ctx, name.as_str())?.exists() {
            names.push(name);
        }
        month = month.next();
    }
    Ok(names)
}

/// The keys of the months that these days are in.
pub(crate) fn keys(meter: Meter<'_>, days: &[HeldDay]) -> BTreeMap<Month, OwnedStr> {
    days.iter().map(|held| (held.day.month(), meter.month_key(held.day.month()))).collect()
}

/// Adds these days to what was sealed or dropped of their months, whose keys are `names`.
///
/// # Errors
/// As [`Sealed::plus`].
pub(crate) fn add<'a>(
    ctx: Context<'a>,
    meter: Meter<'a>,
    days: &[HeldDay],
    names: &'a BTreeMap<Month, OwnedStr>,
    now: Millis,
) -> Result<Vec<Sealed<'a>>, Error> {
    let total = |month| {
        let days = days.iter().filter(|held| held.day.month() == month);
        days.fold(0i64, |sum, held| sum.saturating_add(held.total))
    };
    let counted = names.iter().map(|(&month, name)| (month, name, total(month))).filter(|&(_, _, n)| n > 0);
    counted.map(|(month, name, n)| Sealed::plus(ctx, meter, month, name, n, now)).collect()
}

/// Adds to what was sealed or dropped of a month.
pub(crate) struct Sealed<'a> {
    key: Key<'a, Hash>,
    after: i64,
    expire_at: Millis,
}

impl<'a> Sealed<'a> {
    /// Adds `n` (≥ 0) to the month whose key `name` is.
    ///
    /// # Errors
    /// A key of another type, a count that is none, or [`Error::TryAgain`].
    fn plus(
        ctx: Context<'a>,
        meter: Meter<'a>,
        month: Month,
        name: &'a OwnedStr,
        n: i64,
        now: Millis,
    ) -> Result<Self, Error> {
        let (key, before) = open(ctx, meter, name)?;
        let due = Millis(month.last().end().0 + KEPT_MS);
        // A month that is history already, imported late, is remembered from now on.
        let expire_at = if due > now { due } else { Millis(now.0 + KEPT_MS) };
        // No cap is higher than the highest count.
        Ok(Self { key, after: before.saturating_add(n), expire_at })
    }

    /// Writes it.
    pub(crate) fn commit(self) {
        let value = OwnedStr::from_integer(self.after);
        let expires = self.key.expiry().is_some_and(|at| at >= self.expire_at);
        let pairs = [(SEALED.get(), value.as_str())];
        self.key.commit(&[Some(Effect::HashSet(&pairs)), (!expires).then_some(Effect::ExpireAt(self.expire_at))]);
    }
}

fn open<'a>(ctx: Context<'a>, meter: Meter<'_>, name: &'a OwnedStr) -> Result<(Key<'a, Hash>, i64), Error> {
    let key = meter.write::<Hash>(ctx, name)?;
    let sealed = match key.get(SEALED.get()) {
        None => 0,
        Some(text) => parse_integer(&text).filter(|&count| count >= 0).ok_or_else(|| {
            Error::refused(
                "field sealed of that month's hash holds no count (a whole number from 0); correct it by HSET",
            )
        })?,
    };
    Ok((key, sealed))
}
