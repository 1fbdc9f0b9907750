//! Nodes that join, leave, move and come back.

use std::collections::BTreeSet;

use proto::Code;
use storage::disk::RealDisk;

use super::*;
use crate::identity::{DataDir, MemberList};

impl Cluster {
    /// How a node starts that asks these others whether it may join.
    fn joiner(&self, name: &str, id: u64, others: &[&str]) -> NetworkConfig {
        let join = others.iter().map(|other| self.address(other).to_string().parse().unwrap());
        NetworkConfig { initial: Vec::new(), join: join.collect(), ..self.config(name, id, None) }
    }

    /// A list of members, each where it listens.
    fn list(&self, members: &[(&str, u64)]) -> Vec<v1::Member> {
        let member = |(name, id): &(&str, u64)| v1::Member {
            id: *id,
            name: (*name).to_owned(),
            peer_address: self.address(name).to_string(),
            ..v1::Member::default()
        };
        members.iter().map(member).collect()
    }
}

impl Node {
    fn set_members(&self, cluster: &Cluster, members: &[(&str, u64)], removed: &[u64]) {
        let removed = removed.iter().copied().map(NodeId).collect();
        self.network.set_members(cluster.list(members), removed);
    }

    /// Waits until so many connections have come in beyond those of `before`.
    async fn accepted_since(&self, before: u64, count: u64) {
        let accepted = async {
            while self.network.accept_counters().accepted() < before + count {
                tokio::task::yield_now().await;
            }
        };
        soon(accepted).await;
    }
}

fn joining(name: &str, node: u64) -> LinkEvent {
    LinkEvent::Joining { name: name.to_owned(), node: NodeId(node) }
}

#[tokio::test]
async fn a_node_joins_that_was_added_before() {
    let cluster = Cluster::new(4);
    let mut n1 = cluster.start("n1", 1, Some(formed(&[1]))).await;
    n1.set_members(&cluster, &[("n1", 1), ("n4", 4)], &[]);
    // n3 is not there, and n4 itself no help.
    let mut n4 = soon(Node::start(cluster.joiner("n4", 4, &["n3", "n4", "n1"]))).await;
    assert_eq!(n4.form().await, Formed { joined: true, ..formed(&[1]) });
    assert_eq!((n1.ups(1).await, n4.ups(1).await), (vec![4], vec![1]));
    n1.network.send(NodeId(4), vote(1));
    n4.network.send(NodeId(1), vote(2));
    assert_eq!(n4.event().await, LinkEvent::Message { from: NodeId(1), message: vote(1) });
    assert_eq!(n1.event().await, LinkEvent::Message { from: NodeId(4), message: vote(2) });
    // It keeps that for good, and asks nobody at its next start.
    n4.network.shutdown().await;
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(4)));
    let again = Formed { joined: true, ..formed(&[1]) };
    let config = NetworkConfig { formed: Some(again), ..cluster.joiner("n4", 4, &["n1"]) };
    let mut n4 = soon(Node::start(config)).await;
    assert_eq!((n1.ups(1).await, n4.ups(1).await), (vec![4], vec![1]));
}

#[tokio::test]
async fn a_node_joins_once_it_was_added_and_its_id_is_bound() {
    let cluster = Cluster::new(4);
    let mut n2 = cluster.start("n2", 1, Some(only_n2())).await;
    let n4 = soon(Node::start(cluster.joiner("n4", 4, &["n2"]))).await;
    // Nobody has added it: it asks again and again, and nothing comes of it.
    n2.accepted_since(0, 3).await;
    assert!(n2.events.try_recv().is_err(), "an unknown node is no event");
    n2.set_members(&cluster, &[("n2", 1), ("n4", 0)], &[]);
    assert_eq!(n2.event().await, joining("n4", 4));
    assert_eq!(n2.event().await, joining("n4", 4), "until the catalogue has it");
    let waits = time::timeout(Duration::ZERO, n4.network.form()).await;
    assert!(waits.is_err(), "{waits:?}");
    n2.set_members(&cluster, &[("n2", 1), ("n4", 4)], &[]);
    assert_eq!(n4.form().await, Formed { joined: true, ..only_n2() });
    let up = async {
        loop {
            match n2.event().await {
                LinkEvent::Up(node) => return node,
                event => assert_eq!(event, joining("n4", 4)),
            }
        }
    };
    assert_eq!(up.await, NodeId(4));
}

fn only_n2() -> Formed {
    Formed::derive("prod", [(NodeId(1), "n2".to_owned())])
}

#[tokio::test]
async fn a_node_that_nobody_adds_waits_until_it_stops() {
    let cluster = Cluster::new(4);
    let mut n1 = cluster.start("n1", 1, Some(formed(&[1]))).await;
    // Founders that have not formed yet cannot let anybody in either.
    let n2 = cluster.start("n2", 2, None).await;
    let n4 = soon(Node::start(cluster.joiner("n4", 4, &["n1", "n2"]))).await;
    n1.accepted_since(0, 2).await;
    n2.accepted_since(0, 2).await;
    let (formed, ()) = tokio::join!(n4.network.form(), n4.network.shutdown());
    assert_eq!(formed, Err(FormError::Stopping));
    assert!(n1.events.try_recv().is_err());
}

#[tokio::test]
async fn addresses_of_two_clusters_are_refused() {
    let cluster = Cluster::new(4);
    let n1 = cluster.start("n1", 1, Some(formed(&[1]))).await;
    // One of them would let it in.
    n1.set_members(&cluster, &[("n1", 1), ("n4", 4)], &[]);
    let _n2 = cluster.start("n2", 1, Some(only_n2())).await;
    let n4 = soon(Node::start(cluster.joiner("n4", 4, &["n1", "n2"]))).await;
    let error = soon(n4.network.form()).await.unwrap_err();
    assert!(matches!(&error, FormError::TwoClusters { .. }), "{error}");
    assert_eq!(error.code().exit(), 9);
    for part in ["n1", "n2", &formed(&[1]).cluster.to_string(), &only_n2().cluster.to_string()] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// By the names n1 would have to dial, but knows nobody's address.
#[tokio::test]
async fn a_node_that_should_dial_and_cannot_is_dialed() {
    let cluster = Cluster::new(2);
    let mut n2 = cluster.start("n2", 1, Some(only_n2())).await;
    n2.set_members(&cluster, &[("n2", 1), ("n1", 7)], &[]);
    let mut n1 = soon(Node::start(cluster.joiner("n1", 7, &["n2"]))).await;
    n1.form().await;
    assert_eq!((n2.ups(1).await, n1.ups(1).await), (vec![7], vec![1]));
}

#[tokio::test]
async fn b20_a_removed_node_is_told_and_never_linked_again() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2, 3]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    let mut n3 = cluster.start("n3", 3, Some(all.clone())).await;
    assert_eq!((n1.ups(2).await, n3.ups(2).await), (vec![2, 3], vec![1, 2]));
    assert_eq!(n2.ups(2).await, [1, 3]);
    for node in [&n1, &n2] {
        node.set_members(&cluster, &[("n1", 1), ("n2", 2)], &[3]);
    }
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(3)));
    assert_eq!(n2.event().await, LinkEvent::Down(NodeId(3)));
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(n3.event().await);
    }
    let witness = soon(n3.network.removed()).await;
    assert!(witness == "n1" || witness == "n2", "{witness}");
    for expected in [LinkEvent::Down(NodeId(1)), LinkEvent::Down(NodeId(2))] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    // It comes back, and nobody wants it: not formed yet, formed, or asking to join.
    for (formed, joins) in [(Some(all.clone()), false), (None, false), (None, true)] {
        let accepted = || [&n1, &n2].map(|node| node.network.accept_counters().accepted());
        let before = accepted();
        n3.network.shutdown().await;
        let config = if joins {
            cluster.joiner("n3", 3, &["n1", "n2"])
        } else {
            cluster.config("n3", 3, formed.clone())
        };
        n3 = soon(Node::start(config)).await;
        let witness = soon(n3.network.removed_or_refused(formed.is_none())).await;
        let at = ["n1", "n2"].iter().position(|name| **name == *witness).unwrap();
        assert!(accepted()[at] > before[at], "{witness} was asked again");
    }
    assert!(n1.events.try_recv().is_err(), "the links to the others did not notice");
    assert!(n2.events.try_recv().is_err(), "the links to the others did not notice");
    // The name is free for a node with another id.
    n1.set_members(&cluster, &[("n1", 1), ("n2", 2), ("n3", 33)], &[3]);
    n3.network.shutdown().await;
    let new = Formed { joined: true, ..all };
    let mut n3 = soon(Node::start(cluster.config("n3", 33, Some(new)))).await;
    assert_eq!(n3.ups(1).await, [1]);
    assert_eq!(n1.ups(1).await, [33]);
}

impl Network {
    /// The member that says that this node was removed, whether it forms meanwhile or not.
    async fn removed_or_refused(&self, forms: bool) -> String {
        if !forms {
            return self.removed().await;
        }
        match self.form().await.unwrap_err() {
            FormError::Removed { witness, .. } => witness,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_list_without_this_node_itself_ends_it_if_its_id_was_removed() {
    let cluster = Cluster::new(2);
    let n1 = cluster.start("n1", 1, Some(formed(&[1, 2]))).await;
    n1.set_members(&cluster, &[("n2", 2)], &[]);
    let early = tokio::time::timeout(Duration::ZERO, n1.network.removed()).await;
    assert!(early.is_err(), "that list may be from before it was added");
    n1.set_members(&cluster, &[("n2", 2)], &[1]);
    n1.set_members(&cluster, &[("n2", 2), ("n1", 11)], &[1]);
    assert_eq!(soon(n1.network.removed()).await, "n1");
    let error = FormError::Removed { name: "n1".into(), witness: "n1".into() };
    assert_eq!((error.code(), error.code().exit()), (Code::Removed, 9));
}

#[tokio::test]
async fn b44_b62_a_wiped_node_comes_back_with_a_new_id_and_only_when_added() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    drop(n2);
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(2)));
    // Its directory is lost. It may not come back by itself, whatever it is told to do.
    let config = cluster.joiner("n2", 22, &["n1"]);
    n2 = soon(Node::start(config)).await;
    let before = n1.network.accept_counters().accepted();
    n1.accepted_since(before, 2).await;
    assert!(n1.events.try_recv().is_err());
    n1.set_members(&cluster, &[("n1", 1), ("n2", 0)], &[2]);
    assert_eq!(n1.event().await, joining("n2", 22));
    n1.set_members(&cluster, &[("n1", 1), ("n2", 22)], &[2]);
    assert_eq!(n2.form().await, Formed { joined: true, ..all });
    let event = async {
        loop {
            match n1.event().await {
                LinkEvent::Joining { .. } => {}
                event => return event,
            }
        }
    };
    assert_eq!(event.await, LinkEvent::Up(NodeId(22)));
    assert_eq!(n2.event().await, LinkEvent::Up(NodeId(1)));
    let peers = n1.network.peers();
    assert_eq!((peers.len(), peers[0].node, peers[0].connected), (1, NodeId(22), true));
}

#[tokio::test]
async fn a_changed_address_is_followed() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    let mut list = cluster.list(&[("n1", 1), ("n2", 2)]);
    n1.network.set_members(list.clone(), BTreeSet::new());
    n2.network.shutdown().await;
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(2)));
    // It moves to the port that nobody else uses, and cannot say so itself: it dials nobody.
    let listen = cluster.address("n3");
    let config =
        NetworkConfig { listen, initial: Vec::new(), ..cluster.config("n2", 2, Some(all)) };
    let mut n2 = soon(Node::start(config)).await;
    list[1].peer_address = listen.to_string();
    n1.network.set_members(list, BTreeSet::new());
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    assert!(n1.events.try_recv().is_err() && n2.events.try_recv().is_err());
}

#[tokio::test]
async fn members_that_left_are_dropped_and_what_was_lost_stays_counted() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2, 3]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all)).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    n1.network.send(NodeId(3), vote(1));
    assert_eq!(n1.network.dropped(), (1, 0));
    n1.set_members(&cluster, &[("n1", 1), ("n2", 2)], &[]);
    assert_eq!(n1.network.dropped(), (1, 0));
    n1.network.send(NodeId(3), vote(2));
    assert_eq!(n1.network.dropped(), (1, 0), "it goes nowhere and is lost on nobody");
    let names: Vec<String> = n1.network.peers().into_iter().map(|peer| peer.name).collect();
    assert_eq!(names, ["n2"]);
    // A list that says the same again disturbs nobody.
    n1.set_members(&cluster, &[("n1", 1), ("n2", 2)], &[]);
    n1.network.send(NodeId(2), vote(3));
    assert_eq!(n2.event().await, LinkEvent::Message { from: NodeId(1), message: vote(3) });
    assert!(n1.events.try_recv().is_err());
}

#[tokio::test]
async fn a_member_that_this_node_has_not_heard_of_is_linked() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    // n3 has joined; only it knows that.
    let mut stranger = ByHand::dial(&cluster, "n3", "n1").await;
    stranger.say(&hello("n3", 3, &all)).await;
    assert_eq!(n1.event().await, LinkEvent::Up(NodeId(3)));
    n1.network.send(NodeId(3), vote(1));
    assert_eq!(n1.network.dropped(), (0, 0));
    // A list without it may be old as well; one with it changes nothing.
    n1.set_members(&cluster, &[("n1", 1), ("n2", 2)], &[]);
    n1.set_members(&cluster, &[("n1", 1), ("n2", 2), ("n3", 3)], &[]);
    n1.network.send(NodeId(3), vote(2));
    assert_eq!(n1.network.dropped(), (0, 0));
    assert!(n1.events.try_recv().is_err());
    // n2 knows n3 under another id, or its id under another name: somebody runs on a copy.
    n2.set_members(&cluster, &[("n1", 1), ("n2", 2), ("n3", 4)], &[]);
    for id in [3, 1] {
        let mut liar = ByHand::dial(&cluster, "n3", "n2").await;
        liar.say(&hello("n3", id, &all)).await;
        liar.closed().await;
    }
    assert!(n2.events.try_recv().is_err());
    drop(stranger);
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(3)));
}

#[tokio::test]
async fn strangers_are_few() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    let mut linked = Vec::new();
    for id in 0..16 {
        let name = format!("s{id}");
        cluster.pki.node(&name);
        let mut stranger = ByHand::dial(&cluster, &name, "n2").await;
        stranger.say(&hello(&name, 100 + id, &all)).await;
        linked.push(stranger);
    }
    let mut ups = n2.ups(16).await;
    ups.dedup();
    assert_eq!(ups.len(), 16);
    cluster.pki.node("t2");
    let mut refused = ByHand::dial(&cluster, "t2", "n2").await;
    refused.say(&hello("t2", 201, &all)).await;
    refused.closed().await;
    assert!(n2.events.try_recv().is_err());
    // Members are linked all the same.
    let mut n1 = ByHand::dial(&cluster, "n1", "n2").await;
    n1.say(&hello("n1", 1, &all)).await;
    assert_eq!(n2.event().await, LinkEvent::Up(NodeId(1)));
}

#[tokio::test]
async fn founders_with_different_seeds_refuse_and_name_both() {
    let cluster = Cluster::new(2);
    let start = |name: &str, id, seed| {
        Node::start(NetworkConfig { seed, ..cluster.config(name, id, None) })
    };
    let n1 = soon(start("n1", 1, Some([7; 32]))).await;
    let n2 = soon(start("n2", 2, None)).await;
    for node in [&n1, &n2] {
        let error = soon(node.network.form()).await.unwrap_err();
        assert_eq!((error.code(), error.code().exit()), (Code::ExportInvalid, 9));
        let text = error.to_string();
        assert!(text.contains("n1") && text.contains("n2") && text.contains("0707"), "{text}");
    }
    n2.network.shutdown().await;
    let n2 = soon(start("n2", 2, Some([7; 32]))).await;
    n1.network.shutdown().await;
    let n1 = soon(start("n1", 1, Some([7; 32]))).await;
    let (mut n1, mut n2) = (n1, n2);
    let (a, b) = tokio::join!(n1.form(), n2.form());
    assert_eq!((&a, a.seed), (&b, Some([7; 32])));
    assert_ne!(a.cluster, formed(&[1, 2]).cluster);
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
}

#[tokio::test]
async fn the_list_survives_a_restart() {
    let cluster = Cluster::new(4);
    let root = tempfile::tempdir().unwrap();
    let open = || DataDir::open(Arc::new(RealDisk), root.path(), "n1", "prod").unwrap();
    let mut dir = open();
    let all = Formed::derive("prod", [(dir.node(), "n1".to_owned()), (NodeId(2), "n2".to_owned())]);
    dir.save_formed(&all).unwrap();
    let start = |dir: &DataDir| {
        Node::start(NetworkConfig {
            initial: Vec::new(),
            formed: dir.formed().cloned(),
            members: dir.members().cloned(),
            members_file: Some(dir.members_file()),
            ..cluster.config("n1", dir.node().get(), None)
        })
    };
    let id = dir.node().get();
    let n1 = soon(start(&dir)).await;
    n1.set_members(&cluster, &[("n1", id), ("n2", 2)], &[]);
    n1.set_members(&cluster, &[("n1", id), ("n4", 4)], &[2]);
    let expected =
        MemberList { members: cluster.list(&[("n1", id), ("n4", 4)]), removed: [NodeId(2)].into() };
    n1.network.shutdown().await;
    drop(n1);
    drop(dir);
    let dir = open();
    assert_eq!(dir.members(), Some(&expected), "the last one, also right before the end");
    // Nobody calls set_members: the list knows n4 and its address, and that n2 was removed.
    let mut n1 = soon(start(&dir)).await;
    let joined = Formed { joined: true, ..all.clone() };
    let mut n4 = cluster.start("n4", 4, Some(joined)).await;
    assert_eq!((n1.ups(1).await, n4.ups(1).await), (vec![4], vec![id]));
    let n2 = cluster.start("n2", 2, Some(all)).await;
    assert_eq!(soon(n2.network.removed()).await, "n1");
}

/// Every node of a cluster got another address while all of them were stopped.
#[tokio::test]
async fn an_address_of_the_configuration_is_tried_beside_an_old_one() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2]);
    let mut members = cluster.list(&[("n1", 1), ("n2", 2)]);
    for member in &mut members {
        // Where nobody listens.
        member.peer_address = cluster.address("n3").to_string();
    }
    let start = |name, id| {
        let members = Some(MemberList { members: members.clone(), removed: BTreeSet::new() });
        Node::start(NetworkConfig { members, ..cluster.config(name, id, Some(all.clone())) })
    };
    let (mut n1, mut n2) = (soon(start("n1", 1)).await, soon(start("n2", 2)).await);
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
}
