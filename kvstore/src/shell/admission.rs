//! The one bounded queue in front of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto::limits::{ADMISSION_BYTES_MAX, ADMISSION_REQUESTS_MAX};
use proto::{Applied, Code, Failure};
use tokio::sync::Notify;

/// How long a refused client is asked to wait.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Counts the requests that are inside a node, from their entry to their reply, in number and in
/// bytes.
///
/// Invariant: never more than [`ADMISSION_REQUESTS_MAX`] requests nor [`ADMISSION_BYTES_MAX`]
/// bytes are inside. At the bound a request is refused at once with KV1501; nothing waits for
/// room, so a full node answers as fast as an empty one. Health checks and metrics do not pass
/// here.
#[derive(Debug, Default)]
pub struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    refused: AtomicUsize,
    empty: Notify,
}

/// The room that one request takes; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Takes room for a request of `bytes` bytes.
    ///
    /// # Errors
    /// [`Code::QueueFull`], certainly not applied.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, Failure> {
        if take(&self.requests, 1, ADMISSION_REQUESTS_MAX).is_err() {
            return Err(self.refuse(format!("{ADMISSION_REQUESTS_MAX} requests are waiting")));
        }
        if take(&self.bytes, bytes, ADMISSION_BYTES_MAX).is_err() {
            self.give_back_request();
            return Err(self.refuse(format!("{ADMISSION_BYTES_MAX} bytes of requests are waiting")));
        }
        Ok(Permit { admission: Arc::clone(self), bytes })
    }

    /// Requests inside.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Bytes of the requests inside.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Requests refused since the start.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns once no request is inside.
    pub async fn drained(&self) {
        loop {
            let notified = self.empty.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.requests() == 0 {
                return;
            }
            notified.await;
        }
    }

    fn refuse(&self, why: String) -> Failure {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Failure::new(Code::QueueFull, "request", why).applied(Applied::No).retry_after(RETRY_AFTER)
    }

    fn give_back_request(&self) {
        let before = self.requests.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "more requests left than entered");
        if before == 1 {
            self.empty.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        assert!(before >= self.bytes, "more bytes left than entered");
        self.admission.give_back_request();
    }
}

/// Adds `amount` to `counter` unless that exceeds `max`.
fn take(counter: &AtomicUsize, amount: usize, max: usize) -> Result<usize, usize> {
    counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| {
        inside.checked_add(amount).filter(|sum| *sum <= max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_and_room_comes_back() {
        let admission = Arc::new(Admission::default());
        let mut permits: Vec<Permit> =
            (0..ADMISSION_REQUESTS_MAX).map(|_| admission.admit(1).unwrap()).collect();
        let refused = admission.admit(1).unwrap_err();
        assert_eq!((refused.code, refused.applied), (Code::QueueFull, Some(Applied::No)));
        assert_eq!(refused.retry_after, Some(RETRY_AFTER));
        assert_eq!(admission.refused(), 1);
        permits.pop();
        permits.push(admission.admit(1).unwrap());
        drop(permits);
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_and_a_refusal_takes_nothing() {
        let admission = Arc::new(Admission::default());
        let large = admission.admit(ADMISSION_BYTES_MAX).unwrap();
        assert_eq!(admission.admit(1).unwrap_err().code, Code::QueueFull);
        assert_eq!(admission.requests(), 1);
        let empty = admission.admit(0).unwrap();
        assert_eq!(admission.admit(usize::MAX).unwrap_err().code, Code::QueueFull);
        drop((large, empty));
        assert!(admission.admit(ADMISSION_BYTES_MAX).is_ok());
    }

    #[tokio::test]
    async fn drained_returns_when_the_last_request_left() {
        let admission = Arc::new(Admission::default());
        admission.drained().await;
        let (first, second) = (admission.admit(1).unwrap(), admission.admit(2).unwrap());
        let mut drained = wait_for_drained(&admission);
        assert!(!drained.finished().await);
        drop(first);
        assert!(!drained.finished().await);
        drop(second);
        drained.0.await.unwrap();
    }

    struct Drained(tokio::task::JoinHandle<()>);

    impl Drained {
        /// Lets the task run, then says whether it is done.
        async fn finished(&mut self) -> bool {
            tokio::task::yield_now().await;
            self.0.is_finished()
        }
    }

    fn wait_for_drained(admission: &Arc<Admission>) -> Drained {
        let admission = Arc::clone(admission);
        Drained(tokio::spawn(async move { admission.drained().await }))
    }
}
