//! `kvstore serve`: one node as its configuration says.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;

use crate::config::Config;
use crate::lines::Lines;
use crate::logging::Logging;
use crate::server::{Server, ServerError, ServerOptions};
use crate::shell::Fatal;
use crate::shutdown::StopSignals;

/// What the end of the process waits for tasks that block.
const RUNTIME_PATIENCE: Duration = Duration::from_millis(100);

/// Runs a node until a signal or a failure ends it.
pub fn run(config: &Path) -> ExitCode {
    let logging = match Logging::start(LevelFilter::INFO) {
        Ok(logging) => logging,
        Err(source) => {
            let error = ServerError::System { what: "start logging", source };
            crate::cli::complain(&error.describe());
            return ExitCode::from(error.exit());
        }
    };
    let code = match start(config, &logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.say(&error.describe());
            ExitCode::from(error.exit())
        }
    };
    logging.finish();
    code
}

fn start(path: &Path, logging: &Logging) -> Result<(), ServerError> {
    let config = Config::load(path)?;
    let runtime = Runtime::new()
        .map_err(|source| ServerError::System { what: "start the runtime", source })?;
    let result = runtime.block_on(serve(config, logging));
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    result
}

async fn serve(config: Config, logging: &Logging) -> Result<(), ServerError> {
    let mut signals = StopSignals::take()
        .map_err(|source| ServerError::System { what: "take signals", source })?;
    let stdout = Lines::start("stdout", io::stdout())
        .map_err(|source| ServerError::System { what: "start a thread", source })?;
    log_start(&config);
    let name = config.node.name.clone();
    let options = ServerOptions::new(exit_on_fatal(logging.clone()));
    let mut server = Server::start(config, options).await?;
    let removed = server.removed();
    tokio::pin!(removed);
    let signal = tokio::select! {
        signal = signals.next() => signal,
        error = &mut removed => {
            server.stop().await;
            return Err(error);
        }
        ready = server.ready() => {
            if let Err(error) = ready {
                server.stop().await;
                return Err(error);
            }
            let to = server.addresses();
            let line = format!(
                "ready node={name} client={} peer={} admin={}",
                to.client, to.peer, to.admin
            );
            stdout.line(line.as_bytes());
            tracing::info!(client = %to.client, peer = %to.peer, admin = %to.admin, "ready");
            tokio::select! {
                signal = signals.next() => signal,
                error = &mut removed => {
                    server.stop().await;
                    return Err(error);
                }
            }
        }
    };
    tracing::info!(%signal, "stopping");
    tokio::select! {
        () = server.stop() => Ok(()),
        again = signals.next() => {
            let why = format!("{again} while stopping: ended at once");
            Err(ServerError::Fatal(why))
        }
    }
}

fn log_start(config: &Config) {
    tracing::info!(
        version = client::version::VERSION,
        node = config.node.name,
        data_dir = %config.node.data_dir.display(),
        cluster = config.cluster.name,
        "starting"
    );
    tracing::warn!(
        "access rules are not built yet: every client certificate of the cluster's CA is admin"
    );
}

/// Ends the process with 1, at once: nothing further may be acknowledged.
fn exit_on_fatal(logging: Logging) -> Fatal {
    Fatal::new(move |why| {
        logging.say(&ServerError::Fatal(why.to_owned()).describe());
        logging.finish();
        std::process::exit(1);
    })
}
