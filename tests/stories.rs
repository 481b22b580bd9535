//! Uses of meters, from the view of their users.

use testkit::{Client, date, now_ms, on_every_server};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

fn counts<const N: usize>(counts: [(&str, i64); N]) -> Vec<(String, i64)> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Noon, `days` days ago.
fn noon(days: i64) -> i64 {
    now_ms() / DAY_MS * DAY_MS - days * DAY_MS + 12 * HOUR_MS
}

#[test]
fn a_session_counter() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // A session counts when it begins, by application and node, at the time that the node says.
        for (node, at, sessions) in [(0, AT, 3), (1, AT, 1), (0, AT + HOUR_MS, 2), (0, AT + DAY_MS, 4)] {
            for _ in 0..sessions {
                redis.run(&format!("METER.HIT kpi:sessions:app:shop:node:{node} AT {at}"));
            }
        }
        // A node that was disconnected for a day sends its count late, in one call.
        assert_eq!(
            redis.ints(&format!("METER.HIT kpi:sessions:app:shop:node:0 AT {} BY 5", AT - 2 * HOUR_MS)),
            [10, 5, 5]
        );
        // The day in one call.
        let node = "kpi:sessions:app:shop:node:0";
        let day = counts([("day", 10), ("12", 5), ("14", 3), ("15", 2)]);
        assert_eq!(redis.counts(&format!("METER.KPI {node} DAY 2022-08-09")), day);
        // A month by days.
        assert_eq!(
            redis.counts(&format!("METER.KPI {node} FROM 20220801 TO 20220831")),
            counts([("20220809", 10), ("20220810", 4)])
        );
        // Nodes do not mix.
        assert_eq!(
            redis.counts("METER.KPI kpi:sessions:app:shop:node:1 DAY 20220809"),
            counts([("day", 1), ("14", 1)])
        );
    });
}

#[test]
fn an_api_access_log() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let log = [("users#show", "7", 5), ("users#update", "1337", 3), ("users#update", "42", 4), ("health", "7", 1)];
        let mut request = |days, endpoint, user, hits| {
            let at = noon(days);
            redis.run(&format!("METER.HIT api:requests AT {at} PATH 2 {endpoint} {user} BY {hits}"));
        };
        for (endpoint, user, hits) in log {
            request(0, endpoint, user, hits);
        }
        request(1, "users#show", "7", 9);
        request(2, "users#update", "42", 2);
        let [today, yesterday, before] = [0, 1, 2].map(|days| date(noon(days)));

        // Today's endpoints by hits, the users of one, and one of them through the days.
        assert_eq!(
            redis.counts("METER.TOP api:requests"),
            counts([("users#update", 7), ("users#show", 5), ("health", 1)])
        );
        assert_eq!(
            redis.counts("METER.TOP api:requests PATH 1 users#update COUNT 5"),
            counts([("42", 4), ("1337", 3)])
        );
        assert_eq!(
            redis.counts(&format!("METER.KPI api:requests FROM {before} TO {today} PATH 2 users#update 42")),
            counts([(&before, 2), (&today, 4)])
        );
        assert_eq!(
            redis.counts(&format!("METER.TOP api:requests FROM {before} TO {today} COUNT 2")),
            counts([("users#show", 14), ("users#update", 9)])
        );
        assert_eq!(redis.counts("METER.DAYS api:requests"), counts([(&before, 2), (&yesterday, 9), (&today, 13)]));

        // The finished days are sealed, read with plain commands, and acknowledged.
        let (id, keys) = redis.seal("METER.SEAL api:requests");
        let id = id.expect("a batch");
        let sealed = format!("api:requests:sealed:{id}:day");
        assert_eq!(
            keys,
            [
                format!("{sealed}:{before}"),
                format!("{sealed}:{before}:path"),
                format!("{sealed}:{before}:path:users#update"),
                format!("{sealed}:{yesterday}"),
                format!("{sealed}:{yesterday}:path"),
                format!("{sealed}:{yesterday}:path:users#show"),
            ]
        );
        assert_eq!(redis.strings(&format!("HGETALL {}", keys[0])), ["day", "2", "12", "2"]);
        assert_eq!(redis.strings(&format!("ZRANGE {} 0 -1 WITHSCORES", keys[4])), ["users#show", "9"]);
        assert_eq!(redis.strings(&format!("ZRANGE {} 0 -1 WITHSCORES", keys[5])), ["7", "9"]);
        // Sealed days do not count any more; today does.
        assert_eq!(redis.counts("METER.DAYS api:requests"), counts([(&today, 13)]));
        redis.run("METER.HIT api:requests PATH 2 health 8");
        assert_eq!(redis.int(&format!("METER.ACK api:requests {id}")), 6);
        assert_eq!(redis.strings("KEYS api:requests:sealed:*"), [""; 0]);
        assert_eq!(redis.seal("METER.SEAL api:requests"), (None, vec![]));
        assert_eq!(redis.counts("METER.DAYS api:requests"), counts([(&today, 14)]));
    });
}

#[test]
fn pay_as_you_go() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut at =
            |hours: i64, rest: &str| redis.ints(&format!("METER.HIT customer:7 AT {} {rest}", AT + hours * HOUR_MS));
        // 10,000 units a month. The call that would cross the cap is refused, a smaller one passes.
        assert_eq!(at(0, "BY 6000 CAP MONTH 10000"), [6_000, 6_000, 6_000]);
        assert_eq!(at(30, "BY 3990 CAP MONTH 10000"), [3_990, 3_990, 3_990]);
        assert_eq!(at(60, "BY 20 CAP MONTH 10000"), [0, 0, 0]);
        assert_eq!(at(60, "BY 10 CAP MONTH 10000"), [10, 10, 10]);
        assert_eq!(at(60, "CAP MONTH 10000"), [10, 10, 0]);
        // The customer extends.
        assert_eq!(at(61, "BY 20 CAP MONTH 12000"), [30, 20, 20]);
        // Half of a call is credited; corrections are never capped.
        assert_eq!(at(61, "BY -10 CAP MONTH 1"), [20, 10, -10]);

        // The bill, to the cent: 10,010 units.
        let mut cost =
            |tariff: &str| redis.strings(&format!("METER.COST customer:7 FROM 20220801 TO 20220831 {tariff}"));
        assert_eq!(cost("RATE 0.02"), ["10010", "200.20"]);
        // The first 1,000 at 0.05, the next 9,000 at 0.02, the rest at 0.015: 50 + 180 + 0.15
        assert_eq!(cost("GRADUATED 1000 0.05 10000 0.02 inf 0.015"), ["10010", "230.150"]);
        // All at the price of the tier that they have reached.
        assert_eq!(cost("VOLUME 1000 0.05 10000 0.02 inf 0.015"), ["10010", "150.150"]);
        // The next month begins anew.
        let september = AT + 30 * DAY_MS;
        assert_eq!(
            redis.ints(&format!("METER.HIT customer:7 AT {september} BY 10000 CAP MONTH 10000")),
            [10_000, 10_000, 10_000]
        );
    });
}

#[test]
fn unique_visitors_and_events_delivered_twice() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut visit = |days: i64, visitor: i64| {
            redis.run(&format!("METER.HIT site AT {} UNIQUE visitor:{visitor}", AT + days * DAY_MS));
        };
        for visitor in 0..20 {
            visit(0, visitor);
            visit(0, visitor);
            visit(1, visitor + 10);
        }
        let unique = |counts: Vec<(String, i64)>| counts.into_iter().find(|(name, _)| name == "unique");
        assert_eq!(unique(redis.counts("METER.KPI site DAY 20220809")), Some(("unique".to_owned(), 20)));
        assert_eq!(unique(redis.counts("METER.KPI site DAY 20220810")), Some(("unique".to_owned(), 20)));
        assert_eq!(
            redis.counts("METER.KPI site FROM 20220801 TO 20220831 BY TOTAL"),
            counts([("total", 60), ("unique", 30)])
        );

        // A queue delivers at least once; the meter counts once.
        let deliver = |redis: &mut Client, event: &str, days| {
            redis.ints(&format!("METER.HIT orders AT {} BY 3 ONCE {event}", noon(days)))
        };
        assert_eq!(deliver(&mut redis, "order-1", 0), [3, 3, 3]);
        assert_eq!(deliver(&mut redis, "order-2", 0), [6, 6, 3]);
        assert_eq!(deliver(&mut redis, "order-1", 0), [6, 6, 0]);
        // Also a day later, and after the day was sealed.
        assert_eq!(deliver(&mut redis, "order-3", 1), [3, 3, 3]);
        let (id, _) = redis.seal("METER.SEAL orders");
        assert_eq!(deliver(&mut redis, "order-3", 1), [0, 0, 0]);
        redis.run(&format!("METER.ACK orders {}", id.expect("a batch")));
        assert_eq!(deliver(&mut redis, "order-3", 1), [0, 0, 0]);
        // Sealed, and opened again by an event that was not counted yet.
        assert_eq!(deliver(&mut redis, "order-4", 1), [3, 3, 3]);
    });
}
