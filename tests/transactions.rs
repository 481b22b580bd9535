//! The commands in MULTI, in scripts and in pipelines.

use testkit::{Value, on_every_server};

const AT: i64 = 1_660_054_277_326;

fn ints<const N: usize>(numbers: [i64; N]) -> Value {
    Value::Array(numbers.map(Value::Int).into())
}

#[test]
fn in_a_transaction_they_run_as_one() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("MULTI");
        redis.run(&format!("METER.HIT m AT {AT}"));
        redis.run("CELL.THROTTLE u 0 1 60");
        redis.run("CELL.THROTTLE u 0 1 60");
        redis.run("METER.KPI m FROM 20220101 TO 20221231 BY TOTAL");
        let Value::Array(replies) = redis.run("EXEC") else { panic!("no replies") };
        assert_eq!(replies[..3], [ints([1, 1, 1]), ints([0, 1, 0, -1, 60]), ints([1, 1, 0, 60, 60])]);
        let total = Value::Array(vec![Value::BulkString(b"total".into()), Value::Int(1)]);
        assert_eq!(replies[3], Value::Array(vec![total]));
    });
}

#[test]
fn a_transaction_and_a_script_see_one_time() {
    on_every_server(|server| {
        if !server.program.has_redis(7, 2) {
            return; // older servers do not offer it
        }
        let mut redis = server.connect();
        let script = "redis.call('CELL.THROTTLE', KEYS[1], 5, 1, 60, 1, 'MS') \
            for i = 1, 3000000 do end \
            return redis.call('CELL.THROTTLE', KEYS[1], 5, 1, 60, 1, 'MS')[5]";
        let left = redis.try_call(&[b"EVAL", script.as_bytes(), b"1", b"u"]);
        assert_eq!(left, Ok(Value::Int(120_000)), "no time passes within a script");
    });
}

#[test]
fn scripts_call_them_and_see_their_errors() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let hit = b"return redis.call('METER.HIT', KEYS[1], 'AT', ARGV[1])";
        let at = AT.to_string();
        assert_eq!(redis.try_call(&[b"EVAL", hit, b"1", b"m", at.as_bytes()]), Ok(ints([1, 1, 1])));
        let error = redis.try_call(&[b"EVAL", hit, b"1", b"m", b"1660054277"]).expect_err("an error");
        assert!(error.contains("looks like seconds"), "{error}");
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT}")), [2, 2, 1]);
    });
}

#[test]
fn pipelines_reply_in_order() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut pipeline = redis::pipe();
        for n in 1..=100 {
            pipeline.cmd("METER.HIT").arg("m").arg("AT").arg(AT).arg("BY").arg(n);
            pipeline.cmd("CELL.THROTTLE").arg("u").arg(99).arg(1).arg(60);
        }
        let replies: Vec<Vec<i64>> = pipeline.query(&mut redis.0).expect("replies");
        let mut sum = 0;
        for (n, pair) in (1..=100).zip(replies.chunks(2)) {
            sum += n;
            assert_eq!(pair[0], [sum, sum, n]);
            assert_eq!((pair[1][0], pair[1][2]), (0, 100 - n));
        }
    });
}
