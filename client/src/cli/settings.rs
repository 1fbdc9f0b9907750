//! Which cluster a command talks to: flags, then the environment, then a context.

use std::path::PathBuf;
use std::time::Duration;

use proto::{Code, Failure};

use super::args::{GlobalArgs, duration};
use super::context::{Context, Contexts, config_dir};
use super::errors::CliError;
use super::terminal::Terminal;
use crate::client::Client;
use crate::config::{Config, DEFAULT_TIMEOUT};
use crate::pki;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The context of this name.
    Context(String),
}

/// The cluster of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// How to reach it.
    pub(crate) context: Context,
    /// Where the endpoints came from.
    pub(crate) origin: Origin,
}

/// Finds the cluster. Each of endpoints, CA, certificate and key comes from its flag, else its
/// variable, else the context; but a context named by a flag stands above the variables.
///
/// # Errors
/// KV1803 when something is missing, KV1701 for a context that does not exist.
pub(crate) fn target(global: &GlobalArgs, terminal: &Terminal) -> Result<Target, CliError> {
    let (context, name) = context(global, terminal)?;
    let by_flag = global.context.is_some();
    let variable = |name: &str| if by_flag { None } else { terminal.var(name) };
    let path = |flag: &Option<PathBuf>, name: &str, stored: fn(&Context) -> &PathBuf| {
        flag.clone()
            .or_else(|| variable(name).map(PathBuf::from))
            .or_else(|| context.as_ref().map(|context| stored(context).clone()))
    };
    let listed = variable("KV_ENDPOINTS").and_then(|list| list.into_string().ok());
    let from_context = context.as_ref().map(|context| context.endpoints.clone());
    let (endpoints, origin) = match (&global.endpoints, listed, from_context) {
        (Some(flag), _, _) => (flag.clone(), Origin::Flag),
        (None, Some(list), _) => {
            (list.split(',').map(str::to_owned).collect(), Origin::Environment)
        }
        (None, None, Some(stored)) => (stored, Origin::Context(name)),
        (None, None, None) => return Err(not_configured("--endpoints")),
    };
    let endpoints: Vec<String> = endpoints
        .into_iter()
        .map(|endpoint| endpoint.trim().to_owned())
        .filter(|endpoint| !endpoint.is_empty())
        .collect();
    let ca = path(&global.ca, "KV_CA", |context| &context.ca);
    let cert = path(&global.cert, "KV_CERT", |context| &context.cert);
    let key = path(&global.key_file, "KV_KEY", |context| &context.key);
    let context = Context {
        endpoints,
        ca: ca.ok_or_else(|| not_configured("--ca"))?,
        cert: cert.ok_or_else(|| not_configured("--cert"))?,
        key: key.ok_or_else(|| not_configured("--key"))?,
    };
    if context.endpoints.is_empty() {
        return Err(not_configured("--endpoints"));
    }
    Ok(Target { context, origin })
}

/// The context by flag, variable or selection, with its name.
fn context(
    global: &GlobalArgs,
    terminal: &Terminal,
) -> Result<(Option<Context>, String), CliError> {
    let named = global.context.clone().or_else(|| terminal.text_var("KV_CONTEXT"));
    let dir = match config_dir(terminal) {
        Ok(dir) => dir,
        // Without a directory there are no contexts; that matters only to who names one.
        Err(_) if named.is_none() => return Ok((None, String::new())),
        Err(error) => return Err(error.into()),
    };
    let complete = global.endpoints.is_some()
        && global.ca.is_some()
        && global.cert.is_some()
        && global.key_file.is_some();
    if complete && named.is_none() {
        return Ok((None, String::new()));
    }
    let mut contexts = Contexts::load(&dir)?;
    match named {
        Some(name) => match contexts.contexts.remove(&name) {
            Some(context) => Ok((Some(context), name)),
            None => Err(unknown_context(&name, &contexts)),
        },
        None => {
            let name = contexts.current.unwrap_or_default();
            Ok((contexts.contexts.remove(&name), name))
        }
    }
}

/// The error for a context that does not exist.
pub(crate) fn unknown_context(name: &str, contexts: &Contexts) -> CliError {
    let known: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
    let why = match known[..] {
        [] => "there are no contexts".to_owned(),
        _ => format!("there are: {}", known.join(", ")),
    };
    Failure::new(Code::ConfigInvalid, format!("context {name:?}"), why).into()
}

fn not_configured(missing: &str) -> CliError {
    let why = format!("no context is selected and {missing} is missing");
    Failure::new(Code::NotConfigured, "command", why).into()
}

/// The total time of each call: flag, then variable, then default.
///
/// # Errors
/// KV1701 when the variable is no duration.
pub(crate) fn timeout(global: &GlobalArgs, terminal: &Terminal) -> Result<Duration, CliError> {
    timeout_or(DEFAULT_TIMEOUT, global, terminal)
}

/// The total time of a call that has a default of its own.
///
/// # Errors
/// Those of [`timeout`].
pub(crate) fn timeout_or(
    default: Duration,
    global: &GlobalArgs,
    terminal: &Terminal,
) -> Result<Duration, CliError> {
    match (global.timeout, terminal.text_var("KV_TIMEOUT")) {
        (Some(timeout), _) => Ok(timeout),
        (None, None) => Ok(default),
        (None, Some(text)) => duration(&text).map_err(|why| {
            let why = format!("{text:?} is no duration such as 5s or 1500ms: {why}");
            Failure::new(Code::ConfigInvalid, "KV_TIMEOUT", why).into()
        }),
    }
}

/// The set-up of the library for a command.
///
/// # Errors
/// Those of [`target`] and [`timeout`]; KV1701, KV1702 for files.
pub(crate) fn config(global: &GlobalArgs, terminal: &Terminal) -> Result<Config, CliError> {
    let Target { context, .. } = target(global, terminal)?;
    let timeout = timeout(global, terminal)?;
    config_for(&context, global, timeout)
}

/// The set-up of the library for one context.
///
/// # Errors
/// KV1701, KV1702 for files.
pub(crate) fn config_for(
    context: &Context,
    global: &GlobalArgs,
    timeout: Duration,
) -> Result<Config, CliError> {
    let credentials = pki::load(&context.ca, &context.cert, &context.key)
        .map_err(crate::error::ClientError::from)?;
    let mut config = Config::new(context.endpoints.clone(), credentials);
    config.timeout = timeout;
    config.keyspace.clone_from(&global.keyspace);
    if let Some(level) = global.consistency {
        config.level = level.into();
    }
    Ok(config)
}

/// The client of a command.
///
/// # Errors
/// Those of [`config`]; KV1701 for endpoints and certificates that cannot work.
pub(crate) fn client(global: &GlobalArgs, terminal: &Terminal) -> Result<Client, CliError> {
    Ok(Client::connect(config(global, terminal)?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::cli::args::Cli;

    fn terminal(vars: &[(&'static str, &str)]) -> Terminal {
        let vars: HashMap<&str, OsString> =
            vars.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        Terminal {
            stdin: Box::new(std::io::empty()),
            stdout: Box::new(std::io::sink()),
            stderr: Box::new(std::io::sink()),
            stdin_is_tty: false,
            stdout_is_tty: false,
            stderr_is_tty: false,
            env: Box::new(move |name| vars.get(name).cloned()),
        }
    }

    fn global(flags: &str) -> GlobalArgs {
        let line = format!("kv {flags} options");
        Cli::try_parse_from(line.split_whitespace()).unwrap().global
    }

    fn contexts() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::default();
        for name in ["dev", "prod"] {
            let file = |kind: &str| PathBuf::from(format!("/{name}/{kind}"));
            let endpoints = vec![format!("{name}:1")];
            let context = Context { endpoints, ca: file("ca"), cert: file("c"), key: file("k") };
            contexts.put(name, context);
        }
        contexts.save(dir.path()).unwrap();
        dir
    }

    #[test]
    fn flags_stand_above_the_environment_above_the_context() {
        let dir = contexts();
        let config_dir = ("KV_CONFIG_DIR", dir.path().to_str().unwrap());
        let find = |flags: &str, vars: &[(&'static str, &str)]| {
            let mut vars = vars.to_vec();
            vars.push(config_dir);
            let found = target(&global(flags), &terminal(&vars)).unwrap();
            (found.context.endpoints.join(","), found.context.ca, found.origin)
        };
        let env = [("KV_ENDPOINTS", "env:1,env:2"), ("KV_CA", "/env/ca")];
        let dev = Origin::Context("dev".into());
        let prod = Origin::Context("prod".into());
        for (flags, vars, endpoints, ca, origin) in [
            ("", &[][..], "dev:1", "/dev/ca", dev),
            ("", &env[..], "env:1,env:2", "/env/ca", Origin::Environment),
            ("--endpoints f:1", &env[..], "f:1", "/env/ca", Origin::Flag),
            ("--endpoints f:1 --ca /f", &env[..], "f:1", "/f", Origin::Flag),
            ("--context prod", &env[..], "prod:1", "/prod/ca", prod.clone()),
            ("", &[("KV_CONTEXT", "prod")][..], "prod:1", "/prod/ca", prod),
            ("--context dev --ca /f", &[], "dev:1", "/f", Origin::Context("dev".into())),
        ] {
            let expected = (endpoints.to_owned(), PathBuf::from(ca), origin);
            assert_eq!(find(flags, vars), expected, "{flags} {vars:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let terminal = terminal(&[("KV_CONFIG_DIR", empty.path().to_str().unwrap())]);
        let error = target(&global(""), &terminal).unwrap_err();
        assert_eq!((error.code(), error.exit()), (Some(Code::NotConfigured), 2));
        let error = target(&global("--endpoints a:1 --ca /x"), &terminal).unwrap_err();
        assert!(error.failure().unwrap().why.contains("--cert"), "{error:?}");
        let error = target(&global("--context nope"), &terminal).unwrap_err();
        assert_eq!((error.code(), error.exit()), (Some(Code::ConfigInvalid), 2));
    }

    #[test]
    fn the_timeout_follows_the_same_order() {
        let five = terminal(&[]);
        assert_eq!(timeout(&global(""), &five).unwrap(), DEFAULT_TIMEOUT);
        let env = terminal(&[("KV_TIMEOUT", "250ms")]);
        assert_eq!(timeout(&global(""), &env).unwrap(), Duration::from_millis(250));
        assert_eq!(timeout(&global("--timeout 2s"), &env).unwrap(), Duration::from_secs(2));
        let broken = terminal(&[("KV_TIMEOUT", "soon")]);
        assert_eq!(timeout(&global(""), &broken).unwrap_err().exit(), 2);
    }
}
