//! `meterd check`: a dry run of descriptors, or what keys hold.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::config::Config;
use crate::connection::Redis;
use crate::gateway::{Checker, Request, Status, query};
use crate::name;
use crate::say::say;
use crate::stored::stored;

/// What `meterd check` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Keys of limiters; with --domain descriptors, such as api_key=abc or country=de/user=u
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// The domain of the rules that the descriptors are matched with
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The rules of limits, a YAML file
    #[arg(long, env = "METERD_LIMITS", value_name = "FILE")]
    limits: Option<PathBuf>,
}

/// Prints a line for each descriptor or key. Exit code 1: the request would be refused.
///
/// # Errors
/// A sentence for the user.
pub(super) async fn run(arguments: &Arguments, config: Config) -> Result<ExitCode, String> {
    let redis = Redis::connect(config.redis.clone(), config.deadline);
    redis.up_within(config.deadline).await;
    match &arguments.domain {
        Some(domain) => descriptors(arguments, domain, &config, redis).await,
        None => {
            for key in &arguments.keys {
                let value = stored(&redis, key.as_bytes()).await.map_err(|failure| failure.to_string())?;
                say!("{key}: {}", shown(&value));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn descriptors(arguments: &Arguments, domain: &str, config: &Config, redis: Redis) -> Result<ExitCode, String> {
    let path = arguments.limits.as_deref().or(config.limits.as_deref());
    let path = path.ok_or("there are no rules: name them by --limits FILE, or by  limits = …  in meterd.toml")?;
    let checker = Checker::new(redis);
    checker.load(Some(path)).map_err(|error| error.to_string())?;
    let rules = checker.rules();
    let found = rules.domain(domain).ok_or_else(|| format!("{} has no domain \"{domain}\"", path.display()))?;
    let mut descriptors = Vec::new();
    for key in &arguments.keys {
        match query::parse(Some(found), key, &mut [])?.as_slice() {
            [one] => descriptors.push(one.clone()),
            _ => return Err(format!("\"{key}\" is no descriptor: write each as an argument of its own, name=value")),
        }
    }
    let request = Request { domain: domain.to_owned(), descriptors, hits: 1, is_dry: true };
    let plan = checker.plan(&request).map_err(|invalid| invalid.to_string())?;
    let decision = checker.run(&plan, None).await;
    if let Some(failure) = decision.failure {
        return Err(failure.to_string());
    }
    for (key, status) in arguments.keys.iter().zip(&decision.statuses) {
        say!("{key}: {}", said(status));
    }
    for key in plan.keys() {
        say!("  {}", name::shown(key));
    }
    say!("{}", if decision.limited { "refused" } else { "passes" });
    Ok(if decision.limited { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn said(status: &Status) -> String {
    let Some(rule) = &status.name else { return "meets no rule".to_owned() };
    let (Some(limit), Some(verdict)) = (&status.limit, status.verdict) else {
        return format!("{rule}, unlimited");
    };
    let wait = |span: Duration| humantime::format_duration(span).to_string();
    let what = format!("{rule}, {}, {} per {}", limit.kind(), limit.limit, wait(limit.span));
    match verdict.retry_after {
        Some(retry) => format!("{what}, refuses for {}", wait(retry)),
        None if verdict.limited => format!("{what}, refuses"),
        None => format!("{what}, then {} are left", verdict.remaining),
    }
}

fn shown(stored: &Value) -> String {
    if stored.is_null() {
        return "nothing is stored, so the limit is whole".to_owned();
    }
    let kind = stored["type"].as_str().unwrap_or_default();
    let expires =
        stored["expires_in"].as_f64().map_or("no expiry".to_owned(), |seconds| format!("expires in {seconds} s"));
    format!("{kind} {}, {expires}", stored["value"])
}
