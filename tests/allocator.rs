//! The module works with every server's allocator, also one that aligns to 8 bytes (`scripts/fetch-servers
//! redis-libc`): types that need more are still aligned. The memory is the server's, and is freed.

use testkit::{Client, on_every_server};

const DAYS: [&str; 3] = ["20220809", "20220810", "20220811"];

/// Three days of as many members each, most of them on one day alone.
fn fill(redis: &mut Client, members: usize) {
    let add = b"for day = 0, 2 do for i = 1, tonumber(ARGV[1]) do
        redis.call('METER.HIT', 'm', 'AT', 1660054277326 + day * 86400000, 'BY', i, 'PATH', 2, 'top', day .. ':' .. i % 97 .. ':' .. i)
        end end";
    redis.try_call(&[b"EVAL", add, b"0", members.to_string().as_bytes()]).expect("hits");
}

#[test]
fn an_alignment_of_16_bytes_is_given_on_every_server() {
    on_every_server(|server| {
        for members in [1, 2, 3, 7, 50, 150] {
            let mut redis = server.connect();
            redis.run("FLUSHALL");
            fill(&mut redis, members);
            for count in [1, 2, 5, 10, 100, 1_000] {
                // Hash maps over several days, and sums in 128 bits.
                let top =
                    redis.counts(&format!("METER.TOP m FROM {} TO {} PATH 1 top COUNT {count}", DAYS[0], DAYS[2]));
                assert_eq!(top.len(), count.min(3 * members));
                let one = redis.counts(&format!("METER.TOP m FROM {} TO {}", DAYS[0], DAYS[2]));
                let sum = i64::try_from(3 * members * (members + 1) / 2).expect("small");
                assert_eq!(one, [("top".to_owned(), sum)]);
                let cost = redis.strings(&format!("METER.COST m FROM {} TO {} RATE 0.25", DAYS[0], DAYS[2]));
                assert_eq!(cost[1], format!("{}.{:02}", sum / 4, sum % 4 * 25));
            }
            let (id, keys) = redis.seal("METER.SEAL m");
            assert!(keys.len() >= 9, "{keys:?}");
            redis.run(&format!("METER.ACK m {}", id.expect("a batch")));
        }
        server.assert_alive("METER.TOP of a span");
    });
}

#[test]
fn the_memory_of_a_call_is_the_servers_and_is_freed() {
    on_every_server(|server| {
        let mut redis = server.connect();
        fill(&mut redis, 1_000);
        let span = format!("METER.TOP m FROM {} TO {} PATH 1 top COUNT 5000", DAYS[0], DAYS[2]);
        let used = |redis: &mut Client| -> i64 {
            redis.info_field("memory", "used_memory").expect("a field").parse().expect("a number")
        };
        for _ in 0..20 {
            redis.run(&span);
        }
        let before = used(&mut redis);
        for _ in 0..100 {
            redis.run(&span);
        }
        let grown = used(&mut redis) - before;
        assert!(grown < 100_000, "{grown} bytes are not given back");
    });
}
