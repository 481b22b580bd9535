//! A real Prometheus scrapes meterd, takes its alert rules, and one of them fires when Redis is gone.

mod service;

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use service::{Connection, Meterd, server};
use testkit::eventually;

/// Prometheus on a port and in a folder of its own. It scrapes every half a second.
struct Prometheus {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(meterd: &Meterd) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = fs::read_to_string(testkit::root().join("packaging/meterd/alerts.yml")).expect("the rules");
        // What is tested is what fires, and not how patient it is.
        fs::write(folder.path().join("alerts.yml"), rules.replace("for: 1m", "for: 1s")).expect("written");
        let configuration = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms, scrape_timeout: 500ms }}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{{ job_name: meterd, static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}]\n",
            meterd.port
        );
        fs::write(folder.path().join("prometheus.yml"), configuration).expect("written");
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus: scripts/setup meterd");
        let prometheus = Self { child, port, folder };
        eventually("Prometheus is ready", || {
            Connection::try_open(port)
                .and_then(|mut connection| connection.try_send("GET", "/-/ready", &[], b""))
                .is_ok_and(|reply| reply.status == 200)
        });
        prometheus
    }

    /// The data of an answer of its interface.
    fn ask(&self, path: &str) -> Value {
        // HTTP/1.0, so that the answer is not in chunks.
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let output = Command::new("curl").args(["-sS0", "--max-time", "10", &url]).output().expect("curl");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The value of a query that has one.
    fn value(&self, query: &str) -> Option<String> {
        let data = self.ask(&format!("query?query={query}"));
        data["result"][0]["value"][1].as_str().map(str::to_owned)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

#[test]
fn prometheus_scrapes_all_metrics_takes_the_rules_and_alerts_when_redis_is_gone() {
    let mut server = server(&["--appendonly", "yes"]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    for _ in 0..3 {
        meterd.post("/v1/hits", r#"{"meter":"m"}"#);
    }
    let prometheus = Prometheus::start(&meterd);
    eventually("the hits are scraped", || prometheus.value("meterd_hits_total").as_deref() == Some("3"));
    assert_eq!(prometheus.value("redis_meter_hits_counted_total").as_deref(), Some("3"), "the module's own");
    let targets = prometheus.ask("targets");
    assert_eq!(
        (&targets["activeTargets"][0]["health"], &targets["activeTargets"][0]["lastError"]),
        (&"up".into(), &"".into())
    );
    // Each has a type and a help.
    let metadata = prometheus.ask("metadata");
    for (name, told) in metadata.as_object().expect("metrics") {
        assert!(told[0]["type"] != "unknown" && told[0]["help"] != "", "{name}: {told}");
    }
    let rules = prometheus.ask("rules");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() >= 8 && rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:?}");
    // All is well, and nothing fires.
    let firing = || -> Vec<String> {
        let alerts = prometheus.ask("alerts")["alerts"].clone();
        let alerts = alerts.as_array().expect("alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    };
    eventually("the rules are evaluated", || {
        let rules = prometheus.ask("rules");
        rules["groups"][0]["rules"].as_array().expect("rules").iter().all(|rule| rule["health"] == "ok")
    });
    assert_eq!(firing(), [""; 0]);
    server.kill();
    eventually("an alert fires", || firing() == ["MeterdWithoutRedis"]);
    server.kill_and_restart();
    eventually("it is over", || firing().is_empty());
}
