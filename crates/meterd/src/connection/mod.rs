//! The way to Redis: one connection that all requests share, and a supervisor that keeps it.
//!
//! Every call has a time limit. While the connection is lost, calls fail at once instead of queueing up (a circuit
//! breaker), and the supervisor tries to connect until it succeeds. A connection that goes silent is found by a `PING`
//! twice a second, or by calls that time out.

mod failure;
mod link;
mod pipeline;
mod target;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::aio::ConnectionLike as _;
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value, cmd};
use redis_meter_client::Command;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

pub use failure::Failure;
pub use link::Link;
pub(crate) use pipeline::Node;
pub use target::Target;

/// A meter that nobody counts.
const READY: &str = "meterd:ready";
/// Between two looks at a connection that nobody complains about.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Between attempts to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));
/// The longest that an attempt to connect may take, unless the deadline of calls is longer.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// So many calls in a row without a reply in time, and the connection is given up.
const MISSES: u32 = 8;
/// Between tries while Redis loads or a slot moves.
const PAUSE: Duration = Duration::from_millis(20);

/// Redis, for all tasks.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    target: Target,
    deadline: Duration,
    state: RwLock<State>,
    misses: AtomicU32,
    lost: Notify,
    changed: Notify,
}

enum State {
    Up(Link),
    Down(String),
}

impl Redis {
    /// Begins to connect, in the background; a call waits for the first connection until its deadline.
    pub fn connect(target: Target, deadline: Duration) -> Self {
        let redis = Self(Arc::new(Inner {
            target,
            deadline,
            state: RwLock::new(State::Down("not connected yet".to_owned())),
            misses: AtomicU32::new(0),
            lost: Notify::new(),
            changed: Notify::new(),
        }));
        tokio::spawn(supervise(redis.clone()));
        redis
    }

    /// The time limit of a call.
    pub fn deadline(&self) -> Duration {
        self.0.deadline
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if it may have taken effect.
    pub async fn run<C: Command>(&self, command: &C) -> Result<C::Reply, Failure> {
        self.call(&command.to_cmd()).await
    }

    /// Runs any command that one reply follows.
    ///
    /// # Errors
    /// The same.
    pub async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        self.call_until(Instant::now() + self.0.deadline, command).await
    }

    /// The same with a time limit of its own.
    ///
    /// # Errors
    /// The same.
    pub async fn call_within<T: FromRedisValue>(&self, limit: Duration, command: &Cmd) -> Result<T, Failure> {
        self.call_until(Instant::now() + limit, command).await
    }

    async fn call_until<T: FromRedisValue>(&self, until: Instant, command: &Cmd) -> Result<T, Failure> {
        // A try that begins late could end without a reply, and turn a clear refusal into an unknown outcome.
        let last_try = until - self.0.deadline.min(until.saturating_duration_since(Instant::now())) / 2;
        loop {
            let mut link = self.link()?;
            let outcome = self.within(until, link.send(command)).await?;
            match outcome {
                Err(error) if self.is_passing(&error) && Instant::now() < last_try => sleep(PAUSE).await,
                outcome => return self.judge(outcome).and_then(read),
            }
        }
    }

    /// Whether another try may succeed within a call's deadline. A single server that is read-only stays so.
    fn is_passing(&self, error: &RedisError) -> bool {
        let stays = error.code() == Some("READONLY") && matches!(self.0.target.kind, target::Kind::Server(_));
        Failure::is_passing(error) && !stays
    }

    /// Runs a command that may be sent again when its reply is lost, since it counts once.
    ///
    /// # Errors
    /// The same, at the deadline.
    pub async fn repeat<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let until = Instant::now() + self.0.deadline;
        let mut unknown = None;
        loop {
            let failure = match self.call_until(until, command).await {
                Err(failure @ (Failure::Unknown(_) | Failure::Down(_))) => failure,
                outcome => return outcome,
            };
            if matches!(failure, Failure::Unknown(_)) {
                unknown = Some(failure.clone());
            }
            if Instant::now() + PAUSE >= until {
                // One try whose reply was lost makes all of it unknown.
                return Err(unknown.unwrap_or(failure));
            }
            sleep(PAUSE).await;
        }
    }

    /// Runs commands in one go; a reply or a failure for each, in order.
    ///
    /// # Errors
    /// When the connection fails: any of them may have taken effect.
    pub async fn call_all(&self, commands: &[Cmd]) -> Result<Vec<Result<Value, Failure>>, Failure> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut link = self.link()?;
        let outcome = self.within(Instant::now() + self.0.deadline, link.send_all(commands)).await?;
        let replies = self.judge(outcome)?;
        Ok(replies.into_iter().map(|reply| self.judge(reply)).collect())
    }

    /// The nodes that hold keys, in an order that stays while they do; the one server, if it is no cluster.
    ///
    /// # Errors
    /// When the cluster can't be asked.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let mut link = self.link()?;
        let outcome = self.within(Instant::now() + self.0.deadline, link.nodes()).await?;
        let mut nodes = self.judge(outcome)?;
        nodes.sort_by(|a, b| a.address().cmp(&b.address()));
        Ok(nodes)
    }

    /// Runs a command that has no key on one node.
    ///
    /// # Errors
    /// As [`Redis::call`].
    pub(crate) async fn call_on<T: FromRedisValue>(&self, node: &Node, command: &Cmd) -> Result<T, Failure> {
        let mut node = node.clone();
        let outcome = self.within(Instant::now() + self.0.deadline, node.req_packed_command(command)).await?;
        self.judge(outcome.and_then(Value::extract_error)).and_then(read)
    }

    /// A connection of one's own, for `WATCH`, for blocking commands, or to go on while others time out.
    ///
    /// # Errors
    /// [`Failure::Down`]
    pub async fn dedicated(&self) -> Result<Link, Failure> {
        match timeout(self.0.deadline, Link::open(&self.0.target)).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) => Err(Failure::Down(error.to_string())),
            Err(_) => Err(Failure::Down(format!("no connection within {:?}", self.0.deadline))),
        }
    }

    /// Whether there is a connection, and a server that has the module answers on it.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Failure> {
        // A hit of nothing: a server that is read-only, full or can't save refuses it as it would refuse a hit, and it
        // changes nothing.
        let mut probe = cmd("METER.HIT");
        probe.arg(READY).arg("BY").arg(0);
        match self.call::<Value>(&probe).await {
            // A user with rights to other keys can count there.
            Err(Failure::Refused { code, .. }) if code == "NOPERM" => {
                let mut probe = cmd("METER.KPI");
                probe.arg(READY);
                self.call::<Value>(&probe).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Waits until there is a connection, at most so long.
    pub async fn up_within(&self, limit: Duration) -> bool {
        let wait = async {
            loop {
                let changed = self.0.changed.notified();
                if self.link().is_ok() {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, wait).await.is_ok()
    }

    fn link(&self) -> Result<Link, Failure> {
        match &*self.0.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            State::Up(link) => Ok(link.clone()),
            State::Down(why) => Err(Failure::Down(why.clone())),
        }
    }

    async fn within<T>(&self, until: Instant, call: impl Future<Output = T>) -> Result<T, Failure> {
        match tokio::time::timeout_at(until, call).await {
            Ok(outcome) => {
                self.0.misses.store(0, Ordering::Relaxed);
                Ok(outcome)
            }
            Err(_) => {
                if self.0.misses.fetch_add(1, Ordering::Relaxed) + 1 >= MISSES {
                    self.0.lost.notify_one();
                }
                Err(Failure::Unknown(format!("none within {:?}", self.0.deadline)))
            }
        }
    }

    /// Turns an error into a failure; one of the connection, or of a primary that has become a replica, ends it.
    fn judge<T>(&self, outcome: RedisResult<T>) -> Result<T, Failure> {
        outcome.map_err(|error| {
            let failure = Failure::of(&error);
            if !matches!(failure, Failure::Refused { .. }) || error.code() == Some("READONLY") {
                self.0.lost.notify_one();
            }
            failure
        })
    }

    fn set(&self, state: State) {
        *self.0.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = state;
        self.0.changed.notify_waiters();
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Failure> {
    T::from_redis_value(value).map_err(|error| Failure::Unknown(RedisError::from(error).to_string()))
}

async fn supervise(redis: Redis) {
    loop {
        let link = connect(&redis).await;
        redis.0.misses.store(0, Ordering::Relaxed);
        redis.set(State::Up(link.clone()));
        info!(redis = %redis.0.target, "connected");
        let why = watch(&redis, link).await;
        warn!(redis = %redis.0.target, why, "connection lost");
        redis.set(State::Down(why));
    }
}

async fn connect(redis: &Redis) -> Link {
    let mut pause = BACKOFF.0;
    let mut limit = redis.0.deadline;
    let mut said = String::new();
    loop {
        let why = match timeout(limit, Link::open(&redis.0.target)).await {
            Ok(Ok(link)) => return link,
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let why = format!("no connection within {limit:?}");
                // A large cluster, or a slow machine: nobody waits for it, calls fail at once meanwhile.
                limit = (2 * limit).min(LONGEST_CONNECT.max(redis.0.deadline));
                why
            }
        };
        if why != said {
            warn!(redis = %redis.0.target, why, "no connection");
            said.clone_from(&why);
        }
        redis.set(State::Down(why));
        sleep(pause).await;
        pause = (2 * pause).min(BACKOFF.1);
    }
}

/// Returns why the connection is to be given up.
async fn watch(redis: &Redis, mut link: Link) -> String {
    let ping = cmd("PING");
    loop {
        let reported = timeout(HEARTBEAT, redis.0.lost.notified()).await.is_ok();
        match timeout(redis.0.deadline, link.send(&ping)).await {
            // A replica that was a primary answers too; what was reported is believed.
            Ok(Ok(_)) if reported && is_replica(redis, &mut link).await => return "it became a replica".to_owned(),
            Ok(Err(error)) if !matches!(Failure::of(&error), Failure::Refused { .. }) => return error.to_string(),
            Ok(_) => {}
            Err(_) => return format!("no reply within {:?}", redis.0.deadline),
        }
    }
}

/// Whether Sentinel has another primary by now.
async fn is_replica(redis: &Redis, link: &mut Link) -> bool {
    if !matches!(redis.0.target.kind, target::Kind::Sentinel { .. }) {
        return false;
    }
    let role = timeout(redis.0.deadline, link.send(&cmd("ROLE"))).await;
    matches!(role, Ok(Ok(Value::Array(parts))) if parts.first() != Some(&Value::BulkString(b"master".to_vec())))
}
