//! One node, for operators.

use proto::v1;

use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

/// One node, at one address: calls go there and nowhere else. See [`Client::node`].
///
/// `node` is the name that the node is expected to have; another one refuses with KV1017. Empty
/// expects none.
#[derive(Clone, Debug)]
pub struct NodeClient {
    client: Client,
}

impl NodeClient {
    /// `client` knows no other endpoint.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`].
    pub async fn ping(
        &self,
        node: &str,
        options: &CallOptions,
    ) -> Result<v1::PingReply, ClientError> {
        self.client.ask(v1::PingRequest { node: node.to_owned() }, options).await
    }

    /// The filter of the node's log, such as `info` or `kvstore=debug`; sets it first where one is
    /// given. It holds until the node stops.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`]. After one the filter may be set or not.
    pub async fn log_level(
        &self,
        node: &str,
        filter: Option<&str>,
        options: &CallOptions,
    ) -> Result<v1::LogLevelReply, ClientError> {
        let filter = filter.unwrap_or_default().to_owned();
        let request = v1::LogLevelRequest { node: node.to_owned(), filter };
        self.client.ask(request, options).await
    }

    /// Lets it write a checkpoint and a new export, and free the log behind it. Takes as long as
    /// writing all its data.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`]. After one it may still be at work.
    pub async fn compact(
        &self,
        node: &str,
        options: &CallOptions,
    ) -> Result<v1::CompactReply, ClientError> {
        self.client.ask(v1::CompactRequest { node: node.to_owned() }, options).await
    }
}
