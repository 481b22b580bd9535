//! The grammar of a command is in several places: in the parser, in errors, in COMMAND DOCS, in the README and the
//! reference, and in the catalogue of sample calls. These tests compare them.

use std::collections::BTreeSet;

use testkit::catalogue::{CATALOGUE, Sample};
use testkit::{Client, Program, Server, Value, date, now_ms, on_every_program};

type Words = BTreeSet<String>;

fn start(program: &Program) -> Server {
    Server::with_module(program, "cl-throttle yes", &[])
}

/// The words of a text that are keywords: capital letters only.
fn keywords(text: &str) -> Words {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-:".contains(c)));
    let is_keyword = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    words.filter(is_keyword).filter(|word| !["ERR", "NOW", "BATCH"].contains(word)).map(str::to_owned).collect()
}

/// An argument, as COMMAND DOCS describes it.
struct Argument {
    name: String,
    kind: String,
    token: Option<String>,
    is_optional: bool,
    parts: Vec<Argument>,
}

fn elements(value: &Value) -> &[Value] {
    let Value::Array(elements) = value else { panic!("{value:?} is no array") };
    elements
}

fn text(value: &Value) -> String {
    redis::from_redis_value(value.clone()).expect("a text")
}

/// The value after a name in a flat array.
fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    elements(map).chunks(2).find(|pair| text(&pair[0]) == name).map(|pair| &pair[1])
}

impl Argument {
    fn read(map: &Value) -> Self {
        let flags = field(map, "flags").map(|flags| elements(flags).iter().map(text).collect()).unwrap_or_default();
        let flags: Vec<String> = flags;
        Self {
            name: field(map, "name").map(text).expect("a name"),
            kind: field(map, "type").map(text).expect("a type"),
            token: field(map, "token").map(text),
            is_optional: flags.iter().any(|flag| flag == "optional"),
            parts: field(map, "arguments").map(Self::read_all).unwrap_or_default(),
        }
    }

    fn read_all(list: &Value) -> Vec<Self> {
        elements(list).iter().map(Self::read).collect()
    }

    fn tokens(&self) -> Words {
        self.token.iter().cloned().chain(self.parts.iter().flat_map(Self::tokens)).collect()
    }

    /// The words of the argument in a call; the last of several alternatives.
    fn words(&self) -> Vec<String> {
        let value = match &self.kind[..] {
            "pure-token" => Vec::new(),
            "oneof" => self.parts.last().expect("an alternative").words(),
            "block" => self.parts.iter().flat_map(Self::words).collect(),
            _ => vec![sane(&self.name)],
        };
        self.token.iter().cloned().chain(value).collect()
    }
}

/// A value that an argument of this name may have.
fn sane(name: &str) -> String {
    match name {
        "key" | "queue" | "limiter" | "list" | "member" | "id" | "event-id" | "holder" => format!("a-{name}"),
        "max_burst" | "count" | "period" | "ttl" | "quantity" | "limit" | "n" | "depth" | "block" => "1".to_owned(),
        "timeout" => "0.001".to_owned(),
        "unix-time-milliseconds" => now_ms().to_string(),
        "date" | "first-date" | "last-date" => date(now_ms()),
        "offset" => "+05:45".to_owned(),
        "upto" => "inf".to_owned(),
        "price" => "0.02".to_owned(),
        "batch-id" => "0".repeat(32),
        other => panic!("say what an argument named '{other}' may be"),
    }
}

/// A command's arguments in COMMAND DOCS.
fn documented(redis: &mut Client, command: &str) -> Vec<Argument> {
    let docs = redis.run(&format!("COMMAND DOCS {command}"));
    let docs = field(&docs, &command.to_lowercase()).unwrap_or_else(|| panic!("{command} is not documented")).clone();
    field(&docs, "arguments").map(Argument::read_all).unwrap_or_default()
}

fn tokens(arguments: &[Argument]) -> Words {
    arguments.iter().flat_map(Argument::tokens).collect()
}

/// Calls `check` with every command that is documented.
fn each(check: impl Fn(&mut Client, &Sample, &[Argument]) + Sync) {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // Redis 6.2 documents no command
        }
        let server = start(program);
        let mut redis = server.connect();
        for sample in CATALOGUE {
            redis.run("FLUSHALL");
            let arguments = documented(&mut redis, sample.command);
            check(&mut redis, sample, &arguments);
        }
    });
}

#[test]
fn the_catalogue_has_the_commands_that_the_server_has() {
    on_every_program(|program| {
        let server = start(program);
        let listed = server.connect().run("COMMAND");
        let names = elements(&listed).iter().map(|info| text(&elements(info)[0]).to_uppercase());
        let names: Words = names.filter(|name| name.contains('.')).collect();
        let catalogue: Words = CATALOGUE.iter().map(|sample| sample.command.to_owned()).collect();
        assert_eq!(names, catalogue);
        assert_eq!(CATALOGUE.len(), catalogue.len(), "each command once");
    });
}

#[test]
fn every_call_of_the_catalogue_passes() {
    on_every_program(|program| {
        let server = start(program);
        let mut redis = server.connect();
        let mut batch = String::new();
        for sample in CATALOGUE {
            for line in sample.lines() {
                let line = line.replace("NOW", &now_ms().to_string()).replace("BATCH", &batch);
                let answer = redis.try_run(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                if sample.command == "METER.SEAL" && elements(&answer)[0] != Value::Nil {
                    batch = text(&elements(&answer)[0]);
                }
            }
        }
    });
}

#[test]
fn the_catalogue_has_the_keywords_that_are_documented() {
    each(|_, sample, arguments| {
        let used: Words = sample.calls.iter().flat_map(|call| keywords(call)).collect();
        assert_eq!(used, tokens(arguments), "{}", sample.command);
    });
}

#[test]
fn calls_made_from_the_documentation_pass() {
    each(|redis, sample, arguments| {
        if sample.command == "METER.ACK" {
            return; // needs a batch
        }
        let with = |is_wanted: &dyn Fn(&Argument) -> bool| {
            let words = arguments.iter().filter(|argument| is_wanted(argument)).flat_map(Argument::words);
            format!("{} {}", sample.command, words.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
        };
        redis.run("LPUSH a-queue a b c");
        for line in [with(&|argument| !argument.is_optional), with(&|_| true)] {
            let _ = redis.try_run(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for option in arguments.iter().filter(|argument| argument.is_optional) {
            let line = with(&|argument| !argument.is_optional || argument.name == option.name);
            if let Err(error) = redis.try_run(&line) {
                assert!(error.contains(" needs "), "alone it passes, or needs another: {line}: {error}");
            }
        }
    });
}

#[test]
fn errors_name_the_keywords_that_are_documented() {
    each(|redis, sample, arguments| {
        // Mistakes in every place, and at the end, where an option or one more number may come.
        let call = sample.calls[0].replace("NOW", &now_ms().to_string());
        let words: Vec<&str> = call.split_whitespace().collect();
        let mut mistakes = vec![[&words[..], &["BOGUS"]].concat(), [&words[..], &["1", "BOGUS"]].concat()];
        mistakes.extend((1..words.len()).map(|place| [&words[..place], &["BOGUS"], &words[place + 1..]].concat()));
        let errors =
            mistakes.iter().filter_map(|words| redis.try_run(&format!("{} {}", sample.command, words.join(" "))).err());
        let errors: Vec<String> = errors.collect();
        let told: Words = errors.iter().flat_map(|error| keywords(&error.replace("BOGUS", ""))).collect();
        assert!(!errors.is_empty(), "{}: a mistake passes", sample.command);
        assert_eq!(told, tokens(arguments), "{}: {errors:?}", sample.command);
    });
}

#[test]
fn errors_name_the_argument_that_is_wrong() {
    each(|redis, sample, arguments| {
        let placed = arguments.iter().take_while(|argument| argument.token.is_none());
        for (place, argument) in placed.enumerate() {
            if !["integer", "double"].contains(&&argument.kind[..]) {
                continue;
            }
            let mut words: Vec<String> =
                arguments.iter().filter(|one| one.token.is_none()).flat_map(Argument::words).collect();
            words[place] = "bogus".to_owned();
            let error = redis.error(&format!("{} {}", sample.command, words.join(" ")));
            assert!(
                error.contains(&argument.name) && error.contains("'bogus'"),
                "{} of {}: {error}",
                argument.name,
                sample.command
            );
        }
    });
}

/// The grammars of a command in a page: what stands in backquotes and begins with its name.
fn grammars(page: &str, command: &str) -> Vec<Words> {
    let spans = page.split('`').skip(1).step_by(2);
    let grammars = spans.filter_map(|span| span.strip_prefix(command)?.strip_prefix(' '));
    grammars.map(|grammar| keywords(&grammar.replace("\\|", " "))).collect()
}

#[test]
fn the_readme_and_the_reference_have_the_keywords_that_are_documented() {
    let page = |path: &str| std::fs::read_to_string(testkit::root().join(path)).expect("a page");
    let pages = [page("README.md"), page("docs/meters.md") + &page("docs/limiters.md")];
    each(|_, sample, arguments| {
        let Some(command) = Some(sample.command).filter(|name| !name.ends_with("_RO") && !sample.is_on_request())
        else {
            return; // same grammar as the command without _RO, or as CELL.THROTTLE
        };
        if !arguments.iter().any(|argument| argument.token.is_some() || argument.kind == "oneof") {
            return;
        }
        for page in &pages {
            let found = grammars(page, command);
            assert!(found.contains(&tokens(arguments)), "{command}: {found:?}, not {:?}", tokens(arguments));
        }
    });
}
