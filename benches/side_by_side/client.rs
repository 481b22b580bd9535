//! A client that costs little, so that what is measured is the server: it sends requests that were encoded beforehand,
//! and reads replies only to find where they end and to see that they look as they should.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Calls that are made in turn, from the first again after the last, and all answered alike.
pub(crate) struct Calls {
    /// What a client sends at once. Most calls have one step; one that has to look first has two.
    steps: Vec<Step>,
}

struct Step {
    /// One for each call.
    requests: Vec<Vec<u8>>,
    /// How the replies to one request look: one for each of its commands.
    replies: Vec<Look>,
}

/// How a reply begins and ends.
#[derive(Clone, Copy)]
struct Look {
    beginning: &'static str,
    end: &'static str,
}

impl Calls {
    /// `count` different calls. `call` says what the n-th is: one command or several, one a line, their words separated
    /// by blanks. `replies` says how the reply to each of these commands begins and, after `…`, how it ends.
    pub(crate) fn new(count: usize, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        Self { steps: vec![Step::new(count, replies, call)] }
    }

    /// With a further step, which each call takes when the replies to the one before are there.
    pub(crate) fn then(mut self, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        let step = Step::new(self.len(), replies, call);
        self.steps.push(step);
        self
    }

    /// How many different calls there are.
    pub(crate) fn len(&self) -> usize {
        self.steps[0].requests.len()
    }
}

impl Step {
    fn new(count: usize, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        let encoded = |n| {
            let call = call(n);
            assert_eq!(call.lines().count(), replies.len(), "one reply for each command of {call:?}");
            call.lines().flat_map(encode).collect()
        };
        let look = |&reply: &&'static str| {
            let (beginning, end) = reply.split_once('…').unwrap_or((reply, ""));
            Look { beginning, end }
        };
        Self { requests: (0..count).map(encoded).collect(), replies: replies.iter().map(look).collect() }
    }
}

impl Look {
    fn assert(self, reply: &[u8]) {
        let Self { beginning, end } = self;
        let as_expected = reply.starts_with(beginning.as_bytes()) && reply.ends_with(end.as_bytes());
        let expected = || format!("{}…{}", beginning.escape_default(), end.escape_default());
        assert!(as_expected, "{} expected, not {}", expected(), reply.escape_ascii());
    }
}

fn encode(command: &str) -> Vec<u8> {
    let words = command.split_whitespace();
    let mut request = format!("*{}\r\n", words.clone().count());
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len()).expect("a string takes what it is given");
    }
    request.into_bytes()
}

/// So many that the server always finds work when it looks, and is not measured while it falls asleep and wakes up.
pub(crate) const CONNECTIONS: usize = 8;

/// A client with several connections that speak RESP2.
pub(crate) struct Client {
    connections: Vec<TcpStream>,
    /// The requests to be sent next.
    output: Vec<u8>,
    /// Replies as far as they have come.
    input: Vec<u8>,
    chunk: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let connect = || {
            let connection = TcpStream::connect(("127.0.0.1", port)).expect("a server");
            connection.set_nodelay(true).expect("TCP_NODELAY");
            connection
        };
        let connections = std::iter::repeat_with(connect).take(CONNECTIONS).collect();
        Self { connections, output: Vec::new(), input: Vec::new(), chunk: vec![0; 1 << 16] }
    }

    /// Makes `count` calls, in batches of `depth` over the connections in turn: each gets its next batch, or the next
    /// step of this one, when what it was sent is answered. How long it took.
    ///
    /// # Panics
    /// On the first reply that is an error, or does not look as `calls` says.
    pub(crate) fn run(&mut self, calls: &Calls, count: usize, depth: usize) -> Duration {
        let batches = count.div_ceil(depth);
        let sends = batches.next_multiple_of(CONNECTIONS) * calls.steps.len();
        // In each turn all connections are sent the same step.
        let step_and_batch = |send: usize| {
            let (turn, connection) = (send / CONNECTIONS, send % CONNECTIONS);
            let batch = turn / calls.steps.len() * CONNECTIONS + connection;
            (send < sends && batch < batches).then(|| (&calls.steps[turn % calls.steps.len()], batch))
        };
        let numbers = |batch| (batch * depth)..count.min((batch + 1) * depth);
        let start = Instant::now();
        for send in 0..sends + CONNECTIONS {
            let connection = send % CONNECTIONS;
            if let Some((step, batch)) = send.checked_sub(CONNECTIONS).and_then(step_and_batch) {
                self.read_replies(connection, &step.replies, numbers(batch).len());
            }
            if let Some((step, batch)) = step_and_batch(send) {
                self.output.clear();
                for n in numbers(batch) {
                    self.output.extend_from_slice(&step.requests[n % step.requests.len()]);
                }
                self.connections[connection].write_all(&self.output).expect("the server takes requests");
            }
        }
        start.elapsed()
    }

    fn read_replies(&mut self, connection: usize, expected: &[Look], calls: usize) {
        let mut expected = expected.iter().cycle().take(calls * expected.len());
        let mut next = expected.next();
        let mut start = 0;
        self.input.clear();
        while let Some(look) = next {
            if let Some(end) = end_of_reply(&self.input, start) {
                look.assert(&self.input[start..end]);
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
