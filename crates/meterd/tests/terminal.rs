//! The commands for the terminal: report, import, top and doctor.

mod sql;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use sql::{fails, meterd, run, said, server};
use testkit::Server;

/// 9 August 2022, midnight.
const AUGUST_9: i64 = 1_660_003_200_000;
const HOUR: i64 = 3_600_000;
const MONTH: [&str; 4] = ["--from", "2022-08-01", "--to", "2022-08-31"];

fn archive(server: &Server) -> String {
    format!("sqlite:{}", server.folder.path().join("a.db").display())
}

/// `meterd report shop` of August 2022, with further arguments.
fn report(server: &Server, arguments: &[&str]) -> String {
    run(server, &archive(server), &[&["report", "shop"], &MONTH[..], arguments].concat())
}

#[test]
fn a_report_is_the_same_before_and_after_the_days_are_archived() {
    let server = server(&[]);
    let mut redis = server.connect();
    for hour in 0..48 {
        redis.run(&format!("METER.HIT shop AT {} BY 2 PATH 2 a b UNIQUE u{}", AUGUST_9 + hour * HOUR, hour % 7));
    }
    let questions: [&[&str]; 8] = [
        &["--by", "hour", "--format", "csv"],
        &["--by", "day", "--format", "json"],
        &["--by", "week"],
        &["--by", "month"],
        &["--by", "total"],
        &["--path", "a", "b"],
        &["--by", "day", "--tz", "America/New_York", "--format", "csv"],
        &["--by", "hour", "--tz", "Asia/Kolkata", "--format", "csv"],
    ];
    let before: Vec<String> = questions.iter().map(|question| report(&server, question)).collect();
    run(&server, &archive(&server), &["archive", "--once"]);
    let after: Vec<String> = questions.iter().map(|question| report(&server, question)).collect();
    assert_eq!(before, after);
    assert!(before[0].starts_with("bucket,count\n2022080900,2\n2022080901,2\n"), "{}", before[0]);
    let json: serde_json::Value = serde_json::from_str(&before[1]).expect("JSON");
    assert_eq!(json["usage"][0], serde_json::json!({"bucket": "20220809", "count": 48}));
    assert_eq!((&json["from"], &json["by"], &json["tz"]), (&"2022-08-01".into(), &"day".into(), &"UTC".into()));
    assert!(before[2].starts_with("2022W32  96  ▇"), "{}", before[2]);
    assert!(before[4].contains("unique   7\n"), "{}", before[4]);
    // New York was four hours behind.
    assert_eq!(before[6], "bucket,count\n20220808,8\n20220809,48\n20220810,40\n");
    // 00:00 UTC was 05:30 there: a UTC hour belongs to the local hour in which it begins.
    assert!(before[7].starts_with("bucket,count\n2022080905,2\n"), "{}", before[7]);
}

#[test]
fn days_of_a_zone_are_right_when_its_clock_changes() {
    let server = server(&[]);
    let mut redis = server.connect();
    // One hit in each hour around both changes of Berlin's clock in 2022, and as many in those of a day before.
    for start in [1_648_252_800_000i64, 1_666_998_000_000] {
        for hour in 0..96 {
            redis.run(&format!("METER.HIT shop AT {}", start + hour * HOUR));
        }
    }
    let by_day = |from: &str, to: &str| {
        let arguments = ["report", "shop", "--from", from, "--to", to, "--tz", "Europe/Berlin", "--format", "csv"];
        run(&server, &archive(&server), &arguments)
    };
    for _ in 0..2 {
        // 27 March had 23 hours, 30 October 25.
        assert_eq!(by_day("2022-03-27", "2022-03-28"), "bucket,count\n20220327,23\n20220328,24\n");
        assert_eq!(by_day("2022-10-30", "2022-10-31"), "bucket,count\n20221030,25\n20221031,24\n");
        run(&server, &archive(&server), &["archive", "--once"]);
    }
}

#[test]
fn a_wrong_question_names_what_would_be_right() {
    let server = server(&[]);
    let sql = archive(&server);
    let wrong = |arguments: &[&str]| fails(&server, &sql, &[&["report", "shop"], arguments].concat());
    assert!(wrong(&["--from", "today", "--to", "2022-08-31"]).contains("write it as 2022-08-09"));
    assert!(wrong(&["--from", "2022-08-31", "--to", "2022-08-01"]).contains("is after to"));
    assert!(wrong(&[&MONTH[..], &["--tz", "Mars"]].concat()).contains("Europe/Berlin"));
    assert!(wrong(&[&MONTH[..], &["--by", "fortnight"]].concat()).contains("hour, day, week, month or total"));
    assert!(wrong(&[&MONTH[..], &["--by", "hour", "--path", "a"]].concat()).contains("by=hour can't be had with path"));
    assert!(
        fails(&server, "oracle:x", &[&["report", "shop"], &MONTH[..]].concat())
            .contains("sqlite:, postgres:// or mysql://")
    );
}

/// A line of the common form.
fn line(n: u64) -> String {
    format!("10.0.0.{} - - [09/Aug/2022:{:02}:00:00 +0000] \"GET /{} HTTP/1.1\" 200 17\n", n % 200, n % 24, n % 5)
}

fn import(server: &Server, arguments: &[&str]) -> String {
    run(server, &archive(server), &[&["import", "--meter", "web"], arguments].concat())
}

fn total(server: &Server) -> i64 {
    server.connect().counts("METER.DAYS web").iter().map(|(_, count)| count).sum()
}

#[test]
fn a_log_is_counted_once_however_often_it_is_given_and_also_when_it_grows_or_moves() {
    let server = server(&[]);
    let log = server.folder.path().join("access.log");
    let path = |log: &Path| log.to_str().expect("UTF-8").to_owned();
    fs::write(&log, (0..5000).map(line).collect::<String>()).expect("written");
    let arguments = [path(&log), "--path".into(), "url".into(), "host".into()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(import(&server, &arguments).ends_with("access.log: 5000 lines counted\n"));
    assert!(import(&server, &arguments).ends_with("access.log: 0 more lines counted\n"));
    assert_eq!(total(&server), 5000);
    assert_eq!(server.connect().counts("METER.TOP web DAY 20220809 COUNT 1"), [("/4".to_owned(), 1000)]);

    // It grows by a line and a half, and then by the other half.
    let mut file = fs::OpenOptions::new().append(true).open(&log).expect("the log");
    let (whole, cut) = (line(5000), line(5001));
    file.write_all((whole + &cut[..30]).as_bytes()).expect("written");
    assert!(import(&server, &arguments).ends_with("access.log: 1 more lines counted\n"));
    file.write_all(&cut.as_bytes()[30..]).expect("written");
    let rotated = server.folder.path().join("access.log.1");
    fs::rename(&log, &rotated).expect("renamed");
    fs::write(&log, line(5002)).expect("written");
    assert!(import(&server, &[&path(&log), &path(&rotated)]).contains("access.log.1: 1 more lines counted\n"));
    assert_eq!(total(&server), 5003);
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was() {
    let disk = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = server(&disk);
    let log = server.folder.path().join("access.log");
    fs::write(&log, (0..60_000).map(line).collect::<String>()).expect("written");
    let path = log.to_str().expect("UTF-8");
    let sql = archive(&server);
    for round in 0..12 {
        let mut command = meterd(&server, &sql, &["import", path, "--meter", "web", "--path", "host"]);
        let mut import = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("meterd");
        testkit::sleep_ms(10 + 17 * round);
        import.kill().expect("a signal");
        import.wait().expect("an end");
    }
    // Two at once: one of them may be told that the other is at work.
    let mut both = [0, 1].map(|_| {
        let mut command = meterd(&server, &sql, &["import", path, "--meter", "web", "--path", "host"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("meterd")
    });
    for import in &mut both {
        import.wait().expect("an end");
    }
    import(&server, &[path, "--path", "host"]);
    assert_eq!(total(&server), 60_000);
}

#[test]
fn json_and_standard_input_are_counted_and_odd_lines_are_named() {
    let server = server(&[]);
    let sql = archive(&server);
    let mut command = meterd(&server, &sql, &["import", "-", "--meter", "web", "--path", "request.method", "user"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("meterd");
    let lines = "{\"time\":\"2022-08-09T14:11:17Z\",\"request\":{\"method\":\"GET\"},\"user\":7}\n\n\
        {\"time\":1660054277,\"request\":{\"method\":\"GET\"},\"user\":7}\nno line\n\
        {\"ts\":1660054277326,\"request\":{\"method\":\"PUT\"}}";
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("an end");
    let text = said(&output);
    assert!(text.contains("-: 3 lines counted"), "{text}");
    assert!(text.contains("1 lines not understood, such as no line"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let mut redis = server.connect();
    let top = |redis: &mut testkit::Client, path: &str| {
        BTreeMap::from_iter(redis.counts(&format!("METER.TOP web DAY 20220809{path}")))
    };
    assert_eq!(top(&mut redis, ""), BTreeMap::from([("GET".to_owned(), 2), ("PUT".to_owned(), 1)]));
    assert_eq!(top(&mut redis, " PATH 1 GET"), BTreeMap::from([("7".to_owned(), 2)]));
    let error = fails(&server, &sql, &["import", "absent.log", "--meter", "web"]);
    assert!(error.contains("absent.log: No such file"), "{error}");
}

#[test]
fn lines_that_redis_refuses_are_named_and_not_counted() {
    let server = server(&[]);
    let log = server.folder.path().join("access.log");
    fs::write(&log, line(1) + &line(2).replace("2022", "2999")).expect("written");
    let arguments = ["import", log.to_str().expect("UTF-8"), "--meter", "web"];
    let output = meterd(&server, &archive(&server), &arguments).output().expect("meterd");
    let text = said(&output);
    assert!(text.contains("access.log: 1 lines counted") && text.contains("1 lines refused by Redis: "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(total(&server), 1);
}

#[test]
fn nothing_is_passed_over_where_a_meter_or_a_file_can_not_be_counted() {
    let server = server(&[]);
    let mut redis = server.connect();
    let log = server.folder.path().join("access.log");
    let file = log.to_str().expect("UTF-8");
    let fails = |file: &str, said: &str| {
        let error = fails(&server, &archive(&server), &["import", "--meter", "web", file]);
        assert!(error.contains(said), "{error}");
    };
    fs::write(&log, (0..3000).map(line).collect::<String>()).expect("written");
    // A key of another program; when it has gone, all lines are counted.
    redis.run("SET web x");
    fails(file, "the meter web can't be counted");
    redis.run("DEL web");
    import(&server, &[file]);
    assert_eq!(total(&server), 3000);
    // It was cut in place, and has the same first line.
    fs::write(&log, (0..10).map(line).collect::<String>()).expect("written");
    fails(file, "it was cut");
    let zipped = server.folder.path().join("access.log.gz");
    fs::write(&zipped, b"\x1f\x8b\x08\0rest\n").expect("written");
    fails(zipped.to_str().expect("UTF-8"), "zcat");
    let error = sql::fails(&server, &archive(&server), &["import", "--meter", "", file]);
    assert!(error.contains("--meter is empty"), "{error}");
    assert_eq!(total(&server), 3000);
}

#[test]
fn output_that_nobody_reads_or_that_has_no_room_ends_a_command_without_a_panic() {
    let server = server(&[]);
    for command in [
        &["doctor"][..],
        &["check", "a"],
        &["token", "new", "--role", "hit"],
        &["report", "web", "--from", "2022-08-01", "--to", "2022-08-02"],
        &["top"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = meterd(&server, &archive(&server), command).stdout(full).output().expect("meterd");
        let text = said(&output);
        assert!(text.contains("standard output") && !text.contains("panicked"), "{command:?}: {text}");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = meterd(&server, &archive(&server), command).stdout(writer).output().expect("meterd");
        assert_eq!((said(&output).as_str(), output.status.code()), ("", Some(141)), "{command:?}");
    }
}

#[test]
fn a_progress_bar_is_drawn_on_a_terminal() {
    let server = server(&[]);
    let log = server.folder.path().join("access.log");
    fs::write(&log, (0..200_000).map(line).collect::<String>()).expect("written");
    // `script` runs a program on a terminal of its own.
    let on_a_terminal = |arguments: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} {arguments}", env!("CARGO_BIN_EXE_meterd")), "/dev/null"]);
        command.env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port)).env("TERM", "xterm");
        command.env("METERD_ARCHIVE", archive(&server)).env("COLUMNS", "100");
        let output = command.stdin(Stdio::null()).output().expect("script");
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    let drawn = on_a_terminal(&format!("import {} --meter web --path host", log.display()));
    assert!(drawn.contains("MiB/s") && drawn.contains('█'), "{drawn:?}");
    assert!(on_a_terminal("archive --once").contains("keys,"));
}

#[test]
fn top_shows_what_is_hit_and_refused() {
    let server = server(&[]);
    let mut redis = server.connect();
    redis.run("METER.HIT quiet");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let text = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut redis = server.connect();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                redis.run("METER.HIT busy");
                testkit::sleep_ms(1);
            }
        });
        let text = run(&server, &archive(&server), &["top"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        text
    });
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].ends_with("  busy") && lines[2].ends_with("  quiet"), "{text}");
    let rate: f64 = lines[1].split_whitespace().nth(2).expect("a rate").parse().expect("a number");
    assert!(rate > 1.0, "{text}");
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_mends_it() {
    let bad = server(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let output = meterd(&bad, &archive(&bad), &["doctor"]).output().expect("meterd");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "WRONG  maxmemory-policy allkeys-lru evicts counts\n       -> CONFIG SET maxmemory-policy noeviction",
        "-> CONFIG SET appendonly yes",
        "RISK   there is no replica",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let good = server(&["--appendonly", "yes", "--appendfsync", "always"]);
    let text = run(&good, &archive(&good), &["doctor"]);
    assert!(!text.contains("WRONG") && text.contains("right  the module is loaded"), "{text}");
    good.connect().run(&format!("METER.HIT shop AT {AUGUST_9}"));
    assert!(run(&good, &archive(&good), &["doctor"]).contains("1 finished days wait for the archive"));

    let bare = Server::bare(testkit::programs().last().expect("a program"), &[]);
    let text = fails_with_output(&bare, "doctor");
    assert!(text.contains("-> loadmodule /path/to/libredis_meter.so"), "{text}");
    let mut command = meterd(&bare, &archive(&bare), &["doctor"]);
    let output = command.env("METERD_REDIS", "redis://127.0.0.1:1").output().expect("meterd");
    assert!(said(&output).contains("WRONG  no server answers at "), "{}", said(&output));
}

fn fails_with_output(server: &Server, command: &str) -> String {
    let output = meterd(server, &archive(server), &[command]).output().expect("meterd");
    assert!(!output.status.success());
    said(&output)
}
