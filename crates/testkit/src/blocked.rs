//! Clients that the server has blocked, each in a thread of its own.

use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use crate::{Client, Server, Value, eventually};

/// A client that waits for the reply to a call.
pub struct Blocked {
    thread: JoinHandle<Result<Value, String>>,
    /// Its `CLIENT ID`.
    pub id: i64,
    line: String,
}

/// The number of clients that the server has blocked.
pub fn count(redis: &mut Client) -> usize {
    redis.info_field("clients", "blocked_clients").expect("a field").parse().expect("a number")
}

impl Server {
    /// Sends a call in a thread of its own, and returns when the server has blocked its client, or has replied.
    pub fn block(&self, line: &str) -> Blocked {
        let mut redis = self.connect();
        let before = count(&mut redis);
        let mut client = self.connect();
        let id = client.int("CLIENT ID");
        let line = line.to_owned();
        let words = line.clone();
        let thread = thread::spawn(move || client.try_run(&words));
        eventually("the client is blocked", || count(&mut redis) == before + 1 || thread.is_finished());
        Blocked { thread, id, line }
    }

    /// Sends a call; returns its connection when the server has blocked the client. Dropping the connection closes it.
    pub fn block_to_leave(&self, line: &str) -> io::Result<Client> {
        let mut redis = self.connect();
        let before = count(&mut redis);
        let mut client = self.connect();
        let mut command = redis::Cmd::new();
        command.arg(line.split_whitespace().collect::<Vec<_>>());
        client.0.send_packed_command(&command.get_packed_command()).map_err(io::Error::other)?;
        eventually("the client is blocked", || count(&mut redis) == before + 1);
        Ok(client)
    }
}

impl Blocked {
    /// Whether the server has replied.
    pub fn has_reply(&self) -> bool {
        self.thread.is_finished()
    }

    /// The reply, or the text of an error.
    pub fn reply(self) -> Result<Value, String> {
        self.thread.join().expect("a thread")
    }

    /// The cells and the wait in the reply. Panics on an error.
    pub fn cells(self) -> (Vec<String>, i64) {
        let line = self.line.clone();
        let value = self.reply().unwrap_or_else(|error| panic!("{line}: {error}"));
        redis::from_redis_value(value).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Waits for a reply, at most `patience`; returns whether it came.
    pub fn gets_reply_within(&self, patience: Duration) -> bool {
        let start = std::time::Instant::now();
        while !self.has_reply() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        self.has_reply()
    }
}
