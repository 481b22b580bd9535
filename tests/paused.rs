//! While writes are paused (CLIENT PAUSE, FAILOVER, a SHUTDOWN that waits for its replicas) nothing writes outside of
//! commands: no timeout, timer or disconnect of a blocked client. And a blocked client that is woken in vain leaves
//! every server up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use testkit::blocked::Blocked;
use testkit::{Client, Entry, Program, Server, Value, eventually, module, now_ms, on_every_program, sleep_ms};

/// The observer of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Audience {
    Nobody,
    AppendOnlyFile,
    Replica,
}

const AUDIENCES: [Audience; 3] = [Audience::Nobody, Audience::AppendOnlyFile, Audience::Replica];

/// A server with the module whose writes an audience observes; and the replica, if that is the audience.
fn start(program: &Program, audience: Audience) -> (Server, Option<Server>) {
    let aof = if audience == Audience::AppendOnlyFile { "yes" } else { "no" };
    let server =
        Server::start(program, &["--appendonly", aof, "--appendfsync", "always", "--repl-ping-replica-period", "3600"]);
    server.connect().run("DEBUG SET-ACTIVE-EXPIRE 0");
    let replica = (audience == Audience::Replica).then(|| server.replica(&["--repl-timeout", "7200"]));
    (server, replica)
}

/// A number that grows with every command that the audience gets.
fn told(server: &Server, redis: &mut Client, audience: Audience) -> usize {
    match audience {
        Audience::Nobody => 0,
        Audience::AppendOnlyFile => server.appended().len(),
        Audience::Replica => {
            redis.info_field("replication", "master_repl_offset").and_then(|text| text.parse().ok()).expect("an offset")
        }
    }
}

/// A TAT `ms` milliseconds from now.
fn tat(ms: i64) -> String {
    ((now_ms() + ms) * 1_000_000).to_string()
}

/// Changes of the keys of a blocked client, named `q:n`, `lim:n` and `busy:n`, in the same step in which the pause
/// begins; each would make it write.
fn temptations() -> [(&'static str, Vec<String>); 6] {
    let one = |line: String| vec![line];
    [
        ("a limiter too far ahead", one(format!("SET lim:0 {} PX 600000", tat(500_000)))),
        ("a limiter without an expiry", one(format!("SET lim:1 {}", tat(9_000)))),
        ("an element that is due", one("LPUSH q:2 a".into())),
        ("an element that becomes due", vec!["LPUSH q:3 a".into(), format!("SET lim:3 {} PX 600000", tat(100))]),
        ("a limiter that expires", one(format!("SET lim:4 {} PX 1", tat(9_000)))),
        ("a list of INTO that expires", vec!["PEXPIRE busy:5 1".into(), "LPUSH q:5 a".into()]),
    ]
}

/// How a wait ends while writes are paused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    TimeOut,
    Unblock,
    UnblockWithError,
    Kill,
    Leave,
}

/// Does all of it in one step, the pause last.
fn pause(redis: &mut Client, lines: &[String], pause: &str) {
    redis.run("MULTI");
    for line in lines {
        redis.run(line);
    }
    redis.run(pause);
    redis.run("EXEC");
    // Keys that expire in a millisecond have expired.
    sleep_ms(5);
}

/// The server's keys, and the audience's number.
fn state(server: &Server, redis: &mut Client, audience: Audience) -> (Vec<Entry>, usize) {
    (redis.contents(), told(server, redis, audience))
}

/// The call of each blocked client.
fn call(place: usize, end: End) -> String {
    let timeout = if end == End::TimeOut { "0.4" } else { "0" };
    format!("CELL.PULL q:{place} lim:{place} 0 1 10 TIMEOUT {timeout} INTO busy:{place}")
}

/// One blocked client for each change; they disconnect in a pause that begins together with the changes. Returns the
/// state before and after.
fn leave_in_a_pause(server: &Server, audience: Audience, lines: &[String]) -> [(Vec<Entry>, usize); 2] {
    let mut redis = server.connect();
    let leavers = (0..temptations().len()).map(|place| server.block_to_leave(&call(place, End::Leave)));
    let leavers: Vec<Client> = leavers.collect::<Result<_, _>>().expect("they are sent");
    pause(&mut redis, lines, "CLIENT PAUSE 20000 WRITE");
    let before = state(server, &mut redis, audience);
    sleep_ms(200);
    drop(leavers);
    eventually("the clients have gone", || testkit::blocked::count(&mut redis) == 0);
    [before, state(server, &mut redis, audience)]
}

/// The same with waits that end by timeout or CLIENT UNBLOCK.
fn end_in_a_pause(server: &Server, audience: Audience, lines: &[String], end: End) -> [(Vec<Entry>, usize); 2] {
    if end == End::Leave {
        return leave_in_a_pause(server, audience, lines);
    }
    let mut redis = server.connect();
    let waiters: Vec<Blocked> = (0..temptations().len()).map(|place| server.block(&call(place, end))).collect();
    pause(&mut redis, lines, "CLIENT PAUSE 20000 WRITE");
    let before = state(server, &mut redis, audience);
    if end != End::TimeOut {
        sleep_ms(200);
    }
    for (waiter, (name, _)) in waiters.into_iter().zip(temptations()) {
        match end {
            End::Unblock => drop(redis.run(&format!("CLIENT UNBLOCK {}", waiter.id))),
            End::UnblockWithError => drop(redis.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id))),
            End::Kill => drop(redis.run(&format!("CLIENT KILL ID {}", waiter.id))),
            End::TimeOut | End::Leave => {}
        }
        assert!(waiter.gets_reply_within(Duration::from_secs(10)), "{name}: the wait ends in the pause");
        if matches!(end, End::TimeOut | End::Unblock) {
            assert_eq!(waiter.cells().0, [""; 0], "{name}");
        } else {
            assert!(waiter.reply().is_err(), "{name}");
        }
    }
    [before, state(server, &mut redis, audience)]
}

#[test]
fn a_wait_that_ends_in_a_pause_writes_nothing() {
    on_every_program(|program| {
        for audience in AUDIENCES {
            let (mut server, _replica) = start(program, audience);
            for end in [End::TimeOut, End::Unblock, End::UnblockWithError, End::Kill, End::Leave] {
                let what = format!("{end:?} in a pause, told: {audience:?}");
                let mut redis = server.connect();
                redis.run("FLUSHALL");
                (0..temptations().len()).for_each(|place| drop(redis.run(&format!("RPUSH busy:{place} x"))));
                let lines: Vec<String> = temptations().into_iter().flat_map(|(_, lines)| lines).collect();
                let ended = catch_unwind(AssertUnwindSafe(|| end_in_a_pause(&server, audience, &lines, end)));
                server.assert_alive(&what);
                let [before, after] = ended.unwrap_or_else(|_| panic!("{what}"));
                assert_eq!(before, after, "{what}");
                redis.run("CLIENT UNPAUSE");
            }
        }
    });
}

#[test]
fn timers_in_a_pause_take_nothing_and_serve_after_it() {
    on_every_program(|program| {
        for audience in AUDIENCES {
            for mode in ["WRITE", "ALL"] {
                let (mut server, replica) = start(program, audience);
                let mut redis = server.connect();
                let waiter = loop {
                    redis.run("DEL q lim busy");
                    redis.run("LPUSH q a b");
                    let first = Value::Array(vec![Value::BulkString(b"a".to_vec())]);
                    assert_eq!(redis.run("CELL.PULL q lim 0 1 0.5"), Value::Array(vec![first, Value::Int(1)]));
                    let waiter = server.block("CELL.PULL q lim 0 1 0.5 TIMEOUT 0 INTO busy");
                    pause(&mut redis, &[], &format!("CLIENT PAUSE 1500 {mode}"));
                    // On a busy machine its timeout may pass before the pause begins.
                    if !waiter.has_reply() {
                        break waiter;
                    }
                };
                let paused = now_ms();
                let served = waiter.gets_reply_within(Duration::from_millis(1_200));
                assert!(!served || now_ms() - paused >= 1_450, "{mode} {audience:?}: served in the pause");
                server.assert_alive(&format!("an alarm in a pause of {mode}, told: {audience:?}"));
                assert_eq!(waiter.cells().0, ["b"]);
                assert_eq!(redis.strings("LRANGE busy 0 -1"), ["b"]);
                if let Some(replica) = replica {
                    server.wait_for_replica(&replica);
                    assert_eq!(replica.connect().strings("LRANGE busy 0 -1"), ["b"]);
                }
            }
        }
    });
}

/// A primary with a replica, which has the module too.
fn pair(program: &Program, arguments: &[&str]) -> (Server, Server) {
    let primary = Server::start(program, &[&["--repl-timeout", "7200"], arguments].concat());
    let load = module().display().to_string();
    let replica = primary.replica(&["--loadmodule", &load]);
    let mut redis = primary.connect();
    eventually("the primary counts on its replica", || {
        redis.info_field("replication", "slave0").is_some_and(|slave| slave.contains("state=online"))
    });
    (primary, replica)
}

#[test]
fn waits_that_end_while_a_failover_waits_for_its_replica_write_nothing() {
    on_every_program(|program| {
        let (mut primary, mut replica) = pair(program, &[]);
        let mut redis = primary.connect();
        let frozen = replica.freeze();
        let short = primary.block("CELL.PULL q lim 0 1 10 TIMEOUT 0.5");
        let unblocked = primary.block("CELL.PULL q lim 0 1 10 TIMEOUT 0");
        let long = primary.block("CELL.PULL q other 0 1 0.3 TIMEOUT 0");
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg("lim").arg(tat(500_000)).ignore();
        pipe.cmd("SET").arg("other").arg(tat(200)).ignore();
        pipe.cmd("LPUSH").arg("q").arg("a").ignore();
        pipe.cmd("FAILOVER").arg(&["TO", "127.0.0.1", &replica.port.to_string(), "TIMEOUT", "2500"]).ignore();
        pipe.query::<()>(&mut redis.0).expect("the failover begins");
        let until = now_ms() + 2_000;
        assert!(short.gets_reply_within(Duration::from_secs(10)));
        primary.assert_alive("a wait that ended during FAILOVER");
        redis.run(&format!("CLIENT UNBLOCK {}", unblocked.id));
        assert!(short.cells().0.is_empty() && unblocked.cells().0.is_empty());
        primary.assert_alive("CLIENT UNBLOCK during FAILOVER");
        if now_ms() < until {
            assert_eq!(redis.strings("LRANGE q 0 -1"), ["a"], "nothing is taken while a failover waits");
        }
        // The failover times out, and the primary serves again.
        assert_eq!(long.cells().0, ["a"]);
        drop(frozen);
        primary.wait_for_replica(&replica);
        let waiter = primary.block("CELL.PULL q third 0 1 10 TIMEOUT 0");
        redis.run("FAILOVER");
        let error = waiter.reply().expect_err("the client is let go");
        assert!(error.starts_with("UNBLOCKED "), "{error}");
        eventually("the replica takes over", || {
            replica.connect().info_field("replication", "role").as_deref() == Some("master")
        });
        replica.connect().run("LPUSH q b");
        assert_eq!(replica.block("CELL.PULL q third 0 1 10 TIMEOUT 1").cells().0, ["b"]);
        primary.assert_alive("FAILOVER");
        replica.assert_alive("FAILOVER");
    });
}

#[test]
fn a_shutdown_that_waits_for_its_replica_saves_everything() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // before, a shutdown waits for no replica
        }
        let (mut primary, replica) = pair(program, &["--shutdown-timeout", "2"]);
        let mut redis = primary.connect();
        let frozen = replica.freeze();
        let short = primary.block("CELL.PULL q lim 0 1 10 TIMEOUT 0.5");
        let due = primary.block("CELL.PULL q other 0 1 0.3 TIMEOUT 0");
        redis.run("SET kept 1");
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg("lim").arg(tat(500_000)).ignore();
        pipe.cmd("SET").arg("other").arg(tat(200)).ignore();
        pipe.cmd("LPUSH").arg("q").arg("a").ignore();
        pipe.cmd("SHUTDOWN").arg("SAVE").ignore();
        redis.0.send_packed_command(&pipe.get_packed_pipeline()).expect("sent");
        assert!(short.gets_reply_within(Duration::from_secs(10)));
        let reply = short.reply();
        let end = primary.wait_for_end();
        assert!(end.success(), "{} {:?}: the server died in a shutdown: {end}", program.product, program.version);
        assert!(reply.is_ok() && due.reply().is_err(), "a wait ends while the server shuts down: {reply:?}");
        drop(frozen);
        primary.kill_and_restart();
        let mut redis = primary.connect();
        assert_eq!(redis.string("GET kept").as_deref(), Some("1"));
        assert_eq!(redis.strings("LRANGE q 0 -1"), ["a"]);
    });
}

type Wake = fn(&mut Client);

/// Ways to wake a blocked client that is not served, while there is something that it could write or delete in passing.
fn wakes() -> [(&'static str, Wake); 6] {
    [
        ("a limiter without an expiry, and a push", |redis| {
            redis.run(&format!("SET p {}", tat(4_000)));
            redis.run("LPUSH q a");
        }),
        ("PERSIST, and a push", |redis| {
            redis.run("CELL.THROTTLE p 0 1 5");
            redis.run("PERSIST p");
            redis.run("LPUSH q a");
        }),
        ("RESTORE, and a push", |redis| {
            redis.run(&format!("SET other {}", tat(4_000)));
            let Ok(Value::BulkString(dump)) = redis.try_call(&[b"DUMP", b"other"]) else { panic!("no dump") };
            redis.try_call(&[b"RESTORE", b"p", b"0", &dump]).expect("restored");
            redis.run("LPUSH q a");
        }),
        ("a limiter too far ahead, and a push", |redis| {
            redis.run(&format!("SET p {} PX 900000", tat(700_000)));
            redis.run("LPUSH q a");
        }),
        ("a list of INTO that has expired, and a push", |redis| {
            redis.run("CELL.THROTTLE p 0 1 5");
            redis.run("RPUSH busy x");
            redis.run("PEXPIRE busy 1");
            sleep_ms(5);
            redis.run("LPUSH q a");
        }),
        ("an alarm with a limiter that has expired, and no element any more", |redis| {
            redis.run("CELL.THROTTLE p 9 10 5 8");
            redis.run("LPUSH q a");
            redis.run("RPOP q");
            redis.run("PEXPIRE p 1");
            sleep_ms(1_300);
        }),
    ]
}

#[test]
fn a_blocked_client_that_is_woken_in_vain_leaves_the_server_up() {
    on_every_program(|program| {
        for audience in AUDIENCES {
            let (mut server, replica) = start(program, audience);
            for (what, wake) in wakes() {
                let what = format!("a wake in vain by {what}, told: {audience:?}");
                let mut redis = server.connect();
                redis.run("FLUSHALL");
                let waiter = server.block("CELL.PULL q p 0 1 5 TIMEOUT 0 INTO busy");
                let woken = catch_unwind(AssertUnwindSafe(|| wake(&mut server.connect())));
                sleep_ms(20);
                server.assert_alive(&what);
                assert!(woken.is_ok(), "{what}");
                assert!(!waiter.has_reply(), "{what}: nothing is due");
                redis.run("DEL p");
                redis.run("LPUSH q last");
                let (cells, _) = waiter.cells();
                assert_eq!(cells.len(), 1, "{what}");
                server.assert_alive(&what);
                if let Some(replica) = &replica {
                    server.wait_for_replica(replica);
                    assert_eq!(replica.connect().contents(), redis.contents(), "{what}");
                }
            }
            if audience == Audience::AppendOnlyFile {
                let before = server.connect().contents();
                server.restart("NOSAVE");
                assert_eq!(server.connect().contents(), before);
            }
        }
    });
}
