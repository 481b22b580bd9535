//! No call blocks the server for long: a call that would is refused with its limit and the remedy, or done in part or
//! in steps. Measured in processor time of the server's main thread, which other work on the machine does not lengthen.

use testkit::{Client, Server, Value, now_ms, on_every_program};

/// "About 10 ms", with room for slow machines; the calls that it is meant to catch take several times as long.
const LONG: f64 = 0.030;

/// Seconds that the main thread has computed; of the whole process if the server does not distinguish them.
fn computed(redis: &mut Client) -> f64 {
    let text = redis.string("INFO cpu").expect("a section");
    let field = |name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
    };
    let sum = |end: &str| Some(field(&format!("used_cpu_user{end}"))? + field(&format!("used_cpu_sys{end}"))?);
    sum("_main_thread").or_else(|| sum("")).expect("its processor time")
}

/// The reply, and the seconds that it took.
fn timed(redis: &mut Client, line: &str) -> (Result<Value, String>, f64) {
    let before = computed(redis);
    let answer = redis.try_run(line);
    (answer, computed(redis) - before)
}

/// The least of several attempts, each on a state that `prepare` makes.
fn least(redis: &mut Client, line: &str, prepare: impl Fn(&mut Client)) -> f64 {
    let attempt = |redis: &mut Client| {
        prepare(redis);
        timed(redis, line).1
    };
    (0..3).map(|_| attempt(redis)).fold(f64::INFINITY, f64::min)
}

fn script(redis: &mut Client, text: &str, arguments: &[&str]) {
    let mut words: Vec<&[u8]> = vec![b"EVAL", text.as_bytes(), b"0"];
    words.extend(arguments.iter().map(|argument| argument.as_bytes()));
    redis.try_call(&words).unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// One server after another would take long: each has its own processor time.
fn on_every_server(test: impl Fn(&mut Server) + Sync) {
    on_every_program(|program| test(&mut Server::start(program, &[])));
}

#[test]
fn log_takes_no_more_at_once_than_is_quick() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("CELL.LOG k 1000000 3600 1000")[..3], [0, 1_000_000, 999_000]);
        let before = redis.contents();
        for quantity in [100_000, 999_000] {
            let (answer, seconds) = timed(&mut redis, &format!("CELL.LOG k 1000000 3600 {quantity}"));
            let error = answer.expect_err("so many would take long");
            assert!(error.starts_with("ERR ") && error.contains("quantity"), "{error}");
            assert!(error.chars().any(|c| c.is_ascii_digit()), "the limit is named: {error}");
            assert!(seconds < LONG, "{seconds} s");
            assert!(redis.contents() == before, "a refusal changes nothing");
        }
        // More than the limit at once can never pass, and gets the usual reply.
        assert_eq!(redis.ints("CELL.LOG small 5 3600 6"), [1, 5, 5, -1, 0]);
        // A refund, of as many cells as there are.
        let seconds = timed(&mut redis, "CELL.LOG k 1000000 3600 -1000").1;
        assert!(seconds < LONG, "{seconds} s");
        assert_eq!(redis.int("EXISTS k"), 0);
    });
}

#[test]
fn log_with_many_cells_in_the_future_is_repaired_in_part() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let fill = "for i = 1, 100000 do local time = string.format('%d', tonumber(ARGV[1]) + i)
            redis.call('ZADD', 'k', time, time .. '-000000') end";
        let prepare = |redis: &mut Client| {
            redis.run("DEL k");
            script(redis, fill, &[&((now_ms() + 900_000) * 1_000).to_string()]);
        };
        for call in ["CELL.LOG k 10 60", "CELL.LOG k 10 60 0", "CELL.LOG_RO k 10 60"] {
            let seconds = least(&mut redis, call, prepare);
            assert!(seconds < LONG, "{call}: {seconds} s");
            let answer = redis.try_run(call).expect("an answer");
            assert!(
                matches!(&answer, Value::Array(five) if five.len() == 5 && five[2] == Value::Int(0)),
                "{call}: {answer:?}"
            );
        }
    });
}

#[test]
fn mthrottle_takes_no_more_limits_than_is_quick() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let limits = |n: usize| (0..n).map(|nth| format!(" k{nth} 5 10 60 1")).collect::<String>();
        let answers = redis.run(&format!("CELL.MTHROTTLE{}", limits(199)));
        assert!(matches!(answers, Value::Array(all) if all.len() == 199));
        redis.run("FLUSHALL");
        for command in ["CELL.MTHROTTLE", "CELL.MTHROTTLE_RO"] {
            let (answer, seconds) = timed(&mut redis, &format!("{command}{}", limits(20_000)));
            let error = answer.expect_err("so many would take long");
            assert!(error.starts_with("ERR ") && error.contains("limits"), "{error}");
            assert!(seconds < LONG, "{command}: {seconds} s");
            assert_eq!(redis.int("DBSIZE"), 0);
        }
    });
}

#[test]
fn pull_takes_less_than_it_was_asked_for_and_the_rest_with_the_next_calls() {
    on_every_server(|server| {
        let mut redis = server.connect();
        script(&mut redis, "for i = 1, 100000 do redis.call('LPUSH', 'q', i) end", &[]);
        let (mut taken, mut calls) = (Vec::new(), 0);
        let mut longest = 0.0_f64;
        while taken.len() < 100_000 {
            let (answer, seconds) = timed(&mut redis, "CELL.PULL q l 999999 1000000 1 COUNT 100000 INTO busy");
            let (cells, wait): (Vec<i64>, i64) =
                redis::from_redis_value(answer.expect("cells")).expect("cells and a wait");
            assert!(!cells.is_empty() && wait == 0, "{} cells, {wait} s", cells.len());
            taken.extend(cells);
            calls += 1;
            // The first calls also pay for the tables that the server lets grow.
            longest = if calls == 1 { seconds } else { longest.min(seconds) };
        }
        assert!(longest < LONG, "{longest} s for each of {calls} calls");
        assert!(taken.iter().copied().eq(1..=100_000), "each once, in order");
        assert_eq!(redis.int("LLEN busy"), 100_000);
    });
}

/// Twelve days of 6,000 members, of which 100 have a ranking of their own, among other keys.
fn fill_days(redis: &mut Client) {
    let members = "for i = 0, 5999 do
        redis.call('ZADD', ARGV[1] .. ':path', 1, 'member' .. i)
        if i < 100 then redis.call('ZADD', ARGV[1] .. ':path:member' .. i, 1, 'x') end end";
    for day in 0..12 {
        redis.run(&format!("METER.HIT m AT {} UNIQUE u", 1_660_054_277_326i64 + day * 86_400_000));
        script(redis, members, &[&format!("m:day:{}", 20_220_809 + day)]);
    }
    let others = "for i = 1, 100000 do redis.call('SET', 'other:' .. i, 1) end";
    script(redis, others, &[]);
}

#[test]
fn seal_closes_whole_days_in_batches_that_are_quick() {
    on_every_server(|server| {
        let mut redis = server.connect();
        fill_days(&mut redis);
        let (mut batches, mut sealed) = (0, 0);
        loop {
            let answer = redis.run("METER.SEAL m");
            let (id, keys): (Option<String>, Vec<String>) = redis::from_redis_value(answer).expect("an id and keys");
            let Some(id) = id else { break };
            assert_eq!(keys.len() % 103, 0, "whole days: the hash, the ranking, those below, the ids");
            assert!(keys.len() < 6 * 103, "{} keys in one call", keys.len());
            sealed += keys.len();
            batches += 1;
            assert_eq!(redis.int(&format!("METER.ACK m {id}")), i64::try_from(keys.len()).expect("small"));
        }
        assert_eq!(sealed, 12 * 103);
        assert!(batches > 1, "{batches} batches");
    });
}

#[test]
fn drop_deletes_whole_days_in_calls_that_are_quick() {
    on_every_server(|server| {
        let mut redis = server.connect();
        fill_days(&mut redis);
        let (mut calls, mut dropped) = (0, 0);
        while redis.int("EXISTS m") > 0 {
            let days = redis.int("METER.DROP m");
            assert!((1..6).contains(&days), "{days} days in one call");
            dropped += days;
            calls += 1;
        }
        assert_eq!(dropped, 12);
        assert!(calls > 1, "{calls} calls");
        assert_eq!(redis.int("DBSIZE"), 100_000, "nothing of the days is left");
    });
}

#[test]
fn top_of_a_span_grows_no_faster_than_its_input() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let fill = "for i = tonumber(ARGV[1]), ARGV[1] + 4999 do for day = 20220809, 20220810 do
            redis.call('ZADD', 'm:day:' .. day .. ':path', 1, day .. '-' .. i) end end";
        let mut time = |members: usize| {
            redis.run("FLUSHALL");
            redis.run("METER.HIT m AT 1660054277326");
            redis.run("METER.HIT m AT 1660140677326");
            for start in (0..members).step_by(5_000) {
                script(&mut redis, fill, &[&start.to_string()]);
            }
            least(&mut redis, "METER.TOP m FROM 20220809 TO 20220810", |_| {})
        };
        let (few, many) = (time(20_000), time(100_000));
        // Five times the members, tables that no longer fit into the processor's caches included.
        assert!(many < 5.0 * 2.5 * few.max(0.004), "{few} s for 20,000 members, {many} s for 100,000");
    });
}
