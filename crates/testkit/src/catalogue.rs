//! A sample of every command, with calls that use all of its grammar. A command that is missing here fails
//! `tests/grammar.rs`, and so does an option that no call uses; tests that go through all commands take them from here.

/// How a command uses its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads them, and may be called on replicas.
    Read,
    /// It writes to them.
    Write,
    /// It has none.
    Keyless,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its name, in upper case.
    pub command: &'static str,
    /// How it uses its keys.
    pub access: Access,
    /// Whether it is flagged as taking constant time.
    pub fast: bool,
    /// Calls that pass on an empty server, one after the other and after those of the commands before it; each without
    /// the name. Keys begin with `ok:`; `NOW` is the time in milliseconds, `BATCH` what METER.SEAL has returned.
    pub calls: &'static [&'static str],
}

impl Sample {
    /// Its calls, with names.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.calls.iter().map(|call| format!("{} {call}", self.command).trim_end().to_owned())
    }

    /// Whether it is registered only if a setting says so.
    pub fn is_on_request(&self) -> bool {
        self.command == "CL.THROTTLE"
    }
}

const fn sample(command: &'static str, access: Access, fast: bool, calls: &'static [&'static str]) -> Sample {
    Sample { command, access, fast, calls }
}

use Access::{Keyless, Read, Write};

/// Every command.
pub const CATALOGUE: &[Sample] = &[
    sample(
        "METER.HIT",
        Write,
        true,
        &[
            "ok:m AT 1660054277326 PATH 2 a b UNIQUE u CAP MONTH 1000000",
            "ok:m AT 1660054277326 BY 3 PATH 2 a b PATH 1 a PATH 2 c d CAP MONTH 9000 CAP SINCE 20220801 9000 WHY",
            "ok:m AT 1660054277326 BY 7 PATH 8 a b c d e f g h CAP HOUR 50",
            "ok:m AT 1660054277326 BY -2 PATH 2 a b WHY",
            "ok:m AT NOW BY 5 PATH 2 a b UNIQUE u ONCE e CAP DAY 1000000 CAP HOUR 1000000",
            "ok:m",
        ],
    ),
    sample(
        "METER.KPI",
        Read,
        false,
        &[
            "ok:m",
            "ok:m DAY 20220809",
            "ok:m FROM 20220801 TO 20221231",
            "ok:m FROM 20220801 TO 20221231 BY HOUR",
            "ok:m FROM 20220801 TO 20221231 BY DAY",
            "ok:m FROM 20220801 TO 20991231 BY WEEK",
            "ok:m FROM 20220101 TO 20221231 BY MONTH PATH 2 a b",
            "ok:m FROM 20220801 TO 20221231 BY TOTAL",
        ],
    ),
    sample(
        "METER.TOP",
        Read,
        false,
        &["ok:m", "ok:m DAY 20220809 PATH 1 a", "ok:m FROM 20220101 TO 20221231 PATH 1 a COUNT 3"],
    ),
    sample("METER.DAYS", Read, false, &["ok:m"]),
    sample(
        "METER.COST",
        Read,
        false,
        &[
            "ok:m FROM 20220101 TO 20221231 RATE 0.02",
            "ok:m FROM 20220101 TO 20221231 GRADUATED 5 0.1 inf 0.05",
            "ok:m DAY 20220809 VOLUME 5 0.1 inf 0.05",
        ],
    ),
    sample("METER.INDEX", Write, false, &["ok:m FROM 20220801 TO 20221231"]),
    sample("METER.SEAL", Write, false, &["ok:m BEFORE 20220801", "ok:m"]),
    sample("METER.ACK", Write, false, &["ok:m BATCH"]),
    sample("METER.DROP", Write, false, &["ok:m BEFORE 20220810", "ok:m"]),
    sample("CELL.THROTTLE", Write, true, &["ok:t 9 1 3600", "ok:t 9 1 3600 2 PARTIAL MS", "ok:t 9 1 3600 -1"]),
    sample("CELL.THROTTLE_RO", Read, true, &["ok:t 9 1 3600", "ok:t 9 1 3600 99 PARTIAL MS"]),
    sample("CL.THROTTLE", Write, true, &["ok:t 9 1 3600", "ok:t 9 1 3600 2 MS"]),
    sample("CELL.MTHROTTLE", Write, false, &["ok:t 9 1 3600 1 ok:u 9 1 0.25 1 ok:v 9 1 3600 1 MS", "ok:t 9 1 3600 0"]),
    sample("CELL.MTHROTTLE_RO", Read, false, &["ok:t 9 1 3600 1 ok:u 9 1 3600 1 ok:v 9 1 3600 1 MS"]),
    sample(
        "CELL.WINDOW",
        Write,
        true,
        &["ok:w 9 3600 1 BLOCK 7200 MS", "ok:w 3 3600 2 BLOCK 7200 PARTIAL", "ok:w 9 3600 -1"],
    ),
    sample("CELL.WINDOW_RO", Read, true, &["ok:w 9 3600", "ok:w 9 3600 2 BLOCK 7200 PARTIAL MS"]),
    sample("CELL.LOG", Write, false, &["ok:l 9 3600", "ok:l 9 3600 30 PARTIAL MS", "ok:l 9 3600 -1"]),
    sample("CELL.LOG_RO", Read, false, &["ok:l 9 3600", "ok:l 9 3600 30 PARTIAL MS"]),
    sample("CELL.SLIDE", Write, true, &["ok:s 9 3600", "ok:s 9 3600 30 PARTIAL MS", "ok:s 9 3600 -1"]),
    sample("CELL.SLIDE_RO", Read, true, &["ok:s 9 3600", "ok:s 9 3600 30 PARTIAL MS"]),
    sample(
        "CELL.QUOTA",
        Write,
        true,
        &[
            "ok:c 9 MONTH 1 ANCHOR 2022-07-31 OFFSET +05:45",
            "ok:c 9 YEAR 30 PARTIAL MS",
            "ok:c 9 WEEK -1",
            "ok:day 9 DAY 2",
            "ok:hour 9 HOUR OFFSET -03:30",
        ],
    ),
    sample(
        "CELL.QUOTA_RO",
        Read,
        true,
        &[
            "ok:c 9 MONTH",
            "ok:c 9 YEAR 30 ANCHOR 20220731 OFFSET +05:45 PARTIAL MS",
            "ok:c 9 WEEK",
            "ok:c 9 DAY",
            "ok:c 9 HOUR",
        ],
    ),
    sample("CELL.LEASE", Write, false, &["ok:places 9 3600 ann", "ok:places 1 3600 bob TIMEOUT 0.01 MS"]),
    sample("CELL.LEASE_RO", Read, false, &["ok:places 9 3600 bob", "ok:places 1 3600 bob TIMEOUT 0.01 MS"]),
    sample("CELL.RELEASE", Write, false, &["ok:places ann"]),
    sample(
        "CELL.PULL",
        Write,
        false,
        &["ok:q ok:p 9 1 3600", "ok:q ok:p 9 1 3600 COUNT 2 INTO ok:busy TIMEOUT 0.01", "ok:q ok:p 9 1 3600 MS"],
    ),
    sample("CELL.REFUSED", Keyless, false, &["", "COUNT 3", "RESET"]),
];
