//! Asks the members of a running cluster whether this node may join.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time;
use tokio_rustls::client::TlsStream;
use tracing::{debug, warn};

use super::connection;
use super::error::LinkEnd;
use super::links::{BackOff, connect, hello_in_time};
use super::shared::Shared;
use crate::config::Address;
use crate::forming::Answer;
use crate::tls::{PeerIdentity, Throttle};

/// Asks one address again and again, until the node has formed or the network stops.
pub(super) async fn keep_asking(shared: Arc<Shared>, address: Address) {
    let name = address.to_string();
    let throttle = Throttle::default();
    let mut back_off = BackOff::default();
    while shared.formed().is_none() {
        let asked = tokio::select! {
            asked = ask(&shared, &address) => asked,
            () = shared.stop.cancelled() => return,
        };
        if let Err(end) = &asked {
            match throttle.pass() {
                Some(suppressed) => {
                    warn!(address = name, why = %end, suppressed, "cannot join here")
                }
                None => debug!(address = name, why = %end, "cannot join here"),
            }
        }
        shared.answered(&name, asked.ok().flatten());
        tokio::select! {
            () = time::sleep(back_off.next()) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Asks once; `None` when the node there has no cluster itself.
async fn ask(shared: &Shared, address: &Address) -> Result<Option<Answer>, LinkEnd> {
    let tls = shared.material.any_peer_dialer();
    let stream = connect(address, &tls).await?;
    let certified = name_of(&stream)?;
    if certified == shared.local.node_name {
        return Err(LinkEnd::Itself);
    }
    hello_in_time(connection::ask(Box::new(stream), &shared.local, &certified)).await
}

/// The name in the certificate of the other side.
fn name_of(stream: &TlsStream<TcpStream>) -> Result<String, LinkEnd> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let identity = chain.first().and_then(|own| PeerIdentity::from_certificate(own).ok());
    // The handshake has verified it already.
    identity.map(|identity| identity.name).ok_or(LinkEnd::NoHello)
}
