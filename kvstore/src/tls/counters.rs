//! What an accept loop did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The handshake took too long.
    Timeout,
    /// Dropped as the oldest of too many handshakes in flight.
    Crowded,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate is of the other role, of another cluster, or names nobody.
    WrongRole,
    /// The certificate is expired, of a foreign CA, or otherwise bad.
    BadCertificate,
    /// The other side refused our certificate or gave up with an alert.
    Alert,
    /// Not TLS 1.3 or not our protocol inside it.
    Protocol,
    /// The connection broke.
    Broken,
    /// The identity has too many connections.
    IdentityLimit,
}

impl Rejection {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Crowded,
        Self::NoCertificate,
        Self::WrongRole,
        Self::BadCertificate,
        Self::Alert,
        Self::Protocol,
        Self::Broken,
        Self::IdentityLimit,
    ];

    /// The label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Crowded => "crowded",
            Self::NoCertificate => "no_certificate",
            Self::WrongRole => "wrong_role",
            Self::BadCertificate => "bad_certificate",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Broken => "broken",
            Self::IdentityLimit => "identity_limit",
        }
    }
}

/// Counts of one accept loop since its start.
#[derive(Debug, Default)]
pub struct AcceptCounters {
    accepted: AtomicU64,
    rejected: [AtomicU64; Rejection::ALL.len()],
    errors: AtomicU64,
}

impl AcceptCounters {
    /// Connections let in.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections not let in, by reason.
    #[must_use]
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    /// Times the system could not give a connection, such as when no file descriptor was left.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_rejected(&self, reason: Rejection) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count() {
        let counters = AcceptCounters::default();
        for (at, reason) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{}", reason.as_str());
            counters.count_rejected(reason);
        }
        for reason in Rejection::ALL {
            assert_eq!(counters.rejected(reason), 1, "{}", reason.as_str());
        }
    }
}
