//! The jobs of the meters.

use crate::jobs::{Group, HOT_KEYS, INTEGER, Job, Lua, NEW, OK, has};
use testkit::load::Calls;

/// `HINCRBY` of an existing field of a day's hash: the total, and 15 hours.
const HINCRBY: &str = "HINCRBY";
/// `MULTI`, `HINCRBY` of the day, `HINCRBY` of the hour, `EXEC`, sent in one write; the same hash.
const MULTI: &str = "MULTI 2x HINCRBY EXEC";
/// The same with a `ZINCRBY` of the first level's set, and one of the set below its member.
const MULTI_PATH: &str = "MULTI 2x HINCRBY 2x ZINCRBY EXEC";
/// [`MULTI`] with a `PFADD`.
const MULTI_UNIQUE: &str = "MULTI 2x HINCRBY PFADD EXEC";
/// `SADD` of a new event id, and when that is answered, [`MULTI`]: two trips. A client that dies in between has lost
/// the hit, as no transaction can look first.
const SADD_THEN_MULTI: &str = "SADD, then MULTI 2x HINCRBY EXEC";
/// `SADD` of an event id that is there: there is nothing more to do.
const SADD_KNOWN: &str = "SADD, duplicate";
/// `HGET` of the day's count, and when that is answered, [`MULTI`]: two trips. Without a `WATCH`, which would be a third
/// command, clients that look at the same time pass the cap together.
const HGET_THEN_MULTI: &str = "HGET, then MULTI 2x HINCRBY EXEC";
/// `HGET` of a day's count that is at its cap: there is nothing more to do.
const HGET_CAPPED: &str = "HGET, at the cap";
/// `GET` of the month's counter, which such a client keeps beside the days, and when that is answered, [`MULTI`] with an
/// `INCR` of it. With it as with [`HGET_THEN_MULTI`].
const GET_THEN_MULTI: &str = "GET, then MULTI 2x HINCRBY INCR EXEC";
/// `HGETALL` of a day's hash: the total, and 24 hours.
const HGETALL: &str = "HGETALL, 24 hours";

/// `METER.HIT key`: the day's hash exists, with the total and 15 hours, one of them the hour now.
const HIT: &str = "METER.HIT";
/// `METER.HIT key AT unix-ms`, the same with a date in the past. All below have it too.
const HIT_AT: &str = "METER.HIT AT";
/// With `PATH 2`, along a breakdown of 20 members with 50 below each, all of which exist.
const HIT_PATH: &str = "METER.HIT PATH 2";
/// With `UNIQUE`, of an id that was counted before; a hundred were.
const HIT_UNIQUE: &str = "METER.HIT UNIQUE";
/// With `ONCE`, of a new event id; the day has 200 to 220 of them.
const HIT_ONCE: &str = "METER.HIT ONCE, new id";
/// With `ONCE`, of an event id that was counted before.
const HIT_DUPLICATE: &str = "METER.HIT ONCE, duplicate";
/// With `CAP DAY`, below the cap.
const HIT_CAP_DAY: &str = "METER.HIT CAP DAY";
/// With `CAP DAY`, at the cap.
const HIT_CAPPED: &str = "METER.HIT CAP DAY, at the cap";
/// With `CAP MONTH`, below the cap, in a month of which one day is held.
const HIT_CAP_MONTH: &str = "METER.HIT CAP MONTH, 1 day";
/// The same of a month of which 30 days are held.
const HIT_CAP_MONTH_30: &str = "METER.HIT CAP MONTH, 30 days";
/// `METER.KPI key DAY d` of a day of 24 hours.
const KPI: &str = "METER.KPI, 24 hours";

/// [`HIT_AT`] as a script, `hit.lua`, for which the client has worked out day and hour, as for all below.
const LUA_HIT: &str = "Lua hit";
/// [`HIT_PATH`] as a script, `hit_path.lua`.
const LUA_PATH: &str = "Lua hit, path of 2";
/// [`HIT_UNIQUE`] as a script, `hit_unique.lua`.
const LUA_UNIQUE: &str = "Lua hit, unique";
/// [`HIT_ONCE`] as a script, `hit_once.lua`.
const LUA_ONCE: &str = "Lua hit, new event id";
/// [`HIT_DUPLICATE`] as a script.
const LUA_DUPLICATE: &str = "Lua hit, duplicate";
/// [`HIT_CAP_DAY`] as a script, `hit_cap_day.lua`.
const LUA_CAP_DAY: &str = "Lua hit, cap of a day";
/// [`HIT_CAPPED`] as a script.
const LUA_CAPPED: &str = "Lua hit, at the cap of a day";
/// [`HIT_CAP_MONTH`] as a script, `hit_cap_month.lua`, by a counter of the month, whatever number of days is held.
const LUA_CAP_MONTH: &str = "Lua hit, cap by a month's counter";
/// [`HIT_CAP_MONTH_30`] as a script, `hit_cap_month_sum.lua`, that adds up the days as the module does.
const LUA_CAP_MONTH_30: &str = "Lua hit, cap by the sum of 30 days";

/// [`LUA_HIT`] as a function of a library.
const FUNCTION_HIT: &str = "function hit";
/// [`LUA_PATH`] as a function of a library.
const FUNCTION_PATH: &str = "function hit, path of 2";

const RATIOS: &[(&str, &str)] = &[
    (HIT, HINCRBY),
    (HIT_CAP_MONTH_30, HINCRBY),
    (HIT_AT, HINCRBY),
    (HIT, MULTI),
    (HIT, LUA_HIT),
    (HIT_AT, LUA_HIT),
    (HIT_AT, FUNCTION_HIT),
    (HIT_PATH, MULTI_PATH),
    (HIT_PATH, LUA_PATH),
    (HIT_PATH, FUNCTION_PATH),
    (HIT_UNIQUE, MULTI_UNIQUE),
    (HIT_UNIQUE, LUA_UNIQUE),
    (HIT_ONCE, SADD_THEN_MULTI),
    (HIT_ONCE, LUA_ONCE),
    (HIT_DUPLICATE, SADD_KNOWN),
    (HIT_DUPLICATE, LUA_DUPLICATE),
    (HIT_CAP_DAY, HGET_THEN_MULTI),
    (HIT_CAP_DAY, LUA_CAP_DAY),
    (HIT_CAPPED, HGET_CAPPED),
    (HIT_CAPPED, LUA_CAPPED),
    (HIT_CAP_MONTH, GET_THEN_MULTI),
    (HIT_CAP_MONTH, LUA_CAP_MONTH),
    (HIT_CAP_MONTH_30, GET_THEN_MULTI),
    (HIT_CAP_MONTH_30, LUA_CAP_MONTH),
    (HIT_CAP_MONTH_30, LUA_CAP_MONTH_30),
    (KPI, HGETALL),
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The month and the name of the day that is counted in, and the day's first millisecond.
const MONTH: &str = "202208";
const DAY: &str = "20220809";
const DAY_START_MS: i64 = 1_660_003_200_000;
/// The hour that is counted in, the last of those that the hash has.
const HOUR: i64 = 14;
/// A count as an application has it after a while.
const COUNT: i64 = 1_000;

/// Meters with a breakdown, the members of the first level of each, and those below each of them.
const BROKEN_DOWN: usize = 10;
const ENDPOINTS: usize = 20;
const USERS: usize = 50;
const PATHS: usize = BROKEN_DOWN * ENDPOINTS * USERS;
/// Ids in each HyperLogLog; calls that bring one in ten of them again.
const IDS: usize = 100;
const AGAIN: usize = HOT_KEYS * IDS / 10;
/// Event ids that are in each set before, so many that it is a hash table on every server.
const EVENTS: usize = 200;
/// When the keys of the scripts may go, in the year 2100: not as long as the run lasts.
const LATER_MS: i64 = 4_102_444_800_000;
/// A cap that is never reached, and one that is.
const HIGH: i64 = 1_000_000_000_000;
const LOW: i64 = 10;
/// Days held of a month that has more than one.
const DAYS: usize = 30;

const ADDED: &[&str] = &[":1\r\n"];
const FOUND: &[&str] = &[":0\r\n"];
const NUMBER: &[&str] = &["$"];
const NUMBERS: &[&str] = &["$", "$"];
const IN_MULTI: &[&str] = &["+OK", "+QUEUED", "+QUEUED", "*2\r\n:"];
const IN_MULTI_OF_3: &[&str] = &["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3\r\n:"];
const IN_MULTI_OF_4: &[&str] = &["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4\r\n:"];
const SEEDED: &[&str] = &["*3\r\n:"];
const COUNTED: &[&str] = &["*3\r\n:…:1\r\n"];
/// Of a day of 15 hours of [`COUNT`].
const NOT_COUNTED: &[&str] = &["*3\r\n:15000\r\n:1000\r\n:0\r\n"];
const A_MONTH: &[&str] = &[":"; DAYS + 1];
const A_DAY: &[&str] = &["*50\r\n$3\r\nday\r\n"];

/// The jobs on this server, with their scripts loaded.
pub(crate) fn group(control: &mut testkit::Client) -> Group {
    let mut jobs = [core(), module(), scripts(control)].into_iter().flatten().collect::<Vec<_>>();
    if has(control, "FCALL") {
        jobs.extend(functions(control));
    }
    Group { jobs, ratios: RATIOS }
}

/// The n-th meter of the job with this letter.
fn meter(letter: char, n: usize) -> String {
    format!("kpi:sessions:app:{letter}:node:{n:06}")
}

/// The hash of that meter's day.
fn day(letter: char, n: usize) -> String {
    format!("{}:day:{DAY}", meter(letter, n))
}

/// The set of the first level of that day's breakdown.
fn path(letter: char, n: usize) -> String {
    format!("{}:path", day(letter, n))
}

/// The HyperLogLog of that day.
fn unique(letter: char, n: usize) -> String {
    format!("{}:unique", day(letter, n))
}

/// The set of that day's event ids.
fn once(letter: char, n: usize) -> String {
    format!("{}:once", day(letter, n))
}

/// The counter of that meter's month, where there is one.
fn month(letter: char, n: usize) -> String {
    format!("{}:month:{MONTH}", meter(letter, n))
}

/// Of a meter with a breakdown its number, a member of the first level and one below it: all of them in turn.
fn along(n: usize) -> (usize, String, String) {
    let (endpoint, user) = (n / BROKEN_DOWN % ENDPOINTS, n / BROKEN_DOWN / ENDPOINTS);
    (n % BROKEN_DOWN, format!("users#action{endpoint:02}"), format!("10{user:02}"))
}

/// The number of a meter and an id that was counted there before: some for each in turn.
fn again(n: usize) -> (usize, String) {
    (n % HOT_KEYS, id(n / HOT_KEYS))
}

/// An id of those in each HyperLogLog.
fn id(n: usize) -> String {
    format!("user:{n:06}")
}

/// A new event id, as long as a UUID, for `n` below [`NEW`].
fn event(n: usize) -> String {
    format!("{n:08x}-8a2b-4c3d-9e4f-{:012x}", n.wrapping_mul(0x9e37_79b9) % (1 << 48))
}

/// One of the event ids that are in each set before.
fn known_event(n: usize) -> String {
    event(NEW + n % EVENTS)
}

/// The date of an instant, `20220809`.
fn date(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).expect("a date").format("%Y%m%d").to_string()
}

/// A day's hash as the meters of these jobs have it, from HSET on.
fn fifteen_hours() -> String {
    let hours: Vec<String> = (0..=HOUR).map(|hour| format!("{hour} {COUNT}")).collect();
    format!("day {} {}", (HOUR + 1) * COUNT, hours.join(" "))
}

/// Every day's hash.
fn days(letter: char) -> Calls {
    Calls::new(HOT_KEYS, INTEGER, |n| format!("HSET {} {}", day(letter, n), fifteen_hours()))
}

/// Every meter with 30 days, and the command that makes its index: of the meter, its first day and its last.
fn months(letter: char, index: impl Fn(&str, &str, &str) -> String) -> Calls {
    Calls::new(HOT_KEYS, A_MONTH, |n| {
        let meter = meter(letter, n);
        let days = held_days().map(|day| format!("HSET {meter}:day:{day} {}\n", fifteen_hours()));
        days.collect::<String>() + &index(&meter, &format!("{MONTH}01"), &format!("{MONTH}31"))
    })
}

/// The days that are held of a month that has more than one.
fn held_days() -> impl Iterator<Item = String> {
    (1..=DAYS).map(|day| format!("{MONTH}{day:02}"))
}

/// The counters of the months, where there are any.
fn month_counters(letter: char) -> Calls {
    Calls::new(HOT_KEYS, OK, |n| format!("SET {} {COUNT}", month(letter, n)))
}

/// Every breakdown.
fn paths(letter: char) -> Calls {
    Calls::new(PATHS, NUMBERS, |n| {
        let (n, endpoint, user) = along(n);
        let set = path(letter, n);
        format!("ZINCRBY {set} {COUNT} {endpoint}\nZINCRBY {set}:{endpoint} {COUNT} {user}")
    })
}

/// Every HyperLogLog, with its ids.
fn ids(key: impl Fn(usize) -> String) -> Calls {
    let ids: Vec<String> = (0..IDS).map(id).collect();
    Calls::new(HOT_KEYS, ADDED, |n| format!("PFADD {} {}", key(n), ids.join(" ")))
}

/// Every set of event ids, with those that are known.
fn events(key: impl Fn(usize) -> String) -> Calls {
    let events: Vec<String> = (0..EVENTS).map(known_event).collect();
    Calls::new(HOT_KEYS, INTEGER, |n| format!("SADD {} {}", key(n), events.join(" ")))
}

/// Takes the new events out of every set again.
fn without_new_events(key: impl Fn(usize) -> String) -> Calls {
    Calls::new(HOT_KEYS, INTEGER, |n| {
        let events: Vec<String> = (n..NEW).step_by(HOT_KEYS).map(event).collect();
        format!("SREM {} {}", key(n), events.join(" "))
    })
}

fn core() -> Vec<Job> {
    let hincrby = |letter, n| {
        let day = day(letter, n);
        format!("HINCRBY {day} day 1\nHINCRBY {day} {HOUR} 1")
    };
    let multi = |letter, n, more: &str| format!("MULTI\n{}\n{more}EXEC", hincrby(letter, n));
    let path_call = |n| {
        let (n, endpoint, user) = along(n);
        let set = path('A', n);
        multi('A', n, &format!("ZINCRBY {set} 1 {endpoint}\nZINCRBY {set}:{endpoint} 1 {user}\n"))
    };
    let unique_call = |n| {
        let (n, id) = again(n);
        multi('B', n, &format!("PFADD {} {id}\n", unique('B', n)))
    };
    let new_event = |n| format!("SADD {} {}", once('C', n % HOT_KEYS), event(n));
    let old_event = |n| format!("SADD {} {}", once('D', n), known_event(n));
    let hget = |letter, n| format!("HGET {} day", day(letter, n));
    let get = |n| format!("GET {}", month('G', n));
    let month_call = |n| multi('G', n, &format!("INCR {}\n", month('G', n)));
    vec![
        Job::new(HINCRBY, &["HINCRBY"], Calls::new(HOT_KEYS, INTEGER, |n| format!("HINCRBY {} {HOUR} 1", day('j', n))))
            .seeded(days('j')),
        Job::new(MULTI, &["MULTI", "EXEC"], Calls::new(HOT_KEYS, IN_MULTI, |n| multi('k', n, ""))).seeded(days('k')),
        Job::new(MULTI_PATH, &["MULTI", "EXEC"], Calls::new(PATHS, IN_MULTI_OF_4, path_call))
            .seeded(days('A'))
            .seeded(paths('A')),
        Job::new(MULTI_UNIQUE, &["MULTI", "EXEC"], Calls::new(AGAIN, IN_MULTI_OF_3, unique_call))
            .seeded(days('B'))
            .seeded(ids(|n| unique('B', n))),
        Job::new(
            SADD_THEN_MULTI,
            &["SADD", "MULTI", "EXEC"],
            Calls::new(NEW, ADDED, new_event).then(IN_MULTI, |n| multi('C', n % HOT_KEYS, "")),
        )
        .seeded(days('C'))
        .seeded(events(|n| once('C', n)))
        .prepared(without_new_events(|n| once('C', n))),
        Job::new(SADD_KNOWN, &["SADD"], Calls::new(HOT_KEYS, FOUND, old_event)).seeded(events(|n| once('D', n))),
        Job::new(
            HGET_THEN_MULTI,
            &["HGET", "MULTI", "EXEC"],
            Calls::new(HOT_KEYS, NUMBER, |n| hget('E', n)).then(IN_MULTI, |n| multi('E', n, "")),
        )
        .seeded(days('E')),
        Job::new(HGET_CAPPED, &["HGET"], Calls::new(HOT_KEYS, NUMBER, |n| hget('F', n))).seeded(days('F')),
        Job::new(
            GET_THEN_MULTI,
            &["GET", "MULTI", "EXEC"],
            Calls::new(HOT_KEYS, NUMBER, get).then(IN_MULTI_OF_3, month_call),
        )
        .seeded(days('G'))
        .seeded(month_counters('G')),
    ]
}

fn module() -> Vec<Job> {
    let today = testkit::now_ms().div_euclid(DAY_MS) * DAY_MS;
    let hour_now = testkit::now_ms().rem_euclid(DAY_MS) / HOUR_MS;
    // Hour after hour, so that the hour that is counted in is the last field, as in the hash of the core's jobs.
    let seed = |letter, hours: Vec<i64>| {
        Calls::new(HOT_KEYS * hours.len(), SEEDED, move |n| {
            let at = hours[n / HOT_KEYS];
            format!("METER.HIT {} BY {COUNT} AT {at}", meter(letter, n % HOT_KEYS))
        })
    };
    let hours = |start: i64, last| (0..=last).map(|hour| start + hour * HOUR_MS).collect();
    let until_now = (hour_now + 24 - HOUR..=hour_now + 24).map(|hour| today + hour % 24 * HOUR_MS).collect();
    let until_at = |letter| seed(letter, hours(DAY_START_MS, HOUR));
    let hit_at = |letter, n, options: &str| {
        let at = DAY_START_MS + HOUR * HOUR_MS;
        format!("METER.HIT {} AT {at} {options}", meter(letter, n))
    };
    let hits = |replies, letter, options: &str| Calls::new(HOT_KEYS, replies, |n| hit_at(letter, n, options));
    let path_call = |n, by: &str| {
        let (n, endpoint, user) = along(n);
        hit_at('p', n, &format!("PATH 2 {endpoint} {user} {by}"))
    };
    let unique_call = |n| {
        let (n, id) = again(n);
        hit_at('q', n, &format!("UNIQUE {id}"))
    };
    let (cap_day, capped) = (format!("CAP DAY {HIGH}"), format!("CAP DAY {LOW}"));
    let cap_month = format!("CAP MONTH {HIGH}");
    // Event ids are not kept for a day as long ago as the others: yesterday, and so the same day as long as the run lasts.
    let yesterday = today - DAY_MS;
    let once_call = |letter, n, event: String| {
        let at = yesterday + HOUR * HOUR_MS;
        format!("METER.HIT {} AT {at} ONCE {event}", meter(letter, n))
    };
    let once_set = |letter, n| format!("{}:day:{}:once", meter(letter, n), date(yesterday));
    let until_yesterday = |letter| seed(letter, hours(yesterday, HOUR));

    let job = |name, calls| Job::new(name, &["METER.HIT"], calls).counted_by("meter_hits_counted");
    vec![
        job(HIT, Calls::new(HOT_KEYS, COUNTED, |n| format!("METER.HIT {}", meter('m', n))))
            .seeded(seed('m', until_now)),
        job(HIT_AT, hits(COUNTED, 'n', "")).seeded(until_at('n')),
        job(HIT_PATH, Calls::new(PATHS, COUNTED, |n| path_call(n, ""))).seeded(until_at('p')).seeded(Calls::new(
            PATHS,
            SEEDED,
            |n| path_call(n, &format!("BY {COUNT}")),
        )),
        job(HIT_UNIQUE, Calls::new(AGAIN, COUNTED, unique_call)).seeded(until_at('q')).seeded(ids(|n| unique('q', n))),
        job(HIT_ONCE, Calls::new(NEW, COUNTED, |n| once_call('r', n % HOT_KEYS, event(n))))
            .seeded(until_yesterday('r'))
            .seeded(events(|n| once_set('r', n)))
            .prepared(without_new_events(|n| once_set('r', n))),
        job(HIT_DUPLICATE, Calls::new(HOT_KEYS, NOT_COUNTED, |n| once_call('t', n, known_event(n))))
            .seeded(until_yesterday('t'))
            .seeded(events(|n| once_set('t', n)))
            .counted_by("meter_hits_duplicate"),
        job(HIT_CAP_DAY, hits(COUNTED, 'u', &cap_day)).seeded(until_at('u')),
        job(HIT_CAPPED, hits(NOT_COUNTED, 'v', &capped)).seeded(until_at('v')).counted_by("meter_hits_capped"),
        job(HIT_CAP_MONTH, hits(COUNTED, 'w', &cap_month)).seeded(until_at('w')),
        job(HIT_CAP_MONTH_30, hits(COUNTED, 'x', &cap_month))
            .seeded(months('x', |meter, first, last| format!("METER.INDEX {meter} FROM {first} TO {last}"))),
        Job::new(
            KPI,
            &["METER.KPI"],
            Calls::new(HOT_KEYS, A_DAY, |n| format!("METER.KPI {} DAY {DAY}", meter('o', n))),
        )
        .seeded(seed('o', hours(DAY_START_MS, 23))),
        // The very same hashes: reading changes nothing.
        Job::new(HGETALL, &["HGETALL"], Calls::new(HOT_KEYS, A_DAY, |n| format!("HGETALL {}", day('o', n)))),
    ]
}

/// Loads Lua that counts a hit, and how a call of it reads: of a meter with this letter and number, with more keys and
/// more arguments than all have.
fn counts_by(
    lua: Lua,
    control: &mut testkit::Client,
    name: &str,
    script: &str,
) -> impl Fn(char, usize, &[String], &str) -> String + use<> {
    let call = lua.load(control, name, script);
    move |letter, n, keys, arguments| {
        let all = [&[meter(letter, n), day(letter, n)], keys].concat();
        format!("{call} {} {} {DAY} {HOUR} {arguments}", all.len(), all.join(" "))
    }
}

/// [`LUA_HIT`] and [`LUA_PATH`], or the same as functions, with the letters of their meters.
fn hit_and_path(control: &mut testkit::Client, lua: Lua, [hit, path]: [(&'static str, char); 2]) -> Vec<Job> {
    let hit_call = counts_by(lua, control, "hit", include_str!("lua/hit.lua"));
    let path_call = counts_by(lua, control, "hit_path", include_str!("lua/hit_path.lua"));
    let path_calls = Calls::new(PATHS, COUNTED, |n| {
        let (n, endpoint, user) = along(n);
        let set = self::path(path.1, n);
        path_call(path.1, n, &[set.clone(), format!("{set}:{endpoint}")], &format!("{endpoint} {user}"))
    });
    let hits = Calls::new(HOT_KEYS, COUNTED, |n| hit_call(hit.1, n, &[], ""));
    vec![
        Job::new(hit.0, &[lua.command()], hits).seeded(days(hit.1)),
        Job::new(path.0, &[lua.command()], path_calls).seeded(days(path.1)).seeded(paths(path.1)),
    ]
}

fn functions(control: &mut testkit::Client) -> Vec<Job> {
    hit_and_path(control, Lua::Function, [(FUNCTION_HIT, 'y'), (FUNCTION_PATH, 'z')])
}

fn scripts(control: &mut testkit::Client) -> Vec<Job> {
    let mut jobs = hit_and_path(control, Lua::Script, [(LUA_HIT, 's'), (LUA_PATH, 'a')]);
    let mut script = |text| counts_by(Lua::Script, control, "", text);
    let hit_unique = script(include_str!("lua/hit_unique.lua"));
    let hit_once = script(include_str!("lua/hit_once.lua"));
    let hit_cap_day = script(concat!(include_str!("lua/hit_cap_day.lua"), include_str!("lua/hit.lua")));
    let hit_cap_month = script(concat!(include_str!("lua/hit_cap_month.lua"), include_str!("lua/hit.lua")));
    let hit_cap_month_sum = script(concat!(include_str!("lua/hit_cap_month_sum.lua"), include_str!("lua/hit.lua")));

    let unique_call = |n| {
        let (n, id) = again(n);
        hit_unique('b', n, &[unique('b', n)], &id)
    };
    let once_call = |letter, n, event: String| hit_once(letter, n, &[once(letter, n)], &format!("{event} {LATER_MS}"));
    let cap_day = |letter, n, limit: i64| hit_cap_day(letter, n, &[], &limit.to_string());
    let month_call = |n| hit_cap_month('g', n, &[month('g', n)], &format!("{HIGH} {LATER_MS}"));
    let sum_call = |n| hit_cap_month_sum('h', n, &[], &format!("{HIGH} {MONTH}01 {MONTH}31"));

    let job = |name, calls| Job::new(name, &["EVALSHA"], calls);
    jobs.extend([
        job(LUA_UNIQUE, Calls::new(AGAIN, COUNTED, unique_call)).seeded(days('b')).seeded(ids(|n| unique('b', n))),
        job(LUA_ONCE, Calls::new(NEW, COUNTED, |n| once_call('c', n % HOT_KEYS, event(n))))
            .seeded(days('c'))
            .seeded(events(|n| once('c', n)))
            .prepared(without_new_events(|n| once('c', n))),
        job(LUA_DUPLICATE, Calls::new(HOT_KEYS, NOT_COUNTED, |n| once_call('d', n, known_event(n))))
            .seeded(days('d'))
            .seeded(events(|n| once('d', n))),
        job(LUA_CAP_DAY, Calls::new(HOT_KEYS, COUNTED, |n| cap_day('e', n, HIGH))).seeded(days('e')),
        job(LUA_CAPPED, Calls::new(HOT_KEYS, NOT_COUNTED, |n| cap_day('f', n, LOW))).seeded(days('f')),
        job(LUA_CAP_MONTH, Calls::new(HOT_KEYS, COUNTED, month_call)).seeded(days('g')).seeded(month_counters('g')),
        job(LUA_CAP_MONTH_30, Calls::new(HOT_KEYS, COUNTED, sum_call)).seeded(months('h', |meter, _, _| {
            let days: Vec<String> = held_days().map(|day| format!("{day} {day}")).collect();
            format!("ZADD {meter} {}", days.join(" "))
        })),
    ]);
    jobs
}
