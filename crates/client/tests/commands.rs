//! Every command through this crate, on real servers: over blocking connections of both protocols, over shared
//! asynchronous ones, and to a cluster.

use std::time::Duration;

use redis::{Connection, FromRedisValue};
use redis_meter_client::{
    Ack, Bucket, Cap, Command, Cost, Day, Days, Drop, Hit, Hits, Index, Kpi, Lease, Log, MThrottle, Price, Pull, Quota,
    Refused, RefusedReset, Release, Seal, Slide, Span, Throttle, Top, Uncounted, Unit, When, Window,
};
use testkit::{Server, cluster, now_ms, on_every_server};

/// 2022-08-09 14:11:17 UTC.
const AT: u64 = 1_660_054_277_326;
const HOUR: Duration = Duration::from_secs(3600);

#[track_caller]
fn run<C: Command>(redis: &mut Connection, command: &C) -> C::Reply
where
    C::Reply: FromRedisValue,
{
    command.query(redis).unwrap_or_else(|error| panic!("{error}"))
}

/// One of RESP2, one of RESP3.
fn connections(server: &Server) -> [Connection; 2] {
    ["resp2", "resp3"].map(|protocol| {
        let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port);
        redis::Client::open(url).and_then(|client| client.get_connection()).expect("a connection")
    })
}

#[test]
fn meters_over_both_protocols() {
    on_every_server(|server| {
        for (round, redis) in connections(server).iter_mut().enumerate() {
            let key = [b"m\xff".as_slice(), &[b'0' + u8::try_from(round).expect("small")]].concat();
            let hit = || Hit::new(&key).at(AT);
            let full = hit().by(2).path([&b"a\0"[..], b"b"]).path(["de"]).unique("u").cap(Cap::Month(5));
            let counted = Hits { day: 2, hour: 2, applied: 2, why: None, remaining: Some(3) };
            assert_eq!(run(redis, &full.why()), counted);
            // Ids of events are forgotten after a week.
            let now = u64::try_from(now_ms()).expect("after the epoch");
            let event = Hit::new([&key[..], b"events"].concat()).at(now).once("e").why();
            assert_eq!(run(redis, &event), Hits { day: 1, hour: 1, applied: 1, why: None, remaining: None });
            let why = Some(Uncounted::Duplicate);
            assert_eq!(run(redis, &event), Hits { day: 1, hour: 1, applied: 0, why, remaining: None });
            assert!(event.is_repeatable() && !hit().is_repeatable() && hit().by(0).is_repeatable());
            let capped = hit().by(9).cap(Cap::Hour(9)).cap(Cap::Day(9)).cap(Cap::Since("2022-08-01".into(), 9)).why();
            assert_eq!(run(redis, &capped).why, Some(Uncounted::Capped));
            assert_eq!(run(redis, &hit().by(-1)), Hits { day: 1, hour: 1, applied: -1, why: None, remaining: None });
            let day = Day { total: Some(1), hours: vec![(14, 1)], unique: Some(1), sealed: None };
            assert_eq!(run(redis, &Kpi::new(&key).day("2022-08-09")), day);
            assert_eq!(run(redis, &Kpi::new(&key)), Day::default());
            let span = |by| Span::new(&key, "20220801", "2022-08-31").by(by);
            for (by, bucket) in [
                (Bucket::Hour, "2022080914"),
                (Bucket::Day, "20220809"),
                (Bucket::Week, "2022W32"),
                (Bucket::Month, "202208"),
            ] {
                assert_eq!(run(redis, &span(by)), [(bucket.to_owned(), 1)]);
            }
            let total = [("total".to_owned(), 1), ("unique".to_owned(), 1)];
            assert_eq!(run(redis, &span(Bucket::Total)), total);
            assert_eq!(run(redis, &span(Bucket::Day).path([b"a\0"])), [("20220809".to_owned(), 2)]);
            let when = || When::Span("20220809".into(), "20220809".into());
            let top = Top::new(&key).when(when());
            assert_eq!(run(redis, &top.clone().count(1)), [(b"de".to_vec(), 2)]);
            assert_eq!(run(redis, &top.path([b"a\0"])), [(b"b".to_vec(), 2)]);
            assert_eq!(run(redis, &Days::new(&key)), [("20220809".to_owned(), 1)]);
            for (price, cost) in [
                (Price::Rate("0.50".into()), "0.50"),
                (Price::Graduated(vec![("10".into(), "2".into()), ("inf".into(), "1.5".into())]), "2.0"),
                (Price::Volume(vec![("inf".into(), "3".into())]), "3"),
            ] {
                let costs = run(redis, &Cost::new(&key, when(), price));
                assert_eq!((costs.usage, costs.cost.as_str()), (1, cost));
            }
            let sealed = run(redis, &Seal::new(&key).before("20220810"));
            assert_eq!(run(redis, &Seal::new(&key)), sealed);
            let batch = sealed.batch.expect("a batch");
            assert_eq!(run(redis, &Ack::new(&key, batch)), sealed.keys.len() as u64);
            assert_eq!(run(redis, &Seal::new(&key)).batch, None);
            run(redis, &Hit::new(&key).at(AT + 86_400_000));
            assert_eq!(run(redis, &Drop::new(&key).before("20220812")), 1);
            redis::cmd("HSET")
                .arg([&key[..], b":day:20220811"].concat())
                .arg(&["day", "1", "3", "1"])
                .exec(redis)
                .expect("set");
            assert_eq!(run(redis, &Index::new(&key, "20220801", "20220831")), 1);
            assert_eq!(run(redis, &Drop::new(&key)), 1);
        }
    });
}

#[test]
fn limiters_over_both_protocols() {
    on_every_server(|server| {
        for (round, redis) in connections(server).iter_mut().enumerate() {
            let key = |name: &str| format!("{name}{round}");
            let throttle = || Throttle::new(key("t"), 2, 10, HOUR);
            let taken = run(redis, &throttle().quantity(2));
            assert_eq!((taken.limited, taken.limit, taken.remaining, taken.retry_after), (false, 3, 1, None));
            assert!(taken.reset_after <= Duration::from_secs(720) && taken.taken.is_none());
            assert_eq!(run(redis, &throttle().quantity(5).partial()).taken, Some(1));
            let peek = run(redis, &throttle().read_only());
            assert!(peek.limited && peek.retry_after.is_some() && !peek.can_never_pass());
            assert!(run(redis, &throttle().quantity(4)).can_never_pass());
            let both = MThrottle::new().limit(throttle()).limit(Throttle::new(key("u"), 0, 1, HOUR));
            let limited: Vec<bool> = run(redis, &both).iter().map(|verdict| verdict.limited).collect();
            assert_eq!(limited, [true, false]);
            assert_eq!(run(redis, &both.read_only()).len(), 2);
            let window = Window::new(key("w"), 1, HOUR);
            assert!(!run(redis, &window).limited);
            let blocked = run(redis, &window.clone().block(2 * HOUR));
            assert!(blocked.limited && blocked.retry_after.is_some_and(|wait| wait > HOUR));
            assert_eq!(run(redis, &Log::new(key("l"), 5, HOUR).quantity(7).partial()).taken, Some(5));
            assert_eq!(run(redis, &Slide::new(key("s"), 50, HOUR).quantity(3)).remaining, 47);
            let quota = Quota::new(key("q"), 9, Unit::Month).anchor("2022-07-31").offset("+05:30");
            assert_eq!(run(redis, &quota.clone().quantity(4)).remaining, 5);
            // What the call would return, with its one cell taken.
            assert_eq!(run(redis, &quota.read_only()).remaining, 4);
            let lease = Lease::new(key("p"), 1, HOUR, "me");
            assert!(!run(redis, &lease).limited);
            assert!(run(redis, &Lease::new(key("p"), 1, HOUR, "you").timeout(Duration::from_millis(20))).limited);
            assert!(run(redis, &Lease::new(key("p"), 1, HOUR, "you").read_only()).limited);
            assert!(run(redis, &Release::new(key("p"), "me")) && !run(redis, &Release::new(key("p"), "me")));
            redis::cmd("LPUSH").arg(key("queue")).arg(&["a", "b", "c"]).exec(redis).expect("pushed");
            let pull = || Pull::new(key("queue"), Throttle::new(key("pace"), 1, 1, HOUR));
            let pulled = run(redis, &pull().count(2).into_list(key("busy")));
            assert_eq!(pulled.cells, [b"a", b"b"]);
            assert!(pulled.retry_after > Duration::from_secs(3000));
            assert!(run(redis, &pull().timeout(Duration::from_millis(20))).cells.is_empty());
            let refused = run(redis, &Refused::new().count(50));
            let mine = refused.iter().find(|refusal| refusal.key == key("w").as_bytes()).expect("the window's key");
            assert_eq!((mine.db, mine.refusals), (0, 1));
            run(redis, &RefusedReset);
            assert_eq!(run(redis, &Refused::new()), []);
        }
    });
}

#[test]
fn shared_connections_and_clusters() {
    let program = testkit::programs().last().expect("a server program");
    let server = Server::start(program, &[]);
    let nodes = cluster::three_nodes(program);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).expect("a URL");
        let mut multiplexed = client.get_multiplexed_async_connection().await.expect("a connection");
        assert_eq!(Hit::new("m").query_async(&mut multiplexed).await.expect("a reply").day, 1);
        let mut manager = client.get_connection_manager().await.expect("a connection");
        assert_eq!(Hit::new("m").query_async(&mut manager).await.expect("a reply").day, 2);
        let urls = nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port));
        let client = redis::cluster::ClusterClient::new(urls).expect("URLs");
        let mut cluster = client.get_async_connection().await.expect("a connection");
        for n in 0..30 {
            let (meter, limiter) = (format!("m{n}"), Throttle::new(format!("t{n}"), 0, 1, HOUR));
            assert_eq!(Hit::new(&meter).query_async(&mut cluster).await.expect("a reply").day, 1);
            assert!(!limiter.query_async(&mut cluster).await.expect("a reply").limited);
        }
    });
    let urls = nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port));
    let mut blocking = redis::cluster::ClusterClient::new(urls).expect("URLs").get_connection().expect("a connection");
    assert_eq!(Hit::new("m7").query(&mut blocking).expect("a reply").day, 2);
}
