//! CELL.LEASE and CELL.RELEASE: limits on concurrency.

use std::thread;
use std::time::{Duration, Instant};

use testkit::blocked::{Blocked, count};
use testkit::{Client, Server, Value, eventually, now_ms, on_every_program, on_every_server, sleep_ms};

/// The longest time for "within about a second" on a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_secs(4);

/// The reply to a client that was blocked.
fn ints(waiter: Blocked) -> Vec<i64> {
    redis::from_redis_value(waiter.reply().expect("an answer")).expect("five integers")
}

#[track_caller]
fn assert_served(waiter: Blocked, within: Duration, what: &str) {
    assert!(waiter.gets_reply_within(within), "{what}: nobody is woken within {within:?}");
    assert_eq!(ints(waiter)[0], 0, "{what}");
}

/// When the key expires, in milliseconds since the epoch.
fn expiry(redis: &mut Client, key: &str) -> Value {
    redis.contents().into_iter().find(|entry| entry.key == key.as_bytes()).expect("the key").expiry
}

/// The holders in the order in which their leases end, and when the last one does.
fn holders(redis: &mut Client, key: &str) -> (Vec<String>, i64) {
    let pairs = redis.strings(&format!("ZRANGE {key} 0 -1 WITHSCORES"));
    let last = pairs.last().map_or(0, |score| score.parse().expect("an integer"));
    (pairs.into_iter().step_by(2).collect(), last)
}

#[test]
fn a_place_is_taken_for_its_ttl_and_no_more_than_the_limit_are() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let start = now_ms();
        assert_eq!(redis.ints("CELL.LEASE k 2 100 ann"), [0, 2, 1, -1, 100]);
        assert_eq!(redis.ints("CELL.LEASE k 2 200 bob"), [0, 2, 0, -1, 200]);
        let refused = redis.ints("CELL.LEASE k 2 100 cid MS");
        assert!(refused[..3] == [1, 2, 0] && (90_000..=100_000).contains(&refused[3]), "{refused:?}");
        assert!((190_000..=200_000).contains(&refused[4]), "{refused:?}");
        let (names, last) = holders(&mut redis, "k");
        assert_eq!(names, ["ann", "bob"]);
        assert!((start + 200_000..=now_ms() + 200_000).contains(&last), "{last}");
        assert_eq!(expiry(&mut redis, "k"), Value::Int(last), "the key expires with the last lease");
        assert_eq!(redis.int("CELL.RELEASE k ann"), 1);
        assert_eq!(redis.int("CELL.RELEASE k ann"), 0);
        assert_eq!(redis.ints("CELL.LEASE k 2 100 cid")[..3], [0, 2, 0]);
        assert_eq!(redis.int("CELL.RELEASE k bob") + redis.int("CELL.RELEASE k cid"), 2);
        assert_eq!(redis.int("EXISTS k"), 0, "the last one takes the key along");
        assert_eq!(redis.int("CELL.RELEASE k cid"), 0);
    });
}

#[test]
fn a_holder_that_crashes_frees_its_place_after_its_ttl_and_no_earlier() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let start = Instant::now();
        redis.run("CELL.LEASE k 1 0.6 ann");
        while redis.ints("CELL.LEASE k 1 60 bob")[0] == 1 {
            sleep_ms(3);
        }
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(599), "{taken:?}");
        assert!(taken < Duration::from_secs(5), "{taken:?}");
        assert_eq!(holders(&mut redis, "k").0, ["bob"], "the lease that is over was removed");
        assert_eq!(redis.int("CELL.RELEASE k ann"), 0, "a late release frees nobody else's place");
        assert_eq!(redis.ints("CELL.LEASE k 1 60 cid")[0], 1);
        // A key with one lease that is not over: the next call removes the others.
        redis.run("CELL.LEASE many 9 0.05 a");
        redis.run("CELL.LEASE many 9 0.05 b");
        redis.run("CELL.LEASE many 9 900 c");
        sleep_ms(80);
        assert_eq!(redis.int("CELL.RELEASE many a"), 0);
        assert_eq!(redis.ints("CELL.LEASE_RO many 9 900 d")[..3], [0, 9, 7]);
        assert_eq!(redis.int("ZCARD many"), 3);
        assert_eq!(redis.ints("CELL.LEASE many 9 900 b")[..3], [0, 9, 7]);
        assert_eq!(holders(&mut redis, "many").0, ["c", "b"]);
    });
}

#[test]
fn a_renewal_keeps_the_place_and_moves_the_expiry_with_the_last_lease() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for ttl in ["100", "500", "50", "0.9", "300"] {
            assert_eq!(redis.ints(&format!("CELL.LEASE k 2 {ttl} ann"))[..4], [0, 2, 1, -1]);
            let (names, last) = holders(&mut redis, "k");
            assert_eq!((names.len(), expiry(&mut redis, "k")), (1, Value::Int(last)), "ttl {ttl}");
        }
        redis.run("CELL.LEASE k 2 100 bob");
        assert_eq!(redis.ints("CELL.LEASE k 2 10 ann"), [0, 2, 0, -1, 100]);
        let (names, last) = holders(&mut redis, "k");
        assert_eq!((names, expiry(&mut redis, "k")), (vec!["ann".to_owned(), "bob".to_owned()], Value::Int(last)));
        redis.run("CELL.RELEASE k bob");
        assert_eq!(Value::Int(holders(&mut redis, "k").1), expiry(&mut redis, "k"));
        // Without an expiry, or with one that is too early or too late, the next one that takes or renews sets it.
        for spoil in ["PERSIST k", "PEXPIRE k 1000", "PEXPIRE k 900000"] {
            redis.run(spoil);
            redis.run("CELL.LEASE k 2 20 ann");
            assert_eq!(expiry(&mut redis, "k"), Value::Int(holders(&mut redis, "k").1), "{spoil}");
        }
    });
}

#[test]
fn a_lowered_limit_evicts_no_holder_and_several_leases_must_end() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (place, holder) in ["a", "b", "c", "d"].iter().enumerate() {
            redis.run(&format!("CELL.LEASE k 4 {} {holder}", (place + 1) * 1_000));
        }
        assert_eq!(redis.ints("CELL.LEASE k 2 9 new"), [1, 2, 0, 3_000, 4_000]);
        assert_eq!(redis.ints("CELL.LEASE k 2 1500 a")[..3], [0, 2, 0], "a renewal passes");
        assert_eq!(redis.int("ZCARD k"), 4);
        redis.run("CELL.RELEASE k a");
        redis.run("CELL.RELEASE k b");
        assert_eq!(redis.ints("CELL.LEASE k 2 9 new")[0], 1);
        redis.run("CELL.RELEASE k c");
        assert_eq!(redis.ints("CELL.LEASE k 2 9 new")[0], 0);
    });
}

#[test]
fn ten_thousand_holders_have_a_place_each() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for from in (0..10_000).step_by(1_000) {
            let mut pipe = redis::pipe();
            for holder in from..from + 1_000 {
                pipe.cmd("CELL.LEASE").arg("k").arg(10_000).arg(1_000 + holder).arg(format!("h{holder}"));
            }
            let answers: Vec<Vec<i64>> = pipe.query(&mut redis.0).expect("answers");
            for (answer, left) in answers.iter().zip((0..10_000 - from).rev()) {
                assert_eq!(answer[..3], [0, 10_000, left]);
            }
        }
        let refused = redis.ints("CELL.LEASE k 10000 60 more");
        assert_eq!(refused[..3], [1, 10_000, 0]);
        assert!((900..=1_000).contains(&refused[3]) && (10_900..=10_999).contains(&refused[4]), "{refused:?}");
        let lowered = redis.ints("CELL.LEASE_RO k 5000 60 more");
        assert!((5_900..=6_000).contains(&lowered[3]), "{lowered:?}");
        assert_eq!(redis.ints("CELL.LEASE k 10000 60 h5000")[..3], [0, 10_000, 0]);
        assert_eq!(redis.int("CELL.RELEASE k h9999"), 1);
        assert_eq!(expiry(&mut redis, "k"), Value::Int(holders(&mut redis, "k").1));
        assert_eq!(redis.ints("CELL.LEASE k 10000 60 more")[..3], [0, 10_000, 0]);
    });
}

#[test]
fn blocked_clients_are_served_in_order_of_arrival() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 2 900 ann");
        redis.run("CELL.LEASE k 2 900 bob");
        let waiters: Vec<_> =
            (0..6).map(|holder| server.block(&format!("CELL.LEASE k 2 900 w{holder} TIMEOUT 0"))).collect();
        // A renewal passes them, a new holder does not.
        assert_eq!(redis.ints("CELL.LEASE k 2 900 ann")[0], 0);
        let mut before = vec!["ann".to_owned(), "bob".to_owned()];
        for (nth, waiter) in waiters.into_iter().enumerate() {
            assert!(!waiter.has_reply(), "{nth}");
            let mut pipe = redis::pipe();
            pipe.cmd("CELL.RELEASE").arg("k").arg(before.remove(0));
            pipe.cmd("CELL.LEASE").arg(&["k", "2", "900", "late"]);
            let (released, late): (i64, Vec<i64>) = pipe.query(&mut redis.0).expect("answers");
            assert_eq!((released, late[0]), (1, 1), "one that comes later does not overtake");
            assert_eq!(late[2..4], [0, 1], "it may ask again");
            assert_served(waiter, ABOUT_A_SECOND, "a release");
            before.push(format!("w{nth}"));
        }
        assert_eq!(redis.int("ZCARD k"), 2);
        assert_eq!(count(&mut redis), 0);
    });
}

#[test]
fn as_many_clients_are_served_as_places_become_free() {
    on_every_server(|server| {
        let mut redis = server.connect();
        (0..3).for_each(|holder| drop(redis.run(&format!("CELL.LEASE k 3 900 h{holder}"))));
        let waiters: Vec<_> =
            (0..5).map(|holder| server.block(&format!("CELL.LEASE k 3 900 w{holder} TIMEOUT 0"))).collect();
        redis.run("MULTI");
        (0..3).for_each(|holder| drop(redis.run(&format!("CELL.RELEASE k h{holder}"))));
        redis.run("EXEC");
        eventually("three are served", || count(&mut redis) == 2);
        assert_eq!(waiters.iter().map(Blocked::gets_reply_soon).collect::<Vec<_>>(), [true, true, true, false, false]);
        assert_eq!(redis.int("ZCARD k"), 3);
        redis.run("DEL k");
        waiters.into_iter().for_each(|waiter| assert_served(waiter, ABOUT_A_SECOND, "DEL"));
        assert_eq!(holders(&mut redis, "k").0.len(), 2);
    });
}

/// Checks of a blocked client.
trait Soon {
    fn gets_reply_soon(&self) -> bool;
}

impl Soon for Blocked {
    fn gets_reply_soon(&self) -> bool {
        self.gets_reply_within(Duration::from_millis(300))
    }
}

#[test]
fn everything_that_frees_a_place_wakes_blocked_clients() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("DEBUG SET-ACTIVE-EXPIRE 0");
        let wakes: [(&str, &[&str]); 11] = [
            ("RELEASE", &["CELL.RELEASE k ann"]),
            ("a lease that is renewed to end soon", &["CELL.LEASE k 1 0.1 ann"]),
            ("DEL", &["DEL k"]),
            ("UNLINK", &["UNLINK k"]),
            ("ZREM", &["ZREM k ann"]),
            ("expiry that the server has not seen", &["PEXPIRE k 100"]),
            ("another name", &["RENAME k other"]),
            ("another database", &["MOVE k 1"]),
            ("all keys gone", &["FLUSHALL"]),
            ("a script", &["EVAL return(redis.call('CELL.RELEASE','k','ann')) 0"]),
            ("a transaction", &["MULTI", "CELL.RELEASE k ann", "EXEC"]),
        ];
        for (what, lines) in wakes {
            redis.run("FLUSHALL");
            redis.run("CELL.LEASE k 1 900 ann");
            let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
            sleep_ms(20);
            assert!(!waiter.has_reply());
            for line in lines {
                redis.run(line);
            }
            assert_served(waiter, ABOUT_A_SECOND, what);
            assert_eq!(redis.strings("ZRANGE k 0 -1"), ["bob"], "{what}");
        }
    });
}

#[test]
fn a_release_and_the_end_of_a_lease_wake_at_once() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut least = Duration::MAX;
        for _ in 0..8 {
            redis.run("DEL k");
            redis.run("CELL.LEASE k 1 900 ann");
            let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
            let start = Instant::now();
            redis.run("CELL.RELEASE k ann");
            assert_served(waiter, ABOUT_A_SECOND, "RELEASE");
            least = least.min(start.elapsed());
        }
        assert!(least < Duration::from_millis(300), "{least:?}");
        let mut least = Duration::MAX;
        for _ in 0..5 {
            redis.run("DEL k");
            let start = Instant::now();
            redis.run("CELL.LEASE k 1 0.25 ann");
            let served = redis.ints("CELL.LEASE k 1 900 bob TIMEOUT 9");
            assert_eq!(served[0], 0);
            assert!(start.elapsed() >= Duration::from_millis(249), "{:?}", start.elapsed());
            least = least.min(start.elapsed());
        }
        assert!(least < Duration::from_millis(600), "{least:?}");
    });
}

#[test]
fn a_wait_ends_with_its_timeout_and_returns_retry_after() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 60 ann");
        let refused = |redis: &mut Client| -> i64 {
            redis.info_field("meter", "meter_cells_refused").expect("a field").parse().expect("a number")
        };
        let before = refused(&mut redis);
        let start = Instant::now();
        assert_eq!(redis.ints("CELL.LEASE k 1 60 bob TIMEOUT 0.2"), [1, 1, 0, 60, 60]);
        assert!(start.elapsed() >= Duration::from_millis(195), "{:?}", start.elapsed());
        assert_eq!(refused(&mut redis), before + 1, "a refusal is counted once");
        let listed = format!("{:?}", redis.run("CELL.REFUSED"));
        assert!(listed.contains("CELL.LEASE") && listed.contains("int(1)"), "{listed}");
        for zero in ["0", "0.0", "0.000"] {
            let waiter = server.block(&format!("CELL.LEASE k 1 60 bob TIMEOUT {zero}"));
            sleep_ms(30);
            assert!(!waiter.has_reply(), "TIMEOUT {zero}");
            redis.run(&format!("CLIENT UNBLOCK {}", waiter.id));
            let answer = ints(waiter);
            assert!(answer[..3] == [1, 1, 0] && (50..=60).contains(&answer[3]), "{answer:?}");
        }
        let waiter = server.block("CELL.LEASE k 1 60 bob TIMEOUT 0");
        redis.run(&format!("CLIENT UNBLOCK {} ERROR", waiter.id));
        assert!(waiter.reply().expect_err("an error").starts_with("UNBLOCKED "));
        assert_eq!(redis.strings("ZRANGE k 0 -1"), ["ann"]);
        // The queue is empty.
        redis.run("CELL.RELEASE k ann");
        assert_eq!(redis.ints("CELL.LEASE k 1 60 cid")[0], 0);
    });
}

#[test]
fn a_client_that_disconnects_takes_no_place_and_delays_no_other() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 900 ann");
        let gone = server.block_to_leave("CELL.LEASE k 1 900 gone TIMEOUT 0").expect("blocked");
        let killed = server.block("CELL.LEASE k 1 900 killed TIMEOUT 0");
        let next = server.block("CELL.LEASE k 1 900 next TIMEOUT 0");
        redis.run(&format!("CLIENT KILL ID {}", killed.id));
        drop(gone);
        assert!(killed.reply().is_err());
        eventually("they have gone", || count(&mut redis) == 1);
        redis.run("CELL.RELEASE k ann");
        assert_served(next, ABOUT_A_SECOND, "the next one");
        assert_eq!(redis.strings("ZRANGE k 0 -1"), ["next"]);
        // One that is killed in the same step in which it would be served.
        let killed = server.block("CELL.LEASE k 1 900 killed TIMEOUT 0");
        let last = server.block("CELL.LEASE k 1 900 last TIMEOUT 0");
        redis.run("MULTI");
        redis.run("CELL.RELEASE k next");
        redis.run(&format!("CLIENT KILL ID {}", killed.id));
        redis.run("EXEC");
        assert_served(last, ABOUT_A_SECOND, "the last one");
        assert_eq!(redis.strings("ZRANGE k 0 -1"), ["last"]);
        drop(killed);
    });
}

#[test]
fn clients_blocked_on_other_keys_and_databases_do_not_delay_each_other() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 900 ann");
        redis.run("CELL.LEASE other 1 900 ann");
        let slow = server.block("CELL.LEASE other 1 900 bob TIMEOUT 0");
        let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
        let mut elsewhere = server.connect();
        elsewhere.run("SELECT 3");
        assert_eq!(elsewhere.ints("CELL.LEASE k 1 900 cid")[0], 0);
        elsewhere.run("CELL.RELEASE k cid");
        sleep_ms(30);
        assert!(!waiter.has_reply());
        redis.run("CELL.RELEASE k ann");
        assert_served(waiter, ABOUT_A_SECOND, "its own key");
        assert!(!slow.has_reply());
        // A limit that is higher or lower is each client's own.
        redis.run("DEL other");
        assert_served(slow, ABOUT_A_SECOND, "its own key");
    });
}

#[test]
fn in_transactions_and_scripts_the_reply_comes_at_once() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 60 ann");
        redis.run("MULTI");
        redis.run("CELL.LEASE k 1 60 bob TIMEOUT 0");
        let refused = Value::Array([1, 1, 0, 60, 60].map(Value::Int).to_vec());
        assert_eq!(redis.run("EXEC"), Value::Array(vec![refused.clone()]));
        let script = b"return redis.call('CELL.LEASE', KEYS[1], 1, 60, 'bob', 'TIMEOUT', 0)";
        assert_eq!(redis.try_call(&[b"EVAL", script, b"1", b"k"]).expect("an answer"), refused);
    });
}

#[test]
fn blocked_clients_get_an_error_when_the_key_becomes_something_else() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (change, error) in [("SET k text", "WRONGTYPE "), ("ZADD k 5 somebody", "ERR key 'k' holds ")] {
            redis.run("DEL k");
            redis.run("CELL.LEASE k 1 60 ann");
            let waiters = ["bob", "cid"].map(|holder| server.block(&format!("CELL.LEASE k 1 60 {holder} TIMEOUT 0")));
            redis.run(change);
            for waiter in waiters {
                let reply = waiter.reply().expect_err("an error");
                assert!(reply.starts_with(error), "{change}: {reply}");
            }
            let now = redis.error("CELL.LEASE k 1 60 bob TIMEOUT 0");
            assert!(now.starts_with(error), "{now}");
        }
    });
}

#[test]
fn a_set_with_a_score_that_is_no_lease_stays_as_it_is() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let live = now_ms() + 900_000;
        for spoilt in [
            "5 a".to_owned(),
            format!("{live} a 99999999999 b"),
            format!("{live} a {live}.5 b"),
            format!("{live} a inf b"),
            format!("{live} a 9007199254740994 b"),
            format!("100000000000 a 100000000000.5 b {live} c"),
        ] {
            redis.run("DEL k");
            redis.run(&format!("ZADD k {spoilt}"));
            let before = redis.contents();
            for call in ["CELL.LEASE k 9 60 new", "CELL.LEASE k 9 60 b", "CELL.RELEASE k b", "CELL.LEASE_RO k 9 60 b"] {
                let error = redis.try_run(call);
                let passes = spoilt.contains("0.5 b") && call.starts_with("CELL.LEASE_RO k 9 60 new");
                assert!(
                    passes || error.as_ref().is_err_and(|error| error.starts_with("ERR key 'k' holds ")),
                    "{spoilt}, {call}: {error:?}"
                );
                assert_eq!(redis.contents(), before, "{spoilt}: {call}");
            }
        }
    });
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (line, error) in [
            ("CELL.LEASE k 0 60 ann", "ERR limit must be a 64-bit integer, at least 1, not '0'"),
            ("CELL.LEASE k 1 0 ann", "ERR ttl must be more than 0 seconds, not '0'"),
            ("CELL.LEASE k 1 31622401 ann", "ERR ttl must be at most 31622400 seconds (366 days), not '31622401'"),
            ("CELL.LEASE k 1 60 ann TIMEOUT", "ERR TIMEOUT needs a value: [TIMEOUT seconds] [MS]"),
            ("CELL.LEASE k 1 60 ann MS MS", "ERR MS is given twice"),
            ("CELL.LEASE k 1 60 ann PARTIAL", "ERR unknown option 'PARTIAL': the options are [TIMEOUT seconds] [MS]"),
        ] {
            assert_eq!(redis.error(line), error, "{line}");
            assert_eq!(redis.error(&line.replace("LEASE", "LEASE_RO")), error, "{line}");
        }
        for arguments in [&[b"CELL.LEASE".as_slice(), b"k", b"1", b"60", b""][..], &[b"CELL.RELEASE", b"k", b""]] {
            let error = redis.try_call(arguments).expect_err("an error");
            assert_eq!(error, "ERR holder is empty: give each holder a name of its own");
        }
        assert!(redis.error("CELL.LEASE k 1 60").contains("wrong number of arguments"));
        assert!(redis.error("CELL.RELEASE k ann x").contains("wrong number of arguments"));
        assert_eq!(redis.int("DBSIZE"), 0);
        assert_eq!(redis.ints("CELL.LEASE k 1 31622400 ann")[0], 0);
        assert_eq!(redis.try_call(&[b"CELL.RELEASE", b"k", b"\xff\0 "]).expect("an answer"), Value::Int(0));
    });
}

#[test]
fn replicas_and_restarts_have_the_same_places() {
    on_every_program(|program| {
        let mut server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let load = testkit::module().display().to_string();
        let replica = server.replica(&["--loadmodule", &load]);
        let mut redis = server.connect();
        for holder in 0..20 {
            redis.run(&format!("CELL.LEASE k 20 {} h{holder}", 500 + holder));
        }
        let waiter = server.block("CELL.LEASE k 20 900 waiter TIMEOUT 0");
        redis.run("CELL.RELEASE k h19");
        assert_served(waiter, ABOUT_A_SECOND, "RELEASE");
        redis.run("CELL.LEASE k 20 700 h3");
        redis.run("CELL.LEASE brief 9 0.05 a");
        redis.run("CELL.LEASE brief 9 900 b");
        sleep_ms(70);
        redis.run("CELL.LEASE brief 9 800 c");
        server.wait_for_replica(&replica);
        let before = redis.contents();
        assert_eq!(replica.connect().contents(), before);
        assert_eq!(replica.connect().ints("CELL.LEASE_RO k 20 60 new")[..3], [1, 20, 0]);
        assert!(replica.connect().error("CELL.LEASE k 20 60 new TIMEOUT 1").starts_with("READONLY "));
        let appended: Vec<String> = server.appended().iter().map(|words| words[0].to_uppercase()).collect();
        assert!(appended.iter().all(|name| !name.starts_with("CELL.")), "{appended:?}");
        server.restart("NOSAVE");
        let mut redis = server.connect();
        assert_eq!(redis.contents(), before);
        assert_eq!(redis.ints("CELL.LEASE k 20 60 new")[..3], [1, 20, 0]);
        assert_eq!(redis.int("CELL.RELEASE k waiter"), 1);
        assert_eq!(redis.ints("CELL.LEASE k 20 60 new")[..3], [0, 20, 0]);
    });
}

#[test]
fn a_primary_that_becomes_a_replica_unblocks_its_clients() {
    on_every_program(|program| {
        let (mut server, primary) = (Server::start(program, &[]), Server::start(program, &[]));
        server.connect().run("CELL.LEASE k 1 900 ann");
        let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
        server.connect().run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        let error = waiter.reply().expect_err("it is let go");
        assert!(error.starts_with("UNBLOCKED "), "{error}");
        server.assert_alive("REPLICAOF");
    });
}

#[test]
fn while_writes_are_paused_no_place_is_taken() {
    on_every_program(|program| {
        for audience in [&["--appendonly", "yes"][..], &[]] {
            let mut server = Server::start(program, audience);
            let mut redis = server.connect();
            redis.run("CELL.LEASE k 1 900 ann");
            let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
            let unblocked = server.block("CELL.LEASE k 1 900 dan TIMEOUT 0");
            let short = server.block("CELL.LEASE k 1 900 cid TIMEOUT 0.5");
            let mut pipe = redis::pipe();
            pipe.cmd("CELL.LEASE").arg(&["k", "1", "0.3", "ann"]).ignore();
            pipe.cmd("CLIENT").arg(&["PAUSE", "1200", "WRITE"]).ignore();
            pipe.query::<()>(&mut redis.0).expect("a pause");
            let paused = Instant::now();
            redis.run(&format!("CLIENT UNBLOCK {}", unblocked.id));
            assert_eq!(ints(unblocked)[0], 1);
            let answer = ints(short);
            let in_pause = paused.elapsed() < Duration::from_millis(1_150);
            assert!(answer[0] == 1 && answer[3] >= 1, "{answer:?}");
            if in_pause {
                assert!(!waiter.has_reply(), "nothing is taken in a pause");
            }
            assert_served(waiter, ABOUT_A_SECOND, "the end of the pause");
            assert!(paused.elapsed() >= Duration::from_millis(1_150), "{:?}", paused.elapsed());
            server.assert_alive("a pause");
            assert_eq!(redis.strings("ZRANGE k 0 -1"), ["bob"]);
        }
    });
}

/// As CELL.LEASE itself is refused then.
#[test]
fn without_memory_no_place_is_taken() {
    on_every_program(|program| {
        let server = Server::start(program, &["--maxmemory-policy", "noeviction"]);
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 60 first");
        let waiter = server.block("CELL.LEASE k 1 60 second TIMEOUT 0");
        redis.run("CONFIG SET maxmemory 1");
        assert!(redis.error("CELL.LEASE k 1 60 third").starts_with("OOM"));
        assert_eq!(redis.run("CELL.RELEASE k first"), Value::Int(1));
        // Longer than a queue ever sleeps.
        std::thread::sleep(Duration::from_millis(1_300));
        assert_eq!(redis.run("EXISTS k"), Value::Int(0));
        redis.run("CONFIG SET maxmemory 0");
        assert_served(waiter, ABOUT_A_SECOND, "memory again");
    });
}

#[test]
fn a_blocked_client_that_loses_its_rights_is_not_served() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // on Redis 6.2 modules cannot check a user's rights
        }
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 900 ann");
        redis.run("ACL SETUSER worker on >pw ~k +cell.lease");
        let mut worker = server.connect();
        worker.run("AUTH worker pw");
        assert!(worker.error("CELL.LEASE other 1 900 bob").starts_with("NOPERM "));
        let waiter = thread::spawn(move || worker.try_run("CELL.LEASE k 1 900 bob TIMEOUT 0"));
        eventually("it waits", || count(&mut redis) == 1);
        let next = server.block("CELL.LEASE k 1 900 next TIMEOUT 0");
        redis.run("ACL SETUSER worker resetkeys");
        redis.run("CELL.RELEASE k ann");
        let error = waiter.join().expect("a thread").expect_err("it has no right to it");
        assert!(error.starts_with("NOPERM "), "{error}");
        assert_served(next, ABOUT_A_SECOND, "the next one");
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
            known == 2 && redis.try_run("CELL.LEASE k 1 900 ann").is_ok()
        });
        let waiter = source.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
        let slot = redis.int("CLUSTER KEYSLOT k");
        let target_id = other.string("CLUSTER MYID").expect("an id");
        redis.run("DEL k");
        other.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        redis.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        assert!(waiter.gets_reply_within(ABOUT_A_SECOND), "it is told");
        match waiter.reply() {
            // It could have been served between DEL and the move.
            Ok(_) => {}
            Err(error) => assert!(error.starts_with("TRYAGAIN ") || error.starts_with("MOVED "), "{error}"),
        }
        let waiter = redis.try_run("CELL.LEASE k 1 900 cid TIMEOUT 0").expect_err("it is sent away");
        assert!(waiter.starts_with("MOVED "), "{waiter}");
    });
}

#[test]
fn a_clock_that_steps_back_delays_no_client() {
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let program = program.preloading("clock.c", "SHIFT=step()", folder.path());
        let server = Server::start(&program, &[]);
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 900 ann");
        let short = server.block("CELL.LEASE k 1 900 cid TIMEOUT 1.5");
        let waiter = server.block("CELL.LEASE k 1 900 bob TIMEOUT 0");
        std::fs::write(server.folder.path().join("clock"), "-3600").expect("written");
        sleep_ms(50);
        assert!(short.gets_reply_within(Duration::from_secs(8)), "the time-out goes by a clock that does not step");
        assert_eq!(ints(short)[0], 1);
        redis.run("DEL k");
        assert_served(waiter, Duration::from_secs(8), "an hour back");
        // Forward, the lease ends.
        std::fs::write(server.folder.path().join("clock"), "7200").expect("written");
        assert_served(server.block("CELL.LEASE k 1 900 dan TIMEOUT 0"), Duration::from_secs(8), "two hours forward");
    });
}

#[test]
fn blocked_clients_leave_nothing_behind() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LEASE k 1 9000 ann");
        let used = |redis: &mut Client| -> i64 {
            redis.info_field("memory", "used_memory").expect("a field").parse().expect("a number")
        };
        let round = |redis: &mut Client, times: usize| {
            let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
            for nth in 0..times {
                for (place, client) in clients.iter_mut().enumerate() {
                    let mut command = redis::cmd("CELL.LEASE");
                    let timeout = if place == 7 { "0" } else { "0.001" };
                    command.arg(&["k", "1", "60", &format!("waiter-{place}"), "TIMEOUT", timeout]);
                    client.0.send_packed_command(&command.get_packed_command()).expect("sent");
                }
                for client in &mut clients[..7] {
                    let answer: Vec<i64> =
                        redis::from_redis_value(client.0.recv_response().expect("a reply")).expect("integers");
                    assert_eq!(answer[0], 1);
                }
                if nth % 2 == 0 {
                    clients[7] = server.connect();
                } else {
                    redis.run("CELL.RELEASE k ann");
                    clients[7].0.recv_response().expect("a reply");
                    redis.run("CELL.RELEASE k waiter-7");
                    redis.run("CELL.LEASE k 1 9000 ann");
                }
                eventually("nobody is blocked", || count(redis) == 0);
            }
        };
        round(&mut redis, 20);
        sleep_ms(200);
        let before = used(&mut redis);
        round(&mut redis, 100);
        let start = Instant::now();
        while used(&mut redis) - before > 60_000 && start.elapsed() < Duration::from_secs(5) {
            sleep_ms(50);
        }
        let grown = used(&mut redis) - before;
        assert!(grown <= 60_000, "800 waits have left {grown} bytes");
    });
}
