//! Pipelines and transactions over a [`Link`], and over one node of a cluster.

use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, Value, cmd};
use tokio::time::Instant;

use super::target::Kind;
use super::{Failure, Link, Redis};

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { self.send(command).await })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// A primary of a cluster, or the one server that there is.
#[derive(Clone)]
pub(crate) enum Node {
    Server(Link),
    OfCluster { cluster: ClusterConnection, host: String, port: u16 },
}

impl Link {
    /// Whether it leads to a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// The server, or each primary of the cluster that has slots.
    ///
    /// # Errors
    /// What the cluster reports.
    pub(crate) async fn nodes(&mut self) -> RedisResult<Vec<Node>> {
        let Self::Cluster(cluster) = self else { return Ok(vec![Node::Server(self.clone())]) };
        let cluster = cluster.clone();
        let mut command = cmd("CLUSTER");
        command.arg("NODES");
        let text: String = command.query_async(self).await?;
        let nodes = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let is_primary = fields.get(2)?.split(',').any(|flag| flag == "master") && fields.len() > 8;
            let address = fields.get(1)?.split(['@', ',']).next()?;
            let (host, port) = address.rsplit_once(':')?;
            let port = port.parse().ok()?;
            is_primary.then(|| Node::OfCluster { cluster: cluster.clone(), host: host.to_owned(), port })
        });
        Ok(nodes.collect())
    }
}

impl Node {
    /// Host and port of a node of a cluster.
    pub(super) fn address(&self) -> Option<(&str, u16)> {
        match self {
            Self::Server(_) => None,
            Self::OfCluster { host, port, .. } => Some((host, *port)),
        }
    }
}

impl ConnectionLike for Node {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(link) => link.req_packed_command(command),
            Self::OfCluster { cluster, host, port } => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                Box::pin(async move { cluster.route_command(command.clone(), RoutingInfo::SingleNode(node)).await })
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(link) => link.req_packed_commands(pipeline, offset, count),
            Self::OfCluster { cluster, host, port } => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                Box::pin(async move { cluster.route_pipeline(pipeline.clone(), offset, count, node).await })
            }
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

impl Redis {
    /// Runs a pipeline, or a transaction where it is atomic. In a cluster all its keys must have the same slot.
    ///
    /// # Errors
    /// [`Failure::Unknown`] if it may have taken effect.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure> {
        let mut link = self.link()?;
        let until = Instant::now() + self.deadline();
        let outcome = self.within(until, pipeline.query_async(&mut link)).await?;
        self.judge(outcome)
    }

    /// Whether it is a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.target().kind, Kind::Cluster(_))
    }
}
