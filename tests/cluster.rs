//! In a cluster all of a meter's keys lie in one slot, and no hit is lost or counted twice while that slot moves.

use testkit::cluster::{open_slot, place_of, three_nodes};
use testkit::{Client, Program, Server, Value, eventually, on_every_program};

const AT: i64 = 1_660_054_277_326;
const DAY_MS: i64 = 86_400_000;

/// A node that owns every slot.
fn node(program: &Program) -> Server {
    let server = Server::start(program, &["--cluster-enabled", "yes"]);
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    server.connect().run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
    wait_until_ok(&server);
    server
}

fn wait_until_ok(server: &Server) {
    eventually("the cluster is up", || {
        server.connect().string("CLUSTER INFO").is_some_and(|info| info.contains("cluster_state:ok"))
    });
}

fn slot(redis: &mut Client, key: &str) -> i64 {
    redis.int(&format!("CLUSTER KEYSLOT {key}"))
}

#[test]
fn all_keys_of_a_meter_lie_in_one_slot() {
    on_every_program(|program| {
        let server = node(program);
        let mut redis = server.connect();
        for (key, day) in [
            ("kpi:app:A", "{kpi:app:A}:day:20220809"),
            ("kpi:{app}:A", "kpi:{app}:A:day:20220809"),
            ("kpi{open", "{kpi{open}:day:20220809"),
        ] {
            assert_eq!(redis.ints(&format!("METER.HIT {key} AT {AT}")), [1, 1, 1]);
            assert_eq!(redis.int(&format!("EXISTS {day}")), 1, "{key}");
            assert_eq!(slot(&mut redis, key), slot(&mut redis, day), "{key}");
            assert_eq!(redis.strings(&format!("METER.KPI {key} DAY 20220809")), ["day", "1", "14", "1"]);
        }
        assert_eq!(redis.int("DBSIZE"), 6);
    });
}

#[test]
fn keys_that_can_be_no_hash_tag_are_refused() {
    on_every_program(|program| {
        let server = node(program);
        let mut redis = server.connect();
        for key in [&b""[..], b"a}b", b"{}a"] {
            let error = redis.try_call(&[b"METER.HIT", key]).expect_err("a refusal");
            assert_eq!(
                error,
                "ERR in a cluster the key of a meter must not be empty, nor hold a } without a hash tag; \
                 name it as {tag}rest, or without braces"
            );
        }
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn while_a_slot_moves_calls_on_absent_keys_are_tried_again_and_nothing_is_lost_or_doubled() {
    on_every_program(|program| {
        let (source, target) = (node(program), Server::start(program, &["--cluster-enabled", "yes"]));
        let (mut on_source, mut on_target) = (source.connect(), target.connect());
        on_target.run(&format!("CLUSTER MEET 127.0.0.1 {}", source.port));
        eventually("the nodes know each other", || {
            let known = |redis: &mut Client| redis.string("CLUSTER NODES").expect("nodes").lines().count();
            known(&mut on_source) == 2 && known(&mut on_target) == 2
        });
        wait_until_ok(&target);

        let meter = "kpi:moving";
        let days = [AT, AT + DAY_MS];
        for at in days {
            on_source.run(&format!("METER.HIT {meter} AT {at} BY 5"));
        }
        let slot = slot(&mut on_source, meter);
        let id = |redis: &mut Client| redis.string("CLUSTER MYID").expect("an id");
        let (source_id, target_id) = (id(&mut on_source), id(&mut on_target));
        on_target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}"));
        on_source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}"));
        let migrate = |redis: &mut Client, key: &str| {
            assert_eq!(redis.string(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port)).as_deref(), Some("OK"));
        };

        // The second day was moved first.
        migrate(&mut on_source, &format!("{{{meter}}}:day:20220810"));
        assert_eq!(on_source.ints(&format!("METER.HIT {meter} AT {AT}")), [6, 6, 1]);
        assert_eq!(on_source.strings(&format!("METER.HIT {meter} AT {AT} BY 0")), ["6", "6", "0"]);
        for unsure in [
            // It is unknown whether there are unique ids.
            format!("METER.KPI {meter} DAY 20220809"),
            format!("METER.HIT {meter} AT {}", AT + DAY_MS),
            format!("METER.HIT {meter} AT {} BY 0", AT + DAY_MS),
            format!("METER.HIT {meter} AT {}", AT + 2 * DAY_MS),
            format!("METER.KPI {meter} DAY 20220810"),
            format!("METER.KPI {meter} FROM 20220801 TO 20220831"),
        ] {
            assert!(on_source.error(&unsure).starts_with("TRYAGAIN "), "{unsure}");
        }

        // The index is moved next; the first day is still on the old node.
        migrate(&mut on_source, meter);
        assert!(on_source.error(&format!("METER.HIT {meter} AT {AT}")).starts_with("ASK"));
        let mut asking = |line: &str| {
            on_target.run("ASKING");
            on_target.try_run(line)
        };
        assert!(asking(&format!("METER.HIT {meter} AT {}", AT + DAY_MS)).is_ok());
        assert!(asking(&format!("METER.HIT {meter} AT {AT}")).expect_err("unsure").starts_with("TRYAGAIN "));
        assert!(asking(&format!("METER.KPI {meter} DAY 20220809")).expect_err("unsure").starts_with("TRYAGAIN "));

        migrate(&mut on_source, &format!("{{{meter}}}:day:20220809"));
        on_target.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        on_source.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        assert_eq!(on_target.ints(&format!("METER.HIT {meter} AT {AT}")), [7, 7, 1]);
        assert_eq!(on_target.ints(&format!("METER.HIT {meter} AT {}", AT + DAY_MS)), [7, 7, 1]);
        assert_eq!(on_target.ints(&format!("METER.HIT {meter} AT {}", AT + 2 * DAY_MS)), [1, 1, 1]);
        assert_eq!(on_source.int("DBSIZE"), 0);
    });
}

#[test]
fn calls_on_a_whole_meter_are_refused_while_a_part_is_on_another_node() {
    on_every_program(|program| {
        let nodes = three_nodes(program);
        let mut clients: Vec<Client> = nodes.iter().map(Server::connect).collect();
        let (meter, from) = ("kpi:api", place_of(&nodes, "kpi:api"));
        let to = (from + 1) % 3;
        clients[from].run(&format!("METER.HIT {meter} AT {}", AT - DAY_MS));
        clients[from].run(&format!("METER.DROP {meter} BEFORE 20220809"));
        clients[from].run(&format!("METER.HIT {meter} AT {AT} PATH 2 a b"));
        clients[from].run(&format!("HSET {{{meter}}}:day:20220807 day 1 9 1"));
        let slot = clients[from].int(&format!("CLUSTER KEYSLOT {meter}"));
        open_slot(&mut clients, slot, [from, to]);
        for (key, line) in [
            ("day:20220807", "METER.INDEX m FROM 20220801 TO 20220831"),
            ("day:20220809:path:a", "METER.SEAL m"),
            ("", "METER.DROP m"),
            ("", "METER.DROP m BEFORE 20220810"),
            ("", "METER.HIT m AT 1660054277326 BY -1 PATH 1 a"),
            ("day:20220809:path", "METER.HIT m AT 1660054277326 BY -1"),
        ] {
            if !key.is_empty() {
                let migrate = format!("MIGRATE 127.0.0.1 {} {{{meter}}}:{key} 0 5000", nodes[to].port);
                assert_eq!(clients[from].string(&migrate).as_deref(), Some("OK"), "{key}");
            }
            let before = clients[from].contents();
            let error = clients[from].error(&line.replace(" m", &format!(" {meter}")));
            assert!(error.starts_with("TRYAGAIN "), "{line}: {error}");
            assert_eq!(clients[from].contents(), before, "{line}");
        }
    });
}

#[test]
fn replicas_of_a_node_serve_reads() {
    on_every_program(|program| {
        let primary = node(program);
        let replica = Server::start(program, &["--cluster-enabled", "yes"]);
        let (mut writer, mut reader) = (primary.connect(), replica.connect());
        reader.run(&format!("CLUSTER MEET 127.0.0.1 {}", primary.port));
        let id = writer.string("CLUSTER MYID").expect("an id");
        eventually("the nodes know each other", || reader.try_run(&format!("CLUSTER REPLICATE {id}")).is_ok());
        writer.run(&format!("METER.HIT kpi:a AT {AT} PATH 1 x UNIQUE u"));
        writer.run(&format!("METER.HIT kpi:a AT {}", AT + DAY_MS));
        reader.run("READONLY");
        eventually("the replica has it", || {
            reader.try_run("METER.DAYS kpi:a").is_ok_and(|days| days != Value::Array(vec![]))
        });
        primary.wait_for_replica(&replica);
        for line in [
            "METER.KPI kpi:a DAY 20220809",
            // Keys that are absent are absent on a replica too.
            "METER.KPI kpi:a DAY 20220810",
            "METER.KPI kpi:a DAY 20200101",
            "METER.KPI kpi:a FROM 20220101 TO 20221231 BY TOTAL",
            "METER.TOP kpi:a DAY 20220810",
            "METER.TOP kpi:a FROM 20220101 TO 20221231",
            "METER.COST kpi:a FROM 20220101 TO 20221231 RATE 1",
            "METER.DAYS kpi:a",
        ] {
            assert_eq!(reader.run(line), writer.run(line), "{line}");
        }
        assert!(reader.error("METER.HIT kpi:a").starts_with("MOVED "));
    });
}

#[test]
fn valkey_may_move_slots_in_one_step() {
    on_every_program(|program| {
        if !program.is_valkey() || program.version.0 < 9 {
            return;
        }
        let (source, target) = (node(program), Server::start(program, &["--cluster-enabled", "yes"]));
        let (mut on_source, mut on_target) = (source.connect(), target.connect());
        on_target.run(&format!("CLUSTER MEET 127.0.0.1 {}", source.port));
        wait_until_ok(&target);
        let meter = "kpi:moving";
        on_source.run(&format!("METER.HIT {meter} AT {AT}"));
        let slot = slot(&mut on_source, meter);
        let target_id = on_target.string("CLUSTER MYID").expect("an id");
        eventually("the source knows the target", || {
            on_source.try_run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target_id}")).is_ok()
        });
        eventually("the slot has moved", || on_target.try_run(&format!("METER.HIT {meter} AT {AT} BY 0")).is_ok());
        assert_eq!(on_target.ints(&format!("METER.HIT {meter} AT {AT}")), [2, 2, 1]);
    });
}
