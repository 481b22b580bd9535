//! `meterd serve` as a process, and a client of HTTP/1.1 that shows every byte it gets.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses a part of it")]

pub mod traffic;

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{PATIENCE, Server, eventually};

/// The newest server program that there is.
pub fn server(arguments: &[&str]) -> Server {
    Server::start(testkit::programs().last().expect("a server program"), arguments)
}

/// A running `meterd serve`, on a free port, in a folder of its own.
pub struct Meterd {
    child: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
}

impl Meterd {
    /// On a server, with its own archive.
    pub fn start(server: &Server) -> Self {
        Self::with(&format!("redis://127.0.0.1:{}", server.port), "")
    }

    /// On any URL of Redis, with these lines in its file.
    pub fn with(redis: &str, file: &str) -> Self {
        Self::try_with(redis, file, &[]).unwrap_or_else(|log| panic!("meterd did not start:\n{log}"))
    }

    /// The same with further arguments; what it said if it ends at once.
    pub fn try_with(redis: &str, file: &str, arguments: &[&str]) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("meterd-").tempdir().expect("a folder");
        fs::write(folder.path().join("meterd.toml"), file).expect("written");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let has_address = arguments.contains(&"--listen") || file.contains("listen = ");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_meterd"), "serve", "--redis", redis])
            .args(if has_address { &[][..] } else { &["--listen", "127.0.0.1:0"] })
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("meterd, and setpriv of util-linux");
        let mut meterd = Self { child, port: 0, folder };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let log = meterd.log();
            let line = log.lines().find(|line| line.contains("listening on "));
            if let Some(port) = line.and_then(|line| line.split("://").nth(1)?.split([':', ',']).nth(1)?.parse().ok()) {
                meterd.port = port;
                return Ok(meterd);
            }
            if meterd.child.try_wait().expect("a status").is_some() {
                return Err(meterd.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(meterd.log())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("meterd.toml")
    }

    /// Waits until it can count.
    pub fn wait_until_ready(&self) {
        eventually("meterd is ready", || self.get("/readyz").status == 200);
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "meterd does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn get_with(&self, path: &str, token: &str) -> Reply {
        self.send("GET", path, &[("Authorization", &format!("Bearer {token}"))], b"")
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Connection::open(self.port).send(method, path, headers, body)
    }
}

impl Drop for Meterd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("meterd said:\n{}", self.log());
        }
    }
}

/// A connection that is kept.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(port: u16) -> Self {
        Self::try_open(port).expect("a connection")
    }

    /// Opens one to a meterd that may be gone.
    pub fn try_open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_send(method, path, headers, body).expect("a reply")
    }

    /// The same, of a meterd that may end meanwhile.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.0.get_mut().write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
        self.try_read(method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("sent");
    }

    /// The next line of a stream.
    pub fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    fn try_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line)
    }

    pub fn read(&mut self, is_head: bool) -> Reply {
        self.try_read(is_head).expect("a reply")
    }

    fn try_read(&mut self, is_head: bool) -> io::Result<Reply> {
        let status = self.try_line()?;
        let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("{status:?}"));
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        let mut headers = Vec::new();
        loop {
            let line = self.try_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status: code, headers, body: String::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        if !is_head && length > 0 {
            let mut body = vec![0; length];
            self.0.read_exact(&mut body)?;
            reply.body = String::from_utf8(body).expect("UTF-8");
        }
        Ok(reply)
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem of this status, of RFC 9457; its sentence.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], status);
        body["detail"].as_str().expect("a sentence").to_owned()
    }
}

/// A file of PEM, made by OpenSSL: an authority, and certificates of it for 127.0.0.1.
pub fn certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
            -keyout ca.key -out ca.pem
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >$name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem
        done";
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What curl prints: the body, and the status after it.
pub fn curl(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "-w", " %{http_code}", "--max-time", "20"]).args(arguments).current_dir(folder);
    let output = command.output().expect("curl");
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}
