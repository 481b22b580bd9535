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

/// How many clients the server has blocked.
pub fn count(redis: &mut Client) -> usize {
    redis.info_field("clients", "blocked_clients").expect("a field").parse().expect("a number")
}

impl Server {
    /// Sends a call in a thread of its own, and returns when the server has blocked its client, or has answered.
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

    /// Sends a call and keeps the connection; returns when the server has blocked its client. Dropping what is returned
    /// closes the connection.
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
    /// Whether the server has answered.
    pub fn is_answered(&self) -> bool {
        self.thread.is_finished()
    }

    /// What the server answers; the text of an error.
    pub fn reply(self) -> Result<Value, String> {
        self.thread.join().expect("a thread")
    }

    /// The cells that it is given, and the wait. Panics on an error.
    pub fn cells(self) -> (Vec<String>, i64) {
        let line = self.line.clone();
        let value = self.reply().unwrap_or_else(|error| panic!("{line}: {error}"));
        redis::from_redis_value(value).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Waits at most so long for an answer, and says whether it came.
    pub fn is_answered_within(&self, patience: Duration) -> bool {
        let start = std::time::Instant::now();
        while !self.is_answered() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        self.is_answered()
    }
}
