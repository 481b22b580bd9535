//! What INFO counts.

use crate::server::{Counter, EFFECTS_REPLICATED, Family, Field};

/// Hits counted: the sum of what was applied.
pub(crate) static HITS_COUNTED: Counter = Counter::new();
/// Hits subtracted by corrections.
pub(crate) static HITS_CORRECTED: Counter = Counter::new();
/// Duplicate hits, by their event id, that were not counted.
pub(crate) static HITS_DUPLICATE: Counter = Counter::new();
/// Hits that a cap refused.
pub(crate) static HITS_CAPPED: Counter = Counter::new();
/// Cells taken.
pub(crate) static CELLS_ALLOWED: Counter = Counter::new();
/// Cells that were asked for and refused.
pub(crate) static CELLS_REFUSED: Counter = Counter::new();
/// METER.* calls that returned an error.
static METER_BAD_CALLS: Counter = Counter::new();
/// CELL.* calls that returned an error.
static CELL_BAD_CALLS: Counter = Counter::new();

/// METER.*
pub(crate) static METER: Family = Family { category: c"meter", bad_calls: &METER_BAD_CALLS };
/// CELL.* and CL.*
pub(crate) static CELL: Family = Family { category: c"cell", bad_calls: &CELL_BAD_CALLS };

/// The fields in the order of INFO.
pub(crate) static FIELDS: [Field; 9] = [
    (c"hits_counted", &HITS_COUNTED),
    (c"hits_corrected", &HITS_CORRECTED),
    (c"hits_duplicate", &HITS_DUPLICATE),
    (c"hits_capped", &HITS_CAPPED),
    (c"hits_bad_calls", &METER_BAD_CALLS),
    (c"cells_allowed", &CELLS_ALLOWED),
    (c"cells_refused", &CELLS_REFUSED),
    (c"cells_bad_calls", &CELL_BAD_CALLS),
    (c"effects_replicated", &EFFECTS_REPLICATED),
];
