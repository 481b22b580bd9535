//! A day's counts: the hash `K:day:20220809`. Field `day` holds the total, the fields `0` to `23` the counts of the
//! hours that were hit. Other fields are other programs'.

use crate::server::{
    Access, Change, Constant, Context, Effect, Error, Fields, Hash, Key, OwnedStr, Shown, Str, Writable, effects,
};
use redis_meter_core::calendar::{self, Day, Hour};
use redis_meter_core::number::parse_integer;
use redis_meter_core::tally::Tally;
use redis_meter_core::time::Millis;

use super::meter::Meter;

static DAY: Constant = Constant::new("day");
static HOURS: [Constant; 24] = {
    let mut hours = [const { Constant::new("") }; 24];
    let mut hour = 0;
    while hour < 24 {
        hours[hour] = Constant::new(calendar::HOURS[hour]);
        hour += 1;
    }
    hours
};

/// Above this many fields the 25 that count are looked up one by one.
const FEW_FIELDS: usize = 64;

/// All the counts of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) day: i64,
    pub(crate) hours: [i64; 24],
}

/// The counts of a day and of one of its hours, `None` where there is no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) day: Option<i64>,
    pub(crate) hour: Option<i64>,
}

impl Found {
    /// The two counts, 0 where there is no field.
    pub(crate) fn tally(self) -> Tally {
        Tally { day: self.day.unwrap_or(0), hour: self.hour.unwrap_or(0) }
    }
}

fn hour_field(hour: Hour) -> Str<'static> {
    HOURS[usize::from(hour.number())].get()
}

/// The total of a day.
///
/// # Errors
/// A field that holds no count.
pub(crate) fn total<A: Access>(day: &Key<'_, Hash, A>) -> Result<Option<i64>, Error> {
    count(day, DAY.get())
}

/// The total of a day of a meter; 0 if it is not there.
///
/// # Errors
/// A key of another type, a field that holds no count, or [`Error::TryAgain`].
pub(crate) fn total_of(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<i64, Error> {
    total_at(ctx, meter, &meter.day_key(day))
}

/// The total of the day of a meter whose key this is; 0 if it is not there.
///
/// # Errors
/// As [`total_of`].
pub(crate) fn total_at(ctx: Context<'_>, meter: Meter<'_>, name: &OwnedStr) -> Result<i64, Error> {
    let counts = meter.read::<Hash>(ctx, name)?;
    Ok(total(&counts)?.unwrap_or(0))
}

/// The counts of a day and of `hour`.
///
/// # Errors
/// A field that holds no count.
pub(crate) fn find<A: Access>(day: &Key<'_, Hash, A>, hour: Hour) -> Result<Found, Error> {
    let fields = [DAY.get(), hour_field(hour)];
    let [total, count] = day.get_both(fields);
    let name = day.name();
    Ok(Found { day: counted(name, total, fields[0])?, hour: counted(name, count, fields[1])? })
}

/// All counts of a day.
///
/// # Errors
/// A field that holds no count.
pub(crate) fn all(day: &Key<'_, Hash>) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    if day.len() > FEW_FIELDS {
        counts.day = total(day)?.unwrap_or(0);
        for (hour, place) in Hour::all().zip(&mut counts.hours) {
            *place = count(day, hour_field(hour))?.unwrap_or(0);
        }
        return Ok(counts);
    }
    let mut wrong = None;
    day.each(|field, value| {
        let place = if field == b"day" {
            &mut counts.day
        } else if let Some(hour) = parse_hour(field) {
            &mut counts.hours[usize::from(hour.number())]
        } else {
            return;
        };
        match parse_count(value) {
            Some(count) => *place = count,
            None => wrong = Some(no_count(day.name(), field)),
        }
    });
    wrong.map_or(Ok(counts), Err)
}

/// Whether a change to `after` takes the last field of the day, and with it the key.
pub(crate) fn is_last<A: Access>(day: &Key<'_, Hash, A>, after: Tally) -> bool {
    let removed = usize::from(after.day == 0) + usize::from(after.hour == 0);
    removed > 0 && removed == day.len()
}

/// Writes the counts of a day and of `hour`; a count of zero is removed, and with the last field the key. `expire` says
/// when a key that stays is to expire, if that changes.
#[inline]
pub(crate) fn save<'a>(
    day: Key<'a, Hash, Writable>,
    hour: Hour,
    after: Tally,
    expire: Option<Option<Millis>>,
) -> Option<Change<'a>> {
    let fields = [DAY.get(), hour_field(hour)];
    let expire = expire.map(Effect::Expire);
    if after.day != 0 && after.hour != 0 {
        let [day_count, hour_count] = [after.day, after.hour].map(OwnedStr::from_integer);
        let fields = Fields::Two([(fields[0], day_count), (fields[1], hour_count)]);
        return day.change(effects([Some(Effect::HashSet(fields)), expire]));
    }
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    for (field, count) in fields.into_iter().zip([after.day, after.hour]) {
        if count == 0 {
            removed.push(field);
        } else {
            set.push((field, OwnedStr::from_integer(count)));
        }
    }
    let set = (!set.is_empty()).then(|| Effect::HashSet(Fields::Many(set)));
    day.change(effects([set, Some(Effect::HashDelete(removed)), expire]))
}

fn count<A: Access>(day: &Key<'_, Hash, A>, field: Str<'_>) -> Result<Option<i64>, Error> {
    counted(day.name(), day.get(field), field)
}

fn counted(day: Str<'_>, value: Option<OwnedStr>, field: Str<'_>) -> Result<Option<i64>, Error> {
    value.map(|value| parse_count(&value).ok_or_else(|| no_count(day, field.bytes()))).transpose()
}

pub(crate) fn parse_count(text: &[u8]) -> Option<i64> {
    parse_integer(text).filter(|&count| count >= 0)
}

fn parse_hour(field: &[u8]) -> Option<Hour> {
    let number = match *field {
        [digit @ b'0'..=b'9'] => digit - b'0',
        [ten @ b'1'..=b'2', digit @ b'0'..=b'9'] => (ten - b'0') * 10 + digit - b'0',
        _ => return None,
    };
    Hour::new(number)
}

#[cold]
pub(crate) fn no_count(key: Str<'_>, field: &[u8]) -> Error {
    Error::refused(format!(
        "field {} of key {} holds no count (a whole number from 0): correct it by HSET",
        Shown(field),
        Shown(key.bytes())
    ))
}
