//! Real servers for the tests: each on a free port, in a folder of its own, deleted with the test.
//!
//! `METER_TEST_SERVER` names the one server program to test on; without it every program is tested that
//! `scripts/fetch-servers` has fetched, or, where it has fetched none, those on the PATH. `METER_MODULE` names the
//! module; without it the release build is tested.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "tests panic, and their helpers are named for what they do"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use connection::Connection;
use redis::ConnectionLike;
pub use redis::Value;
pub use stored::{StoredKey, assert_same, stored_keys};

pub mod blocked;
pub mod catalogue;
pub mod cluster;
mod connection;
pub mod database;
pub mod ledger;
pub mod load;
pub mod machine;
pub mod record;
pub mod sentinel;
pub mod spread;
mod stored;

/// How long a server may take for something that it should do at once. A virtual machine may stand still for half a
/// minute, while its clock goes on.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server program.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    /// `redis` or `valkey`.
    pub product: String,
    pub version: (u32, u32, u32),
}

impl Program {
    fn at(path: PathBuf) -> Option<Self> {
        let output = Command::new(&path).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let version = (next(), next(), next());
        Some(Self { path, product: text.split_whitespace().next()?.to_lowercase(), version })
    }

    pub fn is_valkey(&self) -> bool {
        self.product == "valkey"
    }

    /// The program with functions of `src/<source>` before those of libc, compiled with `definition` into
    /// `folder`.
    pub fn preloading(&self, source: &str, definition: &str, folder: &Path) -> Self {
        let [library, path] = ["so", "sh"].map(|kind| folder.join(format!("{source}{definition}.{kind}")));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
        let definition = format!("-D{definition}");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", &definition, "-o"]).args([&library, &source]).status();
        assert!(compiled.is_ok_and(|status| status.success()), "{} is not compiled", source.display());
        let script = format!("#!/bin/sh\nLD_PRELOAD='{}' exec '{}' \"$@\"\n", library.display(), self.path.display());
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        Self { path, ..self.clone() }
    }

    /// Whether it is Redis of at least this version, or any Valkey, which began as Redis 7.2.
    pub fn has_redis(&self, major: u32, minor: u32) -> bool {
        let version = if self.is_valkey() { (7, 2) } else { (self.version.0, self.version.1) };
        version >= (major, minor)
    }

    /// Whether module configs, command documentation and key specifications are there.
    pub fn is_7_or_later(&self) -> bool {
        self.has_redis(7, 0)
    }

    /// Whether modules may add ACL categories.
    pub fn has_module_categories(&self) -> bool {
        if self.is_valkey() { self.version.0 >= 8 } else { self.has_redis(7, 4) }
    }
}

/// The programs to test on.
pub fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        if let Some(path) = std::env::var_os("METER_TEST_SERVER") {
            let program = Program::at(path.clone().into());
            return vec![program.unwrap_or_else(|| panic!("METER_TEST_SERVER: {} is no server", path.display()))];
        }
        let folder = root().join(".servers");
        let mut found: Vec<Program> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|entry| ["redis-server", "valkey-server"].map(|name| entry.path().join(name)))
            .filter_map(Program::at)
            .collect();
        if found.is_empty() {
            found = ["redis-server", "valkey-server"].into_iter().filter_map(|name| Program::at(name.into())).collect();
        }
        assert!(!found.is_empty(), "no server program found: run scripts/fetch-servers, or set METER_TEST_SERVER");
        // Of two builds of one version the packaged one, whose folder's name is shorter, comes last.
        found.sort_by(|a, b| (&a.product, a.version, &b.path).cmp(&(&b.product, b.version, &a.path)));
        found
    })
}

/// The folder of the project.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The module under test.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        if let Some(path) = std::env::var_os("METER_MODULE") {
            return path.into();
        }
        let path = root().join("target/release/libredis_meter.so");
        let built = fs::metadata(&path).and_then(|data| data.modified());
        let built = built.unwrap_or_else(|_| panic!("{} is missing: run make build", path.display()));
        let newest = newest(&root().join("src")).max(newest(&root().join("crates/core/src")));
        assert!(newest <= built, "{} is older than src: run make build", path.display());
        path
    })
}

/// Compiles a module of `src/<source>` into `folder`.
pub fn compile_module(source: &str, folder: &Path) -> PathBuf {
    let library = folder.join(source).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
    let compiled =
        Command::new("cc").args(["-O2", "-Wall", "-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.is_ok_and(|status| status.success()), "{} is not compiled", source.display());
    library
}

fn newest(folder: &Path) -> SystemTime {
    // The tests of pure code stand beside it, and are no part of the module.
    let entries = fs::read_dir(folder).expect("a folder").flatten().filter(|entry| entry.file_name() != "tests.rs");
    let times = entries.map(|entry| match entry.metadata().expect("metadata") {
        data if data.is_dir() => newest(&entry.path()),
        data => data.modified().expect("a time"),
    });
    times.max().unwrap_or(UNIX_EPOCH)
}

/// Runs a test on a fresh server with the module, of every program.
pub fn on_every_server(test: impl Fn(&mut Server) + Sync) {
    on_every_program(|program| test(&mut Server::start(program, &[])));
}

/// Runs a test with every program, at the same time: most tests wait more than they work.
pub fn on_every_program(test: impl Fn(&Program) + Sync) {
    thread::scope(|scope| {
        for program in programs() {
            let test = &test;
            scope.spawn(move || {
                let _announce = Announce(program);
                test(program);
            });
        }
    });
}

struct Announce<'a>(&'a Program);

impl Drop for Announce<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed on {} {:?}, {}", self.0.product, self.0.version, self.0.path.display());
        }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    pub program: Program,
    pub port: u16,
    pub folder: tempfile::TempDir,
    file: Option<String>,
    arguments: Vec<String>,
}

impl Server {
    /// With the module, and these further arguments.
    pub fn start(program: &Program, arguments: &[&str]) -> Self {
        Self::with_module(program, "", arguments)
    }

    /// With the module loaded with `module_arguments`, separated by blanks.
    pub fn with_module(program: &Program, module_arguments: &str, arguments: &[&str]) -> Self {
        let load = format!("{} {module_arguments}", module().display());
        let mut all = vec!["--loadmodule"];
        all.extend(load.split_whitespace());
        all.extend(arguments);
        Self::bare(program, &all)
    }

    /// Without the module.
    pub fn bare(program: &Program, arguments: &[&str]) -> Self {
        Self::try_bare(program, arguments).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Without the module; the log if the server ends at once.
    pub fn try_bare(program: &Program, arguments: &[&str]) -> Result<Self, String> {
        Self::launch(program, None, arguments)
    }

    /// With a configuration file; the log if the server ends at once.
    pub fn with_file(program: &Program, file: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::launch(program, Some(file), arguments)
    }

    fn launch(program: &Program, file: Option<&str>, arguments: &[&str]) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let file = file.map(str::to_owned);
        loop {
            let folder = tempfile::Builder::new().prefix("redis-meter-").tempdir().expect("a folder");
            let port = free_port();
            let child = spawn(program, file.as_deref(), &folder, port, &arguments);
            let mut server = Self {
                child,
                program: program.clone(),
                port,
                folder,
                file: file.clone(),
                arguments: arguments.clone(),
            };
            if server.is_up() {
                return Ok(server);
            }
            let log = server.log();
            if !log.contains("Address already in use") {
                return Err(log);
            }
        }
    }

    /// Stops it as `shutdown` says (`SAVE`, `NOSAVE`), and starts it again on the same files with these arguments.
    pub fn restart_with(&mut self, shutdown: &str, arguments: &[&str]) {
        let _ = self.connect().try_run(&format!("SHUTDOWN {shutdown}"));
        self.child.wait().expect("the server ends");
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.child = spawn(&self.program, self.file.as_deref(), &self.folder, self.port, &self.arguments);
        assert!(self.is_up(), "the server did not start again:\n{}", self.log());
    }

    /// The same, with the same arguments.
    pub fn restart(&mut self, shutdown: &str) {
        let arguments = self.arguments.clone();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.restart_with(shutdown, &arguments);
    }

    /// Ends it by SIGKILL, as a crash would; it may have ended before.
    pub fn kill(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("the server ends");
    }

    /// The same, and starts it again on the same files and port, with the same arguments; once more if another thread
    /// kills it meanwhile. It ends with the thread that does this.
    pub fn kill_and_restart(&mut self) {
        loop {
            self.kill();
            self.child = spawn(&self.program, self.file.as_deref(), &self.folder, self.port, &self.arguments);
            if self.is_up() {
                return;
            }
            let end = self.child.try_wait().expect("a status");
            assert!(end.is_some_and(|end| end.signal() == Some(9)), "it did not start again: {end:?}\n{}", self.log());
        }
    }

    /// Sets its clock, which stands still in between, to `nanos` nanoseconds since the epoch. For a program that was made
    /// by [`Program::preloading`] `clock.c` with `FROZEN=1`.
    pub fn set_clock(&self, nanos: i64) {
        let folder = self.folder.path();
        fs::write(folder.join("clock.new"), nanos.to_string()).expect("written");
        // A clock that is half written is never read.
        fs::rename(folder.join("clock.new"), folder.join("clock")).expect("renamed");
    }

    /// Stops its process, which keeps its connections and does nothing, until the result is dropped.
    pub fn freeze(&self) -> Frozen {
        Frozen::of(vec![self.child.id()])
    }

    /// Another server of the same program, without the module, that replicates this one and has caught up.
    pub fn replica(&self, arguments: &[&str]) -> Self {
        let replica = Self::bare(&self.program, arguments);
        replica.connect().run(&format!("REPLICAOF 127.0.0.1 {}", self.port));
        self.wait_for_replica(&replica);
        replica
    }

    /// Waits until `replica` has all writes of this server.
    pub fn wait_for_replica(&self, replica: &Self) {
        let field = |server: &Self, name: &str| server.connect().info_field("replication", name);
        eventually("the replica catches up", || {
            field(replica, "master_link_status").as_deref() == Some("up")
                && field(replica, "slave_repl_offset") == field(self, "master_repl_offset")
        });
    }

    /// A new connection that speaks RESP2.
    pub fn connect(&self) -> Client {
        Client(self.open())
    }

    /// A new connection that speaks RESP3.
    pub fn connect_resp3(&self) -> Client {
        let mut connection = self.open();
        connection.speak_resp3().expect("RESP3");
        Client(connection)
    }

    fn open(&self) -> Connection {
        Connection::open(self.port, PATIENCE).expect("a connection")
    }

    /// The commands in the server's append-only file since it began, without SELECT; needs `--appendonly yes`.
    pub fn appended(&self) -> Vec<Vec<String>> {
        let folder = self.folder.path();
        let files = [folder.to_owned(), folder.join("appendonlydir")];
        let files = files.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let file = files.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name == "appendonly.aof" || name.ends_with(".incr.aof")
        });
        let bytes = fs::read(file.expect("an append-only file")).expect("its bytes");
        let mut rest = &bytes[..];
        let mut commands = Vec::new();
        while !rest.is_empty() {
            let words = take_number(&mut rest, b'*');
            let mut command = Vec::new();
            for _ in 0..words {
                let len = take_number(&mut rest, b'$');
                command.push(String::from_utf8_lossy(&rest[..len]).into_owned());
                rest = &rest[len + 2..];
            }
            if !command[0].eq_ignore_ascii_case("select") {
                commands.push(command);
            }
        }
        commands
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Panics if the process has ended, or writes the report of its crash.
    #[track_caller]
    pub fn assert_alive(&mut self, after: &str) {
        let pong = || Client::to(self.port).and_then(|mut redis| redis.try_run("PING"));
        let answers = || pong().is_ok() && crash(&self.log()).is_none();
        if !answers() {
            // Its report may not be finished.
            thread::sleep(Duration::from_millis(300));
            let end = self.child.try_wait().expect("a status");
            let why = crash(&self.log()).unwrap_or_else(|| format!("{end:?}, and no report in its log"));
            panic!("{} {:?}: the server died after {after}: {why}", self.program.product, self.program.version);
        }
    }

    /// Waits until the process ends by itself; returns its status.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(end) = self.child.try_wait().expect("a status") {
                return end;
            }
            assert!(start.elapsed() < PATIENCE, "the server runs on:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if !self.is_alive() {
                return false;
            }
            let pong = Client::to(self.port).and_then(|mut redis| redis.try_run("PING"));
            if pong.is_ok() && self.is_alive() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let died = !self.is_alive();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            match crash(&log) {
                Some(why) => eprintln!("the server on port {} DIED: {why}", self.port),
                None if died => eprintln!("the server on port {} had ended:", self.port),
                None => eprintln!("the server on port {} was running:", self.port),
            }
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// The cause of a crash in the log: the assertion that failed, or the signal.
fn crash(log: &str) -> Option<String> {
    let signs = ["==> ", "Guru Meditation", "crashed by signal", "panicked at"];
    let lines: Vec<&str> = log.lines().filter(|line| signs.iter().any(|sign| line.contains(sign))).collect();
    log.contains("BUG REPORT START").then(|| lines.join("; "))
}

/// A server whose process is stopped; it goes on when this is dropped.
pub struct Frozen(Vec<u32>);

impl Frozen {
    /// Stops these processes.
    fn of(processes: Vec<u32>) -> Self {
        for process in &processes {
            signal("STOP", *process);
        }
        Self(processes)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            signal("CONT", *process);
        }
    }
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().expect("a shell");
}

fn spawn(program: &Program, file: Option<&str>, folder: &tempfile::TempDir, port: u16, arguments: &[String]) -> Child {
    let folder = folder.path();
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    // The kernel ends the server when the thread that started it ends, for any reason.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(&program.path)
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(
            ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"]
                .iter()
                .filter(|_| program.is_7_or_later()),
        )
        .args(arguments)
        .arg("--dir")
        .arg(folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("a server, and setpriv of util-linux")
}

fn take_number(rest: &mut &[u8], prefix: u8) -> usize {
    let end = rest.iter().position(|&byte| byte == b'\r').expect("a line");
    assert_eq!(rest[0], prefix, "{}", rest.escape_ascii());
    let number = std::str::from_utf8(&rest[1..end]).expect("digits").parse().expect("a number");
    *rest = &rest[end + 2..];
    number
}

/// A port without a listener, below those that the kernel gives to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 20_000).expect("small");
    loop {
        let port = 10_000 + (start + 7 * NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        // A node of a cluster listens on a second port, 10000 higher.
        if [port, port + 10_000].iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A small generator of pseudo-random numbers (xorshift64*), so that a run can be repeated from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to n - 1.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(n).expect("small")).expect("small")
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// A number that the environment may set.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Sleeps for `ms` milliseconds.
pub fn sleep_ms(ms: i64) {
    thread::sleep(Duration::from_millis(ms.try_into().expect("not negative")));
}

/// Milliseconds since the epoch, now.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after the epoch");
    i64::try_from(now.as_millis()).expect("before the end of time")
}

/// The UTC date of an instant, as `20220809`.
pub fn date(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).expect("an instant").format("%Y%m%d").to_string()
}

/// A connection.
pub struct Client(pub Connection);

impl Client {
    /// A connection to a port of this machine, where a server may be missing.
    pub fn to(port: u16) -> Result<Self, String> {
        Connection::open(port, PATIENCE).map(Self).map_err(|error| error.to_string())
    }

    /// Runs a command whose words are separated by blanks. Panics on an error.
    pub fn run(&mut self, line: &str) -> Value {
        self.try_run(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The same; the text of an error, as the server sent it.
    pub fn try_run(&mut self, line: &str) -> Result<Value, String> {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        self.try_call(&words)
    }

    /// Runs a command of any bytes.
    pub fn try_call(&mut self, words: &[&[u8]]) -> Result<Value, String> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let value = self.0.req_command(&command).and_then(Value::extract_error);
        value.map_err(|error| match error.code() {
            Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
            None => error.to_string(),
        })
    }

    /// The error that a command returns. Panics if it succeeds.
    pub fn error(&mut self, line: &str) -> String {
        self.try_run(line).err().unwrap_or_else(|| panic!("{line}: no error"))
    }

    /// A reply of integers.
    pub fn ints(&mut self, line: &str) -> Vec<i64> {
        redis::from_redis_value(self.run(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A reply of one integer.
    pub fn int(&mut self, line: &str) -> i64 {
        redis::from_redis_value(self.run(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A reply of strings, in the order sent.
    pub fn strings(&mut self, line: &str) -> Vec<String> {
        redis::from_redis_value(self.run(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A reply of one string, or nil.
    pub fn string(&mut self, line: &str) -> Option<String> {
        redis::from_redis_value(self.run(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A reply of pairs of a name and a count.
    pub fn counts(&mut self, line: &str) -> Vec<(String, i64)> {
        redis::from_redis_value(self.run(line)).expect("pairs of a name and a count")
    }

    /// Opens or repeats a batch: its id and its keys.
    pub fn seal(&mut self, line: &str) -> (Option<String>, Vec<String>) {
        redis::from_redis_value(self.run(line)).expect("a batch id and keys")
    }

    /// A field of a section of INFO.
    pub fn info_field(&mut self, section: &str, field: &str) -> Option<String> {
        let text = self.string(&format!("INFO {section}")).expect("a text");
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))
    }

    /// Every key of the selected database.
    pub fn contents(&mut self) -> Vec<Entry> {
        let mut keys: Vec<Vec<u8>> = redis::from_redis_value(self.run("KEYS *")).expect("keys");
        keys.sort();
        keys.into_iter().map(|key| self.entry(key)).collect()
    }

    fn entry(&mut self, key: Vec<u8>) -> Entry {
        let mut call = |command: &str, rest: &[&str]| {
            let mut words = vec![command.as_bytes(), &key];
            words.extend(rest.iter().map(|word| word.as_bytes()));
            self.try_call(&words)
        };
        let kind: String = redis::from_redis_value(call("TYPE", &[]).expect("a type")).expect("a type");
        let value = match kind.as_str() {
            "string" => call("GET", &[]),
            "list" => call("LRANGE", &["0", "-1"]),
            "hash" => call("HGETALL", &[]).map(sorted_pairs),
            "zset" => call("ZRANGE", &["0", "-1", "WITHSCORES"]),
            "set" => call("SMEMBERS", &[]).map(sorted),
            _ => call("DUMP", &[]),
        };
        let expiry = call("PEXPIRETIME", &[]).unwrap_or_else(|_| Value::Int(self.expiry(&key)));
        Entry { value: value.expect("a value"), expiry, kind, key }
    }

    /// When a key expires, on a server that has no PEXPIRETIME (Redis 6.2): PTTL plus the current time, both read
    /// within one millisecond. No script or transaction, since the server would postpone or refuse those while writes
    /// are paused or memory is full.
    fn expiry(&mut self, key: &[u8]) -> i64 {
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("TIME").cmd("PTTL").arg(key).cmd("TIME");
            let (before, left, after): ((i64, i64), i64, (i64, i64)) = pipe.query(&mut self.0).expect("an expiry");
            let [before, after] = [before, after].map(|(seconds, micros)| seconds * 1_000 + micros / 1_000);
            if before == after {
                return if left < 0 { left } else { before + left };
            }
        }
    }
}

/// A key, for comparison: between servers, or before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub kind: String,
    pub value: Value,
    /// Milliseconds since the epoch; -1 for none.
    pub expiry: Value,
}

fn sorted(value: Value) -> Value {
    let mut members: Vec<Vec<u8>> = redis::from_redis_value(value).expect("members");
    members.sort();
    Value::Array(members.into_iter().map(Value::BulkString).collect())
}

fn sorted_pairs(value: Value) -> Value {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = redis::from_redis_value(value).expect("pairs");
    pairs.sort();
    Value::Array(pairs.into_iter().flat_map(|(a, b)| [a, b]).map(Value::BulkString).collect())
}
