//! Memory is freed: no command leaks, whether it succeeds or fails, and its keys take the memory that keys of core
//! commands would take.
//!
//! `METER_LEAK_CALLS` sets how many calls each round takes on each server:
//! `METER_LEAK_CALLS=10000000 cargo test --test memory`.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Client, Server, eventually, on_every_program, on_every_server, sleep_ms};

/// Calls, separated by semicolons, that leave the keys as they were. `ID` is the id of the last batch.
const ROUNDS: [&str; 29] = [
    "METER.HIT m AT 1660054277326",
    "METER.HIT m AT 1660054277326 BY 0 PATH 2 a b UNIQUE u",
    "METER.HIT m AT 1660054277326 PATH 8 a b c d e f g h UNIQUE u CAP MONTH 9000000000000000",
    "METER.HIT m AT 1660054277326 CAP HOUR 1",
    "METER.HIT m AT NOW ONCE event PATH 1 a",
    "METER.HIT new AT NOW PATH 2 a b UNIQUE u; METER.HIT new AT NOW PATH 2 a b BY -1",
    "METER.KPI m DAY 20220809",
    "METER.KPI m FROM 20220801 TO 20220831 BY HOUR; METER.KPI m FROM 20220801 TO 20220831 BY TOTAL",
    "METER.KPI m FROM 20220801 TO 20220831 BY MONTH PATH 2 a b",
    "METER.TOP m FROM 20220801 TO 20220831 PATH 1 a COUNT 3",
    "METER.DAYS m",
    "METER.COST m DAY 20220809 GRADUATED 5 0.1 inf 0.05; METER.COST m DAY 20220809 VOLUME 5 0.1 inf 0.05",
    "METER.HIT s AT 1660054277326 PATH 2 a b UNIQUE u; METER.SEAL s; METER.SEAL s; METER.ACK s ID",
    "METER.HIT d AT 1660054277326 PATH 2 a b UNIQUE u; METER.DROP d BEFORE 20221231",
    "DEL i; HSET i:day:20220809 day 1 14 1; METER.INDEX i FROM 20220801 TO 20220831",
    "CELL.THROTTLE t 999 1 60; CELL.THROTTLE t 999 1 60 -1",
    "CELL.THROTTLE full 0 1 3600; CELL.THROTTLE_RO full 0 1 3600; CL.THROTTLE full 0 1 3600 0",
    "CELL.MTHROTTLE t1 9 1 60 1 t2 9 1 60 1; CELL.MTHROTTLE t1 9 1 60 -1 t2 9 1 60 -1",
    "CELL.MTHROTTLE full 0 1 3600 1 t2 9 1 60 1; CELL.MTHROTTLE_RO full 0 1 3600 1 t2 9 1 60 1 MS",
    "CELL.WINDOW w 9 3600; CELL.WINDOW w 9 3600 -1; CELL.WINDOW_RO w 9 3600",
    "CELL.WINDOW blocked 1 3600 1 BLOCK 7200",
    "CELL.LOG l 9 3600; CELL.LOG l 9 3600 -1; CELL.LOG_RO l 9 3600",
    "CELL.LOG busy 9 3600; CELL.LOG busy 9 3600 10",
    "CELL.SLIDE s1 9 3600; CELL.SLIDE s1 9 3600 -1; CELL.SLIDE_RO s1 9 3600",
    "CELL.SLIDE s2 9 3600",
    "LPUSH q a b; CELL.PULL q pace 9 1 60 COUNT 2 INTO done MS; DEL done pace",
    "CELL.LEASE lease 9 3600 ann; CELL.LEASE lease 9 3600 ann MS; CELL.LEASE_RO lease 9 3600 bob; CELL.RELEASE lease ann",
    "CELL.LEASE full-lease 1 3600 bob TIMEOUT 5; CELL.RELEASE full-lease bob",
    "LPUSH q a; CELL.PULL q full 0 1 3600; RPOP q",
];

/// Calls that end in errors, on keys of other types and with arguments that are wrong in every place.
const MISTAKES: [&str; 33] = [
    "METER.HIT m BY x",
    "METER.HIT m AT 1660054277",
    "METER.HIT m BY",
    "METER.HIT m PATH 9 a",
    "METER.HIT m PATH 2 a",
    "METER.HIT m ONCE e",
    "METER.HIT m CAP YEAR 1",
    "METER.HIT m AT 1660054277326 BY -9000000000000000000 PATH 2 a b UNIQUE u",
    "METER.HIT m AT 1660054277326 PATH 2 a b ONCE late",
    "METER.HIT textual AT 1660054277326 PATH 2 a b UNIQUE u",
    "METER.HIT list",
    "METER.KPI m DAY x",
    "METER.KPI m FROM 20220101",
    "METER.KPI list",
    "METER.TOP m PATH 2 a COUNT x",
    "METER.DAYS list",
    "METER.COST m DAY 20220809 GRADUATED 5 0.1 4 0.05",
    "METER.COST list DAY 20220809 RATE 1",
    "METER.SEAL list",
    "METER.ACK m 0123456789abcdef0123456789abcdef",
    "METER.DROP m BEFORE x",
    "METER.INDEX m FROM 20220831 TO 20220801",
    "CELL.THROTTLE list 9 1 60",
    "CELL.THROTTLE t x 1 60",
    "CELL.MTHROTTLE t 9 1 60 1 t 9 1 60 1",
    "CELL.WINDOW w 9 3600 1 BLOCK x",
    "CELL.LOG list 9 3600",
    "CELL.SLIDE list 9 3600",
    "CELL.LEASE list 9 3600 ann TIMEOUT 5",
    "CELL.LEASE full-lease 9 3600 ann TIMEOUT x",
    "CELL.RELEASE list ann",
    "CELL.PULL list l 0 1 x INTO list",
    "CELL.PULL text l 0 1 60 INTO done",
];

/// Repeats the calls of a round, each of which must succeed, or each of which must fail.
const REPEAT: &str = "
    local calls, id = {}, nil
    for i = 3, #ARGV do calls[#calls + 1] = cjson.decode(ARGV[i]) end
    for _ = 1, tonumber(ARGV[1]) do
        for _, call in ipairs(calls) do
            if call[#call] == 'ID' then call[#call] = id end
            local reply = redis.pcall(unpack(call))
            if (type(reply) == 'table' and reply.err ~= nil) ~= (ARGV[2] == 'fails') then
                return redis.error_reply(table.concat(call, ' ') .. ': ' .. (type(reply) == 'table' and reply.err or 'ok'))
            end
            if call[1] == 'METER.SEAL' then id = reply[1] end
            if call[1] == 'METER.ACK' then call[#call] = 'ID' end
        end
    end
    return 'done'";

/// Makes this many calls in total.
fn repeat(redis: &mut Client, round: &str, calls_in_all: u64, outcome: &str) {
    let call = |line: &str| {
        let words = line
            .split_whitespace()
            .map(|word| if word == "NOW" { testkit::now_ms().to_string() } else { word.to_owned() });
        let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
        format!("[{}]", words.join(","))
    };
    let calls: Vec<String> = round.split("; ").map(call).collect();
    let mut left = calls_in_all.div_ceil(u64::try_from(calls.len()).expect("small"));
    while left > 0 {
        // A script that runs for long would be in the way of everything.
        let part = left.min(20_000);
        let part_text = part.to_string();
        let mut words = vec!["EVAL", REPEAT, "0", &part_text, outcome];
        words.extend(calls.iter().map(String::as_str));
        let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
        redis.try_call(&words).unwrap_or_else(|error| panic!("{round}: {error}"));
        left -= part;
    }
}

/// The memory that the server has allocated, and the part of it for data.
fn allocated(redis: &mut Client) -> [i64; 2] {
    ["used_memory", "used_memory_dataset"]
        .map(|name| redis.info_field("memory", name).expect("a field").parse().expect("a number"))
}

/// Whether no more is allocated than before, except for buffers and tables of the server; waits for memory that is
/// freed later.
#[track_caller]
fn assert_flat(redis: &mut Client, before: [i64; 2], slack: i64, what: &str) {
    let start = Instant::now();
    loop {
        let after = allocated(redis);
        let grown = after[0] - before[0];
        if grown <= slack && after[1] - before[1] <= slack {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{what}: {before:?} bytes have become {after:?}");
        sleep_ms(50);
    }
}

/// The slow log would keep the scripts that repeat the calls.
const NO_SLOWLOG: [&str; 2] = ["--slowlog-log-slower-than", "-1"];

fn prepare(server: &Server) -> Client {
    let mut redis = server.connect();
    redis.run("RPUSH list a");
    redis.run("SET text a");
    redis.run("SET textual:day:20220809:unique text");
    redis.run("METER.HIT m AT 1660054277326 PATH 2 a b UNIQUE u");
    redis.run("CELL.THROTTLE full 0 1 36000");
    redis.run("CELL.WINDOW blocked 1 36000");
    redis.run("CELL.LEASE full-lease 1 36000 ann");
    redis
}

/// How many calls a round is made of, all in all; and how much memory they may seem to take: a few bytes a call.
fn calls() -> (u64, i64) {
    let calls = std::env::var("METER_LEAK_CALLS").map_or(10_000, |text| text.parse().expect("METER_LEAK_CALLS"));
    (calls, 60_000)
}

#[test]
fn no_call_that_succeeds_leaks() {
    let (calls, slack) = calls();
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &NO_SLOWLOG);
        let mut redis = prepare(&server);
        for round in ROUNDS {
            repeat(&mut redis, round, 500, "succeeds");
        }
        for round in ROUNDS {
            repeat(&mut redis, round, 100, "succeeds");
            let before = allocated(&mut redis);
            repeat(&mut redis, round, calls, "succeeds");
            assert_flat(&mut redis, before, slack, round);
        }
    });
}

#[test]
fn no_call_that_fails_leaks() {
    let (calls, slack) = calls();
    on_every_program(|program| {
        let server = Server::start(program, &NO_SLOWLOG);
        let mut redis = prepare(&server);
        for round in MISTAKES {
            repeat(&mut redis, round, 200, "fails");
            let before = allocated(&mut redis);
            repeat(&mut redis, round, calls, "fails");
            assert_flat(&mut redis, before, slack, round);
        }
    });
}

#[test]
fn blocked_clients_leave_no_memory_in_use() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut client = server.connect();
        let mut wait = |redis: &mut Client, times: i64| {
            for nth in 0..times {
                let mut pull = redis::cmd("CELL.PULL");
                pull.arg(&[&format!("queue:{}", nth % 7), "pace", "99", "1", "0.001", "TIMEOUT", "30", "INTO", "done"]);
                client.0.send_packed_command(&pull.get_packed_command()).expect("sent");
                eventually("it waits", || redis.info_field("clients", "blocked_clients").as_deref() == Some("1"));
                redis.run(&format!("LPUSH queue:{} cell", nth % 7));
                client.0.recv_response().expect("a cell");
                redis.run("DEL done pace");
            }
        };
        wait(&mut redis, 100);
        let before = allocated(&mut redis);
        wait(&mut redis, 700);
        assert_flat(&mut redis, before, 40_000, "served");
        // Clients that disconnect, and clients whose timeout passes.
        let mut leave = |rounds: usize| {
            for _ in 0..rounds {
                let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
                for (nth, client) in clients.iter_mut().enumerate() {
                    let mut pull = redis::cmd("CELL.PULL");
                    pull.arg(&["q", "l", "0", "1", "60", "TIMEOUT", ["0.05", "0"][nth % 2]]);
                    client.0.send_packed_command(&pull.get_packed_command()).expect("sent");
                }
                clients.iter_mut().step_by(2).for_each(|client| drop(client.0.recv_response().expect("an answer")));
                drop(clients);
                eventually("nobody waits", || redis.info_field("clients", "blocked_clients").as_deref() == Some("0"));
            }
        };
        leave(4);
        let before = allocated(&mut server.connect());
        leave(8);
        assert_flat(&mut server.connect(), before, 40_000, "left");
    });
}

/// The value of a key, built by core commands under a name of the same length.
fn rebuilt(redis: &mut Client, key: &str) -> String {
    let other = format!("c{}", &key[1..]);
    let kind = redis.string(&format!("TYPE {key}")).expect("a type");
    match kind.as_str() {
        "hash" => {
            for pair in redis.strings(&format!("HGETALL {key}")).chunks(2) {
                redis.run(&format!("HSET {other} {} {}", pair[0], pair[1]));
            }
        }
        "zset" => {
            for pair in redis.strings(&format!("ZRANGE {key} 0 -1 WITHSCORES")).chunks(2) {
                redis.run(&format!("ZADD {other} {} {}", pair[1], pair[0]));
            }
        }
        "set" => {
            for member in redis.strings(&format!("SMEMBERS {key}")) {
                redis.run(&format!("SADD {other} {member}"));
            }
        }
        "list" => {
            for element in redis.strings(&format!("LRANGE {key} 0 -1")) {
                redis.run(&format!("RPUSH {other} {element}"));
            }
        }
        _ => drop(redis.run(&format!("COPY {key} {other}"))),
    }
    other
}

#[test]
fn state_has_the_encoding_and_the_size_that_core_commands_give_it() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for nth in 0..300 {
            redis.run(&format!(
                "METER.HIT m AT {} PATH 2 a{} b{nth} UNIQUE u{nth}",
                1_660_054_277_326_i64 + nth * 3_600_000,
                nth % 3
            ));
        }
        for nth in 0..40 {
            redis.run(&format!("METER.HIT m AT {} ONCE event-{nth}", testkit::now_ms()));
            redis.run("CELL.LOG log 200 3600 5");
            redis.run("CELL.SLIDE slide 99 3600");
            redis.run("CELL.WINDOW window 99 3600");
            redis.run("CELL.THROTTLE throttle 99 1 3600");
            redis.run(&format!("LPUSH queue {nth}"));
        }
        redis.run("CELL.PULL queue pace 99 1 3600 COUNT 20 INTO list");
        redis.run("METER.SEAL m BEFORE 20220812");
        let keys = redis.strings("KEYS *");
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys {
            let other = rebuilt(&mut redis, &key);
            for question in ["TYPE", "OBJECT ENCODING"] {
                let ask = |redis: &mut Client, key: &str| redis.string(&format!("{question} {key}"));
                assert_eq!(ask(&mut redis, &key), ask(&mut redis, &other), "{question} {key}");
            }
            let sizes = [&key, &other].map(|key| redis.int(&format!("MEMORY USAGE {key} SAMPLES 0")));
            // A HyperLogLog keeps room to grow, which a copy has not; lists and sets grow by leaps, by the order.
            if key.ends_with(":unique") {
                continue;
            }
            assert!((sizes[0] - sizes[1]).abs() <= 64.max(sizes[1] / 10), "{key}: {sizes:?}");
        }
    });
}

#[test]
fn deleted_keys_are_freed_lazily_and_completely() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let freed = |redis: &mut Client| -> i64 {
            redis.info_field("memory", "lazyfreed_objects").expect("a field").parse().expect("a number")
        };
        let add = b"for i = 1, 10000 do \
            redis.call('METER.HIT', 'm', 'AT', '1660054277326', 'PATH', '2', 'a', 'member ' .. i) end";
        // The first round fills the server's own buffers.
        for (round, how) in ["METER.DROP m", "METER.ACK m ID", "METER.DROP m", "METER.ACK m ID"].iter().enumerate() {
            let before = (allocated(&mut redis), freed(&mut redis));
            redis.try_call(&[b"EVAL", add, b"0"]).expect("hits");
            assert!(allocated(&mut redis)[0] - before.0[0] > 500_000);
            let mut line = (*how).to_owned();
            if how.contains("ID") {
                let (id, _) = redis.seal("METER.SEAL m");
                line = how.replace("ID", &id.expect("a batch"));
            }
            redis.run(&line);
            eventually("a large set is freed behind the scenes, as UNLINK does", || freed(&mut redis) > before.1);
            assert_flat(&mut redis, before.0, if round < 2 { 250_000 } else { 100_000 }, how);
        }
    });
}

#[test]
fn the_servers_own_upkeep_leaves_state_as_it_is() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let add = b"for i = 1, 2000 do \
            redis.call('METER.HIT', 'm' .. i % 50, 'AT', '1660054277326', 'PATH', '2', 'a', 'b' .. i, 'UNIQUE', i) \
            redis.call('CELL.THROTTLE', 't' .. i, '9', '1', '3600') end \
            for i = 1, 2000, 2 do redis.call('DEL', 't' .. i) end";
        redis.try_call(&[b"EVAL", add, b"0"]).expect("hits");
        let values = |redis: &mut Client| -> Vec<_> {
            redis.contents().into_iter().map(|entry| (entry.key, entry.kind, entry.value)).collect()
        };
        let before = values(&mut redis);
        for command in ["MEMORY DOCTOR", "MEMORY STATS", "MEMORY PURGE", "MEMORY MALLOC-STATS"] {
            redis.run(command);
        }
        match redis.try_run("CONFIG SET activedefrag yes") {
            Ok(_) => {
                for (name, value) in [("active-defrag-ignore-bytes", "1"), ("active-defrag-threshold-lower", "0")] {
                    redis.run(&format!("CONFIG SET {name} {value}"));
                }
                let hits = thread::spawn({
                    let mut redis = server.connect();
                    move || {
                        (0..2_000)
                            .for_each(|nth| drop(redis.run(&format!("METER.HIT other AT 1660054277326 PATH 1 {nth}"))))
                    }
                });
                hits.join().expect("a thread");
                sleep_ms(300);
                redis.run("METER.DROP other");
            }
            Err(error) => {
                println!(
                    "{} {:?} has no active defragmentation: {error}",
                    server.program.product, server.program.version
                );
            }
        }
        assert!(values(&mut redis) == before, "a value has changed");
        assert!(server.is_alive());
    });
}
