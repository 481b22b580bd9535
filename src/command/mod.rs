//! One file per command. Each takes the same steps in the same order: read the arguments, read the state, ask the
//! algorithm, write, reply. For limiters `limiter` takes them, and a limiter's file says with what.

mod arguments;
mod cell_log;
mod cell_mthrottle;
mod cell_pull;
mod cell_slide;
mod cell_throttle;
mod cell_window;
mod limiter;
mod meter_hit;
mod meter_kpi;

pub(crate) use cell_log::CellLog;
pub(crate) use cell_mthrottle::{CellMthrottle, CellMthrottleRo};
pub(crate) use cell_pull::CellPull;
pub(crate) use cell_slide::CellSlide;
pub(crate) use cell_throttle::{CellThrottle, ClThrottle};
pub(crate) use cell_window::CellWindow;
pub(crate) use limiter::{Peek, Take};
pub(crate) use meter_hit::MeterHit;
pub(crate) use meter_kpi::MeterKpi;
