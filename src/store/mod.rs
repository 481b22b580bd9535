//! How a state lies in Redis values: names of keys, codecs, and what is written when a state changes.

pub(crate) mod day;
pub(crate) mod index;
pub(crate) mod meter;
pub(crate) mod tat;
