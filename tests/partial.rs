//! PARTIAL: a call takes as many of its cells as fit, and is refused only if none does.

use testkit::{Client, Random, now_ms, on_every_server, setting};

/// The reply without its spans, which change: limited, limit, remaining, and how many were taken.
fn taken(redis: &mut Client, line: &str) -> [i64; 4] {
    let reply = redis.ints(line);
    let [limited, limit, remaining, retry_after, reset_after, taken] = reply[..] else { panic!("{line}: {reply:?}") };
    assert_eq!(retry_after == -1, limited == 0, "{line}: {reply:?}");
    assert!((limited == 1) == (taken == 0), "refused only if none fit: {line}: {reply:?}");
    assert!(reset_after > 0, "{line}: {reply:?}");
    [limited, limit, remaining, taken]
}

/// Five cells in a period so long that no other becomes due meanwhile.
const FIVE: [&str; 4] = [
    "CELL.THROTTLE k 4 5 1000000",
    "CELL.WINDOW k 5 1000000",
    "CELL.LOG k 5 1000000",
    // The window that began in 2001 and ends in 2033.
    "CELL.SLIDE k 5 1000000000",
];

#[test]
fn as_many_as_fit_are_taken() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            redis.run("DEL k");
            assert_eq!(taken(&mut redis, &format!("{call} 3 PARTIAL")), [0, 5, 2, 3], "{call}: all fit");
            assert_eq!(taken(&mut redis, &format!("{call} 9 PARTIAL MS")), [0, 5, 0, 2], "{call}: two of nine fit");
            assert_eq!(taken(&mut redis, &format!("{call} 9 MS PARTIAL")), [1, 5, 0, 0], "{call}: none fits");
            assert_eq!(taken(&mut redis, &format!("{call} PARTIAL")), [1, 5, 0, 0], "{call}: the quantity is one");
            // A refund works as usual; a call that can never pass whole takes the remaining cells.
            redis.run(&format!("{call} -1"));
            assert_eq!(taken(&mut redis, &format!("{call} partial")), [0, 5, 0, 1], "{call}");
            redis.run("DEL k");
            assert_eq!(
                taken(&mut redis, &format!("{call} {} PARTIAL", i64::MAX)),
                [0, 5, 0, 5],
                "{call}: more than the limit"
            );
        }
    });
}

#[test]
fn info_counts_taken_and_refused_cells() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            redis.run("DEL k");
            let counts = |redis: &mut Client| {
                ["meter_cells_allowed", "meter_cells_refused"].map(|field| {
                    redis.info_field("meter", field).and_then(|count| count.parse::<i64>().ok()).expect("a count")
                })
            };
            let before = counts(&mut redis);
            redis.run(&format!("{call} 3 PARTIAL"));
            redis.run(&format!("{call} 9 PARTIAL"));
            redis.run(&format!("{call} 9 PARTIAL"));
            redis.run(&format!("{call} 4"));
            let after = counts(&mut redis);
            assert_eq!([after[0] - before[0], after[1] - before[1]], [5, 7 + 9 + 4], "{call}");
        }
    });
}

#[test]
fn retry_after_is_when_one_cell_fits() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            redis.run("DEL k");
            redis.run(&format!("{call} 5"));
            let partial = redis.ints(&format!("{call} 4 PARTIAL"));
            let one = redis.ints(&format!("{call} 1"));
            assert_eq!((partial[0], one[0]), (1, 1), "{call}");
            assert!((partial[3] - one[3]).abs() <= 1, "{call}: {partial:?} {one:?}");
        }
        // In a limiter that replenishes one cell at a time, four take longer than one.
        redis.run("DEL k");
        redis.run("CELL.THROTTLE k 4 5 1000000 5");
        let (partial, whole) =
            (redis.ints("CELL.THROTTLE k 4 5 1000000 4 PARTIAL"), redis.ints("CELL.THROTTLE k 4 5 1000000 4"));
        assert!((199_998..=200_000).contains(&partial[3]), "{partial:?}");
        assert!((799_998..=800_000).contains(&whole[3]), "{whole:?}");
    });
}

#[test]
fn read_only_variants_return_the_same_and_take_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            redis.run("DEL k");
            let read_only = call.replacen(" ", "_RO ", 1);
            assert_eq!(redis.ints(&format!("{read_only} 9 PARTIAL"))[5], 5, "{call}: a fresh one");
            assert_eq!(redis.int("EXISTS k"), 0, "{call}");
            redis.run(&format!("{call} 3"));
            let before = redis.contents();
            assert_eq!(taken(&mut redis, &format!("{read_only} 9 PARTIAL")), [0, 5, 0, 2], "{call}");
            assert_eq!(redis.contents(), before, "{call}");
            redis.run(&format!("{call} 2"));
            let before = redis.contents();
            assert_eq!(taken(&mut redis, &format!("{read_only} 9 PARTIAL")), [1, 5, 0, 0], "{call}");
            assert_eq!(redis.contents(), before, "{call}");
        }
    });
}

#[test]
fn a_refused_call_changes_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            redis.run("DEL k");
            redis.run(&format!("{call} 5"));
            let before = redis.contents();
            let dirty = redis.info_field("persistence", "rdb_changes_since_last_save");
            assert_eq!(redis.ints(&format!("{call} 7 PARTIAL"))[0], 1);
            assert_eq!(redis.contents(), before, "{call}");
            assert_eq!(redis.info_field("persistence", "rdb_changes_since_last_save"), dirty, "{call}");
        }
    });
}

#[test]
fn a_block_starts_only_when_none_fits() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let call = "CELL.WINDOW k 5 3600";
        redis.run(&format!("{call} 3"));
        assert_eq!(taken(&mut redis, &format!("{call} 9 PARTIAL BLOCK 7200")), [0, 5, 0, 2]);
        assert_eq!(redis.string("GET k").as_deref(), Some("5"));
        assert!((3_590..=3_600).contains(&redis.int("TTL k")), "no block");
        let before = redis.contents();
        let would = redis.ints("CELL.WINDOW_RO k 5 3600 9 PARTIAL BLOCK 7200");
        assert_eq!((would[0], would[5], would[3]), (1, 0, 7_200));
        assert_eq!(redis.contents(), before);
        let blocked = redis.ints(&format!("{call} 9 BLOCK 7200 PARTIAL"));
        assert_eq!((blocked[0], blocked[5], blocked[3]), (1, 0, 7_200));
        assert_eq!(redis.string("GET k").as_deref(), Some("6"));
        assert!((7_190..=7_200).contains(&redis.int("TTL k")), "a block");
        // It is not started again.
        let before = redis.contents();
        assert_eq!(taken(&mut redis, &format!("{call} 9 BLOCK 7200 PARTIAL")), [1, 5, 0, 0]);
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn a_log_takes_no_more_in_one_call_than_it_takes_without() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(taken(&mut redis, "CELL.LOG k 25000 3600 20000 PARTIAL"), [0, 25_000, 15_000, 10_000]);
        assert_eq!(taken(&mut redis, "CELL.LOG k 25000 3600 20000 PARTIAL"), [0, 25_000, 5_000, 10_000]);
        assert_eq!(taken(&mut redis, "CELL.LOG k 25000 3600 20000 PARTIAL"), [0, 25_000, 0, 5_000]);
        assert_eq!(redis.int("ZCARD k"), 25_000);
    });
}

#[test]
fn it_needs_a_quantity_to_take_and_a_limiter_of_its_own() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in FIVE {
            for quantity in ["0", "-1"] {
                let error = redis.error(&format!("{call} {quantity} PARTIAL"));
                let expected = format!("ERR PARTIAL takes a quantity of at least 1, not {quantity}");
                assert_eq!(error, expected, "{call}");
            }
            assert_eq!(redis.error(&format!("{call} 1 PARTIAL PARTIAL")), "ERR PARTIAL is given twice");
            let read_only = call.replacen(" ", "_RO ", 1);
            assert!(redis.error(&format!("{read_only} 0 PARTIAL")).starts_with("ERR PARTIAL takes"), "{read_only}");
        }
        assert!(redis.error("CELL.MTHROTTLE k 4 5 60 1 PARTIAL").starts_with("ERR "));
        assert!(redis.error("CELL.PULL q k 4 5 60 PARTIAL").starts_with("ERR "));
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

/// Each limiter is compared with one from which the same cells are taken one by one.
#[test]
fn it_takes_as_many_cells_as_single_calls_would() {
    let seed = setting("METER_PARTIAL_SEED", now_ms().unsigned_abs());
    println!("METER_PARTIAL_SEED={seed}");
    on_every_server(|server| {
        let (mut redis, mut random) = (server.connect(), Random::new(seed));
        for _ in 0..60 {
            redis.run("FLUSHALL");
            let limit = 1 + random.below(12);
            let numbers = [
                format!("CELL.THROTTLE KEY {} {limit} 100000000", limit - 1),
                format!("CELL.WINDOW KEY {limit} 100000000"),
                format!("CELL.LOG KEY {limit} 100000000"),
                format!("CELL.SLIDE KEY {limit} 1000000000"),
            ];
            let numbers = &numbers[random.below(4)];
            let [partial, single] = ["one", "other"].map(|key| numbers.replace("KEY", key));
            for _ in 0..3 {
                let n = 1 + random.below(8);
                let at_once = redis.ints(&format!("{partial} {n} PARTIAL"));
                let one_by_one: i64 = (0..n).map(|_| 1 - redis.ints(&single)[0]).sum();
                let left = redis.ints(&format!("{single} 0"))[2];
                assert_eq!((at_once[5], at_once[2]), (one_by_one, left), "{partial} {n}");
            }
        }
    });
}
