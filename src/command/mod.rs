//! One file per command. Each takes the same steps in the same order: read the arguments, read the state, ask the
//! algorithm, write, reply.

mod arguments;
mod cell_throttle;
mod meter_hit;
mod meter_kpi;

pub(crate) use cell_throttle::{CellThrottle, ClThrottle};
pub(crate) use meter_hit::MeterHit;
pub(crate) use meter_kpi::MeterKpi;
