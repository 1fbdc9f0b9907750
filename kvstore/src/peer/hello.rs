//! The first thing that two nodes say to each other, and whether it fits.

use proto::peer::hello::Refusal;
use proto::{NodeId, peer};

use super::roster::{Roster, Standing};
use crate::forming::{Answer, Formed, Report, Verdict};

/// What this version speaks.
const PROTOCOL: u32 = 1;

/// What this node says about itself, apart from the cluster it formed with.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) cluster_name: String,
    pub(super) node_name: String,
    pub(super) node: NodeId,
    pub(super) boot: u64,
    /// Names of the members of `initial`, sorted; empty for a node that joins.
    pub(super) initial: Vec<String>,
    /// SHA-256 of the export that this node starts from.
    pub(super) seed: Option<[u8; 32]>,
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
    /// A node that has not formed and has no part in forming.
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
    /// The member of this name has another id.
    #[error("{name} has id {theirs}, but the cluster knows it with id {known}; it lost its data")]
    OtherId {
        /// The member.
        name: String,
        /// Its id now.
        theirs: NodeId,
        /// The id of the member.
        known: NodeId,
    },
    /// The member with this id has another name.
    #[error("{name} has the id of {holder}; one runs on a copy of the other's directory")]
    OtherName {
        /// The name it gave.
        name: String,
        /// The member with that id.
        holder: String,
    },
    /// It was removed from the cluster.
    #[error("{name} with id {node} was removed from the cluster")]
    Removed {
        /// Its name.
        name: String,
        /// Its id.
        node: NodeId,
    },
    /// It says that this node was removed.
    #[error("it says that this node was removed from the cluster")]
    RemovedUs,
    /// It refuses this node for a reason that a link should not meet.
    #[error("it refuses this node")]
    RefusedUs,
    /// A cluster of the same name that formed separately.
    #[error("it formed with another cluster of the same name")]
    ForeignCluster,
    /// The hello contradicts itself.
    #[error("its hello is malformed: {0}")]
    Malformed(&'static str),
}

impl Local {
    /// Whether the node wants to join a cluster, until it has: it is no founding member.
    pub(super) fn joins(&self) -> bool {
        self.initial.is_empty()
    }

    /// This node's hello. Before it has formed, the members are those it waits for, without ids.
    pub(super) fn hello(&self, formed: Option<&Formed>) -> peer::Hello {
        let expected = |name: &String| peer::FormedMember { id: 0, name: name.clone() };
        let seed = formed.map_or(self.seed, |formed| formed.seed);
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
            joining: self.joins() && formed.is_none(),
            seed: seed.map(|seed| seed.to_vec().into()).unwrap_or_default(),
            refusal: Refusal::Unspecified.into(),
        }
    }

    /// The hello that tells a node why its connection is closed.
    pub(super) fn refusing(&self, formed: &Formed, refusal: Refusal) -> peer::Hello {
        peer::Hello { refusal: refusal.into(), ..self.hello(Some(formed)) }
    }

    /// Judges the hello of the node that `certified` names, on a link.
    pub(super) fn check(
        &self,
        formed: Option<&Formed>,
        roster: &Roster,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Report, HelloRefused> {
        self.check_sender(certified, hello)?;
        let node = NodeId(hello.node_id);
        let report = Report { node, formed: self.formed_of(hello)?, seed: seed_of(hello)? };
        match formed {
            Some(formed) => check_formed(formed, roster, certified, &report)?,
            None => self.check_forming(certified, hello, &report)?,
        }
        // Last, so that only a node of the same cluster is believed.
        match Refusal::try_from(hello.refusal) {
            Ok(Refusal::Unspecified) => Ok(report),
            Ok(Refusal::Removed) if report.formed.is_some() => Err(HelloRefused::RemovedUs),
            Ok(Refusal::Removed | Refusal::NotAdded) | Err(_) => Err(HelloRefused::RefusedUs),
        }
    }

    /// Judges the hello of a node that wants to join.
    pub(super) fn check_joiner(
        &self,
        roster: &Roster,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Standing, HelloRefused> {
        self.check_sender(certified, hello)?;
        Ok(roster.standing(certified, NodeId(hello.node_id)))
    }

    /// Reads what the node that `certified` names says to this one, which wants to join; `None`
    /// when it has not formed a cluster itself.
    pub(super) fn check_answer(
        &self,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Option<Answer>, HelloRefused> {
        self.check_sender(certified, hello)?;
        let Some(formed) = self.formed_of(hello)? else { return Ok(None) };
        let verdict = match Refusal::try_from(hello.refusal) {
            Ok(Refusal::Unspecified) => Verdict::Added,
            Ok(Refusal::NotAdded) => Verdict::NotAdded,
            Ok(Refusal::Removed) => Verdict::Removed,
            Err(_) => return Err(HelloRefused::RefusedUs),
        };
        Ok(Some(Answer { witness: certified.to_owned(), formed, verdict }))
    }

    /// What every hello has to say.
    fn check_sender(&self, certified: &str, hello: &peer::Hello) -> Result<(), HelloRefused> {
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
        Ok(())
    }

    /// What the other side formed with, if it has.
    fn formed_of(&self, hello: &peer::Hello) -> Result<Option<Formed>, HelloRefused> {
        if hello.cluster_id.is_empty() {
            return Ok(None);
        }
        Formed::verify(&self.cluster_name, &hello.cluster_id, &hello.members, &hello.seed)
            .map(Some)
            .ok_or(HelloRefused::Malformed("its cluster id does not follow from its members"))
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

fn check_formed(
    formed: &Formed,
    roster: &Roster,
    certified: &str,
    report: &Report,
) -> Result<(), HelloRefused> {
    if report.formed.as_ref().is_some_and(|theirs| theirs.cluster != formed.cluster) {
        return Err(HelloRefused::ForeignCluster);
    }
    let (name, theirs) = (certified.to_owned(), report.node);
    match roster.standing(certified, theirs) {
        Standing::Removed => return Err(HelloRefused::Removed { name, node: theirs }),
        Standing::OtherId(known) => return Err(HelloRefused::OtherId { name, theirs, known }),
        Standing::OtherName(holder) => return Err(HelloRefused::OtherName { name, holder }),
        Standing::Member | Standing::Unbound | Standing::Unknown => {}
    }
    // One that has not formed yet may only be a founding member that is late.
    if report.formed.is_none() && formed.id_of(certified) != Some(theirs) {
        return Err(HelloRefused::NotAMember(name));
    }
    Ok(())
}

fn seed_of(hello: &peer::Hello) -> Result<Option<[u8; 32]>, HelloRefused> {
    match &hello.seed[..] {
        [] => Ok(None),
        seed => seed.try_into().map(Some).map_err(|_| HelloRefused::Malformed("its seed")),
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
            seed: None,
        }
    }

    /// Judges as a node that knows the founding members and nobody else.
    fn check(
        us: &Local,
        formed: Option<&Formed>,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Report, HelloRefused> {
        let roster = formed.map(|formed| Roster::founding(formed, &Default::default()));
        us.check(formed, &roster.unwrap_or_default(), certified, hello)
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
                let report = check(&us, ours, "n2", &them.hello(theirs)).unwrap();
                assert_eq!(report, Report { node: NodeId(2), formed: theirs.cloned(), seed: None });
            }
        }
        // A node that has not formed hears whatever the other one formed with; forming decides.
        let other = formed([9, 2, 3]);
        let report = check(&us, None, "n2", &them.hello(Some(&other))).unwrap();
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
            (None, changed(&base, |hello| hello.seed = vec![1; 31].into()), "its seed"),
            (
                None,
                changed(&in_cluster, |hello| hello.seed = vec![1; 32].into()),
                "does not follow",
            ),
            (None, changed(&in_cluster, |hello| hello.refusal = 1), "this node was removed"),
            (
                Some(&cluster),
                changed(&in_cluster, |hello| hello.refusal = 1),
                "this node was removed",
            ),
            (Some(&cluster), changed(&in_cluster, |hello| hello.refusal = 2), "refuses this node"),
            (Some(&cluster), changed(&in_cluster, |hello| hello.refusal = 9), "refuses this node"),
            // Only a node that has formed knows who was removed.
            (None, changed(&base, |hello| hello.refusal = 1), "it refuses this node"),
            (Some(&cluster), foreign, "another cluster of the same name"),
            (Some(&cluster), changed(&base, |hello| hello.node_id = 4), "it lost its data"),
        ];
        for (formed, hello, says) in rows {
            let refused = check(&us, formed, "n2", &hello).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}, expected {says}");
        }
        for formed in [None, Some(&cluster)] {
            let refused = check(&us, formed, "n4", &local("n4", 4).hello(None)).unwrap_err();
            assert_eq!(refused, HelloRefused::NotAMember("n4".into()));
        }
    }

    #[test]
    fn b20_members_are_judged_by_name_and_id() {
        let us = local("n1", 1);
        let cluster = formed([1, 2, 3]);
        let member = |name: &str, id| proto::v1::Member {
            id,
            name: name.into(),
            ..proto::v1::Member::default()
        };
        let roster = Roster::listed(&crate::identity::MemberList {
            members: vec![member("n1", 1), member("n2", 22), member("n4", 0)],
            removed: [NodeId(2), NodeId(3)].into(),
        });
        let judge = |name: &str, id, theirs: Option<&Formed>| {
            let refused = us.check(Some(&cluster), &roster, name, &local(name, id).hello(theirs));
            refused.map(|report| report.node)
        };
        let ours = Some(&cluster);
        assert_eq!(judge("n2", 22, ours), Ok(NodeId(22)), "a name that was removed came back");
        assert_eq!(judge("n4", 4, ours), Ok(NodeId(4)), "this list may be older than theirs");
        assert_eq!(judge("n9", 9, ours), Ok(NodeId(9)), "this list may be older than theirs");
        let removed =
            |name: &str, id| Err(HelloRefused::Removed { name: name.to_owned(), node: NodeId(id) });
        assert_eq!(judge("n2", 2, ours), removed("n2", 2));
        assert_eq!(judge("n3", 3, ours), removed("n3", 3));
        assert_eq!(judge("n3", 3, None), removed("n3", 3), "also before it has formed");
        assert_eq!(judge("n9", 9, None), Err(HelloRefused::NotAMember("n9".into())));
        let other_id =
            HelloRefused::OtherId { name: "n2".into(), theirs: NodeId(5), known: NodeId(22) };
        assert_eq!(judge("n2", 5, ours), Err(other_id));
        let other_name = HelloRefused::OtherName { name: "n9".into(), holder: "n2".into() };
        assert_eq!(judge("n9", 22, ours), Err(other_name));
        // What a removed node says about others counts for nothing.
        let liar = local("n3", 3).refusing(&cluster, Refusal::Removed);
        assert_eq!(
            us.check(Some(&cluster), &roster, "n3", &liar).map(|report| report.node),
            removed("n3", 3)
        );
    }

    #[test]
    fn answers_to_a_node_that_joins() {
        let joiner = Local { initial: Vec::new(), ..local("n4", 4) };
        let said = joiner.hello(None);
        assert!(said.joining && said.members.is_empty() && said.cluster_id.is_empty());
        let (member, cluster) = (local("n1", 1), formed([1, 2, 3]));
        assert!(!joiner.hello(Some(&cluster)).joining);
        let answer = |verdict| Answer { witness: "n1".into(), formed: cluster.clone(), verdict };
        let heard = |hello: &peer::Hello| joiner.check_answer("n1", hello);
        assert_eq!(heard(&member.hello(None)), Ok(None));
        assert_eq!(heard(&member.hello(Some(&cluster))), Ok(Some(answer(Verdict::Added))));
        for (refusal, verdict) in
            [(Refusal::NotAdded, Verdict::NotAdded), (Refusal::Removed, Verdict::Removed)]
        {
            assert_eq!(heard(&member.refusing(&cluster, refusal)), Ok(Some(answer(verdict))));
        }
        let newer = peer::Hello { refusal: 7, ..member.hello(Some(&cluster)) };
        assert_eq!(heard(&newer), Err(HelloRefused::RefusedUs));
        let roster = Roster::founding(&cluster, &Default::default());
        assert_eq!(member.check_joiner(&roster, "n4", &said), Ok(Standing::Unknown));
        let other = peer::Hello { cluster_name: "test".into(), ..said };
        let refused = member.check_joiner(&roster, "n4", &other).unwrap_err();
        assert!(refused.to_string().contains("cluster \"test\""), "{refused}");
    }
}
