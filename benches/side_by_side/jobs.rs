//! What a job is, and what the jobs have in common. What is to be compared is done to keys of the same number and
//! length, with values of the same size, and hashes of the same shape; no two jobs that write share a key.

use testkit::load::{Calls, Client};

/// Existing keys of a job, called in turn. Calls on one key are further apart than the client has under way at once, so
/// that they stay in order.
pub(crate) const HOT_KEYS: usize = 1_000;
/// Keys or ids of a job that needs a new one for each call: as many as the longest measurement has calls.
pub(crate) const NEW: usize = 20_000;

pub(crate) const OK: &[&str] = &["+OK"];
pub(crate) const INTEGER: &[&str] = &[":"];

/// Jobs that are compared with each other.
pub(crate) struct Group {
    pub(crate) jobs: Vec<Job>,
    /// What is compared: this one in units of that one.
    pub(crate) ratios: &'static [(&'static str, &'static str)],
}

/// Calls whose cost is measured.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) calls: Calls,
    /// The commands whose time is the job's, as INFO commandstats names them. A script's time includes that of the
    /// commands it calls, and that of EXEC those of the transaction.
    pub(crate) commands: Vec<String>,
    /// A counter of INFO that each call should raise by one.
    pub(crate) counter: Option<&'static str>,
    seed: Vec<Calls>,
    prepare: Option<Calls>,
}

impl Job {
    pub(crate) fn new(name: &'static str, commands: &[&str], calls: Calls) -> Self {
        let commands = commands.iter().map(|command| command.to_lowercase()).collect();
        Self { name, calls, commands, counter: None, seed: Vec::new(), prepare: None }
    }

    pub(crate) fn counted_by(self, counter: impl Into<Option<&'static str>>) -> Self {
        Self { counter: counter.into(), ..self }
    }

    /// With calls that are made once, before the first round.
    pub(crate) fn seeded(mut self, seed: Calls) -> Self {
        self.seed.push(seed);
        self
    }

    /// With calls that are made before each measurement.
    pub(crate) fn prepared(self, prepare: Calls) -> Self {
        Self { prepare: Some(prepare), ..self }
    }

    pub(crate) fn seed(&self, client: &mut Client) {
        self.seed.iter().for_each(|calls| run_once(calls, client));
    }

    pub(crate) fn prepare(&self, client: &mut Client) {
        self.prepare.iter().for_each(|calls| run_once(calls, client));
    }
}

fn run_once(calls: &Calls, client: &mut Client) {
    client.run(calls, 0, calls.count(), 100);
}

/// Whether the server has a command.
pub(crate) fn has(control: &mut testkit::Client, command: &str) -> bool {
    let found = control.try_call(&[b"COMMAND", b"INFO", command.as_bytes()]).expect("what is known of it");
    !matches!(redis::from_redis_value::<Vec<testkit::Value>>(found).expect("a list").as_slice(), [testkit::Value::Nil])
}

/// A way to run Lua in the server.
#[derive(Clone, Copy)]
pub(crate) enum Lua {
    /// A script, by its digest: `EVALSHA`.
    Script,
    /// A function of a library, from Redis 7.0 on: `FCALL`.
    Function,
}

impl Lua {
    /// The command that calls it.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Script => "EVALSHA",
            Self::Function => "FCALL",
        }
    }

    /// Loads it under this name; the beginning of a call, up to the number of its keys.
    pub(crate) fn load(self, control: &mut testkit::Client, name: &str, script: &str) -> String {
        match self {
            Self::Script => {
                let sha = control.try_call(&[b"SCRIPT", b"LOAD", script.as_bytes()]).expect("a script");
                format!("EVALSHA {}", redis::from_redis_value::<String>(sha).expect("its digest"))
            }
            Self::Function => {
                let function = format!("redis.register_function('{name}', function(KEYS, ARGV)\n{script}\nend)");
                let library = format!("#!lua name={name}\n{function}");
                control.try_call(&[b"FUNCTION", b"LOAD", b"REPLACE", library.as_bytes()]).expect("a library");
                format!("FCALL {name}")
            }
        }
    }
}
