//! The transfer of meters to SQL by `examples/meter_to_sql.py` is exact, regardless of which process crashes, and when.
//!
//! In the long test writers hit meters whose days are sealed all the time, the reader is killed at every step that it
//! has, and the server at random moments; then the tables must equal the writers' own ledger. `METER_KILL_ROUNDS` is
//! how often the reader is killed on each server program (default 40; the server dies some 30 times meanwhile): give
//! more for a longer run. A run prints its seed; `METER_KILL_SEED` repeats the choice of steps, moments and hits, but
//! not their interleaving, which depends on the clock. `cargo test --test handover -- --nocapture` shows statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use chrono::DateTime;
use testkit::{Client, Entry, PATIENCE, Program, Server, module, now_ms, on_every_program};

/// The meters that are hit.
const METERS: [&str; 2] = ["usage:shop", "odd %ü:b"];
/// Members that look like each other, like what separates them, and like no text.
const MEMBERS: [&[u8]; 6] = [b"users#update", b"a", b"b", b"a:b", b"a%3Ab", b"\xff\0 "];

const MILLIS_PER_DAY: i64 = 86_400_000;
const WRITERS: u64 = 3;
const PAUSE_OF_A_WRITER: Duration = Duration::from_millis(4);

#[test]
fn a_crash_at_any_step_neither_loses_nor_doubles_a_count() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect(name));
    let rounds: u64 = number("METER_KILL_ROUNDS").unwrap_or(40);
    let seed: u64 = number("METER_KILL_SEED").unwrap_or_else(|| now_ms().unsigned_abs());
    eprintln!("METER_KILL_SEED={seed}");
    on_every_program(|program| {
        // Two days a batch, so that there are more of them.
        let disk = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::with_module(program, "seal-max-keys 20", &disk);
        let (port, sql) = (server.port, Sql::of(&server));
        let mut reader = Reader::hire();
        let trial = Trial::new(seed, program);
        let (reader_deaths, server_deaths) = thread::scope(|scope| {
            for number in 0..WRITERS {
                let trial = &trial;
                scope.spawn(move || trial.write(number, port));
            }
            let reader_deaths = scope.spawn(|| trial.kill_readers(&mut reader, &sql, rounds));
            // A server ends with the thread that has started it: this one.
            let server_deaths = trial.kill_server(&mut server, rounds);
            (reader_deaths.join().expect("the deaths of the reader"), server_deaths)
        });
        assert_eq!(reader.run(&sql.arguments(&trial.options(), &METERS)), "end");

        let ledger = trial.ledger();
        ledger.assert_equals(&sql);
        ledger.assert_nothing_is_left(&server);
        let deaths: u64 = reader_deaths.values().sum();
        assert!(deaths >= rounds && server_deaths >= rounds * 2 / 3, "{deaths} {server_deaths}");
        assert!(ledger.known > 0 && ledger.reopened > 0, "the hits met no crash, or no batch");
        eprintln!(
            "{} {:?}: {} hits, of which {} answers were lost and {} known when sent again, {} opened a sealed day anew, \
             {} corrections were refused; {} batches; {server_deaths} deaths of the server, {deaths} of the reader: \
             {reader_deaths:?}",
            program.product,
            program.version,
            ledger.hits,
            ledger.lost,
            ledger.known,
            ledger.reopened,
            ledger.refused,
            sql.rows("batches").len(),
        );
    });
}

#[test]
fn a_batch_that_a_replica_has_survives_a_failover() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        for step in ["rows", "commit"] {
            let (mut primary, replica) = pair(program);
            let mut sql = Sql::of(&primary);
            let mut redis = primary.connect();
            let mut hits = some_hits(step);
            let mut ledger = Ledger::default();
            ledger.send(&hits, &mut redis);
            let killed = Order { victim: "reader", step, moment: "after" };
            let arguments = sql.arguments(&replicated_within("10"), &METERS[..1]);
            assert_eq!(reader.live(&killed, 1, 0, &arguments), "killed");

            let (id, counts) = sealed(&mut redis);
            let late = Hit { event: "late".to_owned(), ..hits[0].clone() };
            ledger.send(std::slice::from_ref(&late), &mut redis);
            hits.push(late);
            assert_eq!(redis.int("WAIT 1 20000"), 1, "the replica has the late hit");
            primary.kill();
            let mut redis = replica.connect();
            redis.run("REPLICAOF NO ONE");

            assert_eq!(sealed(&mut redis), (id, counts), "{step}");
            for hit in &hits {
                assert_eq!(hit.send(&mut redis).expect("an answer")[2], 0, "the primary has counted this event");
            }
            sql.turn_to(&replica);
            assert_eq!(reader.run(&sql.arguments(&before(), &METERS[..1])), "end");
            ledger.assert_equals(&sql);
            assert_eq!(sql.rows("batches").len(), 2, "the batch, and that of the late hit");
        }
    });
}

#[test]
fn a_batch_that_no_replica_has_is_sealed_again_under_another_id() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        for waits in [true, false] {
            let (mut primary, replica) = pair(program);
            let mut sql = Sql::of(&primary);
            let (mut redis, mut promoted) = (primary.connect(), replica.connect());
            let mut ledger = Ledger::default();
            ledger.send(&some_hits("hit"), &mut redis);
            assert_eq!(redis.int("WAIT 1 20000"), 1, "the replica has the hits");
            // Its link fails: no server listens there.
            promoted.run("REPLICAOF 127.0.0.1 1");

            if waits {
                let refusal = reader.run(&sql.arguments(&replicated_within("0.2"), &METERS[..1]));
                assert!(refusal.starts_with("refused: 0 of 1 replicas have the batch "), "{refusal}");
                assert_eq!(sql.rows("batches").len(), 0);
            } else {
                let killed = Order { victim: "reader", step: "commit", moment: "after" };
                assert_eq!(reader.live(&killed, 1, 0, &sql.arguments(&before(), &METERS[..1])), "killed");
                ledger.assert_equals(&sql);
            }
            let (id, counts) = sealed(&mut redis);
            primary.kill();
            promoted.run("REPLICAOF NO ONE");

            let (other_id, same_counts) = sealed(&mut promoted);
            assert_ne!(other_id, id);
            assert_eq!(same_counts, counts);
            sql.turn_to(&replica);
            assert_eq!(reader.run(&sql.arguments(&before(), &METERS[..1])), "end");
            if !waits {
                ledger.double();
            }
            ledger.assert_equals(&sql);
        }
    });
}

#[test]
fn a_batch_that_is_returned_again_is_confirmed_by_the_replica_again() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        let (primary, replica) = pair(program);
        let sql = Sql::of(&primary);
        let mut redis = primary.connect();
        let mut ledger = Ledger::default();
        ledger.send(&some_hits("hit"), &mut redis);
        assert_eq!(redis.int("WAIT 1 20000"), 1, "the replica has the hits");
        let frozen = replica.freeze();
        // As by a reader that crashes before it has waited.
        sealed(&mut redis);
        let refusal = reader.run(&sql.arguments(&replicated_within("0.2"), &METERS[..1]));
        assert!(refusal.starts_with("refused: 0 of 1 replicas have the batch "), "{refusal}");
        assert_eq!(sql.rows("batches").len(), 0);
        drop(frozen);
        assert_eq!(reader.run(&sql.arguments(&replicated_within("10"), &METERS[..1])), "end");
        ledger.assert_equals(&sql);
    });
}

#[test]
fn a_reply_that_is_lost_doubles_nothing() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        let server = Server::start(program, &[]);
        let sql = Sql::of(&server);
        let mut ledger = Ledger::default();
        for (batches, step) in (1..).zip(["seal", "ack"]) {
            ledger.send(&some_hits(step), &mut server.connect());
            // The client library sends the command again; the server returns ERR for the second ACK.
            let lost = Order { victim: "link", step, moment: "sent" };
            assert_eq!(reader.live(&lost, 1, 9, &sql.arguments(&before(), &METERS[..1])), "end");
            ledger.assert_equals(&sql);
            assert_eq!(sql.rows("batches").len(), batches);
        }
    });
}

#[test]
fn an_acknowledgement_that_is_refused_for_another_reason_ends_the_run() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        let server = Server::start(program, &[]);
        let mut sql = Sql::of(&server);
        let mut redis = server.connect();
        let mut ledger = Ledger::default();
        ledger.send(&some_hits("hit"), &mut redis);
        redis.run("ACL SETUSER reader on >secret ~* +@all -meter.ack");
        sql.url = format!("redis://reader:secret@127.0.0.1:{}", server.port);
        let failure = reader.run(&sql.arguments(&before(), &METERS[..1]));
        assert!(failure.starts_with("failed: ") && failure.contains("NoPermissionError"), "{failure}");
        assert_eq!(sql.rows("batches").len(), 1);
        sql.turn_to(&server);
        assert_eq!(reader.run(&sql.arguments(&before(), &METERS[..1])), "end");
        ledger.assert_equals(&sql);
    });
}

#[test]
fn the_example_moves_finished_days_and_leaves_the_others() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let sql = Sql::of(&server);
        let mut redis = server.connect();
        for user in ["ann", "bob", "ann"] {
            redis.run(&format!("METER.HIT api AT 1660054277326 BY 2 PATH 2 users#update {user} UNIQUE {user}"));
        }
        redis.run("HSET api:day:20220809 note another-program's");
        // Not finished, even if a day ends while this runs.
        redis.run(&format!("METER.HIT api AT {}", now_ms() + MILLIS_PER_DAY - 60_000));
        let output = sql.run_example(&[], &["api", "nothing here"]);
        assert_success(&output);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "api: 1 batches\nnothing%20here: 0 batches\n");
        assert_eq!(sql.rows("days"), ["api\t20220809\t6"]);
        assert_eq!(sql.rows("hits"), ["api\t20220809\t14\t6"]);
        let members = ["users#update\t6", "users#update:ann\t4", "users#update:bob\t2"];
        assert_eq!(sql.rows("members"), members.map(|row| format!("api\t20220809\t{row}")));
        let (batches, uniques) = (sql.rows("batches"), sql.rows("uniques"));
        let id = batches[0].split('\t').next().expect("an id");
        assert_eq!(uniques, [format!("{id}\t20220809\t2")]);
        assert_eq!(redis.strings("ZRANGE api 0 -1").len(), 1, "the day that is not finished");
    });
}

#[test]
fn a_sum_that_sql_cannot_hold_is_refused_and_stays_in_the_server() {
    on_every_program(|program| {
        let mut reader = Reader::hire();
        let server = Server::start(program, &[]);
        let sql = Sql::of(&server);
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT api AT 1660054277326 BY {}", i64::MAX));
        assert_eq!(reader.run(&sql.arguments(&[], &["api"])), "end");
        // The server itself would refuse to seal it, because of the month's counts.
        redis.run("METER.HIT api AT 1660054277326");
        assert!(redis.error("METER.SEAL api").contains("would pass 9223372036854775807"));
        redis.run("METER.DROP api");
        redis.run("METER.HIT api AT 1660054277326");
        let output = sql.run_example(&[], &["api"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains("still in the server"), "{}: {text}", output.status);
        assert_eq!(sql.rows("days"), [format!("api\t20220809\t{}", i64::MAX)]);
        assert_eq!(sql.rows("batches").len(), 1);
        assert_eq!(redis.int("EXISTS api:batch"), 1, "the batch is still open");
    });
}

/// A hit, which may be sent more than once.
#[derive(Clone)]
struct Hit {
    meter: &'static str,
    at: i64,
    by: i64,
    path: [&'static [u8]; 2],
    id: u64,
    event: String,
}

impl Hit {
    /// A hit of the three days before `now`. A few are corrections.
    fn draw(chance: &mut Chance, now: i64, event: String) -> Self {
        Self {
            meter: chance.pick(&METERS),
            at: now - i64::try_from(chance.below(3 * MILLIS_PER_DAY.unsigned_abs())).expect("three days"),
            by: chance.pick(&[-1, 1, 1, 2, 3, 20]),
            path: [chance.pick(&MEMBERS), chance.pick(&MEMBERS)],
            id: chance.below(20),
            event,
        }
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let line = format!("METER.HIT AT {} BY {} UNIQUE {} PATH 2", self.at, self.by, self.id);
        let mut words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        words.insert(1, self.meter.as_bytes().to_vec());
        words.extend(self.path.map(<[u8]>::to_vec));
        words.extend([b"ONCE".to_vec(), self.event.as_bytes().to_vec()]);
        words
    }

    /// The counts of the day and the hour, and what was counted.
    fn send(&self, redis: &mut Client) -> Result<[i64; 3], String> {
        let words = self.words();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        Ok(redis::from_redis_value(redis.try_call(&words)?).expect("three integers"))
    }

    /// Disconnects before there is a reply.
    fn send_and_leave(&self, mut redis: Client) {
        let mut command = redis::Cmd::new();
        command.arg(self.words());
        let _ = redis.0.send_packed_command(&command.get_packed_command());
    }

    /// The rows of SQL that count it, but for the counts.
    fn rows(&self) -> [String; 4] {
        let time = DateTime::from_timestamp_millis(self.at).expect("an instant");
        let (day, hour) = (time.format("%Y%m%d"), time.format("%-H"));
        let meter = as_text(self.meter.as_bytes(), b":#/{}");
        let [first, second] = self.path.map(|member| as_text(member, b"#"));
        [
            format!("days\t{meter}\t{day}"),
            format!("hits\t{meter}\t{day}\t{hour}"),
            format!("members\t{meter}\t{day}\t{first}"),
            format!("members\t{meter}\t{day}\t{first}:{second}"),
        ]
    }

    /// The key of its month.
    fn month(&self) -> String {
        let time = DateTime::from_timestamp_millis(self.at).expect("an instant");
        format!("{}:month:{}", self.meter, time.format("%Y%m"))
    }
}

/// Thirty hits, none of which is a correction.
fn some_hits(event: &str) -> Vec<Hit> {
    let mut chance = Chance::new(1, event);
    let mut draw = |n| Hit::draw(&mut chance, now_ms(), format!("{event} {n}"));
    (0..30).map(|n| Hit { meter: METERS[0], by: 5, ..draw(n) }).collect()
}

/// A name as SQL has it: other bytes are percent-encoded.
fn as_text(name: &[u8], others: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte) || others.contains(&byte);
    name.iter().map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The ledger of the writers: all hits that were counted.
#[derive(Default)]
struct Ledger {
    /// The rows that SQL must have, and their counts.
    rows: BTreeMap<String, i64>,
    /// The count of each month, by its key.
    months: BTreeMap<String, i64>,
    hits: u64,
    /// Sent again, because no reply came.
    lost: u64,
    /// Counted before, when its reply was lost.
    known: u64,
    /// Came to a day that had been sealed.
    reopened: u64,
    /// Corrections of counts that are not stored, or were sealed.
    refused: u64,
}

impl Ledger {
    /// Sends hits, none of which may be refused.
    fn send(&mut self, hits: &[Hit], redis: &mut Client) {
        for hit in hits {
            let answer = hit.send(redis);
            assert!(answer.is_ok(), "{answer:?}");
            self.note(hit, answer, false);
        }
    }

    /// Records the reply to a hit, of which earlier replies may have been lost.
    fn note(&mut self, hit: &Hit, answer: Result<[i64; 3], String>, lost: bool) {
        self.hits += 1;
        self.lost += u64::from(lost);
        let [day, _, applied] = match answer {
            Ok(answer) => answer,
            Err(error) => {
                assert!(hit.by < 0, "{error}");
                self.refused += 1;
                return;
            }
        };
        assert!(applied == hit.by || applied == 0 && lost, "counted {applied} of {}", hit.by);
        let rows = hit.rows();
        let before = self.rows.get(&rows[0]).copied().unwrap_or(0);
        self.known += u64::from(applied == 0);
        self.reopened += u64::from(applied > 0 && day == applied && before > 0);
        for row in rows {
            *self.rows.entry(row).or_default() += hit.by;
        }
        *self.months.entry(hit.month()).or_default() += hit.by;
    }

    fn double(&mut self) {
        self.rows.values_mut().for_each(|count| *count *= 2);
    }

    #[track_caller]
    fn assert_equals(&self, sql: &Sql) {
        let counted = self.rows.iter().filter(|&(_, &count)| count != 0);
        let expected: BTreeSet<String> = counted.map(|(row, count)| format!("{row}\t{count}")).collect();
        let is_count = |row: &String| ["days\t", "hits\t", "members\t"].iter().any(|table| row.starts_with(table));
        let found: BTreeSet<String> = sql.all_rows().into_iter().filter(is_count).collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let wrong: Vec<_> = found.difference(&expected).collect();
        assert!(!expected.is_empty());
        assert!(missing.is_empty() && wrong.is_empty(), "missing in SQL: {missing:#?}\nnot in the ledger: {wrong:#?}");
    }

    /// The server has no day, no batch and no sealed key; only the keys that outlive them.
    fn assert_nothing_is_left(&self, server: &Server) {
        let mut redis = server.connect();
        for (key, &count) in &self.months {
            let days = redis.try_call(&[b"HVALS", key.as_bytes()]).expect("a month");
            let days: Vec<i64> = redis::from_redis_value(days).expect("counts");
            assert_eq!(days.iter().sum::<i64>(), count, "{key}");
        }
        for entry in redis.contents() {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            let outlives = key.contains(":month:") || key.ends_with(":once") || key.ends_with(":reader");
            assert!(outlives, "{key} is left");
        }
    }
}

/// Which process to kill at which step, in the format of `tests/handover/reader.py`.
#[derive(Clone, Copy, Debug)]
struct Order {
    victim: &'static str,
    step: &'static str,
    moment: &'static str,
}

/// The steps of the reader that have a reply, and those that have none.
const ASKS: [&str; 4] = ["seal", "wait", "read", "ack"];
const WRITES: [&str; 3] = ["id", "rows", "commit"];

/// Every order to kill one of these; "wait" is a step only of a reader that waits.
fn orders(victims: &[&'static str], waits: bool) -> Vec<Order> {
    let asks = ASKS.into_iter().flat_map(|step| ["before", "sent", "after"].map(|moment| (step, moment)));
    let writes = WRITES.into_iter().flat_map(|step| ["before", "after"].map(|moment| (step, moment)));
    let steps: Vec<_> = asks.chain(writes).filter(|(step, _)| waits || *step != "wait").collect();
    let all =
        victims.iter().flat_map(|&victim| steps.iter().map(move |&(step, moment)| Order { victim, step, moment }));
    // A link that is cut between a command and its reply is all that needs trying.
    all.filter(|order| order.victim != "link" || order.moment == "sent").collect()
}

/// The long test, on one server.
struct Trial {
    seed: u64,
    program: Program,
    started: i64,
    before: Vec<String>,
    /// Whether the reader is to wait until a batch is on disk, and so has this step too.
    waits: bool,
    stop: AtomicBool,
    /// How often the reader was killed.
    deaths: AtomicU64,
    ledger: Mutex<Ledger>,
}

impl Trial {
    fn new(seed: u64, program: &Program) -> Self {
        Self {
            seed,
            program: program.clone(),
            started: now_ms(),
            before: before(),
            waits: program.has_redis(7, 2),
            stop: AtomicBool::new(false),
            deaths: AtomicU64::new(0),
            ledger: Mutex::default(),
        }
    }

    fn chance(&self, purpose: &str) -> Chance {
        Chance::new(self.seed, &format!("{purpose} {} {:?}", self.program.product, self.program.version))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no writer has panicked")
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn options(&self) -> Vec<String> {
        let mut options = self.before.clone();
        options.extend(self.waits.then(|| "--fsync".to_owned()));
        options
    }

    /// Sends hits until it is stopped: each again and again, until it gets a reply.
    fn write(&self, number: u64, port: u16) {
        let _stop = StopOnDrop(&self.stop);
        let mut chance = self.chance(&format!("writer {number}"));
        let mut redis: Option<Client> = None;
        for event in 0.. {
            if self.is_over() {
                return;
            }
            let hit = Hit::draw(&mut chance, self.started, format!("{number} {event}"));
            let (start, mut lost) = (Instant::now(), false);
            // Not a correction: if it is refused when it comes again, it is not known whether it was the first time.
            if hit.by > 0
                && chance.below(50) == 0
                && let Some(redis) = redis.take()
            {
                hit.send_and_leave(redis);
                lost = true;
            }
            let answer = loop {
                match send(&hit, &mut redis, port) {
                    Some(answer) => break answer,
                    None => lost = true,
                }
                assert!(start.elapsed() < 2 * PATIENCE, "a hit that nobody answers");
            };
            self.ledger().note(&hit, answer, lost);
            thread::sleep(PAUSE_OF_A_WRITER);
        }
    }

    /// Lets the reader run again and again until it has been killed `rounds` times. In between the server is killed or
    /// the link is cut, and the reader must recover. Returns how often it was killed at each step.
    fn kill_readers(&self, reader: &mut Reader, sql: &Sql, rounds: u64) -> BTreeMap<String, u64> {
        let _stop = StopOnDrop(&self.stop);
        let mut chance = self.chance("reader");
        let mut own = orders(&["reader"], self.waits);
        own.extend([Order { victim: "reader", step: "instant", moment: "before" }; 4]);
        let (mut own, mut others) = (Deck::of(own), Deck::of(orders(&["server", "link"], self.waits)));
        let mut killed = BTreeMap::new();
        for round in 0..rounds {
            if round % 3 == 0 {
                self.live(reader, sql, others.deal(&mut chance), &mut chance, 1);
            }
            let order = own.deal(&mut chance);
            if self.live(reader, sql, order, &mut chance, 100) {
                *killed.entry(format!("{} {}", order.step, order.moment)).or_default() += 1;
                self.deaths.fetch_add(1, Ordering::Relaxed);
            }
        }
        killed
    }

    /// Runs the reader with this order, and again, up to `lives` times, if it does not reach the step. Returns whether
    /// it was killed. The number of runs does not depend on chance, so a seed repeats the orders.
    fn live(&self, reader: &mut Reader, sql: &Sql, order: Order, chance: &mut Chance, lives: u64) -> bool {
        let mut nth = 1 + match order.step {
            "instant" => chance.below(80),
            "read" => chance.below(12),
            "rows" => chance.below(60),
            _ => chance.below(3),
        };
        // Some runs end with the server; in others the client library tries again until it is back.
        let retries = [0, 200][usize::from(chance.below(2) == 0 || order.victim == "link")];
        let mut meters = METERS;
        meters.rotate_left(chance.index(METERS.len()));
        let arguments = sql.arguments(&self.options(), &meters);
        for _ in 0..lives {
            match reader.live(&order, nth, retries, &arguments).as_str() {
                "killed" => return true,
                "bounded" | "away" | "end" if self.is_over() => return false,
                "bounded" | "away" | "end" => nth = nth.div_ceil(2),
                other => panic!("{order:?}: {other}"),
            }
        }
        false
    }

    /// Kills the server at random moments, spread evenly over the kills of the reader, and restarts it after every
    /// kill. Returns how often it was killed.
    fn kill_server(&self, server: &mut Server, rounds: u64) -> u64 {
        let _stop = StopOnDrop(&self.stop);
        let mut chance = self.chance("server");
        let planned = rounds * 3 / 4;
        let (mut planned_deaths, mut all_deaths) = (0, 0);
        while !self.is_over() || !server.is_alive() {
            let is_due = self.deaths.load(Ordering::Relaxed) * planned >= planned_deaths * rounds;
            if planned_deaths < planned && is_due {
                thread::sleep(Duration::from_micros(chance.below(50_000)));
                planned_deaths += 1;
                server.kill();
            }
            if !server.is_alive() {
                server.kill_and_restart();
                all_deaths += 1;
            }
            thread::sleep(Duration::from_millis(4));
        }
        all_deaths
    }
}

/// The reply to a hit, or `None` if it did not come, because the server or the connection failed.
fn send(hit: &Hit, redis: &mut Option<Client>, port: u16) -> Option<Result<[i64; 3], String>> {
    if redis.is_none() {
        *redis = Client::to(port).ok();
    }
    let answer = redis.as_mut().map(|redis| hit.send(redis));
    match answer {
        Some(Ok(answer)) => Some(Ok(answer)),
        Some(Err(error)) if error.starts_with("ERR ") => Some(Err(error)),
        _ => {
            *redis = None;
            thread::sleep(Duration::from_millis(5));
            None
        }
    }
}

/// Ends the trial, well or not, with the thread that holds this.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A source of numbers that a seed repeats: SplitMix64.
struct Chance(u64);

impl Chance {
    fn new(seed: u64, purpose: &str) -> Self {
        let mut chance = Self(seed);
        for byte in purpose.bytes() {
            chance.0 ^= u64::from(byte);
            chance.0 = chance.next();
        }
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len.try_into().expect("small"))).expect("small")
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }
}

/// Orders in random order, each about as often as any other.
struct Deck {
    all: Vec<Order>,
    left: Vec<Order>,
}

impl Deck {
    fn of(all: Vec<Order>) -> Self {
        Self { all, left: Vec::new() }
    }

    fn deal(&mut self, chance: &mut Chance) -> Order {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        let place = chance.index(self.left.len());
        self.left.swap_remove(place)
    }
}

/// A process that runs the example, see `tests/handover/reader.py`. It ends when its standard input is closed.
struct Reader(Option<Child>);

/// Idle processes, since starting one takes longer than a test.
static IDLE_READERS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

impl Reader {
    fn hire() -> Self {
        let idle = IDLE_READERS.lock().expect("a list").pop();
        Self(Some(idle.unwrap_or_else(|| {
            let mut command = Command::new(python());
            command.arg(file("tests/handover/reader.py")).arg(example());
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process")
        })))
    }

    /// One run of the example with these arguments, undisturbed; how it ended.
    fn run(&mut self, arguments: &[String]) -> String {
        self.live(&Order { victim: "nobody", step: "none", moment: "before" }, 1, 0, arguments)
    }

    /// One run of the example with these arguments; how it ended.
    fn live(&mut self, order: &Order, nth: u64, retries: u64, arguments: &[String]) -> String {
        let Order { victim, step, moment } = order;
        let line = format!("{victim}\t{step}\t{nth}\t{moment}\t{retries}\t{}\n", arguments.join("\t"));
        let process = self.0.as_mut().expect("a process");
        process.stdin.as_mut().expect("a pipe").write_all(line.as_bytes()).expect("the reader listens");
        let mut answer = String::new();
        // Nothing is sent before it is asked for, so nothing is left in a buffer.
        BufReader::new(process.stdout.as_mut().expect("a pipe")).read_line(&mut answer).expect("a line");
        answer.trim_end().to_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // After a failure it may still be at work.
        if let (Some(process), false) = (self.0.take(), thread::panicking()) {
            IDLE_READERS.lock().expect("a list").push(process);
        }
    }
}

/// A database, and the server that it is filled from.
struct Sql {
    url: String,
    file: PathBuf,
    /// Deleted with this.
    _folder: tempfile::TempDir,
}

impl Sql {
    fn of(server: &Server) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-meter-").tempdir().expect("a folder");
        let mut sql = Self { url: String::new(), file: folder.path().join("usage.db"), _folder: folder };
        sql.turn_to(server);
        sql
    }

    /// Fills it from this server from now on.
    fn turn_to(&mut self, server: &Server) {
        self.url = format!("redis://127.0.0.1:{}", server.port);
    }

    /// The arguments of the example.
    fn arguments(&self, options: &[String], meters: &[&str]) -> Vec<String> {
        let file = self.file.to_str().expect("a path");
        let mut all = ["--url", &self.url, "--db", file].map(str::to_owned).to_vec();
        all.extend_from_slice(options);
        all.extend(meters.iter().map(|&meter| meter.to_owned()));
        all
    }

    /// Runs the example, as its users do.
    fn run_example(&self, options: &[String], meters: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("60").arg(python()).arg(example()).args(self.arguments(options, meters));
        command.output().expect("timeout, of coreutils")
    }

    /// The rows of a table, sorted, their columns separated by tabs; none if there is no such table yet.
    fn rows(&self, table: &str) -> Vec<String> {
        let of_table = |row: String| row.strip_prefix(table)?.strip_prefix('\t').map(str::to_owned);
        self.all_rows().into_iter().filter_map(of_table).collect()
    }

    /// The rows of all tables, the table before each.
    fn all_rows(&self) -> Vec<String> {
        let mut command = Command::new(python());
        let output = command.args(["-I", "-S"]).arg(file("tests/handover/rows.py")).arg(&self.file).output();
        let output = output.expect("a process");
        assert_success(&output);
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

/// All days so far, and the one that may begin while a test runs.
fn before() -> Vec<String> {
    let day = DateTime::from_timestamp_millis(now_ms() + 2 * MILLIS_PER_DAY).expect("an instant");
    vec!["--before".to_owned(), day.format("%Y%m%d").to_string()]
}

/// The same, if a replica has them within this many seconds.
fn replicated_within(seconds: &str) -> Vec<String> {
    let mut options = before();
    options.extend(["--replicas", "1", "--timeout", seconds].map(str::to_owned));
    options
}

/// The open batch of the first meter, which is made if there is none: its id and its keys.
fn sealed(redis: &mut Client) -> (String, Vec<Entry>) {
    let answer = redis.run(&format!("METER.SEAL {} BEFORE {}", METERS[0], before()[1]));
    let (id, keys): (String, Vec<String>) = redis::from_redis_value(answer).expect("an id and keys");
    let mut entries = redis.contents();
    entries.retain(|entry| keys.iter().any(|key| key.as_bytes() == entry.key));
    assert!(entries.len() == keys.len() && !keys.is_empty());
    for entry in &mut entries {
        entry.key = String::from_utf8_lossy(&entry.key).replace(&id, "id").into_bytes();
    }
    (id, entries)
}

/// A server and its replica, which has the module too.
fn pair(program: &Program) -> (Server, Server) {
    let primary = Server::start(program, &[]);
    let replica = primary.replica(&["--loadmodule", &module().display().to_string()]);
    (primary, replica)
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn example() -> PathBuf {
    file("examples/meter_to_sql.py")
}

fn python() -> PathBuf {
    let path = file(".clients/python/bin/python");
    assert!(path.exists(), "{} is missing: run scripts/fetch-clients", path.display());
    path
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
