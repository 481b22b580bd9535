//! What stands beside meterd: the example of a configuration, the unit, the alert rules, the dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testkit::Server;

fn folder() -> PathBuf {
    testkit::root().join("packaging/meterd")
}

fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("a program");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_example_configuration_is_right_and_a_wrong_one_is_told_by_its_line() {
    let example = folder().join("meterd.toml");
    let check = |file: &PathBuf| said(Command::new(env!("CARGO_BIN_EXE_meterd")).args(["config", "check"]).arg(file));
    let (is_right, text) = check(&example);
    assert!(is_right, "{text}");
    let temporary = tempfile::tempdir().expect("a folder");
    let lines = fs::read_to_string(&example).expect("the example");
    let with_table = temporary.path().join("with-table.toml");
    let of_table = |line: &str| {
        ["[[archive.table]]", "name = ", "meter = ", "columns = "].iter().any(|head| line.starts_with(head))
    };
    let uncommented = lines.lines().map(|line| line.strip_prefix("# ").filter(|rest| of_table(rest)).unwrap_or(line));
    fs::write(&with_table, uncommented.collect::<Vec<_>>().join("\n")).expect("written");
    let (is_right, text) = check(&with_table);
    assert!(
        is_right && fs::read_to_string(&with_table).expect("it").contains("\n[[archive.table]]\nname = "),
        "{text}"
    );
    for (right, wrong, part) in [
        ("deadline = \"1s\"", "deadline = \"soon\"", "250ms"),
        ("in_flight = 4096", "in_flights = 4096", "in_flight"),
        ("redis = \"redis://", "redis = \"http://", "redis+sentinel"),
        ("listen = \"127.0.0.1:8080\"", "listen = \"localhost\"", "listen"),
    ] {
        let line = lines.lines().position(|line| line.contains(right)).expect("a line of the example") + 1;
        let file = temporary.path().join("meterd.toml");
        fs::write(&file, lines.replacen(right, wrong, 1)).expect("written");
        let (is_right, text) = check(&file);
        assert!(!is_right && text.contains(&format!("meterd.toml:{line}: ")), "{wrong}: {text}");
        assert!(text.contains(part) || text.contains("address"), "{wrong}: {text}");
    }
}

#[test]
fn the_units_lines_are_right() {
    let unit = fs::read_to_string(folder().join("meterd.service")).expect("the unit");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    // The program takes what the unit gives it: only the file is missing here.
    let (is_right, text) = said(Command::new(env!("CARGO_BIN_EXE_meterd")).args(&words));
    assert!(!is_right && text.contains("/etc/meterd/meterd.toml"), "{text}");
    if fs::exists("/usr/bin/systemd-analyze").unwrap_or(false) {
        let (_, text) = said(Command::new("systemd-analyze").arg("verify").arg(folder().join("meterd.service")));
        assert!(!text.contains("Unknown"), "{text}");
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let (is_right, text) = said(Command::new("promtool").args(["check", "rules"]).arg(folder().join("alerts.yml")));
    assert!(is_right, "{text}");
    let server = Server::start(testkit::programs().last().expect("a server program"), &[]);
    let names = metrics(&server);
    let rules = fs::read_to_string(folder().join("alerts.yml")).expect("the rules");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(folder().join("grafana.json")).expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions: Vec<String> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("an expression").to_owned())
        .chain([rules])
        .collect();
    for expression in expressions {
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for word in words.filter(|word| word.starts_with("meterd_") || word.starts_with("redis_meter_")) {
            assert!(names.contains(word), "there is no metric {word}, which {expression} asks for: {names:?}");
        }
    }
    let places: BTreeSet<(i64, i64)> = panels
        .iter()
        .map(|panel| (panel["gridPos"]["x"].as_i64().expect("x"), panel["gridPos"]["y"].as_i64().expect("y")))
        .collect();
    assert_eq!(places.len(), panels.len(), "two panels lie on each other");
}

/// The names of all metrics that a meterd has after some requests.
fn metrics(server: &Server) -> BTreeSet<String> {
    let meterd = service::Meterd::start(server);
    meterd.wait_until_ready();
    meterd.post("/v1/hits", r#"{"meter":"m"}"#);
    let text = meterd.get("/metrics").body;
    let names = text.lines().filter(|line| !line.starts_with('#'));
    names.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

mod service;
