use std::time::Duration;

use testkit::database::{Database, ENGINES};
use testkit::{Random, Server};

use super::database::{Arg, Read, Session};
use super::{Archive, Sketch, schema};

const DEADLINE: Duration = Duration::from_secs(20);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// A connection to tables that have not been touched.
async fn raw(archive: &Archive) -> Session {
    use super::{Target, mysql, postgres, sqlite};
    let connection = match &archive.target {
        Target::Sqlite(file) => sqlite::connect(file, DEADLINE).await,
        Target::Postgres(url) => postgres::connect(url, DEADLINE).await,
        Target::MySql(url) => mysql::connect(url, DEADLINE).await,
    };
    Session::new(connection.expect("a connection"), DEADLINE)
}

#[test]
fn tables_of_every_older_version_are_brought_up_to_date_and_keep_their_rows() {
    for engine in ENGINES {
        let database = Database::start(engine);
        let newest = super::sqlite::MIGRATIONS.len();
        for older in 1..newest {
            let archive = Archive::new(&database.fresh(), &[], DEADLINE).expect("an archive");
            block_on(async {
                let mut session = raw(&archive).await;
                schema::migrate(&mut session, older).await.expect("the older tables");
                let day = session.dialect().day_in();
                let sql =
                    format!("INSERT INTO meter_hour (meter, day, hour, count, meter_hash) VALUES (?, {day}, 7, 42, ?)");
                let args = [Arg::Bytes(b"shop"), Arg::Text("2022-08-09"), Arg::Bytes(&[0; 32])];
                session.execute(&sql, &args).await.expect("a row");

                let mut session = archive.connect().await.expect("a migration");
                let rows = session.query("SELECT count FROM meter_hour", &[], &[Read::Int]).await.expect("rows");
                assert_eq!(rows[0][0].int().expect("a count"), 42, "{engine:?}");
                let rows = session.query("SELECT version FROM meter_schema", &[], &[Read::Int]).await.expect("rows");
                assert_eq!(rows.len(), 1);
                assert_eq!(rows[0][0].int().expect("a version"), newest as i64);
                session.query("SELECT made_for FROM meter_table", &[], &[Read::Text]).await.expect("the newer table");
            });
        }
    }
}

#[test]
fn all_databases_have_as_many_versions_and_a_newer_one_is_refused() {
    let newest = super::sqlite::MIGRATIONS.len();
    assert_eq!(super::postgres::MIGRATIONS.len(), newest);
    assert_eq!(super::mysql::MIGRATIONS.len(), newest);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    let archive = Archive::new(&url, &[], DEADLINE).expect("an archive");
    block_on(async {
        let mut session = archive.connect().await.expect("tables");
        session.execute(&format!("UPDATE meter_schema SET version = {}", newest + 1), &[]).await.expect("an update");
        let error = archive.connect().await.err().expect("an error").to_string();
        assert!(error.contains("use a newer meterd"), "{error}");
    });
}

#[test]
fn programs_that_make_the_tables_at_once_wait_for_each_other() {
    for engine in ENGINES {
        let database = Database::start(engine);
        let archive = Archive::new(&database.fresh(), &[], DEADLINE).expect("an archive");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let all: Vec<_> = (0..6)
                .map(|_| {
                    let archive = archive.clone();
                    tokio::spawn(async move { archive.connect().await.map(drop) })
                })
                .collect();
            for one in all {
                // One that was not in time says so, and may try again.
                let outcome = one.await.expect("no panic");
                assert!(
                    outcome.as_ref().is_ok_and(|()| true)
                        || outcome.is_err_and(|error| error.kind == super::Kind::Busy)
                );
            }
            archive.connect().await.expect("the tables");
        });
    }
}

/// Adds `n` ids to a HyperLogLog of a server.
fn add(redis: &mut testkit::Client, key: &str, random: &mut Random, n: usize) {
    for _ in 0..n.div_ceil(500) {
        let ids: Vec<String> = (0..n.min(500)).map(|_| random.number().to_string()).collect();
        redis.run(&format!("PFADD {key} {}", ids.join(" ")));
    }
}

#[test]
fn sketches_count_and_merge_as_every_server_does() {
    testkit::on_every_program(|program| {
        let server = Server::bare(program, &[]);
        let mut redis = server.connect();
        let mut random = Random::new(11);
        for (round, n) in [0, 1, 2, 17, 300, 2_000, 9_000, 60_000].into_iter().enumerate() {
            redis.run("DEL a b both back");
            redis.run("PFADD a");
            redis.run("PFADD b first");
            add(&mut redis, "a", &mut random, n);
            add(&mut redis, "b", &mut random, 50 * round * round);
            redis.run("PFMERGE both a b");
            let mut read = |key: &str| {
                let value = redis.try_call(&[b"GET", key.as_bytes()]).expect("a string");
                let bytes: Vec<u8> = redis::from_redis_value(value).expect("bytes");
                (Sketch::read(&bytes).expect("a sketch"), redis.int(&format!("PFCOUNT {key}")))
            };
            let ((mut a, count_a), (b, count_b), (both, count)) = (read("a"), read("b"), read("both"));
            assert_eq!(a.count(), count_a.unsigned_abs(), "{n} ids");
            assert_eq!(b.count(), count_b.unsigned_abs());
            assert_eq!(both.count(), count.unsigned_abs());
            a.merge(&b);
            assert_eq!(a, both);
            redis.try_call(&[b"SET", b"back", &a.write()]).expect("set");
            assert_eq!(redis.int("PFCOUNT back"), count, "the server reads what is written");
            redis.run("PFADD back one more");
        }
    });
}
