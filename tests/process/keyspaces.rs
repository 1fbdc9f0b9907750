//! Keyspaces from the command line, and through a restart of everything.

use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn b32_the_catalogue_of_keyspaces_survives_kill_9_of_all() {
    let mut fleet = Fleet::boot(3, 0).await;
    let kv = fleet.kv();
    let run = |args: &[&str]| kv.outcome(args);
    let create = ["keyspace", "create", "orders", "--kind", "linearizable", "--max-keys", "2"];
    assert_eq!(run(&create).0, 0);
    assert_eq!(run(&create).0, 4, "it exists");
    assert_eq!(run(&["-k", "orders", "put", "a", "1"]).0, 0);
    assert_eq!(run(&["-k", "orders", "put", "b", "1"]).0, 0);
    let (code, _, err) = run(&["-k", "orders", "put", "c", "1"]);
    assert!(code == 8 && err.contains("error[KV1504]"), "{code} {err}");
    assert_eq!(run(&["keyspace", "set", "orders", "--max-keys", "3"]).0, 0);
    assert_eq!(run(&["-k", "orders", "put", "c", "1"]).0, 0);
    assert_eq!(run(&["get", "a"]).0, 3, "keyspaces know nothing of each other");
    let (code, _, err) = run(&["-k", "nowhere", "get", "a"]);
    assert_eq!(code, 3, "{err}");

    assert_eq!(run(&["keyspace", "create", "brief", "--kind", "linearizable"]).0, 0);
    assert_eq!(run(&["-k", "brief", "put", "gone", "1"]).0, 0);
    assert_eq!(run(&["keyspace", "rm", "brief"]).0, 2, "destructive without --yes");
    assert_eq!(run(&["keyspace", "rm", "brief", "--yes"]).0, 0);

    for node in 0..3 {
        fleet.cluster.kill(node);
    }
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    let (code, out, err) = run(&["keyspace", "ls"]);
    assert_eq!(code, 0, "{err}");
    let names: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["default", "orders"], "{out}");
    assert_eq!(run(&["-k", "orders", "ls", "--keys-only"]).1, "a\nb\nc\n");
    assert_eq!(run(&["-k", "orders", "put", "d", "1"]).0, 8, "the limit survives as well");
    // The same name again is another keyspace.
    assert_eq!(run(&["keyspace", "create", "brief", "--kind", "linearizable"]).0, 0);
    assert_eq!(run(&["-k", "brief", "get", "gone"]).0, 3);
}
