//! Clusters, and a client that follows redirections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{Client, PATIENCE, Program, Server, Value, eventually, sleep_ms};

const SLOTS: usize = 16_384;

/// Three nodes that share the slots.
pub fn three_nodes(program: &Program) -> Vec<Server> {
    nodes(program, 3)
}

/// `count` nodes that share the slots: slot n belongs to node n mod `count`.
pub fn nodes(program: &Program, count: usize) -> Vec<Server> {
    let nodes: Vec<Server> = (0..count).map(|_| Server::start(program, &["--cluster-enabled", "yes"])).collect();
    for (place, node) in nodes.iter().enumerate() {
        let slots: Vec<String> = (0..SLOTS).filter(|slot| slot % count == place).map(|slot| slot.to_string()).collect();
        node.connect().run(&format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1));
        node.connect().run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
    }
    for pair in nodes.windows(2) {
        pair[0].connect().run(&format!("CLUSTER MEET 127.0.0.1 {}", pair[1].port));
    }
    for node in &nodes {
        eventually("the cluster is up", || {
            let info = node.connect().string("CLUSTER INFO").expect("a text");
            info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}"))
        });
    }
    nodes
}

/// The number of the node that has the slot of a key.
pub fn place_of(nodes: &[Server], key: &str) -> usize {
    let answers = |node: &Server| node.connect().try_run(&format!("TYPE {key}")).is_ok();
    nodes.iter().position(answers).expect("a node that has the slot")
}

/// Begins to move a slot key by key.
pub fn open_slot(clients: &mut [Client], slot: i64, [from, to]: [usize; 2]) {
    let [source, target] = [from, to].map(|place| clients[place].string("CLUSTER MYID").expect("an id"));
    clients[to].run(&format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
    clients[from].run(&format!("CLUSTER SETSLOT {slot} MIGRATING {target}"));
}

/// How often clients were redirected, or asked to try again.
#[derive(Default)]
pub struct Redirections {
    pub moved: AtomicUsize,
    pub ask: AtomicUsize,
    pub try_again: AtomicUsize,
}

/// A client that follows MOVED and ASK, and tries again on TRYAGAIN.
pub struct ClusterClient<'a> {
    nodes: HashMap<u16, Client>,
    /// The node that each key was last on.
    places: HashMap<String, u16>,
    seen: &'a Redirections,
}

impl<'a> ClusterClient<'a> {
    pub fn new(nodes: &[Server], seen: &'a Redirections) -> Self {
        let nodes = nodes.iter().map(|node| (node.port, node.connect())).collect();
        Self { nodes, places: HashMap::new(), seen }
    }

    /// Runs a command on `key`, or on another key of its slot, on the node that serves it.
    pub fn try_run(&mut self, key: &str, line: &str) -> Result<Value, String> {
        let start = Instant::now();
        let mut asked = None;
        while start.elapsed() < PATIENCE {
            let any = *self.nodes.keys().next().expect("a node");
            let port = asked.unwrap_or(*self.places.get(key).unwrap_or(&any));
            let node = self.nodes.get_mut(&port).expect("a node");
            if asked.take().is_some() {
                node.run("ASKING");
            }
            let error = match node.try_run(line) {
                Err(error) => error,
                Ok(value) => return Ok(value),
            };
            let target = || error.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
            let counter = if error.starts_with("MOVED") {
                self.places.insert(key.to_owned(), target());
                &self.seen.moved
            } else if error.starts_with("ASK") {
                asked = Some(target());
                &self.seen.ask
            } else if error.starts_with("TRYAGAIN") {
                sleep_ms(2);
                &self.seen.try_again
            } else {
                return Err(error);
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        panic!("{line}: no answer within {PATIENCE:?}");
    }

    /// The same, for a reply of this type. Panics on an error.
    pub fn run<T: redis::FromRedisValue>(&mut self, key: &str, line: &str) -> T {
        let value = self.try_run(key, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        redis::from_redis_value(value).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}
