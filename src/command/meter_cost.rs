//! `METER.COST key (DAY d | FROM d TO d) (RATE price | GRADUATED upto price … | VOLUME upto price …)`
//!
//! What the counts of a day or a span cost.

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Kind, Shown, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::{day, month};
use redis_meter_core::price::{MOST_DECIMALS, Price, PriceError, Tariff, Tier};

use super::arguments::{Options, integer, is_keyword, set_once};
use super::when::{When, WhenOptions};

pub(crate) struct MeterCost;

const GRAMMAR: &str =
    "DAY d or FROM d TO d, and RATE price, GRADUATED upto price ... inf price, or VOLUME upto price ... inf price";

const TIER: &[Arg] = &[Arg::new(c"upto", Kind::Text), Arg::new(c"price", Kind::Text)];

impl Command for MeterCost {
    const SPEC: Spec = Spec {
        name: c"meter.cost",
        family: &stats::METER,
        key: KeyUse::Read,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Returns the count of a day or a span, and what it costs by flat rate, graduated or volume tiers.",
        complexity: c"O(N) where N is the number of days stored in the span",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(c"when", Kind::OneOf(&[When::DAY, Arg::new(c"span", Kind::Block(&[When::FROM, When::TO]))])),
            Arg::new(
                c"tariff",
                Kind::OneOf(&[
                    Arg::new(c"rate", Kind::Text).token(c"RATE"),
                    Arg::new(c"graduated", Kind::Block(TIER)).token(c"GRADUATED").multiple(),
                    Arg::new(c"volume", Kind::Block(TIER)).token(c"VOLUME").multiple(),
                ]),
            ),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, when, tariff } = Request::parse(arguments)?;
        let meter = Meter::new(key)?;
        let usage = read_usage(ctx, meter, when)?;
        let cost = tariff
            .cost(usage)
            .map_err(|_| Error::refused(format!("the cost of {usage} does not fit in 128 bits: use a lower price")))?;
        ctx.reply_array(2);
        ctx.reply_integer(usage);
        ctx.reply_bytes(cost.to_string().as_bytes());
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    when: When,
    tariff: Tariff,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut when, mut tariff) = (WhenOptions::default(), None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if when.take(word, &mut options)? {
                continue;
            }
            let value = if is_keyword(word, "RATE") {
                Tariff::Rate(price(options.value("RATE")?)?)
            } else if is_keyword(word, "GRADUATED") {
                Tariff::Graduated(tiers(&mut options, "GRADUATED")?)
            } else if is_keyword(word, "VOLUME") {
                Tariff::Volume(tiers(&mut options, "VOLUME")?)
            } else {
                return Err(options.unknown(word));
            };
            set_once(&mut tariff, "the tariff (RATE, GRADUATED or VOLUME)", value)?;
        }
        let when = when.finish(GRAMMAR)?.ok_or_else(|| Error::refused(format!("give the days: {GRAMMAR}")))?;
        let tariff = tariff.ok_or_else(|| Error::refused(format!("give the price: {GRAMMAR}")))?;
        Ok(Self { key: *key, when, tariff })
    }
}

fn price(text: Str<'_>) -> Result<Price, Error> {
    Price::parse(text.bytes()).map_err(|error| {
        let wanted = match error {
            PriceError::Malformed => "a decimal number from 0, such as 3 or 0.02".to_owned(),
            PriceError::TooPrecise => format!("of at most {MOST_DECIMALS} digits after the point"),
            PriceError::TooHigh => "below 10^18".to_owned(),
        };
        Error::refused(format!("a price must be {wanted}, not {}", Shown(text.bytes())))
    })
}

/// Tiers, `upto price` each, to the one without an end.
fn tiers(options: &mut Options<'_, '_>, keyword: &str) -> Result<Vec<Tier>, Error> {
    let mut tiers: Vec<Tier> = Vec::new();
    loop {
        let Some(text) = options.next() else {
            return Err(Error::refused(format!(
                "the last tier of {keyword} must have no end: {keyword} upto price ... inf price"
            )));
        };
        let endless = is_keyword(text, "inf");
        let upto = match endless {
            true => i64::MAX,
            false => integer(text, &format!("each upto of {keyword} but the last, inf,"), 1..=i64::MAX)?,
        };
        if !endless && tiers.last().is_some_and(|last| upto <= last.upto) {
            return Err(Error::refused(format!("the tiers of {keyword} must ascend: {upto} comes too late")));
        }
        tiers.push(Tier { upto, price: price(options.value(keyword)?)? });
        if endless {
            return Ok(tiers);
        }
    }
}

/// The counts of the days, added up, those that were sealed or dropped included.
fn read_usage(ctx: Context<'_>, meter: Meter<'_>, when: When) -> Result<i64, Error> {
    let (from, to) = when.ends();
    let mut usage = match when {
        // The index need not say anything of one day.
        When::Day(day) => day::total_of(ctx, meter, day)?,
        When::Span { .. } => 0,
    };
    let except = match when {
        When::Day(day) => Some(day),
        When::Span { .. } => None,
    };
    for count in month::counts(ctx, meter, from, to, except)?.values() {
        usage = usage.checked_add(*count).ok_or_else(|| month::usage_too_large(meter))?;
    }
    Ok(usage)
}
