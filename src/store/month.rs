//! What was sealed or dropped of each day of a month: the hash `K:month:202208`, whose fields are days, `20220809`. With
//! the days that are held it makes the counts that bills and caps need.

use std::collections::BTreeMap;

use redis_meter_core::calendar::{Day, END_OF_TIME, Month, day_and_hour};
use redis_meter_core::time::Millis;

use crate::server::{Any, Change, Context, Effect, Error, Fields, Hash, Key, OwnedStr, Shown, Writable, effects};

use crate::settings;

use super::day::{self, no_count, parse_count};
use super::index;
use super::meter::Meter;
use super::walk::HeldDay;

/// The time of the oldest hit that is taken, in March 1973.
pub(crate) const OLDEST: Millis = Millis(100_000_000_000);

/// How far ahead a hit can lie at most: a hundred years.
const MOST_AHEAD_MS: i64 = 36_525 * 86_400_000;

/// How long a month is remembered after its end.
const KEPT_MS: i64 = 400 * 86_400_000;

/// The counts of days, ascending.
pub(crate) type Counts = BTreeMap<Day, i64>;

/// What was sealed or dropped of the days from `from` to `to`.
///
/// # Errors
/// A key of another type, a count that is none, or [`Error::TryAgain`].
pub(crate) fn sealed(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day) -> Result<Counts, Error> {
    let mut sealed = Counts::new();
    // No hit lies before the first of these months, nor after the last.
    let (oldest, newest) = bounds(ctx.now().floor_millis(), settings::MAX_FUTURE_MS.get());
    let (mut month, last) = (from.month().max(oldest), to.month().min(newest));
    let mut absence_is_sure = false;
    while month <= last {
        let name = meter.month_key(month);
        let key = Key::<Hash>::read(ctx, name.as_str())?;
        if !key.exists() && !absence_is_sure {
            meter.ensure_absent(ctx, name.as_str())?;
            absence_is_sure = true;
        }
        let mut wrong = None;
        key.each(|field, value| {
            let Some(day) = Day::parse_digits(field).filter(|day| (from..=to).contains(day)) else { return };
            match parse_count(value) {
                Some(count) => drop(sealed.insert(day, count)),
                None => wrong = Some(no_count(name.as_str(), field)),
            }
        });
        wrong.map_or(Ok(()), Err)?;
        month = month.next();
    }
    Ok(sealed)
}

/// What was sealed or dropped of one day.
///
/// # Errors
/// As [`sealed`].
pub(crate) fn sealed_of(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<i64, Error> {
    let name = meter.month_key(day.month());
    let key = meter.read::<Hash>(ctx, &name)?;
    count_of(&name, &key, day)
}

/// The counts of the days from `from` to `to`, those sealed or dropped included; of `except` only these.
///
/// # Errors
/// A key of another type, a count that is none, one that passes 2⁶³ − 1, or [`Error::TryAgain`].
pub(crate) fn counts(
    ctx: Context<'_>,
    meter: Meter<'_>,
    from: Day,
    to: Day,
    except: Option<Day>,
) -> Result<Counts, Error> {
    let mut counts = sealed(ctx, meter, from, to)?;
    for held in index::days(ctx, meter, from, to)? {
        if Some(held) == except {
            continue;
        }
        let total = day::total_of(ctx, meter, held)?;
        if total > 0 {
            let count = counts.entry(held).or_insert(0);
            *count = count.checked_add(total).ok_or_else(|| too_large(held))?;
        }
    }
    Ok(counts)
}

#[cold]
fn too_large(day: Day) -> Error {
    Error::refused(format!("the count of day {:08}, with what was sealed of it, would pass {}", day.number(), i64::MAX))
}

/// The months in which hits can lie that are at most so far ahead.
fn bounds(now: Millis, ahead: i64) -> (Month, Month) {
    let month_of = |at: Millis| day_and_hour(Millis(at.0.clamp(0, END_OF_TIME.0 - 1))).0.month();
    (month_of(OLDEST), month_of(Millis(now.0.saturating_add(ahead))))
}

/// The keys of all months of which something is remembered. No list of them is kept: a meter that goes looks for each.
///
/// # Errors
/// [`Error::TryAgain`] if they may be elsewhere.
pub(crate) fn remembered(ctx: Context<'_>, meter: Meter<'_>, now: Millis) -> Result<Vec<OwnedStr>, Error> {
    let (mut month, newest) = bounds(now, MOST_AHEAD_MS);
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

/// Adds days to what was sealed or dropped of a month; checked, and ready to be made.
pub(crate) struct Additions {
    month: Month,
    name: OwnedStr,
    fields: Vec<(OwnedStr, i64)>,
    expire_at: Millis,
}

/// The additions that these days make.
///
/// # Errors
/// A key of another type, a count that is none or would pass 2⁶³ − 1, or [`Error::TryAgain`].
pub(crate) fn additions(
    ctx: Context<'_>,
    meter: Meter<'_>,
    days: &[HeldDay],
    now: Millis,
) -> Result<Vec<Additions>, Error> {
    let mut months: BTreeMap<Month, Additions> = BTreeMap::new();
    for held in days.iter().filter(|held| held.total > 0) {
        let month = held.day.month();
        let additions = months.entry(month).or_insert_with(|| {
            let due = Millis(month.last().end().0 + KEPT_MS);
            // A month that is history already, imported late, is remembered from now on.
            let expire_at = due.max(Millis(now.0.saturating_add(KEPT_MS)));
            Additions { month, name: meter.month_key(month), fields: Vec::new(), expire_at }
        });
        let key = meter.read::<Hash>(ctx, &additions.name)?;
        let before = count_of(&additions.name, &key, held.day)?;
        let after = before.checked_add(held.total).ok_or_else(|| too_large(held.day))?;
        additions.fields.push((OwnedStr::new(&held.day.digits()), after));
    }
    Ok(months.into_values().collect())
}

impl Additions {
    /// Writes them.
    pub(crate) fn commit<'a>(&'a self, ctx: Context<'a>) -> Option<Change<'a>> {
        debug_assert!(self.fields.iter().all(|(day, _)| day.starts_with(&self.month.digits())));
        let key = Key::<Hash, Writable>::open(ctx, self.name.as_str()).ok()?;
        let expires = key.expiry().is_some_and(|at| at >= self.expire_at);
        let fields = self.fields.iter().map(|(day, count)| (day.as_str(), OwnedStr::from_integer(*count)));
        key.change(effects([
            Some(Effect::HashSet(Fields::Many(fields.collect()))),
            (!expires).then_some(Effect::Expire(Some(self.expire_at))),
        ]))
    }
}

fn count_of(name: &OwnedStr, month: &Key<'_, Hash>, day: Day) -> Result<i64, Error> {
    let field = OwnedStr::new(&day.digits());
    month.get(field.as_str()).map_or(Ok(0), |text| parse_count(&text).ok_or_else(|| no_count(name.as_str(), &field)))
}

/// How much of a usage that is asked for in one number does not fit.
#[cold]
pub(crate) fn usage_too_large(meter: Meter<'_>) -> Error {
    Error::refused(format!(
        "the usage of {} adds up to more than {}: ask for a shorter span",
        Shown(meter.key().bytes()),
        i64::MAX
    ))
}
