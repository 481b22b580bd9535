//! What the commands of all limiters share: `key numbers… [quantity] [options] [MS]`, the five integers, and the
//! read-only twin. A limiter adds its numbers, its state and its algorithm.
//!
//! What stands on the way of every call is inlined, here and where a limiter takes over: the compiler leaves functions of
//! several callers alone, and their large results then go through memory. Measured, it is a fifth of a refused call.

use std::ffi::CStr;
use std::marker::PhantomData;

use crate::server::{Access, Command, Context, Error, KeyUse, Shown, Spec, Str};
use crate::stats;
use redis_meter_core::answer::{Answer, Decision, Next, TooLong, Unit};
use redis_meter_core::number::parse_integer;
use redis_meter_core::time::Micros;

use super::arguments::{Options, is_keyword, set_once};

/// A limiter.
pub(crate) trait Limiter {
    /// What the server should know of the command that takes.
    const SPEC: Spec;
    /// The name of the twin that only looks.
    const RO_NAME: &'static CStr;
    /// How many arguments stand between the key and the quantity.
    const NUMBERS: usize;
    /// The options, for errors.
    const OPTIONS: &'static str = "MS";

    /// The numbers of a call: how much the limiter takes.
    type Policy;
    /// An open key, and what it holds.
    type State<'a>;
    /// What a decision stores.
    type Change;

    /// Reads the numbers.
    fn policy(numbers: &[Str<'_>]) -> Result<Self::Policy, Error>;

    /// Reads an option of its own, and says whether `word` is one.
    fn option(_policy: &mut Self::Policy, _word: Str<'_>, _options: &mut Options<'_, '_>) -> Result<bool, Error> {
        Ok(false)
    }

    /// Reads the state.
    fn open<'a>(ctx: Context<'a>, key: Str<'a>, access: Access) -> Result<Self::State<'a>, Error>;

    /// Asks the algorithm.
    fn decide(
        policy: &Self::Policy,
        state: &Self::State<'_>,
        now: Micros,
        quantity: i64,
    ) -> Result<Decision<Self::Change>, TooLong>;

    /// Writes what the decision leaves.
    fn save(policy: &Self::Policy, state: Self::State<'_>, next: Next<Self::Change>, now: Micros);
}

/// The command that takes from a limiter.
pub(crate) struct Take<L>(PhantomData<L>);

/// Its read-only twin: the same arguments and answer, nothing taken or repaired, on replicas too.
pub(crate) struct Peek<L>(PhantomData<L>);

impl<L: Limiter> Command for Take<L> {
    const SPEC: Spec = L::SPEC;

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, policy, quantity, unit } = Request::<L>::parse(arguments)?;

        let now = ctx.now();
        let state = L::open(ctx, key, Access::Write)?;

        let Decision { answer, next } = L::decide(&policy, &state, now, quantity).map_err(too_long)?;

        L::save(&policy, state, next, now);
        count_cells(&answer, quantity);

        ctx.reply_integers(answer.integers(unit));
        Ok(())
    }
}

impl<L: Limiter> Command for Peek<L> {
    const SPEC: Spec = read_only(L::SPEC, L::RO_NAME);

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, policy, quantity, unit } = Request::<L>::parse(arguments)?;

        let now = ctx.now();
        let state = L::open(ctx, key, Access::Read)?;

        let decision = L::decide(&policy, &state, now, quantity).map_err(too_long)?;

        ctx.reply_integers(decision.answer.integers(unit));
        Ok(())
    }
}

/// The description of a read-only twin.
pub(super) const fn read_only(spec: Spec, name: &'static CStr) -> Spec {
    Spec {
        name,
        key: KeyUse::Read,
        summary: c"Returns what the command of this name without _RO would answer, and takes nothing.",
        ..spec
    }
}

struct Request<'a, L: Limiter> {
    key: Str<'a>,
    policy: L::Policy,
    quantity: i64,
    unit: Unit,
}

impl<'a, L: Limiter> Request<'a, L> {
    #[inline(always)]
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let (key, rest) = arguments.split_first().ok_or(Error::Arity)?;
        let (numbers, rest) = rest.split_at_checked(L::NUMBERS).ok_or(Error::Arity)?;
        let mut policy = L::policy(numbers)?;
        // What begins as a keyword does is an option; the quantity can only come first.
        let (quantity, options) = match rest {
            [first, options @ ..] if !first.bytes().first().is_some_and(u8::is_ascii_alphabetic) => {
                (parse_quantity(*first)?, options)
            }
            options => (1, options),
        };
        let mut unit = None;
        let mut options = Options::new(options, L::OPTIONS);
        while let Some(word) = options.next() {
            if is_keyword(word, "MS") {
                set_once(&mut unit, "MS", Unit::Millis)?;
            } else if !L::option(&mut policy, word, &mut options)? {
                return Err(options.unknown(word));
            }
        }
        Ok(Self { key: *key, policy, quantity, unit: unit.unwrap_or(Unit::Seconds) })
    }
}

/// The argument `quantity`.
#[inline(always)]
pub(super) fn parse_quantity(text: Str<'_>) -> Result<i64, Error> {
    parse_integer(text.bytes())
        .ok_or_else(|| Error::refused(format!("quantity must be an integer of 64 bits, not {}", Shown(text.bytes()))))
}

/// The error for numbers with which the limiter would reach too far ahead.
pub(super) fn too_long(_: TooLong) -> Error {
    Error::refused("the limiter would reach beyond the year 2262: ask for fewer cells at once, or a shorter period")
}

/// Counts in INFO what was asked for.
pub(super) fn count_cells(answer: &Answer, quantity: i64) {
    if let Ok(cells) = u64::try_from(quantity) {
        let counter = if answer.limited { &stats::CELLS_REFUSED } else { &stats::CELLS_ALLOWED };
        counter.add(cells);
    }
}
