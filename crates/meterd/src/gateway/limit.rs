//! One limit, and the commands that it becomes.

use std::time::Duration;

use redis::Cmd;
use redis_meter_client::{Command as _, Lease, Log, MThrottle, Quota, Release, Slide, Throttle, Unit, Window};

/// How a limit decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `count` per `period`, and `burst` more at once.
    Gcra {
        /// How many more than one may come at once.
        burst: u64,
        /// How many a period, at least 1.
        count: u64,
        /// The period.
        period: Duration,
    },
    /// A window from the first hit, and how long a refusal shuts it.
    Window {
        /// How long the first refusal refuses everything.
        block: Option<Duration>,
    },
    /// An exact sliding window.
    Log,
    /// A sliding-window counter.
    Slide,
    /// A calendar unit.
    Quota {
        /// The unit.
        unit: Unit,
        /// A date whose day units begin on.
        anchor: Option<String>,
        /// The local clock's offset from UTC.
        offset: Option<String>,
    },
    /// The most that may be in flight at once; a lease expires after the span.
    InFlight,
    /// Refuses everything, without a call to Redis.
    Never,
}

/// A limit of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How it decides.
    pub algorithm: Algorithm,
    /// The most in each span.
    pub limit: u64,
    /// The span; of a calendar unit, its usual length; of a lease, its time to live.
    pub span: Duration,
}

impl Limit {
    /// The part of its keys' names that says what lies there: a key of one algorithm is none of another.
    pub(crate) fn kind(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Gcra { .. } => "gcra",
            Algorithm::Window { .. } => "window",
            Algorithm::Log => "log",
            Algorithm::Slide => "slide",
            Algorithm::Quota { .. } => "quota",
            Algorithm::InFlight => "in_flight",
            Algorithm::Never => "never",
        }
    }

    /// Whether a refused call must reach it, since that starts a block.
    pub(super) fn blocks(&self) -> bool {
        matches!(self.algorithm, Algorithm::Window { block: Some(_) })
    }

    /// Whether it takes a place for a holder, instead of cells.
    pub(crate) fn is_lease(&self) -> bool {
        self.algorithm == Algorithm::InFlight
    }

    /// Takes `quantity`; negative is a refund. By the read-only variant, what that would return.
    pub(super) fn command(&self, key: &[u8], quantity: i64, holder: &str, is_dry: bool) -> Cmd {
        macro_rules! command {
            ($command:expr) => {{
                let command = $command.quantity(quantity);
                if is_dry { command.read_only().to_cmd() } else { command.to_cmd() }
            }};
        }
        match &self.algorithm {
            Algorithm::Gcra { burst, count, period } => command!(Throttle::new(key, *burst, *count, *period)),
            Algorithm::Window { block } => {
                let window = Window::new(key, self.limit, self.span);
                command!(match block {
                    Some(block) => window.block(*block),
                    None => window,
                })
            }
            Algorithm::Log => command!(Log::new(key, self.limit, self.span)),
            Algorithm::Slide => command!(Slide::new(key, self.limit, self.span)),
            Algorithm::Quota { unit, anchor, offset } => {
                let mut quota = Quota::new(key, self.limit, *unit);
                if let Some(anchor) = anchor {
                    quota = quota.anchor(anchor);
                }
                if let Some(offset) = offset {
                    quota = quota.offset(offset);
                }
                command!(quota)
            }
            Algorithm::InFlight | Algorithm::Never => {
                let lease = Lease::new(key, self.limit.max(1), self.span, holder);
                // Without a quantity there is nothing to take a place for.
                if is_dry || quantity <= 0 { lease.read_only().to_cmd() } else { lease.to_cmd() }
            }
        }
    }

    /// Refunds what was taken.
    pub(super) fn refund(&self, key: &[u8], quantity: i64, holder: &str) -> Cmd {
        match self.is_lease() {
            true => Release::new(key, holder).to_cmd(),
            false => self.command(key, -quantity, holder, false),
        }
    }

    /// The same as one of several limits of one command, if it is of its kind.
    pub(super) fn throttle(&self, all: MThrottle, key: &[u8], quantity: i64) -> Option<MThrottle> {
        let Algorithm::Gcra { burst, count, period } = self.algorithm else { return None };
        Some(all.limit(Throttle::new(key, burst, count, period).quantity(quantity)))
    }
}
