//! Changes without a consumer are not propagated, and no consumer misses one: replicas that attach and detach, chains of
//! them, promotions, AOFs that are switched on and off, restarts and snapshots, at random moments under load.
//!
//! `METER_ROUNDS` sets the number of rounds in each of several worlds on each server, `METER_TRAFFIC_SEED` repeats a
//! run as far as its moments can be repeated.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{
    Client, Program, Random, Server, assert_same, eventually, now_ms, on_every_program, on_every_server, setting,
    sleep_ms, stored_keys,
};

/// Whether changes are propagated.
fn is_replicating(redis: &mut Client) -> bool {
    redis.info_field("meter", "meter_effects_replicated").expect("a field") == "1"
}

/// Changes something, until the module has found that there is no consumer.
fn stops_replicating(redis: &mut Client, how: &str) {
    eventually(how, || {
        redis.run("METER.HIT warm");
        !is_replicating(redis)
    });
}

/// Changes something for longer than it takes the module to find that there is no consumer.
#[track_caller]
fn keeps_replicating(redis: &mut Client, how: &str) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(700) {
        redis.run("METER.HIT warm");
        assert!(is_replicating(redis), "{how}");
        sleep_ms(20);
    }
}

fn is_idle(redis: &mut Client) -> bool {
    ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]
        .iter()
        .all(|field| redis.info_field("persistence", field).expect("a field") == "0")
}

#[test]
fn effects_are_replicated_from_the_moment_that_there_may_be_a_listener() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert!(is_replicating(&mut redis), "until INFO has reported that there is no consumer");
        stops_replicating(&mut redis, "a server alone");

        redis.run("CONFIG SET appendonly yes");
        assert!(is_replicating(&mut redis), "the AOF is switched on");
        keeps_replicating(&mut redis, "an AOF");
        redis.run("CONFIG SET appendonly no");
        stops_replicating(&mut redis, "the AOF is switched off");

        redis.run("BGSAVE");
        assert!(is_replicating(&mut redis), "a snapshot has begun");
        stops_replicating(&mut redis, "the snapshot is written");

        let replica = server.replica(&[]);
        assert!(is_replicating(&mut redis), "a replica has come");
        keeps_replicating(&mut redis, "a replica");
        replica.connect().run("REPLICAOF NO ONE");
        keeps_replicating(&mut redis, "a backlog");
        redis.run("CONFIG SET repl-backlog-ttl 1");
        stops_replicating(&mut redis, "the backlog has gone");
    });
}

#[test]
fn a_server_in_a_cluster_with_an_aof_or_with_the_setting_always_replicates() {
    on_every_program(|program| {
        for (module, server, how) in [
            ("", vec!["--cluster-enabled", "yes"], "a cluster"),
            ("", vec!["--appendonly", "yes"], "an AOF"),
            ("always-replicate yes", vec![], "always-replicate"),
        ] {
            let server = Server::with_module(program, module, &server);
            let mut redis = server.connect();
            if how == "a cluster" {
                redis.run(&format!("CLUSTER ADDSLOTS {}", slots()));
                eventually("the cluster is up", || redis.try_run("METER.HIT warm").is_ok());
            }
            keeps_replicating(&mut redis, how);
        }
        if program.is_7_or_later() {
            let server = Server::start(program, &[]);
            let mut redis = server.connect();
            stops_replicating(&mut redis, "a server alone");
            redis.run("CONFIG SET meter.always-replicate yes");
            keeps_replicating(&mut redis, "always-replicate");
            redis.run("CONFIG SET meter.always-replicate no");
            stops_replicating(&mut redis, "always-replicate no");
        }
    });
}

fn slots() -> String {
    (0..16_384).map(|slot| slot.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn without_a_listener_a_change_still_counts_and_fires_its_events() {
    on_every_program(|program| {
        let [told, untold] = ["yes", "no"].map(|always| {
            let server = Server::with_module(program, &format!("always-replicate {always}"), &[]);
            let mut redis = server.connect();
            redis.run("CONFIG SET notify-keyspace-events KEA");
            if always == "no" {
                stops_replicating(&mut redis, "a server alone");
                redis.run("FLUSHALL");
            }
            let mut listener = server.connect();
            listener.run("PSUBSCRIBE __keyevent@0__:*");
            let changes: Vec<u64> = calls(now_ms())
                .iter()
                .map(|line| {
                    // The count of changes is that since the last snapshot.
                    redis.run("SAVE");
                    let _ = redis.try_run(line);
                    let changes = redis.info_field("persistence", "rdb_changes_since_last_save").expect("a field");
                    changes.parse().expect("a number")
                })
                .collect();
            assert_eq!(is_replicating(&mut redis), always == "yes");
            assert!(changes.iter().filter(|&&n| n > 0).count() > 20, "{changes:?}");
            redis.run("PUBLISH __keyevent@0__:end end");
            (changes, events(&mut listener))
        });
        assert_eq!(untold, told);
    });
}

fn events(listener: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let push: Vec<String> =
            redis::from_redis_value(listener.0.recv_response().expect("an event")).expect("four texts");
        if push[3] == "end" {
            return all;
        }
        // A batch has a random name.
        let key = push[3].split(":sealed:").next().unwrap_or_default();
        all.push(format!("{} {key}", push[2]));
    }
}

/// Calls that change something in all ways.
fn calls(now: i64) -> Vec<String> {
    let many: Vec<String> = (0..700).map(|n| format!("c{n}")).collect();
    let mut all = vec![
        format!("METER.HIT m AT {now}"),
        format!("METER.HIT m AT {now} BY 3"),
        format!("METER.HIT m AT {now} BY -4"),
        format!("METER.HIT m AT {now} PATH 2 a b PATH 1 c"),
        format!("METER.HIT m AT {now} UNIQUE ann"),
        format!("METER.HIT m AT {now} ONCE event"),
        format!("METER.HIT m AT {now} ONCE event"),
        format!("METER.HIT m AT {now} BY 9 CAP DAY 20 CAP MONTH 90"),
        "METER.SEAL m".to_owned(),
        format!("METER.HIT m AT {now} PATH 1 a"),
        "METER.DROP m".to_owned(),
        "CELL.THROTTLE t 5 10 60".to_owned(),
        "CELL.THROTTLE t 5 10 60 -1".to_owned(),
        "CELL.THROTTLE t 5 10 60 9".to_owned(),
        "CELL.MTHROTTLE x 5 10 60 1 y 5 10 60 1 z 5 10 60 1".to_owned(),
        "CELL.WINDOW w 2 60".to_owned(),
        "CELL.WINDOW w 2 60".to_owned(),
        "CELL.WINDOW w 2 60 BLOCK 90".to_owned(),
        "CELL.LOG l 5000 60 1200".to_owned(),
        "CELL.LOG l 5000 60 -700".to_owned(),
        "CELL.SLIDE s 20 3600".to_owned(),
        "CELL.QUOTA q 20 DAY".to_owned(),
        "CELL.LEASE h 2 900 ann".to_owned(),
        "CELL.LEASE h 2 500 bob".to_owned(),
        "CELL.RELEASE h ann".to_owned(),
        "CELL.RELEASE h bob".to_owned(),
        format!("LPUSH queue {}", many.join(" ")),
        "CELL.PULL queue pace 5000 5000 86400 COUNT 600 INTO busy".to_owned(),
    ];
    all.extend(all.clone());
    all
}

/// Calls at random, each of which changes something mostly.
struct Traffic {
    random: Random,
    now: i64,
}

impl Traffic {
    fn line(&mut self) -> String {
        let (n, at) =
            (self.random.below(4), self.now - 3_600_000 * i64::try_from(self.random.below(60)).expect("small"));
        match self.random.below(22) {
            0..3 => format!("METER.HIT kpi:{n} AT {at}"),
            3 => format!("METER.HIT kpi:{n} AT {at} PATH 2 app{n} user{}", self.random.below(9)),
            4 => format!("METER.HIT kpi:{n} AT {at} UNIQUE id{}", self.random.below(900)),
            5 => format!("METER.HIT kpi:{n} AT {at} ONCE event{}", self.random.below(900)),
            6 => format!("METER.HIT kpi:{n} AT {at} BY 2 CAP DAY 90 CAP MONTH 2000"),
            7 => format!("METER.HIT kpi:{n} AT {at} BY -1"),
            8 => self.random.pick(&["METER.SEAL kpi:0", "METER.DROP kpi:1", "METER.SEAL kpi:2"]).to_owned(),
            9 | 10 => format!("CELL.THROTTLE t{n} 5000 5000 3600"),
            11 => format!("CELL.MTHROTTLE t{n} 5000 5000 3600 1 u{n} 5000 5000 3600 1"),
            12 => format!("CELL.WINDOW w{n} 5000 3600"),
            13 => format!("CELL.LOG l{n} 90 3600 {}", self.random.pick(&["1", "3", "-2"])),
            14 => format!("CELL.SLIDE s{n} 5000 7200"),
            15 => format!("CELL.QUOTA q{n} 5000 MONTH"),
            16 => format!("CELL.LEASE h 3 3600 holder{}", self.random.below(9)),
            17 => format!("CELL.RELEASE h holder{}", self.random.below(9)),
            18 => format!("LPUSH queue a{n} b{n}"),
            19 => format!("CELL.PULL queue pace 5000 5000 3600 COUNT 2 {}", self.random.pick(&["", "INTO busy"])),
            20 => self.random.pick(&["LTRIM busy 0 9", "DEL w0", "PERSIST t1", "UNLINK kpi:3"]).to_owned(),
            _ => format!("CELL.THROTTLE t{n} 5000 5000 3600 -1"),
        }
    }

    fn call(&mut self, redis: &mut Client) {
        match self.random.below(12) {
            0 => {
                redis.run("MULTI");
                for _ in 0..=self.random.below(4) {
                    let _ = redis.try_run(&self.line());
                }
                let _ = redis.try_run("EXEC");
            }
            1 => {
                let mut script = "if redis.replicate_commands then redis.replicate_commands() end".to_owned();
                for _ in 0..=self.random.below(3) {
                    let words: Vec<String> = self.line().split_whitespace().map(|word| format!("'{word}'")).collect();
                    script += &format!(" redis.pcall({})", words.join(","));
                }
                let _ = redis.try_call(&[b"EVAL", script.as_bytes(), b"0"]);
            }
            _ => drop(redis.try_run(&self.line())),
        }
    }
}

/// What happens amid the traffic.
#[derive(Clone, Copy, Debug)]
enum Event {
    Aof,
    AofInTransaction,
    Snapshot,
    Rewrite,
    Replica,
    Chain,
    Detach,
}

const EVENTS: [Event; 10] = [
    Event::Aof,
    Event::Aof,
    Event::Aof,
    Event::AofInTransaction,
    Event::AofInTransaction,
    Event::Snapshot,
    Event::Rewrite,
    Event::Replica,
    Event::Chain,
    Event::Detach,
];

/// A primary, and servers without the module that may become its replicas.
struct World {
    primary: Server,
    others: [Server; 2],
    random: Random,
}

/// The number of rounds that began without a consumer.
static UNTOLD: AtomicUsize = AtomicUsize::new(0);

impl World {
    fn new(program: &Program, seed: u64) -> Self {
        let primary = Server::start(program, &["--repl-backlog-ttl", "1", "--hz", "100"]);
        let others = [(); 2].map(|()| Server::bare(program, &["--repl-diskless-load", "disabled", "--hz", "100"]));
        Self { primary, others, random: Random::new(seed) }
    }

    fn happen(&mut self, event: Event) {
        let mut redis = self.primary.connect();
        let port = self.primary.port;
        let follow = |server: &Server, port: u16| drop(server.connect().run(&format!("REPLICAOF 127.0.0.1 {port}")));
        match event {
            Event::Aof => drop(redis.run("CONFIG SET appendonly yes")),
            Event::AofInTransaction => {
                // Amid a rewrite a server, since 7.0, begins its AOF without a file then, and denies all writes (MISCONF).
                eventually("no rewrite runs", || {
                    let fields = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
                    fields.iter().all(|field| redis.info_field("persistence", field).as_deref() == Some("0"))
                });
                redis.run("MULTI");
                for line in ["CELL.THROTTLE t0 5000 5000 3600", "CONFIG SET appendonly yes", "METER.HIT kpi:3 PATH 1 a"]
                {
                    redis.run(line);
                }
                redis.run("EXEC");
            }
            Event::Snapshot => drop(redis.try_run("BGSAVE")),
            Event::Rewrite => drop(redis.try_run("BGREWRITEAOF")),
            Event::Replica => {
                redis.run(&format!("CONFIG SET repl-diskless-sync {}", self.random.pick(&["yes", "no"])));
                follow(&self.others[0], port);
            }
            Event::Chain => {
                follow(&self.others[0], port);
                follow(&self.others[1], self.others[0].port);
            }
            Event::Detach => {
                for other in &self.others {
                    other.connect().run("REPLICAOF NO ONE");
                }
            }
        }
    }

    /// Traffic, with one or two things that happen amid it at random moments.
    fn drive(&mut self) -> Vec<Event> {
        let over = AtomicBool::new(false);
        let (seeds, port) = ([self.random.number(), self.random.number()], self.primary.port);
        let happened: Vec<Event> =
            (0..=self.random.below(2)).map(|_| EVENTS[self.random.below(EVENTS.len())]).collect();
        thread::scope(|scope| {
            for seed in seeds {
                let over = &over;
                scope.spawn(move || {
                    let mut redis = Client::to(port).expect("a connection");
                    let mut traffic = Traffic { random: Random::new(seed), now: now_ms() };
                    while !over.load(Ordering::Relaxed) {
                        traffic.call(&mut redis);
                    }
                });
            }
            let over = &over;
            // Also where something fails.
            let _ends = Ends(over);
            scope.spawn(move || {
                let mut redis = Client::to(port).expect("a connection");
                while !over.load(Ordering::Relaxed) {
                    let _ = redis.try_run("CELL.PULL queue pace 5000 5000 3600 TIMEOUT 0.01 INTO busy");
                    let _ = redis.try_run("CELL.LEASE h 3 3600 waiter TIMEOUT 0.01");
                }
            });
            for event in &happened {
                self.pause(15);
                self.happen(*event);
            }
            self.pause(25);
        });
        happened
    }

    fn pause(&mut self, most: usize) {
        sleep_ms(i64::try_from(self.random.below(most)).expect("small"));
    }

    /// Each of those that listen has what the primary has.
    fn check(&mut self, happened: &[Event]) {
        let mut redis = self.primary.connect();
        let mut source = &self.primary;
        let mut replicas = Vec::new();
        for other in &self.others {
            let mut redis = other.connect();
            let port = redis.info_field("replication", "master_port");
            if port == Some(source.port.to_string()) {
                source.wait_for_replica(other);
                replicas.push(other);
            }
            source = other;
        }
        let expected = stored_keys(&self.primary, 1);
        for replica in replicas {
            assert_same(&stored_keys(replica, 1), &expected, &format!("a replica, after {happened:?}"));
        }
        if redis.info_field("persistence", "aof_enabled").as_deref() == Some("1") {
            eventually("the AOF is rewritten", || is_idle(&mut redis));
            redis.run("DEBUG LOADAOF");
            assert_same(&stored_keys(&self.primary, 1), &expected, &format!("the AOF, after {happened:?}"));
        }
    }

    /// Mostly there is no consumer when the next round begins.
    fn calm_down(&mut self) {
        let mut redis = self.primary.connect();
        if self.random.below(4) > 0 {
            redis.run("CONFIG SET appendonly no");
            self.happen(Event::Detach);
            eventually("it has no children", || is_idle(&mut redis));
            stops_replicating(&mut redis, "without a consumer");
            UNTOLD.fetch_add(1, Ordering::Relaxed);
        }
        if self.random.below(20) == 0 {
            // An RDB holds what a replica needs to go on.
            let appends = redis.info_field("persistence", "aof_enabled").as_deref() == Some("1");
            let before = stored_keys(&self.primary, 1);
            self.primary.restart("SAVE");
            if !appends {
                assert_same(&stored_keys(&self.primary, 1), &before, "a restart");
            }
        }
    }
}

/// Ends the traffic when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// In several worlds at once.
fn in_worlds(count: u64, run: impl Fn(&Program, u64) + Sync) {
    let seed = setting("METER_TRAFFIC_SEED", now_ms().unsigned_abs());
    println!("METER_TRAFFIC_SEED={seed}");
    on_every_program(|program| {
        thread::scope(|scope| {
            for world in 0..count {
                let run = &run;
                scope.spawn(move || run(program, seed.wrapping_add(world)));
            }
        });
    });
}

#[test]
fn a_listener_that_begins_at_any_moment_misses_nothing() {
    let rounds = setting("METER_ROUNDS", 12);
    in_worlds(3, |program, seed| {
        let mut world = World::new(program, seed);
        for _ in 0..rounds {
            let happened = world.drive();
            world.check(&happened);
            world.calm_down();
        }
    });
    assert!(UNTOLD.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_replica_that_is_promoted_and_one_that_comes_back_miss_nothing() {
    let rounds = setting("METER_ROUNDS", 3);
    in_worlds(1, |program, seed| {
        let mut random = Random::new(seed);
        let start = || Server::start(program, &["--hz", "100"]);
        let [mut primary, mut replica] = [start(), start()];
        stops_replicating(&mut primary.connect(), "without a consumer");
        for round in 0..rounds {
            let mut traffic = Traffic { random: Random::new(seed + round), now: now_ms() };
            let mut redis = primary.connect();
            let mut calls = |redis: &mut Client| (0..200).for_each(|_| traffic.call(redis));
            calls(&mut redis);
            replica.connect().run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
            calls(&mut redis);
            primary.wait_for_replica(&replica);
            assert_same(&stored_keys(&replica, 1), &stored_keys(&primary, 1), "a replica");
            if random.below(2) == 0 {
                // It is away, while its primary counts on, or restarts.
                replica.connect().run("CLIENT KILL TYPE master");
                primary.connect().run("CLIENT KILL TYPE replica");
                calls(&mut redis);
                if random.below(2) == 0 {
                    primary.restart("SAVE");
                    redis = primary.connect();
                    calls(&mut redis);
                }
                primary.wait_for_replica(&replica);
                assert_same(&stored_keys(&replica, 1), &stored_keys(&primary, 1), "a replica that came back");
            }
            std::mem::swap(&mut primary, &mut replica);
            primary.connect().run("REPLICAOF NO ONE");
        }
    });
}
