//! How long a call to Redis may take.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};

/// A deadline of each call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(pub(crate) Duration);

impl Patience {
    /// Ends a call that has not ended by its deadline. Whether it took effect is then unknown.
    pub(crate) async fn redis<T>(self, call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        match tokio::time::timeout(self.0, call).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::from((
                ErrorKind::Io,
                "Redis has not answered in time",
                format!("within {} ms", self.0.as_millis()),
            ))),
        }
    }
}
