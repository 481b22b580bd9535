//! A connection to a server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use redis::{Cmd, ConnectionLike, Parser, PushInfo, RedisError, RedisResult, Value};

/// A connection whose reads end with a reply or when its time is up.
///
/// The kernel interrupts a read that has a time-out when it freezes the machine, stops the process, or lets a debugger
/// in, where it restarts one without. `redis::Connection` passes that on as an error, and drops the reply that comes
/// after it.
pub struct Connection {
    stream: TcpStream,
    parser: Parser,
    pushes: Option<Sender<PushInfo>>,
    is_open: bool,
}

/// Reads from a stream until the kernel lets a read end.
struct Uninterrupted<'a>(&'a TcpStream);

impl Read for Uninterrupted<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Connection {
    /// A connection to a port of this machine, whose reads may take so long.
    pub fn open(port: u16, patience: Duration) -> RedisResult<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream, parser: Parser::new(), pushes: None, is_open: true })
    }

    /// Changes the protocol to RESP3.
    pub fn speak_resp3(&mut self) -> RedisResult<()> {
        self.req_command(redis::cmd("HELLO").arg(3)).and_then(Value::extract_error).map(drop)
    }

    /// Sends what the server pushes to a channel, and no longer returns it among the replies.
    pub fn send_pushes_to(&mut self, pushes: Sender<PushInfo>) {
        self.pushes = Some(pushes);
    }

    /// Sends bytes, and reads nothing.
    pub fn send_packed_command(&mut self, bytes: &[u8]) -> RedisResult<()> {
        let sent = self.stream.write_all(bytes);
        self.closed_by_error(sent.map_err(RedisError::from))
    }

    /// What the server sends next.
    pub fn recv_response(&mut self) -> RedisResult<Value> {
        loop {
            let value = self.parser.parse_value(Uninterrupted(&self.stream));
            match (self.closed_by_error(value)?, &self.pushes) {
                // Nobody may listen any more.
                (Value::Push { kind, data }, Some(pushes)) => drop(pushes.send(PushInfo { kind, data })),
                (value, _) => return Ok(value),
            }
        }
    }

    /// A reply that comes after its time would be taken for the next one.
    fn closed_by_error<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        if result.is_err() {
            self.is_open = false;
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        result
    }

    fn reply(&mut self) -> RedisResult<Value> {
        loop {
            match self.recv_response()? {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.req_packed_command(&command.get_packed_command())
    }

    fn req_packed_command(&mut self, bytes: &[u8]) -> RedisResult<Value> {
        self.send_packed_command(bytes)?;
        self.reply()
    }

    fn req_packed_commands(&mut self, bytes: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        self.send_packed_command(bytes)?;
        let mut replies = (0..offset + count).map(|_| self.reply()).collect::<RedisResult<Vec<_>>>()?;
        let of_calls = replies.split_off(offset);
        // An answer to MULTI, or to a call that was not queued.
        for reply in replies {
            reply.extract_error()?;
        }
        Ok(of_calls)
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        self.req_command(&redis::cmd("PING")).is_ok()
    }

    fn is_open(&self) -> bool {
        self.is_open
    }
}
