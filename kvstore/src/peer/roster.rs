//! Who belongs to the cluster, as far as this node knows.

use std::collections::{BTreeMap, BTreeSet};

use proto::NodeId;

use crate::config::Address;
use crate::forming::Formed;
use crate::identity::MemberList;

/// How a node of this name and id stands with the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is a member.
    Member,
    /// Its name was added, its id is not known yet.
    Unbound,
    /// Nothing is known about it. This node's list may be old.
    Unknown,
    /// Its id was removed, for good.
    Removed,
    /// The member of this name has another id.
    OtherId(NodeId),
    /// The member with this id has another name.
    OtherName(String),
}

/// What is known about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// 0 until it has joined.
    pub(super) node: NodeId,
    pub(super) address: Option<Address>,
}

/// The members by name, this node among them, and the ids that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    members: BTreeMap<String, Listed>,
    removed: BTreeSet<NodeId>,
}

impl Roster {
    /// What a cluster begins with. A node that joined later knows nobody: the founding members may
    /// have left long ago.
    pub(super) fn founding(formed: &Formed, addresses: &BTreeMap<String, Address>) -> Self {
        if formed.joined {
            return Self::default();
        }
        let listed = |(node, name): &(NodeId, String)| {
            (name.clone(), Listed { node: *node, address: addresses.get(name).cloned() })
        };
        Self { members: formed.members.iter().map(listed).collect(), removed: BTreeSet::new() }
    }

    /// What the catalogue says. An address that cannot be read counts as unknown.
    pub(super) fn listed(list: &MemberList) -> Self {
        let members = list.members.iter().map(|member| {
            let address = member.peer_address.parse().ok();
            (member.name.clone(), Listed { node: NodeId(member.id), address })
        });
        Self { members: members.collect(), removed: list.removed.clone() }
    }

    /// All members by name.
    pub(super) fn members(&self) -> &BTreeMap<String, Listed> {
        &self.members
    }

    /// Whether this id was removed.
    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// How the node stands that calls itself so.
    pub(super) fn standing(&self, name: &str, node: NodeId) -> Standing {
        if self.is_removed(node) {
            return Standing::Removed;
        }
        let holder = self.members.iter().find(|(_, listed)| listed.node == node);
        if let Some((holder, _)) = holder.filter(|(holder, _)| *holder != name) {
            return Standing::OtherName(holder.clone());
        }
        match self.members.get(name) {
            None => Standing::Unknown,
            Some(listed) if listed.node == node => Standing::Member,
            Some(listed) if listed.node == NodeId(0) => Standing::Unbound,
            Some(listed) => Standing::OtherId(listed.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    #[test]
    fn standings() {
        let member = |name: &str, id, peer_address: &str| v1::Member {
            id,
            name: name.into(),
            peer_address: peer_address.into(),
            ..v1::Member::default()
        };
        let roster = Roster::listed(&MemberList {
            members: vec![member("n1", 1, "a:1"), member("n4", 0, "d:1"), member("n5", 5, "")],
            removed: [NodeId(3)].into(),
        });
        for (name, node, standing) in [
            ("n1", 1, Standing::Member),
            ("n1", 7, Standing::OtherId(NodeId(1))),
            ("n4", 4, Standing::Unbound),
            ("n9", 9, Standing::Unknown),
            ("n3", 3, Standing::Removed),
            // A name is free again, an id never.
            ("n3", 8, Standing::Unknown),
            ("n1", 3, Standing::Removed),
            ("n9", 1, Standing::OtherName("n1".into())),
            ("n4", 1, Standing::OtherName("n1".into())),
        ] {
            assert_eq!(roster.standing(name, NodeId(node)), standing, "{name} {node}");
        }
        assert_eq!(roster.members()["n1"].address, Some("a:1".parse().unwrap()));
        assert_eq!(roster.members()["n5"].address, None);
    }

    #[test]
    fn only_a_founder_knows_the_founders() {
        let formed = Formed::derive("prod", [(NodeId(1), "n1".into()), (NodeId(2), "n2".into())]);
        let addresses = BTreeMap::from([("n2".to_owned(), "b:1".parse().unwrap())]);
        let roster = Roster::founding(&formed, &addresses);
        assert_eq!(roster.standing("n2", NodeId(2)), Standing::Member);
        assert_eq!(roster.members()["n1"].address, None);
        assert_eq!(roster.members()["n2"].address, addresses.get("n2").cloned());
        let joined = Formed { joined: true, ..formed };
        assert_eq!(Roster::founding(&joined, &addresses), Roster::default());
    }
}
