//! What is true without Redis: pure functions from a state, a request and an instant to an answer and a new state.
#![forbid(unsafe_code)]

pub mod answer;
pub mod calendar;
pub mod gcra;
pub mod hash;
pub mod heavy_hitters;
pub mod hit;
pub mod layout;
pub mod lease;
pub mod log;
pub mod number;
pub mod partial;
pub mod price;
pub mod quota;
pub mod ranking;
pub mod slide;
pub mod tally;
pub mod time;
pub mod window;
