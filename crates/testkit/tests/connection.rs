//! The connection of the test kit on a real server.

use std::process::Command;
use std::thread;

use testkit::{Value, on_every_server};

#[test]
fn a_reply_outlasts_a_stop_of_the_process_that_waits_for_it() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let waits = thread::spawn(move || {
            assert_eq!(redis.run("BLPOP nothing 1"), Value::Nil);
            assert_eq!(redis.run("ECHO next"), Value::BulkString(b"next".into()));
        });
        let stop = "sleep 0.3; kill -STOP $PPID; sleep 0.1; kill -CONT $PPID";
        assert!(Command::new("sh").args(["-c", stop]).status().expect("a shell").success());
        waits.join().expect("both replies");
    });
}
