//! What the commands of all limiters share: `key numbers… [quantity] [options] [MS]`, the five integers, and the
//! read-only variant. A limiter adds its numbers, its state and its algorithm.
//!
//! The functions that every call runs are inlined, here and in the files of the limiters: the compiler does not inline
//! functions with several callers, and their large results then pass through memory. Measured, that is a fifth of a
//! refused call.

use std::ffi::CStr;
use std::marker::PhantomData;

use redis_meter_core::answer::{Answer, Decision, Next, TooLong, Unit};
use redis_meter_core::number::parse_integer;
use redis_meter_core::partial::{Partial, as_many_as_fit};
use redis_meter_core::time::Micros;

use crate::server::{
    Access, Change, Command, Context, Error, KeyUse, ReadOnly, Shown, Spec, Str, Writable, key_changed,
};
use crate::{refusals, stats};

use super::arguments::{Options, is_keyword, set_once};

/// A limiter.
pub(crate) trait Limiter {
    /// The command that takes, as the server registers it.
    const SPEC: Spec;
    /// Its name, in upper case.
    const NAME: &'static str;
    /// The name of the read-only variant.
    const RO_NAME: &'static CStr;
    /// The number of arguments between the key and the quantity.
    const NUMBERS: usize;
    /// The most cells that a call may take or refund at once.
    const MOST_CELLS: i64 = i64::MAX;
    /// What may follow the numbers, for errors.
    const OPTIONS: &'static str = "[quantity] [PARTIAL] [MS]";

    /// The numbers of a call, such as limit and period.
    type Policy;
    /// An open key, and the state in it.
    type State<'a, A: Access>;
    /// What a decision stores: the new state, or how it changes.
    type Update;

    /// Parses the numbers.
    fn policy(numbers: &[Str<'_>]) -> Result<Self::Policy, Error>;

    /// Parses an option that only this limiter has; returns whether `word` is one.
    fn option(_policy: &mut Self::Policy, _word: Str<'_>, _options: &mut Options<'_, '_>) -> Result<bool, Error> {
        Ok(false)
    }

    /// Reads the state.
    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<Self::State<'a, A>, Error>;

    /// Decides on a call; changes nothing.
    fn decide<A: Access>(
        policy: &Self::Policy,
        state: &Self::State<'_, A>,
        now: Micros,
        quantity: i64,
    ) -> Result<Decision<Self::Update>, TooLong>;

    /// Stores what was decided.
    ///
    /// # Errors
    /// The key holds a value that the limiter did not write; nothing has been changed.
    fn save<'a>(
        policy: &Self::Policy,
        state: Self::State<'a, Writable>,
        next: Next<Self::Update>,
        now: Micros,
    ) -> Result<Option<Change<'a>>, Error>
    where
        'a: 'a;
}

/// The command that takes from a limiter.
pub(crate) struct Take<L>(PhantomData<L>);

/// Its read-only variant: the same arguments and reply, nothing taken or repaired, on replicas too.
pub(crate) struct Peek<L>(PhantomData<L>);

impl<L: Limiter> Command for Take<L> {
    const SPEC: Spec = L::SPEC;

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::<L>::parse(arguments)?;

        let now = ctx.now();
        let state = L::open::<Writable>(ctx, request.key)?;

        let (Decision { answer, next }, taken) = request.decide(&state, now)?;

        if let Some(change) = L::save(&request.policy, state, next, now)? {
            change.tell(ctx);
            if request.quantity < 0 {
                key_changed(ctx, request.key);
            }
        }
        count_cells(&answer, request.quantity, taken);
        if answer.limited {
            refusals::record(ctx, request.key, L::NAME);
        }

        reply(ctx, &answer, taken, request.unit);
        Ok(())
    }
}

impl<L: Limiter> Command for Peek<L> {
    const SPEC: Spec = read_only(L::SPEC, L::RO_NAME);

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::<L>::parse(arguments)?;

        let state = L::open::<ReadOnly>(ctx, request.key)?;

        let (decision, taken) = request.decide(&state, ctx.now())?;

        reply(ctx, &decision.answer, taken, request.unit);
        Ok(())
    }
}

/// The description of a read-only variant.
pub(super) const fn read_only(spec: Spec, name: &'static CStr) -> Spec {
    Spec {
        name,
        key: KeyUse::Read,
        summary: c"Returns what the command of this name without _RO would return, and takes nothing.",
        ..spec
    }
}

struct Request<'a, L: Limiter> {
    key: Str<'a>,
    policy: L::Policy,
    quantity: i64,
    /// Whether to take as many of the quantity as fit.
    partial: bool,
    unit: Unit,
}

impl<'a, L: Limiter> Request<'a, L> {
    #[inline(always)]
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let (key, rest) = arguments.split_first().ok_or(Error::Arity)?;
        let (numbers, rest) = rest.split_at_checked(L::NUMBERS).ok_or(Error::Arity)?;
        let mut policy = L::policy(numbers)?;
        let (quantity, options) = match rest {
            [first, options @ ..] if !is_option(*first) => (parse_quantity(*first)?, options),
            options => (1, options),
        };
        let (mut unit, mut partial) = (None, None);
        let mut options = Options::new(options, L::OPTIONS);
        while let Some(word) = options.next() {
            if is_keyword(word, "MS") {
                set_once(&mut unit, "MS", Unit::Millis)?;
            } else if is_keyword(word, "PARTIAL") {
                set_once(&mut partial, "PARTIAL", ())?;
            } else if !L::option(&mut policy, word, &mut options)? {
                return Err(options.unknown(word));
            }
        }
        let partial = partial.is_some();
        if partial && quantity < 1 {
            return Err(Error::refused(format!("PARTIAL takes a quantity of at least 1, not {quantity}")));
        }
        Ok(Self { key: *key, policy, quantity, partial, unit: unit.unwrap_or(Unit::Seconds) })
    }

    /// The decision; with PARTIAL also how many cells are taken.
    #[inline(always)]
    fn decide<A: Access>(
        &self,
        state: &L::State<'_, A>,
        now: Micros,
    ) -> Result<(Decision<L::Update>, Option<i64>), Error> {
        if !self.partial {
            let decision = L::decide(&self.policy, state, now, self.quantity).map_err(too_long)?;
            let beyond = self.quantity.checked_abs().is_none_or(|cells| cells > L::MOST_CELLS);
            if beyond && !matches!(decision.next, Next::Keep | Next::Clear) && !decision.answer.limited {
                return Err(too_many_cells::<L>());
            }
            return Ok((decision, None));
        }
        let decide = |quantity| L::decide(&self.policy, state, now, quantity);
        let Partial { decision, taken } = as_many_as_fit(self.quantity.min(L::MOST_CELLS), decide).map_err(too_long)?;
        Ok((decision, Some(taken)))
    }
}

/// Whether a word in the place of the quantity is an option, known or not: quantities do not begin with a letter.
#[inline(always)]
fn is_option(word: Str<'_>) -> bool {
    word.bytes().first().is_some_and(u8::is_ascii_alphabetic)
}

#[cold]
fn too_many_cells<L: Limiter>() -> Error {
    Error::refused(format!("quantity must be from -{0} to {0}: take more in several calls", L::MOST_CELLS))
}

#[inline(always)]
fn reply(ctx: Context<'_>, answer: &Answer, taken: Option<i64>, unit: Unit) {
    match taken {
        None => ctx.reply_integers(answer.integers(unit)),
        Some(taken) => ctx.reply_integers(answer.integers_and_taken(unit, taken)),
    }
}

/// The argument `quantity`.
#[inline(always)]
pub(super) fn parse_quantity(text: Str<'_>) -> Result<i64, Error> {
    parse_integer(text.bytes())
        .ok_or_else(|| Error::refused(format!("quantity must be a 64-bit integer, not {}", Shown(text.bytes()))))
}

/// The error for numbers whose spans do not fit in 64 bits of nanoseconds.
pub(super) fn too_long(_: TooLong) -> Error {
    Error::refused("the limiter would reach beyond the year 2262: ask for fewer cells at once, or a shorter period")
}

/// Counts in INFO the cells of a call; `taken` where a part of them may have been.
#[inline(always)]
pub(super) fn count_cells(answer: &Answer, quantity: i64, taken: Option<i64>) {
    let taken = taken.unwrap_or(if answer.limited { 0 } else { quantity });
    // A refund is neither.
    for (counter, cells) in [(&stats::CELLS_ALLOWED, taken), (&stats::CELLS_REFUSED, quantity.saturating_sub(taken))] {
        if let Ok(cells @ 1..) = u64::try_from(cells) {
            counter.add(cells);
        }
    }
}

/// The arguments of limiters, as COMMAND DOCS has them.
pub(super) mod arg {
    use crate::server::{Arg, Kind};

    pub(in crate::command) const MAX_BURST: Arg = Arg::new(c"max_burst", Kind::Integer);
    pub(in crate::command) const COUNT: Arg = Arg::new(c"count", Kind::Integer);
    pub(in crate::command) const PERIOD: Arg = Arg::new(c"period", Kind::Double);
    pub(in crate::command) const LIMIT: Arg = Arg::new(c"limit", Kind::Integer);
    pub(in crate::command) const QUANTITY: Arg = Arg::new(c"quantity", Kind::Integer);
    pub(in crate::command) const PARTIAL: Arg = Arg::new(c"partial", Kind::Flag).token(c"PARTIAL").optional();
    pub(in crate::command) const MS: Arg = Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional();
}
