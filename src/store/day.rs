//! A day's counts: the hash `K:day:20220809`. Field `day` holds the total, the fields `0` to `23` the counts of the
//! hours that were hit. Other fields are other programs'.

use crate::server::{Constant, Context, Effect, Error, Hash, Key, OwnedStr, Str};
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
pub(crate) fn total(day: &Key<'_, Hash>) -> Result<Option<i64>, Error> {
    count(day, DAY.get())
}

/// The total of a day of a meter; 0 if it is not there.
///
/// # Errors
/// A key of another type, a field that holds no count, or [`Error::TryAgain`].
pub(crate) fn total_of(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<i64, Error> {
    let name = meter.day_key(day);
    let counts = meter.read::<Hash>(ctx, &name)?;
    Ok(total(&counts)?.unwrap_or(0))
}

/// The counts of a day and of `hour`.
///
/// # Errors
/// A field that holds no count.
pub(crate) fn find(day: &Key<'_, Hash>, hour: Hour) -> Result<Found, Error> {
    let fields = [DAY.get(), hour_field(hour)];
    let [total, count] = day.get_both(fields);
    Ok(Found { day: counted(total, fields[0])?, hour: counted(count, fields[1])? })
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
            None => wrong = Some(no_count(field)),
        }
    });
    wrong.map_or(Ok(counts), Err)
}

/// Whether a change to `after` takes the last field of the day, and with it the key.
pub(crate) fn is_last(day: &Key<'_, Hash>, after: Tally) -> bool {
    let removed = usize::from(after.day == 0) + usize::from(after.hour == 0);
    removed > 0 && removed == day.len()
}

/// Writes the counts of a day and of `hour`; a count of zero is removed, and with the last field the key. A key that
/// stays is given the expiry, if there is one.
pub(crate) fn save(day: Key<'_, Hash>, hour: Hour, after: Tally, expire_at: Option<Millis>) {
    let fields = [DAY.get(), hour_field(hour)];
    let counts = [OwnedStr::from_integer(after.day), OwnedStr::from_integer(after.hour)];
    let pairs = [(fields[0], counts[0].as_str()), (fields[1], counts[1].as_str())];
    let (set, removed) = match (after.day, after.hour) {
        (0, 0) => (&pairs[..0], &fields[..]),
        (0, _) => (&pairs[1..], &fields[..1]),
        (_, 0) => (&pairs[..1], &fields[1..]),
        _ => (&pairs[..], &fields[..0]),
    };
    let effects = [
        (!set.is_empty()).then_some(Effect::HashSet(set)),
        (!removed.is_empty()).then_some(Effect::HashDelete(removed)),
        expire_at.map(Effect::ExpireAt),
    ];
    day.commit(&effects);
}

fn count(day: &Key<'_, Hash>, field: Str<'_>) -> Result<Option<i64>, Error> {
    counted(day.get(field), field)
}

fn counted(value: Option<OwnedStr>, field: Str<'_>) -> Result<Option<i64>, Error> {
    value.map(|value| parse_count(&value).ok_or_else(|| no_count(field.bytes()))).transpose()
}

fn parse_count(text: &[u8]) -> Option<i64> {
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

fn no_count(field: &[u8]) -> Error {
    let field = String::from_utf8_lossy(field);
    Error::refused(format!(
        "field {field} of that day's hash holds no count (a whole number from 0); correct it by HSET"
    ))
}
