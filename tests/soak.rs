//! Everything at once, for a while: traffic of the whole family, restarts, kills, failovers, attempts to unload the
//! module, settings changed, the AOF rewritten. The clients' ledgers are compared with the server after each, and
//! at the end all dropped and expired data is freed.
//!
//! `METER_SOAK_SECONDS` is how long (40 by default, on all server programs at the same time). A run prints its seed;
//! `METER_SOAK_SEED` repeats the calls and the order of events. `cargo test --test soak -- --nocapture` shows
//! statistics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ledger::{Chance, Counts, Tally, Teller, Trouble, balance, clear, crash, setting};
use testkit::{Client, Program, Server, Value, eventually, module, now_ms, on_every_program};

const TELLERS: u64 = 3;

/// Disturbances of a server under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Nothing,
    Restart,
    Kill,
    Failover,
    Unload,
    Settings,
    Rewrite,
}

const EVENTS: [Event; 7] =
    [Event::Nothing, Event::Restart, Event::Kill, Event::Failover, Event::Unload, Event::Settings, Event::Rewrite];

fn options(program: &Program) -> Vec<&'static str> {
    // A backlog that is full from the start does not look like memory that was kept.
    let mut options = vec!["--appendonly", "yes", "--appendfsync", "always", "--repl-backlog-size", "16kb"];
    // Redis 6.2 lets modules be loaded at any time, and does not know the option.
    options.extend(program.is_7_or_later().then_some(["--enable-module-command", "yes"]).into_iter().flatten());
    options
}

fn replica(primary: &Server) -> Server {
    let load = module().display().to_string();
    let mut all = vec!["--loadmodule", &load];
    all.extend(options(&primary.program));
    primary.replica(&all)
}

/// Sends calls, one at a time, until it is stopped or the server ends.
fn work(teller: &mut Teller, redis: &mut Client, stop: &AtomicBool, waits: bool) {
    while !stop.load(Ordering::Relaxed) {
        match teller.send(redis, 1) {
            Ok(()) => {}
            Err(Trouble::Broken) => return,
            Err(trouble) => panic!("{trouble:?}"),
        }
        if waits && !matches!(redis.try_run("WAIT 1 20"), Ok(Value::Int(1..))) {
            continue;
        }
        teller.confirm();
    }
}

fn change_settings(redis: &mut Client, program: &Program, chance: &mut Chance) {
    if program.is_7_or_later() {
        for (name, least, most) in [("retention-days", 40, 400), ("once-days", 7, 30), ("seal-max-keys", 9_000, 20_000)]
        {
            redis.run(&format!("CONFIG SET meter.{name} {}", chance.between(least, most)));
        }
    }
    redis.run(&format!("CONFIG SET hz {}", chance.between(1, 100)));
    redis.run(
        &format!("CONFIG SET list-max-listpack-size {}", chance.between(4, 128))
            .replace("listpack", if program.is_7_or_later() { "listpack" } else { "ziplist" }),
    );
}

#[test]
fn the_ledgers_balance_and_memory_is_freed_after_every_disturbance() {
    let seconds = setting("METER_SOAK_SECONDS").unwrap_or(40);
    let seed = setting("METER_SOAK_SEED").unwrap_or_else(|| now_ms().unsigned_abs());
    eprintln!("METER_SOAK_SEED={seed}");
    on_every_program(|program| {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut chance = Chance::new(seed);
        let mut primary = Server::start(program, &options(program));
        let mut follower = replica(&primary);
        let mut tellers: Vec<Teller> = (0..TELLERS).map(|number| Teller::new(number, seed, now_ms())).collect();
        let mut shared = Counts::new();
        let mut happened: BTreeMap<Event, u64> = BTreeMap::new();
        let mut round = 0;
        while Instant::now() < end {
            if round % 8 == 0 {
                // Shared limiters that are full would prove nothing more; days deleted from the meters make room in
                // memory.
                let owner = format!("{{all}}:{}", round / 8);
                if round > 0 {
                    clear(&mut primary.connect(), &format!("{{all}}:{}", round / 8 - 1));
                    assert!(tellers.iter_mut().all(Teller::forget_shared));
                }
                tellers.iter_mut().for_each(|teller| teller.shares = Some(owner.clone()));
                shared.clear();
            }
            round += 1;
            let event = chance.pick(&EVENTS);
            *happened.entry(event).or_default() += 1;
            primary.wait_for_replica(&follower);
            let mut clients: Vec<Client> = tellers.iter().map(|_| primary.connect()).collect();
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let stop = StopOnDrop(&stop);
                for (teller, redis) in tellers.iter_mut().zip(&mut clients) {
                    let stop = stop.0;
                    scope.spawn(move || work(teller, redis, stop, event == Event::Failover));
                }
                thread::sleep(Duration::from_millis(20 + chance.below(200)));
                let mut redis = primary.connect();
                match event {
                    Event::Nothing => {}
                    Event::Restart => primary.restart("NOSAVE"),
                    Event::Kill => drop(crash(&mut primary)),
                    Event::Failover => primary.kill(),
                    Event::Unload => assert!(redis.try_run("MODULE UNLOAD meter").is_err()),
                    Event::Settings => change_settings(&mut redis, program, &mut chance),
                    Event::Rewrite => drop(redis.try_run("BGREWRITEAOF")),
                }
                thread::sleep(Duration::from_millis(20 + chance.below(50)));
            });
            if event == Event::Failover {
                follower.connect().run("REPLICAOF NO ONE");
                primary = follower;
                follower = replica(&primary);
            }
            balance(&mut primary.connect(), &mut tellers, &mut shared);
        }

        let mut redis = primary.connect();
        for owner in tellers.iter().map(|teller| &teller.owner).chain(&tellers[0].shares) {
            clear(&mut redis, owner);
        }
        eventually("what has expired is gone", || redis.int("DBSIZE") == 0);
        let tally = Tally::of(&tellers);
        eprintln!("{} {:?}: {happened:?}, {tally:?}", program.product, program.version);
        assert_memory_comes_back(&mut redis, seed);
    });
}

/// Another round of traffic leaves no more memory in use than the one before.
fn assert_memory_comes_back(redis: &mut Client, seed: u64) {
    let mut used = Vec::new();
    for round in 0..4 {
        // The same calls each time, except for the first round, which fills the server's own buffers.
        let mut tellers = [Teller::new(0, seed + round / 2, now_ms())];
        for _ in 0..60 {
            tellers[0].send(redis, 40).expect("answers");
            tellers[0].confirm();
        }
        balance(redis, &mut tellers, &mut Counts::new());
        for owner in [&tellers[0].owner, testkit::ledger::SHARED] {
            clear(redis, owner);
        }
        thread::sleep(Duration::from_millis(200));
        used.push(redis.info_field("memory", "used_memory").expect("a field").parse::<i64>().expect("bytes"));
    }
    let kept = used[3] - used[1];
    eprintln!("{kept} bytes kept of {used:?}");
    assert!(kept < 40_000, "4800 calls left {kept} bytes: {used:?}");
}

/// Stops the threads that check it, also when a test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
