//! One connection to a server or to a cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, TlsMode, Value,
};

use super::Target;
use super::target::Kind;

/// A connection that many tasks can share.
#[derive(Clone)]
pub enum Link {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

/// How often a command follows a slot that moves.
const REDIRECTS: usize = 8;

impl Link {
    /// Opens one. The caller sets the time limit.
    ///
    /// # Errors
    /// What the library reports.
    pub async fn open(target: &Target) -> RedisResult<Self> {
        let certificates = target.certificates.as_ref().map(|certificates| certificates.get());
        // Every call has its own time limit.
        let unlimited = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        match &target.kind {
            Kind::Server(info) => {
                let info = info.as_ref().clone();
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates)?,
                    None => Client::open(info)?,
                };
                Ok(Self::Server(client.get_multiplexed_async_connection_with_config(&unlimited).await?))
            }
            Kind::Cluster(nodes) => {
                // The library would send a command again whose reply was lost, which counts a hit twice.
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .retries(0)
                    .overall_response_timeout(None)
                    .response_timeout(Duration::from_secs(3600));
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Ok(Self::Cluster(builder.build()?.get_async_connection().await?))
            }
            Kind::Sentinel { nodes, name } => {
                let mut builder = SentinelClientBuilder::new(
                    nodes.iter().map(|node| node.addr().clone()),
                    name,
                    SentinelServerType::Master,
                )?;
                let settings = nodes[0].redis_settings();
                builder = builder.set_client_to_redis_db(settings.db());
                if let Some(user) = settings.username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = settings.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if matches!(nodes[0].addr(), redis::ConnectionAddr::TcpTls { .. }) {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                    if let Some(certificates) = certificates {
                        builder = builder
                            .set_client_to_redis_certificates(certificates.clone())
                            .set_client_to_sentinel_certificates(certificates);
                    }
                }
                let mut client = builder.build()?;
                Ok(Self::Server(client.get_async_connection_with_config(&unlimited).await?))
            }
        }
    }

    /// Sends a command. It is never sent again after it may have been executed.
    ///
    /// # Errors
    /// What the server or the library reports.
    pub async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(server) => server.send_packed_command(command).await?.extract_error(),
            Self::Cluster(cluster) => send_to_cluster(cluster, command).await,
        }
    }

    /// Sends commands without waiting between them; a reply or an error for each, in order.
    ///
    /// # Errors
    /// When the connection fails: any of the commands may have been executed.
    pub async fn send_all(&mut self, commands: &[Cmd]) -> RedisResult<Vec<Result<Value, RedisError>>> {
        match self {
            Self::Server(server) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                let replies = server.req_packed_commands(&pipeline, 0, commands.len()).await?;
                Ok(replies.into_iter().map(Value::extract_error).collect())
            }
            Self::Cluster(cluster) => {
                let calls = commands.iter().map(|command| {
                    let mut cluster = cluster.clone();
                    async move { send_to_cluster(&mut cluster, command).await }
                });
                Ok(futures_util::future::join_all(calls).await)
            }
        }
    }
}

/// Follows slots that have moved or are moving: the server that said so has not executed the command.
async fn send_to_cluster(cluster: &mut ClusterConnection, command: &Cmd) -> RedisResult<Value> {
    let mut outcome = cluster.req_packed_command(command).await.and_then(Value::extract_error);
    for _ in 0..REDIRECTS {
        let Err(error) = &outcome else { break };
        let Some((host, port)) = error.redirect_node().and_then(|(node, _)| split(node)) else { break };
        let node = SingleNodeRoutingInfo::ByAddress { host, port };
        outcome = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => {
                let mut pipeline = Pipeline::with_capacity(2);
                pipeline.cmd("ASKING").add_command(command.clone());
                let replies = cluster.route_pipeline(pipeline, 1, 1, node).await;
                replies.and_then(|mut replies| replies.pop().unwrap_or(Value::Nil).extract_error())
            }
            _ => {
                let reply = cluster.route_command(command.clone(), RoutingInfo::SingleNode(node)).await;
                reply.and_then(Value::extract_error)
            }
        };
    }
    outcome
}

fn split(node: &str) -> Option<(String, u16)> {
    let (host, port) = node.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}
