//! Real gateways in front of a service, each with the configuration of `packaging/gateways`, under load.

mod service;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use service::{Connection, Meterd, Reply, server};
use testkit::{Server, eventually};

/// What the limit of the tests admits.
const LIMIT: usize = 200;
const FILES: [&str; 7] =
    ["limits.yaml", "envoy.yaml", "nginx.conf", "Caddyfile", "traefik.yaml", "haproxy.cfg", "haproxy.lua"];

fn tool(name: &str) -> PathBuf {
    let folder = testkit::root().join(".clients/meterd-gateways");
    assert!(folder.join(".from").exists(), "{} is missing: run scripts/fetch-meterd-tools", folder.display());
    folder.join("bin").join(name)
}

/// The service behind a gateway: it answers everything, and counts.
struct Upstream {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || answer(stream, &counted));
            }
        });
        Self { port, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers requests without a body, with the headers that it got of the check.
fn answer(stream: TcpStream, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(1..) if line.trim().is_empty() => break,
                Ok(1..) if line.to_lowercase().starts_with("ratelimit") => seen += &format!("X-Seen-{line}"),
                Ok(1..) => {}
                _ => return,
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{seen}\r\nhello");
        if reader.get_mut().write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// A gateway with everything around it.
struct Gateway {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    upstream: Upstream,
    meterd: Meterd,
    redis: Server,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the gateway said:\n{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// The files of the repository, with the ports and the limit of this test in them.
fn write_files(folder: &Path, ports: &[(&str, u16)]) {
    let packaged = testkit::root().join("packaging/gateways");
    for name in FILES.iter().chain(&["traefik-routes.yaml"]) {
        let mut text = fs::read_to_string(packaged.join(name)).expect("a file of packaging/gateways");
        for (from, to) in ports {
            text = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
            text = text.replace(&format!("port_value: {from}"), &format!("port_value: {to}"));
        }
        let limit = format!("unit: day, requests_per_unit: {LIMIT}");
        text = text.replace("unit: minute, requests_per_unit: 600", &limit);
        fs::write(folder.join(name), text).expect("written");
    }
}

impl Gateway {
    fn start(command: &[&str]) -> Self {
        let redis = server(&[]);
        let upstream = Upstream::start();
        let folder = tempfile::tempdir().expect("a folder");
        write_files(folder.path(), &[]);
        let limits = folder.path().join("limits.yaml");
        let url = format!("redis://127.0.0.1:{}", redis.port);
        let meterd = Meterd::try_with(&url, "", &["--limits", limits.to_str().expect("a path")]).expect("meterd");
        meterd.wait_until_ready();
        let port = free_port();
        write_files(
            folder.path(),
            &[("8080", meterd.port), ("3000", upstream.port), ("8000", port), ("8001", free_port())],
        );
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(command)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux");
        let gateway = Self { child, port, folder, upstream, meterd, redis };
        eventually("the gateway serves", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok() && gateway.ask("warm").status == 200
        });
        gateway
    }

    fn ask(&self, key: &str) -> Reply {
        Connection::open(self.port).send("GET", "/", &[("X-Api-Key", key), ("Connection", "close")], b"")
    }

    /// Admits the limit exactly, tells both what is left, and does what `on_error` says when nobody can be asked.
    fn keeps_its_promises(mut self, headers_at: &str, without_redis: u16, without_meterd: u16) {
        let first = self.ask("k");
        assert_eq!((first.status, first.body.as_str()), (200, "hello"), "{first:?}");
        let left = first.header(&format!("{headers_at}ratelimit")).unwrap_or_else(|| panic!("{first:?}"));
        assert!(left.starts_with(&format!("\"api_key\";r={};t=", LIMIT - 1)), "{left}");
        let policy = first.header(&format!("{headers_at}ratelimit-policy"));
        assert_eq!(policy, Some(format!("\"api_key\";q={LIMIT};w=86400").as_str()));
        let before = self.upstream.requests();
        let load = Command::new("wrk")
            .args(["-t1", "-c32", "-d2s", "-H", "X-Api-Key: k", &format!("http://127.0.0.1:{}/", self.port)])
            .output()
            .expect("wrk");
        let said = String::from_utf8_lossy(&load.stdout).into_owned();
        // Whatever came back of the limit meanwhile is less than one.
        assert_eq!(self.upstream.requests() - before, LIMIT - 1, "{said}");
        assert!(said.contains("Non-2xx"), "{said}");
        let refused = self.ask("k");
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!(refused.header("ratelimit").is_some_and(|left| left.starts_with("\"api_key\";r=0;t=")), "{refused:?}");
        let wait = refused.header("retry-after").and_then(|wait| wait.parse::<u32>().ok());
        assert!(wait.is_some_and(|wait| (1..=432).contains(&wait)), "{refused:?}");
        // A key that tries to be something else is a key.
        for key in ["k&deny=200", "k/user=x", "{host}", "k?x=y#z"] {
            assert_eq!(self.ask(key).status, 200, "{key}");
        }
        assert_eq!(self.ask("k").status, 429);
        self.redis.kill();
        eventually("it is noticed", || self.meterd.get("/readyz").status == 503);
        self.refuses_at_once(without_redis);
        self.on_error_allows();
        self.meterd.kill();
        self.refuses_at_once(without_meterd);
        assert!(self.child.try_wait().expect("a status").is_none());
    }

    /// While Redis is down, rules that say so let everything pass, and tell nothing of limits.
    fn on_error_allows(&self) {
        let limits = self.folder.path().join("limits.yaml");
        let rules = fs::read_to_string(&limits).expect("the rules");
        assert!(rules.contains("on_error: deny"), "{rules}");
        fs::write(&limits, rules.replace("on_error: deny", "on_error: allow")).expect("written");
        eventually("the rules are read", || self.ask("k").status == 200);
        let before = self.upstream.requests();
        let made_up = [("X-Api-Key", "k"), ("RateLimit", "\"api_key\";r=9;t=1"), ("Connection", "close")];
        let reply = Connection::open(self.port).send("GET", "/", &made_up, b"");
        assert_eq!((reply.status, reply.body.as_str()), (200, "hello"), "{reply:?}");
        assert_eq!((reply.header("ratelimit"), reply.header("ratelimit-policy")), (None, None), "{reply:?}");
        assert_eq!(self.upstream.requests(), before + 1);
    }

    fn refuses_at_once(&self, status: u16) {
        // The first may find out that a connection which was kept is dead.
        let reply = self.ask("other");
        assert_eq!(reply.status, status, "{reply:?}");
        let times = (0..5).map(|_| {
            let start = Instant::now();
            assert_eq!(self.ask("other").status, status);
            start.elapsed()
        });
        let fastest = times.min().expect("times");
        assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    }
}

#[test]
fn envoy_limits_as_configured() {
    let envoy = tool("envoy");
    let command = [envoy.to_str().expect("a path"), "-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1"];
    Gateway::start(&command).keeps_its_promises("", 503, 503);
}

#[test]
fn nginx_limits_as_configured() {
    let globals = "daemon off; pid nginx.pid; error_log stderr;";
    let command = ["sh", "-c", "exec /usr/sbin/nginx -p . -c nginx.conf -e stderr -g \"$0\"", globals];
    Gateway::start(&command).keeps_its_promises("", 503, 503);
}

#[test]
fn caddy_limits_as_configured() {
    let caddy = tool("caddy");
    let command = [caddy.to_str().expect("a path"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"];
    Gateway::start(&command).keeps_its_promises("", 503, 503);
}

#[test]
fn traefik_limits_as_configured() {
    let traefik = tool("traefik");
    let command = [traefik.to_str().expect("a path"), "--configFile=traefik.yaml"];
    Gateway::start(&command).keeps_its_promises("x-seen-", 503, 500);
}

#[test]
fn haproxy_limits_as_configured() {
    Gateway::start(&["/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg"]).keeps_its_promises("", 503, 503);
}
