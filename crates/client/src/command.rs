//! The trait of every command: its arguments, and running it on a connection.

use std::future::Future;

use redis::{Cmd, ConnectionLike, FromRedisValue, RedisResult, aio};

/// A command with its arguments, ready to be run.
pub trait Command {
    /// The reply of the server.
    type Reply: FromRedisValue;

    /// The words of the command, for a pipeline or a transaction.
    fn to_cmd(&self) -> Cmd;

    /// Runs it on a blocking connection.
    ///
    /// # Errors
    /// Those of the server and the connection. A server without the module reports an unknown command.
    fn query(&self, connection: &mut impl ConnectionLike) -> RedisResult<Self::Reply> {
        self.to_cmd().query(connection)
    }

    /// Runs it on an asynchronous connection, which may be shared with other tasks.
    ///
    /// # Errors
    /// Those of the server and the connection. An error of the connection, or a time limit around this call, leaves
    /// it unknown whether the command took effect.
    fn query_async<C: aio::ConnectionLike + Send>(
        &self,
        connection: &mut C,
    ) -> impl Future<Output = RedisResult<Self::Reply>> + Send {
        let command = self.to_cmd();
        async move { command.query_async(connection).await }
    }
}
