//! The module stays loaded while its server runs: MODULE UNLOAD is refused, and the log says what to do instead. A new
//! file is loaded by a restart, or by a failover to a replica that has it; neither loses or doubles a count.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

use testkit::{Client, PATIENCE, Program, Server, eventually, module, on_every_program, sleep_ms};

/// The option with which some servers allow MODULE UNLOAD.
fn may_unload(program: &Program) -> &'static [&'static str] {
    if program.is_7_or_later() { &["--enable-module-command", "yes"] } else { &[] }
}

/// The attempt fails, the log says why and what to do, and everything works as before.
#[track_caller]
fn assert_stays(server: &mut Server, what: &str) {
    let logged = server.log().len();
    let mut redis = server.connect();
    let answer = redis.try_run("MODULE UNLOAD meter");
    server.assert_alive(&format!("MODULE UNLOAD {what}"));
    assert!(answer.is_err(), "{what}: {answer:?}");
    if answer.as_ref().is_err_and(|error| error.contains("blocked")) {
        return; // The server refuses by itself.
    }
    let log = server.log()[logged..].to_lowercase();
    let line = log.lines().find(|line| line.contains("unload")).unwrap_or_else(|| panic!("{what}: no line in\n{log}"));
    // Newer versions of Valkey refuse by themselves while an ACL rule names a command.
    let by_itself = server.program.is_valkey() && line.contains("acl user");
    assert!(by_itself || line.contains("restart") && line.contains("failover"), "{what}: {line}");
    assert_eq!(redis.ints("CELL.THROTTLE other 0 1 60 0")[..3], [0, 1, 1], "{what}");
    for line in ["CLIENT LIST", "ACL LIST", "COMMAND COUNT", "INFO meter", "MODULE LIST"] {
        redis.run(line);
    }
    server.assert_alive(&format!("CLIENT LIST after MODULE UNLOAD {what}"));
}

#[test]
fn module_unload_is_refused_always() {
    on_every_program(|program| {
        let mut server = Server::start(program, may_unload(program));
        assert_stays(&mut server, "of a module that has done nothing");
        let mut redis = server.connect();
        redis.run("METER.HIT m");
        assert_stays(&mut server, "after a call");

        redis.run("ACL SETUSER svc on >pw ~* +meter.hit +exec +multi");
        assert_stays(&mut server, "with an ACL rule");
        let mut user = server.connect();
        user.run("AUTH svc pw");
        user.run("METER.HIT m");

        let mut queued = server.connect();
        queued.run("MULTI");
        queued.run("METER.HIT m");
        assert_stays(&mut server, "with a queued call");
        queued.run("EXEC");

        let waiter = server.block("CELL.PULL q l 0 1 60 TIMEOUT 0");
        assert_stays(&mut server, "with a client that waits");
        redis.run("LPUSH q a");
        assert_eq!(waiter.cells().0, ["a"]);
        for _ in 0..20 {
            assert_stays(&mut server, "again and again");
        }
        assert_eq!(user.ints("METER.HIT m")[2], 1, "what was there works on");
    });
}

#[test]
fn a_second_load_says_why_it_fails_and_changes_nothing() {
    on_every_program(|program| {
        let mut server = Server::start(program, may_unload(program));
        let mut redis = server.connect();
        redis.run("METER.HIT m");
        for _ in 0..3 {
            assert!(redis.try_run(&format!("MODULE LOAD {}", module().display())).is_err());
            server.assert_alive("a second MODULE LOAD");
        }
        assert!(server.log().to_lowercase().contains("already"), "{}", server.log());
        assert_eq!(redis.ints("METER.HIT m")[2], 1);
    });
}

/// A second file with the module, as an upgrade brings it.
fn new_file(server: &Server) -> PathBuf {
    let path = server.folder.path().join("libredis_meter-new.so");
    fs::copy(module(), &path).expect("copied");
    path
}

/// The replies that one client got.
#[derive(Default, Debug)]
struct Told {
    counted: i64,
    taken: i64,
    unanswered: i64,
}

/// A connection to the one of these servers that accepts writes.
fn writable(ports: &[u16]) -> Option<Client> {
    ports.iter().find_map(|port| {
        let mut client = Client::to(*port).ok()?;
        client.try_run("CELL.THROTTLE nothing 0 1 60 0").is_ok().then_some(client)
    })
}

/// Hits and takes until it is stopped; continues with a new connection if one breaks or may not write.
fn work(ports: &[u16], stop: &AtomicBool, progress: &AtomicI64) -> Told {
    let mut told = Told::default();
    'connections: while !stop.load(Ordering::Relaxed) {
        let Some(mut redis) = writable(ports) else {
            sleep_ms(5);
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let hit = redis.try_run("METER.HIT m AT 1660054277326 PATH 2 a b");
            let take = hit.as_ref().ok().map(|_| redis.try_run("CELL.THROTTLE t 999999 1 3600"));
            told.counted += i64::from(hit.is_ok());
            for answer in [Some(hit), take].into_iter().flatten() {
                match answer {
                    Ok(_) => {}
                    Err(error) if error.starts_with("READONLY ") || error.starts_with("LOADING ") => {
                        continue 'connections;
                    }
                    Err(_) => {
                        told.unanswered += 1;
                        continue 'connections;
                    }
                }
            }
            told.taken += 1;
            progress.fetch_add(1, Ordering::Relaxed);
        }
    }
    told
}

/// Upgrades while clients work, and returns the sum of their replies.
fn under_traffic(ports: &[u16], upgrade: impl FnOnce()) -> Told {
    let (stop, progress) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(|| work(ports, &stop, &progress))).collect();
        let some_more = || {
            let (before, start) = (progress.load(Ordering::Relaxed), Instant::now());
            while progress.load(Ordering::Relaxed) < before + 60 && start.elapsed() < PATIENCE {
                sleep_ms(5);
            }
        };
        some_more();
        let upgraded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(upgrade));
        some_more();
        stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for told in workers.into_iter().map(|worker| worker.join().expect("a client")) {
            all.counted += told.counted;
            all.taken += told.taken;
            all.unanswered += told.unanswered;
        }
        upgraded.expect("the upgrade");
        all
    })
}

#[track_caller]
fn assert_balance(redis: &mut Client, told: &Told) {
    let counted = redis.ints("METER.HIT m AT 1660054277326 BY 0")[0];
    let taken = 1_000_000 - redis.ints("CELL.THROTTLE t 999999 1 3600 0")[2];
    assert!(told.counted > 20 && told.taken > 20, "{told:?}");
    assert!((told.counted..=told.counted + told.unanswered).contains(&counted), "{told:?}: {counted} counted");
    // A cell comes back in 3600 / 1 seconds: none meanwhile.
    assert!((told.taken..=told.taken + told.unanswered).contains(&taken), "{told:?}: {taken} taken");
    assert_eq!(redis.counts("METER.TOP m DAY 20220809 PATH 1 a"), [("b".to_owned(), counted)]);
}

#[test]
fn a_restart_with_a_new_file_under_traffic_loses_and_doubles_nothing() {
    on_every_program(|program| {
        let aof = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::start(program, &aof);
        let file = new_file(&server).display().to_string();
        let told = under_traffic(&[server.port], || {
            server.restart_with("NOSAVE", &[&["--loadmodule", &file], &aof[..]].concat());
        });
        assert_balance(&mut server.connect(), &told);
    });
}

#[test]
fn a_failover_to_a_new_file_under_traffic_loses_and_doubles_nothing() {
    on_every_program(|program| {
        let primary = Server::start(program, &[]);
        let file = new_file(&primary).display().to_string();
        let replica = primary.replica(&["--loadmodule", &file]);
        let mut redis = primary.connect();
        eventually("the primary counts on its replica", || {
            redis.info_field("replication", "slave0").is_some_and(|slave| slave.contains("state=online"))
        });
        let waiter = primary.block("CELL.PULL q l 0 1 60 TIMEOUT 0");
        let told = under_traffic(&[primary.port, replica.port], || {
            redis.run(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 15000", replica.port));
            eventually("the replica takes over", || {
                replica.connect().info_field("replication", "role").as_deref() == Some("master")
            });
        });
        assert!(waiter.reply().expect_err("it is sent away").starts_with("UNBLOCKED "));
        assert_balance(&mut replica.connect(), &told);
        replica.wait_for_replica(&primary);
        assert_eq!(primary.connect().contents(), replica.connect().contents());
    });
}
