//! The `METER.*` and `CELL.*` commands as typed calls over the [`redis`] crate.
//!
//! A command is a value that is built, and then run on any connection of that crate: a sync one, a multiplexed one, a
//! `ConnectionManager`, or one to a cluster, which routes each command by its first key.
//!
//! ```no_run
//! use redis_meter_client::{Command as _, Hit, Throttle};
//! use std::time::Duration;
//!
//! # fn main() -> redis::RedisResult<()> {
//! let mut server = redis::Client::open("redis://127.0.0.1/")?.get_connection()?;
//! let counted = Hit::new("kpi:sessions:app:shop:node:0").query(&mut server)?;
//! println!("{} today, {} in this hour", counted.day, counted.hour);
//!
//! let verdict = Throttle::new("user:42", 5, 10, Duration::from_secs(60)).query(&mut server)?;
//! if verdict.limited {
//!     println!("429, retry after {:?}", verdict.retry_after);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Names, members and ids are bytes, as they are in Redis. Waits are [`Duration`](std::time::Duration)s with a resolution
//! of a millisecond: every limiter is asked with the option `MS`.

mod arguments;
mod cell;
mod command;
mod meter;
mod reply;

pub use cell::{
    Lease, Log, MThrottle, Pull, Pulled, Quota, Refusal, Refused, RefusedReset, Release, Slide, Throttle, Unit,
    Verdict, Window,
};
pub use command::Command;
pub use meter::{
    Ack, Bucket, Cap, Cost, Costs, Day, Days, Drop, Hit, Hits, Index, Kpi, Price, Seal, Sealed, Span, Top, Uncounted,
    When,
};
