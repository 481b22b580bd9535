//! The jobs of the limiters.

use crate::jobs::{Group, HOT_KEYS, INTEGER, Job, Lua, NEW, OK, has};
use crate::peer::Peer;
use testkit::load::Calls;

/// `INCR` of an existing key.
const INCR: &str = "INCR";
/// `SET key value EX n` of an existing key: what a limiter would cost at least that sets its expiry at each call.
const SET_EX: &str = "SET EX";
/// The same of a key that does not exist.
const SET_EX_NEW: &str = "SET EX, new key";
/// `INCREX key UBOUND n EX s ENX`, from Redis 8.8 and Valkey 9.2 on, of a counter that is below its bound.
const INCREX: &str = "INCREX";
/// The least that a module's command with a limiter's arguments and answer costs: it reads three integers, answers
/// five, and opens no key. `benches/floor.c`.
const FLOOR: &str = "floor: a command that parses and replies";
/// The same, but it opens a limiter's key and looks at its value and expiry: what a refusal costs at least.
const READ_FLOOR: &str = "floor: and opens and reads a key";
/// The same, but it writes a value in place, replicates it and tells of it: what a call that passes costs at least.
const WRITE_FLOOR: &str = "floor: and writes and replicates it";

/// `CELL.THROTTLE`, and every call passes. The key exists, and its expiry is late enough and stays.
const ALLOWED: &str = "CELL.THROTTLE allowed";
/// The same, but every call has to move the expiry: 30 cells of a hundred a day are taken, then given back.
const ALLOWED_EXPIRY: &str = "CELL.THROTTLE, expiry moved";
/// `CELL.THROTTLE` of a limiter that is exhausted: every call is refused.
const REFUSED: &str = "CELL.THROTTLE refused";
/// `CELL.THROTTLE` of a key that does not exist.
const NEW_KEY: &str = "CELL.THROTTLE, new key";
/// `CELL.MTHROTTLE` of three keys, each as in [`ALLOWED`].
const THREE: &str = "CELL.MTHROTTLE of three, allowed";
/// `CELL.WINDOW` in a window that is open.
const WINDOW: &str = "CELL.WINDOW allowed";
/// `CELL.LOG` that holds 50 to 70 cells of a hundred, none of which is old enough to leave.
const LOG: &str = "CELL.LOG allowed";
/// `CELL.SLIDE` with counts in the current window and in the one before.
const SLIDE: &str = "CELL.SLIDE allowed";

/// [`ALLOWED`] as a script, `throttle.lua`.
const LUA_ALLOWED: &str = "Lua throttle allowed";
/// [`REFUSED`] as a script.
const LUA_REFUSED: &str = "Lua throttle refused";
/// [`NEW_KEY`] as a script.
const LUA_NEW_KEY: &str = "Lua throttle, new key";
/// [`WINDOW`] as a script, `window.lua`, without BLOCK.
const LUA_WINDOW: &str = "Lua window allowed";
/// [`LOG`] as a script, `log.lua`.
const LUA_LOG: &str = "Lua log allowed";
/// [`SLIDE`] as a script, `slide.lua`.
const LUA_SLIDE: &str = "Lua slide allowed";

/// The scripts as functions of a library.
const FUNCTION_ALLOWED: &str = "function throttle allowed";
const FUNCTION_REFUSED: &str = "function throttle refused";
const FUNCTION_NEW_KEY: &str = "function throttle, new key";
const FUNCTION_WINDOW: &str = "function window allowed";
const FUNCTION_LOG: &str = "function log allowed";
const FUNCTION_SLIDE: &str = "function slide allowed";

/// [`ALLOWED`] of a peer module.
const PEER_ALLOWED: &str = "peer allowed";
/// [`REFUSED`] of a peer module.
const PEER_REFUSED: &str = "peer refused";
/// [`NEW_KEY`] of a peer module.
const PEER_NEW_KEY: &str = "peer, new key";

const RATIOS: &[(&str, &str)] = &[
    (ALLOWED, INCR),
    (ALLOWED, SET_EX),
    (ALLOWED_EXPIRY, SET_EX),
    (ALLOWED, WRITE_FLOOR),
    (ALLOWED, PEER_ALLOWED),
    (ALLOWED, INCREX),
    (ALLOWED, LUA_ALLOWED),
    (ALLOWED, FUNCTION_ALLOWED),
    (REFUSED, FLOOR),
    (REFUSED, READ_FLOOR),
    (REFUSED, PEER_REFUSED),
    (REFUSED, LUA_REFUSED),
    (NEW_KEY, SET_EX_NEW),
    (NEW_KEY, PEER_NEW_KEY),
    (NEW_KEY, LUA_NEW_KEY),
    (THREE, ALLOWED),
    (WINDOW, LUA_WINDOW),
    (WINDOW, FUNCTION_WINDOW),
    (LOG, LUA_LOG),
    (LOG, FUNCTION_LOG),
    (SLIDE, LUA_SLIDE),
    (SLIDE, FUNCTION_SLIDE),
];

/// A million an hour with a burst of a million: whatever the run lasts, every call passes. The interval is above the
/// millisecond below which redis-cell fails.
const ROOMY: &str = "999999 1000000 3600";
/// Ten a day: once they are taken, none passes for more than two hours.
const TIGHT: &str = "9 10 86400";
/// A hundred an hour.
const USUAL: &str = "99 100 3600";
/// A hundred a day.
const SLOW: &str = "99 100 86400";
/// The same for a window: a million an hour.
const ROOMY_WINDOW: &str = "1000000 3600";
/// The same for a log: a hundred an hour.
const USUAL_WINDOW: &str = "100 3600";

/// Cells that a log holds before each measurement.
const LOGGED: usize = 50;
/// The window of the sliding counters, in seconds, and what they have counted in the one before.
const SLIDE_PERIOD: i64 = 3_600;
const SLIDE_COUNT: i64 = 1_000;

/// As long as a limiter's state.
const VALUE: i64 = 1_660_053_600_000_000_000;

const PAIR: &[&str] = &["*2\r\n:…:1\r\n"];
const PASSED: &[&str] = &["*5\r\n:0\r\n"];
const LIMITED: &[&str] = &["*5\r\n:1\r\n"];
const THREE_PASSED: &[&str] = &["*3\r\n*5\r\n:0\r\n"];
const GONE_AND_PASSED: &[&str] = &[":", "*5\r\n:0\r\n"];

/// The jobs on this server, with their scripts loaded.
pub(crate) fn group(control: &mut testkit::Client, peer: Option<&Peer>) -> Group {
    let mut jobs = core();
    if has(control, "INCREX") {
        jobs.push(increx());
    }
    jobs.extend(floors());
    jobs.extend(throttle(
        [(ALLOWED, 'a'), (REFUSED, 'b'), (NEW_KEY, 'c')],
        "CELL.THROTTLE",
        |key, quota, quantity| format!("CELL.THROTTLE {key} {quota} {quantity}"),
        [Some("meter_cells_allowed"), Some("meter_cells_refused")],
    ));
    jobs.push(throttle_with_expiry_moved());
    jobs.push(three_at_once());
    jobs.push(window((WINDOW, 'm'), "CELL.WINDOW", |limiter| format!("CELL.WINDOW {limiter}")));
    jobs.push(log((LOG, 'n'), "CELL.LOG", |limiter| format!("CELL.LOG {limiter}")));
    jobs.push(slide((SLIDE, 'o'), "CELL.SLIDE", |limiter| format!("CELL.SLIDE {limiter}"), 1_000_000_000));
    jobs.extend(scripts(control, Lua::Script, SCRIPTS));
    if has(control, "FCALL") {
        jobs.extend(scripts(control, Lua::Function, FUNCTIONS));
    }
    if let Some(Peer { command, .. }) = peer {
        jobs.extend(throttle(
            [(PEER_ALLOWED, 'd'), (PEER_REFUSED, 'e'), (PEER_NEW_KEY, 'f')],
            command,
            |key, quota, quantity| format!("{command} {key} {quota} {quantity}"),
            [None, None],
        ));
    }
    Group { jobs, ratios: RATIOS }
}

/// The n-th key of the job with this letter.
fn key(letter: char, n: usize) -> String {
    format!("limit:user:{letter}:{n:06}")
}

fn core() -> Vec<Job> {
    let set = |letter| move |n| format!("SET {} {VALUE} EX 3600", key(letter, n));
    vec![
        Job::new(INCR, &["INCR"], Calls::new(HOT_KEYS, INTEGER, |n| format!("INCR {}", key('g', n))))
            .seeded(Calls::new(HOT_KEYS, OK, |n| format!("SET {} {VALUE}", key('g', n)))),
        Job::new(SET_EX, &["SET"], Calls::new(HOT_KEYS, OK, set('h'))),
        Job::new(SET_EX_NEW, &["SET"], Calls::new(NEW, OK, set('i'))).prepared(without_keys('i')),
    ]
}

fn increx() -> Job {
    let calls = Calls::new(HOT_KEYS, PAIR, |n| format!("INCREX {} UBOUND {VALUE} EX 3600 ENX", key('j', n)));
    Job::new(INCREX, &["INCREX"], calls)
}

fn floors() -> [Job; 3] {
    let job = |name, letter, command: &'static str| {
        let calls = Calls::new(HOT_KEYS, &["*5\r\n"], |n| format!("{command} {} {ROOMY}", key(letter, n)));
        // No number, which the server would keep as one.
        let state = move |n| format!("SET {} {VALUE}x EX 86400", key(letter, n));
        Job::new(name, &[command], calls).seeded(Calls::new(HOT_KEYS, OK, state))
    };
    [job(FLOOR, 'k', "FLOOR.FIVE"), job(READ_FLOOR, 's', "FLOOR.READ"), job(WRITE_FLOOR, 'z', "FLOOR.WRITE")]
}

/// Removes all keys of a job that needs new ones.
fn without_keys(letter: char) -> Calls {
    const AT_ONCE: usize = 100;
    Calls::new(NEW / AT_ONCE, INTEGER, |n| {
        let keys: Vec<String> = (n * AT_ONCE..(n + 1) * AT_ONCE).map(|n| key(letter, n)).collect();
        format!("UNLINK {}", keys.join(" "))
    })
}

/// The three jobs of a limiter: allowed, refused, on new keys. `call` is a call with a key, a quota and a quantity.
fn throttle(
    [allowed, refused, new]: [(&'static str, char); 3],
    command: &str,
    call: impl Fn(String, &str, u32) -> String,
    [allowed_counter, refused_counter]: [Option<&'static str>; 2],
) -> Vec<Job> {
    let calls =
        |count, replies, letter, quota, quantity| Calls::new(count, replies, |n| call(key(letter, n), quota, quantity));
    let job = |name, counter: Option<_>, calls| Job::new(name, &[command], calls).counted_by(counter);
    vec![
        job(allowed.0, allowed_counter, calls(HOT_KEYS, PASSED, allowed.1, ROOMY, 1)),
        job(refused.0, refused_counter, calls(HOT_KEYS, LIMITED, refused.1, TIGHT, 1))
            .seeded(calls(HOT_KEYS, PASSED, refused.1, TIGHT, 10)),
        job(new.0, allowed_counter, calls(NEW, PASSED, new.1, USUAL, 1)).prepared(without_keys(new.1)),
    ]
}

fn throttle_with_expiry_moved() -> Job {
    let call = |n, quantity| format!("CELL.THROTTLE {} {SLOW} {quantity}", key('l', n));
    let take_then_give_back =
        Calls::new(2 * HOT_KEYS, PASSED, |n| call(n % HOT_KEYS, if n < HOT_KEYS { 30 } else { -30 }));
    // What is taken beforehand does not drain as long as the run lasts, so that giving back never ends at full.
    Job::new(ALLOWED_EXPIRY, &["CELL.THROTTLE"], take_then_give_back)
        .seeded(Calls::new(HOT_KEYS, PASSED, |n| call(n, 10)))
}

fn three_at_once() -> Job {
    let calls = Calls::new(HOT_KEYS, THREE_PASSED, |n| {
        let limits = ['t', 'u', 'v'].map(|letter| format!("{} {ROOMY} 1", key(letter, n)));
        format!("CELL.MTHROTTLE {}", limits.join(" "))
    });
    Job::new(THREE, &["CELL.MTHROTTLE"], calls)
}

/// `call` is a call with a key, a limit, a period and a quantity.
fn window((name, letter): (&'static str, char), command: &str, call: impl Fn(String) -> String) -> Job {
    let calls = Calls::new(HOT_KEYS, PASSED, |n| call(format!("{} {ROOMY_WINDOW} 1", key(letter, n))));
    Job::new(name, &[command], calls)
}

/// The same.
fn log((name, letter): (&'static str, char), command: &str, call: impl Fn(String) -> String) -> Job {
    let take = |n, cells| call(format!("{} {USUAL_WINDOW} {cells}", key(letter, n)));
    Job::new(name, &[command], Calls::new(HOT_KEYS, PASSED, |n| take(n, 1))).prepared(Calls::new(
        HOT_KEYS,
        GONE_AND_PASSED,
        |n| format!("UNLINK {}\n{}", key(letter, n), take(n, LOGGED)),
    ))
}

/// The same, of a limiter whose times are stored in units of a second divided by `resolution`.
fn slide((name, letter): (&'static str, char), command: &str, call: impl Fn(String) -> String, resolution: i64) -> Job {
    let start = (testkit::now_ms() / 1_000).div_euclid(SLIDE_PERIOD) * SLIDE_PERIOD - SLIDE_PERIOD;
    let (start, period) = (start * resolution, SLIDE_PERIOD * resolution);
    let calls = Calls::new(HOT_KEYS, PASSED, |n| call(format!("{} {ROOMY_WINDOW} 1", key(letter, n))));
    Job::new(name, &[command], calls).seeded(Calls::new(HOT_KEYS, INTEGER, |n| {
        let key = key(letter, n);
        format!("HSET {key} start {start} period {period} current {SLIDE_COUNT} previous {SLIDE_COUNT}")
    }))
}

/// The jobs that are scripts, and the letters of their keys: the throttle allowed, refused and of a new key, then
/// window, log and slide.
type Names = [(&'static str, char); 6];

const SCRIPTS: Names =
    [(LUA_ALLOWED, 'p'), (LUA_REFUSED, 'q'), (LUA_NEW_KEY, 'r'), (LUA_WINDOW, 'w'), (LUA_LOG, 'x'), (LUA_SLIDE, 'y')];
const FUNCTIONS: Names = [
    (FUNCTION_ALLOWED, 'A'),
    (FUNCTION_REFUSED, 'B'),
    (FUNCTION_NEW_KEY, 'C'),
    (FUNCTION_WINDOW, 'D'),
    (FUNCTION_LOG, 'E'),
    (FUNCTION_SLIDE, 'F'),
];

fn scripts(control: &mut testkit::Client, lua: Lua, [allowed, refused, new, windows, logs, slides]: Names) -> Vec<Job> {
    let command = lua.command();
    let throttle_call = lua.load(control, "throttle", include_str!("lua/throttle.lua"));
    let mut jobs = throttle(
        [allowed, refused, new],
        command,
        |key, quota, quantity| format!("{throttle_call} 1 {key} {quota} {quantity}"),
        [None, None],
    );
    let mut call = |name, script| {
        let call = lua.load(control, name, script);
        move |limiter| format!("{call} 1 {limiter}")
    };
    jobs.push(window(windows, command, call("window", include_str!("lua/window.lua"))));
    jobs.push(log(logs, command, call("log", include_str!("lua/log.lua"))));
    jobs.push(slide(slides, command, call("slide", include_str!("lua/slide.lua")), 1));
    jobs
}
