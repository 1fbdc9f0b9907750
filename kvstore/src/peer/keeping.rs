//! Keeps the list of members in the data directory.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::identity::{MemberList, MembersFile};

/// Writes each list that is newer than the receiver, until the network stops. A list that cannot be
/// written is not tried again: the next one replaces it, and the catalogue of the cluster has it
/// anyway.
pub(super) async fn keep_lists(
    mut lists: watch::Receiver<Option<MemberList>>,
    file: MembersFile,
    stop: CancellationToken,
) {
    loop {
        let stopping = tokio::select! {
            // A list that came right before the stop is written.
            biased;
            changed = lists.changed() => changed.is_err(),
            () = stop.cancelled() => true,
        };
        if stopping {
            return;
        }
        let Some(list) = lists.borrow_and_update().clone() else { continue };
        let file = file.clone();
        match tokio::task::spawn_blocking(move || file.write(&list)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the list of members was not kept"),
            Err(error) => warn!(%error, "the list of members was not kept"),
        }
    }
}
