//! CELL.PULL: a limiter without burst reaches its pace. Alone in its file, so that no other test takes its time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use testkit::{PATIENCE, Server, programs};

/// One connection of a client that asks again as soon as it gets a reply.
struct Puller(TcpStream);

impl Puller {
    fn connect(port: u16) -> Self {
        let connection = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        connection.set_nodelay(true).expect("TCP_NODELAY");
        connection.set_nonblocking(true).expect("O_NONBLOCK");
        Self(connection)
    }

    fn ask(&mut self, rate: &str) {
        let words = ["CELL.PULL", "q", "l", "0", rate, "1", "TIMEOUT", "20"];
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
        self.0.write_all(request.as_bytes()).expect("the server takes requests");
    }

    /// Whether it got a cell; it then asks for the next.
    fn is_given(&mut self, rate: &str) -> bool {
        let mut reply = [0; 256];
        match self.0.read(&mut reply) {
            Ok(len) => {
                assert!(reply[..len].starts_with(b"*2\r\n*1\r\n"), "{}", reply[..len].escape_ascii());
                self.ask(rate);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }
}

/// The number of cells a second that a server returns to clients that always ask, over half a second.
fn pace(server: &Server, rate: usize) -> f64 {
    const CLIENTS: usize = 48;
    let mut redis = server.connect();
    redis.run("FLUSHALL");
    let fill = b"for i = 1, ARGV[1] do redis.call('LPUSH', 'q', i) end";
    redis.try_call(&[b"EVAL", fill, b"0", (2 * rate).to_string().as_bytes()]).expect("filled");
    let rate_text = rate.to_string();
    let mut pullers: Vec<Puller> = (0..CLIENTS).map(|_| Puller::connect(server.port)).collect();
    pullers.iter_mut().for_each(|puller| puller.ask(&rate_text));
    let (wanted, start) = (rate / 2, Instant::now());
    let (mut first, mut given) = (None, 0);
    while given < wanted {
        assert!(start.elapsed() < PATIENCE, "{given} of {wanted} in {PATIENCE:?}");
        for puller in &mut pullers {
            if puller.is_given(&rate_text) {
                // The first one is due at once.
                match first {
                    None => first = Some(Instant::now()),
                    Some(_) => given += 1,
                }
            }
        }
    }
    let elapsed = first.expect("a first cell").elapsed();
    given as f64 / elapsed.as_secs_f64()
}

#[test]
fn a_limiter_without_burst_reaches_its_pace() {
    // One server after the other: they must not take each other's time.
    for program in programs() {
        let server = Server::start(program, &[]);
        for rate in [1_000, 5_000] {
            // Something else may run on this machine at one time, but not always.
            let mut best = 0.0_f64;
            for _ in 0..12 {
                let pace = pace(&server, rate) / rate as f64;
                assert!(pace < 1.02, "{pace} of the pace: more than is due");
                best = best.max(pace);
                if best >= 0.95 {
                    break;
                }
            }
            assert!(best >= 0.95, "{} {:?}: {best} of {rate} a second", program.product, program.version);
        }
    }
}
