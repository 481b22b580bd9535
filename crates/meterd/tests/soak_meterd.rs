//! Everything at once, for a while: two meterd count, archive and answer, while they and Redis are killed, ended, stopped
//! and started again. At the end what they answer, over Redis and SQL, is what their clients' ledger says, to the unit.
//!
//! `METER_SOAK_SECONDS` is how long (60 by default). A run prints its seed; `METER_SOAK_SEED` repeats the order of events.

mod service;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use service::traffic::{Traffic, usage};
use service::{Meterd, server};
use testkit::{Random, Server, eventually, now_ms, setting, sleep_ms};

const EVENT_CLIENTS: usize = 8;
const SESSION_CLIENTS: usize = 4;
/// The slowest answer: two calls of a second each, and what a loaded machine adds.
const SLOWEST: Duration = Duration::from_secs(8);

/// What befalls the service under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    KillMeterd,
    EndMeterd,
    KillRedis,
    StopRedis,
    Nothing,
}

const EVENTS: [Event; 5] = [Event::KillMeterd, Event::EndMeterd, Event::KillRedis, Event::StopRedis, Event::Nothing];

/// What each meterd is started with: they archive to the same file, each second.
struct Setup {
    redis: String,
    file: String,
}

impl Setup {
    fn of(server: &Server) -> Self {
        let archive = server.folder.path().join("archive.db");
        Self {
            redis: format!("redis://127.0.0.1:{}", server.port),
            file: format!("[archive]\nurl = \"sqlite:{}\"\nevery = \"1s\"\n", archive.display()),
        }
    }

    fn start(&self) -> Meterd {
        Meterd::with(&self.redis, &self.file)
    }
}

fn befall(event: Event, random: &mut Random, server: &mut Server, services: &mut [Meterd; 2], traffic: &Traffic) {
    let which = random.below(2);
    match event {
        Event::KillMeterd | Event::EndMeterd => {
            if event == Event::EndMeterd {
                services[which].signal("TERM");
                assert!(services[which].wait().success(), "{}", services[which].log());
            } else {
                services[which].kill();
            }
            services[which] = Setup::of(server).start();
            traffic.ports[which].store(services[which].port, Ordering::Relaxed);
        }
        Event::KillRedis => server.kill_and_restart(),
        Event::StopRedis => {
            let _frozen = server.freeze();
            thread::sleep(Duration::from_millis(100 + random.below(1400) as u64));
        }
        Event::Nothing => {}
    }
}

/// Asks for what was counted all the time: never less than was told to be counted before the question, never more than
/// was sent by the time of the answer.
fn ask(traffic: &Traffic, setup: &Setup) -> u64 {
    let meterd = setup.start();
    let mut answers = 0;
    while !traffic.is_over() {
        for ((meter, day), least) in traffic.counted() {
            let Some(count) = usage(&meterd, &meter, &day, &day) else { continue };
            let most = traffic.sent()[&(meter.clone(), day.clone())];
            assert!((least..=most).contains(&count), "{meter} {day}: {least} to {most}, and not {count}");
            answers += 1;
        }
        sleep_ms(50);
    }
    answers
}

#[test]
fn whatever_is_killed_or_stopped_the_ledger_is_exact() {
    let seconds = setting("METER_SOAK_SECONDS", 60);
    let seed = setting("METER_SOAK_SEED", now_ms().unsigned_abs());
    eprintln!("METER_SOAK_SEED={seed}");
    let mut random = Random::new(seed);
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]);
    let setup = Setup::of(&server);
    let mut services = [setup.start(), setup.start()];
    let traffic = Traffic::to(&[services[0].port, services[1].port]);
    let mut happened: BTreeMap<Event, u64> = BTreeMap::new();
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&traffic, &setup));
        let stop = traffic.stop_at_end();
        for client in 0..EVENT_CLIENTS {
            let traffic = &traffic;
            scope.spawn(move || traffic.post_events(client, seed));
        }
        for client in 0..SESSION_CLIENTS {
            let traffic = &traffic;
            scope.spawn(move || traffic.post_sessions(client));
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(300 + random.below(1500) as u64));
            let event = EVENTS[random.below(EVENTS.len())];
            *happened.entry(event).or_default() += 1;
            befall(event, &mut random, &mut server, &mut services, &traffic);
        }
        drop(stop);
        asked.join().expect("answers")
    });
    for meterd in &services {
        meterd.wait_until_ready();
        traffic.assert_exact(meterd);
    }
    eventually("all that is finished is archived", || server.connect().strings("KEYS traffic:*:batch").is_empty());
    traffic.assert_exact(&services[0]);
    let counted: i64 = traffic.counted().values().sum();
    let (answers, longest) = (traffic.answers(), traffic.longest());
    eprintln!("{counted} events, {asked} questions, {answers:?}, the slowest took {longest:?}, {happened:?}");
    assert!(longest < SLOWEST, "{longest:?}");
    assert!(asked > 0, "no question was answered");
    assert!(counted > 20 * seconds as i64, "only {counted} events were counted");
}
