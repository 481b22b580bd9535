//! After random traffic of all commands, replicas have the same keys as their primary, and so has the server after a
//! restart from its AOF or RDB: to the byte and the millisecond, in every database, with the module or without it, with
//! any clock and config.
//!
//! `METER_TRAFFIC_CALLS` sets the number of calls on each server, `METER_TRAFFIC_SEED` repeats a run.

use std::collections::BTreeSet;
use std::path::Path;

use testkit::catalogue::{CATALOGUE, Sample};
use testkit::{
    Client, Program, Random, Server, StoredKey, Value, assert_same, date, eventually, now_ms, on_every_program,
    setting, sleep_ms,
};

const HOUR_MS: i64 = 3_600_000;

const DATABASES: usize = 3;

/// How far off a shifted clock is.
const HOURS_OFF: i64 = 7;

/// Keys that expire no sooner than this exist until the comparison ends.
const LEISURE_MS: i64 = 60_000;

/// Stands for bytes that are no text.
const ODD: &[u8] = b"\0\xff%{}\r\n ";

/// Runs each of the calls in ARGV, each preceded by its number of words.
const SCRIPT: &[u8] = b"
    local at = 1
    while at <= #ARGV do
        redis.pcall(unpack(ARGV, at + 1, at + ARGV[at]))
        at = at + ARGV[at] + 1
    end";

type Words = Vec<Vec<u8>>;

/// The words of a line; a `~` stands for bytes that are no text.
fn words(line: &str) -> Words {
    let odd = |word: &str| word.split('~').map(str::as_bytes).collect::<Vec<_>>().join(ODD);
    line.split_whitespace().map(odd).collect()
}

/// Clients that call at random.
struct Traffic {
    redis: Client,
    /// Makes calls that block.
    waiter: Client,
    random: Random,
    /// Names of commands that have succeeded.
    passed: BTreeSet<Vec<u8>>,
}

impl Traffic {
    fn new(server: &Server, seed: u64) -> Self {
        let (redis, waiter) = (server.connect(), server.connect());
        Self { redis, waiter, random: Random::new(seed), passed: BTreeSet::new() }
    }

    fn run(&mut self, calls: u64) {
        for _ in 0..calls {
            match self.random.below(24) {
                0 => self.pipeline(),
                1 => self.transaction(),
                2 => self.script(),
                3 => self.wait(),
                4 => self.seal(),
                5 => self.select(),
                6 => sleep_ms(3),
                _ => {
                    let line = self.line();
                    let _ = self.call(&line);
                }
            }
        }
    }

    fn call(&mut self, line: &str) -> Result<Value, String> {
        let answer = try_call(&mut self.redis, &words(line));
        if answer.is_ok() {
            self.passed.insert(words(line).swap_remove(0));
        }
        answer
    }

    fn select(&mut self) {
        let database = self.random.below(DATABASES);
        self.call(&format!("SELECT {database}")).expect("a database");
    }

    fn lines(&mut self, most: usize) -> Vec<String> {
        (0..=self.random.below(most)).map(|_| self.line()).collect()
    }

    fn pipeline(&mut self) {
        let lines = self.lines(20);
        for line in &lines {
            send(&mut self.redis, line);
        }
        for line in &lines {
            let answer = self.redis.0.recv_response().and_then(Value::extract_error);
            if answer.is_ok() {
                self.passed.insert(words(line).swap_remove(0));
            }
        }
    }

    fn transaction(&mut self) {
        self.redis.run("MULTI");
        for line in self.lines(4) {
            try_call(&mut self.redis, &words(&line)).expect("queued");
        }
        self.select();
        for line in self.lines(4) {
            try_call(&mut self.redis, &words(&line)).expect("queued");
        }
        let _ = self.redis.try_run("EXEC");
    }

    fn script(&mut self) {
        let mut call = vec![b"EVAL".to_vec(), SCRIPT.to_vec(), b"0".to_vec()];
        for line in self.lines(5) {
            let words = words(&line);
            call.push(words.len().to_string().into_bytes());
            call.extend(words);
        }
        try_call(&mut self.redis, &call).expect("the script ends");
    }

    /// A PULL that is blocked while others run, until an element arrives or is due.
    fn wait(&mut self) {
        let into = self.random.pick(&["", "INTO busy"]);
        self.waiter.run(&format!("SELECT {}", self.random.below(DATABASES)));
        send(&mut self.waiter, &format!("CELL.PULL queue pace 2 200 1 COUNT 2 TIMEOUT 0.01 {into}"));
        for line in self.lines(4) {
            let _ = self.call(&line);
        }
        let _ = self.call("LPUSH queue late");
        let _ = self.waiter.0.recv_response();
    }

    /// A batch that is sealed, and most times acknowledged.
    fn seal(&mut self) {
        let meter = self.meter();
        let date = self.date();
        let Ok(Value::Array(batch)) = self.call(&format!("METER.SEAL {meter} BEFORE {date}")) else {
            return;
        };
        if let Value::BulkString(id) = &batch[0]
            && self.random.below(3) > 0
        {
            let id = String::from_utf8_lossy(id);
            self.call(&format!("METER.ACK {meter} {id}")).expect("the batch is open");
        }
    }

    fn meter(&mut self) -> &'static str {
        self.random.pick(&["kpi:a", "kpi:b", "{tag}:c", "~"])
    }

    /// An hour of these days.
    fn at(&mut self) -> i64 {
        now_ms() - i64::try_from(self.random.below(4 * 24)).expect("small") * HOUR_MS
    }

    fn date(&mut self) -> String {
        date(self.at() + 24 * HOUR_MS)
    }

    /// A call of any command.
    fn line(&mut self) -> String {
        match self.random.below(20) {
            0..6 => self.hit(),
            6..9 => self.meter_command(),
            9..17 => self.limiter(),
            17 => self.queue(),
            _ => self.other_program(),
        }
    }

    fn hit(&mut self) -> String {
        let mut line = format!("METER.HIT {}", self.meter());
        let at = self.at();
        let with_time = self.random.below(4) > 0;
        if with_time {
            line += &format!(" AT {at}");
        }
        line += self.random.pick(&["", " BY 3", " BY 2", " BY -1", " BY -2", " BY 0"]);
        let (app, user, id) = (self.random.below(3), self.random.below(12), self.random.below(1500));
        match self.random.below(4) {
            0 => line += &format!(" PATH 1 app{app}"),
            1 => line += &format!(" PATH 2 app{app} u~{user}"),
            2 => line += &format!(" PATH 3 a:~ app{app} {user}"),
            _ => {}
        }
        if self.random.below(4) == 0 {
            line += &format!(" PATH 2 country{} app{app} PATH 1 app{app}", self.random.below(3));
        }
        line += self.random.pick(&[
            "",
            "",
            "",
            " CAP DAY 60",
            " CAP MONTH 200",
            " CAP HOUR 9",
            " CAP DAY 90 CAP MONTH 400 CAP HOUR 30 WHY",
        ]);
        if self.random.below(6) == 0 {
            line += &format!(" CAP SINCE {} 300 WHY", date(at - 5 * 24 * HOUR_MS));
        }
        if self.random.below(2) == 0 {
            line += &format!(" UNIQUE user{id}");
        }
        if with_time && self.random.below(3) == 0 {
            line += &format!(" ONCE {}{id}", self.random.pick(&["", "event~"]));
        }
        line
    }

    fn meter_command(&mut self) -> String {
        let (meter, date) = (self.meter(), self.date());
        match self.random.below(16) {
            0 => format!("METER.SEAL {meter} BEFORE {date}"),
            1 => format!("METER.DROP {meter} BEFORE {date}"),
            2 if self.random.below(4) == 0 => format!("METER.DROP {meter}"),
            3 | 4 => format!("METER.INDEX {meter} FROM 20220801 TO 20220831"),
            5 | 6 => format!("METER.KPI {meter} DAY {date}"),
            7 => format!(
                "METER.KPI {meter} FROM 20220801 TO {date} BY {}",
                self.random.pick(&["TOTAL", "WEEK", "MONTH"])
            ),
            8 | 9 => format!("METER.TOP {meter} FROM 20220801 TO {date}"),
            10 => format!("METER.DAYS {meter}"),
            11 => format!("METER.COST {meter} DAY {date} GRADUATED 5 0.1 inf 0.05"),
            // Writes of other programs.
            12 => format!("HINCRBY {meter}:day:20220809 day 2"),
            13 => format!("PEXPIREAT {meter}:day:{date} {}", now_ms() + 20),
            14 => format!("ZINCRBY {meter}:day:{date}:path 1 app1"),
            _ => format!("PFCOUNT {meter}:day:{date}:unique"),
        }
    }

    fn limiter(&mut self) -> String {
        // Brief expiries pass during the traffic; the remaining keys last.
        let period = self.random.pick(&["0.002", "0.03", "900", "3600", "4000.5"]);
        let key = format!("{}{period}", self.random.pick(&["x", "y", "~"]));
        let quantity = self.random.pick(&["", "1", "2", "0", "-1", "-2", "9"]);
        let unit = self.random.pick(&["", "MS", "PARTIAL", "PARTIAL MS"]);
        let (burst, count) = (self.random.below(9), 1 + self.random.below(9));
        let read_only = self.random.pick(&["", "", "", "_RO"]);
        match self.random.below(9) {
            0 => format!("CELL.THROTTLE{read_only} t{key} {burst} {count} {period} {quantity} {unit}"),
            1 => {
                let n = if quantity.is_empty() { "1" } else { quantity };
                format!("CELL.MTHROTTLE{read_only} t{key} {burst} {count} {period} {n} m{key} 9 {count} 900 {n} {unit}")
            }
            2 => {
                let block = self.random.pick(&["", "BLOCK 0.02", "BLOCK 9000"]);
                format!("CELL.WINDOW{read_only} w{key} {count} {period} {quantity} {block} {unit}")
            }
            3 => {
                let holder = self.random.pick(&["ann", "bob", "cid", "~"]);
                let wait = self.random.pick(&["", "TIMEOUT 0.004"]);
                format!("CELL.LEASE{read_only} h{key} {} {period} {holder} {wait} {unit}", 1 + count / 3)
            }
            4 => format!("CELL.RELEASE h{key} {}", self.random.pick(&["ann", "bob", "cid", "~"])),
            5 => format!("CELL.LOG{read_only} l{key} {} {period} {quantity} {unit}", count * 20),
            6 => {
                let calendar =
                    self.random.pick(&["YEAR", "MONTH ANCHOR 2022-07-31", "WEEK OFFSET +05:45", "DAY", "HOUR"]);
                let (calendar, options) = calendar.split_once(' ').unwrap_or((calendar, ""));
                format!("CELL.QUOTA{read_only} c{key} {} {calendar} {quantity} {options} {unit}", count * 9)
            }
            7 => self.random.pick(&["CELL.REFUSED", "CELL.REFUSED COUNT 3", "CELL.REFUSED RESET"]).to_owned(),
            _ => format!("CELL.SLIDE{read_only} s{key} {count} {period} {quantity} {unit}"),
        }
    }

    fn queue(&mut self) -> String {
        let into = self.random.pick(&["", "INTO busy", "INTO ~"]);
        match self.random.below(3) {
            0 => "LPUSH queue a ~ c d".to_owned(),
            1 => format!("CELL.PULL queue pace 9 200 1 COUNT {} {into}", 1 + self.random.below(3)),
            _ => format!("CELL.PULL queue slow 3 1 900 TIMEOUT 0.005 {into}"),
        }
    }

    fn other_program(&mut self) -> String {
        let key = self.random.pick(&["tx900", "wy900", "l~3600", "sx3600", "kpi:a", "kpi:b", "queue"]);
        match self.random.below(12) {
            0 => format!("DEL {key}"),
            // A span to be added to the time Redis 6.2 would pass on as it is, to be added to the replica's time.
            1 => format!("PEXPIREAT {key} {}", now_ms() + 5),
            2 => format!("PERSIST {key}"),
            3 => format!("RENAME {key} once:{key}"),
            4 => format!("COPY {key} copy:{key} REPLACE"),
            // Too far ahead, or without an expiry: the next call repairs it.
            5 => "SET tx900 9000000000000000000".to_owned(),
            6 => "SET wy900 3".to_owned(),
            7 => format!("CONFIG SET meter.retention-days {}", self.random.pick(&["0", "5", "40"])),
            8 => format!("CONFIG SET meter.once-days {}", self.random.pick(&["7", "30"])),
            9 => format!("CONFIG SET meter.seal-max-keys {}", self.random.pick(&["3", "10000"])),
            10 => "RPOP busy".to_owned(),
            _ => format!("PEXPIREAT {key} {}", now_ms() + HOUR_MS),
        }
    }
}

fn try_call(client: &mut Client, words: &Words) -> Result<Value, String> {
    client.try_call(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Sends a call without waiting for the reply.
fn send(client: &mut Client, line: &str) {
    let mut command = redis::Cmd::new();
    for word in words(line) {
        command.arg(word);
    }
    client.0.send_packed_command(&command.get_packed_command()).expect("sent");
}

/// All keys of a server.
fn stored_keys(server: &Server) -> Vec<StoredKey> {
    testkit::stored_keys(server, DATABASES)
}

fn seed() -> u64 {
    let seed = setting("METER_TRAFFIC_SEED", now_ms().unsigned_abs());
    println!("METER_TRAFFIC_SEED={seed}");
    seed
}

/// Traffic, with `amid` in the middle; returns the server's keys when all brief ones have expired.
fn drive(server: &Server, seed: u64, amid: impl FnOnce()) -> Vec<StoredKey> {
    let calls = setting("METER_TRAFFIC_CALLS", 1_500);
    let mut traffic = Traffic::new(server, seed);
    traffic.run(calls / 2);
    amid();
    traffic.run(calls / 2);
    for Sample { command, .. } in CATALOGUE.iter().filter(|sample| !sample.is_on_request()) {
        assert!(calls < 1_000 || traffic.passed.contains(command.as_bytes()), "no {command} has passed");
    }
    let mut redis = server.connect();
    let brief = format!(
        "local keys, brief = redis.call('KEYS', '*'), 0
        for _, key in ipairs(keys) do
            local left = redis.call('PTTL', key)
            if left >= 0 and left < {LEISURE_MS} then brief = brief + 1 end
        end
        return brief + redis.call('DBSIZE') - #keys"
    );
    for database in 0..DATABASES {
        redis.run(&format!("SELECT {database}"));
        eventually("what is brief expires", || redis.try_call(&[b"EVAL", brief.as_bytes(), b"0"]) == Ok(Value::Int(0)));
    }
    let all = stored_keys(server);
    for kind in ["string", "hash", "zset", "set", "list"] {
        assert!(calls < 1_000 || all.iter().any(|key| key.entry.kind == kind), "no {kind} is left");
    }
    all
}

#[test]
fn replicas_hold_the_same() {
    let seed = seed();
    on_every_program(|program| {
        let primary = Server::start(program, &[]);
        let module = testkit::module().display().to_string();
        let others = ["--loadmodule", &module, "retention-days", "1", "once-days", "0", "seal-max-keys", "1"];
        let (without, with) = (primary.replica(&[]), primary.replica(&others));
        let mut late = None;
        let expected = drive(&primary, seed, || late = Some(primary.replica(&[])));
        for (replica, how) in [
            (Some(without), "a replica without the module"),
            (Some(with), "a replica with the module and another config"),
            (late, "a replica that came late"),
        ] {
            let replica = replica.expect("a replica");
            primary.wait_for_replica(&replica);
            assert_same(&stored_keys(&replica), &expected, how);
        }
    });
}

#[test]
fn a_restart_from_the_aof_brings_the_same_back() {
    let seed = seed();
    on_every_program(|program| {
        for preamble in ["yes", "no"] {
            let aof = ["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", preamble];
            let mut server = Server::start(program, &aof);
            let expected = drive(&server, seed, || drop(server.connect().run("BGREWRITEAOF")));
            eventually("the AOF is rewritten", || {
                let mut redis = server.connect();
                let mut field = |name: &str| redis.info_field("persistence", name).expect("a field");
                field("aof_rewrite_in_progress") == "0" && field("aof_rewrite_scheduled") == "0"
            });
            server.restart("NOSAVE");
            assert_same(&stored_keys(&server), &expected, "the AOF");
            server.connect().run("DEBUG LOADAOF");
            assert_same(&stored_keys(&server), &expected, "DEBUG LOADAOF");
            server.restart_with("NOSAVE", &aof);
            assert_same(&stored_keys(&server), &expected, "the AOF, without the module");
        }
    });
}

#[test]
fn a_restart_from_the_rdb_brings_the_same_back() {
    let seed = seed();
    on_every_program(|program| {
        let mut server = Server::start(program, &[]);
        let expected = drive(&server, seed, || drop(server.connect().run("DEBUG RELOAD")));
        server.connect().run("DEBUG RELOAD");
        assert_same(&stored_keys(&server), &expected, "DEBUG RELOAD");
        server.restart("SAVE");
        assert_same(&stored_keys(&server), &expected, "the RDB");
        server.restart_with("SAVE", &[]);
        assert_same(&stored_keys(&server), &expected, "the RDB, without the module");
    });
}

#[test]
fn a_clock_that_is_hours_off_changes_nothing() {
    let seed = seed();
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let [behind, ahead] = [-HOURS_OFF, HOURS_OFF].map(|hours| shifted(program, hours, folder.path()));
        let aof = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut primary = Server::start(program, &aof);
        let module = testkit::module().display().to_string();
        let replicas = [
            (&behind, vec![], "a replica hours behind"),
            (&ahead, vec!["--loadmodule", &module], "a replica hours ahead, with the module"),
        ]
        .map(|(program, arguments, how)| {
            let replica = Server::bare(program, &arguments);
            let mut redis = replica.connect();
            redis.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
            let off = redis.ints("TIME")[0] * 1_000 - now_ms();
            assert!(off.abs() > (HOURS_OFF - 1) * HOUR_MS, "{how}: {off} ms off");
            (replica, how)
        });
        let expected = drive(&primary, seed, || {});
        for (mut replica, how) in replicas {
            primary.wait_for_replica(&replica);
            // On a replica whose clock is ahead many keys are expired but stored. A server with the right clock reads
            // them.
            replica.program = program.clone();
            replica.restart_with("SAVE", &[]);
            assert_same(&stored_keys(&replica), &expected, how);
        }
        primary.program = behind;
        primary.restart("NOSAVE");
        assert_same(&stored_keys(&primary), &expected, "the AOF, by a clock hours behind");
    });
}

/// The program, by a clock that is shifted.
fn shifted(program: &Program, hours: i64, folder: &Path) -> Program {
    program.preloading("clock.c", &format!("SHIFT={}", hours * HOUR_MS / 1_000), folder)
}
