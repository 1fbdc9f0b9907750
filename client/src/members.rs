//! Who belongs to the cluster, and how that changes.

use proto::v1;
use proto::v1::change_member_request::Kind;

use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

/// The members of a cluster; see [`Client::members`].
///
/// A change has no id under which it executes once: it is repeated only while it was certainly not
/// applied. When its answer is lost, the error says that the outcome is unknown, and
/// [`list`](Self::list) says what became of it.
///
/// A dry run changes nothing: its answer tells voters and quorum before and after, and what may
/// surprise.
#[derive(Clone, Debug)]
pub struct Members {
    client: Client,
}

impl Members {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The members as the catalogue has them, and what they are at the moment.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`].
    pub async fn list(&self, options: &CallOptions) -> Result<v1::MembersReply, ClientError> {
        self.client.ask(v1::MembersRequest {}, options).await
    }

    /// Adds a node that is reached by its peers at `peer_address`, `host:port`. It begins as a learner
    /// and becomes a voter by itself once it has caught up, unless it is to stay a `learner`.
    /// Returns when the cluster knows it; the node need not run yet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add(
        &self,
        name: &str,
        peer_address: &str,
        learner: bool,
        dry_run: bool,
        options: &CallOptions,
    ) -> Result<v1::ChangeMemberReply, ClientError> {
        let request = v1::ChangeMemberRequest {
            kind: Kind::Add as i32,
            name: name.to_owned(),
            peer_address: peer_address.to_owned(),
            learner,
            dry_run,
            ..Default::default()
        };
        self.change(request, options).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn promote(
        &self,
        name: &str,
        dry_run: bool,
        options: &CallOptions,
    ) -> Result<v1::ChangeMemberReply, ClientError> {
        self.change(named(Kind::Promote, name, dry_run), options).await
    }

    /// Removes a member for good: its id never comes back. A live one hands on first what it took in eventual
    /// keyspaces; one that is not heard is not removed while there are any.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove(
        &self,
        name: &str,
        dry_run: bool,
        options: &CallOptions,
    ) -> Result<v1::ChangeMemberReply, ClientError> {
        self.change(named(Kind::Remove, name, dry_run), options).await
    }

    /// As [`Members::remove`], without a wait for what this member alone took in eventual keyspaces: if it is dead, that is
    /// lost.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_losing(
        &self,
        name: &str,
        dry_run: bool,
        options: &CallOptions,
    ) -> Result<v1::ChangeMemberReply, ClientError> {
        let lose_unseen = true;
        let request = v1::ChangeMemberRequest { lose_unseen, ..named(Kind::Remove, name, dry_run) };
        self.change(request, options).await
    }

    /// Hands leadership to this voter. Returns the name of the node that leads then.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn move_leader(
        &self,
        to: &str,
        options: &CallOptions,
    ) -> Result<v1::MoveLeaderReply, ClientError> {
        self.client.manage(v1::MoveLeaderRequest { to: to.to_owned() }, options).await
    }

    async fn change(
        &self,
        request: v1::ChangeMemberRequest,
        options: &CallOptions,
    ) -> Result<v1::ChangeMemberReply, ClientError> {
        if request.dry_run {
            self.client.ask(request, options).await
        } else {
            self.client.manage(request, options).await
        }
    }
}

fn named(kind: Kind, name: &str, dry_run: bool) -> v1::ChangeMemberRequest {
    v1::ChangeMemberRequest {
        kind: kind as i32,
        name: name.to_owned(),
        dry_run,
        ..Default::default()
    }
}
