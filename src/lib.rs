//! Usage metering and rate limiting inside a Redis or Valkey server: the front door. It lists what the module brings;
//! what each command does is in `command/`.

mod command;
mod refusals;
mod server;
mod settings;
mod stats;
mod store;

use command::{
    CellLease, CellLeaseRo, CellLog, CellMthrottle, CellMthrottleRo, CellPull, CellQuota, CellRefused, CellRelease,
    CellSlide, CellThrottle, CellWindow, ClThrottle, MeterAck, MeterCost, MeterDays, MeterDrop, MeterHit, MeterIndex,
    MeterKpi, MeterSeal, MeterTop, Peek, Take,
};
use server::{Module, Registration};

static MODULE: Module = Module {
    name: c"meter",
    // M·10000 + m·100 + p
    version: 200,
    families: &[&stats::METER, &stats::CELL],
    commands: &[
        // METER.HIT key [BY n] [AT unix-ms] [PATH depth member …]… [UNIQUE id] [ONCE event-id]
        //     [CAP HOUR|DAY|MONTH limit | CAP SINCE date limit]… [WHY]
        Registration::of::<MeterHit>(),
        // METER.KPI key [DAY d | FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member …]]
        Registration::of::<MeterKpi>(),
        // METER.TOP key [DAY d | FROM d TO d] [PATH depth member …] [COUNT n]
        Registration::of::<MeterTop>(),
        // METER.DAYS key
        Registration::of::<MeterDays>(),
        // METER.COST key (DAY d | FROM d TO d) (RATE price | GRADUATED upto price … | VOLUME upto price …)
        Registration::of::<MeterCost>(),
        // METER.SEAL key [BEFORE d]
        Registration::of::<MeterSeal>(),
        // METER.ACK key batch-id
        Registration::of::<MeterAck>(),
        // METER.DROP key [BEFORE d]
        Registration::of::<MeterDrop>(),
        // METER.INDEX key FROM d TO d
        Registration::of::<MeterIndex>(),
        // CELL.THROTTLE[_RO] key max_burst count period [quantity] [PARTIAL] [MS]
        Registration::pair::<Take<CellThrottle>, Peek<CellThrottle>>(),
        // CELL.MTHROTTLE[_RO] key max_burst count period quantity [key …]… [MS]
        Registration::pair::<CellMthrottle, CellMthrottleRo>(),
        // CELL.WINDOW[_RO] key limit period [quantity] [BLOCK seconds] [PARTIAL] [MS]
        Registration::pair::<Take<CellWindow>, Peek<CellWindow>>(),
        // CELL.LOG[_RO] key limit period [quantity] [PARTIAL] [MS]
        Registration::pair::<Take<CellLog>, Peek<CellLog>>(),
        // CELL.SLIDE[_RO] key limit period [quantity] [PARTIAL] [MS]
        Registration::pair::<Take<CellSlide>, Peek<CellSlide>>(),
        // CELL.QUOTA[_RO] key limit HOUR|DAY|WEEK|MONTH|YEAR [quantity] [ANCHOR date] [OFFSET ±hh:mm] [PARTIAL] [MS]
        Registration::pair::<Take<CellQuota>, Peek<CellQuota>>(),
        // CELL.REFUSED [COUNT n] | CELL.REFUSED RESET
        Registration::of::<CellRefused>(),
        // CELL.PULL queue limiter max_burst count period [COUNT n] [TIMEOUT seconds] [INTO list] [MS]
        Registration::of::<CellPull>(),
        // CELL.LEASE[_RO] key limit ttl holder [TIMEOUT seconds] [MS]
        Registration::pair::<CellLease, CellLeaseRo>(),
        // CELL.RELEASE key holder
        Registration::of::<CellRelease>(),
        // CL.THROTTLE, CELL.THROTTLE under redis-cell's name
        Registration::of::<ClThrottle>().only_if(&settings::CL_THROTTLE),
    ],
    settings: &[
        &settings::RETENTION_DAYS,
        &settings::ONCE_DAYS,
        &settings::SEAL_MAX_KEYS,
        &settings::MAX_FUTURE_MS,
        &settings::REFUSED_KEYS,
        &settings::CL_THROTTLE,
        &settings::ALWAYS_REPLICATE,
    ],
    info: (c"usage", &stats::FIELDS),
};

server::export_module!(&MODULE);
