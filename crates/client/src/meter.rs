//! Meters: `METER.*`.

use redis::{Cmd, FromRedisValue, ParsingError, Value, cmd};

use crate::arguments::{Name, name, option, path};
use crate::command::Command;
use crate::reply::{bytes, count, elements, exactly, int, text};

/// `METER.HIT`: counts hits in the day and the hour in which they fall.
#[derive(Clone, Debug)]
pub struct Hit {
    key: Name,
    by: i64,
    at: Option<u64>,
    paths: Vec<Vec<Name>>,
    unique: Option<Name>,
    once: Option<Name>,
    caps: Vec<Cap>,
    why: bool,
}

/// A limit on the count of a span; a hit that would exceed it is refused whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cap {
    /// In the hit's UTC hour.
    Hour(u64),
    /// In the hit's UTC day.
    Day(u64),
    /// In the hit's UTC month.
    Month(u64),
    /// From this date on (`20220717` or `2022-07-17`), at most 366 days before the hit.
    Since(String, u64),
}

impl Hit {
    /// One hit, now.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        let key = name(key);
        Self { key, by: 1, at: None, paths: Vec::new(), unique: None, once: None, caps: Vec::new(), why: false }
    }

    /// How many hits; a negative number is a correction, 0 is a dry run.
    #[must_use]
    pub fn by(mut self, by: i64) -> Self {
        self.by = by;
        self
    }

    /// When, in milliseconds since the epoch; by default the server's time.
    #[must_use]
    pub fn at(mut self, unix_ms: u64) -> Self {
        self.at = Some(unix_ms);
        self
    }

    /// Also counts along a breakdown of 1 to 8 members; up to 8 of them.
    #[must_use]
    pub fn path<M: AsRef<[u8]>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.paths.push(members.into_iter().map(name).collect());
        self
    }

    /// Also counts the distinct ids of the day.
    #[must_use]
    pub fn unique(mut self, id: impl AsRef<[u8]>) -> Self {
        self.unique = Some(name(id));
        self
    }

    /// Counts this event once, however often it is sent; needs [`Hit::at`], the same each time.
    #[must_use]
    pub fn once(mut self, event_id: impl AsRef<[u8]>) -> Self {
        self.once = Some(name(event_id));
        self
    }

    /// Refuses the hit if it would exceed this cap; up to 4 of them.
    #[must_use]
    pub fn cap(mut self, cap: Cap) -> Self {
        self.caps.push(cap);
        self
    }

    /// Asks why nothing was counted, and what remains of the tightest cap.
    #[must_use]
    pub fn why(mut self) -> Self {
        self.why = true;
        self
    }

    /// Whether it is safe to send again after a lost reply: it cannot be counted twice.
    pub fn is_repeatable(&self) -> bool {
        self.once.is_some() || self.by == 0
    }
}

impl Command for Hit {
    type Reply = Hits;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.HIT");
        command.arg(self.key.as_slice());
        if self.by != 1 {
            option(&mut command, "BY", self.by);
        }
        if let Some(at) = self.at {
            option(&mut command, "AT", at);
        }
        self.paths.iter().for_each(|members| path(&mut command, members));
        if let Some(id) = &self.unique {
            option(&mut command, "UNIQUE", id.as_slice());
        }
        if let Some(id) = &self.once {
            option(&mut command, "ONCE", id.as_slice());
        }
        for cap in &self.caps {
            command.arg("CAP");
            match cap {
                Cap::Hour(limit) => command.arg("HOUR").arg(limit),
                Cap::Day(limit) => command.arg("DAY").arg(limit),
                Cap::Month(limit) => command.arg("MONTH").arg(limit),
                Cap::Since(date, limit) => command.arg("SINCE").arg(date).arg(limit),
            };
        }
        if self.why {
            command.arg("WHY");
        }
        command
    }
}

/// What a hit returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// The count of its day, after it.
    pub day: u64,
    /// The count of its hour, after it.
    pub hour: u64,
    /// How much was counted: the hit's `by`, or 0 if it was a duplicate or capped.
    pub applied: i64,
    /// Why nothing was counted; always `None` without [`Hit::why`].
    pub why: Option<Uncounted>,
    /// What remains of the tightest cap; always `None` without [`Hit::why`] and without a cap.
    pub remaining: Option<u64>,
}

/// Why a hit was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// Its event had been counted before.
    Duplicate,
    /// It would have exceeded a cap.
    Capped,
}

impl FromRedisValue for Hits {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut values = elements(value)?.into_iter();
        let mut next = || values.next().ok_or_else(|| ParsingError::from("METER.HIT returned too few elements"));
        let (day, hour, applied) = (count(&next()?)?, count(&next()?)?, int(&next()?)?);
        let why = match next().ok().map(bytes).transpose()?.flatten().as_deref() {
            None => None,
            Some(b"duplicate") => Some(Uncounted::Duplicate),
            Some(b"capped") => Some(Uncounted::Capped),
            Some(other) => return Err(format!("METER.HIT returned the reason {}", other.escape_ascii()).into()),
        };
        let remaining = match next() {
            Err(_) | Ok(Value::Nil) => None,
            Ok(left) => Some(count(&left)?),
        };
        Ok(Self { day, hour, applied, why, remaining })
    }
}

/// Which days a command reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The server's UTC day.
    Today,
    /// One date, as `20220809` or `2022-08-09`.
    Day(String),
    /// From one date to another, both included.
    Span(String, String),
}

impl When {
    fn write(&self, command: &mut Cmd) {
        match self {
            Self::Today => command,
            Self::Day(day) => command.arg("DAY").arg(day),
            Self::Span(from, to) => command.arg("FROM").arg(from).arg("TO").arg(to),
        };
    }
}

/// `METER.KPI` of one day.
#[derive(Clone, Debug)]
pub struct Kpi {
    key: Name,
    day: Option<String>,
}

impl Kpi {
    /// Today.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), day: None }
    }

    /// This date, as `20220809` or `2022-08-09`.
    #[must_use]
    pub fn day(mut self, day: impl Into<String>) -> Self {
        self.day = Some(day.into());
        self
    }
}

impl Command for Kpi {
    type Reply = Day;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.KPI");
        command.arg(self.key.as_slice());
        if let Some(day) = &self.day {
            option(&mut command, "DAY", day);
        }
        command
    }
}

/// One day of a meter; all empty if nothing was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// The total, if the day is stored.
    pub total: Option<u64>,
    /// The hours that have a count, ascending, 0 to 23.
    pub hours: Vec<(u8, u64)>,
    /// The estimated number of distinct ids.
    pub unique: Option<u64>,
    /// What of the day was sealed or dropped.
    pub sealed: Option<u64>,
}

impl FromRedisValue for Day {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut day = Self::default();
        let mut values = elements(value)?.into_iter();
        while let (Some(field), Some(value)) = (values.next(), values.next()) {
            let n = count(&value)?;
            match text(field)?.as_str() {
                "day" => day.total = Some(n),
                "unique" => day.unique = Some(n),
                "sealed" => day.sealed = Some(n),
                hour => day.hours.push((hour.parse().map_err(|_| format!("METER.KPI returned the hour {hour}"))?, n)),
            }
        }
        Ok(day)
    }
}

/// The size of the buckets of a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// `2022080914`
    Hour,
    /// `20220809`
    Day,
    /// `2022W32`, of ISO 8601
    Week,
    /// `202208`
    Month,
    /// `total`, and `unique` where ids are counted
    Total,
}

impl Bucket {
    /// The keyword of the command.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Total => "TOTAL",
        }
    }
}

/// `METER.KPI` of several days.
#[derive(Clone, Debug)]
pub struct Span {
    key: Name,
    from: String,
    to: String,
    by: Bucket,
    path: Vec<Name>,
}

impl Span {
    /// From one date to another, both included, by days.
    pub fn new(key: impl AsRef<[u8]>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { key: name(key), from: from.into(), to: to.into(), by: Bucket::Day, path: Vec::new() }
    }

    /// In buckets of this size.
    #[must_use]
    pub fn by(mut self, by: Bucket) -> Self {
        self.by = by;
        self
    }

    /// Only what was counted for this member of a breakdown.
    #[must_use]
    pub fn path<M: AsRef<[u8]>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.path = members.into_iter().map(name).collect();
        self
    }
}

impl Command for Span {
    type Reply = Vec<(String, u64)>;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.KPI");
        command.arg(self.key.as_slice()).arg("FROM").arg(&self.from).arg("TO").arg(&self.to);
        if self.by != Bucket::Day {
            option(&mut command, "BY", self.by.keyword());
        }
        if !self.path.is_empty() {
            path(&mut command, &self.path);
        }
        command
    }
}

/// `METER.TOP`: the highest members of a breakdown.
#[derive(Clone, Debug)]
pub struct Top {
    key: Name,
    when: When,
    path: Vec<Name>,
    count: Option<u64>,
}

impl Top {
    /// The ten highest of the first level, today.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), when: When::Today, path: Vec::new(), count: None }
    }

    /// Of these days.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Below this member.
    #[must_use]
    pub fn path<M: AsRef<[u8]>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.path = members.into_iter().map(name).collect();
        self
    }

    /// At most this many, instead of ten.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

impl Command for Top {
    type Reply = Vec<(Vec<u8>, u64)>;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.TOP");
        command.arg(self.key.as_slice());
        self.when.write(&mut command);
        if !self.path.is_empty() {
            path(&mut command, &self.path);
        }
        if let Some(count) = self.count {
            option(&mut command, "COUNT", count);
        }
        command
    }
}

/// `METER.DAYS`: the days stored, with their counts.
#[derive(Clone, Debug)]
pub struct Days(Name);

impl Days {
    /// Of this meter.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self(name(key))
    }
}

impl Command for Days {
    type Reply = Vec<(String, u64)>;

    fn to_cmd(&self) -> Cmd {
        cmd("METER.DAYS").arg(self.0.as_slice()).to_owned()
    }
}

/// How usage is priced. Prices and limits are exact decimals, written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// One price for each unit.
    Rate(String),
    /// Each part of the usage at the price of its tier: (inclusive upper end, or `inf` in the last; price).
    Graduated(Vec<(String, String)>),
    /// All of the usage at the price of the tier that it reaches.
    Volume(Vec<(String, String)>),
}

/// `METER.COST`: the usage of some days, and its price.
#[derive(Clone, Debug)]
pub struct Cost {
    key: Name,
    when: When,
    price: Price,
}

impl Cost {
    /// Of these days, which may not be [`When::Today`].
    pub fn new(key: impl AsRef<[u8]>, when: When, price: Price) -> Self {
        Self { key: name(key), when, price }
    }
}

impl Command for Cost {
    type Reply = Costs;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.COST");
        command.arg(self.key.as_slice());
        self.when.write(&mut command);
        let (keyword, tiers) = match &self.price {
            Price::Rate(price) => return command.arg("RATE").arg(price).to_owned(),
            Price::Graduated(tiers) => ("GRADUATED", tiers),
            Price::Volume(tiers) => ("VOLUME", tiers),
        };
        command.arg(keyword);
        for (upto, price) in tiers {
            command.arg(upto).arg(price);
        }
        command
    }
}

/// What `METER.COST` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// The units used.
    pub usage: u64,
    /// An exact decimal.
    pub cost: String,
}

impl FromRedisValue for Costs {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [usage, cost] = exactly(value)?;
        Ok(Self { usage: count(&usage)?, cost: text(cost)? })
    }
}

/// `METER.SEAL`: closes finished days into a batch, or returns the batch that is open.
#[derive(Clone, Debug)]
pub struct Seal {
    key: Name,
    before: Option<String>,
}

impl Seal {
    /// The days before today.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), before: None }
    }

    /// The days before this date.
    #[must_use]
    pub fn before(mut self, date: impl Into<String>) -> Self {
        self.before = Some(date.into());
        self
    }
}

impl Command for Seal {
    type Reply = Sealed;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.SEAL");
        command.arg(self.key.as_slice());
        if let Some(date) = &self.before {
            option(&mut command, "BEFORE", date);
        }
        command
    }
}

/// A batch of finished days, the same until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// 128 random bits in hex; `None` if there is nothing to seal.
    pub batch: Option<String>,
    /// Its keys.
    pub keys: Vec<Vec<u8>>,
}

impl FromRedisValue for Sealed {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let [batch, keys] = exactly(value)?;
        let keys = elements(keys)?.into_iter().filter_map(|key| bytes(key).transpose());
        let batch = if batch == Value::Nil { None } else { Some(text(batch)?) };
        Ok(Self { batch, keys: keys.collect::<Result<_, _>>()? })
    }
}

/// `METER.ACK`: deletes a batch that is stored elsewhere; returns the number of its keys.
#[derive(Clone, Debug)]
pub struct Ack {
    key: Name,
    batch: String,
}

impl Ack {
    /// Of this meter, this batch.
    pub fn new(key: impl AsRef<[u8]>, batch: impl Into<String>) -> Self {
        Self { key: name(key), batch: batch.into() }
    }
}

impl Command for Ack {
    type Reply = u64;

    fn to_cmd(&self) -> Cmd {
        cmd("METER.ACK").arg(self.key.as_slice()).arg(&self.batch).to_owned()
    }
}

/// `METER.DROP`: deletes days; returns how many.
#[derive(Clone, Debug)]
pub struct Drop {
    key: Name,
    before: Option<String>,
}

impl Drop {
    /// All of the meter.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self { key: name(key), before: None }
    }

    /// The days before this date.
    #[must_use]
    pub fn before(mut self, date: impl Into<String>) -> Self {
        self.before = Some(date.into());
        self
    }
}

impl Command for Drop {
    type Reply = u64;

    fn to_cmd(&self) -> Cmd {
        let mut command = cmd("METER.DROP");
        command.arg(self.key.as_slice());
        if let Some(date) = &self.before {
            option(&mut command, "BEFORE", date);
        }
        command
    }
}

/// `METER.INDEX`: adds days that other programs wrote to the index; returns how many.
#[derive(Clone, Debug)]
pub struct Index {
    key: Name,
    from: String,
    to: String,
}

impl Index {
    /// From one date to another, both included.
    pub fn new(key: impl AsRef<[u8]>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { key: name(key), from: from.into(), to: to.into() }
    }
}

impl Command for Index {
    type Reply = u64;

    fn to_cmd(&self) -> Cmd {
        cmd("METER.INDEX").arg(self.key.as_slice()).arg("FROM").arg(&self.from).arg("TO").arg(&self.to).to_owned()
    }
}
