//! The effect is replicated: absolute values and expiries, as core commands, in one step; and a change fires the events
//! of those commands, aborts WATCH, and invalidates client-side caches.

use testkit::{Client, Server, Value, on_every_program};

const AT: i64 = 1_660_054_277_326;

fn lines(commands: Vec<Vec<String>>) -> Vec<String> {
    commands.into_iter().map(|words| words.join(" ")).filter(|line| line != "MULTI" && line != "EXEC").collect()
}

#[test]
fn a_hit_replicates_as_the_counts_it_leaves() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        let mut seen = 0;
        let mut appended = || {
            let all = server.appended();
            let new = lines(all[seen..].to_vec());
            let whole = all[seen..].len() - new.len();
            seen = all.len();
            (new, whole == 2)
        };
        redis.run(&format!("METER.HIT m AT {AT}"));
        let (commands, in_one_step) = appended();
        assert_eq!(commands, ["HSET m:day:20220809 day 1 14 1", "ZADD m 20220809 20220809"]);
        assert!(in_one_step, "two commands stand between MULTI and EXEC");
        redis.run(&format!("METER.HIT m AT {AT} BY 41"));
        assert_eq!(appended().0, ["HSET m:day:20220809 day 42 14 42"]);
        redis.run(&format!("METER.HIT m AT {}", AT + 3_600_000));
        assert_eq!(appended().0, ["HSET m:day:20220809 day 43 15 1"]);
        redis.run(&format!("METER.HIT m AT {} BY -1", AT + 3_600_000));
        assert_eq!(appended().0, ["HSET m:day:20220809 day 42", "HDEL m:day:20220809 15"]);
        redis.run(&format!("METER.HIT m AT {AT} BY -42"));
        assert_eq!(appended().0, ["HDEL m:day:20220809 day 14", "ZREM m 20220809"]);
    });
}

#[test]
fn a_taken_cell_replicates_as_the_tat_and_an_absolute_expiry() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE u 99 1 0.1");
        redis.run("CELL.THROTTLE u 99 1 0.1");
        let tat = redis.string("GET u").expect("a state");
        redis.run("CELL.THROTTLE u 99 1 0.1 -9");
        let commands = lines(server.appended());
        let words: Vec<&str> = commands[0].split(' ').collect();
        assert_eq!((words[0], words[1], words[3], words.len()), ("SET", "u", "PXAT", 5));
        // The expiry is late enough for the next cell, and is kept.
        assert_eq!(commands[1], format!("SET u {tat} KEEPTTL"));
        assert_eq!(commands[2], "UNLINK u");
    });
}

#[test]
fn a_change_fires_the_events_of_the_commands_it_replicates() {
    on_every_program(|program| {
        let server = Server::start(program, &["--notify-keyspace-events", "KEA"]);
        let (mut redis, mut listener) = (server.connect(), server.connect());
        listener.run("PSUBSCRIBE __keyevent@0__:*");
        for call in [
            "CELL.THROTTLE u 99 1 0.1",
            "CELL.THROTTLE u 99 1 0.1",
            "CELL.THROTTLE u 99 1 0.1 -9",
            &format!("METER.HIT m AT {AT}"),
            &format!("METER.HIT m AT {AT}"),
            &format!("METER.HIT m AT {AT} BY -2"),
            &format!("METER.HIT n AT {AT} PATH 1 a UNIQUE u"),
            &format!("METER.HIT n AT {} ONCE e", testkit::now_ms()),
            "METER.SEAL n BEFORE 20220810",
        ] {
            redis.run(call);
        }
        redis.run("SET end 1");
        let mut events = Vec::new();
        loop {
            let words: Vec<String> =
                redis::from_redis_value(listener.0.recv_response().expect("an event")).expect("words");
            let event = words[2].strip_prefix("__keyevent@0__:").expect("a key event");
            if words[3] == "end" {
                break;
            }
            events.push(format!("{event} {}", words[3]));
        }
        events.retain(|event| !event.starts_with("new "));
        let day = "m:day:20220809";
        let expected = [
            "set u",
            "expire u",
            "set u",
            "del u",
            &format!("hset {day}"),
            "zadd m",
            &format!("hset {day}"),
            &format!("hdel {day}"),
            &format!("del {day}"),
            "zrem m",
            "del m",
            "pfadd n:day:20220809:unique",
            "zadd n:day:20220809:path",
            "hset n:day:20220809",
            "zadd n",
        ];
        assert_eq!(events[..expected.len()], expected);
        let rest: Vec<&str> = events[expected.len()..].iter().filter_map(|event| event.split(' ').next()).collect();
        let (event, seal) = rest.split_at(4);
        assert_eq!(event, ["sadd", "hset", "expire", "zadd"]);
        let renamed = ["rename_from", "rename_to"].repeat(3);
        assert_eq!(seal[..6], renamed);
        assert_eq!(
            seal[6..],
            ["hset", "hset", "expire", "hset", "expire", "zrem"],
            "the batch, its month, and the month that names that"
        );
    });
}

#[test]
fn every_change_of_a_meter_is_a_change_of_its_key() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let (mut redis, mut watcher) = (server.connect(), server.connect());
        // It opens a day, an hour, nothing; subtracts a part, and all.
        for hit in [format!("AT {AT}"), format!("AT {}", AT + 3_600_000), format!("AT {AT}"), format!("AT {AT} BY -1")]
        {
            for watched in ["m", "m:day:20220809"] {
                watcher.run(&format!("WATCH {watched}"));
                redis.run(&format!("METER.HIT m {hit}"));
                watcher.run("MULTI");
                watcher.run("PING");
                assert_eq!(watcher.run("EXEC"), Value::Nil, "{watched} after {hit}");
            }
        }
    });
}

#[test]
fn every_change_invalidates_client_side_caches_of_a_meter() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT}"));
        redis.run("HSET m:day:20220701 day 1 5 1");
        let (sender, told) = std::sync::mpsc::channel();
        let mut cacher = server.connect_resp3();
        cacher.0.send_pushes_to(sender);
        cacher.run("CLIENT TRACKING on");
        let mut is_replicating = |redis: &mut Client, line: &str| {
            cacher.run("METER.KPI m DAY 20220809");
            let reply = redis.run(line);
            cacher.run("PING");
            // The key of the unique ids, which the server counts by a core command, may be among them.
            let pushes: Vec<_> = told.try_iter().filter(|push| push.kind == redis::PushKind::Invalidate).collect();
            let of_meter = [Value::Array(vec![Value::BulkString(b"m".into())])];
            assert!(pushes.iter().any(|push| push.data == of_meter), "{line}: {pushes:?}");
            reply
        };
        is_replicating(&mut redis, &format!("METER.HIT m AT {AT}"));
        is_replicating(&mut redis, &format!("METER.HIT m AT {AT} PATH 2 a b UNIQUE u"));
        is_replicating(&mut redis, &format!("METER.HIT m AT {} ONCE e", testkit::now_ms()));
        is_replicating(&mut redis, "METER.INDEX m FROM 20220701 TO 20220731");
        let batch = is_replicating(&mut redis, "METER.SEAL m");
        let (id, _): (String, Vec<String>) = redis::from_redis_value(batch).expect("a batch");
        is_replicating(&mut redis, &format!("METER.ACK m {id}"));
        is_replicating(&mut redis, "METER.DROP m");
    });
}
