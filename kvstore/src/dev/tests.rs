//! A throw-away cluster as a whole.

use client::{CallOptions, Client, pki};

use super::cluster::{Cluster, names};
use super::directory::Directory;
use crate::shell::Fatal;

fn client(directory: &Directory, cluster: &Cluster) -> Client {
    let files = directory.client_files();
    let credentials = pki::load(&files.ca, &files.cert, &files.key).unwrap();
    Client::connect(client::Config::new(cluster.endpoints(), credentials)).unwrap()
}

async fn start(directory: &Directory) -> Cluster {
    directory.make_certificates(&names(3)).unwrap();
    let fatal = Fatal::new(|why| panic!("{why}"));
    Cluster::start(directory, 3, false, &fatal).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_serve_and_a_kept_directory_keeps_what_was_acknowledged() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(Some(parent.path())).unwrap();
    let options = CallOptions::default();
    assert_eq!(directory.nodes(), 0);
    let cluster = start(&directory).await;
    let reply = client(&directory, &cluster).put_value("hello", "world", &options).await.unwrap();
    let acknowledged_by = reply.proof.unwrap().acknowledged_by;
    assert!(acknowledged_by.len() >= 2, "{acknowledged_by:?}");
    cluster.stop().await;
    assert_eq!(directory.nodes(), 3);

    // Other ports: what the nodes formed with is their names and ids.
    let cluster = start(&directory).await;
    let again = client(&directory, &cluster);
    let value = again.get_value("hello", &options).await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"world"[..]));
    let status = again.status(&options).await.unwrap();
    assert_eq!((status.voters, status.nodes.len()), (3, 3));
    cluster.stop().await;
}
