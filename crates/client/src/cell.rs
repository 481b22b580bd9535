//! Limiters: `CELL.*`.

use std::time::Duration;

use redis::{Cmd, FromRedisValue, ParsingError, Value, cmd};

use crate::arguments::{Name, name, option, seconds};
use crate::command::Command;
use crate::reply::{bytes, count, elements, exactly, int, text};

/// What a limiter returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it refused.
    pub limited: bool,
    /// The most cells that one call can take from a full limiter.
    pub limit: u64,
    /// The cells that one more call could take now.
    pub remaining: u64,
    /// The span until this same call would pass; `None` if it was not limited, or can never pass.
    pub retry_after: Option<Duration>,
    /// The span until the limiter is fully replenished.
    pub reset_after: Duration,
    /// The number of cells taken; only with `PARTIAL`.
    pub taken: Option<u64>,
}

impl Verdict {
    /// Whether the quantity is more than the limiter can ever admit at once.
    pub fn can_never_pass(&self) -> bool {
        self.limited && self.retry_after.is_none()
    }
}

impl FromRedisValue for Verdict {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let values = elements(value)?;
        let [limited, limit, remaining, retry_after, reset_after, rest @ ..] = values.as_slice() else {
            return Err(format!("a limiter returned {} elements", values.len()).into());
        };
        let retry_after = u64::try_from(int(retry_after)?).ok().map(Duration::from_millis);
        Ok(Self {
            limited: int(limited)? != 0,
            limit: count(limit)?,
            remaining: count(remaining)?,
            retry_after,
            reset_after: Duration::from_millis(count(reset_after)?),
            taken: rest.first().map(count).transpose()?,
        })
    }
}

/// The options that the limiters share.
#[derive(Clone, Copy, Debug)]
struct Options {
    quantity: i64,
    partial: bool,
    read_only: bool,
}

impl Options {
    const ONE: Self = Self { quantity: 1, partial: false, read_only: false };

    fn command(self, name: &str, read_only: &str, key: &[u8]) -> Cmd {
        let mut command = cmd(if self.read_only { read_only } else { name });
        command.arg(key);
        command
    }

    fn write(self, command: &mut Cmd) {
        if self.quantity != 1 {
            command.arg(self.quantity);
        }
        if self.partial {
            command.arg("PARTIAL");
        }
        command.arg("MS");
    }
}

/// The setters of the shared options.
macro_rules! options {
    () => {
        /// How many cells; 0 is a dry run, a negative number a refund.
        #[must_use]
        pub fn quantity(mut self, quantity: i64) -> Self {
            self.options.quantity = quantity;
            self
        }

        /// By the read-only variant: what the call would return, on replicas too.
        #[must_use]
        pub fn read_only(mut self) -> Self {
            self.options.read_only = true;
            self
        }
    };
    (partial) => {
        options!();

        /// Takes as many cells of the quantity as fit.
        #[must_use]
        pub fn partial(mut self) -> Self {
            self.options.partial = true;
            self
        }
    };
}

/// `CELL.THROTTLE`: the generic cell rate algorithm.
#[derive(Clone, Debug)]
pub struct Throttle {
    key: Name,
    max_burst: u64,
    count: u64,
    period: Duration,
    options: Options,
}

impl Throttle {
    /// `count` cells per `period`, and `max_burst` more at once.
    pub fn new(key: impl AsRef<[u8]>, max_burst: u64, count: u64, period: Duration) -> Self {
        Self { key: name(key), max_burst, count, period, options: Options::ONE }
    }

    options!(partial);
}

impl Command for Throttle {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = self.options.command("CELL.THROTTLE", "CELL.THROTTLE_RO", &self.key);
        command.arg(self.max_burst).arg(self.count).arg(seconds(self.period));
        self.options.write(&mut command);
        command
    }
}

/// `CELL.MTHROTTLE`: several limits in one step. All are taken, or none.
#[derive(Clone, Debug, Default)]
pub struct MThrottle {
    limits: Vec<Throttle>,
    read_only: bool,
}

impl MThrottle {
    /// Without a limit yet; it needs at least one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a limit with its quantity. In a cluster, the keys of all limits share a slot.
    #[must_use]
    pub fn limit(mut self, limit: Throttle) -> Self {
        self.limits.push(limit);
        self
    }

    /// By the read-only variant.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

impl Command for MThrottle {
    /// One verdict for each limit, in order.
    type Reply = Vec<Verdict>;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd(if self.read_only { "CELL.MTHROTTLE_RO" } else { "CELL.MTHROTTLE" });
        for limit in &self.limits {
            command.arg(limit.key.as_slice()).arg(limit.max_burst).arg(limit.count).arg(seconds(limit.period));
            command.arg(limit.options.quantity);
        }
        command.arg("MS");
        command
    }
}

/// `CELL.WINDOW`: a fixed window from the first hit.
#[derive(Clone, Debug)]
pub struct Window {
    key: Name,
    limit: u64,
    period: Duration,
    block: Option<Duration>,
    options: Options,
}

impl Window {
    /// `limit` calls in a window of `period`.
    pub fn new(key: impl AsRef<[u8]>, limit: u64, period: Duration) -> Self {
        Self { key: name(key), limit, period, block: None, options: Options::ONE }
    }

    /// The first call beyond the limit blocks the key for this time.
    #[must_use]
    pub fn block(mut self, block: Duration) -> Self {
        self.block = Some(block);
        self
    }

    options!(partial);
}

impl Command for Window {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = self.options.command("CELL.WINDOW", "CELL.WINDOW_RO", &self.key);
        command.arg(self.limit).arg(seconds(self.period));
        self.options.write(&mut command);
        if let Some(block) = self.block {
            option(&mut command, "BLOCK", seconds(block));
        }
        command
    }
}

/// `CELL.LOG`: an exact sliding window.
#[derive(Clone, Debug)]
pub struct Log {
    key: Name,
    limit: u64,
    period: Duration,
    options: Options,
}

impl Log {
    /// Never more than `limit` in any `period`.
    pub fn new(key: impl AsRef<[u8]>, limit: u64, period: Duration) -> Self {
        Self { key: name(key), limit, period, options: Options::ONE }
    }

    options!(partial);
}

impl Command for Log {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = self.options.command("CELL.LOG", "CELL.LOG_RO", &self.key);
        command.arg(self.limit).arg(seconds(self.period));
        self.options.write(&mut command);
        command
    }
}

/// `CELL.SLIDE`: a sliding-window counter, from the counts of two windows.
#[derive(Clone, Debug)]
pub struct Slide {
    key: Name,
    limit: u64,
    period: Duration,
    options: Options,
}

impl Slide {
    /// About `limit` in any `period`.
    pub fn new(key: impl AsRef<[u8]>, limit: u64, period: Duration) -> Self {
        Self { key: name(key), limit, period, options: Options::ONE }
    }

    options!(partial);
}

impl Command for Slide {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = self.options.command("CELL.SLIDE", "CELL.SLIDE_RO", &self.key);
        command.arg(self.limit).arg(seconds(self.period));
        self.options.write(&mut command);
        command
    }
}

/// The unit of a calendar quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A clock hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday on.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Unit {
    /// The keyword of the command.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }
}

/// `CELL.QUOTA`: a quota for each calendar unit.
#[derive(Clone, Debug)]
pub struct Quota {
    key: Name,
    limit: u64,
    unit: Unit,
    anchor: Option<String>,
    offset: Option<String>,
    options: Options,
}

impl Quota {
    /// `limit` for each unit.
    pub fn new(key: impl AsRef<[u8]>, limit: u64, unit: Unit) -> Self {
        Self { key: name(key), limit, unit, anchor: None, offset: None, options: Options::ONE }
    }

    /// Units begin on this date's day (`20220731` or `2022-07-31`); not with [`Unit::Hour`].
    #[must_use]
    pub fn anchor(mut self, date: impl Into<String>) -> Self {
        self.anchor = Some(date.into());
        self
    }

    /// The local clock's offset from UTC, from `-23:59` to `+23:59`.
    #[must_use]
    pub fn offset(mut self, offset: impl Into<String>) -> Self {
        self.offset = Some(offset.into());
        self
    }

    options!(partial);
}

impl Command for Quota {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = self.options.command("CELL.QUOTA", "CELL.QUOTA_RO", &self.key);
        command.arg(self.limit).arg(self.unit.keyword());
        self.options.write(&mut command);
        if let Some(date) = &self.anchor {
            option(&mut command, "ANCHOR", date);
        }
        if let Some(offset) = &self.offset {
            option(&mut command, "OFFSET", offset);
        }
        command
    }
}

/// `CELL.PULL`: pops cells from a list, no faster than a rate.
#[derive(Clone, Debug)]
pub struct Pull {
    queue: Name,
    limiter: Throttle,
    cells: Option<u64>,
    timeout: Option<Duration>,
    into: Option<Name>,
}

impl Pull {
    /// From the tail of `queue`, at the rate of `limiter`, of which the quantity is not used.
    pub fn new(queue: impl AsRef<[u8]>, limiter: Throttle) -> Self {
        Self { queue: name(queue), limiter, cells: None, timeout: None, into: None }
    }

    /// At most this many cells, instead of one.
    #[must_use]
    pub fn count(mut self, cells: u64) -> Self {
        self.cells = Some(cells);
        self
    }

    /// Blocks until a cell can be taken, at most this long; zero blocks indefinitely. A connection that is shared is
    /// blocked for all its users: use one of its own.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Pushes each cell to the head of this list in the same step.
    #[must_use]
    pub fn into_list(mut self, list: impl AsRef<[u8]>) -> Self {
        self.into = Some(name(list));
        self
    }
}

impl Command for Pull {
    type Reply = Pulled;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("CELL.PULL");
        let Throttle { key, max_burst, count, period, .. } = &self.limiter;
        command.arg(self.queue.as_slice()).arg(key.as_slice()).arg(max_burst).arg(count).arg(seconds(*period));
        if let Some(cells) = self.cells {
            option(&mut command, "COUNT", cells);
        }
        if let Some(timeout) = self.timeout {
            option(&mut command, "TIMEOUT", seconds(timeout));
        }
        if let Some(list) = &self.into {
            option(&mut command, "INTO", list.as_slice());
        }
        command.arg("MS");
        command
    }
}

/// What `CELL.PULL` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The cells, the oldest first.
    pub cells: Vec<Vec<u8>>,
    /// The span until the next one is due.
    pub retry_after: Duration,
}

impl FromRedisValue for Pulled {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [cells, retry_after] = exactly(value)?;
        let cells = elements(cells)?.into_iter().filter_map(|cell| bytes(cell).transpose());
        let retry_after = Duration::from_millis(count(&retry_after)?);
        Ok(Self { cells: cells.collect::<Result<_, _>>()?, retry_after })
    }
}

/// `CELL.LEASE`: takes one of a number of places, or renews its lease.
#[derive(Clone, Debug)]
pub struct Lease {
    key: Name,
    limit: u64,
    ttl: Duration,
    holder: Name,
    timeout: Option<Duration>,
    read_only: bool,
}

impl Lease {
    /// One of `limit` places, for `ttl` (at most 366 days), for `holder`, which may not be empty.
    pub fn new(key: impl AsRef<[u8]>, limit: u64, ttl: Duration, holder: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), limit, ttl, holder: name(holder), timeout: None, read_only: false }
    }

    /// Blocks until a place is free, at most this long; zero blocks indefinitely. A connection that is shared is
    /// blocked for all its users: use one of its own.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// By the read-only variant, which never blocks.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

impl Command for Lease {
    type Reply = Verdict;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd(if self.read_only { "CELL.LEASE_RO" } else { "CELL.LEASE" });
        command.arg(self.key.as_slice()).arg(self.limit).arg(seconds(self.ttl)).arg(self.holder.as_slice());
        if let Some(timeout) = self.timeout {
            option(&mut command, "TIMEOUT", seconds(timeout));
        }
        command.arg("MS");
        command
    }
}

/// `CELL.RELEASE`: frees the place of a holder; returns whether it had one.
#[derive(Clone, Debug)]
pub struct Release {
    key: Name,
    holder: Name,
}

impl Release {
    /// The place of `holder`.
    pub fn new(key: impl AsRef<[u8]>, holder: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), holder: name(holder) }
    }
}

impl Command for Release {
    type Reply = bool;

    fn to_cmd(&self) -> Cmd {
        cmd("CELL.RELEASE").arg(self.key.as_slice()).arg(self.holder.as_slice()).to_owned()
    }
}

/// `CELL.REFUSED`: the limiter keys that a node refuses most. It has no key: ask each node of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused {
    count: Option<u64>,
}

impl Refused {
    /// The ten most refused keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many, instead of ten.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

impl Command for Refused {
    type Reply = Vec<Refusal>;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("CELL.REFUSED");
        if let Some(count) = self.count {
            option(&mut command, "COUNT", count);
        }
        command
    }
}

/// How often a key was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The database of the key.
    pub db: u64,
    /// The key.
    pub key: Vec<u8>,
    /// The command that refused it last.
    pub command: String,
    /// An estimate that is never too low.
    pub refusals: u64,
}

impl FromRedisValue for Refusal {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [db, key, command, refusals] = exactly(value)?;
        let key = bytes(key)?.unwrap_or_default();
        Ok(Self { db: count(&db)?, key, command: text(command)?, refusals: count(&refusals)? })
    }
}

/// `CELL.REFUSED RESET`: clears the refusals of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefusedReset;

impl Command for RefusedReset {
    type Reply = ();

    fn to_cmd(&self) -> Cmd {
        cmd("CELL.REFUSED").arg("RESET").to_owned()
    }
}
