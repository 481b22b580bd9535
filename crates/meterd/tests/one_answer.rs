//! A question over Redis and SQL is answered with what was counted, never more and never less, at every step of a batch:
//! while it is sealed, half written, written and not yet acknowledged, and after every crash.
//!
//! Hits are sent, then an archiver runs and is held at a step chosen by chance, and then killed or let go on. All the
//! time others ask, and each answer must equal a model that only counts. `METERD_ANSWER_ROUNDS` is the number of runs for
//! each database (default 40).

mod sql;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use meterd::archive::{Archive, Pool};
use meterd::connection::{Redis, Target};
use meterd::usage::{self, By, Question, parse_day};
use sql::ledger::{Hit, Ledger, METERS};
use sql::steps::Steps;
use sql::{is_server, meterd, run, said};
use testkit::database::{Database, ENGINES, Engine};
use testkit::{Random, Server, now_ms, setting, sleep_ms};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a call may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);
/// Answers that are waited for while a step is held.
const ANSWERS: u64 = 6;

#[test]
fn every_answer_is_what_was_counted_at_every_step_of_a_batch() {
    let rounds = setting("METERD_ANSWER_ROUNDS", 40);
    let seed = setting("METERD_ANSWER_SEED", now_ms().unsigned_abs());
    eprintln!("METERD_ANSWER_SEED={seed}");
    std::thread::scope(|scope| {
        for engine in ENGINES {
            scope.spawn(move || try_engine(engine, seed, rounds));
        }
    });
}

fn try_engine(engine: Engine, seed: u64, rounds: u64) {
    let database = Database::start(engine);
    let archive = database.fresh();
    let server = Server::with_module(testkit::programs().last().expect("a program"), "seal-max-keys 5", &[]);
    let steps = Steps::default();
    let redis = steps.link(server.port);
    let through = if is_server(engine) {
        let link = steps.link(database.port());
        archive.replace(&format!(":{}/", database.port()), &format!(":{link}/"))
    } else {
        archive.clone()
    };
    let model = RwLock::new(Ledger::default());
    let (answers, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for asker in 0..2 {
            let (model, answers, is_over, archive, server) = (&model, &answers, &is_over, &archive, &server);
            scope.spawn(move || ask(model, answers, is_over, archive, server.port, seed + asker));
        }
        let _stop = Stop(&is_over);
        let (mut random, mut event, now) = (Random::new(seed | 1), 0, now_ms());
        let (mut held, mut last) = (0, 40);
        for round in 0..rounds {
            {
                // Nobody asks while the model and the server are apart.
                let mut model = model.write().expect("the model");
                let mut client = Some(server.connect());
                for _ in 0..1 + random.below(30) {
                    let hit = Hit::random(&mut random, now, event);
                    event += 1;
                    hit.send(&server, &mut client);
                    model.count(&hit);
                }
            }
            let reached = steps.order(1 + random.below(last) as u64, random.below(2) == 0);
            let mut command = meterd(&server, &through, &["archive", "--once"]);
            command.env("METERD_REDIS", format!("redis://127.0.0.1:{redis}"));
            // What is held is not late.
            std::fs::write(server.folder.path().join("meterd.toml"), "deadline = \"20s\"\n").expect("written");
            let mut archiver = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("meterd");
            let start = Instant::now();
            while archiver.try_wait().expect("a status").is_none() {
                if reached.is_now() {
                    held += 1;
                    let before = answers.load(Ordering::Relaxed);
                    while answers.load(Ordering::Relaxed) < before + ANSWERS && start.elapsed() < PATIENCE {
                        assert!(!is_over.load(Ordering::Relaxed), "an answer was wrong");
                        sleep_ms(1);
                    }
                    if round % 3 > 0 {
                        archiver.kill().expect("a signal");
                    }
                    reached.go_on();
                }
                assert!(start.elapsed() < PATIENCE, "the archiver does not end");
                sleep_ms(1);
            }
            let output = archiver.wait_with_output().expect("an end");
            assert!(!said(&output).contains("panicked"), "{}", said(&output));
            if output.status.success() {
                last = usize::try_from(steps.passed()).expect("small").clamp(10, 400);
            }
        }
        steps.restart();
        assert!(held * 2 > rounds, "{held} of {rounds}");
        eprintln!("{engine:?}: {} answers, {held} steps held", answers.load(Ordering::Relaxed));
    });
    run(&server, &archive, &["archive", "--once"]);
    model.read().expect("the model").assert_equals(&archive, &mut server.connect());
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks until it is over, and compares each answer with the model.
fn ask(model: &RwLock<Ledger>, answers: &AtomicU64, is_over: &AtomicBool, archive: &str, port: u16, seed: u64) {
    // A wrong answer ends the test.
    let _stop = Stop(is_over);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let pool = Pool::new(Archive::new(archive, &[], DEADLINE).expect("an archive"));
    let target = Target::parse(&format!("redis://127.0.0.1:{port}")).expect("an address");
    let redis = runtime.block_on(async { Redis::connect(target, DEADLINE) });
    assert!(runtime.block_on(redis.up_within(DEADLINE)));
    let mut random = Random::new(seed | 1);
    while !is_over.load(Ordering::Relaxed) {
        // Held while it is asked: the model is what the server has.
        let model = model.read().expect("the model");
        let meter = METERS[random.below(METERS.len())];
        match random.below(4) {
            0 => runtime.block_on(total(&redis, &pool, &model, meter, port)),
            1 => runtime.block_on(by_hour(&redis, &pool, &model, meter)),
            2 => runtime.block_on(by_path(&redis, &pool, &model, meter, &mut random)),
            _ => runtime.block_on(ranking(&redis, &pool, &model, meter)),
        }
        answers.fetch_add(1, Ordering::Relaxed);
        drop(model);
        // Writers of the model go first.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn span() -> (Date, Date) {
    let day = |ago: i64| parse_day(&testkit::date(now_ms() - ago * 86_400_000)).expect("a day");
    (day(6), day(0))
}

fn question(meter: &[u8], by: By, path: Vec<Vec<u8>>) -> Question {
    let (from, to) = span();
    Question { meter: meter.to_vec(), from, to, by, path, tz: None }
}

async fn total(redis: &Redis, pool: &Pool, model: &Ledger, meter: &[u8], port: u16) {
    let answer = usage::usage(redis, pool, &question(meter, By::Total, Vec::new())).await.expect("an answer");
    let hours = model.hours.iter().filter(|((name, ..), _)| name == meter);
    let sum: i64 = hours.map(|(_, count)| count).sum();
    let expected: Vec<_> =
        (sum > 0).then(|| ("total".to_owned(), u128::from(sum.unsigned_abs()))).into_iter().collect();
    assert_eq!(answer.buckets, expected);
    let ids: Vec<&String> =
        model.uniques.iter().filter(|((name, _), _)| name == meter).flat_map(|(_, ids)| ids).collect();
    let mut client = testkit::Client::to(port).expect("a connection");
    let key = format!("estimate:{:?}", std::thread::current().id()).replace(['(', ')'], "");
    for ids in ids.chunks(100) {
        let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        client.run(&format!("PFADD {key} {}", ids.join(" ")));
    }
    let expected = client.int(&format!("PFCOUNT {key}"));
    client.run(&format!("DEL {key}"));
    assert_eq!(answer.unique.unwrap_or(0), expected.unsigned_abs());
}

async fn by_hour(redis: &Redis, pool: &Pool, model: &Ledger, meter: &[u8]) {
    let answer = usage::usage(redis, pool, &question(meter, By::Hour, Vec::new())).await.expect("an answer");
    let mut expected = BTreeMap::new();
    for ((name, day, hour), count) in &model.hours {
        if name == meter {
            expected.insert(format!("{}{hour:02}", day.replace('-', "")), u128::from(count.unsigned_abs()));
        }
    }
    assert_eq!(answer.buckets, Vec::from_iter(expected));
}

async fn by_path(redis: &Redis, pool: &Pool, model: &Ledger, meter: &[u8], random: &mut Random) {
    let paths: Vec<_> = model.paths.keys().filter(|(name, ..)| name == meter).collect();
    if paths.is_empty() {
        return;
    }
    let path = &paths[random.below(paths.len())].2;
    let answer = usage::usage(redis, pool, &question(meter, By::Day, path.clone())).await.expect("an answer");
    let mut expected = BTreeMap::new();
    for ((name, day, other), count) in &model.paths {
        if name == meter && other == path {
            *expected.entry(day.replace('-', "")).or_insert(0) += u128::from(count.unsigned_abs());
        }
    }
    assert_eq!(answer.buckets, Vec::from_iter(expected));
}

async fn ranking(redis: &Redis, pool: &Pool, model: &Ledger, meter: &[u8]) {
    let answer = usage::top(redis, pool, meter, span(), &[], 100).await.expect("an answer");
    let mut sums: BTreeMap<Vec<u8>, u128> = BTreeMap::new();
    for ((name, _, path), count) in &model.paths {
        if name == meter && path.len() == 1 {
            *sums.entry(path[0].clone()).or_default() += u128::from(count.unsigned_abs());
        }
    }
    let mut expected = Vec::from_iter(sums);
    expected.sort_by(|(a, n), (b, m)| m.cmp(n).then(b.cmp(a)));
    assert_eq!(answer, expected);
}
