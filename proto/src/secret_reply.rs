//! How the answer to a request for a secret is printed: without the secret.

use std::fmt;

use crate::Hex;
use crate::peer::SecretReply;

impl fmt::Debug for SecretReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretReply")
            .field("kind", &self.kind())
            .field("number", &self.number)
            .field("fingerprint", &format_args!("{}", Hex(&self.fingerprint)))
            .field("secret", &format_args!("{} bytes", self.secret.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{PeerMessage, peer_message::Body};

    #[test]
    fn a_message_with_a_secret_does_not_show_it() {
        let reply = SecretReply { secret: vec![0xa5; 32].into(), number: 7, ..Default::default() };
        let message = PeerMessage { group: 0, body: Some(Body::SecretReply(reply)) };
        let shown = format!("{message:?} {message:#?}").to_lowercase();
        assert!(shown.contains("number: 7") && shown.contains("32 bytes"), "{shown}");
        for canary in ["a5", "165", "¥"] {
            assert!(!shown.contains(canary), "{shown}");
        }
    }
}
