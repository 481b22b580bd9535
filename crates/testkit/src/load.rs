//! A client with little cost of its own, so that the server is measured: it sends requests that were encoded
//! beforehand, and reads replies only to find their ends and to check their form.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Calls that are made in turn, from the first again after the last, with replies of the same form.
pub struct Calls {
    /// How many different ones there are.
    len: usize,
    /// The steps of each call, each sent at once. Most calls have one; a call that must read first has two.
    steps: Vec<Step>,
}

struct Step {
    /// One for each call, one after the other, so that a batch of them is one piece; a few calls over and over, so that
    /// most batches do not reach their end.
    requests: Vec<u8>,
    /// Where each of them begins, and where the last ends.
    bounds: Vec<usize>,
    /// The forms of the replies to one request: one for each of its commands.
    replies: Vec<ReplyForm>,
}

/// How a reply begins and ends.
#[derive(Clone, Copy)]
struct ReplyForm {
    beginning: &'static str,
    end: &'static str,
}

impl Calls {
    /// `count` different calls. `call` says what the n-th is: one command or several, one a line, their words separated
    /// by blanks. `replies` says how the reply to each of these commands begins and, after `…`, how it ends.
    pub fn new(count: usize, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        Self { len: count, steps: vec![Step::new(count, replies, call)] }
    }

    /// With a further step, which each call takes when the replies to the one before are there.
    pub fn then(mut self, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        let step = Step::new(self.count(), replies, call);
        self.steps.push(step);
        self
    }

    /// How many different calls there are.
    pub fn count(&self) -> usize {
        self.len
    }
}

/// Many times the calls that a connection is sent at once.
const LEAST_REQUESTS: usize = 10_000;

impl Step {
    fn new(count: usize, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        let (mut requests, mut bounds) = (Vec::new(), vec![0]);
        for n in (0..count).cycle().take(count * LEAST_REQUESTS.div_ceil(count.max(1))) {
            let call = call(n);
            assert_eq!(call.lines().count(), replies.len(), "one reply for each command of {call:?}");
            call.lines().for_each(|command| encode(command, &mut requests));
            bounds.push(requests.len());
        }
        let form = |&reply: &&'static str| {
            let (beginning, end) = reply.split_once('…').unwrap_or((reply, ""));
            ReplyForm { beginning, end }
        };
        Self { requests, bounds, replies: replies.iter().map(form).collect() }
    }

    /// Sends these calls, from the first again after the last.
    fn send(&self, calls: Range<usize>, mut connection: &TcpStream) {
        let count = self.bounds.len() - 1;
        let (mut first, mut left) = (calls.start % count, calls.len());
        while left > 0 {
            let last = count.min(first + left);
            connection
                .write_all(&self.requests[self.bounds[first]..self.bounds[last]])
                .expect("the server takes requests");
            left -= last - first;
            first = 0;
        }
    }
}

impl ReplyForm {
    fn assert(self, reply: &[u8]) {
        let Self { beginning, end } = self;
        let as_expected = reply.starts_with(beginning.as_bytes()) && reply.ends_with(end.as_bytes());
        let expected = || format!("{}…{}", beginning.escape_default(), end.escape_default());
        assert!(as_expected, "{} expected, not {}", expected(), reply.escape_ascii());
    }
}

fn encode(command: &str, output: &mut Vec<u8>) {
    let words = command.split_whitespace();
    write!(output, "*{}\r\n", words.clone().count()).expect("a vector takes what it is given");
    for word in words {
        write!(output, "${}\r\n{word}\r\n", word.len()).expect("a vector takes what it is given");
    }
}

/// Enough connections that the server always has work, and is not measured while it falls asleep and wakes up.
pub const CONNECTIONS: usize = 8;

/// A client with several connections that speak RESP2.
pub struct Client {
    connections: Vec<TcpStream>,
    /// Replies as far as they have come.
    input: Vec<u8>,
    chunk: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let connect = || {
            let connection = TcpStream::connect(("127.0.0.1", port)).expect("a server");
            connection.set_nodelay(true).expect("TCP_NODELAY");
            connection
        };
        let connections = std::iter::repeat_with(connect).take(CONNECTIONS).collect();
        Self { connections, input: Vec::new(), chunk: vec![0; 1 << 16] }
    }

    /// Makes `count` calls from number `from` on, in batches of `depth` over the connections in turn: each connection
    /// gets its next batch, or the next step of the current one, when it has all replies. Returns the time that it
    /// took.
    ///
    /// # Panics
    /// On the first reply that is an error, or has another form than `calls` says.
    pub fn run(&mut self, calls: &Calls, from: usize, count: usize, depth: usize) -> Duration {
        let batches = count.div_ceil(depth);
        let sends = batches.next_multiple_of(CONNECTIONS) * calls.steps.len();
        // In each turn all connections are sent the same step.
        let step_and_batch = |send: usize| {
            let (turn, connection) = (send / CONNECTIONS, send % CONNECTIONS);
            let batch = turn / calls.steps.len() * CONNECTIONS + connection;
            (send < sends && batch < batches).then(|| (&calls.steps[turn % calls.steps.len()], batch))
        };
        let numbers = |batch| from + batch * depth..from + count.min((batch + 1) * depth);
        let start = Instant::now();
        for send in 0..sends + CONNECTIONS {
            let connection = send % CONNECTIONS;
            if let Some((step, batch)) = send.checked_sub(CONNECTIONS).and_then(step_and_batch) {
                self.read_replies(connection, &step.replies, numbers(batch).len());
            }
            if let Some((step, batch)) = step_and_batch(send) {
                step.send(numbers(batch), &self.connections[connection]);
            }
        }
        start.elapsed()
    }

    /// Makes `count` calls from number `from` on, `a_second` calls a second over the connections in turn, whether or
    /// not earlier ones have a reply. Returns the time that each took from the moment when it was due, so that calls
    /// delayed by a late reply count as late too. Calls of one step and one command.
    ///
    /// # Panics
    /// As [`Client::run`].
    pub fn run_at(&mut self, calls: &Calls, from: usize, count: usize, a_second: f64) -> Vec<Duration> {
        let [step] = calls.steps.as_slice() else { panic!("a call of one step") };
        let [form] = step.replies.as_slice() else { panic!("a call of one command") };
        let mut waiting: [Waiting; CONNECTIONS] = Default::default();
        let mut latencies = Vec::with_capacity(count);
        self.set_nonblocking(true);
        let start = Instant::now();
        let due = |n: usize| start + Duration::from_secs_f64(n as f64 / a_second);
        let mut sent = 0;
        while latencies.len() < count {
            while sent < count && due(sent) <= Instant::now() {
                let connection = sent % CONNECTIONS;
                step.send(from + sent..from + sent + 1, &self.connections[connection]);
                waiting[connection].due.push_back(due(sent));
                sent += 1;
            }
            for (connection, waiting) in self.connections.iter().zip(&mut waiting) {
                waiting.read(*form, connection, &mut self.chunk, &mut latencies);
            }
        }
        self.set_nonblocking(false);
        latencies
    }

    fn set_nonblocking(&self, on: bool) {
        self.connections.iter().for_each(|connection| connection.set_nonblocking(on).expect("O_NONBLOCK"));
    }

    /// Selects a database on every connection.
    pub fn select(&mut self, database: usize) {
        self.run(&Calls::new(1, &["+OK"], |_| format!("SELECT {database}")), 0, CONNECTIONS, 1);
    }

    fn read_replies(&mut self, connection: usize, expected: &[ReplyForm], calls: usize) {
        let mut expected = expected.iter().cycle().take(calls * expected.len());
        let mut next = expected.next();
        let mut start = 0;
        self.input.clear();
        while let Some(form) = next {
            if let Some(end) = end_of_reply(&self.input, start) {
                form.assert(&self.input[start..end]);
                start = end;
                next = expected.next();
            } else {
                let len = self.connections[connection].read(&mut self.chunk).expect("the server answers");
                assert!(len > 0, "the server has closed the connection");
                self.input.extend_from_slice(&self.chunk[..len]);
            }
        }
        assert_eq!(start, self.input.len(), "no more replies than commands");
    }
}

/// The pending calls of a connection.
#[derive(Default)]
struct Waiting {
    /// When each was due.
    due: VecDeque<Instant>,
    /// Replies as far as they have come.
    input: Vec<u8>,
}

impl Waiting {
    /// Reads the available replies, and adds the time that each of their calls took.
    fn read(&mut self, form: ReplyForm, mut connection: &TcpStream, chunk: &mut [u8], latencies: &mut Vec<Duration>) {
        if self.due.is_empty() {
            return;
        }
        match connection.read(chunk) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(len) => self.input.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the server answers: {error}"),
        }
        let now = Instant::now();
        let mut start = 0;
        while let Some(end) = end_of_reply(&self.input, start) {
            form.assert(&self.input[start..end]);
            latencies.push(now - self.due.pop_front().expect("no more replies than commands"));
            start = end;
        }
        self.input.drain(..start);
    }
}

/// Where the reply that begins at `start` ends; `None` as long as a part of it has not come.
///
/// # Panics
/// If it is or contains an error.
fn end_of_reply(input: &[u8], start: usize) -> Option<usize> {
    let len = input[start..].iter().position(|&byte| byte == b'\n')?;
    let (line, mut end) = (&input[start..start + len - 1], start + len + 1);
    let number = || std::str::from_utf8(&line[1..]).ok().and_then(|digits| digits.parse::<i64>().ok());
    match line[0] {
        b'+' | b':' => {}
        b'$' => {
            if let Ok(len) = usize::try_from(number().expect("a length")) {
                end += len + 2;
            }
        }
        b'*' => {
            for _ in 0..number().expect("a length") {
                end = end_of_reply(input, end)?;
            }
        }
        _ => panic!("the server answered {}", line.escape_ascii()),
    }
    (end <= input.len()).then_some(end)
}
