//! A sliding counter's state: a hash of two windows. `start` (nanoseconds since the epoch) and `period` (nanoseconds)
//! say which is the current one, `current` and `previous` are their counts.

use redis_meter_core::answer::Next;
use redis_meter_core::number::parse_natural;
use redis_meter_core::slide::Slide;
use redis_meter_core::time::Nanos;

use crate::server::{
    Access, Change, Constant, Context, Effect, Error, Fields, Hash, Key, OwnedStr, ReadOnly, Str, Writable, effects,
};

use super::expiry;

static START: Constant = Constant::new("start");
static PERIOD: Constant = Constant::new("period");
static CURRENT: Constant = Constant::new("current");
static PREVIOUS: Constant = Constant::new("previous");

/// A sliding counter's key, and the windows that it holds.
pub(crate) struct StoredSlide<'a, A = ReadOnly> {
    key: Key<'a, Hash, A>,
    value: Option<Slide>,
}

impl<'a, A: Access> StoredSlide<'a, A> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no hash, or a hash that is no sliding counter.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let key = Key::open(ctx, name)?;
        let value = match key.exists() {
            true => Some(read(&key).ok_or_else(|| super::foreign(name, "a hash", "CELL.SLIDE"))?),
            false => None,
        };
        Ok(Self { key, value })
    }

    /// The windows, if there are any.
    pub(crate) fn value(&self) -> Option<Slide> {
        self.value
    }
}

impl<'a> StoredSlide<'a, Writable> {
    /// Leaves the state that a decision asks for. A state that stays, but has no expiry, is given one.
    pub(crate) fn save(self, next: Next<Slide>) -> Option<Change<'a>> {
        let (before, present) = (self.value, self.key.expiry());
        match next {
            Next::Keep => {
                let slide = before.filter(|_| present.is_none())?;
                let expiry = expiry::due(None, slide.end(), slide.period);
                self.key.change(effects([expiry.map(|at| Effect::Expire(Some(at)))]))
            }
            Next::Store(after) => {
                let expiry = expiry::due(present, after.end(), after.period).map(|at| Effect::Expire(Some(at)));
                // Within a window only the current count moves, except for refunds.
                let fields = if before.is_some_and(|before| Slide { current: after.current, ..before } == after) {
                    vec![(CURRENT.get(), OwnedStr::from_integer(after.current))]
                } else {
                    let numbers = [after.start.0, after.period.0, after.current, after.previous];
                    fields().into_iter().zip(numbers.map(OwnedStr::from_integer)).collect()
                };
                self.key.change(effects([Some(Effect::HashSet(Fields::Many(fields))), expiry]))
            }
            Next::Clear => self.key.change(effects([Some(Effect::Delete)])),
        }
    }
}

fn read<A: Access>(key: &Key<'_, Hash, A>) -> Option<Slide> {
    let [start, period, current, previous] = key.get_four(fields());
    let number = |text: Option<OwnedStr>| parse_natural(&text?);
    let slide = Slide {
        start: Nanos(number(start)?),
        period: Nanos(number(period)?),
        current: number(current)?,
        previous: number(previous)?,
    };
    (slide.period.0 > 0).then_some(slide)
}

fn fields() -> [Str<'static>; 4] {
    [&START, &PERIOD, &CURRENT, &PREVIOUS].map(Constant::get)
}
