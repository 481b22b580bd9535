//! What `meterd archive` writes to SQLite, PostgreSQL and MariaDB is what was counted, to the unit, for names of any
//! bytes.

mod sql;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use sql::{Cell, batches, fails, hours, meterd, on_every_engine, paths, query, run, said, server};
use testkit::database::Engine;
use testkit::{Client, Random};

/// 9 August 2022, midnight.
const AUGUST_9: i64 = 1_660_003_200_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Sends a hit of any bytes.
fn hit(redis: &mut Client, meter: &[u8], at: i64, by: i64, path: &[&[u8]]) {
    let (at, by, depth) = (at.to_string(), by.to_string(), path.len().to_string());
    let mut words: Vec<&[u8]> = vec![b"METER.HIT", meter, b"AT", at.as_bytes(), b"BY", by.as_bytes()];
    if !path.is_empty() {
        words.extend([b"PATH", depth.as_bytes()]);
        words.extend(path);
    }
    redis.try_call(&words).expect("a hit");
}

#[test]
fn what_was_counted_is_in_sql_and_no_longer_in_the_server() {
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        for (meter, at, by) in [("shop", AUGUST_9, 5), ("shop", AUGUST_9 + 23 * HOUR, 2), ("kpi:a", AUGUST_9 - DAY, 7)]
        {
            hit(&mut redis, meter.as_bytes(), at, by, &[b"users#update", b"1337"]);
        }
        let printed = run(&server, &archive, &["archive", "--once"]);
        assert!(printed.contains("shop: 1 batch with 4 rows to "), "{printed}");
        let hour = |meter: &str, day: &str, hour, count| ((meter.as_bytes().to_vec(), day.to_owned(), hour), count);
        let expected =
            [hour("shop", "2022-08-09", 0, 5), hour("shop", "2022-08-09", 23, 2), hour("kpi:a", "2022-08-08", 0, 7)];
        assert_eq!(hours(&archive), BTreeMap::from(expected.clone()));
        assert_eq!(redis.strings("KEYS *:day:*"), [""; 0]);
        assert_eq!(redis.strings("KEYS *:batch"), [""; 0]);

        // A late hit is added, and a second run finds nothing to do.
        hit(&mut redis, b"shop", AUGUST_9, 1, &[b"users#update", b"1338"]);
        run(&server, &archive, &["archive", "--once", "sh*"]);
        run(&server, &archive, &["archive", "--once"]);
        let mut expected = BTreeMap::from(expected);
        expected.insert((b"shop".to_vec(), "2022-08-09".to_owned(), 0), 6);
        assert_eq!(hours(&archive), expected);
        let path = |meter: &str, day: &str, path: &[&str], count| {
            let path = path.iter().map(|member| member.as_bytes().to_vec()).collect::<Vec<_>>();
            ((meter.as_bytes().to_vec(), day.to_owned(), path), count)
        };
        let expected = [
            path("shop", "2022-08-09", &["users#update"], 8),
            path("shop", "2022-08-09", &["users#update", "1337"], 7),
            path("shop", "2022-08-09", &["users#update", "1338"], 1),
            path("kpi:a", "2022-08-08", &["users#update"], 7),
            path("kpi:a", "2022-08-08", &["users#update", "1337"], 7),
        ];
        assert_eq!(paths(&archive), BTreeMap::from(expected));
        assert_eq!(batches(&archive), 3);
    });
}

#[test]
fn names_are_bytes_and_no_two_of_them_are_one() {
    let long = vec![b'x'; 60_000];
    let names: [&[u8]; 12] = [
        b"Ann",
        b"ann",
        b"ann ",
        b"ann\0",
        b"\0",
        b"\xff\xfe",
        "Änn".as_bytes(),
        "änn".as_bytes(),
        b"a%3Ab",
        b"a:b",
        b"'\"\\`$1?",
        &long,
    ];
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        let mut expected = BTreeMap::new();
        for (n, name) in (1..).zip(names) {
            hit(&mut redis, b"m\xff ", AUGUST_9, n, &[name, b"below", name]);
            for depth in 1..=3 {
                let path: Vec<Vec<u8>> = [name, b"below", name][..depth].iter().map(|name| name.to_vec()).collect();
                expected.insert((b"m\xff ".to_vec(), "2022-08-09".to_owned(), path), n);
            }
        }
        for _ in 0..2 {
            run(&server, &archive, &["archive", "--once"]);
            assert_eq!(paths(&archive), expected);
            // Once more, so that each row is found and added to.
            for (n, name) in (1..).zip(names) {
                hit(&mut redis, b"m\xff ", AUGUST_9, n, &[name, b"below", name]);
            }
            expected.values_mut().for_each(|count| *count *= 2);
        }
    });
}

#[test]
fn the_access_logs_table_is_filled_and_asked_by_plain_sql() {
    let toml = r#"
        [[archive.table]]
        name = "api_usage"
        meter = "api:requests"
        columns = { date = "day", controller = "member1 before '#'", action = "member1 after '#'", user_id = "member2", hit_count = "count" }
        [[archive.table]]
        name = "by_hour"
        meter = "api:*"
        columns = { the_day = "day", hour = "hour", meter = "meter", hits = "count" }
        [[archive.table]]
        name = "by_controller"
        meter = "api:requests"
        columns = { date = "day", controller = "member1 before '#'", hits = "count" }
    "#;
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        std::fs::write(server.folder.path().join("meterd.toml"), toml).expect("written");
        let mut redis = server.connect();
        for day in 0..3 {
            hit(&mut redis, b"api:requests", AUGUST_9 + day * DAY, 1, &[b"users#update", b"1337"]);
            hit(&mut redis, b"api:requests", AUGUST_9 + day * DAY, 10, &[b"users#show", b"1337"]);
            hit(&mut redis, b"api:requests", AUGUST_9 + day * DAY, 100, &[b"health", b"1337"]);
            run(&server, &archive, &["archive", "--once"]);
        }
        let sum = |sql: &str| {
            let sql = sql
                .replace("SUM(hits)", "CAST(SUM(hits) AS CHAR(20))")
                .replace("SUM(hit_count)", "CAST(SUM(hit_count) AS CHAR(20))");
            query(&archive, &sql)[0][0].text().trim().parse::<i64>().expect("a number")
        };
        let range = "date BETWEEN '2022-08-10' AND '2022-08-31'";
        assert_eq!(sum(&format!("SELECT SUM(hit_count) FROM api_usage WHERE {range}")), 222);
        assert_eq!(sum(&format!("SELECT SUM(hit_count) FROM api_usage WHERE {range} AND controller = 'users'")), 22);
        assert_eq!(sum("SELECT SUM(hit_count) FROM api_usage WHERE user_id = '1337' AND action = 'update'"), 3);
        assert_eq!(query(&archive, "SELECT action FROM api_usage WHERE controller = 'health'").len(), 3);
        assert_eq!(sum("SELECT SUM(hits) FROM by_hour WHERE meter = 'api:requests' AND hour = 0"), 333);
        assert_eq!(sum("SELECT SUM(hits) FROM by_controller WHERE date = '2022-08-09' AND controller = 'users'"), 11);
        assert_eq!(query(&archive, "SELECT hits FROM by_controller").len(), 6);

        // A late hit adds to its row.
        hit(&mut redis, b"api:requests", AUGUST_9, 5, &[b"users#update", b"1337"]);
        run(&server, &archive, &["archive", "--once"]);
        let late = "WHERE date = '2022-08-09' AND controller = 'users' AND action = 'update'";
        assert_eq!(query(&archive, &format!("SELECT hit_count FROM api_usage {late}")), [[Cell::Int(6)]]);

        // A table that was made for something else is not filled with this.
        let other = toml.replace("member1 before '#'", "member1");
        std::fs::write(server.folder.path().join("meterd.toml"), other).expect("written");
        let error = fails(&server, &archive, &["archive", "--once", "api:requests"]);
        assert!(error.contains("was made for other columns"), "{error}");
    });
}

#[test]
fn a_count_that_does_not_fit_names_its_row_and_changes_nothing() {
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        hit(&mut redis, b"shop", AUGUST_9, 1, &[]);
        run(&server, &archive, &["archive", "--once"]);
        query(&archive, "UPDATE meter_hour SET count = 9223372036854775800");
        for hour in 0..24 {
            hit(&mut redis, b"shop", AUGUST_9 + hour * HOUR, 9, &[]);
        }
        hit(&mut redis, b"other", AUGUST_9, 9, &[]);
        let error = fails(&server, &archive, &["archive", "--once"]);
        assert!(
            error.contains("table meter_hour: the count of the row meter shop, day 2022-08-09, hour 0, count 9"),
            "{error}"
        );
        let expected = [
            ((b"shop".to_vec(), "2022-08-09".to_owned(), 0), 9_223_372_036_854_775_800),
            ((b"other".to_vec(), "2022-08-09".to_owned(), 0), 9),
        ];
        assert_eq!(hours(&archive), BTreeMap::from(expected), "other meters go on");
        // It is still in the server, and can be archived when the row is mended.
        query(&archive, "UPDATE meter_hour SET count = 0 WHERE hour = 0");
        run(&server, &archive, &["archive", "--once"]);
        assert_eq!(hours(&archive).values().sum::<i64>(), 24 * 9);
    });
}

#[test]
fn two_archivers_at_once_write_each_batch_once() {
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        let mut expected = 0;
        for round in 0..6 {
            for meter in ["a", "b", "c"] {
                for day in 0..5 {
                    hit(&mut redis, meter.as_bytes(), AUGUST_9 + day * DAY, round + 1, &[b"x", b"y"]);
                    expected += round + 1;
                }
            }
            let archivers: Vec<_> = (0..3)
                .map(|_| {
                    let mut command = meterd(&server, &archive, &["archive", "--once"]);
                    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("meterd")
                })
                .collect();
            for archiver in archivers {
                let output = archiver.wait_with_output().expect("an end");
                assert!(output.status.success(), "{:?}: {}", database.engine, said(&output));
            }
        }
        assert_eq!(hours(&archive).values().sum::<i64>(), expected);
        assert_eq!(paths(&archive).values().sum::<i64>(), 2 * expected);
    });
}

#[test]
fn distinct_ids_of_several_batches_are_those_of_the_day() {
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        for batch in 0..3 {
            for id in 0..600 {
                let id = batch * 300 + id;
                redis.run(&format!("METER.HIT shop AT {AUGUST_9} UNIQUE u{id}"));
                redis.run(&format!("PFADD all u{id}"));
            }
            run(&server, &archive, &["archive", "--once", "shop"]);
            let count = redis.int("PFCOUNT all");
            assert_eq!(query(&archive, "SELECT estimate FROM meter_unique"), [[Cell::Int(count)]]);
        }
        let row = query(&archive, "SELECT sketch FROM meter_unique");
        redis.try_call(&[b"SET", b"back", &row[0][0].bytes()]).expect("set");
        assert_eq!(
            redis.int("PFCOUNT back"),
            redis.int("PFCOUNT all"),
            "what is stored is a HyperLogLog of the server's"
        );
    });
}

#[test]
fn a_pattern_chooses_meters_and_nothing_else() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    let mut redis = server.connect();
    for meter in ["kpi:a", "kpi:b", "other"] {
        // A breakdown by day looks like an index.
        hit(&mut redis, meter.as_bytes(), AUGUST_9, 1, &[b"20220809"]);
    }
    redis.run("ZADD kpi:leaderboard 7 20220809 8 somebody");
    redis.run("ZADD kpi:numbers 20220809 seven");
    redis.run("SET kpi:string 1");
    // One whose days are all in a batch already.
    redis.run("METER.SEAL kpi:b");
    let before = redis.contents().len();
    run(&server, &archive, &["archive", "--once", "kpi:*"]);
    let meters: Vec<Vec<u8>> = hours(&archive).into_keys().map(|(meter, ..)| meter).collect();
    assert_eq!(meters, [b"kpi:a".to_vec(), b"kpi:b".to_vec()]);
    assert_eq!(redis.int("ZCARD kpi:leaderboard"), 2);
    assert_eq!(redis.int("ZCARD kpi:numbers"), 1);
    assert_eq!(redis.int("EXISTS other:day:20220809"), 1);
    assert!(redis.contents().len() < before);
}

#[test]
fn a_server_without_the_module_is_told_how_to_load_it() {
    let bare = testkit::Server::bare(testkit::programs().last().expect("a program"), &[]);
    let archive = format!("sqlite:{}", bare.folder.path().join("a.db").display());
    for meters in ["*", "shop"] {
        let error = fails(&bare, &archive, &["archive", "--once", meters]);
        assert!(error.contains("loadmodule /path/to/libredis_meter.so"), "{error}");
    }
}

#[test]
fn archived_until_a_date() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    let mut redis = server.connect();
    for day in 0..4 {
        hit(&mut redis, b"shop", AUGUST_9 + day * DAY, 1, &[]);
    }
    run(&server, &archive, &["archive", "--once", "--before", "2022-08-11"]);
    assert_eq!(hours(&archive).len(), 2);
    assert_eq!(redis.counts("METER.DAYS shop").len(), 2);
    let error = fails(&server, &archive, &["archive", "--once", "--before", "yesterday", "shop"]);
    assert!(error.contains("yesterday"), "{error}");
    let again = run(&server, &archive, &["archive", "--once", "--before", "2022-08-11", "shop"]);
    assert_eq!(again, "nothing to archive: no finished day of shop is in Redis\n");
    let mistyped = run(&server, &archive, &["archive", "--once", "shpo"]);
    assert_eq!(mistyped, "nothing to archive: no finished day of shpo is in Redis\n");
}

#[test]
fn a_million_rows_take_as_much_memory_as_a_few() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    let peak = |members: u32| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT big AT {AUGUST_9} PATH 1 m"));
        // As if each had been hit: a million calls take longer than what is measured.
        let script = "for i = ARGV[1], ARGV[2] do redis.call('ZADD', KEYS[1], i, 'member:' .. i) end";
        for first in (1..=members).step_by(20_000) {
            let [from, to] = [first, first + 19_999].map(|number| number.to_string());
            let key = b"big:day:20220809:path";
            redis.try_call(&[b"EVAL", script.as_bytes(), b"1", key, from.as_bytes(), to.as_bytes()]).expect("members");
        }
        let mut command = Command::new("sh");
        // The highest resident size of the program that the shell becomes.
        let script = "\"$@\"; s=$?; exit $s";
        command.args(["-c", script, "sh", "python3", "-c", PEAK, env!("CARGO_BIN_EXE_meterd")]);
        command.env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port)).env("METERD_ARCHIVE", &archive);
        let output = command.output().expect("python3");
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().last().expect("a line").parse::<u64>().expect("kilobytes")
    };
    let (small, large) = (peak(100_000), peak(1_000_000));
    assert_eq!(query(&archive, "SELECT COUNT(*) FROM meter_path"), [[Cell::Int(1_000_001)]]);
    // How far the reader is ahead of the writer is chance; in full, a million rows are some 300 MB.
    assert!(large < small + 60_000, "{small} kB for 100,000 rows, {large} kB for a million");
    assert!(large < 150_000, "{large} kB");
}

const PEAK: &str = "
import resource, subprocess, sys
done = subprocess.run([sys.argv[1], 'archive', '--once', 'big'])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)";

#[test]
fn random_hits_come_out_as_they_went_in() {
    on_every_engine(|database| {
        let (server, archive) = (server(&[]), database.fresh());
        let mut redis = server.connect();
        let mut random = Random::new(7);
        let members: [&[u8]; 5] = [b"a", b"A", b"b\0", b"", b"a:b"];
        let (mut by_hour, mut by_path) = (BTreeMap::new(), BTreeMap::new());
        for round in 0..4 {
            for _ in 0..400 {
                let mut below = |n: usize| i64::try_from(random.below(n)).expect("small");
                let (day, hour, by) = (below(3), below(24), 1 + below(5));
                let depth = 1 + random.below(8);
                let path: Vec<Vec<u8>> = (0..depth).map(|_| [b"m", members[random.below(5)]].concat()).collect();
                let words: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                hit(&mut redis, b"random", AUGUST_9 + day * DAY + hour * HOUR, by, &words);
                let date = format!("2022-08-{:02}", 9 + day);
                *by_hour.entry((b"random".to_vec(), date.clone(), hour)).or_insert(0) += by;
                for level in 1..=depth {
                    *by_path.entry((b"random".to_vec(), date.clone(), path[..level].to_vec())).or_insert(0) += by;
                }
            }
            run(&server, &archive, &["archive", "--once"]);
            assert_eq!(hours(&archive), by_hour, "round {round}");
            assert_eq!(paths(&archive), by_path, "round {round}");
        }
    });
}

#[test]
fn a_database_that_is_away_or_silent_is_an_error_in_time_and_loses_nothing() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let mut database = testkit::database::Database::start(engine);
        let (server, archive) = (server(&[]), database.fresh());
        run(&server, &archive, &["archive", "--once"]);
        hit(&mut server.connect(), b"shop", AUGUST_9, 3, &[]);
        {
            let _frozen = database.freeze();
            let start = std::time::Instant::now();
            let error = fails(&server, &archive, &["archive", "--once"]);
            assert!(error.contains("has not answered within 1000 ms"), "{error}");
            assert!(start.elapsed() < std::time::Duration::from_secs(40), "{:?}", start.elapsed());
        }
        database.kill();
        let error = fails(&server, &archive, &["archive", "--once"]);
        assert!(error.starts_with("meterd: SQL: "), "{error}");
        database.restart();
        run(&server, &archive, &["archive", "--once"]);
        assert_eq!(hours(&archive).values().sum::<i64>(), 3);
    }
}

#[test]
fn a_meter_with_a_date_in_its_name_is_archived_and_a_foreign_hash_is_no_batch() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    let mut redis = server.connect();
    redis.run(&format!("METER.HIT orders:day:20220809:eu AT {AUGUST_9} PATH 1 a"));
    redis.run("HSET foo:batch size 3");
    run(&server, &archive, &["archive", "--once"]);
    assert_eq!(hours(&archive).len(), 1);
    assert_eq!(redis.counts("METER.DAYS orders:day:20220809:eu").len(), 0);
}

#[test]
fn a_disk_that_is_full_is_an_error_and_loses_nothing() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    run(&server, &archive, &["archive", "--once"]);
    let mut redis = server.connect();
    let script = "for i = 1, 20000 do redis.call('ZADD', KEYS[1], i, 'member:' .. i) end";
    redis.run(&format!("METER.HIT big AT {AUGUST_9} PATH 1 m"));
    redis.try_call(&[b"EVAL", script.as_bytes(), b"1", b"big:day:20220809:path"]).expect("members");
    // Files of at most 1 MB.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1024; trap '' XFSZ; exec \"$0\" archive --once", env!("CARGO_BIN_EXE_meterd")]);
    command.env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port)).env("METERD_ARCHIVE", &archive);
    let output = command.output().expect("meterd");
    assert!(!output.status.success() && said(&output).contains("SQL: "), "{}", said(&output));
    assert_eq!(hours(&archive).len(), 0);
    run(&server, &archive, &["archive", "--once"]);
    assert_eq!(paths(&archive).len(), 20_001);
}

#[test]
fn a_database_server_whose_disk_is_full_is_an_error_and_loses_nothing() {
    const MEMBERS: usize = 120_000;
    // All tables of MariaDB in one file that must not grow.
    let shared = "--skip-innodb-file-per-table";
    let full = [shared, "--innodb-data-file-path=ibdata1:12M:autoextend:max:30M"];
    let roomy = [shared, "--innodb-data-file-path=ibdata1:12M:autoextend"];
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let is_postgres = engine == Engine::Postgres;
        let arguments = if is_postgres { &[][..] } else { &full };
        let mut database = testkit::database::Database::start_with(engine, arguments);
        let (server, archive) = (server(&[]), database.fresh());
        run(&server, &archive, &["archive", "--once"]);
        let mut redis = server.connect();
        let script = "for i = ARGV[1], ARGV[2] do redis.call('ZADD', KEYS[1], i, string.rep('m', 60) .. i) end";
        hit(&mut redis, b"big", AUGUST_9, 1, &[b"m"]);
        for first in (1..=MEMBERS).step_by(20_000) {
            let [from, to] = [first, first + 19_999].map(|number| number.to_string());
            let key = b"big:day:20220809:path";
            redis.try_call(&[b"EVAL", script.as_bytes(), b"1", key, from.as_bytes(), to.as_bytes()]).expect("members");
        }
        if is_postgres {
            // More than a segment of its log, which is 16 MB.
            database.limit_files(Some(17 << 20));
        }
        let error = fails(&server, &archive, &["archive", "--once"]);
        assert!(error.contains(if is_postgres { "could not extend file" } else { "is full" }), "{engine:?}: {error}");
        assert!(hours(&archive).is_empty() && paths(&archive).is_empty());
        if is_postgres {
            database.limit_files(None);
        } else {
            database.restart_with(&roomy);
        }
        run(&server, &archive, &["archive", "--once"]);
        assert_eq!(query(&archive, "SELECT COUNT(*) FROM meter_path"), [[Cell::Int(MEMBERS as i64 + 1)]]);
    }
}

#[test]
fn a_replica_must_have_a_batch_before_it_is_written() {
    let (server, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    let toml = "[archive]\nreplicas = 1\nsafe_within = \"300ms\"\n";
    std::fs::write(server.folder.path().join("meterd.toml"), toml).expect("written");
    let replica = server.replica(&[]);
    hit(&mut server.connect(), b"shop", AUGUST_9, 1, &[]);
    {
        let _frozen = replica.freeze();
        let error = fails(&server, &archive, &["archive", "--once", "shop"]);
        assert!(error.contains("0 of 1 replicas have the batch"), "{error}");
        assert!(hours(&archive).is_empty());
    }
    server.wait_for_replica(&replica);
    run(&server, &archive, &["archive", "--once", "shop"]);
    assert_eq!(hours(&archive).len(), 1);
}

#[test]
fn meters_of_a_cluster_are_archived_from_all_nodes() {
    let program = testkit::programs().last().expect("a program");
    let nodes = testkit::cluster::three_nodes(program);
    let folder = tempfile::tempdir().expect("a folder");
    let archive = format!("sqlite:{}", folder.path().join("a.db").display());
    // The wait for the disk goes to the node that has sealed.
    let toml = if program.has_redis(7, 2) { "[archive]\nfsync = true\n" } else { "" };
    std::fs::write(nodes[0].folder.path().join("meterd.toml"), toml).expect("written");
    nodes.iter().for_each(|node| drop(node.connect().run("CONFIG SET appendonly yes")));
    let hosts: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let meters = ["a", "b", "c", "d", "{tag}e", "kpi:f"];
    for meter in meters {
        let place = testkit::cluster::place_of(&nodes, meter);
        hit(&mut nodes[place].connect(), meter.as_bytes(), AUGUST_9, 3, &[b"x", b"y"]);
    }
    let cluster = |arguments: &[&str]| {
        let mut command = meterd(&nodes[0], &archive, arguments);
        command.env("METERD_REDIS", format!("redis+cluster://{}", hosts.join(",")));
        let output = command.output().expect("meterd");
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    let report = ["report", "{tag}e", "--from", "2022-08-01", "--to", "2022-08-31", "--format", "csv"];
    assert!(cluster(&report).contains("20220809,3\n"));
    cluster(&["archive", "--once"]);
    assert_eq!(hours(&archive).len(), meters.len());
    assert_eq!(paths(&archive).len(), 2 * meters.len());
    assert!(cluster(&report).contains("20220809,3\n"));
}
