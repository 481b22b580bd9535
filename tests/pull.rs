//! CELL.PULL: elements of a list are taken no faster than a rate, by clients that are blocked in order.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Client, Server, Value, eventually, on_every_program, on_every_server, sleep_ms};

/// The cells and the wait of a reply.
fn pulled(value: Value) -> (Vec<String>, i64) {
    redis::from_redis_value(value).expect("cells and a wait")
}

fn pull(redis: &mut Client, line: &str) -> (Vec<String>, i64) {
    pulled(redis.run(line))
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Sends a call in a thread of its own, and returns when the server has blocked it.
fn waiting(server: &Server, line: &str) -> thread::JoinHandle<Result<Value, String>> {
    let blocked = |redis: &mut Client| redis.info_field("clients", "blocked_clients").expect("a number");
    let mut redis = server.connect();
    let before: usize = blocked(&mut redis).parse().expect("a number");
    let mut client = server.connect();
    let line = line.to_owned();
    let thread = thread::spawn(move || client.try_run(&line));
    eventually("the client waits", || blocked(&mut redis) == (before + 1).to_string() || thread.is_finished());
    thread
}

fn answer(thread: thread::JoinHandle<Result<Value, String>>) -> (Vec<String>, i64) {
    pulled(thread.join().expect("a thread").expect("an answer"))
}

#[test]
fn elements_that_are_due_are_taken_from_the_tail() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 60"), (vec![], 0));
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run("LPUSH q a b c d e");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 2 1 60"), (cells(["a"]), 0));
        assert_eq!(pull(&mut redis, "CELL.PULL q l 2 1 60 COUNT 9"), (cells(["b", "c"]), 60));
        assert_eq!(pull(&mut redis, "CELL.PULL q l 2 1 60 COUNT 9"), (vec![], 60));
        assert_eq!(redis.strings("LRANGE q 0 -1"), ["e", "d"]);
        // The pace is the limiter's: other commands may take from it, or refund.
        redis.run("CELL.THROTTLE l 2 1 60 -1");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 2 1 60 MS COUNT 2").0, cells(["d"]));
        redis.run("DEL l");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 2 1 60").0, cells(["e"]));
        assert_eq!(redis.int("EXISTS q"), 0);
    });
}

#[test]
fn into_keeps_each_cell_in_another_list_in_the_same_step() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        redis.run("LPUSH q a b c");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 1 1 60 COUNT 2 INTO busy").0, cells(["a", "b"]));
        assert_eq!(redis.strings("LRANGE busy 0 -1"), ["b", "a"]);
        let waiter = waiting(&server, "CELL.PULL q3 third 0 1 60 TIMEOUT 9 INTO busy");
        redis.run("LPUSH q3 y");
        assert_eq!(answer(waiter).0, cells(["y"]));
        let lines: Vec<String> = server.appended().iter().map(|words| words.join(" ")).collect();
        let step = |pop: &str| {
            let at = lines.iter().position(|line| line == pop).unwrap_or_else(|| panic!("{pop} in {lines:?}"));
            let start = lines[..at].iter().rposition(|line| line == "MULTI").expect("a beginning");
            let end = at + lines[at..].iter().position(|line| line == "EXEC").expect("an end");
            lines[start..end].to_vec()
        };
        let first = step("RPOP q 2");
        assert!(
            first.iter().any(|line| line == "LPUSH busy a b") && first.iter().any(|line| line.starts_with("SET l "))
        );
        assert!(step("RPOP q3 1").iter().any(|line| line == "LPUSH busy y"), "{lines:?}");
    });
}

#[test]
fn a_client_waits_until_a_cell_is_there_and_others_are_served_meanwhile() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let waiter = waiting(server, "CELL.PULL q l 0 1 60 TIMEOUT 0");
        assert_eq!(redis.string("PING").as_deref(), Some("PONG"));
        redis.run("LPUSH q a");
        assert_eq!(answer(waiter), (cells(["a"]), 60));
        assert_eq!(redis.int("EXISTS q"), 0);
    });
}

#[test]
fn a_client_waits_until_the_next_slot_is_due() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("LPUSH q a b c");
        let start = Instant::now();
        pull(&mut redis, "CELL.PULL q l 0 1 0.2");
        let mut waits = Vec::new();
        for cell in ["b", "c"] {
            assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 0.2 TIMEOUT 5 MS").0, cells([cell]));
            waits.push(start.elapsed());
        }
        assert!(waits[0] >= Duration::from_millis(199) && waits[1] >= Duration::from_millis(399), "{waits:?}");
        assert!(waits[1] < Duration::from_millis(1_500), "{waits:?}");
    });
}

#[test]
fn blocked_clients_are_served_in_order_of_arrival() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let line = "CELL.PULL q l 0 1 0.05 TIMEOUT 10";
        let waiters: Vec<_> = (0..5).map(|_| waiting(server, line)).collect();
        redis.run("LPUSH q a b c d e f");
        // A later one is served after them, and a call without TIMEOUT gets nothing.
        let late = waiting(server, line);
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 0.05").0, cells([]));
        for (waiter, cell) in waiters.into_iter().chain([late]).zip(["a", "b", "c", "d", "e", "f"]) {
            assert_eq!(answer(waiter).0, cells([cell]));
        }
    });
}

#[test]
fn elements_due_early_go_to_blocked_clients_and_not_to_the_next_call() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("LPUSH q a b c");
        pull(&mut redis, "CELL.PULL q l 0 1 3600");
        let waiter = waiting(server, "CELL.PULL q l 0 1 3600 TIMEOUT 10");
        redis.run("DEL l");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 3600").0, cells([]));
        assert_eq!(answer(waiter).0, cells(["b"]));
    });
}

#[test]
fn clients_blocked_with_other_limiters_do_not_delay_each_other() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE slow 0 1 3600");
        let slow = waiting(server, "CELL.PULL q slow 0 1 3600 TIMEOUT 0.4");
        let quick = waiting(server, "CELL.PULL q quick 0 1 3600 TIMEOUT 5");
        redis.run("LPUSH q a");
        assert_eq!(answer(quick).0, cells(["a"]));
        let (nothing, wait) = answer(slow);
        assert!(nothing.is_empty() && wait > 3_500, "{wait}");
    });
}

#[test]
fn a_wait_ends_with_its_timeout_and_returns_retry_after() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let start = Instant::now();
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 60 TIMEOUT 0.2"), (vec![], 0));
        assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
        redis.run("LPUSH q a b");
        pull(&mut redis, "CELL.PULL q l 0 1 60");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 60 TIMEOUT 0.1"), (vec![], 60));
        assert_eq!(redis.strings("LRANGE q 0 -1"), ["b"]);
    });
}

#[test]
fn a_client_that_disconnects_loses_no_cell() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let (sender, id) = std::sync::mpsc::channel();
        let mut client = server.connect();
        let leaver = thread::spawn(move || {
            sender.send(client.int("CLIENT ID")).expect("sent");
            client.try_run("CELL.PULL q l 0 1 60 TIMEOUT 0")
        });
        let id = id.recv().expect("an id");
        eventually("it waits", || redis.info_field("clients", "blocked_clients").as_deref() == Some("1"));
        redis.run(&format!("CLIENT KILL ID {id}"));
        assert!(leaver.join().expect("a thread").is_err());
        // CLIENT UNBLOCK ends a wait like a timeout.
        let mut client = server.connect();
        let id = client.int("CLIENT ID");
        let stopped = thread::spawn(move || client.try_run("CELL.PULL q l 0 1 60 TIMEOUT 0"));
        eventually("it waits", || redis.info_field("clients", "blocked_clients").as_deref() == Some("1"));
        assert_eq!(redis.int(&format!("CLIENT UNBLOCK {id}")), 1);
        assert_eq!(answer(stopped), (vec![], 0));
        redis.run("LPUSH q a");
        assert_eq!(redis.strings("LRANGE q 0 -1"), ["a"], "nobody waits any more");
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 60").0, cells(["a"]), "and nobody is in line");
    });
}

#[test]
fn in_transactions_and_scripts_the_reply_comes_at_once() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("MULTI");
        redis.run("CELL.PULL q l 0 1 60 TIMEOUT 0");
        assert_eq!(redis.run("EXEC"), Value::Array(vec![Value::Array(vec![Value::Array(vec![]), Value::Int(0)])]));
        let script = b"return redis.call('CELL.PULL', KEYS[1], KEYS[2], 0, 1, 60, 'TIMEOUT', 0)";
        let nothing = redis.try_call(&[b"EVAL", script, b"2", b"q", b"l"]).expect("an answer");
        assert_eq!(pulled(nothing), (vec![], 0));
        redis.run("LPUSH q a");
        let one = redis.try_call(&[b"EVAL", script, b"2", b"q", b"l"]).expect("an answer");
        assert_eq!(pulled(one), (cells(["a"]), 60));
    });
}

#[test]
fn the_pace_holds_across_clients_and_restarts() {
    on_every_program(|program| {
        let aof = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::start(program, &aof);
        let mut redis = server.connect();
        for n in 0..200 {
            redis.run(&format!("LPUSH q {n}"));
        }
        // 50 a second, five at once, for four clients that take all they can.
        let start = Instant::now();
        let port = server.port;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.connect();
                thread::spawn(move || {
                    let mut taken = 0;
                    while start.elapsed() < Duration::from_millis(600) {
                        taken += pull(&mut client, "CELL.PULL q l 4 50 1 TIMEOUT 0.1 COUNT 3").0.len();
                    }
                    taken
                })
            })
            .collect();
        let taken: usize = clients.into_iter().map(|client| client.join().expect("a thread")).sum();
        let elapsed = start.elapsed();
        let most = 5 + usize::try_from(elapsed.as_millis() * 50 / 1_000).expect("small") + 1;
        assert!(taken <= most, "{taken} of at most {most} in {elapsed:?} on port {port}");
        assert!(taken >= 20, "{taken} in {elapsed:?}");
        assert_eq!(redis.int("LLEN q"), 200 - i64::try_from(taken).expect("small"));

        redis.run("DEL l");
        pull(&mut redis, "CELL.PULL q l 0 1 3600");
        server.restart("NOSAVE");
        let (nothing, wait) = pull(&mut server.connect(), "CELL.PULL q l 0 1 3600");
        assert!(nothing.is_empty() && wait > 3_500, "{wait}");
    });
}

#[test]
fn a_primary_that_becomes_a_replica_unblocks_its_clients() {
    on_every_program(|program| {
        let (server, primary) = (Server::start(program, &[]), Server::start(program, &[]));
        let waiter = waiting(&server, "CELL.PULL q l 0 1 60 TIMEOUT 0");
        server.connect().run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        let error = waiter.join().expect("a thread").expect_err("it is let go");
        assert!(error.starts_with("UNBLOCKED "), "{error}");
    });
}

#[test]
fn while_writes_are_paused_nothing_is_taken() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // Redis 6.2 does not pause callbacks of modules, and does not always report a pause
        }
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        redis.run("LPUSH q a b");
        pull(&mut redis, "CELL.PULL q l 0 1 0.2");
        let waiter = waiting(&server, "CELL.PULL q l 0 1 0.2 TIMEOUT 10");
        redis.run("CLIENT PAUSE 700 WRITE");
        let paused = Instant::now();
        sleep_ms(400);
        if paused.elapsed() < Duration::from_millis(650) {
            assert_eq!(redis.strings("LRANGE q 0 -1"), ["b"]);
        }
        assert_eq!(answer(waiter).0, cells(["b"]));
        assert!(paused.elapsed() >= Duration::from_millis(690), "{:?}", paused.elapsed());
    });
}

#[test]
fn a_slot_that_moves_away_redirects_its_blocked_clients() {
    on_every_program(|program| {
        let cluster = ["--cluster-enabled", "yes"];
        let (source, target) = (Server::start(program, &cluster), Server::start(program, &cluster));
        let (mut redis, mut other) = (source.connect(), target.connect());
        let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
        redis.run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
        other.run(&format!("CLUSTER MEET 127.0.0.1 {}", source.port));
        eventually("the cluster is up", || {
            let known = redis.string("CLUSTER NODES").expect("nodes").lines().count();
            known == 2 && redis.try_run("CELL.PULL {q} {q}l 0 1 60").is_ok()
        });
        assert!(redis.error("CELL.PULL a b 0 1 60").starts_with("CROSSSLOT "));
        let waiter = waiting(&source, "CELL.PULL {q} {q}l 0 1 60 TIMEOUT 0");
        let slot = redis.int("CLUSTER KEYSLOT {q}");
        let target_id = other.string("CLUSTER MYID").expect("an id");
        other.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        redis.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        let error = waiter.join().expect("a thread").expect_err("it is sent away");
        assert!(error.starts_with("MOVED"), "{error}");
    });
}

#[test]
fn its_keys_are_the_queue_the_limiter_and_the_list() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.strings("COMMAND GETKEYS CELL.PULL q l 0 1 60 COUNT 2"), ["q", "l"]);
        assert_eq!(redis.strings("COMMAND GETKEYS CELL.PULL q l 0 1 60 MS into busy TIMEOUT 0"), ["q", "l", "busy"]);
        redis.run("ACL SETUSER worker on >pw ~q ~l +cell.pull");
        let mut worker = server.connect();
        worker.run("AUTH worker pw");
        worker.run("CELL.PULL q l 0 1 60");
        assert!(worker.error("CELL.PULL q l 0 1 60 INTO busy").starts_with("NOPERM "));
        assert!(worker.error("CELL.PULL q other 0 1 60").starts_with("NOPERM "));
    });
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("LPUSH q a");
        redis.run("SET text abc");
        let before = redis.contents();
        let same = "ERR queue, limiter and the list of INTO must be three different keys";
        for (arguments, error) in [
            ("q q 0 1 60", same),
            ("q l 0 1 60 INTO q", same),
            ("q l 0 1 60 INTO l", same),
            ("q l 0 0 60", "ERR count must be a 64-bit integer, at least 1, not '0'"),
            ("q l 0 1 60 COUNT 0", "ERR COUNT must be a 64-bit integer, at least 1, not '0'"),
            ("q l 0 1 60 TIMEOUT -1", "ERR TIMEOUT must be a number of seconds, such as 60 or 0.25, not '-1'"),
            ("q l 0 1 60 2", "ERR unknown option '2': the options are [COUNT n] [TIMEOUT seconds] [INTO list] [MS]"),
            ("q l 0 1 60 INTO", "ERR INTO needs a value: [COUNT n] [TIMEOUT seconds] [INTO list] [MS]"),
        ] {
            assert_eq!(redis.error(&format!("CELL.PULL {arguments}")), error);
        }
        for wrong in ["text l 0 1 60", "q l 0 1 60 INTO text"] {
            assert!(redis.error(&format!("CELL.PULL {wrong}")).starts_with("WRONGTYPE "), "{wrong}");
        }
        assert!(redis.error("CELL.PULL q text 0 1 60").starts_with("ERR key 'text' holds 'abc'"));
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn replicas_hold_the_same_lists_and_limiters() {
    on_every_program(|program| {
        let primary = Server::start(program, &[]);
        let replica = primary.replica(&[]);
        let mut redis = primary.connect();
        redis.run("LPUSH q a b c d e f");
        pull(&mut redis, "CELL.PULL q l 1 1 0.05 COUNT 2 INTO busy");
        pull(&mut redis, "CELL.PULL q l 1 1 0.05 TIMEOUT 5 INTO busy");
        pull(&mut redis, "CELL.PULL q other 1 1 3600 TIMEOUT 5");
        primary.wait_for_replica(&replica);
        let lists = |redis: &mut Client| ["q", "busy"].map(|key| redis.strings(&format!("LRANGE {key} 0 -1")));
        assert_eq!(lists(&mut replica.connect()), lists(&mut redis));
        assert_eq!(replica.connect().string("GET other"), redis.string("GET other"));
        assert_eq!(lists(&mut redis)[1], ["c", "b", "a"]);
    });
}
