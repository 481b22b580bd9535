//! What each command answers and leaves behind.

mod support;

use support::on_every_server;

#[test]
fn a_hit_leaves_what_session_counters_write() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("METER.HIT kpi:sessions:app:local:node:0 AT 1660054277326"), [1, 1, 1]);
        let day = "kpi:sessions:app:local:node:0:day:20220809";
        assert_eq!(redis.strings(&format!("HGETALL {day}")), ["day", "1", "14", "1"]);
        assert_eq!(redis.strings("ZRANGE kpi:sessions:app:local:node:0 0 -1 WITHSCORES"), ["20220809", "20220809"]);
    });
}
