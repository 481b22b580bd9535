//! The replies in the README and the pages of docs/ are those of a server.

use std::fs;
use std::path::Path;

use testkit::{Client, Server, Value, now_ms, on_every_program};

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
    /// The commands and their replies, in order, of the blocks that begin with a prompt.
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

/// The reply with `…` for each number that the page leaves open, because it depends on the clock.
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

/// Placeholders of a page and their values: `<now>` is the time in milliseconds, `<today>` its UTC date, and a batch id
/// of the page stands for the one that the server returned when it first appeared.
struct Unknowns(Vec<(String, String)>);

impl Unknowns {
    fn at(now: i64) -> Self {
        let today = chrono::DateTime::from_timestamp_millis(now).expect("an instant").format("%Y%m%d");
        Self(vec![("<now>".to_owned(), now.to_string()), ("<today>".to_owned(), today.to_string())])
    }

    /// Pairs the batch ids of a reply with those that the page shows, in their order.
    fn learn(&mut self, answer: &str, shown: &str) {
        for (ours, theirs) in batch_ids(shown).zip(batch_ids(answer)) {
            if !self.0.iter().any(|(known, real)| known == ours || real == theirs) {
                self.0.push((ours.to_owned(), theirs.to_owned()));
            }
        }
    }

    fn resolve(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
    }
}

/// The numbers of 32 hexadecimal digits.
fn batch_ids(text: &str) -> impl Iterator<Item = &str> {
    let is_digit = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
    text.split(move |letter| !is_digit(letter)).filter(|word| word.len() == 32)
}

#[test]
fn a_batch_id_stands_for_the_same_one_all_through_a_page() {
    let [shown, other, real] = ["a", "b", "c"].map(|digit| digit.repeat(32));
    let mut unknowns = Unknowns::at(1_660_054_277_326);
    assert_eq!(unknowns.resolve(&format!("ACK m {shown}")), format!("ACK m {shown}"), "not seen yet");
    unknowns.learn(&format!("m:sealed:{real}:day"), &format!("m:sealed:{shown}:day"));
    assert_eq!(unknowns.resolve(&format!("ACK m {shown}")), format!("ACK m {real}"));
    // Neither a second name for the same batch, nor a second batch of the same name.
    unknowns.learn(&real, &other);
    unknowns.learn(&other, &shown);
    assert_eq!(unknowns.resolve(&format!("{other} {shown}")), format!("{other} {real}"));
    assert_eq!(unknowns.resolve("<now> <today>"), "1660054277326 20220809");
}

#[test]
fn every_reply_that_a_page_shows_is_what_a_server_returns() {
    let documents = documents();
    for (name, at_least) in [("README.md", 4), ("docs/limiters.md", 20), ("docs/meters.md", 50)] {
        let document = documents.iter().find(|document| document.name == name).expect(name);
        assert!(document.steps().len() >= at_least, "{name} shows its commands");
    }
    on_every_program(|program| {
        for document in &documents {
            let server = Server::start(program, &[]);
            let mut redis = server.connect();
            let mut unknowns = Unknowns::at(now_ms());
            for (command, shown) in document.steps() {
                let answer = answer(&mut redis, &unknowns.resolve(command));
                unknowns.learn(&answer, &shown);
                let shown = unknowns.resolve(&shown);
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

/// The pages that stand at the root of the project, and those of docs/.
fn pages() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root).expect("the project").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<Document> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "md") && !path.ends_with("README.md"))
        .map(|path| Document {
            name: path.file_name().expect("a name").to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).expect("a text"),
        })
        .collect();
    pages.extend(documents());
    pages
}

impl Document {
    /// Its text without code blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// The names by which links reach its headings.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose();
        let headings =
            headings.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let is_kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | ' ');
        headings.map(|text| text.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
    }
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    for page in &pages {
        let here = root.join(&page.name);
        let prose = page.prose();
        for (at, _) in prose.match_indices("](") {
            let link = prose[at + 2..].split(')').next().expect("a link");
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { here.clone() } else { here.with_file_name("").join(file) };
            let target = target.canonicalize().unwrap_or_else(|_| panic!("{}: {link}", page.name));
            if anchor.is_empty() {
                continue;
            }
            let found = pages.iter().find(|page| root.join(&page.name).canonicalize().is_ok_and(|path| path == target));
            let anchors = found.unwrap_or_else(|| panic!("{}: {link} is no page", page.name)).anchors();
            assert!(anchors.iter().any(|known| known == anchor), "{}: {link}: no such heading", page.name);
        }
    }
}
