//! The commands through independent client libraries, as programs use them: redis-py, ioredis and node-redis for all,
//! and for `CL.THROTTLE` libraries that were written for redis-cell.
//!
//! `tests/clients/` holds a script for each, `scripts/fetch-clients` fetches what they need. Scripts get their servers
//! from the environment: `METER_PORT`, a server with the module; `METER_REPLICA_PORT`, its replica, with the module
//! too;
//! `METER_CLUSTER_PORT`, a node of a cluster of two.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis_cell_rs::{Cmd, Key, Policy, Verdict};
use testkit::{Program, Server, eventually, on_every_program};
use tower::{Layer, ServiceExt};
use tower_redis_cell::{Error, ProvideRule, ProvideRuleResult, RateLimitConfig, RateLimitLayer, Rule};

/// Seconds after which a script counts as hung.
const TIMEOUT: &str = "120";

#[test]
fn redis_py() {
    run("python", "test_limiters.py", Setting::of);
}

/// The tests of the strategies of `limits`, over a storage of WINDOW, LOG and SLIDE.
#[test]
fn limits() {
    run("limits", "test_limits.py", Setting::alone);
}

#[test]
fn ioredis() {
    run("node", "ioredis.test.mjs", Setting::of);
}

#[test]
fn node_redis() {
    run("node", "node-redis.test.mjs", Setting::of);
}

#[test]
fn rate_limit_async() {
    run("python", "test_rate_limit_async.py", Setting::alone);
}

#[test]
fn cartodb_redis() {
    run("node", "cartodb-redis.test.mjs", Setting::alone);
}

#[test]
fn redis_cell_rs() {
    const THREE_AN_HOUR: Policy = Policy::new(2, 1, Duration::from_secs(3600), 1);
    on_every_program(|program| {
        let server = with_module(program, &[]);
        for mut redis in [server.connect(), server.connect_resp3()] {
            let key = Key::pair("user", "/api");
            let mut ask = |policy: Policy| -> Verdict {
                redis::Cmd::from(Cmd::new(&key, &policy)).query(&mut redis.0).expect("a verdict")
            };
            for (left, hours) in [(2, 1), (1, 2), (0, 3)] {
                let Verdict::Allowed(details) = ask(THREE_AN_HOUR) else { panic!("{left} are left") };
                assert_eq!((details.total, details.remaining), (3, left));
                assert_eq!(details.reset_after.div_ceil(3600), hours, "{details:?}");
            }
            let Verdict::Blocked(details) = ask(THREE_AN_HOUR) else { panic!("none is left") };
            assert_eq!((details.total, details.remaining), (3, 0));
            assert!((3540..=3600).contains(&details.retry_after), "{details:?}");
            assert!(matches!(ask(THREE_AN_HOUR.apply_tokens(0)), Verdict::Allowed(look) if look.remaining == 0));
            redis.run("FLUSHALL");
        }
    });
}

/// A service behind the layer: each user's calls pass until the burst is used up, and a refused one says when to try
/// again; a user without a rule is not limited.
#[test]
fn tower_redis_cell() {
    const TWO_A_MINUTE: Policy = Policy::new(1, 2, Duration::from_secs(60), 1);
    on_every_program(|program| {
        let server = with_module(program, &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = redis::Client::open(("127.0.0.1", server.port)).expect("a URL");
            let connection = client.get_multiplexed_async_connection().await.expect("a connection");
            let rule = |user: &'static str| (user != "nobody").then(|| Rule::new(user, TWO_A_MINUTE));
            let config = RateLimitConfig::new(Rules(rule), |error, _: &&'static str| match error {
                Error::RateLimit(refused) => format!("wait {}", refused.details.retry_after),
                other => other.to_string(),
            })
            .on_success(|allowed, reply: &mut String| *reply = format!("{} left", allowed.details.remaining));
            let inner = tower::service_fn(async |_: &'static str| Ok::<_, Infallible>("served".to_owned()));
            let service = RateLimitLayer::new(config, connection).layer(inner);
            let mut replies = Vec::new();
            for user in ["ann", "ann", "bob", "ann", "nobody", "bob"] {
                let Ok(reply) = service.clone().oneshot(user).await;
                replies.push(reply);
            }
            // Two a minute with one at once beyond the first: thirty seconds until the next, less what has passed.
            let wait = replies.remove(3);
            assert!((1..=30).any(|seconds| wait == format!("wait {seconds}")), "{wait}");
            assert_eq!(replies, ["1 left", "0 left", "1 left", "served", "0 left"]);
        });
    });
}

/// The rule of a user.
#[derive(Clone)]
struct Rules(fn(&'static str) -> Option<Rule<'static>>);

impl ProvideRule<&'static str> for Rules {
    fn provide<'a>(&self, user: &'a &'static str) -> ProvideRuleResult<'a> {
        Ok(self.0(user))
    }
}

/// The servers that a script uses.
struct Setting {
    server: Server,
    replica: Option<Server>,
    cluster: Vec<Server>,
}

impl Setting {
    fn alone(program: &Program) -> Self {
        Self { server: with_module(program, &[]), replica: None, cluster: Vec::new() }
    }

    fn of(program: &Program) -> Self {
        let server = with_module(program, &[]);
        let replica = with_module(program, &["--replicaof", "127.0.0.1", &server.port.to_string()]);
        server.wait_for_replica(&replica);
        Self { server, replica: Some(replica), cluster: cluster(program) }
    }

    /// The environment of a script.
    fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        let servers = [
            ("METER_PORT", Some(&self.server)),
            ("METER_REPLICA_PORT", self.replica.as_ref()),
            ("METER_CLUSTER_PORT", self.cluster.first()),
        ];
        servers.into_iter().filter_map(|(name, server)| Some((name, server?.port.to_string())))
    }
}

/// Runs a script of `tests/clients/<language>/` with every program; a failure shows its output.
fn run(language: &str, script: &str, setting: fn(&Program) -> Setting) {
    let (scripts, fetched) = (folder("tests/clients").join(language), folder(".clients").join(language));
    assert_is_fetched(&scripts, &fetched);
    on_every_program(|program| {
        let setting = setting(program);
        let mut command = Command::new("timeout");
        command.arg(TIMEOUT);
        match language {
            "python" | "limits" => command.arg(fetched.join("bin/python")),
            _ => command.args(["node", "--test-reporter", "spec"]),
        };
        command.arg(scripts.join(script)).envs(setting.environment()).current_dir(&fetched);
        let output = command.output().expect("timeout, of coreutils");
        assert!(
            output.status.success(),
            "{script}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `.from` is a copy of the pinned versions that `scripts/fetch-clients` has installed.
fn assert_is_fetched(scripts: &Path, fetched: &Path) {
    let pins = ["requirements.txt", "package-lock.json"].map(|name| scripts.join(name));
    let pins = pins.iter().find(|path| path.exists()).expect("a file of pinned versions");
    let (wanted, found) = (fs::read(pins).expect("versions"), fs::read(fetched.join(".from")).unwrap_or_default());
    assert!(wanted == found, "{} is missing or old: run scripts/fetch-clients", fetched.display());
}

fn with_module(program: &Program, arguments: &[&str]) -> Server {
    Server::with_module(program, "cl-throttle yes", arguments)
}

/// Two nodes, each with half of the slots.
fn cluster(program: &Program) -> Vec<Server> {
    let nodes = [0..8192, 8192..16_384].map(|slots| {
        let node = with_module(program, &["--cluster-enabled", "yes"]);
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        node.connect().run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
        node
    });
    nodes[0].connect().run(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[1].port));
    eventually("the nodes know each other's slots", || {
        nodes.iter().all(|node| {
            let info = node.connect().string("CLUSTER INFO").unwrap_or_default();
            ["cluster_state:ok", "cluster_slots_ok:16384"].iter().all(|line| info.contains(line))
        })
    });
    nodes.into()
}
