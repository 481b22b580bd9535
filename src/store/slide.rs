//! A sliding counter's state: a hash of two windows. `start` (nanoseconds since the epoch) and `period` (nanoseconds)
//! say which is the current one, `current` and `previous` are their counts.

use crate::server::{Access, Constant, Context, Effect, Error, Hash, Key, OwnedStr, Str};
use redis_meter_core::answer::Next;
use redis_meter_core::number::parse_natural;
use redis_meter_core::slide::Slide;
use redis_meter_core::time::Nanos;

use super::expiry;

static START: Constant = Constant::new("start");
static PERIOD: Constant = Constant::new("period");
static CURRENT: Constant = Constant::new("current");
static PREVIOUS: Constant = Constant::new("previous");

/// A sliding counter's key, and the windows that it holds.
pub(crate) struct StoredSlide<'a> {
    key: Key<'a, Hash>,
    value: Option<Slide>,
}

impl<'a> StoredSlide<'a> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no hash, or a hash that is no sliding counter.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, access: Access) -> Result<Self, Error> {
        let key = Key::<Hash>::open(ctx, name, access)?;
        let value = if key.exists() { Some(read(&key).ok_or_else(super::no_state)?) } else { None };
        Ok(Self { key, value })
    }

    /// The windows, if there are any.
    pub(crate) fn value(&self) -> Option<Slide> {
        self.value
    }

    /// Leaves the state that a decision asks for. A state that stays, but has no expiry, is given one.
    pub(crate) fn save(self, next: Next<Slide>) {
        let (before, present) = (self.value, self.key.expiry());
        match next {
            Next::Keep => {
                if let (Some(slide), None) = (before, present) {
                    let expiry = expiry::due(None, slide.end(), slide.period);
                    self.key.commit(&[expiry.map(Effect::ExpireAt)]);
                }
            }
            Next::Store(after) => {
                let expiry = expiry::due(present, after.end(), after.period).map(Effect::ExpireAt);
                // Within a window only the current count moves, but for what is given back.
                if before.is_some_and(|before| Slide { current: after.current, ..before } == after) {
                    let current = OwnedStr::from_integer(after.current);
                    self.key.commit(&[Some(Effect::HashSet(&[(CURRENT.get(), current.as_str())])), expiry]);
                    return;
                }
                let numbers =
                    [after.start.0, after.period.0, after.current, after.previous].map(OwnedStr::from_integer);
                let fields = fields();
                let pairs: [_; 4] = std::array::from_fn(|place| (fields[place], numbers[place].as_str()));
                self.key.commit(&[Some(Effect::HashSet(&pairs)), expiry]);
            }
            Next::Clear => self.key.commit(&[Some(Effect::Delete)]),
        }
    }
}

fn read(key: &Key<'_, Hash>) -> Option<Slide> {
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
