//! What is wrong in meterd.toml, and in a file of rules, in words that say what to write.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What `meterd config check` says of files in a folder.
fn check(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    let output = command.current_dir(folder).args(["config", "check"]).args(arguments).output().expect("meterd");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_value_of_another_kind_is_told_in_plain_words() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, told) in [
        ("in_flight = \"many\"", "1: invalid type: string \"many\", expected a whole number of at least 0"),
        ("in_flight = -1", "1: invalid value: integer `-1`, expected a whole number of at least 0"),
        ("\n[archive]\nreplicas = 1.5", "3: invalid type: floating point `1.5`, expected a whole number of at least 0"),
        ("token = 5", "1: invalid type: integer `5`, expected a list"),
        ("archive = 5", "1: invalid type: integer `5`, expected a table: [archive]"),
        ("limits = 3", "1: invalid type: integer `3`, expected the path of a file, in quotes"),
        (
            "listen = \"localhost:8080\"",
            "1: \"localhost:8080\" is no address to listen on: write an IP address and a port, such as 127.0.0.1:8080 \
             or [::1]:8080",
        ),
        ("deadline = \"soon\"", "1: \"soon\" is no duration: write 250ms, 10s or 1h"),
    ] {
        fs::write(folder.path().join("meterd.toml"), text).expect("written");
        assert_eq!(check(folder.path(), &[]), (Some(1), format!("meterd: meterd.toml:{told}\n")), "{text}");
    }
}

#[test]
fn so_is_one_in_a_file_of_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: minute, requests_per_unit: -5 }\n";
    for (text, told) in [
        ("- a", "1: expected fields, such as  domain: name"),
        ("domain: d\ndescriptors: 5", "2: expected a list: lines that begin with -"),
        (rule, "4: expected a whole number of at least 0"),
    ] {
        fs::write(folder.path().join("limits.yaml"), text).expect("written");
        let (code, said) = check(folder.path(), &["limits.yaml"]);
        assert_eq!((code, said), (Some(1), format!("meterd: limits.yaml:{told}\n")), "{text}");
    }
}

#[test]
fn an_address_on_the_command_line_is_read_as_the_one_in_the_file() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    let output = command.args(["serve", "--listen", "localhost:8080"]).output().expect("meterd");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("write an IP address and a port, such as 127.0.0.1:8080"),
        "{said}"
    );
}
