//! The page in a real browser, and the HTTP interface under a tester that makes up requests from its description.
//! `scripts/fetch-meterd-tools` fetches both.

mod service;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use service::{Meterd, server};

/// Seconds until a tester is taken to hang.
const TIMEOUT: &str = "240";

fn tools(name: &str) -> PathBuf {
    let folder = testkit::root().join(".clients").join(format!("meterd-{name}"));
    assert!(folder.join(".from").exists(), "{} is missing: run scripts/fetch-meterd-tools", folder.display());
    folder
}

fn run(command: &mut Command) {
    let output = command.output().expect("timeout of coreutils");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_page_shows_what_moves_and_asks_nobody_else() {
    let server = server(&[]);
    let rules = server.folder.path().join("limits.yaml");
    let rule = "  - key: login\n    rate_limit: { algorithm: window, period: 1h, limit: 2 }\n";
    fs::write(&rules, format!("domain: shop\ndescriptors:\n{rule}")).expect("written");
    let url = format!("redis://127.0.0.1:{}", server.port);
    let meterd = Meterd::try_with(&url, "", &["--limits", rules.to_str().expect("a path")]).expect("meterd");
    meterd.wait_until_ready();
    let script = testkit::root().join("crates/meterd/tests/page/page.test.mjs");
    run(Command::new("timeout")
        .args([TIMEOUT, "node", "--test", "--test-reporter=spec"])
        .arg(script)
        .env("METER_URL", format!("http://127.0.0.1:{}", meterd.port))
        .env("METER_PORT", server.port.to_string())
        .env("METER_CLIENTS", tools("page")));
}

#[test]
fn the_interface_is_as_its_description_says() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let url = format!("http://127.0.0.1:{}/openapi.json", meterd.port);
    // The stream has no end, and what is not described may be more than is asked for.
    run(Command::new("timeout").arg(TIMEOUT).arg(tools("schema").join("bin/schemathesis")).current_dir(meterd.folder.path()).args([
        "run",
        &url,
        "--exclude-path",
        "/v1/events",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "15",
        "--seed",
        "1",
        "--no-color",
    ]));
}
