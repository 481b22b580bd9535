//! Properties that must hold of every input, each a function of arbitrary bytes that panics if it does not hold.
//!
//! `fuzz/` has a target for each, which searches for bytes that break it; `tests/corpus.rs` replays the inputs in
//! `fuzz/corpus/`, in every run of the tests. Each property compares with a model that is written differently: wider
//! integers, the standard library, chrono, or a list of everything that happened.
#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "to panic is how a property reports that it does not hold")]

mod bytes;
mod calls;
mod layout;
mod limiters;
mod numbers;
mod ranking;

pub use calls::{hitters, leases, quota};
pub use layout::{cell, member, state};
pub use limiters::{gcra, log, slide, window};
pub use numbers::{date, instant, number, period, price, tally};
pub use ranking::ranking;

/// A property: it panics if it does not hold of these bytes.
pub type Property = fn(&[u8]);

/// Every property, with the name of its fuzz target and of its folder in `fuzz/corpus/`.
pub const ALL: [(&str, Property); 17] = [
    ("cell", cell),
    ("date", date),
    ("gcra", gcra),
    ("hitters", hitters),
    ("instant", instant),
    ("leases", leases),
    ("log", log),
    ("member", member),
    ("number", number),
    ("period", period),
    ("price", price),
    ("quota", quota),
    ("ranking", ranking),
    ("slide", slide),
    ("state", state),
    ("tally", tally),
    ("window", window),
];
