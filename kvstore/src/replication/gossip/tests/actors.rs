//! Starts of nodes, hundreds of them, and what becomes of their actors.

use gossip::clock::{Fold, FoldNumber, Folds};

use super::*;

/// What group 0 says of actors, and what its leader, node 1, does.
#[derive(Default)]
struct Catalogue {
    round: u64,
    open: BTreeMap<ActorId, u64>,
    folds: Folds,
}

impl Catalogue {
    fn decide(&mut self, bench: &mut Bench) {
        let replica = &bench.one(1).replica;
        for (actor, last) in replica.ended_actors(&self.open) {
            self.open.remove(&actor);
            let number = FoldNumber(self.folds.len() as u32 + 1);
            self.folds.learn(Fold { number, actor, last });
        }
        let former = replica.former_actors(256);
        self.round += 1;
        self.open.extend(former.into_iter().map(|actor| (actor, self.round)));
        for node in 1..=NODES {
            bench.one(node).replica.set_actors(self.said());
        }
    }

    fn said(&self) -> CataloguedActors {
        let actors = self.open.keys().copied().collect();
        let retiring = gossip::replica::Retiring { round: self.round, actors };
        CataloguedActors { retiring, folds: Arc::new(self.folds.clone()) }
    }
}

impl Bench {
    fn start_again(&mut self, node: u64, start: u32) {
        let one = self.nodes.remove(&NodeId(node)).unwrap();
        self.nodes.insert(NodeId(node), one.restarted(NodeId(node), start));
        for other in others(NodeId(node)) {
            let out = &mut Outbox::new(Ticket(0));
            let one = self.one(other.get());
            one.replica.link(NodeId(node), false, out);
            one.replica.link(NodeId(node), true, out);
        }
    }

    fn token(&mut self, node: u64, key: &str) -> Bytes {
        self.get(node, SIBLINGS.1, key).unwrap().context
    }
}

#[test]
fn tokens_stay_short_however_often_nodes_start_and_old_ones_are_understood() {
    const STARTS: u32 = 420;
    let mut bench = Bench::new();
    let mut catalogue = Catalogue::default();
    // Their directories have begun before the first starts.
    bench.settle();
    let mut longest = 0;
    let mut before = Bytes::new();
    for start in 1..=STARTS {
        let node = u64::from(start) % NODES + 1;
        bench.start_again(node, start);
        bench.one(node).replica.set_actors(catalogue.said());
        bench.put(node, &format!("k{}", start % 5), "v");
        let token = bench.token(node, "k1");
        assert!(!token.is_empty());
        longest = longest.max(token.len());
        if start % 30 == 0 {
            // It names the actors of the last thirty starts.
            bench.put(2, "old", "a");
            before = bench.token(2, "old");
            for _ in 0..3 {
                bench.pass(120);
                catalogue.decide(&mut bench);
            }
        }
    }
    bench.pass(120);
    assert!(longest < 2_000, "a token of {longest} bytes, where no fold would take some 10,000");
    for node in 1..=NODES {
        let counts = bench.one(node).replica.actor_counts();
        assert!(counts.unfolded <= 3 && counts.folded > 400, "{counts:?}");
        let token = bench.token(node, "k1");
        assert!(token.len() < 110, "{} bytes at {node}", token.len());
        // A start begins with what all are known to know.
        bench.start_again(node, STARTS + node as u32);
        let token = bench.token(node, "k1");
        assert!(token.len() < 110, "{} bytes at {node} after a start", token.len());
    }
    assert!(before.len() > 200, "it names actors in full, or by their first bytes");
    let id = bench.send(3, SIBLINGS.0, put("old", "b"), causal(&before));
    bench.answer(id).unwrap();
    bench.pass(60);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "old"), ["b"], "at {node}");
    }
}

/// The log of a node is a copy of before it heard of the folds, and of before others had folded.
#[test]
fn a_log_from_before_the_folds_is_understood_by_all() {
    let mut bench = Bench::new();
    let mut catalogue = Catalogue::default();
    bench.put(3, "k", "a");
    bench.pass(120);
    let copy = bench.one(3).frames.clone();
    bench.start_again(3, 1);
    bench.put(3, "k", "b");
    for _ in 0..4 {
        bench.pass(120);
        catalogue.decide(&mut bench);
    }
    assert_eq!(catalogue.folds.len(), 1);
    bench.one(3).frames = copy;
    bench.start_again(3, 2);
    bench.one(3).replica.set_actors(catalogue.said());
    bench.put(3, "other", "c");
    bench.pass(120);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["b"], "at {node}");
        assert_eq!(bench.values(node, "other"), ["c"], "at {node}");
        let counts = bench.one(node).replica.actor_counts();
        assert_eq!(counts.folded, 1, "at {node}");
    }
}
