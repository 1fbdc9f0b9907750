//! The commands, one file per family.

mod about;
mod bench;
mod cert;
mod cluster;
mod context;
mod convergence;
mod del;
mod export;
mod get;
mod history;
mod import;
mod keyspace;
mod lab;
mod ls;
mod members;
mod node;
mod put;
mod snapshot;
mod txn;
mod values;

use super::args::Command;
use super::errors::CliError;
use super::run::Run;

/// Carries out a command.
pub(crate) async fn dispatch(command: Command, run: &mut Run<'_>) -> Result<(), CliError> {
    match command {
        Command::Get(args) => get::get(args, run).await,
        Command::Put(args) => put::put(args, run).await,
        Command::Del(args) => del::del(args, run).await,
        Command::Ls(args) => ls::ls(args, run).await,
        Command::Txn(args) => txn::txn(args, run).await,
        Command::History(args) => history::history(args, run).await,
        Command::Export(args) => export::export(args, run).await,
        Command::Import(args) => import::import(args, run).await,
        Command::Keyspace(command) => keyspace::keyspace(command, run).await,
        Command::Node(command) => node::node(command, run).await,
        Command::Snapshot(command) => snapshot::snapshot(command, run).await,
        Command::Cluster(command) => cluster::cluster(command, run).await,
        Command::Cert(command) => cert::cert(command, run),
        Command::Context(command) => context::context(command, run).await,
        Command::Bench(command) => bench::bench(command, run).await,
        Command::Lab { arguments } => Err(lab::lab(&arguments, run)),
        Command::Explain { code } => about::explain(&code, run),
        Command::Options => about::options(run),
        Command::Completion { shell } => about::completion(shell, run),
        Command::Version { json } => about::show_version(json, run),
    }
}
