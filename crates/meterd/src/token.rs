//! Tokens: who may do what, by which keys.

use std::fmt::Write as _;

use clap::Subcommand;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::config;
use crate::say::say;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Count hits.
    Hit,
    /// Read usage.
    Read,
    /// Ask limits.
    Check,
    /// See limits, the archive and metrics; no prefix narrows it.
    Admin,
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All there are.
    pub const ALL: Self = Self(0b1111);

    /// Whether `role` is one of them.
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// With one more.
    #[must_use]
    pub fn and(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let mut roles = Self::default();
        for name in &names {
            let role = <Role as clap::ValueEnum>::from_str(name, false);
            roles = roles.and(role.map_err(|_| {
                serde::de::Error::custom(format!("there is no role \"{name}\": use hit, read, check or admin"))
            })?);
        }
        if roles == Self::default() {
            return Err(serde::de::Error::custom("a token without a role is of no use: add hit, read, check or admin"));
        }
        Ok(roles)
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of this secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// As 64 hex digits.
    pub fn hex(self) -> String {
        hex(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("sha256 is 64 hex digits, the hash of the secret: take it from meterd token new")
        })
    }
}

/// A token, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The hash of the secret.
    pub sha256: Hash,
    /// What it allows.
    pub roles: Roles,
    /// The keys that it reaches begin with one of these; all keys if there is none.
    #[serde(default)]
    pub prefixes: Vec<String>,
}

impl Token {
    /// Whether it reaches this key.
    pub fn reaches(&self, key: &[u8]) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
    }
}

/// `meterd token`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints a new secret, once, and the lines for meterd.toml
    New {
        /// What it allows
        #[arg(long, value_delimiter = ',', required = true, value_enum)]
        role: Vec<Role>,
        /// The keys that it reaches begin so; may be repeated
        #[arg(long)]
        prefix: Vec<String>,
    },
}

/// Runs `meterd token`.
///
/// # Errors
/// When the system has no random bytes.
pub fn run(command: &Command) -> Result<(), config::Error> {
    let Command::New { role, prefix } = command;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| config::Error::new(format!("no random bytes: {error}")))?;
    let secret = format!("mtr_{}", hex(&random));
    let roles: Vec<String> = role.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
    say!("The secret, which is shown this once:\n\n    {secret}\n\nThe lines for meterd.toml:\n");
    say!("[[token]]\nsha256 = \"{}\"\nroles = {roles:?}", Hash::of(&secret).hex());
    if !prefix.is_empty() {
        say!("prefixes = {}", toml::Value::from(prefix.clone()));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_printed() {
        let hash = Hash::of("secret");
        assert_eq!(Hash::parse(&hash.hex()), Some(hash));
        assert_eq!(hash.hex(), "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        for wrong in ["", "2bb8", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }
}
