//! While slots move between three nodes under traffic, no hit is lost or doubled, no reader sees less than was counted,
//! and no key is on two nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::cluster::{ClusterClient, Redirections, open_slot, place_of, three_nodes};
use testkit::{Client, Program, Random, Server, date, eventually, now_ms, on_every_program, sleep_ms};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Meters of two slots, each with one that has no hash tag.
const METERS: [&str; 6] = [
    "kpi:api",
    "kpi:{kpi:api}:corrected",
    "kpi:{kpi:api}:capped",
    "kpi:{kpi:api}:dropped",
    "kpi:app:A",
    "kpi:{kpi:app:A}:node:0",
];
const CORRECTED: &str = METERS[1];
const DROPPED: &str = METERS[3];
const CAPPED: [&str; 2] = [METERS[2], DROPPED];
const CAP: i64 = 150;

/// First-level members, and how names of keys have them.
const ENDPOINTS: [(&str, &str); 2] = [("users#update", "users#update"), ("a}:{b", "a%7D%3A%7Bb")];

/// How often each slot moves.
const ROUNDS: usize = 12;

/// How a slot goes from one node to another.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    KeyByKey,
    /// In one step, which Valkey 9 and Redis 8.4 can.
    AtOnce,
}

/// By meter and by the rest of a key's name, after `K:`.
type ByKey<T> = BTreeMap<(String, String), T>;

/// Counts by field or member; and the ids, or the HyperLogLogs of them.
#[derive(Default)]
struct Book {
    counts: ByKey<BTreeMap<String, i64>>,
    ids: ByKey<BTreeSet<Vec<u8>>>,
}

impl Book {
    fn count(&mut self, meter: &str, rest: &str, name: &str, n: i64) {
        let key = self.counts.entry((meter.to_owned(), rest.to_owned())).or_default();
        *key.entry(name.to_owned()).or_default() += n;
        key.retain(|_, n| *n != 0);
    }

    fn hit(&mut self, meter: &str, at: i64, (endpoint, user): (usize, &str), n: i64) {
        let ((member, encoded), day) = (ENDPOINTS[endpoint], format!("day:{}", date(at)));
        self.count(meter, &day, "day", n);
        self.count(meter, &day, &(at % DAY_MS / HOUR_MS).to_string(), n);
        self.count(meter, &format!("{day}:path"), member, n);
        self.count(meter, &format!("{day}:path:{encoded}"), user, n);
    }

    fn identify(&mut self, meter: &str, rest: &str, id: Vec<u8>) {
        self.ids.entry((meter.to_owned(), rest.to_owned())).or_default().insert(id);
    }

    /// Adds the contents of a key.
    fn read(&mut self, client: &mut ClusterClient<'_>, meter: &str, key: &str, rest: &str) {
        if rest.ends_with(":unique") {
            return self.identify(meter, rest, client.run(meter, &format!("GET {key}")));
        }
        let line =
            if rest.contains(":path") { format!("ZRANGE {key} 0 -1 WITHSCORES") } else { format!("HGETALL {key}") };
        let pairs: Vec<(String, i64)> = client.run(meter, &line);
        assert!(!pairs.is_empty(), "{key} has gone");
        pairs.iter().for_each(|(name, n)| self.count(meter, rest, name, *n));
    }

    fn add(&mut self, other: Self) {
        for ((meter, rest), counts) in other.counts {
            counts.iter().for_each(|(name, n)| self.count(&meter, &rest, name, *n));
        }
        for ((meter, rest), ids) in other.ids {
            ids.into_iter().for_each(|id| self.identify(&meter, &rest, id));
        }
    }

    /// Every hit is counted in its hour and along its path, so that each of them adds up to the day.
    fn assert_whole(&self) {
        let days: BTreeSet<_> = self.counts.keys().map(|(meter, rest)| (meter, &rest["day:".len()..][..8])).collect();
        for (meter, day) in days {
            let key = |rest: &str| self.counts.get(&(meter.clone(), format!("day:{day}{rest}")));
            let sum = |rest: &str| key(rest).map_or(0, |counts| counts.values().sum::<i64>());
            let below: i64 = ENDPOINTS.iter().map(|(_, encoded)| sum(&format!(":path:{encoded}"))).sum();
            let total = key("").and_then(|counts| counts.get("day")).copied().unwrap_or(0);
            assert_eq!([sum("") - total, sum(":path"), below], [total; 3], "{meter} {day}: hours, members, below them");
        }
    }

    fn months(&self, meter: &str) -> BTreeMap<&str, i64> {
        let mut months = BTreeMap::new();
        for ((of, rest), counts) in &self.counts {
            if let (true, Some(total)) = (of == meter, counts.get("day")) {
                *months.entry(&rest["day:".len()..][..6]).or_default() += total;
            }
        }
        months
    }
}

/// Sends writes and reads of all kinds until it is stopped; returns the counts.
fn write(mut client: ClusterClient<'_>, writer: u64, now: i64, stop: &AtomicBool) -> Book {
    let mut random = Random::new(now.unsigned_abs() + writer);
    let (mut book, mut sent) = (Book::default(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        sleep_ms(1);
        let meter = random.pick(&METERS);
        let hours = i64::try_from(random.below(4 * 24)).expect("small");
        let (at, endpoint) = (now - hours * HOUR_MS, random.below(ENDPOINTS.len()));
        let user = format!("user{}", random.below(6));
        let hit = format!("METER.HIT {meter} AT {at} PATH 2 {} {user}", ENDPOINTS[endpoint].0);
        match (random.below(8), meter) {
            (0 | 1, _) => {
                // This day is never sealed: its count is at least that of this writer.
                let day = date(now - DAY_MS);
                let question = random.pick(&[
                    "KPI m DAY d",
                    "KPI m FROM d TO d BY HOUR",
                    "KPI m FROM d TO d BY TOTAL",
                    "KPI m FROM d TO d PATH 1 users#update",
                    "TOP m DAY d",
                    "TOP m FROM d TO d",
                    "COST m FROM d TO d RATE 1",
                ]);
                let (below, name) = if question.contains("PATH") { (":path", "users#update") } else { ("", "day") };
                let own = book.counts.get(&(meter.to_owned(), format!("day:{day}{below}")));
                let own = own.and_then(|counts| counts.get(name)).filter(|_| meter != CORRECTED).unwrap_or(&0);
                let line = question.replace(" m ", &format!(" {meter} ")).replace(" d", &format!(" {day}"));
                let answer: Vec<redis::Value> = client.run(meter, &format!("METER.{line}"));
                let seen: i64 = if question.starts_with("COST") {
                    redis::from_redis_value(answer[0].clone()).expect("a usage")
                } else {
                    let bars: Vec<(String, i64)> = redis::from_redis_value(redis::Value::Array(answer)).expect("bars");
                    bars.iter().filter(|(name, _)| name != "day" && name != "unique").map(|(_, n)| n).sum()
                };
                assert!(seen >= *own, "METER.{line} answers {seen} of at least {own}");
            }
            _ if CAPPED.contains(&meter) => {
                let [_, _, applied] = client.run(meter, &format!("{hit} CAP MONTH {CAP}"));
                book.hit(meter, at, (endpoint, &user), applied);
            }
            (2 | 3, CORRECTED) => match client.try_run(meter, &format!("{hit} BY -1")) {
                Ok(_) => book.hit(meter, at, (endpoint, &user), -1),
                // It was not counted there, or is sealed.
                Err(error) => {
                    assert!(error.contains("would correct more") || error.contains("would reach zero"), "{error}");
                }
            },
            (2, _) if !sent.is_empty() => {
                let (meter, again): &(&str, String) = &sent[random.below(sent.len())];
                let [_, _, applied]: [i64; 3] = client.run(meter, again);
                assert_eq!(applied, 0, "{again} was counted before");
            }
            _ => {
                // A day whose last count is subtracted loses its ids.
                let unique = if meter == CORRECTED { String::new() } else { format!("UNIQUE {user}") };
                let n = 1 + i64::try_from(random.below(3)).expect("small");
                let hit = format!("{hit} {unique} BY {n} ONCE {writer}-{} CAP MONTH 1000000000", sent.len());
                let [_, _, applied]: [i64; 3] = client.run(meter, &hit);
                assert_eq!(applied, n, "{hit} is new");
                book.hit(meter, at, (endpoint, &user), n);
                if !unique.is_empty() {
                    book.identify(meter, &format!("day:{}:unique", date(at)), user.into_bytes());
                }
                sent.push((meter, hit));
            }
        }
    }
    book
}

/// Seals, reads and acknowledges, or drops, until it is stopped; returns the counts it read.
fn read(mut client: ClusterClient<'_>, now: i64, stop: &AtomicBool) -> Book {
    let mut book = Book::default();
    for meter in METERS.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
        sleep_ms(20);
        let before = date(now - DAY_MS);
        if *meter == DROPPED {
            client.run::<i64>(meter, &format!("METER.DROP {meter} BEFORE {before}"));
            continue;
        }
        let seal = format!("METER.SEAL {meter} BEFORE {before}");
        let (Some(id), keys): (Option<String>, Vec<String>) = client.run(meter, &seal) else { continue };
        let again: (String, Vec<String>) = client.run(meter, &seal);
        assert_eq!(again, (id.clone(), keys.clone()), "the batch stays until it is acknowledged");
        let mut batch = Book::default();
        for key in &keys {
            let rest = key.split_once(&format!(":sealed:{id}:")).expect("a sealed key").1;
            batch.read(&mut client, meter, key, rest);
        }
        batch.assert_whole();
        book.add(batch);
        assert_eq!(client.run::<usize>(meter, &format!("METER.ACK {meter} {id}")), keys.len());
    }
    book
}

/// Moves the slot of a meter.
fn move_slot(nodes: &[Server], meter: &str, [from, to]: [usize; 2], way: Way, random: &mut Random) {
    let mut clients: Vec<Client> = nodes.iter().map(Server::connect).collect();
    let target = clients[to].string("CLUSTER MYID").expect("an id");
    let slot = clients[from].int(&format!("CLUSTER KEYSLOT {meter}"));
    match way {
        Way::AtOnce if nodes[0].program.is_valkey() => {
            clients[from].run(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target}"));
        }
        Way::AtOnce => drop(clients[to].run(&format!("CLUSTER MIGRATION IMPORT {slot} {slot}"))),
        Way::KeyByKey => {
            open_slot(&mut clients, slot, [from, to]);
            loop {
                let mut keys = clients[from].strings(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
                if keys.is_empty() {
                    break;
                }
                while !keys.is_empty() {
                    let key = keys.swap_remove(random.below(keys.len()));
                    let migrate = format!("MIGRATE 127.0.0.1 {} {key} 0 5000", nodes[to].port);
                    // NOKEY: sealed or corrected away in the meantime. BUSYKEY would be a key that both nodes have.
                    let answer = clients[from].string(&migrate).expect("an answer");
                    assert!(answer == "OK" || answer == "NOKEY", "{migrate}: {answer}");
                    sleep_ms(1);
                }
            }
            for place in [to, from, 3 - from - to] {
                clients[place].run(&format!("CLUSTER SETSLOT {slot} NODE {target}"));
            }
        }
    }
    eventually("every node knows where the slot is", || {
        let target = format!(":{}", nodes[to].port);
        clients.iter_mut().enumerate().all(|(place, redis)| match redis.try_run(&format!("TYPE {meter}")) {
            Ok(_) => place == to,
            Err(error) => place != to && error.starts_with("MOVED") && error.ends_with(&target),
        })
    });
}

/// The contents of the nodes, each key on its right node: counts, and sealed counts.
fn stored_books(nodes: &[Server], mut client: ClusterClient<'_>) -> [Book; 2] {
    let mut books = [Book::default(), Book::default()];
    for node in nodes {
        let mut redis = node.connect();
        for key in redis.strings("KEYS *") {
            let base = |meter: &str| if meter.contains('{') { meter.to_owned() } else { format!("{{{meter}}}") };
            let rest = |meter: &str| Some(key.strip_prefix(&base(meter))?.strip_prefix(':')?.to_owned());
            let meter = METERS.into_iter().find(|meter| key == *meter || rest(meter).is_some()).expect("a meter's key");
            let mut slot = |key: &str| redis.int(&format!("CLUSTER KEYSLOT {key}"));
            assert_eq!(slot(&key), slot(meter), "{key}");
            assert!(redis.try_run(&format!("TYPE {key}")).is_ok(), "{key} is not where its slot is");
            let rest = rest(meter).unwrap_or_default();
            let (book, rest) = match rest.strip_prefix("sealed:") {
                Some(sealed) => (&mut books[1], sealed.split_once(':').expect("an id").1),
                None => (&mut books[0], &rest[..]),
            };
            if rest.starts_with("day:") && !rest.ends_with(":once") {
                book.read(&mut client, meter, &key, rest);
            }
        }
    }
    books.iter().for_each(Book::assert_whole);
    books
}

/// Stops the other threads, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn move_slots_under_traffic(program: &Program, way: Way) {
    let (nodes, seen, now) = (three_nodes(program), Redirections::default(), now_ms());
    let client = || ClusterClient::new(&nodes, &seen);
    let stop = AtomicBool::new(false);
    let (expected, mut found) = thread::scope(|scope| {
        let (stop, guard) = (&stop, Stop(&stop));
        let writers = [1, 2, 3].map(|writer| (writer, client()));
        let writers = writers.map(|(writer, client)| scope.spawn(move || write(client, writer, now, stop)));
        let reader = client();
        let reader = scope.spawn(move || read(reader, now, stop));
        let mut random = Random::new(now.unsigned_abs());
        for meter in ["kpi:api", "kpi:app:A"].repeat(ROUNDS) {
            sleep_ms(50);
            let from = place_of(&nodes, meter);
            let to = (from + 1 + random.below(2)) % 3;
            move_slot(&nodes, meter, [from, to], way, &mut random);
        }
        drop(guard);
        let mut expected = Book::default();
        writers.into_iter().for_each(|writer| expected.add(writer.join().expect("a writer")));
        (expected, reader.join().expect("the reader"))
    });
    let totals = |book: &Book| METERS.iter().flat_map(|meter| book.months(meter).into_values()).sum::<i64>();
    let (hits, taken) = (totals(&expected), totals(&found));
    stored_books(&nodes, client()).into_iter().for_each(|book| found.add(book));

    for (key, counts) in found.counts.iter().chain(&expected.counts).filter(|((meter, _), _)| meter != DROPPED) {
        let of = |book: &Book| book.counts.get(key).cloned().unwrap_or_default();
        assert_eq!(of(&found), of(&expected), "{key:?}, of which one has {counts:?}: found, expected");
    }
    let scratch = Server::bare(program, &[]);
    let mut redis = scratch.connect();
    assert!(found.ids.keys().eq(expected.ids.keys()));
    for (key, hyperloglogs) in &found.ids {
        redis.run("DEL ids");
        for bytes in hyperloglogs {
            redis.try_call(&[b"SET", b"more", bytes]).expect("set");
            redis.run("PFMERGE ids more");
        }
        assert_eq!(redis.int("PFCOUNT ids"), i64::try_from(expected.ids[key].len()).expect("small"), "{key:?}");
    }
    for capped in CAPPED.map(|meter| expected.months(meter)) {
        assert!(capped.values().all(|&n| n <= CAP) && capped.values().any(|&n| n == CAP), "{capped:?}");
    }
    let [moved, ask, try_again] = [&seen.moved, &seen.ask, &seen.try_again].map(|n| n.load(Ordering::Relaxed));
    println!(
        "{} {:?}: {hits} hits, {taken} of them read; MOVED {moved}, ASK {ask}, TRYAGAIN {try_again}",
        program.product, program.version
    );
    assert!(taken > 0 && moved > 0 && (way == Way::AtOnce || ask > 0 && try_again > 0));
}

#[test]
fn no_hit_is_lost_or_doubled_while_slots_move_key_by_key() {
    on_every_program(|program| move_slots_under_traffic(program, Way::KeyByKey));
}

#[test]
fn no_hit_is_lost_or_doubled_while_slots_move_at_once() {
    on_every_program(|program| {
        if program.version >= if program.is_valkey() { (9, 0, 0) } else { (8, 4, 0) } {
            move_slots_under_traffic(program, Way::AtOnce);
        }
    });
}
