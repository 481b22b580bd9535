//! Permissions: ACL users reach their keys and the keys derived from them, by the commands that they may run, and
//! nothing else.

use std::sync::LazyLock;
use std::thread;

use testkit::catalogue::Access::{self, Keyless, Read, Write};
use testkit::catalogue::CATALOGUE;
use testkit::{Client, Server, Value, eventually, now_ms, on_every_program, on_every_server};

/// A call of every command that has keys, which begin with `ok:`; how it uses them, and whether it is fast.
static CALLS: LazyLock<Vec<(String, Access, bool)>> = LazyLock::new(|| {
    let samples = CATALOGUE.iter().filter(|sample| sample.access != Keyless);
    samples.flat_map(|sample| sample.lines().map(|line| (line, sample.access, sample.fast))).collect()
});

fn start(server: &testkit::Program) -> Server {
    Server::with_module(server, "cl-throttle yes", &[])
}

/// A connection of a new user with these rules.
fn user(server: &Server, name: &str, rules: &str) -> Client {
    server.connect().run(&format!("ACL SETUSER {name} reset on >pw {rules}"));
    let mut client = server.connect();
    client.run(&format!("AUTH {name} pw"));
    client
}

/// Whether the ACL permits a call, with any reply.
fn is_let(client: &mut Client, call: &str) -> bool {
    !client.try_run(call).is_err_and(|error| error.starts_with("NOPERM "))
}

fn family(call: &str) -> &str {
    if call.starts_with("METER.") { "meter" } else { "cell" }
}

/// State under keys of a prefix.
fn fill(redis: &mut Client, prefix: &str) {
    for (call, _, _) in CALLS.iter().filter(|(call, kind, _)| *kind == Write && !call.contains("TIMEOUT")) {
        let destroys = ["METER.ACK", "METER.DROP", "METER.SEAL"].iter().any(|name| call.starts_with(name));
        if !destroys {
            redis.run(&call.replace("ok:", prefix).replace("NOW", &now_ms().to_string()));
        }
    }
    redis.run(&format!("LPUSH {prefix}q a b c d e f"));
    redis.run(&format!("METER.HIT {prefix}other AT 1660054277326"));
    redis.run(&format!("METER.SEAL {prefix}other"));
}

#[test]
fn a_user_of_some_keys_reaches_no_other_in_any_place() {
    on_every_program(|program| {
        let server = start(program);
        let mut redis = server.connect();
        fill(&mut redis, "no:");
        let mut service = user(&server, "service", "~ok:* +@all");
        let before = redis.contents();
        for (call, _, _) in CALLS.iter() {
            assert!(is_let(&mut service, call), "{call}");
            let words: Vec<&str> = call.split(' ').collect();
            let places: Vec<usize> = (0..words.len()).filter(|&place| words[place].starts_with("ok:")).collect();
            assert!(!places.is_empty());
            for place in places {
                let stolen = words[place].replace("ok:", "no:");
                let mut words = words.clone();
                words[place] = &stolen;
                let call = words.join(" ");
                assert!(!is_let(&mut service, &call), "{call}");
                // In a script, on its own account.
                let script: [&[u8]; 3] = [b"EVAL", b"return redis.call(unpack(ARGV))", b"0"];
                let words: Vec<&[u8]> = script.into_iter().chain(words.iter().map(|word| word.as_bytes())).collect();
                let error = service.try_call(&words).expect_err("an error");
                assert!(
                    error.contains("NOPERM")
                        || error.to_lowercase().contains("can't access")
                        || error.contains("permission"),
                    "{call}: {error}"
                );
            }
        }
        let others = |redis: &mut Client| -> Vec<_> {
            redis.contents().into_iter().filter(|entry| entry.key.starts_with(b"no:")).collect()
        };
        assert_eq!(others(&mut redis), before);
    });
}

#[test]
fn arguments_not_declared_as_keys_are_not_used_as_keys() {
    on_every_program(|program| {
        let server = start(program);
        let mut redis = server.connect();
        fill(&mut redis, "no:");
        redis.run("SADD no:secret hidden");
        let mut service = user(&server, "service", "~ok:* +@all");
        service.run("LPUSH ok:q a b c");
        let others = |redis: &mut Client| -> Vec<_> {
            redis.contents().into_iter().filter(|entry| entry.key.starts_with(b"no:")).collect()
        };
        let before = others(&mut redis);
        for call in [
            // Keys that are at other positions because of a wrong number of words.
            "CELL.MTHROTTLE ok:t 9 1 3600 1 no:t",
            "CELL.MTHROTTLE ok:t 9 1 3600 1 no:t 9",
            "CELL.MTHROTTLE ok:t 9 1 3600 1 no:t 9 1",
            "CELL.MTHROTTLE ok:t 9 1 3600 1 no:t 9 1 3600",
            "CELL.MTHROTTLE ok:t 9 1 3600 1 MS no:t 9 1 3600 1",
            "CELL.MTHROTTLE ok:t 9 1 3600 1 no:t 9 1 3600 MS",
            "CELL.MTHROTTLE_RO ok:t 9 1 3600 1 no:t 9 1 3600",
            // A keyword as a value, twice, or too early.
            "CELL.PULL ok:q ok:p 9 1 3600 COUNT INTO INTO no:busy",
            "CELL.PULL ok:q ok:p 9 1 3600 TIMEOUT INTO INTO no:busy",
            "CELL.PULL ok:q ok:p 9 1 3600 INTO ok:busy INTO no:busy",
            "CELL.PULL ok:q ok:p 9 1 3600 INTO INTO no:busy",
            "CELL.PULL ok:q ok:p 9 1 INTO no:busy",
            "CELL.PULL ok:q ok:p INTO no:busy 3600",
            // Members, ids and dates are none.
            "METER.HIT ok:m PATH 2 no:m :no:m",
            "METER.HIT ok:m PATH 1 ../../no:m UNIQUE no:secret",
            "METER.TOP ok:m PATH 1 no:m",
            "METER.KPI ok:m FROM no:m TO no:m",
            "METER.ACK ok:m no:m",
            "METER.DROP ok:m BEFORE no:m",
        ] {
            let _ = service.try_run(call);
            assert_eq!(others(&mut redis), before, "{call}");
        }
        // A batch that another program made up is still the meter's own.
        let id = "0123456789abcdef0123456789abcdef";
        service.run(&format!("HSET ok:m:batch id {id} 1 no:m 2 :no:m 3 ../no:secret"));
        let (_, keys) = service.seal("METER.SEAL ok:m");
        assert!(keys.iter().all(|key| key.starts_with("ok:m:sealed:")), "{keys:?}");
        service.run(&format!("METER.ACK ok:m {id}"));
        assert_eq!(others(&mut redis), before);
        // As for the index.
        service.run("DEL ok:m");
        service.run("ZADD ok:m 20220809 no:m");
        for call in
            ["METER.DAYS ok:m", "METER.SEAL ok:m", "METER.DROP ok:m", "METER.KPI ok:m FROM 20220101 TO 20221231"]
        {
            let error = service.error(call);
            let expected = "ERR key 'ok:m' holds a sorted set with the member 'no:m', which is no date";
            assert!(error.starts_with(expected), "{call}: {error}");
        }
        assert_eq!(others(&mut redis), before);
    });
}

#[test]
fn access_to_a_meters_key_grants_its_derived_keys_and_not_the_reverse() {
    on_every_program(|program| {
        let server = start(program);
        let mut redis = server.connect();
        redis.run("METER.HIT ok:m AT 1660054277326 PATH 2 a b UNIQUE u");
        // Only the meter: all of it by the commands, nothing by others.
        let mut owner = user(&server, "owner", "~ok:m +@all");
        for (call, _, _) in CALLS.iter().filter(|(call, _, _)| call.starts_with("METER.")) {
            let call = call.replace(" BATCH", " 0123456789abcdef0123456789abcdef");
            assert!(is_let(&mut owner, &call), "{call}");
        }
        redis.run("METER.HIT ok:m AT 1660054277326 PATH 2 a b UNIQUE u");
        for call in
            ["HGETALL ok:m:day:20220809", "ZRANGE ok:m:day:20220809:path 0 -1", "PFCOUNT ok:m:day:20220809:unique"]
        {
            assert!(!is_let(&mut owner, call), "{call}");
        }
        // Only the derived keys: they are reached by name, and the meter is not.
        let mut part = user(&server, "part", "~ok:m:* +@all");
        assert_eq!(part.string("HGET ok:m:day:20220809 day").as_deref(), Some("1"));
        for (call, _, _) in CALLS.iter().filter(|(call, _, _)| call.starts_with("METER.")) {
            assert!(!is_let(&mut part, call), "{call}");
        }
    });
}

#[test]
fn every_command_has_the_categories_of_its_effects() {
    on_every_program(|program| {
        if !program.has_module_categories() {
            return;
        }
        let server = start(program);
        let mut redis = server.connect();
        for (call, kind, fast) in CALLS.iter() {
            let name = call.split(' ').next().expect("a command").to_lowercase();
            let info = redis.run(&format!("COMMAND INFO {name}"));
            let Value::Array(infos) = &info else { panic!("{info:?}") };
            let Value::Array(info) = &infos[0] else { panic!("{name} is not known") };
            let words = |value: &Value| -> Vec<String> { redis::from_redis_value(value.clone()).expect("words") };
            let mut categories = words(&info[6]);
            categories.sort();
            let mut expected = vec![
                format!("@{}", if *fast { "fast" } else { "slow" }),
                format!("@{}", if *kind == Read { "read" } else { "write" }),
                format!("@{}", family(call)),
            ];
            expected.sort();
            assert_eq!(categories, expected, "{name}");
            let flags = words(&info[2]);
            assert_eq!(flags.contains(&"fast".to_owned()), *fast, "{name}: {flags:?}");
        }
        let commands =
            |redis: &mut Client, category: &str| redis.strings(&format!("COMMAND LIST FILTERBY ACLCAT {category}"));
        for category in ["admin", "dangerous", "connection", "scripting"] {
            let all = commands(&mut redis, category);
            assert!(
                // It shows the names of keys, as the slow log does.
                !all.iter().any(|name| {
                    name != "cell.refused" && ["meter.", "cell.", "cl."].iter().any(|start| name.starts_with(start))
                }),
                "{all:?}"
            );
        }
        let listed = commands(&mut redis, "meter").len() + commands(&mut redis, "cell").len();
        let mut names: Vec<_> = CALLS.iter().map(|(call, _, _)| call.split(' ').next()).collect();
        names.dedup();
        assert_eq!(listed, names.len() + 1, "every command stands in CALLS but CELL.REFUSED, which has no key");
    });
}

#[test]
fn users_by_category_may_call_its_commands_alone() {
    on_every_program(|program| {
        let server = start(program);
        fill(&mut server.connect(), "ok:");
        if !program.has_module_categories() {
            // Commands of modules have no categories there: they are named, or come with @all.
            let mut reader = user(&server, "reader", "~* +@read +@write +meter.kpi");
            assert!(is_let(&mut reader, "METER.KPI ok:m"));
            assert!(!is_let(&mut reader, "METER.HIT ok:m"));
            return;
        }
        type Rule = fn(&str, Access) -> bool;
        let rules: [(&str, Rule); 8] = [
            ("+@read", |_, kind| kind == Read),
            ("+@write", |_, kind| kind == Write),
            ("+@read -@meter", |call, kind| kind == Read && family(call) == "cell"),
            ("+@meter", |call, _| family(call) == "meter"),
            ("+@cell", |call, _| family(call) == "cell"),
            ("+@meter -@write", |call, kind| family(call) == "meter" && kind == Read),
            ("+@all -@meter -@cell", |_, _| false),
            ("+@all -@dangerous -@admin", |_, _| true),
        ];
        for (rule, may) in rules {
            let mut client = user(&server, "some", &format!("~* {rule}"));
            for (call, kind, _) in CALLS.iter() {
                assert_eq!(is_let(&mut client, call), may(call, *kind), "{rule}: {call}");
            }
        }
    });
}

#[test]
fn users_who_may_only_read_or_only_write_a_key_do_no_more() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return;
        }
        let server = start(program);
        fill(&mut server.connect(), "ok:");
        let mut reader = user(&server, "reader", "%R~ok:* +@all");
        let mut writer = user(&server, "writer", "%W~ok:* +@all");
        for (call, kind, _) in CALLS.iter() {
            assert_eq!(is_let(&mut reader, call), *kind == Read, "{call}");
            // All return stored data, so users that may only write may not call them.
            assert!(!is_let(&mut writer, call), "{call}");
        }
        // The list of INTO is only pushed to; queue and limiter are read too.
        let mut worker = user(&server, "worker", "~ok:q ~ok:p %W~ok:busy +@all");
        assert!(is_let(&mut worker, "CELL.PULL ok:q ok:p 9 1 3600 INTO ok:busy"));
        assert!(!is_let(&mut worker, "LRANGE ok:busy 0 -1"));
        let mut worker = user(&server, "worker", "~ok:q ~ok:p %R~ok:busy +@all");
        assert!(!is_let(&mut worker, "CELL.PULL ok:q ok:p 9 1 3600 INTO ok:busy"));
        // Several selectors, each for its own keys.
        let mut both = user(&server, "both", "(%R~ok:m +@all) (~ok:t +cell.throttle)");
        assert!(is_let(&mut both, "METER.KPI ok:m") && is_let(&mut both, "CELL.THROTTLE ok:t 9 1 3600"));
        assert!(!is_let(&mut both, "METER.HIT ok:m") && !is_let(&mut both, "CELL.THROTTLE ok:m 9 1 3600"));
    });
}

#[test]
fn a_blocked_client_that_loses_its_rights_takes_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut worker = user(server, "worker", "~q ~l +cell.pull");
        let waiter = thread::spawn(move || worker.try_run("CELL.PULL q l 0 1 60 TIMEOUT 20"));
        eventually("it waits", || redis.info_field("clients", "blocked_clients").as_deref() == Some("1"));
        redis.run("ACL DELUSER worker");
        redis.run("LPUSH q a");
        assert!(waiter.join().expect("a thread").is_err());
        assert_eq!(redis.strings("LRANGE q 0 -1"), ["a"]);
    });
}

#[test]
fn an_administrator_a_service_and_a_replicant_are_enough() {
    on_every_program(|program| {
        let server = start(program);
        let mut administrator = user(&server, "administrator", "~* &* +@all");
        let mut service = user(&server, "service", "~kpi:* +@all -@admin -@dangerous");
        let mut replicant = user(&server, "replicant", "+psync +replconf +ping");
        administrator.run("ACL SETUSER default off");

        let port = server.port.to_string();
        let load = testkit::module().display().to_string();
        let link = ["--masteruser", "replicant", "--masterauth", "pw", "--replicaof", "127.0.0.1", &port];
        let with_module = Server::bare(program, &[&["--loadmodule", &load][..], &link].concat());
        let without = Server::bare(program, &link);
        for (call, _, _) in CALLS.iter() {
            assert!(is_let(&mut service, &call.replace("ok:", "kpi:")), "{call}");
            assert!(!is_let(&mut service, call), "{call}");
        }
        for call in [
            "CONFIG GET *",
            "FLUSHALL",
            "KEYS *",
            "MODULE LIST",
            "ACL LIST",
            "SHUTDOWN",
            "DEBUG SLEEP 0",
            "REPLICAOF NO ONE",
        ] {
            assert!(!is_let(&mut service, call), "{call}");
        }
        fill(&mut service, "kpi:");
        for replica in [&with_module, &without] {
            eventually("the replica catches up", || {
                let mut redis = replica.connect();
                redis.info_field("replication", "master_link_status").as_deref() == Some("up")
                    && redis.info_field("replication", "slave_repl_offset")
                        == administrator.info_field("replication", "master_repl_offset")
            });
            assert_eq!(replica.connect().contents(), administrator.contents());
        }
        // A user for replication can do nothing else.
        for (call, _, _) in CALLS.iter() {
            assert!(!is_let(&mut replicant, call), "{call}");
        }
        assert!(!is_let(&mut replicant, "GET kpi:t") && is_let(&mut replicant, "PING"));
    });
}
