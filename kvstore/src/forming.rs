//! Forming a cluster: when the members of `initial` become one, decided as a pure function.
//!
//! Each node mints a random id and syncs it before it tells anyone. It then tells every member of
//! its `initial` list who it is and, once it has formed, what the cluster consists of. A node that
//! has not formed does so when either
//! - every member of `initial` has reported its id: all see the same (name, id) pairs, so all
//!   derive the same cluster id and the same voters without a further round; or
//! - a member that has formed lists this node *with this very id*. The node had reported it before,
//!   so it has never voted under another one.
//!
//! If a formed member lists another id for this node, the node has lost its data directory. It must
//! not come back by itself: its former self may have voted and acknowledged writes that the new
//! one does not remember.
//!
//! After forming, `initial` is a list of addresses and nothing more.
//!
//! A cluster that was restored starts from an export, its *seed*. All its members must have the
//! same one, and the cluster id follows from it as well.
//!
//! A node that joins a cluster ([`Joining`]) has no say in what that is: it asks members until one
//! of them says that the node was added with this very id, and keeps the cluster id and the
//! founding members that it was told.

use std::collections::BTreeMap;

use proto::{ClusterId, Code, Failure, Hex, NodeId, peer};
use sha2::{Digest, Sha256};

/// What a cluster consists of when it is born. Its nodes keep it for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// The first 16 bytes of the SHA-256 over the cluster's name, the members and the seed.
    pub cluster: ClusterId,
    /// The founding members in the order of their names. Neither a name nor an id occurs twice; no
    /// id is 0.
    pub members: Vec<(NodeId, String)>,
    /// SHA-256 of the export that all of them started from, if they did.
    pub seed: Option<[u8; 32]>,
    /// This node joined later. A name among the founding members that is its own belonged to
    /// another node.
    pub joined: bool,
}

impl Formed {
    /// The cluster of this name with these members, in whatever order they are given, that starts
    /// from nothing.
    ///
    /// # Panics
    /// As [`Formed::derive_from`].
    #[must_use]
    pub fn derive(cluster_name: &str, members: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        Self::derive_from(cluster_name, members, None)
    }

    /// The same for a cluster that starts from an export with this SHA-256.
    ///
    /// # Panics
    /// When there are no members, or a name or id occurs twice or is empty or 0: callers have
    /// checked that before.
    #[must_use]
    pub fn derive_from(
        cluster_name: &str,
        members: impl IntoIterator<Item = (NodeId, String)>,
        seed: Option<[u8; 32]>,
    ) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|a, b| a.1.cmp(&b.1));
        assert!(is_member_list(&members), "members cannot form a cluster: {members:?}");
        let mut hash = Sha256::new();
        // Lengths keep every pair of different inputs apart.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(cluster_name.as_bytes());
        for (id, name) in &members {
            part(name.as_bytes());
            part(format!("{:016x}", id.get()).as_bytes());
        }
        // An even number of parts: no list of members alone looks like it.
        if let Some(seed) = &seed {
            part(seed);
        }
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&hash.finalize()[..16]);
        Self { cluster: ClusterId(cluster), members, seed, joined: false }
    }

    /// Reads what another node sent or a file holds; `None` unless it is exactly what
    /// [`Formed::derive_from`] makes of its members and its seed, which is empty for none.
    #[must_use]
    pub fn verify(
        cluster_name: &str,
        cluster: &[u8],
        members: &[peer::FormedMember],
        seed: &[u8],
    ) -> Option<Self> {
        let seed = match seed {
            [] => None,
            seed => Some(seed.try_into().ok()?),
        };
        let members: Vec<_> =
            members.iter().map(|member| (NodeId(member.id), member.name.clone())).collect();
        if !is_member_list(&members) {
            return None;
        }
        let derived = Self::derive_from(cluster_name, members.iter().cloned(), seed);
        (derived.cluster.0 == cluster && derived.members == members).then_some(derived)
    }

    /// The members for a message or a file.
    #[must_use]
    pub fn wire_members(&self) -> Vec<peer::FormedMember> {
        let member =
            |(id, name): &(NodeId, String)| peer::FormedMember { id: id.get(), name: name.clone() };
        self.members.iter().map(member).collect()
    }

    /// The seed for a message or a file; empty for none.
    #[must_use]
    pub fn wire_seed(&self) -> Vec<u8> {
        self.seed.map(Vec::from).unwrap_or_default()
    }

    /// Whether the node of this name and id belongs to the cluster, as a founding member or because it
    /// joined.
    #[must_use]
    pub fn holds(&self, name: &str, id: NodeId) -> bool {
        self.joined || self.id_of(name) == Some(id)
    }

    /// The id of a founding member.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member == name).map(|(id, _)| *id)
    }
}

/// Members sorted by name, no name or id twice, empty or 0.
fn is_member_list(members: &[(NodeId, String)]) -> bool {
    let mut ids: Vec<NodeId> = members.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    !members.is_empty()
        && members.iter().all(|(id, name)| *id != NodeId(0) && !name.is_empty())
        && members.windows(2).all(|pair| pair[0].1 < pair[1].1)
        && ids.windows(2).all(|pair| pair[0] != pair[1])
}

/// What one node said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub node: NodeId,
    /// Set once it has formed.
    pub formed: Option<Formed>,
    /// SHA-256 of the export that it starts from.
    pub seed: Option<[u8; 32]>,
}

/// What a node that has not formed should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait, until one that waits for others has heard them all, or one that joins was added.
    Wait {
        /// Names of members, or addresses, that have said nothing of use yet, sorted.
        missing: Vec<String>,
    },
    /// Become a member of this cluster: write it down, then act as one.
    Form(Formed),
    /// Never: stop and say why.
    Refuse(FormError),
}

/// Why a node can never form as it is. An operator has to decide; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The cluster has formed with this name under another id.
    #[error(
        "{name} lost its data directory: {witness} says that the cluster has formed with {name} \
         under another id; try: kv cluster remove {name} --lose-unseen, kv cluster add {name}=ADDR, \
         then start it with join instead of initial"
    )]
    DataLost {
        /// This node.
        name: String,
        /// The formed member that said so.
        witness: String,
    },
    /// The cluster has formed without this node.
    #[error(
        "{witness} says that the cluster has formed without {name}; try: start it with join \
         instead of initial"
    )]
    NotAMember {
        /// This node.
        name: String,
        /// The formed member that said so.
        witness: String,
    },
    /// The cluster has formed with other members than `initial` names.
    #[error(
        "{witness} says that the cluster has formed with the members {members}, which are not \
         those of initial; the list must be the same on each node"
    )]
    OtherMembers {
        /// The formed member that said so.
        witness: String,
        /// The members it named.
        members: String,
    },
    /// Two members report the same id: one runs on a copy of the other's data directory.
    #[error("{first} and {second} have the same id; one runs on a copy of the other's directory")]
    SameId {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two members start from different exports, or only one of them from any.
    #[error(
        "{first} starts from {first_seed}, {second} from {second_seed}; all members of a new \
         cluster start from the same export"
    )]
    SeedDiffers {
        /// One of them.
        first: String,
        /// Its seed, in words.
        first_seed: String,
        /// The other one.
        second: String,
        /// Its seed, in words.
        second_seed: String,
    },
    /// A node that joins was given an export to start from.
    #[error(
        "the data directory of {name} holds a seed.exp, from which a new cluster starts; a node \
         that joins gets its data from the others: remove the file, or use initial instead of join"
    )]
    SeedJoins {
        /// This node.
        name: String,
    },
    /// The addresses to join lead to two clusters of the same name.
    #[error(
        "{first} belongs to cluster {first_cluster}, {second} to cluster {second_cluster} of the \
         same name; join must lead to one cluster"
    )]
    TwoClusters {
        /// A member of the one.
        first: String,
        /// Its cluster.
        first_cluster: ClusterId,
        /// A member of the other.
        second: String,
        /// Its cluster.
        second_cluster: ClusterId,
    },
    /// The cluster has removed this node.
    #[error(
        "{witness} says that the cluster has removed {name}; its id never comes back: empty \
         data_dir, then kv cluster add {name}=ADDR, then start it with join"
    )]
    Removed {
        /// This node.
        name: String,
        /// The member that said so.
        witness: String,
    },
    /// The network was shut down first.
    #[error("the node is stopping")]
    Stopping,
}

impl FormError {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::DataLost { .. } | Self::NotAMember { .. } => Code::DataLost,
            Self::OtherMembers { .. } => Code::ConfigInvalid,
            Self::SameId { .. } | Self::TwoClusters { .. } => Code::DataForeign,
            Self::SeedDiffers { .. } => Code::ExportInvalid,
            Self::SeedJoins { .. } => Code::ConfigInvalid,
            Self::Removed { .. } => Code::Removed,
            Self::Stopping => Code::NotReady,
        }
    }
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        Self::new(error.code(), "forming the cluster", error.to_string())
    }
}

/// A node that has not formed.
#[derive(Clone, Debug)]
pub struct Forming {
    /// The name of the cluster.
    pub cluster_name: String,
    /// This node's name.
    pub name: String,
    /// This node's id.
    pub node: NodeId,
    /// Names of the members of `initial`, this node among them.
    pub initial: Vec<String>,
    /// SHA-256 of the export that this node starts from.
    pub seed: Option<[u8; 32]>,
}

impl Forming {
    /// Decides from the last report of each other member of `initial`.
    ///
    /// # Panics
    /// When a report is from this node or from nobody in `initial`; links refuse both.
    #[must_use]
    pub fn decide(&self, reports: &BTreeMap<String, Report>) -> Decision {
        for name in reports.keys() {
            assert!(self.initial.contains(name) && *name != self.name, "{name} has no say here");
        }
        // First, because a formed cluster decides for everybody, also when all have reported.
        for (witness, report) in reports {
            if let Some(formed) = &report.formed {
                return self.follow(witness, formed);
            }
        }
        let own = (self.node, self.name.clone());
        let members: Vec<(NodeId, String)> =
            reports.iter().map(|(name, report)| (report.node, name.clone())).chain([own]).collect();
        if let Some(error) = same_id(&members) {
            return Decision::Refuse(error);
        }
        if let Some((name, report)) = reports.iter().find(|(_, other)| other.seed != self.seed) {
            return Decision::Refuse(self.seed_differs(name, report.seed));
        }
        let mut missing: Vec<String> = self
            .initial
            .iter()
            .filter(|name| **name != self.name && !reports.contains_key(*name))
            .cloned()
            .collect();
        if missing.is_empty() {
            let formed = Formed::derive_from(&self.cluster_name, members, self.seed);
            return Decision::Form(formed);
        }
        missing.sort();
        Decision::Wait { missing }
    }

    /// A member has formed: join what it formed, or not at all.
    fn follow(&self, witness: &str, formed: &Formed) -> Decision {
        if formed.id_of(&self.name) == Some(self.node) && formed.seed != self.seed {
            return Decision::Refuse(self.seed_differs(witness, formed.seed));
        }
        let (name, witness) = (self.name.clone(), witness.to_owned());
        match formed.id_of(&self.name) {
            None => return Decision::Refuse(FormError::NotAMember { name, witness }),
            Some(id) if id != self.node => {
                return Decision::Refuse(FormError::DataLost { name, witness });
            }
            Some(_) => {}
        }
        let mut initial: Vec<&String> = self.initial.iter().collect();
        initial.sort();
        let members: Vec<&String> = formed.members.iter().map(|(_, name)| name).collect();
        if initial != members {
            let members: Vec<&str> = members.into_iter().map(String::as_str).collect();
            let members = members.join(", ");
            return Decision::Refuse(FormError::OtherMembers { witness, members });
        }
        Decision::Form(formed.clone())
    }

    fn seed_differs(&self, other: &str, theirs: Option<[u8; 32]>) -> FormError {
        FormError::SeedDiffers {
            first: self.name.clone(),
            first_seed: seed_in_words(self.seed),
            second: other.to_owned(),
            second_seed: seed_in_words(theirs),
        }
    }
}

/// What a member says to a node that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The member.
    pub witness: String,
    /// What its cluster formed with.
    pub formed: Formed,
    /// How the node stands there.
    pub verdict: Verdict,
}

/// How a node that wants to join stands with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its list of members has the node, with this id.
    Added,
    /// Nobody has added the node, or its id is not bound yet.
    NotAdded,
    /// This id was removed, for good.
    Removed,
}

/// A node that wants to join a cluster.
#[derive(Clone, Debug)]
pub struct Joining {
    /// This node's name.
    pub name: String,
    /// The addresses that it asks.
    pub addresses: Vec<String>,
    /// It was given an export to start from, which is a mistake.
    pub seeded: bool,
}

impl Joining {
    /// Decides from the last answer of each address; `None` from one where nobody answered, or
    /// nobody of use. An address is absent until it was asked once.
    #[must_use]
    pub fn decide(&self, answers: &BTreeMap<String, Option<Answer>>) -> Decision {
        if self.seeded {
            return Decision::Refuse(FormError::SeedJoins { name: self.name.clone() });
        }
        let mut told = answers.values().flatten();
        let Some(first) = told.next() else { return self.wait(answers) };
        if let Some(other) = told.find(|other| other.formed.cluster != first.formed.cluster) {
            return Decision::Refuse(FormError::TwoClusters {
                first: first.witness.clone(),
                first_cluster: first.formed.cluster,
                second: other.witness.clone(),
                second_cluster: other.formed.cluster,
            });
        }
        let find = |verdict| answers.values().flatten().find(|told| told.verdict == verdict);
        if let Some(Answer { witness, .. }) = find(Verdict::Removed) {
            let (name, witness) = (self.name.clone(), witness.clone());
            return Decision::Refuse(FormError::Removed { name, witness });
        }
        // Each address is asked once before anything is final, or two clusters might go unnoticed.
        let all_asked = self.addresses.iter().all(|address| answers.contains_key(address));
        match find(Verdict::Added) {
            Some(added) if all_asked => {
                Decision::Form(Formed { joined: true, ..added.formed.clone() })
            }
            Some(_) | None => self.wait(answers),
        }
    }

    fn wait(&self, answers: &BTreeMap<String, Option<Answer>>) -> Decision {
        let silent = |address: &&String| answers.get(*address).is_none_or(Option::is_none);
        let mut missing: Vec<String> = self.addresses.iter().filter(silent).cloned().collect();
        missing.sort();
        Decision::Wait { missing }
    }
}

fn seed_in_words(seed: Option<[u8; 32]>) -> String {
    match seed {
        Some(seed) => {
            let hex = Hex(&seed[..8]);
            format!("the export with SHA-256 {hex}...")
        }
        None => "no export".to_owned(),
    }
}

fn same_id(members: &[(NodeId, String)]) -> Option<FormError> {
    let mut seen: BTreeMap<NodeId, &String> = BTreeMap::new();
    members.iter().find_map(|(id, name)| {
        let first = seen.insert(*id, name)?;
        Some(FormError::SameId { first: first.clone(), second: name.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["n1", "n2", "n3"];

    fn members(ids: [u64; 3]) -> Vec<(NodeId, String)> {
        NAMES.iter().zip(ids).map(|(name, id)| (NodeId(id), (*name).to_owned())).collect()
    }

    fn formed(ids: [u64; 3]) -> Formed {
        Formed::derive("prod", members(ids))
    }

    fn n2(id: u64) -> Forming {
        Forming {
            cluster_name: "prod".into(),
            name: "n2".into(),
            node: NodeId(id),
            initial: NAMES.map(str::to_owned).to_vec(),
            seed: None,
        }
    }

    fn reports<const N: usize>(list: [(&str, u64, Option<Formed>); N]) -> BTreeMap<String, Report> {
        let report = |(name, id, formed): (&str, u64, Option<Formed>)| {
            (name.to_owned(), Report { node: NodeId(id), formed, seed: None })
        };
        list.into_iter().map(report).collect()
    }

    #[test]
    fn the_cluster_id_depends_on_all_and_on_nothing_else() {
        let base = formed([1, 2, 3]);
        let mut turned = members([1, 2, 3]);
        turned.rotate_left(1);
        assert_eq!(Formed::derive("prod", turned), base);
        assert_eq!(base.members, members([1, 2, 3]));
        let named = |names: [&str; 2]| {
            Formed::derive(
                "prod",
                names.map(str::to_owned).into_iter().zip([1, 2]).map(|(n, i)| (NodeId(i), n)),
            )
        };
        let mut ids = vec![
            base.cluster,
            Formed::derive("test", members([1, 2, 3])).cluster,
            formed([1, 2, 4]).cluster,
            formed([2, 1, 3]).cluster,
            named(["a", "bc"]).cluster,
            named(["ab", "c"]).cluster,
        ];
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        // Stored on disk and compared between versions: it may never change.
        assert_eq!(base.cluster.to_string(), PINNED);
    }

    const PINNED: &str = "c52009864b55b69d0275100e353f30e6";

    #[test]
    fn only_what_derives_is_believed() {
        let good = formed([1, 2, 3]);
        let wire = good.wire_members();
        let verify = |cluster: &[u8], members: &[peer::FormedMember]| {
            Formed::verify("prod", cluster, members, &[])
        };
        assert_eq!(verify(&good.cluster.0, &wire), Some(good.clone()));
        assert_eq!(Formed::verify("test", &good.cluster.0, &wire, &[]), None);
        assert_eq!(verify(&good.cluster.0[..15], &wire), None);
        assert_eq!(verify(&[], &wire), None);
        assert_eq!(verify(&good.cluster.0, &[]), None);
        let changed = |change: fn(&mut Vec<peer::FormedMember>)| {
            let mut members = wire.clone();
            change(&mut members);
            verify(&good.cluster.0, &members)
        };
        assert_eq!(changed(|members| members.reverse()), None);
        assert_eq!(changed(|members| members[0].id = 0), None);
        assert_eq!(changed(|members| members[0].id = 2), None);
        assert_eq!(changed(|members| members[0].name = "n2".into()), None);
        assert_eq!(changed(|members| members[0].name.clear()), None);
        assert_eq!(changed(|members| members.truncate(2)), None);
        assert_eq!(good.id_of("n3"), Some(NodeId(3)));
        assert_eq!(good.id_of("n4"), None);
        assert!(good.holds("n1", NodeId(1)) && !good.holds("n1", NodeId(4)));
    }

    #[test]
    fn a_node_waits_for_everybody() {
        let forming = n2(2);
        let wait = |names: &[&str]| Decision::Wait {
            missing: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(forming.decide(&reports([])), wait(&["n1", "n3"]));
        assert_eq!(forming.decide(&reports([("n1", 1, None)])), wait(&["n3"]));
        assert_eq!(forming.decide(&reports([("n3", 3, None)])), wait(&["n1"]));
        let all = reports([("n1", 1, None), ("n3", 3, None)]);
        assert_eq!(forming.decide(&all), Decision::Form(formed([1, 2, 3])));
    }

    #[test]
    fn one_node_alone_forms_at_once() {
        let forming = Forming { initial: vec!["n2".into()], ..n2(7) };
        let expected = Formed::derive("prod", [(NodeId(7), "n2".to_owned())]);
        assert_eq!(forming.decide(&reports([])), Decision::Form(expected));
    }

    #[test]
    fn a_formed_member_decides() {
        // n3 is down, but n1 has formed with the id that this node reported.
        let cluster = formed([1, 2, 3]);
        let one = reports([("n1", 1, Some(cluster.clone()))]);
        assert_eq!(n2(2).decide(&one), Decision::Form(cluster.clone()));
        // The rest is all here, but n3 has lost its directory since: still the formed cluster.
        let changed = reports([("n1", 1, Some(cluster.clone())), ("n3", 9, None)]);
        assert_eq!(n2(2).decide(&changed), Decision::Form(cluster));
    }

    #[test]
    fn a_lost_directory_is_final() {
        let cluster = formed([1, 2, 3]);
        let all = reports([("n1", 1, Some(cluster.clone())), ("n3", 3, None)]);
        let Decision::Refuse(error) = n2(9).decide(&all) else { panic!("must refuse") };
        assert_eq!(error, FormError::DataLost { name: "n2".into(), witness: "n1".into() });
        let text = error.to_string();
        assert!(text.starts_with("n2 lost its data directory"), "{text}");
        let advice = "try: kv cluster remove n2 --lose-unseen, kv cluster add n2=ADDR, \
                      then start it with join instead of initial";
        assert!(text.ends_with(advice), "{text}");
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.code.exit()), (Code::DataLost, 9));
    }

    #[test]
    fn other_members_are_refused() {
        let without = Formed::derive("prod", [(NodeId(1), "n1".into()), (NodeId(3), "n3".into())]);
        let report = reports([("n1", 1, Some(without))]);
        let expected = FormError::NotAMember { name: "n2".into(), witness: "n1".into() };
        assert_eq!(n2(2).decide(&report), Decision::Refuse(expected));
        let fewer = Formed::derive("prod", [(NodeId(1), "n1".into()), (NodeId(2), "n2".into())]);
        let report = reports([("n1", 1, Some(fewer))]);
        let expected = FormError::OtherMembers { witness: "n1".into(), members: "n1, n2".into() };
        assert_eq!(n2(2).decide(&report), Decision::Refuse(expected));
    }

    #[test]
    fn two_nodes_on_one_directory_are_found() {
        for (list, first, second) in [
            (reports([("n1", 1, None), ("n3", 1, None)]), "n1", "n3"),
            (reports([("n1", 2, None)]), "n1", "n2"),
        ] {
            let expected = FormError::SameId { first: first.into(), second: second.into() };
            assert_eq!(n2(2).decide(&list), Decision::Refuse(expected));
        }
    }

    #[test]
    fn a_seed_makes_another_cluster_and_is_the_same_for_all() {
        let seed = Some([7; 32]);
        let seeded = Formed::derive_from("prod", members([1, 2, 3]), seed);
        assert_eq!(seeded.cluster.to_string(), PINNED_WITH_SEED);
        let wire = seeded.wire_members();
        let verify = |seed: &[u8]| Formed::verify("prod", &seeded.cluster.0, &wire, seed);
        assert_eq!(verify(&seeded.wire_seed()), Some(seeded.clone()));
        for wrong in [&[][..], &[7; 31], &[8; 32]] {
            assert_eq!(verify(wrong), None);
        }
        let all = |seeds: [Option<[u8; 32]>; 2]| {
            let mut all = reports([("n1", 1, None), ("n3", 3, None)]);
            for (report, seed) in all.values_mut().zip(seeds) {
                report.seed = seed;
            }
            all
        };
        let with_seed = Forming { seed, ..n2(2) };
        assert_eq!(with_seed.decide(&all([seed, seed])), Decision::Form(seeded.clone()));
        for (forming, seeds, other) in [
            (&with_seed, [seed, None], "n3 from no export"),
            (&with_seed, [Some([8; 32]), seed], "n1 from the export with SHA-256 0808080808080808"),
            (&n2(2), [None, seed], "n3 from the export with SHA-256 0707070707070707"),
        ] {
            let Decision::Refuse(error) = forming.decide(&all(seeds)) else {
                panic!("must refuse")
            };
            let text = error.to_string();
            assert!(text.starts_with("n2 starts from ") && text.contains(other), "{text}");
            assert_eq!((error.code(), error.code().exit()), (Code::ExportInvalid, 9));
        }
        // One that missed forming adopts only what it started from.
        let mut told = reports([("n1", 1, Some(seeded.clone()))]);
        told.values_mut().for_each(|report| report.seed = seed);
        assert_eq!(with_seed.decide(&told), Decision::Form(seeded));
        assert!(matches!(
            n2(2).decide(&told),
            Decision::Refuse(FormError::SeedDiffers { second, .. }) if second == "n1"
        ));
    }

    const PINNED_WITH_SEED: &str = "5403f05fe5978ea4252f9d7ed5c98a20";

    fn joining() -> Joining {
        Joining { name: "n4".into(), addresses: vec!["b:1".into(), "a:1".into()], seeded: false }
    }

    /// Who answered, what it formed with, and how it judged.
    type Told<'a> = (&'a str, Formed, Verdict);

    fn answers<const N: usize>(
        list: [(&str, Option<Told<'_>>); N],
    ) -> BTreeMap<String, Option<Answer>> {
        let answer = |(witness, formed, verdict): Told<'_>| Answer {
            witness: witness.to_owned(),
            formed,
            verdict,
        };
        list.into_iter().map(|(address, told)| (address.to_owned(), told.map(answer))).collect()
    }

    #[test]
    fn a_node_joins_once_a_member_has_added_it() {
        let cluster = formed([1, 2, 3]);
        let told = |verdict| Some(("n1", cluster.clone(), verdict));
        let wait = |missing: &[&str]| Decision::Wait {
            missing: missing.iter().map(|address| (*address).to_owned()).collect(),
        };
        let decide = |answers| joining().decide(&answers);
        assert_eq!(decide(answers([])), wait(&["a:1", "b:1"]));
        assert_eq!(decide(answers([("a:1", None), ("b:1", None)])), wait(&["a:1", "b:1"]));
        let not_added = told(Verdict::NotAdded);
        assert_eq!(decide(answers([("a:1", not_added.clone()), ("b:1", None)])), wait(&["b:1"]));
        let added = told(Verdict::Added);
        assert_eq!(decide(answers([("a:1", added.clone())])), wait(&["b:1"]), "b:1 was not asked");
        let expected = Decision::Form(Formed { joined: true, ..cluster.clone() });
        assert_eq!(decide(answers([("a:1", added.clone()), ("b:1", None)])), expected);
        // The list of one member may be old.
        assert_eq!(decide(answers([("a:1", not_added), ("b:1", added)])), expected);
    }

    #[test]
    fn a_node_that_can_never_join_is_told_why() {
        let told = |formed: &Formed, verdict| Some(("n1", formed.clone(), verdict));
        let (one, two) = (formed([1, 2, 3]), formed([1, 2, 4]));
        let both = [("a:1", told(&one, Verdict::NotAdded)), ("b:1", told(&two, Verdict::Added))];
        let removed = [("a:1", None), ("b:1", told(&one, Verdict::Removed))];
        let seeded = Joining { seeded: true, ..joining() };
        for (decision, code, says) in [
            (joining().decide(&answers(both)), Code::DataForeign, "join must lead to one cluster"),
            (joining().decide(&answers(removed)), Code::Removed, "has removed n4"),
            (seeded.decide(&answers([])), Code::ConfigInvalid, "holds a seed.exp"),
        ] {
            let Decision::Refuse(error) = decision else { panic!("{says}: {decision:?}") };
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!((Code::DataForeign.exit(), Code::Removed.exit()), (9, 9));
    }

    /// Whatever the three report to each other and in whatever order they hear it, those that form
    /// form the same cluster.
    #[test]
    fn all_orders_agree() {
        let cluster = formed([1, 2, 3]);
        let ids: BTreeMap<&str, u64> = NAMES.into_iter().zip([1, 2, 3]).collect();
        for me in NAMES {
            let forming = Forming { name: me.into(), node: NodeId(ids[me]), ..n2(2) };
            let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != me).collect();
            // Each other member: unheard, heard before it formed, heard after.
            for state in 0..9 {
                let mut heard = BTreeMap::new();
                let mut formed_ones = 0;
                for (other, state) in others.iter().zip([state % 3, state / 3]) {
                    let node = NodeId(ids[other]);
                    let formed = (state == 2).then(|| cluster.clone());
                    formed_ones += usize::from(formed.is_some());
                    if state > 0 {
                        heard.insert((*other).to_owned(), Report { node, formed, seed: None });
                    }
                }
                match forming.decide(&heard) {
                    Decision::Form(decided) => {
                        assert_eq!(decided, cluster);
                        assert!(formed_ones > 0 || heard.len() == 2);
                    }
                    Decision::Wait { missing } => {
                        assert_eq!(formed_ones, 0);
                        assert_eq!(missing.len(), 2 - heard.len());
                    }
                    Decision::Refuse(error) => panic!("{error}"),
                }
            }
        }
    }
}
