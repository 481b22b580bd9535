//! The steps of an archiver, seen from outside: every piece of bytes that goes to or comes from a server or a database
//! passes here, and at a chosen one something is done before it goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// Counts pieces of bytes on all its links.
#[derive(Clone, Default)]
pub struct Steps(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    passed: u64,
    order: Option<Order>,
}

/// What is to be done at a step: whoever gets the message does it, and answers.
struct Order {
    step: u64,
    is_after: bool,
    reached: Sender<()>,
    go_on: Receiver<()>,
}

/// The other end of an order.
pub struct Reached {
    reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Reached {
    /// Whether the step has been reached; it is held until [`Self::go_on`].
    pub fn is_now(&self) -> bool {
        self.reached.try_recv().is_ok()
    }

    pub fn go_on(&self) {
        // Its thread may have ended with its connection.
        let _ = self.go_on.send(());
    }
}

impl Steps {
    /// Begins to count anew. At the step of this number, before it or after it has been passed on, it is held.
    pub fn order(&self, step: u64, is_after: bool) -> Reached {
        let (reached, is_reached) = channel();
        let (may_go_on, go_on) = channel();
        let mut inner = self.0.lock().expect("the steps");
        *inner = Inner { passed: 0, order: Some(Order { step, is_after, reached, go_on }) };
        Reached { reached: is_reached, go_on: may_go_on }
    }

    /// Begins to count anew, and holds nothing.
    pub fn restart(&self) {
        *self.0.lock().expect("the steps") = Inner::default();
    }

    /// How many steps there were.
    pub fn passed(&self) -> u64 {
        self.0.lock().expect("the steps").passed
    }

    /// A port that leads to another one.
    pub fn link(&self, to: u16) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let steps = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Nobody there: the client sees the end of its connection.
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let _ = from.set_nodelay(true);
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let steps = steps.clone();
                    thread::spawn(move || steps.carry(from, to));
                }
            }
        });
        port
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let n = from.read(&mut bytes).unwrap_or(0);
            if n == 0 {
                break;
            }
            let order = self.step();
            if let Some(order) = order.as_ref().filter(|order| !order.is_after) {
                order.hold();
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
            if let Some(order) = order.filter(|order| order.is_after) {
                order.hold();
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Counts a step; its order, if it has one.
    fn step(&self) -> Option<Order> {
        let mut inner = self.0.lock().expect("the steps");
        inner.passed += 1;
        if inner.order.as_ref().is_some_and(|order| order.step == inner.passed) { inner.order.take() } else { None }
    }
}

impl Order {
    fn hold(&self) {
        if self.reached.send(()).is_ok() {
            let _ = self.go_on.recv();
        }
    }
}
