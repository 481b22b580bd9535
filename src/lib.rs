//! Usage metering and rate limiting inside a Redis or Valkey server: the front door. It lists what the module brings;
//! what each command does is in `command/`.

mod algorithm;
mod command;
mod server;
mod settings;
mod stats;
mod store;
mod time;

use command::{CellThrottle, ClThrottle, MeterHit, MeterKpi};
use server::{Module, Registration};

static MODULE: Module = Module {
    name: c"meter",
    version: 1,
    families: &[&stats::METER, &stats::CELL],
    commands: &[
        // METER.HIT key [BY n] [AT unix-ms]
        Registration::of::<MeterHit>(),
        // METER.KPI key [DAY d | FROM d TO d [BY HOUR|DAY|MONTH|TOTAL]]
        Registration::of::<MeterKpi>(),
        // CELL.THROTTLE key max_burst count period [quantity] [MS]
        Registration::of::<CellThrottle>(),
        // CL.THROTTLE, the same under redis-cell's name
        Registration::only_if::<ClThrottle>(&settings::CL_THROTTLE),
    ],
    settings: &[&settings::RETENTION_DAYS, &settings::MAX_FUTURE_MS, &settings::CL_THROTTLE],
    info: (c"usage", &stats::FIELDS),
};

server::export_module!(&MODULE);
