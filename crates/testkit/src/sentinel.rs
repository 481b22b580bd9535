//! Sentinels that watch over a primary and its replicas.

use super::{Client, Program, Server, eventually};

/// The name under which they know the primary.
pub const NAME: &str = "main";

/// Three of them: two must agree.
pub struct Sentinels {
    all: Vec<Server>,
    // Their files, which they rewrite.
    _folder: tempfile::TempDir,
}

impl Sentinels {
    /// Starts them, and waits until they know each other and `replicas` replicas. They take a primary for dead that has
    /// been silent for a second.
    pub fn start(program: &Program, primary: u16, replicas: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let all: Vec<Server> = (0..3)
            .map(|number| {
                let file = folder.path().join(format!("{number}.conf"));
                let rules = format!(
                    "sentinel monitor {NAME} 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds {NAME} 1000\n\
                     sentinel failover-timeout {NAME} 4000\n"
                );
                std::fs::write(&file, rules).expect("written");
                let file = file.display().to_string();
                Server::with_file(program, &file, &["--sentinel"]).unwrap_or_else(|log| panic!("a Sentinel:\n{log}"))
            })
            .collect();
        let sentinels = Self { all, _folder: folder };
        for sentinel in &sentinels.all {
            eventually("the Sentinels know each other", || {
                let mut client = sentinel.connect();
                let knows = |client: &mut Client, what: &str| {
                    let list: Vec<redis::Value> =
                        redis::from_redis_value(client.run(&format!("SENTINEL {what} {NAME}"))).expect("a list");
                    list.len()
                };
                knows(&mut client, "SENTINELS") == 2 && knows(&mut client, "REPLICAS") == replicas
            });
        }
        sentinels
    }

    /// The addresses, as host and port, separated by commas.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.all.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        addresses.join(",")
    }

    /// The port of the primary that the first of them knows.
    pub fn primary(&self) -> u16 {
        let address = self.all[0].connect().strings(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
        address[1].parse().expect("a port")
    }

    /// Has them replace a primary that lives.
    pub fn fail_over(&self) {
        eventually("a failover begins", || self.all[0].connect().try_run(&format!("SENTINEL FAILOVER {NAME}")).is_ok());
    }
}
