//! What was sealed or dropped of each day of a month: the hash `K:month:202208`, whose fields are days, `20220809`. With
//! the stored days it makes the counts that bills and caps need.
//!
//! A month is remembered for 400 days after its end, or after the last count was added if that is later. Those of the last
//! 400 days and one month are found by their dates. One that is added to later than a month after its end is named by a field of the
//! month in which that was done, `202001`, with the value 0.

use std::collections::BTreeMap;

use redis_meter_core::calendar::{DAYS_PER_CENTURY, Day, END_OF_TIME, MILLIS_PER_DAY, Month, day_and_hour};
use redis_meter_core::time::Millis;

use crate::server::{Any, Change, Context, Effect, Error, Fields, Hash, Key, OwnedStr, Shown, Writable, effects};

use crate::settings;

use super::day::{self, no_count, parse_count};
use super::index;
use super::meter::Meter;
use super::walk::HeldDay;

/// How far ahead a hit can lie at most: a hundred years.
const MOST_AHEAD_MS: i64 = DAYS_PER_CENTURY * MILLIS_PER_DAY;

/// How long a month is remembered after its end, and after each later addition.
const KEPT_MS: i64 = 400 * MILLIS_PER_DAY;

/// How long after its end a month can be added to without being named by another.
const IN_TIME_MS: i64 = 31 * MILLIS_PER_DAY;

/// The counts of days, ascending.
pub(crate) type Counts = BTreeMap<Day, i64>;

/// What was sealed or dropped of the days from `from` to `to`.
///
/// # Errors
/// A key of another type, a count that is none, or [`Error::TryAgain`].
pub(crate) fn sealed(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day) -> Result<Counts, Error> {
    let (oldest, newest) = remembered_by_themselves(ctx.now().floor_millis(), settings::MAX_FUTURE_MS.get());
    let mut reader = Reader { ctx, meter, from, to, absence_is_sure: false, sealed: Counts::new() };
    let older = from.month() < oldest;
    let mut late = Vec::new();
    let (mut month, last) =
        (if older { oldest } else { from.month() }, if older { newest } else { to.month().min(newest) });
    while month <= last {
        reader.read(month, &mut late)?;
        month = month.next();
    }
    for month in late.into_iter().filter(|&month| month < oldest && month >= from.month() && month <= to.month()) {
        reader.read(month, &mut Vec::new())?;
    }
    Ok(reader.sealed)
}

struct Reader<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    from: Day,
    to: Day,
    /// No key of this slot is on another node.
    absence_is_sure: bool,
    sealed: Counts,
}

impl Reader<'_> {
    /// Reads a month; `late` gets the older months that it names.
    fn read(&mut self, month: Month, late: &mut Vec<Month>) -> Result<(), Error> {
        let name = self.meter.month_key(month);
        let key = Key::<Hash>::read(self.ctx, name.as_str())?;
        if !key.exists() && !self.absence_is_sure {
            self.meter.ensure_absent(self.ctx, name.as_str())?;
            self.absence_is_sure = true;
        }
        let (span, sealed, mut wrong) = (self.from..=self.to, &mut self.sealed, None);
        key.each(|field, value| match (Day::parse_digits(field), parse_count(value)) {
            (Some(day), Some(count)) if span.contains(&day) => drop(sealed.insert(day, count)),
            (Some(_), Some(_)) => {}
            (Some(_), None) => wrong = Some(no_count(name.as_str(), field)),
            (None, _) => late.extend(Month::parse_digits(field)),
        });
        wrong.map_or(Ok(()), Err)
    }
}

/// The first and the last month that can be remembered without being named by another: older ones have expired, unless
/// they were added to so late that they are named, and no hit lies further ahead.
fn remembered_by_themselves(now: Millis, ahead: i64) -> (Month, Month) {
    (month_of(now.0.saturating_sub(KEPT_MS + IN_TIME_MS)), month_of(now.0.saturating_add(ahead)))
}

fn month_of(at: i64) -> Month {
    day_and_hour(Millis(at.clamp(0, END_OF_TIME.0 - 1))).0.month()
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
    let mut names = meter.day_keys();
    for held in index::days(ctx, meter, from, to)? {
        if Some(held) == except {
            continue;
        }
        let total = day::total_at(ctx, meter, &names.of(held))?;
        if total > 0 {
            let count = counts.entry(held).or_insert(0);
            *count = count.checked_add(total).ok_or_else(|| too_large(held))?;
        }
    }
    Ok(counts)
}

/// What was counted in the days from `from` to `to`, what was sealed or dropped included; of `except` only that.
///
/// # Errors
/// As [`counts`].
pub(crate) fn sum(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day, except: Day) -> Result<i128, Error> {
    let sealed = sealed(ctx, meter, from, to)?;
    let mut sum: i128 = sealed.values().map(|&count| i128::from(count)).sum();
    let mut names = meter.day_keys();
    for held in index::days(ctx, meter, from, to)? {
        if held != except {
            let total = day::total_at(ctx, meter, &names.of(held))?;
            if sealed.get(&held).is_some_and(|before| before.checked_add(total).is_none()) {
                return Err(too_large(held));
            }
            sum += i128::from(total);
        }
    }
    Ok(sum)
}

#[cold]
fn too_large(day: Day) -> Error {
    Error::refused(format!(
        "the count of day {:08}, with what was sealed of it, would pass {}: take some back by a negative BY",
        day.number(),
        i64::MAX
    ))
}

/// The keys of all months of which something is remembered.
///
/// # Errors
/// [`Error::TryAgain`] if they may be elsewhere.
pub(crate) fn remembered(ctx: Context<'_>, meter: Meter<'_>, now: Millis) -> Result<Vec<OwnedStr>, Error> {
    let (oldest, newest) = remembered_by_themselves(now, MOST_AHEAD_MS);
    let mut reader =
        Reader { ctx, meter, from: Day::FIRST, to: Day::LAST, absence_is_sure: false, sealed: Counts::new() };
    let (mut month, mut months) = (oldest, Vec::new());
    while month <= newest {
        reader.read(month, &mut months)?;
        months.push(month);
        month = month.next();
    }
    months.sort_unstable();
    months.dedup();
    let names = months.into_iter().map(|month| meter.month_key(month));
    Ok(names.filter(|name| Key::<Any>::read(ctx, name.as_str()).is_ok_and(|key| key.exists())).collect())
}

/// Adds days to what was sealed or dropped of a month; checked, and ready to be made.
pub(crate) struct Additions {
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
    let in_time = month_of(now.0.saturating_sub(IN_TIME_MS));
    let today = month_of(now.0);
    let new = |month: Month| {
        let due = Millis(month.last().end().0 + KEPT_MS);
        // A month that is history already, imported late, is remembered from now on.
        let expire_at = due.max(Millis(now.0.saturating_add(KEPT_MS)));
        Additions { name: meter.month_key(month), fields: Vec::new(), expire_at }
    };
    let mut months: BTreeMap<Month, Additions> = BTreeMap::new();
    for held in days.iter().filter(|held| held.total > 0) {
        let month = held.day.month();
        if month < in_time && !months.contains_key(&month) {
            // It will outlast those of its age: it is found by its name in this month, which is kept longer.
            let name = OwnedStr::new(&month.digits());
            months.entry(today).or_insert_with(|| new(today)).fields.push((name, 0));
        }
        let additions = months.entry(month).or_insert_with(|| new(month));
        let before = count_of(&additions.name, &meter.read::<Hash>(ctx, &additions.name)?, held.day)?;
        let after = before.checked_add(held.total).ok_or_else(|| too_large(held.day))?;
        additions.fields.push((OwnedStr::new(&held.day.digits()), after));
    }
    let months: Vec<Additions> = months.into_values().collect();
    for month in &months {
        // This one may be written for a name alone, and must be a hash for that too.
        meter.read::<Hash>(ctx, &month.name)?;
    }
    Ok(months)
}

impl Additions {
    /// Writes them.
    pub(crate) fn commit<'a>(&'a self, ctx: Context<'a>) -> Option<Change<'a>> {
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
