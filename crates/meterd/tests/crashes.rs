//! Whoever dies on the way of a batch, and when: what is in SQL is what was counted, to the unit.
//!
//! Writers hit finished days all the time. An archiver runs again and again, and at a step chosen by chance, a piece of
//! bytes that goes to or comes from Redis or the database, the archiver, Redis or the database is killed. At the end the
//! tables must equal the writers' own ledger. `METERD_KILL_ROUNDS` is the number of runs for each database (default
//! 200): give more for a longer run. A run prints its seed; `METERD_KILL_SEED` repeats its choices, but not what meets
//! what, which is up to the clock.

mod sql;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sql::ledger::{Hit, Ledger};
use sql::steps::Steps;
use sql::{is_server, meterd, run, said};
use testkit::database::{Database, ENGINES, Engine};
use testkit::{Random, Server, now_ms, setting, sleep_ms};

/// Between two hits of a writer.
const PAUSE_MS: i64 = 3;
/// How long an archiver may take when nobody is killed.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_crash_at_any_step_neither_loses_nor_doubles_a_count() {
    let rounds = setting("METERD_KILL_ROUNDS", 200);
    let seed = setting("METERD_KILL_SEED", now_ms().unsigned_abs());
    eprintln!("METERD_KILL_SEED={seed}");
    std::thread::scope(|scope| {
        for engine in ENGINES {
            scope.spawn(move || try_engine(engine, seed, rounds));
        }
    });
}

fn try_engine(engine: Engine, seed: u64, rounds: u64) {
    let mut database = Database::start(engine);
    let archive = database.fresh();
    let disk = ["--appendonly", "yes", "--appendfsync", "always"];
    let program = testkit::programs().last().expect("a program");
    // A day or two a batch, so that there are more of them.
    let mut server = Server::with_module(program, "seal-max-keys 20", &disk);
    let trial = Trial::new(&server, &database, &archive, seed ^ database.port() as u64);
    let port = server.port;
    let deaths = std::thread::scope(|scope| {
        scope.spawn(|| trial.write(port));
        let _stop = Stop(&trial.is_over);
        trial.kill(&mut server, &mut database, rounds)
    });
    run(&server, &archive, &["archive", "--once"]);

    let ledger = trial.ledger.lock().expect("the ledger").clone();
    let mut redis = server.connect();
    ledger.assert_equals(&archive, &mut redis);
    for pattern in ["*:batch", "*:sealed:*", "*:path*"] {
        assert_eq!(redis.strings(&format!("KEYS {pattern}")), [""; 0]);
    }
    let killed: u64 = deaths.values().sum();
    assert!(killed >= rounds / 2, "{engine:?}: only {killed} deaths: {deaths:?}");
    eprintln!("{engine:?}: {} hits, {} batches, deaths: {deaths:?}", ledger.hits, sql::batches(&archive));
}

struct Trial {
    steps: Steps,
    redis: u16,
    archive: String,
    seed: u64,
    has_server: bool,
    ledger: Mutex<Ledger>,
    is_over: AtomicBool,
}

/// Ends the writers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Archiver,
    Redis,
    Database,
}

impl Trial {
    fn new(server: &Server, database: &Database, archive: &str, seed: u64) -> Self {
        let steps = Steps::default();
        let has_server = is_server(database.engine);
        let through = if has_server {
            let link = steps.link(database.port());
            archive.replace(&format!(":{}/", database.port()), &format!(":{link}/"))
        } else {
            archive.to_owned()
        };
        let redis = steps.link(server.port);
        Self {
            steps,
            redis,
            archive: through,
            seed,
            has_server,
            ledger: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Hits until the trial is over. A hit whose answer is lost is sent again: it counts once.
    fn write(&self, port: u16) {
        let (mut random, now, mut redis) = (Random::new(self.seed | 1), now_ms(), None);
        for event in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let hit = Hit::random(&mut random, now, event);
            let start = Instant::now();
            loop {
                let client = match redis.take() {
                    Some(client) => Ok(client),
                    None => testkit::Client::to(port),
                };
                if let Ok(mut client) = client
                    && hit.try_send(&mut client).is_ok()
                {
                    redis = Some(client);
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "no answer to a hit");
                sleep_ms(5);
            }
            self.ledger.lock().expect("the ledger").count(&hit);
            sleep_ms(PAUSE_MS);
        }
    }

    /// Runs archivers and kills; who died how often.
    fn kill(&self, server: &mut Server, database: &mut Database, rounds: u64) -> BTreeMap<Victim, u64> {
        let mut random = Random::new(self.seed.rotate_left(17) | 1);
        let (mut deaths, mut steps) = (BTreeMap::new(), 40);
        for round in 0..rounds {
            let victim = match round % 16 {
                3 | 9 => Victim::Redis,
                13 if self.has_server => Victim::Database,
                _ => Victim::Archiver,
            };
            let step = 1 + random.below(steps) as u64;
            let reached = self.steps.order(step, random.below(2) == 0);
            let mut archiver = self.archiver(server);
            // SQLite is written between two pieces of bytes of Redis.
            let pause = if self.has_server { 0 } else { random.below(12) as i64 };
            let start = Instant::now();
            while archiver.try_wait().expect("a status").is_none() {
                if reached.is_now() {
                    if pause > 0 {
                        reached.go_on();
                        sleep_ms(pause);
                    }
                    kill(victim, &mut archiver, server, database);
                    *deaths.entry(victim).or_default() += 1;
                    reached.go_on();
                }
                assert!(start.elapsed() < PATIENCE, "the archiver does not end");
                std::thread::sleep(Duration::from_micros(300));
            }
            let output = archiver.wait_with_output().expect("an end");
            let text = said(&output);
            assert!(!text.contains("panicked"), "{text}");
            if output.status.success() {
                steps = usize::try_from(self.steps.passed()).expect("small").clamp(10, 400);
            }
        }
        self.steps.restart();
        deaths
    }

    fn archiver(&self, server: &Server) -> Child {
        let mut command = meterd(server, &self.archive, &["archive", "--once"]);
        command.env("METERD_REDIS", format!("redis://127.0.0.1:{}", self.redis));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("meterd")
    }
}

fn kill(victim: Victim, archiver: &mut Child, server: &mut Server, database: &mut Database) {
    match victim {
        Victim::Archiver => archiver.kill().expect("a signal"),
        Victim::Redis => server.kill_and_restart(),
        Victim::Database => {
            database.kill();
            database.restart();
        }
    }
}
