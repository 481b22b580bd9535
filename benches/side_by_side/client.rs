//! A client that costs little, so that what is measured is the server: it sends requests that were encoded beforehand,
//! and reads replies only to find where they end and to see that they begin as they should.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Calls that are made in turn, from the first again after the last, and all answered alike.
pub(crate) struct Calls {
    requests: Vec<Vec<u8>>,
    /// How the replies to one call begin: one for each of its commands.
    replies: &'static [&'static str],
}

impl Calls {
    /// `count` different calls. `call` says what the n-th is: one command or several, one a line, their words separated
    /// by blanks. `replies` says how the reply to each of these commands begins.
    pub(crate) fn new(count: usize, replies: &'static [&'static str], call: impl Fn(usize) -> String) -> Self {
        let encoded = |n| {
            let call = call(n);
            assert_eq!(call.lines().count(), replies.len(), "one reply for each command of {call:?}");
            call.lines().flat_map(encode).collect()
        };
        Self { requests: (0..count).map(encoded).collect(), replies }
    }

    /// How many different calls there are.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

fn encode(command: &str) -> Vec<u8> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
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

    /// Makes `count` calls, in batches of `depth` over the connections in turn: each gets its next batch when its last
    /// is answered. How long it took.
    ///
    /// # Panics
    /// On the first reply that is an error, or does not begin as `calls` says.
    pub(crate) fn run(&mut self, calls: &Calls, count: usize, depth: usize) -> Duration {
        let mut requests = calls.requests.iter().cycle();
        let batches = count.div_ceil(depth);
        let size = |batch| depth.min(count - batch * depth);
        let start = Instant::now();
        for batch in 0..batches + CONNECTIONS {
            if let Some(answered) = batch.checked_sub(CONNECTIONS).filter(|&answered| answered < batches) {
                self.read_replies(batch % CONNECTIONS, calls.replies, size(answered));
            }
            if batch < batches {
                self.output.clear();
                requests.by_ref().take(size(batch)).for_each(|request| self.output.extend_from_slice(request));
                self.connections[batch % CONNECTIONS].write_all(&self.output).expect("the server takes requests");
            }
        }
        start.elapsed()
    }

    fn read_replies(&mut self, connection: usize, expected: &[&str], calls: usize) {
        let mut expected = expected.iter().cycle().take(calls * expected.len());
        let mut next = expected.next();
        let mut start = 0;
        self.input.clear();
        while let Some(beginning) = next {
            if let Some(end) = end_of_reply(&self.input, start) {
                let reply = &self.input[start..end];
                let as_expected = reply.starts_with(beginning.as_bytes());
                assert!(as_expected, "{} expected, not {}", beginning.escape_default(), reply.escape_ascii());
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
