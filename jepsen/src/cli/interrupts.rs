//! Ctrl-C: the first one ends what is done cleanly, the second one at once.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::LabError;

/// How long tasks may take to end after a second Ctrl-C.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Does something in an async runtime of its own, and tells it how often the user asked for the end.
/// `None` if that was twice: what was done is given up, which kills the nodes.
///
/// # Errors
///
/// [`LabError::Io`] if there can be no runtime.
pub fn listen<T>(act: impl AsyncFnOnce(watch::Receiver<u32>) -> T) -> Result<Option<T>, LabError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(LabError::io(Path::new("the runtime")))?;
    let done = runtime.block_on(async {
        let (sender, count) = watch::channel(0);
        let mut second = sender.subscribe();
        tokio::spawn(count_interrupts(sender));
        tokio::select! {
            biased;
            () = reached(&mut second, 2) => None,
            done = act(count) => Some(done),
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    Ok(done)
}

/// Waits for this many interrupts.
pub async fn reached(count: &mut watch::Receiver<u32>, enough: u32) {
    if count.wait_for(|&count| count >= enough).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Counts Ctrl-C and polite requests to end.
async fn count_interrupts(count: watch::Sender<u32>) {
    // Without a handler, a signal ends the program at once, which is good enough.
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        let told = tokio::select! {
            told = interrupt.recv() => told,
            told = terminate.recv() => told,
        };
        if told.is_none() {
            return;
        }
        count.send_modify(|count| *count += 1);
        if *count.borrow() == 1 {
            eprintln!("ending the run; once more ends it at once");
        }
    }
}
