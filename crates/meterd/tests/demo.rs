//! `make demo` runs, and the README shows what it prints.

use std::fs;
use std::process::{Command, Stdio};

/// The text with the port of this run as the README shows it, and without the time that the archive took.
fn as_shown(text: &str) -> String {
    let lines = text.lines().map(|line| match line.rsplit_once(" in ") {
        Some((start, _)) if line.contains(" rows to ") => start.to_owned(),
        _ => match line.split_once("127.0.0.1:") {
            Some((start, rest)) => {
                format!("{start}127.0.0.1:8080{}", rest.trim_start_matches(|letter: char| letter.is_ascii_digit()))
            }
            None => line.to_owned(),
        },
    });
    lines.map(|line| line + "\n").collect()
}

#[test]
fn the_readme_shows_what_the_demonstration_prints() {
    let root = testkit::root();
    let program = testkit::programs().iter().find(|program| {
        let name = program.path.display().to_string();
        fs::exists(format!("{}-cli", name.trim_end_matches("-server"))).unwrap_or(false)
    });
    let mut command = Command::new(root.join("scripts/with-server"));
    if let Some(program) = program {
        command.env("METER_SERVER", &program.path);
    }
    let output = command
        .arg(root.join("scripts/demo"))
        .env("METER_METERD", env!("CARGO_BIN_EXE_meterd"))
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let printed = as_shown(&printed);
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let blocks = readme.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("text\n"));
    let blocks: Vec<&str> = blocks.filter(|block| block.starts_with("$ ")).collect();
    assert!(blocks.len() >= 3, "the README shows meterd");
    for block in blocks {
        assert!(printed.contains(&format!("\n{}", as_shown(block))), "{block}\nis not in\n{printed}");
    }
    assert!(printed.contains("The page of meterd is at http://127.0.0.1:8080/\n"), "{printed}");
    // Its last answer has the hour of the archive and that of Redis.
    assert!(printed.contains(r#"{"14":"1","15":"2","day":"3"}"#), "{printed}");
}
