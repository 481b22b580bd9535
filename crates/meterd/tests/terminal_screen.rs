//! What `meterd top` and the progress bar look like on the screen of a terminal, which is tmux's.

mod sql;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use sql::server;
use testkit::{Server, eventually, sleep_ms};

/// A terminal in which one command runs.
struct Screen {
    socket: String,
}

impl Screen {
    /// A shell that runs `meterd` with these arguments, tells its exit code, and stays.
    fn run(server: &Server, [width, height]: [u16; 2], arguments: &str) -> Self {
        let socket = server.folder.path().join(format!("tmux-{width}")).display().to_string();
        let screen = Self { socket };
        let command = format!("echo before; {} {arguments}; echo ended with $?; cat", env!("CARGO_BIN_EXE_meterd"));
        let mut tmux = Command::new("tmux");
        tmux.env_remove("TMUX").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        tmux.env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port));
        tmux.env("METERD_ARCHIVE", format!("sqlite:{}", server.folder.path().join("a.db").display()));
        tmux.args(["-u", "-f", "/dev/null", "-S", &screen.socket, "new-session", "-d"]);
        tmux.args(["-x", &width.to_string(), "-y", &height.to_string(), &command]);
        assert!(tmux.status().expect("tmux: scripts/setup meterd").success());
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("tmux").args(["-u", "-S", &self.socket]).args(arguments).env("LC_ALL", "C.UTF-8").output();
        String::from_utf8(output.expect("tmux").stdout).expect("UTF-8")
    }

    /// The lines that are seen.
    fn lines(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn wait_for(&self, what: &str, seen: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        eventually(what, || {
            lines = self.lines();
            seen(&lines)
        });
        lines
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen was:\n{}", self.lines().join("\n"));
        }
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_who_is_busy_follows_keys_tells_errors_and_leaves_the_screen_as_it_was() {
    let mut server = server(&[]);
    let mut redis = server.connect();
    for n in 0..60 {
        redis.run(&format!("METER.HIT quiet:{n:02}"));
    }
    for _ in 0..3 {
        redis.run("CELL.THROTTLE user:42 0 1 3600");
    }
    let stop = AtomicBool::new(false);
    for size in [[80, 24], [140, 40]] {
        let screen = Screen::run(&server, size, "top");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut redis = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    redis.run("METER.HIT busy BY 1000");
                    sleep_ms(5);
                }
            });
            let _stop = Stop(&stop);
            let lines = screen.wait_for("the busy meter is first", |lines| {
                let is_busy = |line: &String| line.starts_with("busy ") && line.ends_with(is_bar);
                // What is refused is drawn last.
                let is_refused = |line: &String| line.starts_with("user:42 ") && line.ends_with(" 2");
                lines.get(3).is_some_and(is_busy) && lines.last().is_some_and(is_refused)
            });
            assert!(
                lines[0].starts_with("meterd top · 61 meters · ") && lines[0].ends_with(" hits/s · q ends"),
                "{lines:#?}"
            );
            let head: Vec<&str> = lines[2].split_whitespace().collect();
            assert_eq!(head.join(" "), "meter (UTC days) today this hour hits/s seconds");
            assert!(lines[4].starts_with("quiet:00 ") && lines[4].contains(" 1 "), "{lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(size[0])), "{lines:#?}");
            screen.press("Down");
            screen.wait_for("it moves down", |lines| lines[3].starts_with("quiet:00 "));
            screen.press("Home");
            screen.wait_for("it is at the top", |lines| lines[3].starts_with("busy "));
        });
        stop.store(false, Ordering::Relaxed);
        screen.press("q");
        let lines = screen.wait_for("it ends", |lines| lines.iter().any(|line| line == "ended with 0"));
        assert_eq!(lines[..2], ["before", "ended with 0"], "{lines:#?}");
    }
    let screen = Screen::run(&server, [100, 24], "top");
    screen.wait_for("it runs", |lines| lines[0].contains("61 meters"));
    server.kill();
    screen.wait_for("it tells that Redis is gone", |lines| lines[0].contains("Redis can't be reached"));
    server.kill_and_restart();
    server.connect().run("METER.HIT again");
    let lines = screen.wait_for("it goes on by itself", |lines| {
        lines.first().is_some_and(|line| line.starts_with("meterd top · ")) && lines.join("").contains("again ")
    });
    assert!(lines[2].starts_with("meter (UTC days) "), "nothing else is written there: {lines:#?}");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_bar(letter: char) -> bool {
    ('▁'..='█').contains(&letter)
}

#[test]
fn a_progress_bar_stays_on_its_line_and_grows() {
    let server = server(&[]);
    let log = server.folder.path().join("access.log");
    let line = |n: u64| {
        format!("10.0.0.{} - - [09/Aug/2022:{:02}:00:00 +0000] \"GET /{} HTTP/1.1\" 200 17\n", n % 200, n % 24, n % 5)
    };
    fs::write(&log, (0..500_000).map(line).collect::<String>()).expect("written");
    let screen = Screen::run(&server, [100, 10], &format!("import {} --meter web --path host", log.display()));
    let filled = |lines: &[String]| lines.get(1).map_or(0, |line| line.matches('█').count());
    let lines = screen.wait_for("a bar", |lines| filled(lines) > 1);
    assert!(lines[1].contains("MiB/s") && lines[1].chars().count() <= 100, "{lines:#?}");
    assert!(lines[2..].iter().all(String::is_empty), "{lines:#?}");
    let more = screen.wait_for("it grows", |now| filled(now) > filled(&lines));
    assert!(more[2..].iter().all(String::is_empty), "{more:#?}");
    let end = screen.wait_for("it ends", |lines| lines.iter().any(|line| line == "ended with 0"));
    assert!(end.iter().any(|line| line.ends_with("access.log: 500000 lines counted")), "{end:#?}");
}
