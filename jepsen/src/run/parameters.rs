//! What a run is: all that one has to know to repeat it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::nemesis::NemesisKind;
use crate::target::Given;
use crate::workload::{Load, ReadLevel, WorkloadKind};

/// What is tested.
#[derive(Clone, Debug)]
pub enum System {
    /// A cluster that the run starts and disturbs.
    Own {
        /// The server binary.
        binary: PathBuf,
        /// Number of nodes.
        nodes: usize,
    },
    /// A cluster that was there before; nobody disturbs it.
    Given(Given),
}

/// Parameters of a run.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// What is tested.
    pub system: System,
    /// What clients do.
    pub workload: WorkloadKind,
    /// What disturbs the cluster, all at the same time.
    pub nemeses: Vec<NemesisKind>,
    /// How long clients work.
    pub time_limit: Duration,
    /// Seed of workload and nemeses. The same seed asks for the same, but real processes and
    /// clocks make each run different.
    pub seed: u64,
    /// How much clients do; its seed is replaced.
    pub load: Load,
}

impl Parameters {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    ///
    /// [`LabError::Parameters`] with the reason.
    pub fn validate(&self) -> Result<(), LabError> {
        let refused = |why: String| Err(LabError::Parameters(why));
        for (place, kind) in self.nemeses.iter().enumerate() {
            if self.nemeses[..place].contains(kind) {
                return refused(format!("nemesis {kind} is named twice"));
            }
            match &self.system {
                System::Given(_) if kind.needs_own_cluster() && !kind.moves_clocks() => {
                    return refused(format!("nemesis {kind} needs a cluster of the lab's own"));
                }
                System::Own { nodes, .. } if *nodes < kind.nodes_min() => {
                    let least = kind.nodes_min();
                    return refused(format!("nemesis {kind} needs at least {least} nodes"));
                }
                System::Own { .. } | System::Given(_) => {}
            }
        }
        match &self.system {
            System::Given(_) if self.workload == WorkloadKind::Eventual => {
                refused(format!("workload {} needs a cluster of the lab's own", self.workload))
            }
            System::Given(given) if given.endpoints.is_empty() => {
                refused("a given cluster has at least one endpoint".to_owned())
            }
            System::Own { .. } | System::Given(_) => Ok(()),
        }
    }

    /// The models that judge the run.
    #[must_use]
    pub fn models(&self) -> &'static [&'static str] {
        self.workload.models(self.load.level)
    }

    /// How much clients do, with the seed of the run.
    #[must_use]
    pub fn seeded_load(&self) -> Load {
        Load { seed: self.seed, ..self.load.clone() }
    }

    /// Whether nodes are reached by proxies.
    #[must_use]
    pub fn disturbs_network(&self) -> bool {
        use NemesisKind::{Delay, Partition, Reset, Throttle};
        self.nemeses.iter().any(|kind| matches!(kind, Partition | Delay | Throttle | Reset))
    }

    /// Workload and nemeses in one word: `bank:kill+partition`.
    #[must_use]
    pub fn title(&self) -> String {
        title(self.workload, &self.nemeses)
    }

    /// The command that does the same again.
    #[must_use]
    pub fn replay_command(&self) -> String {
        let system = match &self.system {
            System::Own { binary, nodes } => {
                format!("--binary {} --nodes {nodes}", binary.display())
            }
            System::Given(Given { endpoints, ca, cert, key, keyspace }) => {
                let keyspace = keyspace.as_ref().map(|name| format!(" --keyspace {name}"));
                format!(
                    "--endpoints {} --ca {} --cert {} --key {}{}",
                    endpoints.join(","),
                    ca.display(),
                    cert.display(),
                    key.display(),
                    keyspace.unwrap_or_default()
                )
            }
        };
        let Load { clients, keys, operations_max, level, .. } = &self.load;
        format!(
            "kv-lab run {} {system} --time {}ms --consistency {} --clients {clients} \
             --keys {keys} --operations-max {operations_max} --seed {}",
            self.title(),
            self.time_limit.as_millis(),
            level.as_str(),
            self.seed,
        )
    }
}

/// Workload and nemeses in one word: `bank:kill+partition`.
#[must_use]
pub fn title(workload: WorkloadKind, nemeses: &[NemesisKind]) -> String {
    let words: Vec<&str> = nemeses.iter().map(|kind| kind.as_str()).collect();
    match words.as_slice() {
        [] => workload.to_string(),
        all => format!("{workload}:{}", all.join("+")),
    }
}

/// Reads `WORKLOAD[:NEMESIS[+NEMESIS...]]`.
///
/// # Errors
///
/// What is wrong with it, as a sentence.
pub fn parse_title(text: &str) -> Result<(WorkloadKind, Vec<NemesisKind>), String> {
    let (workload, nemeses) = text.split_once(':').unwrap_or((text, ""));
    let words = nemeses.split('+').filter(|_| text.contains(':'));
    Ok((workload.parse()?, words.map(str::parse).collect::<Result<_, _>>()?))
}

/// The parameters as `run.toml` has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Version of the file's layout.
    pub schema: u32,
    workload: String,
    nemeses: Vec<String>,
    /// Seed of the run.
    pub seed: String,
    time_limit_ms: u64,
    consistency: ReadLevel,
    clients: usize,
    keys: usize,
    operations_max: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyspace: Option<String>,
}

impl From<&Parameters> for Stored {
    fn from(parameters: &Parameters) -> Self {
        let (mut own, mut given) = (None, None);
        match &parameters.system {
            System::Own { binary, nodes } => own = Some((binary.clone(), *nodes)),
            System::Given(system) => given = Some(system.clone()),
        }
        let Load { clients, keys, operations_max, level, .. } = parameters.load;
        Self {
            schema: 2,
            workload: parameters.workload.to_string(),
            nemeses: parameters.nemeses.iter().map(ToString::to_string).collect(),
            // As text, since the format has no number as great as seeds can be.
            seed: parameters.seed.to_string(),
            time_limit_ms: u64::try_from(parameters.time_limit.as_millis()).unwrap_or(u64::MAX),
            consistency: level,
            clients,
            keys,
            operations_max,
            nodes: own.as_ref().map(|(_, nodes)| *nodes),
            binary: own.map(|(binary, _)| binary),
            ca: given.as_ref().map(|given| given.ca.clone()),
            cert: given.as_ref().map(|given| given.cert.clone()),
            key: given.as_ref().map(|given| given.key.clone()),
            keyspace: given.as_ref().and_then(|given| given.keyspace.clone()),
            endpoints: given.map(|given| given.endpoints),
        }
    }
}

impl Parameters {
    /// Reads `run.toml` of the directory of a run.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if it cannot be read, [`LabError::Parameters`] if it is none.
    pub fn load(dir: &Path) -> Result<Self, LabError> {
        let path = dir.join("run.toml");
        let text = std::fs::read_to_string(&path).map_err(LabError::io(&path))?;
        let refused = |why: String| LabError::Parameters(format!("{}: {why}", path.display()));
        let stored: Stored = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        stored.parameters().map_err(refused)
    }
}

impl Stored {
    fn parameters(self) -> Result<Parameters, String> {
        let system = match (self.binary, self.nodes, self.endpoints, self.ca, self.cert, self.key) {
            (Some(binary), Some(nodes), None, ..) => System::Own { binary, nodes },
            (None, None, Some(endpoints), Some(ca), Some(cert), Some(key)) => {
                System::Given(Given { endpoints, ca, cert, key, keyspace: self.keyspace })
            }
            _ => return Err("it names neither a binary nor a cluster".to_owned()),
        };
        let nemeses = self.nemeses.iter().map(|word| word.parse());
        Ok(Parameters {
            system,
            workload: self.workload.parse()?,
            nemeses: nemeses.collect::<Result<_, String>>()?,
            time_limit: Duration::from_millis(self.time_limit_ms),
            seed: self.seed.parse().map_err(|_| format!("\"{}\" is no seed", self.seed))?,
            load: Load {
                clients: self.clients,
                keys: self.keys,
                operations_max: self.operations_max,
                level: self.consistency,
                ..Load::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(system: System) -> Parameters {
        Parameters {
            system,
            workload: WorkloadKind::Bank,
            nemeses: vec![NemesisKind::Kill, NemesisKind::Partition],
            time_limit: Duration::from_millis(1_500),
            seed: u64::MAX,
            load: Load { clients: 9, ..Load::default() },
        }
    }

    #[test]
    fn parameters_survive_their_file() {
        let own = System::Own { binary: "/bin/kvstore".into(), nodes: 5 };
        let given = Given {
            endpoints: vec!["a:1".into()],
            ca: "ca".into(),
            cert: "cert".into(),
            key: "key".into(),
            keyspace: None,
        };
        let named = Given { keyspace: Some("orders".into()), ..given.clone() };
        for (system, keyspace) in [
            (own, None),
            (System::Given(given), None),
            (System::Given(named), Some(" --keyspace orders ")),
        ] {
            let parameters = parameters(system);
            let command = parameters.replay_command();
            assert!(keyspace.is_none_or(|words| command.contains(words)), "{command}");
            assert_eq!(command.contains("keyspace"), keyspace.is_some(), "{command}");
            let dir = tempfile::tempdir().unwrap();
            let text = toml::to_string(&Stored::from(&parameters)).unwrap();
            std::fs::write(dir.path().join("run.toml"), text).unwrap();
            let again = Parameters::load(dir.path()).unwrap();
            assert_eq!(again.replay_command(), parameters.replay_command());
            assert!(again.replay_command().contains("run bank:kill+partition "));
            assert!(again.replay_command().ends_with(&format!("--seed {}", u64::MAX)));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let own = |nodes| parameters(System::Own { binary: "x".into(), nodes });
        own(3).validate().unwrap();
        assert!(own(1).validate().unwrap_err().to_string().contains("at least 2 nodes"));
        let twice = Parameters { nemeses: vec![NemesisKind::Kill; 2], ..own(3) };
        assert!(twice.validate().unwrap_err().to_string().contains("twice"));
        let endpoints = vec!["a:1".to_owned()];
        let path = PathBuf::from("x");
        let (ca, cert, key) = (path.clone(), path.clone(), path);
        let given = Given { endpoints, ca, cert, key, keyspace: None };
        let given = parameters(System::Given(given));
        assert!(given.validate().unwrap_err().to_string().contains("the lab's own"));
        let calm = Parameters { nemeses: vec![NemesisKind::None], ..given };
        calm.validate().unwrap();
    }

    #[test]
    fn titles_name_a_workload_and_what_disturbs_it() {
        assert_eq!(parse_title("bank"), Ok((WorkloadKind::Bank, vec![])));
        let both = vec![NemesisKind::Kill, NemesisKind::Partition];
        assert_eq!(parse_title("list-append:kill+partition"), Ok((WorkloadKind::ListAppend, both)));
        assert_eq!(parse_title("set:none"), Ok((WorkloadKind::Set, vec![NemesisKind::None])));
        for (wrong, why) in [
            ("stack", "no workload \"stack\"; there are register, cas"),
            ("bank:flood", "no nemesis \"flood\"; there are none, kill"),
            ("bank:", "no nemesis \"\""),
            ("bank:kill+", "no nemesis \"\""),
        ] {
            let refused = parse_title(wrong).unwrap_err();
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }
}
