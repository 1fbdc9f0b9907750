//! A throw-away cluster as a whole.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{CallOptions, Client, pki};

use super::cluster::{Cluster, Say, names};
use super::directory::Directory;
use crate::shell::Fatal;

fn client(directory: &Directory, cluster: &Cluster) -> Client {
    let files = directory.client_files();
    let credentials = pki::load(&files.ca, &files.cert, &files.key).unwrap();
    Client::connect(client::Config::new(cluster.endpoints(), credentials)).unwrap()
}

async fn start(directory: &Directory) -> Cluster {
    directory.make_certificates(&names(3)).unwrap();
    start_saying(directory, Arc::new(|text| panic!("{text}"))).await
}

async fn start_saying(directory: &Directory, say: Say) -> Cluster {
    let fatal = Fatal::new(|why| panic!("{why}"));
    Cluster::start(directory, 3, false, &fatal, &say).await.unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_does_not_start_again_with_a_kept_directory() {
    let parent = tempfile::tempdir().unwrap();
    let directory = Directory::open(Some(parent.path())).unwrap();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let taken = Arc::clone(&said);
    let say: Say = Arc::new(move |text| taken.lock().unwrap().push(text.to_owned()));
    directory.make_certificates(&names(3)).unwrap();
    let cluster = start_saying(&directory, Arc::clone(&say)).await;
    let options = CallOptions::default();
    client(&directory, &cluster).members().remove("n3", false, &options).await.unwrap();
    let gone = async {
        while cluster.running().len() == 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    assert_eq!(cluster.running(), ["n1", "n2"]);
    cluster.stop().await;
    let stopped = "note: the cluster has removed n3 (KV1708): stopped; n1, n2 go on";
    assert_eq!(*said.lock().unwrap(), [stopped]);

    let cluster = start_saying(&directory, say).await;
    assert_eq!(cluster.running(), ["n1", "n2"]);
    let put = client(&directory, &cluster).put_value("after", "1", &options).await;
    assert!(put.is_ok(), "{put:?}");
    cluster.stop().await;
    let not_started = "note: the cluster has removed n3 (KV1708): not started";
    assert_eq!(*said.lock().unwrap(), [stopped, not_started]);
}
