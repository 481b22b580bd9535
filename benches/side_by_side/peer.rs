//! Another module to compare with.

use std::path::{Path, PathBuf};

/// A module with a command of the interface of redis-cell's CL.THROTTLE.
pub(crate) struct Peer {
    pub(crate) path: PathBuf,
    pub(crate) command: String,
}

impl Peer {
    /// The one that `METER_BENCH_PEER` names, or else the redis-cell that `scripts/fetch-redis-cell` has built, if it
    /// has. Its command is `METER_BENCH_PEER_COMMAND`, by default CL.THROTTLE.
    pub(crate) fn find() -> Option<Self> {
        let fetched = || {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".servers/redis-cell/libredis_cell.so");
            path.exists().then_some(path)
        };
        let path = std::env::var_os("METER_BENCH_PEER").map(PathBuf::from).or_else(fetched)?;
        let command = std::env::var("METER_BENCH_PEER_COMMAND").unwrap_or_else(|_| "CL.THROTTLE".to_owned());
        Some(Self { path, command })
    }
}
