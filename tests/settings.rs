//! The configuration parameters: arguments of `loadmodule` everywhere, and module configs where the server has them.

use std::fs;
use std::process::Command;

use testkit::{Program, Server, now_ms, on_every_program};

fn load(arguments: &str) -> Vec<String> {
    let line = format!("{} {arguments}", testkit::module().display());
    ["--loadmodule"].into_iter().chain(line.split_whitespace()).map(str::to_owned).collect()
}

fn refusal(program: &Program, arguments: &str) -> String {
    let all = load(arguments);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    match Server::try_bare(program, &all) {
        Ok(_) => panic!("loaded with {arguments}"),
        Err(log) => log,
    }
}

#[test]
fn bad_arguments_are_refused_at_load_with_the_reason_in_the_log() {
    on_every_program(|program| {
        for (arguments, reason) in [
            (
                "retention 30",
                "not loaded: unknown argument 'retention': the arguments are retention-days number, once-days number, \
                 seal-max-keys number, max-future-ms number, refused-keys number, cl-throttle yes|no, \
                 always-replicate yes|no",
            ),
            ("retention-days", "not loaded: retention-days needs a value: a whole number from 0 to 36525"),
            ("retention-days -1", "not loaded: retention-days must be a whole number from 0 to 36525, not '-1'"),
            ("once-days x", "not loaded: once-days must be a whole number from 0 to 36525, not 'x'"),
            ("seal-max-keys 0", "not loaded: seal-max-keys must be a whole number from 1 to 10000000, not '0'"),
            ("retention-days 1.5", "not loaded: retention-days must be a whole number from 0 to 36525, not '1.5'"),
            (
                "max-future-ms 99999999999999",
                "not loaded: max-future-ms must be a whole number from 0 to 3155760000000",
            ),
            ("cl-throttle maybe", "not loaded: cl-throttle must be yes or no, not 'maybe'"),
            ("cl-throttle yes CL-THROTTLE no", "not loaded: cl-throttle is given twice"),
            ("%s%n%s%n 1", "not loaded: unknown argument '%s%n%s%n'"),
        ] {
            let log = refusal(program, arguments);
            assert!(log.contains(reason), "{arguments}: {log}");
        }
    });
}

#[test]
fn arguments_of_loadmodule_work_on_every_server() {
    on_every_program(|program| {
        let server = Server::with_module(program, "MAX-FUTURE-MS 1000 cl-throttle yes", &[]);
        let mut redis = server.connect();
        assert!(redis.error(&format!("METER.HIT m AT {}", now_ms() + 60_000)).contains("max-future-ms (1000)"));
        assert_eq!(redis.ints("CL.THROTTLE u 2 1 60"), [0, 3, 2, -1, 60]);
        if program.is_7_or_later() {
            assert_eq!(redis.strings("CONFIG GET meter.max-future-ms"), ["meter.max-future-ms", "1000"]);
            assert_eq!(redis.strings("CONFIG GET meter.cl-throttle"), ["meter.cl-throttle", "yes"]);
        }
    });
}

#[test]
fn a_configuration_file_sets_them_where_the_server_has_module_configs() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("redis.conf");
        let module = testkit::module().display();
        let text = format!("loadmodule {module} max-future-ms 7\nmeter.retention-days 30\nmeter.cl-throttle yes\n");
        fs::write(&path, text).expect("a file");
        let file = path.display().to_string();
        // The file's name must be the first argument of the program.
        let server = Server::with_file(program, &file, &[]).expect("the server starts");
        let mut redis = server.connect();
        assert_eq!(redis.strings("CONFIG GET meter.retention-days"), ["meter.retention-days", "30"]);
        assert_eq!(redis.strings("CONFIG GET meter.max-future-ms"), ["meter.max-future-ms", "7"]);
        redis.run("CL.THROTTLE u 2 1 60");
        redis.run("CONFIG SET meter.retention-days 60");
        redis.run("CONFIG REWRITE");
        let written = fs::read_to_string(&path).expect("a file");
        assert!(written.contains("meter.retention-days 60"), "{written}");

        fs::write(&path, format!("loadmodule {module}\nmeter.retention-days -3\n")).expect("a file");
        let log = Server::with_file(program, &file, &[]).err().expect("the server refuses to start");
        assert!(log.contains("retention-days") || log.contains("not loaded: "), "{log}");
    });
}

#[test]
fn module_loadex_takes_configs_and_arguments() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return;
        }
        // It cannot be unloaded: each load has a server of its own.
        let start = || Server::bare(program, &["--enable-module-command", "yes"]);
        let module = testkit::module().display();
        let server = start();
        let mut redis = server.connect();
        redis.run(&format!("MODULE LOADEX {module} CONFIG meter.retention-days 30 ARGS cl-throttle yes"));
        assert_eq!(redis.strings("CONFIG GET meter.retention-days"), ["meter.retention-days", "30"]);
        redis.run("CL.THROTTLE u 2 1 60");
        for wrong in ["meter.retention-days x", "meter.unknown 1"] {
            let mut server = start();
            let mut redis = server.connect();
            assert!(redis.try_run(&format!("MODULE LOADEX {module} CONFIG {wrong}")).is_err());
            server.assert_alive("MODULE LOADEX with a wrong config");
            // The server undoes such a load, and another one may follow.
            assert!(!format!("{:?}", redis.run("MODULE LIST")).contains("meter"), "{wrong}");
            redis.run(&format!("MODULE LOADEX {module} CONFIG meter.retention-days 20"));
            assert_eq!(redis.strings("CONFIG GET meter.retention-days"), ["meter.retention-days", "20"]);
            redis.run("METER.HIT m");
            assert!(redis.try_run("MODULE UNLOAD meter").is_err());
            redis.run("METER.HIT m");
        }
        let server = start();
        let mut redis = server.connect();
        redis.run(&format!("MODULE LOADEX {module}"));
        assert_eq!(redis.strings("CONFIG GET meter.retention-days"), ["meter.retention-days", "0"]);
    });
}

#[test]
fn config_set_changes_settings_while_the_server_runs() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return;
        }
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        redis.run("CONFIG SET meter.max-future-ms 0");
        assert!(redis.error(&format!("METER.HIT m AT {}", now_ms() + 60_000)).contains("max-future-ms (0)"));
        for refused in ["retention-days -1", "retention-days 36526", "retention-days x", "cl-throttle yes"] {
            assert!(redis.try_run(&format!("CONFIG SET meter.{refused}")).is_err(), "{refused}");
        }
        assert_eq!(redis.strings("CONFIG GET meter.retention-days"), ["meter.retention-days", "0"]);
    });
}

#[test]
fn cl_throttle_is_registered_only_if_configured() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        assert!(server.connect().error("CL.THROTTLE u 2 1 60").starts_with("ERR unknown command"));
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        redis.run("CL.THROTTLE u 2 1 60");
        assert_eq!(redis.ints("CELL.THROTTLE u 2 1 60 0")[2], 2, "both names share a limiter");
    });
}

#[test]
fn cl_throttle_stays_with_the_module_that_has_it_and_the_log_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let peer = folder.path().join("peer.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/testkit/src/peer.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&peer).arg(source).status();
    assert!(compiled.expect("a C compiler").success());
    on_every_program(|program| {
        let peer = peer.display().to_string();
        let module = testkit::module().display().to_string();
        let server = Server::bare(program, &["--loadmodule", &peer, "--loadmodule", &module, "cl-throttle", "yes"]);
        server.connect().run("CELL.THROTTLE u 2 1 60");
        assert!(server.log().contains("another module already has the command cl.throttle; it stays with that module"));
    });
}
