//! The module as the server shows it: commands, documentation, ACL and INFO.

use testkit::{Client, Value, now_ms, on_every_server};

fn text(value: &Value) -> String {
    format!("{value:?}").to_lowercase()
}

#[test]
fn commands_declare_their_flags_and_keys() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (command, arity, flags, not) in [
            ("meter.hit", -2, &["write", "denyoom", "fast"][..], "readonly"),
            ("meter.kpi", -2, &["readonly"], "fast"),
            ("meter.top", -2, &["readonly"], "fast"),
            ("meter.days", -2, &["readonly"], "fast"),
            ("meter.cost", -2, &["readonly"], "fast"),
            ("meter.seal", -2, &["write"], "denyoom"),
            ("meter.ack", -3, &["write"], "denyoom"),
            ("meter.drop", -2, &["write"], "denyoom"),
            ("meter.index", -2, &["write", "denyoom"], "fast"),
            ("cell.throttle", -5, &["write", "denyoom", "fast"], "readonly"),
            ("cell.lease", -5, &["write", "denyoom"], "fast"),
            ("cell.lease_ro", -5, &["readonly"], "fast"),
            ("cell.release", -3, &["write"], "denyoom"),
        ] {
            let Value::Array(infos) = redis.run(&format!("COMMAND INFO {command}")) else { panic!() };
            let Value::Array(info) = &infos[0] else { panic!("{command} is not known") };
            if server.program.is_7_or_later() {
                assert_eq!(info[1], Value::Int(arity), "{command}");
            }
            let declared = text(&info[2]);
            assert!(flags.iter().all(|flag| declared.contains(&format!("\"{flag}\""))), "{command}: {declared}");
            assert!(!declared.contains(not), "{command}: {declared}");
            assert_eq!(info[3..6], [1, 1, 1].map(Value::Int), "{command}: first key, last key, step");
        }
        assert_eq!(redis.strings("COMMAND GETKEYS METER.HIT m BY 5"), ["m"]);
        assert_eq!(redis.strings("COMMAND GETKEYS METER.KPI m DAY 20220809"), ["m"]);
        assert_eq!(redis.strings("COMMAND GETKEYS CELL.THROTTLE u 5 10 60 MS"), ["u"]);
    });
}

#[test]
fn commands_are_documented_where_the_server_has_command_docs() {
    on_every_server(|server| {
        if !server.program.is_7_or_later() {
            return;
        }
        let mut redis = server.connect();
        for (command, words) in [
            ("meter.hit", &["counts hits", "\"by\"", "\"at\"", "optional", "unix-time", "o(1)", "0.1.0"][..]),
            ("meter.kpi", &["returns the counts", "oneof", "block", "\"from\"", "\"to\"", "month", "total"]),
            ("meter.cost", &["costs", "rate", "graduated", "upto", "price", "multiple"]),
            ("meter.seal", &["closes the days", "\"before\""]),
            ("cell.lease", &["places", "limit", "ttl", "holder", "double", "\"timeout\"", "\"ms\"", "optional"]),
            ("cell.release", &["gives back", "holder"]),
            ("cell.throttle", &["gcra", "max_burst", "count", "period", "double", "quantity", "pure-token", "\"ms\""]),
        ] {
            let docs = text(&redis.run(&format!("COMMAND DOCS {command}")));
            for word in words {
                assert!(docs.contains(word), "{command}: {word} in {docs}");
            }
            let specs = text(&redis.run(&format!("COMMAND INFO {command}")));
            let access = if ["meter.kpi", "meter.cost"].contains(&command) { "\"ro\"" } else { "\"rw\"" };
            assert!(specs.contains(access) && specs.contains("begin_search"), "{command}: {specs}");
        }
    });
}

#[test]
fn acl_users_get_families_where_the_server_has_module_categories() {
    on_every_server(|server| {
        if !server.program.has_module_categories() {
            return;
        }
        let mut redis = server.connect();
        let cell = redis.strings("COMMAND LIST FILTERBY ACLCAT cell");
        assert!(
            cell.contains(&"cell.throttle".to_owned()) && cell.iter().all(|name| name.starts_with("cell.")),
            "{cell:?}"
        );
        let mut meter = redis.strings("COMMAND LIST FILTERBY ACLCAT meter");
        meter.sort();
        assert_eq!(
            meter,
            [
                "meter.ack",
                "meter.cost",
                "meter.days",
                "meter.drop",
                "meter.hit",
                "meter.index",
                "meter.kpi",
                "meter.seal",
                "meter.top"
            ]
        );
        for (command, categories) in [
            ("meter.hit", ["@write", "@fast"]),
            ("meter.kpi", ["@read", "@slow"]),
            ("meter.seal", ["@write", "@slow"]),
            ("cell.throttle", ["@write", "@fast"]),
        ] {
            let info = text(&redis.run(&format!("COMMAND INFO {command}")));
            assert!(categories.iter().all(|category| info.contains(category)), "{command}: {info}");
        }
        redis.run("ACL SETUSER counter on >pw ~* +@meter");
        let mut counter = server.connect();
        counter.run("AUTH counter pw");
        counter.run("METER.HIT m");
        assert!(counter.error("CELL.THROTTLE u 1 1 1").starts_with("NOPERM "));
    });
}

#[test]
fn acl_users_reach_the_meters_of_their_keys_and_no_others() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let commands = "+meter.hit +meter.kpi +meter.top +meter.days +meter.cost +meter.seal +meter.ack +meter.drop \
            +meter.index +cell.throttle";
        redis.run(&format!("ACL SETUSER service on >pw ~kpi:* {commands}"));
        redis.run("METER.HIT other AT 1660054277326 PATH 1 a");
        let mut service = server.connect();
        service.run("AUTH service pw");
        service.run("METER.HIT kpi:a");
        service.run("METER.KPI kpi:a");
        service.run("CELL.THROTTLE kpi:limit 1 1 1");
        // Access to a key grants its derived keys, even if the core commands on them would be refused.
        service.run(&format!("METER.HIT kpi:a AT {} PATH 2 a b UNIQUE u ONCE e", now_ms()));
        service.run("METER.HIT kpi:a AT 1660054277326 PATH 2 a b UNIQUE u CAP MONTH 5");
        service.run("METER.TOP kpi:a");
        service.run("METER.INDEX kpi:a FROM 20220101 TO 20220131");
        let (id, _) = service.seal("METER.SEAL kpi:a");
        service.run(&format!("METER.ACK kpi:a {}", id.expect("a batch")));
        service.run("METER.DROP kpi:a");
        service.run("METER.HIT kpi:a");
        let before = redis.contents();
        for refused in [
            "METER.HIT other",
            "METER.KPI other",
            "METER.TOP other",
            "METER.DAYS other",
            "METER.COST other DAY 20220809 RATE 1",
            "METER.SEAL other",
            "METER.ACK other 0123456789abcdef0123456789abcdef",
            "METER.DROP other",
            "METER.INDEX other FROM 20220101 TO 20220131",
            "CELL.THROTTLE other 1 1 1",
            "GET kpi:limit",
            "HGETALL kpi:a:day:20220809",
        ] {
            assert!(service.error(refused).starts_with("NOPERM "), "{refused}");
        }
        assert_eq!(redis.contents(), before);
        if server.program.is_7_or_later() {
            redis.run("ACL SETUSER reader on >pw %R~kpi:* +@all");
            let mut reader = server.connect();
            reader.run("AUTH reader pw");
            reader.run("METER.KPI kpi:a");
            assert!(reader.error("METER.HIT kpi:a").starts_with("NOPERM "));
        }
    });
}

#[test]
fn info_counts_hits_cells_refusals_and_errors() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let counts = |redis: &mut Client| {
            [
                "hits_counted",
                "hits_corrected",
                "hits_duplicate",
                "hits_capped",
                "hits_bad_calls",
                "cells_allowed",
                "cells_refused",
                "cells_bad_calls",
            ]
            .map(|name| {
                let field = redis.info_field("meter", &format!("meter_{name}")).expect("a field");
                field.parse::<u64>().expect("a number")
            })
        };
        assert_eq!(counts(&mut redis), [0; 8]);
        redis.run("METER.HIT m BY 5");
        redis.run("METER.HIT m BY -2");
        redis.run("METER.HIT m BY 0");
        redis.run("METER.HIT m BY 3 CAP DAY 5");
        for _ in 0..2 {
            redis.run(&format!("METER.HIT m BY 4 AT {} ONCE e", now_ms()));
        }
        redis.run("METER.KPI m");
        redis.error("METER.HIT m BY x");
        redis.error("METER.KPI m DAY x");
        redis.run("CELL.THROTTLE u 4 1 60 3");
        redis.run("CELL.THROTTLE u 4 1 60 2");
        redis.run("CELL.THROTTLE u 4 1 60 2");
        redis.run("CELL.THROTTLE u 4 1 60 0");
        redis.run("CELL.THROTTLE u 4 1 60 -1");
        redis.error("CELL.THROTTLE u 4 1 0");
        assert_eq!(counts(&mut redis), [9, 2, 4, 3, 2, 5, 2, 1]);
        let all = redis.string("INFO everything").expect("a text");
        assert!(all.contains("# meter_usage\r\n"), "the section is part of INFO everything");
    });
}
