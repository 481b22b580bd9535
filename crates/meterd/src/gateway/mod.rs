//! Limits for gateways: rules as data, and checks that take all the limits of a request or none.

mod checker;
mod lease;
mod limit;
mod memory;
mod plan;
pub mod query;
mod request;
mod rules;
mod script;
mod tally;
mod unit;

pub use checker::{Checker, Decision, Status};
pub use lease::LeaseId;
pub use limit::{Algorithm, Limit};
pub use plan::{Invalid, Plan};
pub use request::{Descriptor, Request};
pub use rules::{Domain, Headers, OnError, Policy, Rule, Rules, Settings};
pub(crate) use rules::{files, is_yaml};
pub use tally::{Tallies, Tally};
pub use unit::Unit;
