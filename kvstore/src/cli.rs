//! The command line of the server binary.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use storage::disk::RealDisk;

use crate::config::{Address, Config, Effective, effective, example};
use crate::dev;
use crate::offline::{self, recover, restore, verify};
use crate::peer::check_certificate_cluster;
use crate::serve;
use crate::server::ServerError;
use crate::tls::Material;

/// A replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "kvstore", version = client::version::text(), about)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "The log goes to stderr; KVSTORE_LOG sets its level, such as `debug`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node, as its configuration says.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a throw-away cluster in this process, with mTLS, and point `kv` at it.
    Dev(DevArgs),
    /// Look at a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work on exports, without a cluster; `kv snapshot save` makes them.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// The last resort when a majority of the nodes is lost for good: make an export of what one
    /// stopped node holds, from which a new cluster starts. What no majority had confirmed may be
    /// lost or kept.
    Recover {
        /// The configuration file of the node.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do it; without this, the command says what it would mean.
        #[arg(long)]
        yes: bool,
    },
    /// Print the version.
    Version {
        /// As JSON, with the features of this build.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct DevArgs {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=dev::NODES_MAX))]
    nodes: u8,
    /// Keep everything in this directory, and continue from it the next time.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Run this command against the cluster, stop, and exit with its status. It finds the cluster
    /// by KV_ENDPOINTS, KV_CA, KV_CERT and KV_KEY, and `kv` on its PATH.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file, the environment over it and the files that it names; exits as
    /// `serve` would: 2 for the configuration and the modes of files, 7 for the certificate. Warns
    /// where the certificate is not good for a host by which the node is told to be reached.
    Check {
        /// The configuration file.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the configuration that takes effect.
    Show {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// With where each value comes from: a line of the file, a variable, or a default.
        #[arg(long)]
        origin: bool,
    },
    /// Print a commented configuration that names every key.
    Example,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Read an export whole, and print what it holds. Exits with 9 and the place in the file when it
    /// does not verify.
    Verify {
        /// The export.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// As text, or as one JSON object.
        #[arg(short, long, value_enum, default_value_t = OutputForm::Text)]
        output: OutputForm,
    },
    /// Put an export into an empty directory, from which a node of a new cluster starts.
    Restore {
        /// The export.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The data directory of the new node: empty or absent.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputForm {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs the command line and returns the exit code: 0 clean, 1 failed at run time, 2 usage,
/// configuration or file modes, 3 a file that is not there, 7 own certificate unusable, 9 data refused.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is no reason for another exit code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Serve { config } => serve::run(&config),
        Command::Dev(DevArgs { nodes, keep, command }) => {
            dev::run(dev::DevOptions { nodes, keep, command })
        }
        Command::Config(ConfigCommand::Check { config }) => {
            let checked = check(&config);
            if let Ok(Checked { warnings, .. }) = &checked {
                complain(warnings);
            }
            print_or_fail(checked.map(|checked| checked.text))
        }
        Command::Config(ConfigCommand::Show { config, origin }) => {
            let shown = effective(&config).map(|effective| effective.to_toml(origin));
            print_or_fail(shown.map_err(ServerError::from))
        }
        Command::Config(ConfigCommand::Example) => print(&example()),
        Command::Snapshot(SnapshotCommand::Verify { file, output }) => {
            let json = output == OutputForm::Json;
            let verified = verify::verify(&RealDisk, &file);
            offline::finish(verified.map(|verified| verified.report(json)), json)
        }
        Command::Snapshot(SnapshotCommand::Restore { file, data_dir }) => {
            offline::finish(restore::restore(&RealDisk, &file, &data_dir), false)
        }
        Command::Recover { config, yes } => offline::finish(recover::recover(&config, yes), false),
        Command::Version { json } => print(&version(json)),
    }
}

/// A configuration with which `serve` would start.
#[derive(Debug)]
struct Checked {
    /// What was checked.
    text: String,
    /// What `serve` does not mind and others may, a line each.
    warnings: String,
}

/// Checks what `serve` would check before it touches the data directory, and says what that was.
fn check(path: &Path) -> Result<Checked, ServerError> {
    let effective = effective(path)?;
    let config = &effective.config;
    let material = Material::load(&config.tls, &config.node.name)?;
    check_certificate_cluster(&material, &config.cluster.name)?;
    let warnings = host_warnings(config, &material);
    Ok(Checked { text: checked(path, &effective, &material), warnings })
}

/// What clients and other nodes dial must stand in the certificate, or they refuse it. It is no error:
/// they may have been given other addresses that do.
fn host_warnings(config: &Config, material: &Material) -> String {
    let wrong = config.told_hosts().into_iter().filter(|(_, host)| !material.is_for_host(host));
    wrong
        .map(|(key, host)| {
            let (cert, hosts) = (config.tls.cert.display(), material.info().hosts.join(", "));
            format!(
                "warning: {cert} is not good for {host} (`{key}`), so those who dial it will refuse \
                 it; it names {hosts}\n"
            )
        })
        .collect()
}

fn checked(path: &Path, effective: &Effective, material: &Material) -> String {
    let config = &effective.config;
    let list = |items: Vec<String>| items.join(", ");
    let names = config.cluster.initial.iter().map(|member| member.name.clone()).collect();
    let cluster = if config.cluster.join.is_empty() {
        format!("forms with {}", list(names))
    } else {
        format!("joins at {}", list(config.cluster.join.iter().map(Address::to_string).collect()))
    };
    let variables: Vec<String> = effective.variables().map(str::to_owned).collect();
    let environment =
        if variables.is_empty() { "sets nothing".to_owned() } else { list(variables) };
    let (listen, tls) = (&config.listen, &config.tls);
    format!(
        "ok: {}\n  \
         environment  {environment}\n  \
         node         {}, data in {} (not opened)\n  \
         listeners    client {}, peer {}, admin {} (not opened)\n  \
         cluster      {}, {cluster} (nobody was asked)\n  \
         certificate  {}: {}, names this node\n  \
         authority    {}: has issued the certificate\n  \
         key          {}: fits the certificate, readable by its owner alone\n",
        path.display(),
        config.node.name,
        config.node.data_dir.display(),
        listen.client,
        listen.peer,
        listen.admin,
        config.cluster.name,
        tls.cert.display(),
        material.info(),
        tls.ca.display(),
        tls.key.display(),
    )
}

fn print_or_fail(text: Result<String, ServerError>) -> ExitCode {
    match text {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&error.describe());
            ExitCode::from(error.exit())
        }
    }
}

fn version(json: bool) -> String {
    if !json {
        return format!("kvstore {}\n", client::version::text());
    }
    #[cfg_attr(not(feature = "lab"), expect(unused_mut, reason = "only the lab adds to it"))]
    let mut fields = serde_json::json!({
        "schema": 1,
        "name": "kvstore",
        "version": client::version::VERSION,
        "commit": client::version::COMMIT,
        "features": features(),
    });
    #[cfg(feature = "lab")]
    {
        let names = crate::lab::Mutant::ALL.map(crate::lab::Mutant::as_str);
        fields["mutants"] = serde_json::json!(names);
    }
    format!("{fields}\n")
}

/// What this build has that others do not.
fn features() -> Vec<&'static str> {
    if cfg!(feature = "lab") { vec!["lab"] } else { Vec::new() }
}

/// Prints to stdout; a reader that has gone is fine.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut output = std::io::stdout().lock();
    let written = std::io::Write::write_all(&mut output, text.as_bytes())
        .and_then(|()| std::io::Write::flush(&mut output));
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints to stderr. Nobody is left to tell when that is closed: the exit code says it.
pub(crate) fn complain(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Pki;

    fn dev(args: &[&str]) -> Result<DevArgs, clap::Error> {
        let args = ["kvstore", "dev"].iter().chain(args);
        match Cli::try_parse_from(args)?.command {
            Command::Dev(dev) => Ok(dev),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn dev_takes_a_command_behind_two_dashes() {
        let plain = dev(&[]).unwrap();
        assert_eq!((plain.nodes, plain.keep, plain.command.len()), (3, None, 0));
        let run = dev(&["--nodes", "5", "--", "kv", "ls", "--keys-only"]).unwrap();
        assert_eq!(run.nodes, 5);
        assert_eq!(run.command, ["kv", "ls", "--keys-only"]);
        let kept = dev(&["--keep", "d"]).unwrap();
        assert_eq!(kept.keep, Some(PathBuf::from("d")));
    }

    #[test]
    fn usage_errors_exit_2() {
        for args in [
            &["--nodes", "0"][..],
            &["--nodes", "100"],
            &["kv", "ls"],
            &["--no-console"],
            &["--seed", "1"],
        ] {
            assert_eq!(dev(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        assert_eq!(Cli::try_parse_from(["kvstore"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["kvstore", "serve"]).unwrap_err().exit_code(), 2);
    }

    /// A configuration with certificates beside it.
    fn site(pki: &Pki, change: impl Fn(String) -> String) -> PathBuf {
        let files = pki.section("n1");
        let text = example()
            .replace("pki/ca.crt", &files.ca.display().to_string())
            .replace("pki/n1.crt", &files.cert.display().to_string())
            .replace("pki/n1.key", &files.key.display().to_string());
        let path = pki.path().join("kvstore.toml");
        std::fs::write(&path, change(text)).unwrap();
        path
    }

    #[test]
    fn a_check_says_what_it_checked() {
        let pki = Pki::new();
        pki.node("n1");
        let path = site(&pki, |text| text);
        let Checked { text, warnings } = check(&path).unwrap();
        assert_eq!(warnings, "");
        assert!(text.starts_with(&format!("ok: {}\n", path.display())), "{text}");
        for part in [
            "sets nothing",
            "forms with n1, n2, n3",
            "n1.crt: CN=n1 (valid",
            "n1.key: fits",
            "7612",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let joins = |text: String| text.replace("\ninitial", "\n# ").replace("# join", "join");
        let text = check(&site(&pki, joins)).unwrap().text;
        assert!(text.contains("joins at 127.0.0.1:7611, 127.0.0.1:7621"), "{text}");
    }

    #[test]
    fn a_check_warns_of_hosts_that_the_certificate_does_not_name() {
        let pki = Pki::new();
        pki.node_for("n1", &["127.0.0.1".to_owned(), "N1.example.com".to_owned()]);
        let warnings = |changes: &[(&str, &str)]| {
            let change =
                |text| changes.iter().fold(text, |t: String, (from, to)| t.replace(from, to));
            check(&site(&pki, change)).unwrap().warnings
        };
        let client = ("# client = \"n1.example", "client = \"n1.example");
        let peer = ("# peer = \"n1.example.com", "peer = \"n2.example.com");
        assert_eq!(warnings(&[client]), "");
        let told = warnings(&[client, peer]);
        assert_eq!(told.lines().count(), 1, "{told}");
        for part in [
            "n1.crt is not good for n2.example.com (`advertise.peer`)",
            "names 127.0.0.1, N1.example.com",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = warnings(&[("n1=127.0.0.1:7611", "n1=10.0.0.1:7611")]);
        assert!(told.contains("10.0.0.1 (`cluster.initial`)"), "{told}");
        let listens = ("client = \"127.0.0.1:7610", "client = \"127.0.0.2:7610");
        let told = warnings(&[listens]);
        assert!(told.contains("127.0.0.2 (`listen.client`)"), "{told}");
    }

    #[test]
    fn a_check_refuses_what_serve_would() {
        use std::os::unix::fs::PermissionsExt;
        let pki = Pki::for_cluster("prod");
        pki.node("n1");
        let good = |text: String| text;
        assert!(check(&site(&pki, good)).is_ok());
        for (change, exit, says) in [
            (("[node]", "[noed]"), 2, "unknown key `noed`; did you mean `node`?"),
            (("name = \"n1\"", "name = \"n2\""), 7, "kv://prod/node/n1"),
            (("\"n1=127", "\"n4=127"), 2, "does not hold this node, \"n1\""),
            (("name = \"prod\"", "name = \"test\""), 7, "certificate is good for cluster prod"),
        ] {
            let error = check(&site(&pki, |text| text.replace(change.0, change.1))).unwrap_err();
            assert_eq!(error.exit(), exit, "{error}");
            assert!(error.describe().contains(says), "{}", error.describe());
        }
        let key = pki.section("n1").key;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = check(&site(&pki, good)).unwrap_err();
        assert_eq!(error.exit(), 2);
        assert!(error.describe().contains("chmod 600"), "{}", error.describe());
        std::fs::remove_file(&key).unwrap();
        let error = check(&site(&pki, good)).unwrap_err();
        assert_eq!(error.exit(), 2);
        assert!(error.describe().contains("n1.key"), "{}", error.describe());
    }

    #[test]
    fn config_commands_are_parsed() {
        let parse = |args: &[&str]| {
            let args = ["kvstore", "config"].iter().chain(args);
            Cli::try_parse_from(args).map(|cli| cli.command)
        };
        assert!(matches!(
            parse(&["check", "f"]).unwrap(),
            Command::Config(ConfigCommand::Check { config }) if config == Path::new("f")
        ));
        assert!(matches!(
            parse(&["show", "--config", "f", "--origin"]).unwrap(),
            Command::Config(ConfigCommand::Show { config, origin: true }) if config == Path::new("f")
        ));
        for args in [&["check"][..], &["show"], &["show", "f"], &["example", "f"], &[]] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn offline_commands_are_parsed() {
        let parse = |args: &[&str]| {
            let args = ["kvstore"].iter().chain(args);
            Cli::try_parse_from(args).map(|cli| cli.command)
        };
        assert!(matches!(
            parse(&["snapshot", "verify", "f", "-o", "json"]).unwrap(),
            Command::Snapshot(SnapshotCommand::Verify { output: OutputForm::Json, .. })
        ));
        assert!(matches!(
            parse(&["snapshot", "restore", "f", "--data-dir", "d"]).unwrap(),
            Command::Snapshot(SnapshotCommand::Restore { data_dir, .. }) if data_dir == Path::new("d")
        ));
        assert!(matches!(
            parse(&["recover", "--config", "f"]).unwrap(),
            Command::Recover { yes: false, .. }
        ));
        for args in [&["snapshot", "verify"][..], &["snapshot", "restore", "f"], &["recover"]] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn the_version_is_one_json_object() {
        let value: serde_json::Value = serde_json::from_str(&version(true)).unwrap();
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(value["commit"], client::version::COMMIT);
        let text = version(false);
        assert_eq!(text, format!("kvstore {}\n", client::version::text()));
        let flag = Cli::try_parse_from(["kvstore", "--version"]).unwrap_err().to_string();
        assert_eq!(flag, text);
        let lab = if cfg!(feature = "lab") { vec!["lab"] } else { vec![] };
        assert_eq!(value["features"], serde_json::json!(lab));
        // Bugs that can be planted are listed where they can, and nowhere else.
        assert_eq!(value.get("mutants").is_some(), cfg!(feature = "lab"));
    }
}
