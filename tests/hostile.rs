//! No bytes, key type, stored value or number takes the server down, leaves a key half-written, or breaks the protocol.
//!
//! `METER_FUZZ_CALLS` sets the number of calls on each server, `METER_FUZZ_SEED` repeats a run.

mod support;

use support::{Client, Random, Server, Value, now_ms, on_every_program, setting};

/// Arguments that have broken parsers before.
const WORDS: [&str; 68] = [
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
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
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
    "TOTAL",
    "MS",
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
        "HSET meter:month:202208 sealed x",
    ] {
        redis.run(line);
    }
    redis.try_call(&[b"SET", b"absent:day:20220809", b"\xff\xfe\0"]).expect("set");
}

/// All of them; `METER.HIT` and the limiters twice as often as the others.
const COMMANDS: [&str; 25] = [
    "METER.HIT",
    "meter.hit",
    "METER.KPI",
    "METER.TOP",
    "METER.DAYS",
    "METER.COST",
    "METER.SEAL",
    "METER.ACK",
    "METER.DROP",
    "METER.INDEX",
    "CELL.THROTTLE",
    "CELL.THROTTLE_RO",
    "CL.THROTTLE",
    "CELL.MTHROTTLE",
    "CELL.MTHROTTLE_RO",
    "CELL.WINDOW",
    "CELL.WINDOW",
    "CELL.WINDOW_RO",
    "CELL.LOG",
    "CELL.LOG",
    "CELL.LOG_RO",
    "CELL.SLIDE",
    "CELL.SLIDE",
    "CELL.SLIDE_RO",
    "CELL.PULL",
];

/// The key that only limiters of this kind write.
fn own_key(command: &str) -> &'static str {
    match command.to_uppercase().trim_end_matches("_RO") {
        name if name.starts_with("METER.") => "only:m",
        "CELL.WINDOW" => "only:window",
        "CELL.LOG" => "only:log",
        "CELL.SLIDE" => "only:slide",
        _ => "only:u",
    }
}

fn argument(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => vec![b'9'; random.below(5_000)],
        1 => (0..random.below(64)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect(),
        2 => now_ms().to_string().into_bytes(),
        3 => random.next().to_string().into_bytes(),
        _ => random.pick(&WORDS).as_bytes().to_vec(),
    }
}

fn call(random: &mut Random) -> Vec<Vec<u8>> {
    let command = random.pick(&COMMANDS);
    let mut words = vec![command.as_bytes().to_vec()];
    // Half of the calls have the form of one that could be right.
    let plausible = random.below(2) == 0;
    if plausible {
        let key = if random.below(3) == 0 { own_key(command) } else { random.pick(&KEYS) };
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
                let options: [&[&str]; 8] = [
                    &[],
                    &["PATH", "1", "a"],
                    &["PATH", "2", "a", "b:"],
                    &["PATH", "2", "a", "c", "UNIQUE", "u"],
                    &["UNIQUE", "v", "CAP", "DAY", "9"],
                    &["CAP", "MONTH", "50", "PATH", "3", "a", "b:", "\0"],
                    &["ONCE", "e"],
                    &["CAP", "HOUR", "5"],
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
            "CELL.WINDOW" | "CELL.LOG" | "CELL.SLIDE" => {
                add(random.pick(&numbers[1..]));
                add(random.pick(&periods));
                add(random.pick(&quantities));
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

#[test]
fn random_calls_leave_the_server_up_and_every_key_whole() {
    let calls = setting("METER_FUZZ_CALLS", 6_000);
    let seed = setting("METER_FUZZ_SEED", now_ms().unsigned_abs());
    println!("METER_FUZZ_SEED={seed}");
    on_every_program(|program| {
        let mut server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        let mut random = Random::new(seed);
        for round in 0..calls {
            if round % 500 == 0 {
                redis.run("FLUSHALL");
                prepare(&mut redis);
            }
            let words = call(&mut random);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let reply = redis.try_call(&words);
            let shown = || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
            match &reply {
                Ok(Value::Array(_)) => {}
                Ok(Value::Int(count)) if *count >= 0 => {}
                Ok(other) => panic!("{}: {other:?}", shown()),
                Err(error) => {
                    let known = ["ERR ", "WRONGTYPE "].iter().any(|code| error.starts_with(code));
                    assert!(known && !error.contains("internal error"), "{}: {error}", shown());
                }
            }
            if round % 100 == 99 {
                check(&mut redis);
            }
        }
        assert!(server.is_alive());
    });
}

/// What must hold of the keys that only the module writes.
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
