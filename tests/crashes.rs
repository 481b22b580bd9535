//! A server with `appendfsync always` that is killed again and again loses nothing that it has acknowledged, doubles
//! nothing, and leaves no call half done.
//!
//! `METER_CRASH_ROUNDS` is how often the server is killed on each server program (30 by default). A run prints its
//! seed;
//! `METER_CRASH_SEED` repeats the calls and the moments, but not their interleaving, which depends on the clock.
//! `cargo test --test crashes -- --nocapture` shows statistics.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use testkit::ledger::{Chance, Counts, Tally, Teller, Trouble, assert_given_once, balance, crash, read, setting};
use testkit::{Client, Server, now_ms, on_every_program};

const AOF: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
const TELLERS: u64 = 4;
/// The number of calls that a teller sends at once.
const MOST_AT_ONCE: u64 = 8;

fn seed() -> u64 {
    let seed = setting("METER_CRASH_SEED").unwrap_or_else(|| now_ms().unsigned_abs());
    eprintln!("METER_CRASH_SEED={seed}");
    seed
}

/// Sends calls until the server dies.
fn work(teller: &mut Teller, redis: &mut Client, chance: &mut Chance) {
    loop {
        let outcome = teller.send(redis, 1 + chance.below(MOST_AT_ONCE));
        // Calls with a reply are on disk.
        teller.confirm();
        match outcome {
            Ok(()) => {}
            Err(Trouble::Broken) => return,
            Err(trouble) => panic!("{trouble:?}"),
        }
    }
}

#[test]
fn through_kills_under_load_nothing_acknowledged_is_lost_and_nothing_is_doubled_or_half_done() {
    let rounds = setting("METER_CRASH_ROUNDS").unwrap_or(30);
    let seed = seed();
    on_every_program(|program| {
        let mut server = Server::start(program, &AOF);
        let mut tellers: Vec<Teller> = (0..TELLERS).map(|number| Teller::new(number, seed, now_ms())).collect();
        let mut chance = Chance::new(seed);
        let (mut shared, mut torn) = (Counts::new(), 0);
        let (mut tally, mut round) = (Tally::default(), 0);
        // Some more on a machine so slow that none has met calls of each kind.
        while round < rounds || tally.unanswered == 0 || tally.happened == 0 || tally.redelivered == 0 {
            assert!(round < 10 * rounds, "the kills meet no call: {tally:?}");
            if round % 8 == 0 {
                // Shared limiters that are full would prove nothing more.
                tellers.iter_mut().for_each(|teller| teller.shares = Some(format!("{{all}}:{}", round / 8)));
                shared.clear();
            }
            let mut clients: Vec<Client> = tellers.iter().map(|_| server.connect()).collect();
            if chance.below(4) == 0 {
                server.connect().run("BGREWRITEAOF");
            }
            thread::scope(|scope| {
                for (teller, redis) in tellers.iter_mut().zip(&mut clients) {
                    let mut chance = Chance::new(chance.below(u64::MAX));
                    scope.spawn(move || work(teller, redis, &mut chance));
                }
                thread::sleep(Duration::from_micros(500 + chance.below(30_000)));
                // A server ends with the thread that has started it: this one.
                torn += u64::from(crash(&mut server));
            });
            balance(&mut server.connect(), &mut tellers, &mut shared);
            assert_given_once(&tellers);
            tally = Tally::of(&tellers);
            round += 1;
        }
        assert_eq!(tally.lost, 0);
        eprintln!("{} {:?}: {round} kills, {torn} torn AOFs, {tally:?}", program.product, program.version);
    });
}

#[test]
fn an_aof_that_is_cut_anywhere_holds_all_of_each_call_or_nothing() {
    let cuts = setting("METER_CRASH_CUTS").unwrap_or(10);
    let seed = seed();
    on_every_program(|program| {
        let mut server = Server::start(program, &AOF);
        let mut teller = Teller::new(0, seed, now_ms());
        teller.shares = None;
        for _ in 0..40 {
            teller.send(&mut server.connect(), 10).expect("answers");
        }
        server.kill();
        let file = file_of_commands(&server);
        let whole = fs::read(&file).expect("the commands");
        let mut chance = Chance::new(seed);
        for _ in 0..cuts {
            let length = chance.below(whole.len() as u64);
            fs::write(&file, &whole[..usize::try_from(length).expect("small")]).expect("a file");
            server.kill_and_restart();
            // None of the calls with a reply was confirmed: any prefix of them is right.
            teller.clone().settle(&read(&mut server.connect(), &teller.owner).expect("the keys of a teller"));
            server.kill();
        }
    });
}

/// The file of the commands since the AOF began.
fn file_of_commands(server: &Server) -> PathBuf {
    let folder = server.folder.path();
    let several = folder.join("appendonlydir").join("appendonly.aof.1.incr.aof");
    if several.exists() { several } else { folder.join("appendonly.aof") }
}
