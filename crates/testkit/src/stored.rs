//! All keys of a server, for comparison with those of another: to the byte and the millisecond.

use crate::{Client, Entry, Server, Value};

/// A key of one of the databases.
pub struct StoredKey {
    pub database: usize,
    pub entry: Entry,
    encoding: String,
    dump: Value,
}

/// All keys of a server in its first `databases` databases.
pub fn stored_keys(server: &Server, databases: usize) -> Vec<StoredKey> {
    let mut redis = server.connect();
    let mut all = Vec::new();
    for database in 0..databases {
        redis.run(&format!("SELECT {database}"));
        all.extend(redis.contents().into_iter().map(|entry| StoredKey::of(&mut redis, database, entry)));
    }
    all
}

impl StoredKey {
    fn of(redis: &mut Client, database: usize, entry: Entry) -> Self {
        let encoding = redis.try_call(&[b"OBJECT", b"ENCODING", &entry.key]).expect("an encoding");
        let encoding = redis::from_redis_value(encoding).expect("a text");
        let dump = redis.try_call(&[b"DUMP", &entry.key]).expect("a dump");
        Self { database, entry, encoding, dump }
    }
}

/// Panics if two servers do not have the same keys; `how` names the one that was `found`.
#[track_caller]
pub fn assert_same(found: &[StoredKey], expected: &[StoredKey], how: &str) {
    let keys = |all: &[StoredKey]| all.iter().map(|key| (key.database, key.entry.key.clone())).collect::<Vec<_>>();
    let (found_keys, expected_keys) = (keys(found), keys(expected));
    let shown = |(database, key): &(usize, Vec<u8>)| format!("{database} {}", key.escape_ascii());
    for (one, other) in [(&found_keys, &expected_keys), (&expected_keys, &found_keys)] {
        let extra: Vec<String> = one.iter().filter(|key| !other.contains(key)).map(shown).collect();
        assert!(extra.is_empty(), "{how}: {extra:?} is only {}", if one == &found_keys { "there" } else { "here" });
    }
    for ((found, expected), key) in found.iter().zip(expected).zip(&expected_keys) {
        assert_eq!(found.entry, expected.entry, "{how}: {}", shown(key));
        // A value that has grown keeps the encoding of a big one when it shrinks, while one that is loaded gets that of
        // its size; lists are cut into nodes as they grow. The order of big hashes and sets depends on a random seed.
        let is_compact = ["listpack", "ziplist", "intset"].contains(&&found.encoding[..]);
        if found.entry.kind == "string" || is_compact && found.encoding == expected.encoding {
            assert_eq!(found.dump, expected.dump, "{how}: {}", shown(key));
        }
    }
}
