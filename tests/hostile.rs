//! No bytes, key type, stored value or number crashes the server, blocks it, leaves a key half-written, or breaks the
//! protocol.
//!
//! `METER_FUZZ_CALLS` sets the number of random calls on each server, `METER_FUZZ_SEED` repeats a run:
//! `METER_FUZZ_CALLS=1000000 cargo test --test hostile random`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use testkit::catalogue::{CATALOGUE, Sample};
use testkit::{Client, Program, Random, Server, Value, now_ms, on_every_program, on_every_server, setting};

/// Arguments that have broken parsers before.
const WORDS: [&str; 86] = [
    "",
    "0",
    "1",
    "-1",
    "2",
    "10",
    "60",
    "-0",
    "+1",
    "01",
    " 1",
    "1 ",
    "1.5",
    "0.25",
    "0.000000001",
    "0.0000000001",
    ".5",
    "1.",
    "1e3",
    "inf",
    "-inf",
    "nan",
    "NaN",
    "-nan",
    "0x10",
    "1e400",
    "1_000",
    "１",
    "0.",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "9007199254740993",
    "9223372036.854775807",
    "9223372036",
    "1000000000",
    "1000000001",
    "4294967296",
    "2147483648",
    "18446744073709551616",
    "1660054277326",
    "1660054277",
    "99999999999",
    "253402300799999",
    "253402300800000",
    "20220809",
    "2022-08-09",
    "20220230",
    "99991231",
    "00000101",
    "BY",
    "by",
    "AT",
    "DAY",
    "FROM",
    "TO",
    "HOUR",
    "MONTH",
    "WEEK",
    "YEAR",
    "SINCE",
    "TOTAL",
    "MS",
    "PARTIAL",
    "WHY",
    "ANCHOR",
    "OFFSET",
    "BLOCK",
    "COUNT",
    "INTO",
    "PATH",
    "UNIQUE",
    "ONCE",
    "CAP",
    "RATE",
    "GRADUATED",
    "VOLUME",
    "BEFORE",
    "a:b",
    "%s%n%s%n",
    "%2525",
    "{",
    "{}x",
    "\r\n$-1\r\n",
    "\0",
];

/// Keys of every type, with values that are and are not states.
const KEYS: [&str; 15] = [
    "absent", "text", "number", "far", "list", "set", "hash", "zset", "stream", "hyper", "m", "bad", "expired",
    "meter", "batch",
];

fn prepare(redis: &mut Client) {
    for line in [
        "SET text abc",
        "SET number 5",
        "SET far 9223372036854775807",
        "RPUSH list a b",
        "SADD set a",
        "HSET hash day x 14 1",
        "ZADD zset 1 a 20220809 b",
        "XADD stream * a 1",
        "PFADD hyper a b c",
        "HSET m:day:20220809 day 3 14 x",
        "SET bad:day:20220809 x",
        "ZADD bad 20220809 20220809",
        "SET expired 5 PX 1",
        "METER.HIT meter AT 1660054277326 PATH 2 a b UNIQUE u",
        "SET meter:day:20220810:unique x",
        "SADD meter:day:20220811:path x",
        "HSET batch:batch id x 1 y",
        "HSET meter:month:202208 20220809 x",
    ] {
        redis.run(line);
    }
    redis.try_call(&[b"SET", b"absent:day:20220809", b"\xff\xfe\0"]).expect("set");
}

/// The key that only limiters of this kind write.
fn own_key(command: &str) -> &'static str {
    match command.to_uppercase().trim_end_matches("_RO") {
        name if name.starts_with("METER.") => "only:m",
        "CELL.WINDOW" => "only:window",
        "CELL.LOG" => "only:log",
        "CELL.SLIDE" => "only:slide",
        "CELL.QUOTA" => "only:quota",
        "CELL.LEASE" | "CELL.RELEASE" => "only:lease",
        _ => "only:u",
    }
}

fn argument(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => vec![b'9'; random.below(5_000)],
        1 => (0..random.below(64)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect(),
        2 => now_ms().to_string().into_bytes(),
        3 => random.number().to_string().into_bytes(),
        _ => random.pick(&WORDS).as_bytes().to_vec(),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each command")]
fn call(random: &mut Random) -> Vec<Vec<u8>> {
    // Those with more to say come more often; the case of a name is free.
    let name = CALLS[random.below(CALLS.len())].split(' ').next().expect("a name").to_owned();
    let command = if random.below(8) == 0 { name.to_lowercase() } else { name };
    let mut words = vec![command.as_bytes().to_vec()];
    // Half of the calls have the form of one that could be right.
    let plausible = random.below(2) == 0;
    if plausible {
        let key = if random.below(3) == 0 { own_key(&command) } else { random.pick(&KEYS) };
        let mut add = |word: &str| words.push(word.as_bytes().to_vec());
        add(key);
        let numbers = ["0", "1", "3", "50", "1000"];
        let periods = ["1", "0.001", "60", "3600"];
        let quantities = ["1", "0", "-1", "2", "100"];
        match command.to_uppercase().trim_end_matches("_RO") {
            "METER.HIT" => {
                add("AT");
                add(&(now_ms() - i64::try_from(random.below(1 << 40)).expect("small")).to_string());
                add("BY");
                add(random.pick(&["1", "5", "-1", "-2", "0", "9223372036854775807"]));
                let options: [&[&str]; 12] = [
                    &[],
                    &["PATH", "1", "a"],
                    &["PATH", "2", "a", "b:"],
                    &["PATH", "2", "a", "c", "UNIQUE", "u"],
                    &["UNIQUE", "v", "CAP", "DAY", "9"],
                    &["CAP", "MONTH", "50", "PATH", "3", "a", "b:", "\0"],
                    &["ONCE", "e"],
                    &["CAP", "HOUR", "5"],
                    &["PATH", "2", "a", "b:", "PATH", "1", "a", "PATH", "2", "c", "d", "WHY"],
                    &["CAP", "MONTH", "90", "CAP", "DAY", "50", "CAP", "HOUR", "9", "WHY", "PATH", "1", "c"],
                    &["CAP", "SINCE", "20250801", "80", "WHY", "ONCE", "f"],
                    &["CAP", "SINCE", "20220801", "80", "PATH", "2", "a", "c", "PATH", "2", "b", "c"],
                ];
                for word in options[random.below(options.len())] {
                    add(word);
                }
            }
            "METER.SEAL" | "METER.DROP" => {
                add("BEFORE");
                add(random.pick(&["20220809", "20250101", "20260601", "99991231"]));
            }
            "METER.ACK" => add("0123456789abcdef0123456789abcdef"),
            "METER.COST" => {
                for word in ["FROM", "20000101", "TO", "99991231", "GRADUATED", "5", "0.1", "inf", "0.05"] {
                    add(word);
                }
            }
            "METER.INDEX" => {
                for word in ["FROM", "20200101", "TO", "20301231"] {
                    add(word);
                }
            }
            name if name.starts_with("METER.") => {}
            "CELL.PULL" => {
                add("only:u");
                add(random.pick(&numbers));
                add(random.pick(&numbers[1..]));
                add(random.pick(&periods));
                add("INTO");
                add(random.pick(&KEYS));
            }
            "CELL.LEASE" => {
                add(random.pick(&numbers[1..]));
                add(random.pick(&periods));
                add(random.pick(&KEYS));
            }
            "CELL.RELEASE" => add(random.pick(&KEYS)),
            "CELL.REFUSED" => {}
            "CELL.QUOTA" => {
                add(random.pick(&numbers[1..]));
                add(random.pick(&["HOUR", "DAY", "WEEK", "MONTH", "YEAR"]));
                add(random.pick(&quantities));
                let options: [&[&str]; 4] =
                    [&[], &["PARTIAL"], &["OFFSET", "-23:59", "MS"], &["ANCHOR", "20240229", "OFFSET", "+05:45"]];
                for word in options[random.below(options.len())] {
                    add(word);
                }
            }
            "CELL.WINDOW" | "CELL.LOG" | "CELL.SLIDE" => {
                add(random.pick(&numbers[1..]));
                add(random.pick(&periods));
                add(random.pick(&quantities));
                if random.below(3) == 0 {
                    add("PARTIAL");
                }
            }
            _ => {
                add(random.pick(&numbers));
                add(random.pick(&numbers[1..]));
                add(random.pick(&periods));
                add(random.pick(&quantities));
            }
        }
    }
    let more = if plausible { random.below(2) } else { random.below(12) };
    for _ in 0..more {
        words.push(argument(random));
    }
    if random.below(500) == 0 {
        words.extend(std::iter::repeat_n(b"x".to_vec(), 1_000));
    }
    words
}

/// Calls of every command, with its whole grammar. `NOW` stands for the time. Keys of `v:` get spoilt values, and no
/// call names a key of a limiter in a place where another call may store something else.
static CALLS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let lines = CATALOGUE.iter().flat_map(Sample::lines);
    lines.map(|line| line.replace("ok:", "v:").replace("BATCH", "0123456789abcdef0123456789abcdef")).collect()
});

/// The keys of the meter and the limiters of [`CALLS`], of which any may hold anything.
const SPOILT: [&str; 29] = [
    "v:m",
    "v:m:day:20220809",
    "v:m:day:20220809:path",
    "v:m:day:20220809:path:a",
    "v:m:day:20220809:path:a:b",
    "v:m:day:20220809:unique",
    "v:m:day:20220809:once",
    "v:m:month:202208",
    "v:m:month:THIS",
    "v:m:day:20220809:path:c",
    "v:m:day:TODAY:path:a",
    "v:m:batch",
    "v:m:sealed:0123456789abcdef0123456789abcdef:day:20220809",
    "v:t",
    "v:u",
    "v:v",
    "v:w",
    "v:l",
    "v:places",
    "v:s",
    "v:c",
    "v:day",
    "v:hour",
    "v:q",
    "v:p",
    "v:busy",
    "v:m:day:TODAY",
    "v:m:day:TODAY:once",
    "v:m:day:TODAY:unique",
];

/// Values of a key: every type, and strings, members, scores and fields that are and are not those of a state. The
/// server itself detects that these HyperLogLogs are corrupt: older servers write past the end of others.
const VALUES: [&[&str]; 42] = [
    &["SET", "KEY", ""],
    &["SET", "KEY", "abc"],
    &["SET", "KEY", "0"],
    &["SET", "KEY", "5"],
    &["SET", "KEY", "-5"],
    &["SET", "KEY", "1.5"],
    &["SET", "KEY", " 5"],
    &["SET", "KEY", "9223372036854775807"],
    &["SET", "KEY", "-9223372036854775808"],
    &["SET", "KEY", "99999999999999999999"],
    &["SET", "KEY", "\0\0\0"],
    &["SET", "KEY", "HYLL"],
    &["SET", "KEY", "HYLL\u{7}xxxxxxxxxxxxxxxxxxxxxxxxxxx"],
    &["SET", "KEY", "HYLL\0xxxxxxxxxxxxxxxxxxxxxxxxxxx"],
    &["SET", "KEY", "5", "PX", "1"],
    &["PFADD", "KEY", "a", "b"],
    &["RPUSH", "KEY", "a", "b", "5"],
    &["SADD", "KEY", "e", "a"],
    &["SADD", "KEY", "1", "2", "3"],
    &["XADD", "KEY", "*", "day", "1"],
    &["HSET", "KEY", "day", "x", "14", "1"],
    &["HSET", "KEY", "day", "9223372036854775807", "14", "9223372036854775807"],
    &["HSET", "KEY", "day", "-1", "14", "-1"],
    &["HSET", "KEY", "day", "1", "14", "", "99", "7", "a\0b", "x"],
    &["HSET", "KEY", "sealed", "9223372036854775807"],
    &["HSET", "KEY", "sealed", "x"],
    &["HSET", "KEY", "20220809", "9223372036854775807"],
    &["HSET", "KEY", "20220809", "x", "202208", "x", "", ""],
    &["HSET", "KEY", "202208", "0", "000001", "0", "202213", "0", "999912", "-1", "20220230", "5"],
    &["HSET", "KEY", "20220809", "5", "20220901", "7", "99991231", "1"],
    &["HSET", "KEY", "id", "0123456789abcdef0123456789abcdef", "1", "day:20220809", "2", "../../x"],
    &["HSET", "KEY", "id", "0123456789abcdef0123456789abcdef", "2", "day:20220809"],
    &["HSET", "KEY", "id", "\0", "1", ""],
    &["HSET", "KEY", "start", "0", "period", "0", "current", "0", "previous", "0"],
    &[
        "HSET",
        "KEY",
        "start",
        "9223372036854775807",
        "period",
        "9223372036854775807",
        "current",
        "9223372036854775807",
        "previous",
        "9223372036854775807",
    ],
    &["HSET", "KEY", "start", "-1", "period", "1", "current", "-1", "previous", "x"],
    &["ZADD", "KEY", "20220809", "20220809", "20220810", "20220810"],
    &["ZADD", "KEY", "1", "20220809", "20220810", "b"],
    &["ZADD", "KEY", "inf", "a", "-inf", "b", "0.5", "c"],
    &["ZADD", "KEY", "9007199254740992", "a", "9007199254740993", "b", "1e308", "c"],
    &["ZADD", "KEY", "-1", "a", "-0", "b", "0", "c"],
    &["ZADD", "KEY", "20220809", "", "99991231", "99991231", "0", "\0"],
];

/// Stores a value under a key. A value of one millisecond has expired when the next call comes, but is not yet deleted.
fn spoil(redis: &mut Client, key: &str, value: &[&str]) {
    let today = testkit::date(now_ms());
    let key = key.replace("TODAY", &today).replace("THIS", &today[..6]);
    redis.try_call(&[b"DEL", key.as_bytes()]).expect("DEL");
    let words: Vec<&[u8]> =
        value.iter().map(|&word| if word == "KEY" { key.as_bytes() } else { word.as_bytes() }).collect();
    redis.try_call(&words).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    if value.contains(&"PX") {
        testkit::sleep_ms(3);
    }
}

/// One of [`CALLS`].
fn valid(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| if word == "NOW" { now_ms().to_string().into_bytes() } else { word.as_bytes().to_vec() })
        .collect()
}

/// A valid call with words that are dropped, doubled, swapped, cut, replaced or put in.
fn mutated(random: &mut Random) -> Vec<Vec<u8>> {
    let mut words = valid(&CALLS[random.below(CALLS.len())]);
    for _ in 0..random.below(4) {
        // The command stays.
        let len = words.len() - 1;
        if len == 0 {
            break;
        }
        let (one, other) = (1 + random.below(len), 1 + random.below(len));
        match random.below(8) {
            0 => drop(words.remove(one)),
            1 => words.insert(one, words[one].clone()),
            2 => words.swap(one, other),
            3 => words.truncate(one),
            4 => {
                let left = random.below(words[one].len() + 1);
                words[one].truncate(left);
            }
            5 => words[one] = words[other].clone(),
            6 => words[one] = argument(random),
            _ => words.insert(one, argument(random)),
        }
    }
    words
}

/// How a call is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Alone,
    Transaction,
    Script,
    /// Three times, each with a PING behind it, in one write.
    Pipelined,
}

impl Way {
    fn pick(random: &mut Random, words: &[Vec<u8>]) -> Self {
        // A call that may block indefinitely is sent in a way that never blocks.
        let waits = words.iter().any(|word| word.eq_ignore_ascii_case(b"TIMEOUT"));
        match random.below(8) {
            0 => Self::Transaction,
            1 => Self::Script,
            _ if waits => [Self::Transaction, Self::Script][random.below(2)],
            2 => Self::Pipelined,
            _ => Self::Alone,
        }
    }
}

/// Sends a call and a PING behind it, which must return PONG; returns the replies to the call itself.
fn answers(redis: &mut Client, way: Way, words: &[&[u8]]) -> Vec<Result<Value, String>> {
    let pack = |words: &[&[u8]]| {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.get_packed_command()
    };
    let ping = pack(&[b"PING"]);
    let (bytes, replies) = match way {
        Way::Alone => (vec![pack(words), ping], 1),
        Way::Transaction => (vec![pack(&[b"MULTI"]), pack(words), pack(&[b"EXEC"]), ping], 3),
        Way::Script => {
            let script: [&[u8]; 3] = [b"EVAL", b"return redis.pcall(unpack(ARGV))", b"0"];
            (vec![pack(&[&script, words].concat()), ping], 1)
        }
        Way::Pipelined => (vec![[pack(words), ping].concat(); 3], 1),
    };
    let rounds = if way == Way::Pipelined { 3 } else { 1 };
    redis.0.send_packed_command(&bytes.concat()).expect("the bytes are sent");
    let mut answers = Vec::new();
    for _ in 0..rounds {
        let mut replies: Vec<_> = (0..replies).map(|_| receive(redis)).collect();
        assert_eq!(receive(redis), Ok(Value::SimpleString("PONG".into())), "the connection answers after {replies:?}");
        let last = replies.pop().expect("a reply");
        answers.push(match (way, last) {
            (Way::Transaction, Ok(Value::Array(mut executed))) if executed.len() == 1 => {
                Ok(executed.pop().expect("one reply"))
            }
            // A call that was not even queued.
            (Way::Transaction, Err(aborted)) if aborted.starts_with("EXECABORT ") => replies.pop().expect("a reply"),
            (_, other) => other,
        });
    }
    answers
}

/// The next reply. One that breaks the protocol is an error without a code.
fn receive(redis: &mut Client) -> Result<Value, String> {
    redis.0.recv_response().and_then(Value::extract_error).map_err(|error| match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    })
}

fn shown(words: &[&[u8]]) -> String {
    let word = |word: &&[u8]| word[..word.len().min(200)].escape_ascii().to_string();
    words.iter().take(60).map(word).collect::<Vec<_>>().join(" ")
}

/// Checks that a command may return this reply; returns whether it is an error.
#[track_caller]
fn is_refusal(answer: &Result<Value, String>, way: Way, words: &[&[u8]]) -> bool {
    let shown = || format!("{way:?} {}", shown(words));
    match answer {
        Ok(Value::Array(_) | Value::Map(_) | Value::Okay) => false,
        Ok(Value::Int(count)) if *count >= 0 => false,
        Ok(other) => panic!("{}: {other:?}", shown()),
        Err(error) => {
            let known = ["ERR ", "WRONGTYPE "].iter().any(|code| error.starts_with(code));
            assert!(known && !error.contains("internal error"), "{}: {error}", shown());
            true
        }
    }
}

/// All keys, with a hash of their value and their expiry.
type Snapshot = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// Redis 6.2 has no PEXPIRETIME; there 1 stands for any expiry.
fn snapshot(redis: &mut Client) -> Snapshot {
    let script = b"local all = {} \
        for _, key in ipairs(redis.call('KEYS', '*')) do \
            local bytes = redis.call('DUMP', key) \
            local expiry = redis.pcall('PEXPIRETIME', key) \
            if type(expiry) ~= 'number' then expiry = redis.call('PTTL', key) < 0 and -1 or 1 end \
            if bytes then all[#all + 1] = {key, redis.sha1hex(bytes), expiry} end \
        end \
        return all";
    let reply = redis.try_call(&[b"EVAL", script, b"0"]).expect("a snapshot");
    let all: Vec<(Vec<u8>, Vec<u8>, i64)> = redis::from_redis_value(reply).expect("keys");
    all.into_iter().map(|(key, bytes, expiry)| (key, (bytes, expiry))).collect()
}

/// Whether nothing has changed but keys that have expired since.
#[track_caller]
fn assert_unchanged(before: &Snapshot, after: &Snapshot, call: &str) {
    let now = now_ms();
    for (key, stored) in before {
        let expired = (1..=now + 1).contains(&stored.1);
        match after.get(key) {
            None => assert!(expired, "{call}: {} has gone", key.escape_ascii()),
            Some(after) => assert!(after == stored, "{call}: {} has changed", key.escape_ascii()),
        }
    }
    for key in after.keys() {
        assert!(before.contains_key(key), "{call}: {} is new", key.escape_ascii());
    }
}

/// The server's processor time, in seconds. Unlike elapsed time it does not depend on other load; and a server that
/// hangs returns no PONG.
fn computed(redis: &mut Client) -> f64 {
    ["used_cpu_user", "used_cpu_sys"]
        .map(|name| redis.info_field("cpu", name).expect("a field").parse::<f64>().expect("seconds"))
        .iter()
        .sum()
}

/// Whether all calls since the last time took less than a second together.
#[track_caller]
fn assert_quick(redis: &mut Client, since: &mut f64) {
    let now = computed(redis);
    assert!(now - *since < 1.0, "the last calls took {} seconds", now - *since);
    *since = now;
}

/// With redis-cell's name too. Without active expiry, so that calls meet expired keys.
fn start(program: &Program) -> Server {
    let server = Server::with_module(program, "cl-throttle yes", &[]);
    server.connect().run("DEBUG SET-ACTIVE-EXPIRE 0");
    server
}

/// The memory that the server has allocated when it has no key.
fn memory_when_empty(server: &Server) -> i64 {
    server.connect().run("FLUSHALL SYNC");
    let used = || server.connect().info_field("memory", "used_memory").expect("a field").parse().expect("a number");
    // Memory that is freed in the background, and buffers of closed connections.
    let mut before: i64 = used();
    loop {
        testkit::sleep_ms(120);
        let now = used();
        if (now - before).abs() < 20_000 {
            return now;
        }
        before = now;
    }
}

#[test]
fn random_calls_leave_the_server_up_and_every_key_whole() {
    let calls = setting("METER_FUZZ_CALLS", 6_000);
    let seed = setting("METER_FUZZ_SEED", now_ms().unsigned_abs());
    println!("METER_FUZZ_SEED={seed}");
    on_every_program(|program| {
        let mut server = start(program);
        let mut random = Random::new(seed);
        run(&server, &mut random, calls.min(2_000));
        let before = memory_when_empty(&server);
        run(&server, &mut random, calls);
        let after = memory_when_empty(&server);
        assert!(after - before < 400_000, "{before} bytes were used by no key, and now {after}");
        assert!(server.is_alive());
    });
}

fn run(server: &Server, random: &mut Random, calls: u64) {
    let (mut redis, mut resp3) = (server.connect(), server.connect_resp3());
    let mut since = computed(&mut redis);
    for round in 0..calls {
        if round % 500 == 0 {
            assert_quick(&mut redis, &mut since);
            redis.run("FLUSHALL");
            prepare(&mut redis);
        }
        match random.below(8) {
            0 => spoil(&mut redis, random.pick(&SPOILT), VALUES[random.below(VALUES.len())]),
            // Deleted just before, as if evicted; or expired and not yet deleted.
            1 => drop(redis.run(&format!("DEL {}", random.pick(&SPOILT)))),
            2 => drop(redis.run(&format!("PEXPIRE {} 1", random.pick(&SPOILT)))),
            _ => {}
        }
        let words = if random.below(2) == 0 { call(random) } else { mutated(random) };
        let way = Way::pick(random, &words);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let before = (round % 8 == 0 && way != Way::Pipelined).then(|| snapshot(&mut redis));
        let client = if random.below(2) == 0 { &mut redis } else { &mut resp3 };
        for answer in answers(client, way, &words) {
            let refused = is_refusal(&answer, way, &words);
            if let Some(before) = before.as_ref().filter(|_| refused) {
                assert_unchanged(before, &snapshot(&mut redis), &shown(&words));
            }
        }
        if round % 100 == 99 {
            check(&mut redis);
        }
    }
}

#[test]
fn any_stored_value_gets_a_reply_and_a_refusal_leaves_it_unchanged() {
    on_every_program(|program| {
        let mut server = start(program);
        let mut redis = server.connect();
        let mut since = computed(&mut redis);
        for key in SPOILT {
            assert_quick(&mut redis, &mut since);
            for value in VALUES {
                // The calls that read these keys.
                let reads = |line: &&String| {
                    if key.starts_with("v:m") {
                        line.starts_with("METER.")
                    } else {
                        line.split(' ').any(|word| word == key)
                    }
                };
                let mut before = None;
                for line in CALLS.iter().filter(reads) {
                    if before.is_none() {
                        redis.run("FLUSHALL");
                        redis.run("METER.HIT v:m AT 1660054277326 PATH 3 a b c UNIQUE u");
                        redis.run("LPUSH v:q a b c");
                        spoil(&mut redis, key, value);
                        before = Some(snapshot(&mut redis));
                    }
                    let words = valid(line);
                    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    let waits = line.contains("TIMEOUT");
                    let way = if waits { Way::Script } else { Way::Alone };
                    for answer in answers(&mut redis, way, &words) {
                        if is_refusal(&answer, way, &words) {
                            let shown = || format!("{line} with {value:?} in {key}");
                            assert_unchanged(before.as_ref().expect("one"), &snapshot(&mut redis), &shown());
                        } else {
                            before = None;
                        }
                    }
                }
            }
        }
        assert_quick(&mut redis, &mut since);
        assert!(server.is_alive());
    });
}

#[test]
fn a_hyperloglog_whose_bytes_were_changed_is_counted_or_refused() {
    let seed = now_ms().unsigned_abs();
    on_every_program(|program| {
        // Before these versions PFADD and PFCOUNT themselves read and write past the end of some.
        let sound = if program.is_valkey() { (9, 0, 0) } else { (8, 0, 6) };
        if program.version < sound {
            return;
        }
        let mut server = start(program);
        let mut redis = server.connect();
        let mut random = Random::new(seed);
        let key = b"m:day:20220809:unique";
        for round in 0..400 {
            redis.run("FLUSHALL");
            let ids: Vec<String> = (0..random.below(60)).map(|id| (id * round).to_string()).collect();
            redis.run(&format!("PFADD m:day:20220809:unique {}", ids.join(" ")));
            let Value::BulkString(mut bytes) = redis.run("GET m:day:20220809:unique") else { panic!("no string") };
            for _ in 0..=random.below(3) {
                // Most of what matters stands at the beginning.
                let place =
                    if random.below(2) == 0 { random.below(bytes.len().min(20)) } else { random.below(bytes.len()) };
                bytes[place] = u8::try_from(random.below(256)).expect("a byte");
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len() + 1));
            }
            redis.try_call(&[b"SET", key, &bytes]).expect("SET");
            redis.run("HSET m:day:20220809 day 1 14 1");
            redis.run("ZADD m 20220809 20220809");
            for line in [
                "METER.KPI m DAY 20220809",
                "METER.KPI m FROM 20220801 TO 20220831 BY TOTAL",
                "METER.HIT m AT 1660054277326 UNIQUE new",
                "METER.HIT m AT 1660054277326 UNIQUE 12345 PATH 1 a",
                "METER.KPI m DAY 20220809",
                "METER.SEAL m",
            ] {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                let before = snapshot(&mut redis);
                for answer in answers(&mut redis, Way::Alone, &words) {
                    if is_refusal(&answer, Way::Alone, &words) {
                        assert_unchanged(&before, &snapshot(&mut redis), &format!("{line} {}", bytes.escape_ascii()));
                    }
                }
            }
        }
        assert!(server.is_alive(), "seed {seed}");
    });
}

#[test]
fn a_megabyte_is_taken_in_every_place() {
    on_every_program(|program| {
        let mut server = start(program);
        let (mut redis, mut resp3) = (server.connect(), server.connect_resp3());
        let mut since = computed(&mut redis);
        let fills = [b'x', b'9', b'\0', b'%'];
        for (nth, line) in CALLS.iter().enumerate().filter(|(_, line)| !line.contains("TIMEOUT")) {
            for place in 1..valid(line).len() {
                let mut words = valid(line);
                words[place] = vec![fills[(nth + place) % fills.len()]; 1 << 20];
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                let client = if place % 2 == 0 { &mut redis } else { &mut resp3 };
                for answer in answers(client, Way::Alone, &words) {
                    if let (true, Err(error)) = (is_refusal(&answer, Way::Alone, &words), answer) {
                        assert!(error.len() < 500, "an error shows the start of an argument: {}", error.len());
                    }
                }
            }
            redis.run("FLUSHALL");
            assert_quick(&mut redis, &mut since);
        }
        assert!(server.is_alive());
    });
}

#[test]
fn members_of_100_kilobytes_make_a_path_of_eight_levels() {
    on_every_program(|program| {
        let mut server = start(program);
        let mut redis = server.connect();
        let mut since = computed(&mut redis);
        let member = vec![b'\0'; 100_000];
        let mut words: Vec<&[u8]> = vec![b"METER.HIT", b"m", b"AT", b"1660054277326", b"PATH", b"8"];
        words.extend([&member[..]; 8]);
        let one = Value::Array(vec![Value::Int(1); 3]);
        assert_eq!(answers(&mut redis, Way::Alone, &words), [Ok(one)]);
        assert_eq!(redis.int("DBSIZE"), 10);
        let (_, keys) = redis.seal("METER.SEAL m");
        assert_eq!(keys.len(), 9);
        // Those, the batch, the sealed counts of the month, and this month's hash, which names the old one.
        assert_eq!(redis.int("DBSIZE"), 12);
        assert_quick(&mut redis, &mut since);
        assert!(server.is_alive());
    });
}

#[test]
fn up_to_a_thousand_arguments_get_a_reply() {
    on_every_program(|program| {
        let mut server = start(program);
        let mut redis = server.connect();
        let mut since = computed(&mut redis);
        for line in CALLS.iter() {
            assert_quick(&mut redis, &mut since);
            let words = valid(line);
            for filler in ["1", "MS", "PATH", "1000", "inf"] {
                for len in (0..16).chain([100, 999, 1_000]) {
                    let (key, filler) = (b"v:any".to_vec(), filler.as_bytes().to_vec());
                    let many = [words[0].clone()].into_iter().chain([key].into_iter().take(len));
                    let many: Vec<_> = many.chain(std::iter::repeat_n(filler, len.saturating_sub(1))).collect();
                    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
                    answers(&mut redis, Way::Alone, &many).iter().for_each(|answer| {
                        is_refusal(answer, Way::Alone, &many);
                    });
                }
            }
        }
        // As many that are right.
        let limits: Vec<String> = (0..199).map(|nth| format!("many:{nth} 5 10 60 1")).collect();
        let Value::Array(all) = redis.run(&format!("CELL.MTHROTTLE {}", limits.join(" "))) else { panic!("no list") };
        assert_eq!(all.len(), 199);
        let bounds: Vec<String> = (1..400).map(|upto| format!("{upto} 0.01")).collect();
        redis.run(&format!("METER.COST v:m DAY 20220809 GRADUATED {} inf 0.01", bounds.join(" ")));
        assert_quick(&mut redis, &mut since);
        assert!(server.is_alive());
    });
}

#[test]
fn bytes_of_clients_are_no_format_and_end_no_reply() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for bytes in
            [&b"%s%n%s%n%p"[..], b"\0", b"a\0b", b"\r\n+OK\r\n", b"\xff\xfe", b"\xc3\x28", b"%", b"%00", b"\x1b[2J"]
        {
            for words in [
                &[b"METER.HIT", bytes, b"AT", b"1660054277326", b"PATH", b"2", bytes, bytes, b"UNIQUE", bytes][..],
                &[b"METER.TOP", bytes, b"DAY", b"20220809", b"PATH", b"1", bytes],
                &[b"CELL.THROTTLE", bytes, b"5", b"10", b"60"],
            ] {
                let answer = answers(&mut redis, Way::Alone, words);
                assert!(answer[0].is_ok() || words[0] == b"CELL.THROTTLE", "{}: {answer:?}", shown(words));
            }
            // And as arguments of the wrong kind.
            for line in [
                "METER.HIT m ?",
                "METER.HIT m BY ?",
                "METER.KPI m DAY ?",
                "METER.COST m DAY 20220809 RATE ?",
                "METER.ACK m ?",
                "CELL.THROTTLE t ? 10 60",
                "CELL.WINDOW w 1 60 1 ?",
                "CELL.PULL q l 0 1 60 ?",
            ] {
                let words: Vec<_> =
                    line.split(' ').map(|word| if word == "?" { bytes } else { word.as_bytes() }).collect();
                let answer = answers(&mut redis, Way::Alone, &words);
                let error = answer[0].as_ref().expect_err("a refusal");
                assert!(error.starts_with("ERR ") && error.chars().all(|c| (' '..='~').contains(&c)), "{error:?}");
            }
            redis.run("FLUSHALL");
        }
    });
}

/// The invariants of the keys that only the module writes.
fn check(redis: &mut Client) {
    for key in ["only:u", "only:window", "only:log", "only:slide"] {
        assert_ne!(redis.int(&format!("PTTL {key}")), -1, "{key} is a limiter without an expiry");
    }
    assert!(redis.int("ZCARD only:log") <= 1_000);
    let days = if redis.string("TYPE only:m").as_deref() == Some("zset") {
        redis.strings("ZRANGE only:m 0 -1")
    } else {
        vec![]
    };
    for day in &days {
        let counts = redis.strings(&format!("HGETALL only:m:day:{day}"));
        let number = |text: &String| text.parse::<i64>().expect("a count");
        let (mut total, mut hours) = (None, 0i128);
        for pair in counts.chunks(2) {
            if pair[0] == "day" {
                total = Some(i128::from(number(&pair[1])));
            } else {
                hours += i128::from(number(&pair[1]));
            }
        }
        assert_eq!(total.unwrap_or(0), hours, "day {day} is the sum of its hours");
    }
    for key in redis.strings("KEYS only:m:day:*") {
        let mut parts = key.split(':').skip(3);
        let day = parts.next().expect("a day").to_owned();
        let rest: Vec<&str> = parts.collect();
        if rest == ["once"] {
            assert_ne!(redis.int(&format!("PTTL {key}")), -1, "ids of events are forgotten one day");
            continue;
        }
        assert!(days.contains(&day), "{key} belongs to a day of the index");
        if let ["path", above @ .., member] = &rest[..] {
            // The members here have no byte that is encoded but these two.
            let member = member.replace("%3A", ":").replace("%00", "\0");
            let above: String = above.iter().map(|member| format!(":{member}")).collect();
            let set = format!("only:m:day:{day}:path{above}");
            let score = redis.try_call(&[b"ZSCORE", set.as_bytes(), member.as_bytes()]).expect("a score");
            assert_ne!(score, Value::Nil, "{key} is below a member of {set}");
        }
    }
}
