//! Real databases for the tests: each on a free port, in a folder of its own, deleted with the test. `scripts/setup
//! databases` installs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Frozen, free_port, signal};

/// How long a database may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    Postgres,
    MariaDb,
}

/// All of them.
pub const ENGINES: [Engine; 3] = [Engine::Sqlite, Engine::Postgres, Engine::MariaDb];

/// A database of its own.
pub struct Database {
    pub engine: Engine,
    pub folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    /// Further arguments of PostgreSQL or MariaDB.
    arguments: Vec<String>,
    next: AtomicU32,
}

impl Database {
    /// Makes and starts one.
    pub fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[])
    }

    /// The same, with further arguments of its server.
    pub fn start_with(engine: Engine, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-meter-sql-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut database = Self { engine, folder, port: free_port(), child: None, arguments, next: AtomicU32::new(0) };
        database.initialize();
        database.launch();
        database
    }

    /// The address of a fresh, empty database in it, as `meterd --archive` takes it.
    pub fn fresh(&self) -> String {
        let name = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        match self.engine {
            Engine::Sqlite => format!("sqlite:{}", self.folder.path().join(name + ".db").display()),
            Engine::Postgres => {
                self.admin(&format!("CREATE DATABASE {name}"));
                format!("postgres://meter@127.0.0.1:{}/{name}", self.port)
            }
            Engine::MariaDb => {
                self.admin(&format!("CREATE DATABASE {name}"));
                format!("mysql://meter:meter@127.0.0.1:{}/{name}", self.port)
            }
        }
    }

    /// The port of its server; 0 for a file.
    pub fn port(&self) -> u16 {
        if self.engine == Engine::Sqlite { 0 } else { self.port }
    }

    /// Ends it as a crash would. SQLite has no process of its own.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // An immediate shutdown takes the backends along and writes nothing: to the data it is a crash.
        signal(if self.engine == Engine::Postgres { "QUIT" } else { "KILL" }, child.id());
        child.wait().expect("the database ends");
    }

    /// Starts it again after [`Self::kill`], on the same files and port.
    pub fn restart(&mut self) {
        self.launch();
    }

    /// The same, with other further arguments.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.kill();
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.launch();
    }

    /// Stops its process, which keeps its connections and does nothing, until the result is dropped.
    pub fn freeze(&self) -> Option<Frozen> {
        let child = self.child.as_ref()?;
        let pid = child.id();
        // A backend of PostgreSQL has a session of its own.
        let all = if self.engine == Engine::Postgres { children_of(pid) } else { Vec::new() };
        Some(Frozen::of(std::iter::once(pid).chain(all).collect()))
    }

    /// Limits the size of PostgreSQL's files, in bytes, for connections made from now on, as a full disk does; `None`
    /// lifts the limit.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let process = self.child.as_ref().map_or(0, Child::id);
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        // Its own user may change the soft limit.
        run(as_user("postgres", Path::new("prlimit")).args([
            "--pid",
            &process.to_string(),
            &format!("--fsize={limit}:"),
        ]));
    }

    fn initialize(&self) {
        let folder = self.folder.path();
        let data = folder.join("data");
        let mut command = match self.engine {
            Engine::Sqlite => return,
            Engine::Postgres => {
                let mut command = as_user("postgres", &postgres("initdb"));
                if is_root() {
                    run(Command::new("chown").arg("postgres").arg(folder));
                }
                command.arg("-D").arg(&data).args(["-A", "trust", "-U", "meter", "--no-sync", "-E", "UTF8"]);
                command.args(["--locale", "C"]);
                command
            }
            Engine::MariaDb => {
                let mut command = Command::new("mariadb-install-db");
                // A server that starts deletes the temporary tables of all that share the folder.
                command.env("TMPDIR", folder).arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                if is_root() {
                    command.arg("--user=root");
                }
                command
            }
        };
        run(&mut command);
    }

    fn launch(&mut self) {
        if self.engine == Engine::Sqlite {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.child = Some(self.spawn());
            while self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
                if self.try_admin("SELECT 1") {
                    self.create_user();
                    return;
                }
                assert!(start.elapsed() < PATIENCE, "{:?} did not start:\n{}", self.engine, self.log());
                thread::sleep(Duration::from_millis(20));
            }
            // Leftovers of a crash, such as shared memory that is still in use, may be freed a moment later.
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{:?} did not start:\n{}", self.engine, self.log());
    }

    fn create_user(&self) {
        if self.engine == Engine::MariaDb {
            self.admin(
                "CREATE USER IF NOT EXISTS meter@'127.0.0.1' IDENTIFIED BY 'meter'; \
                 GRANT ALL ON *.* TO meter@'127.0.0.1'",
            );
        }
    }

    fn spawn(&self) -> Child {
        let folder = self.folder.path();
        let data = folder.join("data");
        let mut command = if self.engine == Engine::Postgres {
            let mut command = as_user("postgres", &postgres("postgres"));
            command.arg("-D").arg(&data).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
            // The process is killed, and not the machine: data written to the kernel is safe.
            command.arg("-c").arg(format!("unix_socket_directories={}", folder.display())).args(["-c", "fsync=off"]);
            command
        } else {
            let mut command = Command::new("setpriv");
            command.env("TMPDIR", folder).args(["--pdeathsig", "KILL", "mariadbd", "--no-defaults"]);
            command.arg(format!("--datadir={}", data.display())).arg(format!("--port={}", self.port));
            command.args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M"]);
            command.arg(format!("--socket={}", folder.join("s").display()));
            command.arg(format!("--pid-file={}", folder.join("pid").display()));
            if is_root() {
                command.arg("--user=root");
            }
            command
        };
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.spawn().expect("a database; scripts/setup databases installs it")
    }

    fn admin(&self, sql: &str) {
        assert!(self.try_admin(sql), "{sql}:\n{}", self.log());
    }

    fn try_admin(&self, sql: &str) -> bool {
        let mut command = if self.engine == Engine::Postgres {
            let mut command = Command::new("psql");
            command.args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "meter",
                "-d",
                "postgres",
                "-qc",
                sql,
            ]);
            command
        } else {
            let mut command = Command::new("mariadb");
            command.arg("--no-defaults").arg(format!("--socket={}", self.folder.path().join("s").display()));
            command.args(["-u", "root", "-e", sql]);
            command
        };
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.expect("a client of the database; scripts/setup databases installs it").success()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of PostgreSQL, which Debian keeps off the PATH.
fn postgres(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// Runs a program as another user if this is root, as which PostgreSQL does not start. It ends with the thread that
/// starts it.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".to_owned()]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("a database; scripts/setup databases installs it");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}:\n{text}");
}
