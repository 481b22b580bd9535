//! Bills stay right: counts are the same in every span and every cost before SEAL, between SEAL and ACK,
//! after ACK, after late hits and after DROP BEFORE.
//!
//! `METER_BILLS_SEED` repeats a run, `METER_BILLS_STEPS` sets how long it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate};
use testkit::{Client, Program, Random, Server, Value, date, now_ms, on_every_program, on_every_server, setting};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

/// The expected contents of the meter.
#[derive(Default)]
struct Model {
    /// The days stored: the counts of their hours.
    stored: BTreeMap<NaiveDate, BTreeMap<i64, i64>>,
    /// The sealed and dropped count of each day.
    sealed: BTreeMap<NaiveDate, i64>,
    batch: Option<String>,
}

fn day_of(at: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(at).expect("an instant").date_naive()
}

fn digits(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

impl Model {
    /// All that was ever counted of each day from `from` to `to`.
    fn days(&self, from: NaiveDate, to: NaiveDate) -> BTreeMap<NaiveDate, i64> {
        let mut days = BTreeMap::new();
        for (&day, hours) in self.stored.range(from..=to) {
            *days.entry(day).or_default() += hours.values().sum::<i64>();
        }
        for (&day, count) in self.sealed.range(from..=to) {
            *days.entry(day).or_default() += count;
        }
        days.retain(|_, count| *count > 0);
        days
    }

    fn buckets(&self, from: NaiveDate, to: NaiveDate, name: fn(NaiveDate) -> String) -> Vec<(String, i64)> {
        let mut buckets = BTreeMap::new();
        for (day, count) in self.days(from, to) {
            *buckets.entry(name(day)).or_default() += count;
        }
        buckets.into_iter().collect()
    }

    /// Moves the days before `date` out of the meter.
    fn take_out(&mut self, date: NaiveDate) -> usize {
        let later = self.stored.split_off(&date);
        let taken = std::mem::replace(&mut self.stored, later);
        for (day, hours) in &taken {
            *self.sealed.entry(*day).or_default() += hours.values().sum::<i64>();
        }
        taken.len()
    }

    /// One day as METER.KPI returns it.
    fn day(&self, day: NaiveDate) -> Vec<String> {
        let mut fields = Vec::new();
        if let Some(hours) = self.stored.get(&day) {
            fields.extend(["day".to_owned(), hours.values().sum::<i64>().to_string()]);
            fields.extend(hours.iter().flat_map(|(hour, count)| [hour.to_string(), count.to_string()]));
        }
        if let Some(count) = self.sealed.get(&day) {
            fields.extend(["sealed".to_owned(), count.to_string()]);
        }
        fields
    }
}

/// An instant of the days that the traffic is about: most near to today, over two or three months, some so old that
/// their months are no more remembered by themselves.
fn instant(random: &mut Random, now: i64) -> i64 {
    let hour = i64::try_from(random.below(24)).expect("small") * HOUR_MS;
    let back = match random.below(12) {
        0 => 380 + random.below(30),
        1 => 500 + random.below(8),
        2 => 1_600 + random.below(60),
        _ => random.below(75),
    };
    now / DAY_MS * DAY_MS - i64::try_from(back).expect("small") * DAY_MS + hour - DAY_MS
}

struct Traffic {
    redis: Client,
    random: Random,
    model: Model,
    now: i64,
}

impl Traffic {
    fn step(&mut self) {
        let at = instant(&mut self.random, self.now);
        match self.random.below(16) {
            0 | 1 => self.seal(day_of(at)),
            2 | 3 => self.acknowledge(),
            4 => self.drop_before(day_of(at)),
            5 | 6 => self.correct(at),
            _ => self.hit(at),
        }
    }

    /// A hit, half of them with caps; the model knows whether they are exceeded.
    fn hit(&mut self, at: i64) {
        let (day, hour) = (day_of(at), at % DAY_MS / HOUR_MS);
        let n = 1 + i64::try_from(self.random.below(9)).expect("small");
        let mut line = format!("METER.HIT m AT {at} BY {n} WHY");
        let mut left = None;
        if self.random.below(2) == 0 {
            let month = day.with_day(1).expect("a first day");
            let since = day - chrono::Days::new(u64::try_from(self.random.below(367)).expect("small"));
            let sum = |from, to| self.model.days(from, to).values().sum::<i64>();
            let last = month + chrono::Months::new(1) - chrono::Days::new(1);
            for (cap, counted) in [
                ("DAY".to_owned(), self.model.stored.get(&day).map_or(0, |hours| hours.values().sum())),
                ("MONTH".to_owned(), sum(month, last)),
                (format!("SINCE {}", digits(since)), sum(since, NaiveDate::MAX)),
            ] {
                let limit = (counted + i64::try_from(self.random.below(30)).expect("small") - 2).max(1);
                write!(line, " CAP {cap} {limit}").expect("written");
                let room = limit - counted;
                left = Some(left.map_or(room, |left: i64| left.min(room)));
            }
        }
        let applied = if left.is_some_and(|left| left < n) { 0 } else { n };
        if applied > 0 {
            *self.model.stored.entry(day).or_default().entry(hour).or_default() += n;
        }
        let hours = self.model.stored.get(&day);
        let [day, hour] = [
            hours.map_or(0, |hours| hours.values().sum::<i64>()),
            hours.and_then(|hours| hours.get(&hour)).copied().unwrap_or(0),
        ];
        let why = if applied == 0 { Value::BulkString(b"capped".to_vec()) } else { Value::Nil };
        let left = left.map_or(Value::Nil, |left| Value::Int((left - applied).max(0)));
        let expected = Value::Array(vec![Value::Int(day), Value::Int(hour), Value::Int(applied), why, left]);
        assert_eq!(self.redis.run(&line), expected, "{line}");
    }

    /// A correction reaches stored days alone.
    fn correct(&mut self, at: i64) {
        let (day, hour) = (day_of(at), at % DAY_MS / HOUR_MS);
        let stored = self.model.stored.get(&day).and_then(|hours| hours.get(&hour)).copied().unwrap_or(0);
        let line = format!("METER.HIT m AT {at} BY -2");
        if stored < 2 {
            assert!(self.redis.error(&line).starts_with("ERR BY would correct more"), "{line}");
            return;
        }
        assert_eq!(self.redis.ints(&line)[2], -2);
        let hours = self.model.stored.get_mut(&day).expect("stored");
        hours.insert(hour, stored - 2);
        hours.retain(|_, count| *count > 0);
        self.model.stored.retain(|_, hours| !hours.is_empty());
    }

    fn seal(&mut self, before: NaiveDate) {
        let (id, _) = self.redis.seal(&format!("METER.SEAL m BEFORE {}", digits(before)));
        if self.model.batch.is_some() {
            assert_eq!(id, self.model.batch, "the open batch is returned again");
            return;
        }
        let taken = self.model.take_out(before);
        assert_eq!(id.is_some(), taken > 0);
        self.model.batch = id;
    }

    fn acknowledge(&mut self) {
        if let Some(id) = self.model.batch.take() {
            assert!(self.redis.int(&format!("METER.ACK m {id}")) > 0);
        }
    }

    fn drop_before(&mut self, before: NaiveDate) {
        let dropped = self.redis.int(&format!("METER.DROP m BEFORE {}", digits(before)));
        let taken = self.model.take_out(before);
        assert_eq!(usize::try_from(dropped), Ok(taken));
    }

    /// Compares a span and its costs, and a day.
    fn check(&mut self, from: NaiveDate, to: NaiveDate) {
        let span = format!("m FROM {} TO {}", digits(from), digits(to));
        type Bucket = fn(NaiveDate) -> String;
        let buckets: [(&str, Bucket); 4] = [
            ("DAY", digits),
            ("WEEK", |day| format!("{}W{:02}", day.iso_week().year(), day.iso_week().week())),
            ("MONTH", |day| day.format("%Y%m").to_string()),
            ("TOTAL", |_| "total".to_owned()),
        ];
        for (by, name) in buckets {
            let found = self.redis.counts(&format!("METER.KPI {span} BY {by}"));
            assert_eq!(found, self.model.buckets(from, to, name), "{span} BY {by}");
        }
        let usage = self.model.days(from, to).values().sum();
        for (tariff, cents) in tariffs(usage) {
            assert_eq!(
                self.redis.strings(&format!("METER.COST {span} {tariff}")),
                bill(usage, cents),
                "{span} {tariff}"
            );
        }
        let usage = self.model.days(from, from).values().sum();
        let day = digits(from);
        assert_eq!(self.redis.strings(&format!("METER.KPI m DAY {day}")), self.model.day(from), "day {day}");
        for (tariff, cents) in tariffs(usage) {
            assert_eq!(
                self.redis.strings(&format!("METER.COST m DAY {day} {tariff}")),
                bill(usage, cents),
                "day {day}"
            );
        }
    }
}

/// Tariffs, and what a usage costs by them in hundredths.
fn tariffs(usage: i64) -> [(&'static str, i64); 3] {
    [
        ("RATE 0.02", usage * 2),
        ("GRADUATED 100 0.05 300 0.03 inf 0.01", {
            usage.min(100) * 5 + (usage - 100).clamp(0, 200) * 3 + (usage - 300).max(0)
        }),
        (
            "VOLUME 100 0.05 300 0.03 inf 0.01",
            usage
                * if usage <= 100 {
                    5
                } else if usage <= 300 {
                    3
                } else {
                    1
                },
        ),
    ]
}

fn bill(usage: i64, cents: i64) -> Vec<String> {
    vec![usage.to_string(), format!("{}.{:02}", cents / 100, cents % 100)]
}

fn random_traffic(program: &Program, seed: u64) {
    let server = Server::start(program, &[]);
    let (redis, now) = (server.connect(), now_ms());
    let mut traffic = Traffic { redis, random: Random::new(seed), model: Model::default(), now };
    for _ in 0..setting("METER_BILLS_STEPS", 250) {
        traffic.step();
        // The whole, the last three months, and any span.
        let [one, two] = [(); 2].map(|()| day_of(instant(&mut traffic.random, now)));
        for (from, to) in
            [(day_of(AT), day_of(now)), (day_of(now - 90 * DAY_MS), day_of(now)), (one.min(two), one.max(two))]
        {
            traffic.check(from, to);
        }
    }
    assert!(traffic.model.sealed.len() > 10 && !traffic.model.stored.is_empty(), "the traffic was about all of it");
}

#[test]
fn every_span_and_cost_is_that_of_all_that_was_counted() {
    let seed = setting("METER_BILLS_SEED", now_ms().unsigned_abs());
    println!("METER_BILLS_SEED={seed}");
    on_every_program(|program| random_traffic(program, seed));
}

#[test]
fn a_bill_is_the_same_before_during_and_after_sealing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (days, n) in [(0, 100), (1, 50), (25, 25)] {
            redis.run(&format!("METER.HIT m AT {} BY {n} UNIQUE u PATH 1 a", AT + days * DAY_MS));
        }
        let bill = |redis: &mut Client| {
            ["DAY", "WEEK", "MONTH"]
                .map(|by| redis.strings_of_pairs(&format!("METER.KPI m FROM 20220801 TO 20220930 BY {by}")))
                .concat()
                + &redis.strings("METER.COST m FROM 20220801 TO 20220930 GRADUATED 120 0.1 inf 0.05").join(" ")
        };
        let expected = "20220809=100 20220810=50 20220903=25 2022W32=150 2022W35=25 202208=150 202209=25 175 14.75";
        assert_eq!(bill(&mut redis), expected, "before SEAL");
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["day", "100", "14", "100", "unique", "1"]);

        let (id, _) = redis.seal("METER.SEAL m BEFORE 20220810");
        assert_eq!(bill(&mut redis), expected, "between SEAL and ACK");
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["sealed", "100"], "a day wholly taken is just that");
        assert_eq!(redis.strings("METER.COST m DAY 20220809 RATE 1"), ["100", "100"]);

        redis.run(&format!("METER.ACK m {}", id.expect("a batch")));
        assert_eq!(bill(&mut redis), expected, "after ACK");

        // A late hit opens the day again.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 5")), [5, 5, 5]);
        let expected = "20220809=105 20220810=50 20220903=25 2022W32=155 2022W35=25 202208=155 202209=25 180 15.00";
        assert_eq!(bill(&mut redis), expected, "after a late hit");
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["day", "5", "14", "5", "sealed", "100"]);
        assert_eq!(redis.strings("METER.COST m DAY 20220809 RATE 1"), ["105", "105"]);

        assert_eq!(redis.int("METER.DROP m BEFORE 20220811"), 2);
        assert_eq!(bill(&mut redis), expected, "after DROP BEFORE");
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["sealed", "105"]);

        // Hours, members and distinct ids are known of stored days alone.
        let hours = redis.counts("METER.KPI m FROM 20220801 TO 20220930 BY HOUR");
        assert_eq!(hours, [("2022090314".to_owned(), 25)]);
        let path = redis.counts("METER.KPI m FROM 20220801 TO 20220930 PATH 1 a");
        assert_eq!(path, [("20220903".to_owned(), 25)]);
        let total = redis.counts("METER.KPI m FROM 20220801 TO 20220930 BY TOTAL");
        assert_eq!(total, [("total".to_owned(), 180), ("unique".to_owned(), 1)]);
        assert_eq!(redis.counts("METER.DAYS m"), [("20220903".to_owned(), 25)]);

        // Dropping a whole meter deletes its sealed and dropped counts too.
        redis.run("METER.DROP m");
        assert_eq!(redis.int("DBSIZE"), 0);
        assert_eq!(redis.strings("METER.COST m FROM 20220801 TO 20220930 RATE 1"), ["0", "0"]);
    });
}

#[test]
fn resp3_returns_sealed_by_name() {
    on_every_server(|server| {
        if !server.program.is_7_or_later() {
            return; // modules can't reply maps there
        }
        let mut redis = server.connect_resp3();
        redis.run(&format!("METER.HIT m AT {AT} BY 7"));
        redis.run("METER.DROP m BEFORE 20220810");
        let field = |name: &str, count| (Value::BulkString(name.into()), Value::Int(count));
        assert_eq!(redis.run("METER.KPI m DAY 20220809"), Value::Map(vec![field("sealed", 7)]));
        redis.run(&format!("METER.HIT m AT {AT} BY 2"));
        let expected = vec![field("day", 2), field("14", 2), field("sealed", 7)];
        assert_eq!(redis.run("METER.KPI m DAY 20220809"), Value::Map(expected));
    });
}

#[test]
fn weeks_are_those_of_iso_8601() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // 2020 has 53 weeks; 1 to 3 January 2021 are in the last of them, and 3 January 2022 begins a first one.
        for (day, ms) in [
            ("20201228", 1_609_113_600_000_i64),
            ("20201231", 1_609_372_800_000),
            ("20210103", 1_609_632_000_000),
            ("20210104", 1_609_718_400_000),
            ("20220102", 1_641_081_600_000),
            ("20220103", 1_641_168_000_000),
            ("20241230", 1_735_516_800_000),
        ] {
            assert_eq!(date(ms), day);
            redis.run(&format!("METER.HIT m AT {ms}"));
        }
        redis.run("METER.DROP m BEFORE 20210101");
        let weeks = redis.strings_of_pairs("METER.KPI m FROM 20200101 TO 20251231 BY WEEK");
        assert_eq!(weeks, "2020W53=3 2021W01=1 2021W52=1 2022W01=1 2025W01=1 ");
        // A span that cuts a week has the days that are in both.
        let weeks = redis.strings_of_pairs("METER.KPI m FROM 20201231 TO 20210102 BY WEEK");
        assert_eq!(weeks, "2020W53=1 ");
        redis.run("METER.HIT p AT 1609632000000 PATH 2 a b BY 4");
        redis.run("METER.HIT p AT 1609718400000 PATH 2 a b BY 5");
        let weeks = redis.strings_of_pairs("METER.KPI p FROM 20200101 TO 20251231 BY WEEK PATH 2 a b");
        assert_eq!(weeks, "2020W53=4 2021W01=5 ");
        let error = redis.error("METER.KPI m FROM 20200101 TO 20251231 BY FORTNIGHT");
        assert_eq!(error, "ERR BY must be HOUR, DAY, WEEK, MONTH or TOTAL, not 'FORTNIGHT'");
    });
}

trait Pairs {
    /// Pairs of a name and a count as `name=count `.
    fn strings_of_pairs(&mut self, line: &str) -> String;
}

impl Pairs for Client {
    fn strings_of_pairs(&mut self, line: &str) -> String {
        self.counts(line).into_iter().map(|(name, count)| format!("{name}={count} ")).collect()
    }
}

/// The counts of a month are kept for 400 days after they were added, for a month of any age.
#[test]
fn days_sealed_late_are_billed_for_400_days() {
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let shifted =
            |days: i64| program.preloading("clock.c", &format!("SHIFT={}", days * DAY_MS / 1_000), folder.path());
        let mut server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let now = now_ms();
        // Sealed soon, a year later, and long after its month's counts have expired.
        for (meter, days_ago) in [("soon", 3), ("late", 380), ("history", 1_500)] {
            let mut redis = server.connect();
            redis.run(&format!("METER.HIT {meter} AT {} BY 7", now - days_ago * DAY_MS));
            let (id, _) = redis.seal(&format!("METER.SEAL {meter}"));
            redis.run(&format!("METER.ACK {meter} {}", id.expect("a batch")));
        }
        for days in [0, 40, 200, 390] {
            server.program = shifted(days);
            server.restart("NOSAVE");
            let mut redis = server.connect();
            for meter in ["soon", "late", "history"] {
                let cost = redis.strings(&format!("METER.COST {meter} FROM 20200101 TO 20991231 RATE 2"));
                assert_eq!(cost, ["7", "14"], "{meter}, {days} days later");
            }
        }
        // Months later all of it has expired.
        server.program = shifted(500);
        server.restart("NOSAVE");
        let mut redis = server.connect();
        testkit::eventually("it expires", || redis.int("DBSIZE") == 0);
    });
}

#[test]
fn a_month_that_is_history_is_found_through_the_month_of_its_sealing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY 7"));
        redis.run("METER.SEAL m");
        let today = date(now_ms());
        let this_month = &today[..6];
        assert_eq!(redis.strings("HGETALL m:month:202208"), ["20220809", "7"]);
        assert_eq!(redis.strings(&format!("HGETALL m:month:{this_month}")), ["202208", "0"]);
        for span in ["20220809 TO 20220809", "20220801 TO 20220831", "00010101 TO 99991231"] {
            assert_eq!(redis.strings(&format!("METER.COST m FROM {span} RATE 1")), ["7", "7"], "{span}");
        }
        for span in ["20220810 TO 20220831", "20220901 TO 99991231", "00010101 TO 20220808"] {
            assert_eq!(redis.strings(&format!("METER.COST m FROM {span} RATE 1")), ["0", "0"], "{span}");
        }
        // The name counts for nothing, and is no day.
        assert_eq!(redis.counts(&format!("METER.KPI m FROM {this_month}01 TO {today}")), []);
    });
}

#[test]
fn a_month_that_holds_something_else_is_an_error_and_stays() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY 7"));
        redis.run("HSET m:month:202208 20220809 x");
        redis.run(&format!("HSET m:month:{} 202208 0", &date(now_ms())[..6]));
        let before = redis.contents();
        for line in [
            "METER.KPI m DAY 20220809",
            "METER.KPI m FROM 20220801 TO 20220831 BY WEEK",
            "METER.COST m FROM 20220801 TO 20220831 RATE 1",
            "METER.COST m DAY 20220809 RATE 1",
            "METER.SEAL m",
            "METER.DROP m BEFORE 20220901",
            &format!("METER.HIT m AT {AT} CAP MONTH 100"),
            &format!("METER.HIT m AT {AT} CAP SINCE 20220801 100"),
        ] {
            let error = redis.error(line);
            assert!(error.starts_with("ERR ") && error.contains("m:month:202208"), "{line}: {error}");
            assert_eq!(redis.contents(), before, "{line}");
        }
        redis.run("DEL m:month:202208");
        redis.run("SET m:month:202208 text");
        for line in ["METER.KPI m DAY 20220809", "METER.COST m FROM 20220801 TO 20220831 RATE 1", "METER.SEAL m"] {
            assert!(redis.error(line).starts_with("WRONGTYPE "), "{line}");
        }
    });
}

#[test]
fn a_sum_that_does_not_fit_is_an_error() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY {}", i64::MAX));
        redis.run("METER.DROP m BEFORE 20220810");
        redis.run(&format!("METER.HIT m AT {AT}"));
        let before = redis.contents();
        for line in [
            "METER.KPI m FROM 20220801 TO 20220831",
            "METER.COST m FROM 20220801 TO 20220831 RATE 1",
            "METER.COST m DAY 20220809 RATE 1",
            "METER.SEAL m",
            "METER.DROP m BEFORE 20220810",
        ] {
            let error = redis.error(line);
            assert!(error.starts_with("ERR ") && error.contains("9223372036854775807"), "{line}: {error}");
            assert_eq!(redis.contents(), before, "{line}");
        }
    });
}
