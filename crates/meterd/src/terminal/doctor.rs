//! `meterd doctor`: what is wrong for those who bill by these counts, and the line that mends it.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use redis::Value;

use crate::archive::{Archive, Archiver, Options};
use crate::config::Config;
use crate::connection::{Link, Target};
use crate::patience::Patience;
use crate::say::say;

/// Says what is wrong for billing with server, module, persistence, eviction, replicas and archive
#[derive(Debug, Args)]
pub struct Arguments {}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Right,
    /// It can lose counts, or make an archive differ, when something else fails.
    Risk,
    /// It loses counts, or nothing works.
    Wrong,
}

/// What was looked at, and what was found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    grade: Grade,
    what: String,
    /// The line that mends it.
    remedy: Option<String>,
}

fn right(what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Right, what: what.into(), remedy: None }
}

fn risk(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { grade: Grade::Risk, what: what.into(), remedy: Some(remedy.into()) }
}

fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { grade: Grade::Wrong, what: what.into(), remedy: Some(remedy.into()) }
}

pub(super) async fn run(_: Arguments, config: Config) -> Result<ExitCode, String> {
    let mut findings = Vec::new();
    match Patience(config.deadline).redis(Link::open(&config.redis)).await {
        Ok(mut link) => server(&mut link, &config, &mut findings).await,
        Err(error) => findings.push(wrong(
            format!("no server answers at {}: {error}", config.redis),
            "--redis redis://host:port, or start the server",
        )),
    }
    archive(&config, &mut findings).await;
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Right);
    for finding in &findings {
        let grade = match finding.grade {
            Grade::Right => "right",
            Grade::Risk => "RISK ",
            Grade::Wrong => "WRONG",
        };
        say!("{grade}  {}", finding.what);
        if let Some(remedy) = &finding.remedy {
            say!("       -> {remedy}");
        }
    }
    Ok(if worst == Grade::Wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The fields of INFO.
struct Info(HashMap<String, String>);

impl Info {
    fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

async fn server(link: &mut Link, config: &Config, findings: &mut Vec<Finding>) {
    let patience = Patience(config.deadline);
    let text = all_info(link, patience).await;
    let info = match text {
        Ok(text) => Info::parse(&text),
        Err(error) => {
            findings.push(wrong(format!("INFO is refused: {error}"), "ACL SETUSER … +info, to see more"));
            Info(HashMap::new())
        }
    };
    findings.push(version(&info));
    findings.push(module(link, patience).await);
    findings.extend(persistence(&info, &setting(link, patience, "appendfsync").await, config));
    findings.push(eviction(&info));
    findings.extend(memory(&info));
    findings.extend(replicas(&info, config));
    findings.extend(retention(&setting(link, patience, "meter.retention-days").await));
    findings.extend(clock(link, patience).await);
}

/// INFO of the server, or of the first node of a cluster.
async fn all_info(link: &mut Link, patience: Patience) -> Result<String, String> {
    let nodes = patience.redis(link.nodes()).await.map_err(|error| error.to_string())?;
    let Some(mut node) = nodes.into_iter().next() else { return Err("a cluster without slots".to_owned()) };
    patience.redis(redis::cmd("INFO").query_async(&mut node)).await.map_err(|error| error.to_string())
}

/// A setting of the server; empty if it may not be read.
async fn setting(link: &mut Link, patience: Patience, name: &str) -> String {
    let Ok(nodes) = patience.redis(link.nodes()).await else { return String::new() };
    let Some(mut node) = nodes.into_iter().next() else { return String::new() };
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg(name);
    let found: Result<HashMap<String, String>, _> = patience.redis(get.query_async(&mut node)).await;
    found.ok().and_then(|found| found.into_values().next()).unwrap_or_default()
}

fn version(info: &Info) -> Finding {
    let (product, version) = match (info.get("valkey_version"), info.get("redis_version")) {
        ("", "") => return risk("the server does not say its version", "Redis 6.2 or later, or Valkey, is needed"),
        ("", version) => ("Redis", version),
        (version, _) => ("Valkey", version),
    };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if product == "Redis" && number < (6, 2) {
        return wrong(format!("{product} {version} is too old"), "install Redis 6.2 or later, or Valkey");
    }
    right(format!("{product} {version}"))
}

async fn module(link: &mut Link, patience: Patience) -> Finding {
    let mut probe = redis::cmd("METER.KPI");
    probe.arg("meterd:doctor");
    let reply: Result<Value, _> = patience.redis(probe.query_async(link)).await;
    match reply {
        Ok(_) => right("the module is loaded"),
        Err(error) if error.to_string().contains("unknown command") => wrong(
            "the server does not have the module",
            "loadmodule /path/to/libredis_meter.so  in the server's configuration file, and a restart",
        ),
        Err(error) => wrong(format!("METER.KPI is refused: {error}"), "ACL SETUSER … +@meter ~*"),
    }
}

fn persistence(info: &Info, appendfsync: &str, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if info.number("loading") == 1 {
        findings.push(risk("the server is still loading its data", "wait"));
    }
    for (field, what) in [("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")] {
        if info.get(field) == "err" {
            findings.push(wrong(format!("the server could not write its {what}"), "look at its disk and its log"));
        }
    }
    if info.number("aof_enabled") == 0 {
        findings.push(wrong(
            "without an append-only file a crash loses all hits since the last snapshot",
            "CONFIG SET appendonly yes, and in the configuration file: appendonly yes",
        ));
        return findings;
    }
    findings.push(match appendfsync {
        "always" => right("appendonly yes, appendfsync always: a hit that was answered is on disk"),
        "no" => wrong(
            "appendfsync no: a power cut loses as many hits as the kernel likes",
            "CONFIG SET appendfsync everysec, or always",
        ),
        _ if config.archive.fsync => right("appendonly yes; a batch is archived when it is on disk"),
        _ => risk(
            "appendfsync is not always: a power cut loses about a second of hits, and right after a METER.SEAL it could \
             archive a batch twice",
            "CONFIG SET appendfsync always; or, in meterd.toml, for the archive: [archive] fsync = true",
        ),
    });
    findings
}

fn eviction(info: &Info) -> Finding {
    let policy = info.get("maxmemory_policy");
    if info.number("maxmemory") == 0 {
        return right("no maxmemory, so nothing is evicted");
    }
    match policy {
        "noeviction" => right("maxmemory-policy noeviction"),
        _ if policy.starts_with("volatile") => risk(
            format!("maxmemory-policy {policy} evicts event ids and what caps know of sealed days"),
            "CONFIG SET maxmemory-policy noeviction",
        ),
        _ => wrong(format!("maxmemory-policy {policy} evicts counts"), "CONFIG SET maxmemory-policy noeviction"),
    }
}

fn memory(info: &Info) -> Option<Finding> {
    let (used, most) = (info.number("used_memory"), info.number("maxmemory"));
    let percent = used.saturating_mul(100).checked_div(most)?;
    (percent >= 80).then(|| {
        risk(
            format!("{percent} % of maxmemory is used: at 100 % hits are refused"),
            "archive more often, or CONFIG SET maxmemory to more",
        )
    })
}

fn replicas(info: &Info, config: &Config) -> Option<Finding> {
    if matches!(info.get("role"), "slave" | "replica") {
        return Some(wrong("this is a replica: hits are refused", "--redis with the address of the primary"));
    }
    let (replicas, wanted) = (info.number("connected_slaves"), u64::from(config.archive.replicas));
    match replicas {
        0 if wanted > 0 => Some(wrong(
            format!("archive.replicas is {wanted}, and there is no replica: nothing is archived"),
            "connect one, or set archive.replicas = 0",
        )),
        0 => Some(risk("there is no replica: the server's disk is the only copy", "REPLICAOF on a second server")),
        _ if wanted == 0 => Some(risk(
            format!(
                "{replicas} replicas, and archive.replicas is 0: a failover right after a METER.SEAL could archive a batch twice"
            ),
            "in meterd.toml: [archive] replicas = 1",
        )),
        _ => Some(right(format!("{replicas} replicas, {wanted} of which must have a batch before it is archived"))),
    }
}

fn retention(days: &str) -> Option<Finding> {
    let days: u64 = days.parse().ok().filter(|days| *days > 0)?;
    Some(risk(
        format!("meter.retention-days is {days}: a day expires then, archived or not"),
        "CONFIG SET meter.retention-days 0, where every day is to be archived",
    ))
}

async fn clock(link: &mut Link, patience: Patience) -> Option<Finding> {
    let mut nodes = patience.redis(link.nodes()).await.ok()?.into_iter();
    let (seconds, _): (i64, i64) = patience.redis(redis::cmd("TIME").query_async(&mut nodes.next()?)).await.ok()?;
    let apart = (jiff::Timestamp::now().as_second() - seconds).abs();
    Some(if apart > 5 {
        risk(format!("the server's clock and this machine's are {apart} s apart"), "let both keep time by NTP")
    } else {
        right("the clocks agree")
    })
}

async fn archive(config: &Config, findings: &mut Vec<Finding>) {
    let archive = match Archive::of(config) {
        Ok(archive) => archive,
        Err(error) => return findings.push(wrong(error, "--archive, or [archive] url in meterd.toml")),
    };
    let mut archiver = Archiver::new(&config.redis, &archive, Options::of(config));
    if let Err(error) = archiver.open_archive().await {
        let remedy = "--archive sqlite:FILE, postgres://… or mysql://…, a user who may create tables";
        return findings.push(wrong(format!("{}: {error}", archive.shown()), remedy));
    }
    findings.push(right(format!("the archive, {}", archive.shown())));
    waiting(&mut archiver, &config.redis, config.deadline, findings).await;
}

/// Batches that are open longer than an archiver needs.
async fn waiting(archiver: &mut Archiver<'_>, target: &Target, deadline: Duration, findings: &mut Vec<Finding>) {
    let Ok(meters) = archiver.meters(&[b"*".to_vec()]).await else { return };
    let patience = Patience(deadline);
    let Ok(mut link) = patience.redis(Link::open(target)).await else { return };
    let today = crate::archive::compact(jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date());
    let mut unfinished = 0;
    for meter in &meters {
        let mut count = redis::cmd("ZCOUNT");
        count.arg(meter).arg("-inf").arg(format!("({today}"));
        unfinished += patience.redis(count.query_async::<u64>(&mut link)).await.unwrap_or(0);
    }
    let of = format!("{} meters", meters.len());
    findings.push(if unfinished == 0 {
        right(format!("{of}, every finished day is archived"))
    } else {
        risk(format!("{of}, {unfinished} finished days wait for the archive"), "meterd archive --once, or meterd serve")
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        Info::parse(text)
    }

    #[test]
    fn what_loses_counts_is_wrong_and_has_a_remedy() {
        for finding in [
            version(&info("redis_version:6.0.9")),
            eviction(&info("maxmemory:1000\nmaxmemory_policy:allkeys-lru")),
            version(&info("redis_version:5.0.0\r\n")),
        ] {
            assert_eq!(finding.grade, Grade::Wrong);
            assert!(finding.remedy.is_some());
        }
        assert_eq!(eviction(&info("maxmemory:1\nmaxmemory_policy:volatile-lru")).grade, Grade::Risk);
        assert_eq!(eviction(&info("maxmemory:0\nmaxmemory_policy:allkeys-lru")).grade, Grade::Right);
        assert_eq!(version(&info("redis_version:7.2.4\nvalkey_version:8.1.0")), right("Valkey 8.1.0"));
        assert_eq!(memory(&info("used_memory:90\nmaxmemory:100")).expect("a finding").grade, Grade::Risk);
        assert_eq!(memory(&info("used_memory:90\nmaxmemory:0")), None);
    }
}
