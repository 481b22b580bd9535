//! What is true without Redis: pure functions from a state, a request and an instant to an answer and a new state.

pub(crate) mod answer;
pub(crate) mod calendar;
pub(crate) mod gcra;
pub(crate) mod log;
pub(crate) mod number;
pub(crate) mod price;
pub(crate) mod ranking;
pub(crate) mod slide;
pub(crate) mod tally;
pub(crate) mod window;
