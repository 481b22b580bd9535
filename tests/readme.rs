//! What the README shows is what a server answers.

mod support;

use support::{Client, Value, on_every_server};

const README: &str = include_str!("../README.md");

/// The blocks of commands and their answers: those that begin with a prompt.
fn sessions() -> Vec<&'static str> {
    let blocks = README.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix("text\n")).filter(|block| block.starts_with("> ")).collect()
}

/// A reply as redis-cli prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Int(number) => format!("(integer) {number}\n"),
        Value::BulkString(bytes) => format!("\"{}\"\n", bytes.escape_ascii()),
        Value::Array(items) if items.is_empty() => "(empty array)\n".to_owned(),
        Value::Array(items) => {
            let width = items.len().to_string().len();
            let mut text = String::new();
            for (place, item) in (1..).zip(items) {
                let indent = " ".repeat(width + 2);
                text += &format!("{place:width$}) {}", printed(item).trim_end().replace('\n', &format!("\n{indent}")));
                text.push('\n');
            }
            text
        }
        Value::SimpleString(status) => format!("{status}\n"),
        Value::Okay => "OK\n".to_owned(),
        other => panic!("the README shows no {other:?}"),
    }
}

fn answer(redis: &mut Client, command: &str) -> String {
    match redis.try_run(command) {
        Ok(value) => printed(&value),
        Err(error) => format!("(error) {error}\n"),
    }
}

#[test]
fn every_answer_that_the_readme_shows_is_what_a_server_answers() {
    assert!(sessions().len() >= 4, "the README shows its commands");
    on_every_server(|server| {
        let mut redis = server.connect();
        for session in sessions() {
            for step in session.split("> ").skip(1) {
                let (command, expected) = step.split_once('\n').expect("a command and its answer");
                assert_eq!(answer(&mut redis, command), expected, "{command}");
            }
        }
    });
}
