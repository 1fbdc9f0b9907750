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
            done = act(count) => Some(done),
            () = reached(&mut second, 2) => None,
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
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            // Without a handler, Ctrl-C ends the program at once, which is good enough.
            pressed = tokio::signal::ctrl_c() => if pressed.is_err() { return },
            told = terminate.recv() => if told.is_none() { return },
        }
        count.send_modify(|count| *count += 1);
        if *count.borrow() == 1 {
            eprintln!("ending the run; once more ends it at once");
        }
    }
}
