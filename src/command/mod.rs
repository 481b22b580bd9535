//! One file per command. Each takes the same steps in the same order: read the arguments, read the state, ask the
//! algorithm, write, reply. For limiters `limiter` takes these steps, and a limiter's file supplies the algorithm.

mod arguments;
mod before;
mod cell_lease;
mod cell_log;
mod cell_mthrottle;
mod cell_pull;
mod cell_quota;
mod cell_refused;
mod cell_release;
mod cell_slide;
mod cell_throttle;
mod cell_window;
mod limiter;
mod meter_ack;
mod meter_cost;
mod meter_days;
mod meter_drop;
mod meter_hit;
mod meter_index;
mod meter_kpi;
mod meter_seal;
mod meter_top;
mod when;

pub(crate) use cell_lease::{CellLease, CellLeaseRo};
pub(crate) use cell_log::CellLog;
pub(crate) use cell_mthrottle::{CellMthrottle, CellMthrottleRo};
pub(crate) use cell_pull::CellPull;
pub(crate) use cell_quota::CellQuota;
pub(crate) use cell_refused::CellRefused;
pub(crate) use cell_release::CellRelease;
pub(crate) use cell_slide::CellSlide;
pub(crate) use cell_throttle::{CellThrottle, ClThrottle};
pub(crate) use cell_window::CellWindow;
pub(crate) use limiter::{Peek, Take};
pub(crate) use meter_ack::MeterAck;
pub(crate) use meter_cost::MeterCost;
pub(crate) use meter_days::MeterDays;
pub(crate) use meter_drop::MeterDrop;
pub(crate) use meter_hit::MeterHit;
pub(crate) use meter_index::MeterIndex;
pub(crate) use meter_kpi::MeterKpi;
pub(crate) use meter_seal::MeterSeal;
pub(crate) use meter_top::MeterTop;
