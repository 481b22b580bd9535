//! A failover loses nothing that was acknowledged and that a replica has confirmed (`WAIT`), doubles nothing, and
//! leaves no call half done. Acknowledged calls that were not confirmed may be lost; then each is lost whole, the last
//! calls first.
//!
//! `METER_FAILOVER_ROUNDS` is how often each server program fails over by hand (6 by default). A run prints its seed;
//! `METER_FAILOVER_SEED` repeats the calls and the moments. `cargo test --test failover -- --nocapture` shows
//! statistics of all calls and of lost ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ledger::{Chance, Counts, Tally, Teller, Trouble, balance, read, setting};
use testkit::{Client, PATIENCE, Program, Server, Value, eventually, module, now_ms, on_every_program};

const TELLERS: u64 = 3;
const MOST_AT_ONCE: u64 = 8;

fn seed() -> u64 {
    let seed = setting("METER_FAILOVER_SEED").unwrap_or_else(|| now_ms().unsigned_abs());
    eprintln!("METER_FAILOVER_SEED={seed}");
    seed
}

fn report(program: &Program, what: &str, tellers: &[Teller]) -> Tally {
    let tally = Tally::of(tellers);
    eprintln!("{} {:?}: {what}, {tally:?}", program.product, program.version);
    tally
}

fn replica_with_module(primary: &Server) -> Server {
    primary.replica(&["--loadmodule", &module().display().to_string()])
}

/// Sends calls until the server crashes, and confirms the calls that the replica has.
fn work(teller: &mut Teller, redis: &mut Client, chance: &mut Chance) {
    loop {
        match teller.send(redis, 1 + chance.below(MOST_AT_ONCE)) {
            Ok(()) => {}
            Err(Trouble::Broken) => return,
            Err(trouble) => panic!("{trouble:?}"),
        }
        if chance.below(3) == 0 {
            match redis.try_run("WAIT 1 20") {
                Ok(Value::Int(0)) => {}
                Ok(_) => teller.confirm(),
                Err(_) => return,
            }
        }
    }
}

#[test]
fn calls_that_the_replica_confirmed_survive_each_failover_and_none_is_doubled_or_half_done() {
    let rounds = setting("METER_FAILOVER_ROUNDS").unwrap_or(6);
    let seed = seed();
    on_every_program(|program| {
        let mut primary = Server::start(program, &[]);
        let mut tellers: Vec<Teller> = (0..TELLERS).map(|number| Teller::new(number, seed, now_ms())).collect();
        let mut chance = Chance::new(seed);
        let mut shared = Counts::new();
        let (mut tally, mut round) = (Tally::default(), 0);
        // It may come while all clients wait for the replica: then some more, until it has interrupted calls of each
        // kind.
        while round < rounds || tally.unanswered == 0 || tally.lost == 0 || tally.redelivered == 0 {
            assert!(round < 10 * rounds, "nothing is at stake: {tally:?}");
            let replica = replica_with_module(&primary);
            let mut clients: Vec<Client> = tellers.iter().map(|_| primary.connect()).collect();
            thread::scope(|scope| {
                for (teller, redis) in tellers.iter_mut().zip(&mut clients) {
                    let mut chance = Chance::new(chance.below(u64::MAX));
                    scope.spawn(move || work(teller, redis, &mut chance));
                }
                thread::sleep(Duration::from_millis(20 + chance.below(100)));
                if round % 2 == 1 {
                    // The network separates them, and the primary still serves for a while.
                    replica.connect().run("REPLICAOF NO ONE");
                    thread::sleep(Duration::from_millis(chance.below(30)));
                }
                primary.kill();
            });
            replica.connect().run("REPLICAOF NO ONE");
            primary = replica;
            balance(&mut primary.connect(), &mut tellers, &mut shared);
            tally = Tally::of(&tellers);
            round += 1;
        }
        eprintln!("{} {:?}: {round} failovers, {tally:?}", program.product, program.version);
    });
}

#[test]
fn a_promoted_limiter_admits_again_exactly_the_cells_that_were_not_replicated() {
    // A limiter with room for 15, and the position of `limited` in its reply.
    let calls = [
        "CELL.THROTTLE u 14 1 86400",
        "CELL.WINDOW u 15 1000000",
        "CELL.LOG u 15 1000000",
        "CELL.SLIDE u 15 1000000000",
    ];
    on_every_program(|program| {
        for call in calls {
            let mut primary = Server::start(program, &[]);
            let replica = replica_with_module(&primary);
            let (mut redis, mut promoted) = (primary.connect(), replica.connect());
            assert_eq!(redis.ints(&format!("{call} 9"))[0], 0, "{call}");
            assert_eq!(redis.int("WAIT 1 20000"), 1);
            promoted.run("REPLICAOF NO ONE");
            assert_eq!(redis.ints(&format!("{call} 4"))[..3], [0, 15, 2], "{call}");
            primary.kill();
            let mut admitted = 0;
            while promoted.ints(call)[0] == 0 {
                admitted += 1;
            }
            assert_eq!(admitted, 6, "{call}: 15, less the 9 that were replicated");
        }
    });
}

/// Three masters, each with a replica.
struct Cluster {
    nodes: Vec<Server>,
}

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

impl Cluster {
    fn start(program: &Program) -> Self {
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--cluster-replica-validity-factor", "0"];
        let nodes: Vec<Server> = (0..2 * MASTERS).map(|_| Server::start(program, &options)).collect();
        for (place, node) in nodes.iter().enumerate() {
            let mut redis = node.connect();
            if place < MASTERS {
                let slots = place * SLOTS / MASTERS..(place + 1) * SLOTS / MASTERS;
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                redis.run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
                redis.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1));
            }
            if place > 0 {
                redis.run(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port));
            }
        }
        for place in MASTERS..2 * MASTERS {
            let id = nodes[place - MASTERS].connect().string("CLUSTER MYID").expect("an id");
            let mut redis = nodes[place].connect();
            eventually("a node knows its master", || redis.try_run(&format!("CLUSTER REPLICATE {id}")).is_ok());
        }
        for node in &nodes {
            let mut redis = node.connect();
            eventually("the cluster is up", || {
                redis.string("CLUSTER INFO").is_some_and(|info| info.contains("cluster_state:ok"))
                    && redis.string("CLUSTER NODES").is_some_and(|nodes| nodes.matches("slave").count() == MASTERS)
            });
        }
        let cluster = Self { nodes };
        for place in 0..MASTERS {
            let mut redis = cluster.nodes[place].connect();
            eventually("a master has its replica", || {
                redis.info_field("replication", "slave0").is_some_and(|slave| slave.contains("state=online"))
            });
        }
        cluster
    }

    fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// The place of the node that serves a teller's keys.
    fn owner(&self, teller: &Teller) -> usize {
        let (port, _) = connect_to_owner(&self.ports(), &teller.owner);
        self.nodes.iter().position(|node| node.port == port).expect("a node")
    }

    /// The place of the replica of a master.
    fn replica_of(&self, master: usize) -> usize {
        let port = self.nodes[master].port.to_string();
        let follows = |node: &Server| node.connect().info_field("replication", "master_port") == Some(port.clone());
        self.nodes.iter().position(follows).expect("a replica")
    }
}

/// Connects to the node that serves an owner's keys, as soon as there is one, and its port.
fn connect_to_owner(ports: &[u16], owner: &str) -> (u16, Client) {
    let start = Instant::now();
    while start.elapsed() < 2 * PATIENCE {
        for &port in ports {
            if let Some(mut redis) = Client::to(port).ok()
                && redis.try_run(&format!("GET {owner}:nothing")).is_ok()
            {
                return (port, redis);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("no node serves {owner}")
}

/// Sends calls until it is stopped, one at a time, to the node that serves them.
fn follow(teller: &mut Teller, ports: &[u16], chance: &mut Chance, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let (_, mut redis) = connect_to_owner(ports, &teller.owner);
        let Ok(stored) = read(&mut redis, &teller.owner) else { continue };
        teller.settle(&stored);
        while !stop.load(Ordering::Relaxed) {
            match teller.send(&mut redis, 1) {
                Ok(()) if chance.below(3) > 0 => continue,
                Ok(()) => {}
                Err(Trouble::Broken) => break,
                Err(Trouble::Refused(text)) => {
                    let moves = ["MOVED ", "CLUSTERDOWN ", "TRYAGAIN ", "READONLY ", "LOADING ", "MASTERDOWN "];
                    assert!(moves.iter().any(|code| text.starts_with(code)), "{text}");
                    break;
                }
            }
            match redis.try_run("WAIT 1 100") {
                Ok(Value::Int(0)) => {}
                Ok(_) => teller.confirm(),
                Err(_) => break,
            }
        }
    }
}

#[test]
fn clients_that_follow_a_cluster_through_failovers_lose_nothing_that_was_confirmed() {
    let seed = seed();
    on_every_program(|program| {
        let mut cluster = Cluster::start(program);
        let ports = cluster.ports();
        let mut tellers: Vec<Teller> = (0..TELLERS).map(|number| Teller::new(number, seed, now_ms())).collect();
        // Keys of several slots cannot be sent to one node; each keeps to its own.
        tellers.iter_mut().for_each(|teller| teller.shares = None);
        let mut chance = Chance::new(seed);

        let mut under_load = |tellers: &mut [Teller], fail_over: &mut dyn FnMut()| {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let stop = StopOnDrop(&stop);
                for teller in &mut *tellers {
                    let (mut chance, ports, stop) = (Chance::new(chance.below(u64::MAX)), &ports, stop.0);
                    scope.spawn(move || follow(teller, ports, &mut chance, stop));
                }
                thread::sleep(Duration::from_millis(300));
                fail_over();
                thread::sleep(Duration::from_millis(300));
            });
            for teller in tellers {
                let (_, mut redis) = connect_to_owner(&ports, &teller.owner);
                teller.settle(&read(&mut redis, &teller.owner).expect("the keys of a teller"));
            }
        };

        let master = cluster.owner(&tellers[0]);
        let replica = cluster.replica_of(master);
        under_load(&mut tellers, &mut || {
            let mut redis = cluster.nodes[replica].connect();
            redis.run("CLUSTER FAILOVER");
            eventually("the replica takes over", || {
                redis.info_field("replication", "role").as_deref() == Some("master")
            });
        });
        let tally = report(program, "CLUSTER FAILOVER", &tellers);
        assert_eq!(tally.lost, 0, "a failover that was asked for loses nothing");

        let master = cluster.owner(&tellers[1]);
        let replica = cluster.replica_of(master);
        under_load(&mut tellers, &mut || {
            cluster.nodes[master].kill();
            let mut redis = cluster.nodes[replica].connect();
            eventually("the replica takes over", || {
                redis.info_field("replication", "role").as_deref() == Some("master")
            });
        });
        let after = report(program, "and a master that was killed", &tellers);
        assert!(after.answered > tally.answered, "{after:?}");
    });
}

/// Stops the threads that check it, also when a test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
