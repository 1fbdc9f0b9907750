//! What is done to a field, step by step; what came of it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jepsen::checker::Verdict;
use jepsen::cluster::ClusterOptions;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::field::{ApartOptions, Field};
use super::latencies::Latencies;
use super::worker::Work;
use crate::measure::{self, Failed};

/// How long a member may take to be replaced.
const REPLACE_MAX: Duration = Duration::from_secs(120);

/// Nodes of a field in which one of them loses something.
const NODES: usize = 3;

/// Which node's directory is copied, and which one gets the copy.
const COPIED: usize = 0;
const COPY: usize = 2;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Size {
    /// The server.
    pub cluster: ClusterOptions,
    /// What the client of each node does while it is cut off; in the trials after the first one a part of it.
    pub work: Work,
    /// Longest time until all nodes are the same.
    pub converged_max: Duration,
}

/// What came of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// What the clients of nodes measured that nobody struck.
    pub calm: Latencies,
    /// And the others.
    pub struck: Latencies,
    /// From the healing until all nodes said the same of all keys, with the reads that found it.
    pub converged: Duration,
    /// What the lab says.
    pub verdict: Verdict,
    /// Of how many calls.
    pub calls: usize,
}

impl Outcome {
    /// Lets the nodes come to the same and judges.
    async fn of(field: &Field, nodes: &[usize], done: Done, size: &Size) -> Result<Self, Failed> {
        let converged = field.converge(nodes, size.converged_max).await?;
        Ok(Self::judged(done, converged, field.judge()))
    }

    fn judged(done: Done, converged: Duration, (verdict, calls): (Verdict, usize)) -> Self {
        Self { calm: done.calm, struck: done.struck, converged, verdict, calls }
    }
}

/// What a node does that is started with what it may refuse.
#[derive(Debug)]
pub enum Fate {
    /// It runs, and answers.
    Runs,
    /// It runs, but its clients or the other nodes do not hear it, for this reason.
    Unheard(Failed),
    /// It refuses to run.
    Refuses,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.pad("runs"),
            Self::Unheard(why) => write!(f, "runs unheard: {why}"),
            Self::Refuses => f.pad("refuses to run"),
        }
    }
}

/// What clients measured.
#[derive(Debug, Default)]
struct Done {
    calm: Latencies,
    struck: Latencies,
}

impl Done {
    async fn of(
        mut tasks: JoinSet<(usize, Latencies)>,
        struck: &[usize],
    ) -> Result<Self, tokio::task::JoinError> {
        let mut done = Self::default();
        while let Some(ended) = tasks.join_next().await {
            let (node, latencies) = ended?;
            let of = if struck.contains(&node) { &mut done.struck } else { &mut done.calm };
            of.add(&latencies);
        }
        Ok(done)
    }
}

async fn boot(size: &Size, name: &str, nodes: usize) -> Result<Field, Failed> {
    let dir = size.cluster.dir.as_ref().map(|dir| dir.join(name));
    let cluster = ClusterOptions { nodes, dir, ..size.cluster.clone() };
    Field::boot(&ApartOptions { cluster, keys: size.work.keys }).await
}

/// Each node is alone for the whole time, and answers. One of them is killed and started again meanwhile. Then all
/// come to the same.
///
/// # Errors
/// A node does not do what it was told, or they do not come to the same in time.
pub async fn cut_off(size: &Size) -> Result<Outcome, Failed> {
    const RESTARTED: usize = 1;
    let mut field = boot(size, "cut-off", size.cluster.nodes).await?;
    field.cut_all();
    let tasks = field.work(&field.all(), &size.work);
    sleep(size.work.lasts / 2).await;
    field.cluster.kill(RESTARTED);
    field.cluster.start(RESTARTED)?;
    field.answers(RESTARTED).await?;
    let done = Done::of(tasks, &[RESTARTED]).await?;
    field.heal();
    Outcome::of(&field, &field.all(), done, size).await
}

/// All nodes are killed at once while each is alone and takes writes; what was acknowledged is there when they are
/// back.
///
/// # Errors
/// As of [`cut_off`].
pub async fn all_killed(size: &Size) -> Result<Outcome, Failed> {
    let mut field = boot(size, "all-killed", size.cluster.nodes).await?;
    field.cut_all();
    let tasks = field.work(&field.all(), &size.work);
    sleep(size.work.lasts / 2).await;
    field.all().into_iter().for_each(|node| field.cluster.kill(node));
    field.cluster.start_all()?;
    let done = Done::of(tasks, &field.all()).await?;
    field.heal();
    for node in field.all() {
        field.answers(node).await?;
    }
    Outcome::of(&field, &field.all(), done, size).await
}

/// A node loses its disk after all had come to the same, and joins again with nothing, while the others are written.
///
/// # Errors
/// As of [`cut_off`].
pub async fn disk_lost(size: &Size) -> Result<Outcome, Failed> {
    const LOST: usize = 2;
    let mut field = alike(size, "disk-lost").await?;
    let tasks = field.work(&[0, 1], &size.work);
    let client = field.cluster.client(vec![field.cluster.endpoint(0)], REPLACE_MAX)?;
    measure::replace(&mut field.cluster, &client, LOST, REPLACE_MAX).await?;
    field.answers(LOST).await?;
    let done = Done::of(tasks, &[]).await?;
    Outcome::of(&field, &field.all(), done, size).await
}

/// A node comes back with an image of its disk that is older than what it has taken, acknowledged and told since.
/// Whether it starts is its own affair: the outcome is that of the nodes that run.
///
/// # Errors
/// As of [`cut_off`].
pub async fn old_image(size: &Size) -> Result<(Outcome, bool), Failed> {
    const BACK: usize = 2;
    let mut field = alike(size, "old-image").await?;
    field.cluster.kill(BACK);
    let (data, image) = (field.cluster.data_dir(BACK), field.cluster.dir().join("image"));
    copy(&data, &image)?;
    field.cluster.start(BACK)?;
    field.answers(BACK).await?;
    // More writes and deletes, also by itself, which the others have.
    work_until_alike(&field, size).await?;
    field.cluster.kill(BACK);
    fs::remove_dir_all(&data)?;
    copy(&image, &data)?;
    go_on(&mut field, size, BACK).await
}

/// A directory is copied to another node, so that two run with one.
///
/// # Errors
/// As of [`cut_off`].
pub async fn copied(size: &Size) -> Result<(Outcome, bool), Failed> {
    let mut field = with_a_copy(size, "copied").await?;
    go_on(&mut field, size, COPY).await
}

/// The same, and the copy runs under the name and the certificate of the node that it was copied from. Two that call
/// themselves the same take each other's links, so the others need not hear the copy. If they do not, the outcome
/// is that of the others, among which all has to be right but for what the copy took.
///
/// # Errors
/// As of [`cut_off`].
pub async fn doubled(size: &Size) -> Result<(Outcome, Fate), Failed> {
    let mut field = with_a_copy(size, "doubled").await?;
    take_name(&field, COPY, COPIED)?;
    let since_ns = field.now_ns();
    let fate = start(&mut field, COPY).await?;
    let (all, mut others) = (field.all(), field.all());
    others.retain(|node| *node != COPY);
    let nodes = if matches!(fate, Fate::Runs) { &all } else { &others };
    let done = Done::of(field.work(nodes, &size.work), &[]).await?;
    match (field.converge(nodes, size.converged_max).await, fate) {
        (Ok(converged), fate) => Ok((Outcome::judged(done, converged, field.judge()), fate)),
        (Err(why), Fate::Runs) => {
            let converged = field.converge(&others, size.converged_max).await?;
            let judged = field.judge_others(COPY, since_ns);
            Ok((Outcome::judged(done, converged, judged), Fate::Unheard(why)))
        }
        (Err(why), Fate::Unheard(_) | Fate::Refuses) => Err(why),
    }
}

/// A field of [`NODES`] that have been written and came to the same.
async fn alike(size: &Size, name: &str) -> Result<Field, Failed> {
    let field = boot(size, name, NODES).await?;
    work_until_alike(&field, size).await?;
    Ok(field)
}

async fn work_until_alike(field: &Field, size: &Size) -> Result<(), Failed> {
    Done::of(field.work(&field.all(), &size.work), &[]).await?;
    field.converge(&field.all(), size.converged_max).await?;
    Ok(())
}

/// A field in which [`COPY`], which does not run, has the directory of [`COPIED`], which does.
async fn with_a_copy(size: &Size, name: &str) -> Result<Field, Failed> {
    let mut field = alike(size, name).await?;
    for node in [COPIED, COPY] {
        field.cluster.kill(node);
    }
    let data = field.cluster.data_dir(COPY);
    fs::remove_dir_all(&data)?;
    copy(&field.cluster.data_dir(COPIED), &data)?;
    field.cluster.start(COPIED)?;
    field.answers(COPIED).await?;
    Ok(field)
}

/// Starts a node that may or may not run with what it has, and waits until it is known which.
async fn start(field: &mut Field, doubtful: usize) -> Result<Fate, Failed> {
    field.cluster.start(doubtful)?;
    Ok(match field.answers(doubtful).await {
        Ok(_) => Fate::Runs,
        // One that runs and does not answer has not refused.
        Err(why) if field.cluster.check_node(doubtful).is_ok() => Fate::Unheard(why),
        Err(_) => Fate::Refuses,
    })
}

/// Starts a node that may or may not run with what it has, and writes at all that run. Returns also whether it does.
async fn go_on(field: &mut Field, size: &Size, doubtful: usize) -> Result<(Outcome, bool), Failed> {
    let runs = match start(field, doubtful).await? {
        Fate::Runs => true,
        Fate::Unheard(why) => return Err(why),
        Fate::Refuses => false,
    };
    let mut nodes = field.all();
    nodes.retain(|node| runs || *node != doubtful);
    let done = Done::of(field.work(&nodes, &size.work), &[]).await?;
    Ok((Outcome::of(field, &nodes, done, size).await?, runs))
}

/// Lets a node's configuration say that it is another one.
fn take_name(field: &Field, node: usize, other: usize) -> Result<(), Failed> {
    let (path, name) = (field.cluster.config(node), field.cluster.name(other));
    let mut config: toml::Table = fs::read_to_string(path)?.parse()?;
    let mut set = |section: &str, key: &str, value: String| {
        let section = config.get_mut(section).and_then(toml::Value::as_table_mut);
        section.map(|section| section.insert(key.to_owned(), value.into()))
    };
    let file = |end: &str| field.cluster.pki().join(format!("{name}.{end}")).display().to_string();
    set("node", "name", name.to_owned()).ok_or("a configuration names its node")?;
    for (key, end) in [("cert", "crt"), ("key", "key")] {
        set("tls", key, file(end)).ok_or("a configuration names its certificate")?;
    }
    Ok(fs::write(path, config.to_string())?)
}

/// Copies a directory of files and directories.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
