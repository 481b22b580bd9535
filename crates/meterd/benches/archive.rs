//! How many rows a second `meterd archive` moves to each database: from a server with real hits in it, all on this
//! machine. `METERD_BENCH_ROWS` is about how many rows (default 300,000), `METERD_BENCH_ROUNDS` how often each database has
//! its turn (default 3); the best round counts, since what else a machine does only takes away.
#![allow(missing_docs, reason = "a program")]

use std::process::Command;
use std::time::Instant;

use testkit::Server;
use testkit::database::{Database, ENGINES, Engine};

/// Members of the second level in each of the first.
const USERS: u64 = 1000;
/// 9 August 2022.
const DAY_MS: u64 = 1_660_003_200_000;

fn main() {
    let rows = testkit::setting("METERD_BENCH_ROWS", 300_000);
    let rounds = testkit::setting("METERD_BENCH_ROUNDS", 3);
    let mut best = [f64::INFINITY; ENGINES.len()];
    for _ in 0..rounds {
        for (engine, best) in ENGINES.into_iter().zip(&mut best) {
            *best = best.min(seconds(engine, rows));
        }
    }
    println!("| database | rows | seconds | rows a second |\n|---|---:|---:|---:|");
    for (engine, seconds) in ENGINES.into_iter().zip(best) {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = rows as f64 / seconds;
        println!("| {engine:?} | {rows} | {seconds:.2} | {rate:.0} |");
    }
}

/// How long a fresh database takes to get so many rows of a fresh server.
fn seconds(engine: Engine, rows: u64) -> f64 {
    // The testkit's waits for no disk, as it only has to outlive its own process.
    let arguments: &[&str] = if engine == Engine::Postgres { &["-c", "fsync=on"] } else { &[] };
    let database = Database::start_with(engine, arguments);
    let archive = database.fresh();
    let server = Server::start(testkit::programs().last().expect("a server program"), &[]);
    let run = |meters: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
        command.args(["archive", "--once", meters, "--archive", &archive]);
        let command = command.env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port));
        assert!(command.output().expect("meterd").status.success());
    };
    // The tables are made before the clock starts.
    run("none");
    hit(&server, rows);
    let start = Instant::now();
    run("api:requests");
    start.elapsed().as_secs_f64()
}

/// Hits that make about so many rows.
fn hit(server: &Server, rows: u64) {
    let mut redis = server.connect();
    for endpoint in 0..rows.div_ceil(USERS) {
        let mut pipeline = redis::pipe();
        for user in 0..USERS.min(rows - endpoint * USERS) {
            let at = DAY_MS + user % 24 * 3_600_000;
            pipeline.cmd("METER.HIT").arg("api:requests").arg("AT").arg(at).arg("PATH").arg(2);
            pipeline.arg(format!("users{endpoint}#update")).arg(format!("user{user}")).ignore();
        }
        pipeline.query::<()>(&mut redis.0).expect("hits");
    }
}
