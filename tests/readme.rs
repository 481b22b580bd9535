//! What the README and the pages of docs/ show is what a server answers.

mod support;

use std::fs;
use std::path::Path;

use support::{Client, Server, Value, on_every_program};

/// A page, by its name.
struct Document {
    name: String,
    text: String,
}

/// The README, and every page of docs/.
fn documents() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("docs/").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.push(root.join("README.md"));
    paths.sort();
    let read = |path: &Path| Document {
        name: path.strip_prefix(root).expect("within the project").display().to_string(),
        text: fs::read_to_string(path).expect("a text"),
    };
    paths.iter().map(|path| read(path)).collect()
}

impl Document {
    /// The commands and their answers, in order: what stands in the blocks that begin with a prompt.
    fn steps(&self) -> Vec<(&str, String)> {
        let blocks = self.text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("text\n"));
        let mut steps: Vec<(&str, String)> = Vec::new();
        for line in blocks.filter(|block| block.starts_with("> ")).flat_map(str::lines) {
            match line.strip_prefix("> ") {
                Some(command) => steps.push((command, String::new())),
                None => steps.last_mut().expect("a block begins with a prompt").1 += &format!("{line}\n"),
            }
        }
        steps
    }
}

/// A reply as redis-cli prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Nil => "(nil)\n".to_owned(),
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
        other => panic!("no page shows {other:?}"),
    }
}

fn answer(redis: &mut Client, command: &str) -> String {
    match redis.try_run(command) {
        Ok(value) => printed(&value),
        Err(error) => format!("(error) {error}\n"),
    }
}

/// The answer with `…` for each number that the page leaves open, because it depends on the clock.
fn as_shown(answer: &str, shown: &str) -> String {
    let mut text = String::new();
    for (place, line) in answer.lines().enumerate() {
        let open = shown.lines().nth(place).and_then(|line| line.strip_suffix('…'));
        let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        match open.filter(|start| line.strip_prefix(start).is_some_and(is_number)) {
            Some(start) => text += &format!("{start}…\n"),
            None => text += &format!("{line}\n"),
        }
    }
    text
}

#[test]
fn every_answer_that_a_page_shows_is_what_a_server_answers() {
    let documents = documents();
    for (name, at_least) in [("README.md", 4), ("docs/limiters.md", 20)] {
        let document = documents.iter().find(|document| document.name == name).expect(name);
        assert!(document.steps().len() >= at_least, "{name} shows its commands");
    }
    on_every_program(|program| {
        for document in &documents {
            let server = Server::start(program, &[]);
            let mut redis = server.connect();
            for (command, shown) in document.steps() {
                let answer = answer(&mut redis, command);
                assert_eq!(as_shown(&answer, &shown), shown, "{}: {command}", document.name);
            }
        }
    });
}

#[test]
fn every_picture_that_a_page_shows_is_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for document in documents() {
        for (_, link) in document.text.match_indices("](img/").map(|(at, _)| document.text.split_at(at + 2)) {
            let path = link.split(')').next().expect("a link");
            assert!(docs.join(path).is_file(), "{}: {path}", document.name);
        }
    }
}
