//! The first thing that two nodes say to each other, and whether it fits.

use proto::{NodeId, peer};

use crate::forming::{Formed, Report};

/// What this version speaks.
const PROTOCOL: u32 = 1;

/// What this node says about itself, apart from the cluster it formed with.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) cluster_name: String,
    pub(super) node_name: String,
    pub(super) node: NodeId,
    pub(super) boot: u64,
    /// Names of the members of `initial`, sorted.
    pub(super) initial: Vec<String>,
}

/// Why a hello does not fit. The connection is closed; the other side may try again, and fits once
/// an operator has corrected one of the two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefused {
    /// Another version of the protocol.
    #[error("it speaks protocol {0}, this node speaks {PROTOCOL}")]
    Protocol(u32),
    /// A node of another cluster.
    #[error("it belongs to cluster {theirs:?}, this node to {ours:?}")]
    ClusterName {
        /// The name it gave.
        theirs: String,
        /// The name of this node's cluster.
        ours: String,
    },
    /// Another name than its certificate says.
    #[error("it calls itself {claimed:?}, its certificate says {certified:?}")]
    NodeName {
        /// The name in the hello.
        claimed: String,
        /// The name in the certificate.
        certified: String,
    },
    /// A node that is not in this node's list of members.
    #[error("{0} is not a member")]
    NotAMember(String),
    /// Before forming: its list of initial members differs.
    #[error("its list of initial members is [{theirs}], this node's is [{ours}]")]
    InitialDiffers {
        /// Its list.
        theirs: String,
        /// This node's list.
        ours: String,
    },
    /// The member has another id than it formed with.
    #[error(
        "{name} has id {theirs}, but the cluster formed with its id {formed}; it lost its data"
    )]
    OtherId {
        /// The member.
        name: String,
        /// Its id now.
        theirs: NodeId,
        /// Its id when the cluster formed.
        formed: NodeId,
    },
    /// A cluster of the same name that formed separately.
    #[error("it formed with another cluster of the same name")]
    ForeignCluster,
    /// The hello contradicts itself.
    #[error("its hello is malformed: {0}")]
    Malformed(&'static str),
}

impl Local {
    /// This node's hello. Before it has formed, the members are those it waits for, without ids.
    pub(super) fn hello(&self, formed: Option<&Formed>) -> peer::Hello {
        let expected = |name: &String| peer::FormedMember { id: 0, name: name.clone() };
        peer::Hello {
            protocol: PROTOCOL,
            cluster_name: self.cluster_name.clone(),
            node_name: self.node_name.clone(),
            node_id: self.node.get(),
            boot: self.boot,
            cluster_id: formed.map(|formed| formed.cluster.0.to_vec().into()).unwrap_or_default(),
            members: match formed {
                Some(formed) => formed.wire_members(),
                None => self.initial.iter().map(expected).collect(),
            },
            ..peer::Hello::default()
        }
    }

    /// Judges the hello of the node that `certified` names.
    pub(super) fn check(
        &self,
        formed: Option<&Formed>,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Report, HelloRefused> {
        if hello.protocol != PROTOCOL {
            return Err(HelloRefused::Protocol(hello.protocol));
        }
        if hello.cluster_name != self.cluster_name {
            let (theirs, ours) = (hello.cluster_name.clone(), self.cluster_name.clone());
            return Err(HelloRefused::ClusterName { theirs, ours });
        }
        if hello.node_name != certified {
            let (claimed, certified) = (hello.node_name.clone(), certified.to_owned());
            return Err(HelloRefused::NodeName { claimed, certified });
        }
        if hello.node_id == 0 {
            return Err(HelloRefused::Malformed("no id"));
        }
        let report = Report { node: NodeId(hello.node_id), formed: self.formed_of(hello)? };
        match formed {
            Some(formed) => self.check_formed(formed, certified, &report)?,
            None => self.check_forming(certified, hello, &report)?,
        }
        Ok(report)
    }

    /// What the other side formed with, if it has.
    fn formed_of(&self, hello: &peer::Hello) -> Result<Option<Formed>, HelloRefused> {
        if hello.cluster_id.is_empty() {
            return Ok(None);
        }
        let formed = Formed::verify(&self.cluster_name, &hello.cluster_id, &hello.members)
            .ok_or(HelloRefused::Malformed("its cluster id does not follow from its members"))?;
        if formed.id_of(&hello.node_name) != Some(NodeId(hello.node_id)) {
            return Err(HelloRefused::Malformed("it is not among its own members"));
        }
        Ok(Some(formed))
    }

    fn check_formed(
        &self,
        formed: &Formed,
        certified: &str,
        report: &Report,
    ) -> Result<(), HelloRefused> {
        let Some(id) = formed.id_of(certified) else {
            return Err(HelloRefused::NotAMember(certified.to_owned()));
        };
        if report.formed.as_ref().is_some_and(|theirs| theirs.cluster != formed.cluster) {
            return Err(HelloRefused::ForeignCluster);
        }
        if report.node != id {
            let (name, theirs) = (certified.to_owned(), report.node);
            return Err(HelloRefused::OtherId { name, theirs, formed: id });
        }
        Ok(())
    }

    fn check_forming(
        &self,
        certified: &str,
        hello: &peer::Hello,
        report: &Report,
    ) -> Result<(), HelloRefused> {
        if !self.initial.iter().any(|name| name == certified) {
            return Err(HelloRefused::NotAMember(certified.to_owned()));
        }
        let theirs: Vec<&str> = hello.members.iter().map(|member| member.name.as_str()).collect();
        // Lists that differ would form two clusters out of overlapping nodes.
        if report.formed.is_none() && theirs != self.initial {
            let (theirs, ours) = (theirs.join(", "), self.initial.join(", "));
            return Err(HelloRefused::InitialDiffers { theirs, ours });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(name: &str, id: u64) -> Local {
        Local {
            cluster_name: "prod".into(),
            node_name: name.into(),
            node: NodeId(id),
            boot: 5,
            initial: ["n1", "n2", "n3"].map(str::to_owned).to_vec(),
        }
    }

    fn formed(ids: [u64; 3]) -> Formed {
        let names = ["n1", "n2", "n3"].map(str::to_owned);
        Formed::derive("prod", ids.into_iter().map(NodeId).zip(names))
    }

    #[test]
    fn fitting_hellos_report_their_node() {
        let (us, them) = (local("n1", 1), local("n2", 2));
        let cluster = formed([1, 2, 3]);
        for ours in [None, Some(&cluster)] {
            for theirs in [None, Some(&cluster)] {
                let report = us.check(ours, "n2", &them.hello(theirs)).unwrap();
                assert_eq!(report, Report { node: NodeId(2), formed: theirs.cloned() });
            }
        }
        // A node that has not formed hears whatever the other one formed with; forming decides.
        let other = formed([9, 2, 3]);
        let report = us.check(None, "n2", &them.hello(Some(&other))).unwrap();
        assert_eq!(report.formed, Some(other));
    }

    #[test]
    fn others_are_refused() {
        let us = local("n1", 1);
        let cluster = formed([1, 2, 3]);
        let base = local("n2", 2).hello(None);
        let in_cluster = local("n2", 2).hello(Some(&cluster));
        let foreign = local("n2", 2).hello(Some(&formed([9, 2, 3])));
        let changed = |base: &peer::Hello, change: fn(&mut peer::Hello)| {
            let mut hello = base.clone();
            change(&mut hello);
            hello
        };
        let rows = [
            (None, changed(&base, |hello| hello.protocol = 2), "protocol 2"),
            (None, changed(&base, |hello| hello.cluster_name = "test".into()), "cluster \"test\""),
            (
                None,
                changed(&base, |hello| hello.node_name = "n3".into()),
                "its certificate says \"n2\"",
            ),
            (None, changed(&base, |hello| hello.node_id = 0), "no id"),
            (None, changed(&base, |hello| hello.members.clear()), "initial members is []"),
            (
                None,
                changed(&base, |hello| hello.members.truncate(2)),
                "initial members is [n1, n2]",
            ),
            (None, changed(&in_cluster, |hello| hello.members.truncate(2)), "does not follow"),
            (
                None,
                changed(&in_cluster, |hello| hello.cluster_id = vec![1].into()),
                "does not follow",
            ),
            (None, changed(&in_cluster, |hello| hello.node_id = 4), "not among its own members"),
            (Some(&cluster), foreign, "another cluster of the same name"),
            (Some(&cluster), changed(&base, |hello| hello.node_id = 4), "it lost its data"),
        ];
        for (formed, hello, says) in rows {
            let refused = us.check(formed, "n2", &hello).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}, expected {says}");
        }
        for formed in [None, Some(&cluster)] {
            let refused = us.check(formed, "n4", &local("n4", 4).hello(None)).unwrap_err();
            assert_eq!(refused, HelloRefused::NotAMember("n4".into()));
        }
    }
}
