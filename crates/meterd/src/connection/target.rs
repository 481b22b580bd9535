//! Where Redis is: the URL of a server, a cluster or a Sentinel.

use std::fmt;
use std::fs;
use std::path::Path;

use redis::{ClientTlsConfig, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates, parse_redis_url};
use serde::{Deserialize, Deserializer};

use crate::config::{Error, RedisTls};

/// A server, a cluster, or a server that Sentinel names.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) kind: Kind,
    /// The certificates to trust and to show, in place of the system's.
    pub(super) certificates: Option<Certificates>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Server(Box<ConnectionInfo>),
    Cluster(Vec<ConnectionInfo>),
    /// The Sentinels, with what the servers behind them need, and the name of the primary.
    Sentinel {
        nodes: Vec<ConnectionInfo>,
        name: String,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Certificates {
    client: Option<(Vec<u8>, Vec<u8>)>,
    root: Option<Vec<u8>>,
}

impl Certificates {
    pub(super) fn get(&self) -> TlsCertificates {
        let client = self.client.clone();
        let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.root.clone() }
    }
}

const FORMS: &str = "write redis://host:port, rediss://, unix://, redis+cluster://h1,h2 or redis+sentinel://h1,h2/name";

impl Target {
    /// Reads a URL. User and password stand before the host, as `user:password@`; a number after a slash is the
    /// database of a server, or follows the name of a Sentinel's primary.
    ///
    /// # Errors
    /// A sentence that says which part is wrong; it never shows the password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("this is no URL: {FORMS}"))?;
        let kind = match scheme {
            "redis" | "rediss" => Kind::Server(Box::new(node(url)?)),
            "unix" | "redis+unix" => Kind::Server(Box::new(node(&unix(rest))?)),
            "redis+cluster" => Kind::Cluster(nodes("redis", rest, "")?.0),
            "rediss+cluster" => Kind::Cluster(nodes("rediss", rest, "")?.0),
            "redis+sentinel" => sentinel("redis", rest)?,
            "rediss+sentinel" => sentinel("rediss", rest)?,
            _ => return Err(format!("{scheme}:// is not known: {FORMS}")),
        };
        Ok(Self { kind, certificates: None })
    }

    /// With the certificates of `[redis_tls]`.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn with_tls(mut self, tls: Option<RedisTls>) -> Result<Self, Error> {
        let Some(tls) = tls else { return Ok(self) };
        let client = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(Error::new("redis_tls: cert and key go together: give both, or neither")),
        };
        let root = tls.ca.as_deref().map(read).transpose()?;
        self.certificates = Some(Certificates { client, root });
        Ok(self)
    }

    /// Whether keys are spread over nodes.
    pub fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::parse("redis://127.0.0.1:6379").expect("a right URL")
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let url = String::deserialize(from)?;
        Self::parse(&url).map_err(|error| serde::de::Error::custom(format!("redis: {error}")))
    }
}

/// Without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[ConnectionInfo]| {
            let names: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
            names.join(",")
        };
        match &self.kind {
            Kind::Server(server) => server.addr().fmt(f),
            Kind::Cluster(nodes) => write!(f, "cluster {}", list(nodes)),
            Kind::Sentinel { nodes, name } => write!(f, "{name} of Sentinel {}", list(nodes)),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::in_file(path, format!("not readable: {error}")))
}

fn node(url: &str) -> Result<ConnectionInfo, String> {
    let parsed = parse_redis_url(url).ok_or_else(|| format!("this is no URL: {FORMS}"))?;
    parsed.into_connection_info().map_err(|error| error.to_string())
}

/// `user:password@/path` in the form that the client library reads.
fn unix(rest: &str) -> String {
    let Some((login, path)) = rest.split_once('@').filter(|(login, _)| !login.contains('/')) else {
        return format!("unix://{rest}");
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let join = if path.contains('?') { '&' } else { '?' };
    let user = if user.is_empty() { String::new() } else { format!("user={user}&") };
    format!("unix://{path}{join}{user}pass={password}")
}

/// `user:password@h1:p1,h2:p2/rest`: the nodes, and what follows the slash.
fn nodes<'a>(scheme: &str, rest: &'a str, db: &str) -> Result<(Vec<ConnectionInfo>, &'a str), String> {
    let (hosts, after) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match hosts.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), hosts),
    };
    let hosts = hosts.split(',').filter(|host| !host.is_empty());
    let nodes: Result<Vec<_>, _> = hosts.map(|host| node(&format!("{scheme}://{login}{host}/{db}"))).collect();
    match nodes? {
        nodes if nodes.is_empty() => Err(format!("there is no host: {FORMS}")),
        nodes => Ok((nodes, after)),
    }
}

fn sentinel(scheme: &str, rest: &str) -> Result<Kind, String> {
    let after = rest.split_once('/').map_or("", |(_, after)| after);
    let (name, db) = after.split_once('/').unwrap_or((after, ""));
    if name.is_empty() {
        return Err("the name of the primary is missing: write redis+sentinel://h1,h2/name".to_owned());
    }
    // A Sentinel listens on 26379 unless the URL says otherwise.
    let (hosts, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(login, hosts)| (login, hosts));
    let with_port = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:26379"),
    };
    let hosts: Vec<String> = hosts.split(',').filter(|host| !host.is_empty()).map(with_port).collect();
    let at = if login.is_empty() { "" } else { "@" };
    let (nodes, _) = nodes(scheme, &format!("{login}{at}{}", hosts.join(",")), db)?;
    Ok(Kind::Sentinel { nodes, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_url_is_read_and_no_password_is_shown() {
        for (url, shown) in [
            ("redis://h", "h:6379"),
            ("rediss://user:secret@h:7000/3", "h:7000"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
            ("unix://user:secret@/run/redis.sock", "/run/redis.sock"),
            ("redis+cluster://user:secret@h1:7000,h2:7001", "cluster h1:7000,h2:7001"),
            ("redis+sentinel://:secret@h1,h2:26380/main/2", "main of Sentinel h1:26379,h2:26380"),
        ] {
            let target = Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(target.to_string(), shown);
        }
    }

    #[test]
    fn a_wrong_url_is_told_what_would_be_right() {
        for (url, part) in [
            ("localhost:6379", "no URL"),
            ("http://h", "http:// is not known"),
            ("redis+cluster://", "no host"),
            ("redis+sentinel://h1,h2", "name of the primary"),
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(error.contains(part) && error.contains("redis+sentinel"), "{error}");
        }
    }
}
