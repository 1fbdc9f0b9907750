//! A network that can be disturbed: proxies in front of every node.
//!
//! Each node has two of them, one that other nodes reach it by and one for clients. They carry bytes
//! and know nothing of what is in them, so they can cut, stall, delay, slow down and reset, for each
//! pair of sites and each direction alone ([`rules`]); what needs single messages (loss, duplication,
//! other order) is not theirs. They are tasks of this process and need no privileges; they end when
//! the [`Network`] is dropped.
//!
//! - [`rules`]: what is in force. `relay`: one direction of a connection. `source`: who dialed.

pub mod counters;
pub mod rules;

mod relay;
mod source;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use self::counters::Counters;
use self::relay::Way;
pub use self::rules::{Rule, Rules, Site};

/// Pause after an accept that failed, which else would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Resets that a slow connection may not have heard of; one that misses some ends.
const RESETS_MAX: usize = 64;

/// The processes of the nodes: number and process id.
pub type Processes = Arc<Mutex<Vec<(usize, u32)>>>;

/// The proxies of a cluster; see the module.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    nodes: Vec<Proxied>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    rules: watch::Sender<Rules>,
    /// Told the two sites of which all connections end now.
    resets: broadcast::Sender<(Site, Site)>,
    counters: Arc<Counters>,
    processes: Processes,
}

/// The addresses of the proxies of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Where other nodes reach it.
    pub peer: SocketAddr,
    /// Where clients reach it.
    pub client: SocketAddr,
}

/// Where a node itself listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// For other nodes.
    pub peer: SocketAddr,
    /// For clients.
    pub client: SocketAddr,
}

impl Network {
    /// Starts the proxies of these nodes. Must be called within the async runtime.
    ///
    /// # Errors
    ///
    /// What the system says when an address cannot be listened on.
    pub fn start(nodes: &[Listening], processes: Processes) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            rules: watch::Sender::new(Rules::default()),
            resets: broadcast::Sender::new(RESETS_MAX),
            counters: Arc::new(Counters::default()),
            processes,
        });
        let mut network = Self { shared, nodes: Vec::new(), tasks: Vec::new() };
        for (number, node) in nodes.iter().enumerate() {
            let to = Site::Node(number);
            let peer = network.front(to, node.peer, None)?;
            let client = network.front(to, node.client, Some(Site::Clients))?;
            network.nodes.push(Proxied { peer, client });
        }
        Ok(network)
    }

    /// Starts one proxy in front of `behind`.
    fn front(
        &mut self,
        to: Site,
        behind: SocketAddr,
        from: Option<Site>,
    ) -> io::Result<SocketAddr> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let proxy = Proxy { shared: Arc::clone(&self.shared), to, behind, from };
        self.tasks.push(tokio::spawn(proxy.run(listener)).abort_handle());
        Ok(address)
    }

    /// Where a node is reached.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[must_use]
    pub fn proxied(&self, node: usize) -> Proxied {
        self.nodes[node]
    }

    /// Replaces the rules of one of those who disturb the network. Connections that a rule cuts end
    /// at once.
    pub fn set(&self, layer: &'static str, rules: Vec<(Site, Site, Rule)>) {
        self.shared.rules.send_modify(|all| all.set(layer, rules));
    }

    /// Ends all connections between two sites now; new ones come up.
    pub fn reset(&self, a: Site, b: Site) {
        // Nobody listens where there is no connection.
        let _ = self.shared.resets.send((a, b));
    }

    /// What the proxies have done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Lets one proxy end, as if it had failed.
    #[cfg(test)]
    pub fn end_one(&self) {
        self.tasks[0].abort();
    }

    /// Whether all proxies still run.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.tasks.iter().all(|task| !task.is_finished())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The connections are tasks of these and end with them.
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One listener.
#[derive(Clone, Debug)]
struct Proxy {
    shared: Arc<Shared>,
    to: Site,
    behind: SocketAddr,
    /// `None`: it is asked for each connection.
    from: Option<Site>,
}

impl Proxy {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        connections.spawn(self.clone().connection(stream, remote));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn connection(self, mut near: TcpStream, remote: SocketAddr) {
        let counters = &self.shared.counters;
        let Some(from) = self.source(&near, remote).await else {
            counters.strangers.add(1);
            return;
        };
        let mut rules = self.shared.rules.subscribe();
        let mut resets = self.shared.resets.subscribe();
        if !rules.borrow_and_update().connects(from, self.to) {
            counters.cut.add(1);
            reset(&near);
            return;
        }
        let Ok(mut far) = TcpStream::connect(self.behind).await else {
            reset(&near);
            return;
        };
        counters.opened.add(1);
        // What is small must not wait for more; neither side of the connection would let it.
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        if !self.carry(from, &mut near, &mut far, &mut rules, &mut resets).await {
            counters.cut.add(1);
            reset(&near);
            reset(&far);
        }
    }

    /// Carries bytes both ways; false if the connection was cut.
    async fn carry(
        &self,
        from: Site,
        near: &mut TcpStream,
        far: &mut TcpStream,
        rules: &mut watch::Receiver<Rules>,
        resets: &mut broadcast::Receiver<(Site, Site)>,
    ) -> bool {
        let way = |from, to| Way {
            from,
            to,
            rules: self.shared.rules.subscribe(),
            counters: Arc::clone(&self.shared.counters),
        };
        let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
        let there = way(from, self.to).carry(near_out, far_in);
        let back = way(self.to, from).carry(far_out, near_in);
        tokio::select! {
            _ = async { tokio::try_join!(there, back) } => true,
            _ = rules.wait_for(|rules| !rules.connects(from, self.to)) => false,
            () = was_reset(resets, from, self.to) => false,
        }
    }

    /// Where a connection comes from.
    async fn source(&self, stream: &TcpStream, remote: SocketAddr) -> Option<Site> {
        if self.from.is_some() {
            return self.from;
        }
        let local = stream.local_addr().ok()?;
        let processes =
            self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // It reads small files of the system, but many of them.
        let owner = tokio::task::spawn_blocking(move || source::owner(remote, local, &processes));
        owner.await.ok()?.map(Site::Node)
    }
}

/// Lets the other side see an end by force rather than a close.
fn reset(stream: &TcpStream) {
    // Without it the end is still an end.
    let _ = stream.set_zero_linger();
}

/// Waits until the connections of these two are reset.
async fn was_reset(resets: &mut broadcast::Receiver<(Site, Site)>, a: Site, b: Site) {
    loop {
        match resets.recv().await {
            Ok(pair) if pair == (a, b) || pair == (b, a) => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The network is being dropped, which ends this task.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// Two nodes that answer with what they hear; this process stands for the first one.
    async fn echoing() -> Network {
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            nodes.push(Listening { peer: address, client: address });
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.split();
                        tokio::io::copy(&mut from, &mut to).await
                    });
                }
            });
        }
        let own = Arc::new(Mutex::new(vec![(0, std::process::id())]));
        Network::start(&nodes, own).unwrap()
    }

    /// Whether a byte comes back.
    async fn answers(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok()
            && stream.read_exact(&mut byte).await.is_ok()
            && byte == *b"x"
    }

    #[tokio::test]
    async fn a_cut_ends_what_it_is_about_and_nothing_else() {
        let network = echoing().await;
        let mut as_node = TcpStream::connect(network.proxied(1).peer).await.unwrap();
        let mut as_client = TcpStream::connect(network.proxied(1).client).await.unwrap();
        assert!(answers(&mut as_node).await && answers(&mut as_client).await);
        network.set("test", vec![(Site::Node(0), Site::Node(1), Rule::CUT)]);
        assert!(!answers(&mut as_node).await);
        assert!(answers(&mut as_client).await);
        let mut again = TcpStream::connect(network.proxied(1).peer).await.unwrap();
        assert!(!answers(&mut again).await);
        network.set("test", Vec::new());
        let mut healed = TcpStream::connect(network.proxied(1).peer).await.unwrap();
        assert!(answers(&mut healed).await);
        network.reset(Site::Clients, Site::Node(1));
        assert!(!answers(&mut as_client).await);
        assert!(answers(&mut healed).await);
        assert_eq!(network.counters().cut.get(), 3);
        assert!(network.is_alive());
    }

    #[tokio::test]
    async fn a_stall_one_way_holds_only_what_goes_there() {
        let network = echoing().await;
        let mut stream = TcpStream::connect(network.proxied(1).peer).await.unwrap();
        assert!(answers(&mut stream).await);
        network.set("test", vec![(Site::Node(1), Site::Node(0), Rule::STALLED)]);
        assert!(timeout(Duration::from_millis(100), answers(&mut stream)).await.is_err());
        network.set("test", Vec::new());
        let mut held = [0];
        stream.read_exact(&mut held).await.unwrap();
        assert!(answers(&mut stream).await);
        assert!(network.counters().stalled.get() >= 1);
    }

    #[tokio::test]
    async fn the_proxies_end_with_the_network_and_let_no_stranger_in() {
        let network = echoing().await;
        network.shared.processes.lock().unwrap().clear();
        let at = network.proxied(0);
        let mut stranger = TcpStream::connect(at.peer).await.unwrap();
        assert!(!answers(&mut stranger).await);
        assert_eq!(network.counters().strangers.get(), 1);
        let mut client = TcpStream::connect(at.client).await.unwrap();
        assert!(answers(&mut client).await);
        drop(network);
        let closed = async { while answers(&mut client).await {} };
        timeout(Duration::from_secs(10), closed).await.unwrap();
    }
}
