//! Random hits of finished days, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use testkit::{Client, Random, Server, date};

const MILLIS_PER_DAY: i64 = 86_400_000;
const MEMBERS: [&[u8]; 5] = [b"users#update", b"a", b"A", b"a:b", b"\xff\0 "];

/// The meters that are hit.
pub const METERS: [&[u8]; 2] = [b"usage:shop", b"odd %\xc3\xbc:b"];
/// Finished days that are hit.
pub const DAYS: usize = 3;

/// A hit that counts once, however often it is sent.
#[derive(Clone, Debug)]
pub struct Hit {
    pub meter: &'static [u8],
    pub at: i64,
    pub by: i64,
    pub path: [&'static [u8]; 2],
    pub unique: String,
    pub event: String,
}

/// What hits add up to.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub hours: super::Hours,
    pub paths: super::Paths,
    pub uniques: BTreeMap<(Vec<u8>, String), BTreeSet<String>>,
    pub hits: u64,
}

impl Hit {
    /// A random one, of the days before `now`, which is milliseconds since the epoch.
    pub fn random(random: &mut Random, now: i64, event: u64) -> Self {
        let ago = 1 + i64::try_from(random.below(DAYS)).expect("small");
        let day = (now / MILLIS_PER_DAY - ago) * MILLIS_PER_DAY;
        Self {
            meter: METERS[random.below(METERS.len())],
            at: day + i64::try_from(random.below(24 * 3600)).expect("small") * 1000,
            by: 1 + i64::try_from(random.below(9)).expect("small"),
            path: [MEMBERS[random.below(MEMBERS.len())], MEMBERS[random.below(MEMBERS.len())]],
            unique: format!("id{}", random.below(500)),
            event: format!("event{event}"),
        }
    }

    /// Sends it once.
    pub fn try_send(&self, redis: &mut Client) -> Result<(), String> {
        let (at, by) = (self.at.to_string(), self.by.to_string());
        let words: [&[u8]; 14] = [
            b"METER.HIT",
            self.meter,
            b"AT",
            at.as_bytes(),
            b"BY",
            by.as_bytes(),
            b"PATH",
            b"2",
            self.path[0],
            self.path[1],
            b"UNIQUE",
            self.unique.as_bytes(),
            b"ONCE",
            self.event.as_bytes(),
        ];
        redis.try_call(&words).map(drop)
    }

    /// Sends it until it is answered.
    pub fn send(&self, server: &Server, redis: &mut Option<Client>) {
        testkit::eventually("a hit is answered", || {
            let client = redis.get_or_insert_with(|| server.connect());
            let answer = self.try_send(client);
            if answer.is_err() {
                *redis = None;
            }
            answer.is_ok()
        });
    }
}

/// A day as SQL has it.
pub fn sql_day(at: i64) -> String {
    let day = date(at);
    format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..])
}

impl Ledger {
    pub fn count(&mut self, hit: &Hit) {
        let (meter, day) = (hit.meter.to_vec(), sql_day(hit.at));
        let hour = hit.at / 3_600_000 % 24;
        *self.hours.entry((meter.clone(), day.clone(), hour)).or_default() += hit.by;
        for depth in 1..=2 {
            let path = hit.path[..depth].iter().map(|member| member.to_vec()).collect();
            *self.paths.entry((meter.clone(), day.clone(), path)).or_default() += hit.by;
        }
        self.uniques.entry((meter, day)).or_default().insert(hit.unique.clone());
        self.hits += 1;
    }

    /// The estimates of the distinct ids, as the server's own HyperLogLogs have them.
    pub fn estimates(&self, redis: &mut Client) -> BTreeMap<(Vec<u8>, String), i64> {
        let mut estimates = BTreeMap::new();
        for (key, ids) in &self.uniques {
            redis.run("DEL estimate");
            for id in ids {
                redis.run(&format!("PFADD estimate {id}"));
            }
            estimates.insert(key.clone(), redis.int("PFCOUNT estimate"));
        }
        redis.run("DEL estimate");
        estimates
    }

    /// Compares an archive with it, to the unit.
    pub fn assert_equals(&self, archive: &str, redis: &mut Client) {
        assert_eq!(super::hours(archive), self.hours);
        assert_eq!(super::paths(archive), self.paths);
        let sql = format!("SELECT meter, {}, estimate FROM meter_unique", super::day(archive, "day"));
        let rows = super::query(archive, &sql);
        let found: BTreeMap<_, _> = rows.iter().map(|row| ((row[0].bytes(), row[1].text()), row[2].int())).collect();
        assert_eq!(found, self.estimates(redis));
    }
}
