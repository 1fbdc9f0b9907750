//! The keyspaces of a cluster, and how they change.

use proto::{Applied, Failure, limits, v1};

use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

/// The keyspaces of a cluster; see [`Client::keyspaces`].
///
/// A change has no id under which it executes once: it is repeated only while it was certainly not
/// applied. When its answer is lost, the error says that the outcome is unknown, and
/// [`list`](Self::list) says what became of it; whether this call or another one did it, nobody can
/// tell.
#[derive(Clone, Debug)]
pub struct Keyspaces {
    client: Client,
}

impl Keyspaces {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a keyspace; one of kind eventual has policy siblings. Returns once it takes writes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create(
        &self,
        name: &str,
        kind: v1::keyspace::Kind,
        settings: v1::keyspace::Settings,
        options: &CallOptions,
    ) -> Result<v1::KeyspaceReply, ClientError> {
        let keyspace = v1::Keyspace {
            name: name.to_owned(),
            kind: kind as i32,
            settings: Some(settings),
            ..Default::default()
        };
        self.create_as(keyspace, options).await
    }

    /// Creates a keyspace as it is described by name, kind, settings and policy. What its kind does not
    /// offer is refused with [`Code::SettingNotOffered`](proto::Code::SettingNotOffered).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_as(
        &self,
        keyspace: v1::Keyspace,
        options: &CallOptions,
    ) -> Result<v1::KeyspaceReply, ClientError> {
        check_name("creation", &keyspace.name)?;
        self.client.manage(v1::CreateKeyspaceRequest { keyspace: Some(keyspace) }, options).await
    }

    /// All keyspaces, or the one of this name: none, when it does not exist. What they hold is that of
    /// the answering node.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`].
    pub async fn list(
        &self,
        name: Option<&str>,
        options: &CallOptions,
    ) -> Result<Vec<v1::KeyspaceView>, ClientError> {
        let request = v1::ListKeyspacesRequest { name: name.unwrap_or_default().to_owned() };
        let mut keyspaces = self.client.ask(request, options).await?.keyspaces;
        keyspaces.retain(|view| {
            let found = view.keyspace.as_ref().map(|keyspace| keyspace.name.as_str());
            name.is_none_or(|name| found == Some(name))
        });
        Ok(keyspaces)
    }

    /// Replaces the settings of a keyspace as a whole. With the keyspace as it was `seen`, only while it
    /// is the same one and its settings are those: else the call is refused with
    /// [`Code::KeyspaceChanged`](proto::Code::KeyspaceChanged), and nothing was applied.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set(
        &self,
        name: &str,
        settings: v1::keyspace::Settings,
        seen: Option<&v1::Keyspace>,
        options: &CallOptions,
    ) -> Result<v1::KeyspaceReply, ClientError> {
        check_name("change", name)?;
        let (id, generation) = seen.map_or((0, 0), |seen| (seen.id, seen.generation));
        let (name, settings) = (name.to_owned(), Some(settings));
        let request = v1::SetKeyspaceRequest { name, settings, id, generation };
        self.client.manage(request, options).await
    }

    /// Removes a keyspace with all it holds. Returns once nothing of it can be read any more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove(
        &self,
        name: &str,
        options: &CallOptions,
    ) -> Result<v1::KeyspaceReply, ClientError> {
        check_name("removal", name)?;
        self.client.manage(v1::RemoveKeyspaceRequest { name: name.to_owned() }, options).await
    }
}

/// Checks a name before anything is sent.
fn check_name(what: &str, name: &str) -> Result<(), ClientError> {
    limits::check_keyspace(name).map_err(|failure: Failure| {
        let failure = failure.applied(Applied::No).subject(format!("{what} of keyspace {name:?}"));
        ClientError::Refused(Box::new(failure))
    })
}
