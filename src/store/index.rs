//! The index of a meter: the sorted set `K` of the days it holds, each with its number as its score. It is only touched
//! by hits that open or close a day or an hour.
//!
//! It expires with the last of its days: never, while one of them does not expire; else no sooner than any of them.

use redis_meter_core::calendar::{Day, MILLIS_PER_DAY};
use redis_meter_core::time::Millis;

use crate::server::{
    Access, Any, Change, Context, Effect, Error, Key, Order, OwnedStr, Scored, Shown, SortedSet, Str, Writable, effects,
};

use super::meter::Meter;
use super::walk;

/// The most entries of deleted days that are removed when a day is opened.
const MOST_CLEARED: usize = 4;

/// A hit that changes the index reads this number of entries at each end: if one is no date, the set is no index.
const LOOKED_AT: usize = 2;

/// The most days whose expiry is read.
const MOST_ASKED: usize = 128;

/// Makes sure that the key is no other program's sorted set.
///
/// # Errors
/// `K` is no sorted set, or has a member that is no date.
pub(crate) fn check(ctx: Context<'_>, meter: Meter<'_>) -> Result<(), Error> {
    let index = Key::<SortedSet>::read(ctx, meter.key())?;
    check_ends(&index)
}

fn check_ends<A: Access>(index: &Key<'_, SortedSet, A>) -> Result<(), Error> {
    let mut foreign = None;
    let len = index.len();
    let all = (len <= 2 * LOOKED_AT).then_some((Order::Ascending, len));
    let ends = [(Order::Ascending, LOOKED_AT), (Order::Descending, LOOKED_AT)];
    for &(order, mut left) in all.as_slice().iter().chain(ends.iter().filter(|_| all.is_none())) {
        if left == 0 {
            break;
        }
        index.each_scored(order, f64::NEG_INFINITY, f64::INFINITY, |member, _| {
            left -= 1;
            if Day::parse_digits(&member).is_none() {
                foreign = Some(no_index(index.name(), &member));
            }
            foreign.is_none() && left > 0
        });
    }
    foreign.map_or(Ok(()), Err)
}

#[cold]
fn no_index(key: Str<'_>, member: &[u8]) -> Error {
    Error::refused(format!(
        "key {} holds a sorted set with the member {}, which is no date: it is no meter, use another key",
        Shown(key.bytes()),
        Shown(member)
    ))
}

/// A change to the index, checked and ready to be made.
pub(crate) struct IndexChange<'a> {
    index: Key<'a, SortedSet, Writable>,
    add: Vec<Scored>,
    remove: Vec<OwnedStr>,
    expire: Option<Option<Millis>>,
}

impl<'a> IndexChange<'a> {
    /// Makes sure of the entries of `days`, each with its number as score.
    ///
    /// # Errors
    /// `K` is no index.
    pub(crate) fn hold(ctx: Context<'a>, meter: Meter<'a>, days: &[Day]) -> Result<Self, Error> {
        let index = Key::<SortedSet, Writable>::open(ctx, meter.key())?;
        check_ends(&index)?;
        let entry = |day: &Day| {
            let member = OwnedStr::new(&day.digits());
            let before = index.score(member.as_str());
            let is_right = before == Some(f64::from(day.number()));
            (!is_right).then(|| Scored { member, score: i64::from(day.number()), is_new: before.is_none() })
        };
        let add = days.iter().filter_map(entry).collect();
        Ok(Self { index, add, remove: Vec::new(), expire: None })
    }

    /// The index expires with the last of its days, of which `day` expires at `at`, or not at all.
    ///
    /// # Errors
    /// [`Error::TryAgain`].
    pub(crate) fn expiring(
        self,
        ctx: Context<'_>,
        meter: Meter<'_>,
        day: Day,
        at: Option<Millis>,
    ) -> Result<Self, Error> {
        let (exists, present) = (self.index.exists(), self.index.expiry());
        let expire = match (at, present) {
            (Some(at), None) if !exists => Some(Some(at)),
            (Some(at), None) => last_expiry(ctx, meter, &self.index, &[day], Some(at))?.map(Some),
            (Some(at), Some(before)) => (before < at).then_some(Some(at)),
            (None, present) => present.map(|_| None),
        };
        Ok(Self { expire, ..self })
    }

    /// Clears entries of days away that had expired by themselves before `before`.
    pub(crate) fn clearing(self, ctx: Context<'_>, meter: Meter<'_>, before: Option<Day>) -> Self {
        let Some(before) = before else { return self };
        let mut old = Vec::new();
        self.index.each_scored(Order::Ascending, f64::NEG_INFINITY, f64::from(before.number() - 1), |member, _| {
            old.push(member);
            old.len() < MOST_CLEARED
        });
        let gone = |member: &OwnedStr| {
            Day::parse_digits(member).is_some_and(|day| walk::is_held(ctx, meter, day).is_ok_and(|held| !held))
        };
        Self { remove: old.into_iter().filter(gone).collect(), ..self }
    }

    /// Removes the entries of `days`.
    ///
    /// # Errors
    /// `K` is no index.
    pub(crate) fn remove(ctx: Context<'a>, meter: Meter<'a>, days: &[Day]) -> Result<Self, Error> {
        let index = Key::<SortedSet, Writable>::open(ctx, meter.key())?;
        check_ends(&index)?;
        let members = days.iter().map(|day| OwnedStr::new(&day.digits()));
        let remove: Vec<OwnedStr> = members.filter(|member| index.score(member.as_str()).is_some()).collect();
        // The day that kept it from expiring may be among them.
        let stays = index.len() > remove.len() && index.expiry().is_none();
        let expire = if stays { last_expiry(ctx, meter, &index, days, None)?.map(Some) } else { None };
        Ok(Self { index, add: Vec::new(), remove, expire })
    }

    /// Makes the change.
    pub(crate) fn commit(self) -> Option<Change<'a>> {
        let Self { index, add, remove, expire } = self;
        let add = (!add.is_empty()).then_some(Effect::SortedSetScores(add));
        let remove = (!remove.is_empty()).then_some(Effect::SortedSetRemove(remove));
        index.change(effects([add, remove, expire.map(Effect::Expire)]))
    }
}

/// When the last day of an index without an expiry expires, but for some, which do at `last`; `None` if one of the others
/// does not expire, or there are too many to ask.
fn last_expiry(
    ctx: Context<'_>,
    meter: Meter<'_>,
    index: &Key<'_, SortedSet, Writable>,
    except: &[Day],
    mut last: Option<Millis>,
) -> Result<Option<Millis>, Error> {
    if index.len() > MOST_ASKED + except.len() {
        return Ok(None);
    }
    for other in days(ctx, meter, Day::FIRST, Day::LAST)?.into_iter().filter(|other| !except.contains(other)) {
        let name = meter.day_key(other);
        let key = meter.read::<Any>(ctx, &name)?;
        if key.exists() {
            match key.expiry() {
                Some(expiry) => last = last.max(Some(expiry)),
                None => return Ok(None),
            }
        } else if walk::has_breakdown(ctx, meter, other)? {
            return Ok(None);
        }
    }
    Ok(last)
}

/// The days from `from` to `to` that the index names, ascending; whether they are still there, their keys say.
///
/// # Errors
/// `K` is no sorted set, or one that is no index.
pub(crate) fn days(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day) -> Result<Vec<Day>, Error> {
    let index = Key::<SortedSet>::read(ctx, meter.key())?;
    let span = usize::try_from((to.end().0 - from.end().0) / MILLIS_PER_DAY + 1).unwrap_or_default();
    let (mut days, mut foreign) = (Vec::with_capacity(span.min(index.len())), None);
    let mut unread = index.len();
    index.each_scored(Order::Ascending, f64::from(from.number()), f64::from(to.number()), |member, score| {
        unread = unread.saturating_sub(1);
        match Day::parse_digits(&member) {
            // An entry with another score than its own is mended by the day's next hit.
            Some(day) if f64::from(day.number()) == score => days.push(day),
            Some(_) => {}
            None => foreign = Some(no_index(index.name(), &member)),
        }
        foreign.is_none()
    });
    if foreign.is_none() && unread > 0 {
        check_ends(&index)?;
    }
    foreign.map_or(Ok(days), Err)
}
