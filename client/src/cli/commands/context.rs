//! `kv context`.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::args::ContextCommand;
use crate::cli::context::{Context, Contexts, config_dir};
use crate::cli::errors::{CliError, EXIT_PARTIAL};
use crate::cli::output::{Form, SCHEMA, json_line, one_line, table};
use crate::cli::run::Run;
use crate::cli::settings::{self, unknown_context};
use crate::client::Client;
use crate::pki;

#[derive(Serialize)]
struct ContextJson<'a> {
    schema: u32,
    name: &'a str,
    selected: bool,
    endpoints: &'a [String],
    ca: String,
    cert: String,
    key: String,
}

pub(super) async fn context(command: ContextCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    let dir = config_dir(run.terminal)?;
    let mut contexts = Contexts::load(&dir)?;
    match command {
        ContextCommand::Add { name } => {
            if !pki::is_name(&name) {
                let why = "a context's name has letters, digits, '.', '_' and '-'";
                return Err(CliError::Usage(why.into()));
            }
            let selected = contexts.put(&name, from_flags(run)?);
            contexts.save(&dir)?;
            let selected = if selected { ", selected" } else { "" };
            run.note(&format!("context \"{name}\" kept{selected}"));
            Ok(())
        }
        ContextCommand::Ls => list(&contexts, run),
        ContextCommand::Use { name } => {
            select(&name, &mut contexts, run)?;
            contexts.save(&dir)?;
            Ok(())
        }
        ContextCommand::Previous => {
            let previous = contexts
                .previous
                .clone()
                .ok_or_else(|| CliError::Usage("no context was selected before this one".into()))?;
            select(&previous, &mut contexts, run)?;
            contexts.save(&dir)?;
            Ok(())
        }
        ContextCommand::Show { name } => {
            let (name, context) = find(name, &contexts, run)?;
            show(&name, &context, &contexts, run)
        }
        ContextCommand::Check { name } => {
            let (_, context) = find(name, &contexts, run)?;
            check(&context, run).await
        }
        ContextCommand::Rm { name } => {
            if !contexts.remove(&name) {
                return Err(unknown_context(&name, &contexts));
            }
            contexts.save(&dir)?;
            run.note(&format!("context \"{name}\" removed"));
            Ok(())
        }
    }
}

fn select(name: &str, contexts: &mut Contexts, run: &mut Run<'_>) -> Result<(), CliError> {
    if !contexts.select(name) {
        return Err(unknown_context(name, contexts));
    }
    run.note(&format!("context \"{name}\" selected"));
    Ok(())
}

/// The context that `add` keeps: all four flags or their variables are needed.
fn from_flags(run: &Run<'_>) -> Result<Context, CliError> {
    let mut global = run.global.clone();
    global.context = None;
    let needed = |flag: &Option<PathBuf>, variable: &str, name: &str| {
        flag.clone()
            .or_else(|| run.terminal.var(variable).map(PathBuf::from))
            .ok_or_else(|| CliError::Usage(format!("a context needs {name}")))
    };
    let endpoints = global.endpoints.or_else(|| {
        let list = run.terminal.text_var("KV_ENDPOINTS")?;
        Some(list.split(',').map(str::to_owned).collect())
    });
    let endpoints: Vec<String> = endpoints
        .unwrap_or_default()
        .iter()
        .map(|endpoint| endpoint.trim().to_owned())
        .filter(|endpoint| !endpoint.is_empty())
        .collect();
    if endpoints.is_empty() {
        return Err(CliError::Usage("a context needs --endpoints".into()));
    }
    Ok(Context {
        endpoints,
        ca: needed(&global.ca, "KV_CA", "--ca")?,
        cert: needed(&global.cert, "KV_CERT", "--cert")?,
        key: needed(&global.key_file, "KV_KEY", "--key")?,
    })
}

/// The named context; without a name, what a command would use now.
fn find(
    name: Option<String>,
    contexts: &Contexts,
    run: &Run<'_>,
) -> Result<(String, Context), CliError> {
    match name {
        Some(name) => match contexts.contexts.get(&name) {
            Some(context) => Ok((name, context.clone())),
            None => Err(unknown_context(&name, contexts)),
        },
        None => {
            let target = settings::target(&run.global, run.terminal)?;
            let name = match target.origin {
                settings::Origin::Flag => "(flags)".to_owned(),
                settings::Origin::Environment => "(environment)".to_owned(),
                settings::Origin::Context(name) => name,
            };
            Ok((name, target.context))
        }
    }
}

fn json<'a>(name: &'a str, context: &'a Context, contexts: &Contexts) -> ContextJson<'a> {
    ContextJson {
        schema: SCHEMA,
        name,
        selected: contexts.current.as_deref() == Some(name),
        endpoints: &context.endpoints,
        ca: context.ca.display().to_string(),
        cert: context.cert.display().to_string(),
        key: context.key.display().to_string(),
    }
}

fn list(contexts: &Contexts, run: &mut Run<'_>) -> Result<(), CliError> {
    let mark = |name: &str| if contexts.current.as_deref() == Some(name) { "*" } else { "" };
    match run.form {
        Form::Json | Form::JsonLines => {
            for (name, context) in &contexts.contexts {
                json_line(run.out(), &json(name, context, contexts))?;
            }
        }
        Form::Raw => {
            for (name, context) in &contexts.contexts {
                writeln!(run.out(), "{name}\t{}\t{}", mark(name), context.endpoints.join(","))?;
            }
        }
        Form::People => {
            let rows = contexts.contexts.iter().map(|(name, context)| {
                [mark(name).to_owned(), name.clone(), context.endpoints.join(",")]
            });
            let text = table(&["", "NAME", "ENDPOINTS"], rows);
            run.out().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

fn show(
    name: &str,
    context: &Context,
    contexts: &Contexts,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    if run.form.is_json() {
        return Ok(json_line(run.out(), &json(name, context, contexts))?);
    }
    let out = run.out();
    writeln!(out, "name       {name}")?;
    writeln!(out, "endpoints  {}", context.endpoints.join(","))?;
    writeln!(out, "ca         {}", context.ca.display())?;
    writeln!(out, "cert       {}", context.cert.display())?;
    writeln!(out, "key        {}", context.key.display())?;
    Ok(())
}

#[derive(Serialize)]
struct CheckJson<'a> {
    schema: u32,
    endpoint: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Says hello to each endpoint alone.
async fn check(context: &Context, run: &mut Run<'_>) -> Result<(), CliError> {
    let timeout = settings::timeout(&run.global, run.terminal)?;
    let config = settings::config_for(context, &run.global, timeout)?;
    let mut last = None;
    let mut good = 0;
    for endpoint in &context.endpoints {
        let mut alone = config.clone();
        alone.endpoints = vec![endpoint.clone()];
        alone.discover = false;
        let outcome = Client::connect(alone)?.hello(&run.options()).await;
        let (node, error) = match outcome {
            Ok(hello) => {
                good += 1;
                (Some(format!("{} of {}", hello.node, hello.cluster_name)), None)
            }
            Err(error) => {
                let why = one_line(&error.failure().why).into_owned();
                last = Some(error);
                (None, Some(why))
            }
        };
        if run.form.is_json() {
            let ok = node.is_some();
            json_line(run.out(), &CheckJson { schema: SCHEMA, endpoint, ok, node, error })?;
        } else {
            let words = match (node, error) {
                (Some(node), _) => format!("{} {node}", run.paint.good("ok")),
                (None, why) => format!("{} {}", run.paint.error("failed"), why.unwrap_or_default()),
            };
            writeln!(run.out(), "{endpoint}  {words}")?;
        }
    }
    match last {
        None => Ok(()),
        Some(_) if good > 0 => Err(CliError::Status(EXIT_PARTIAL)),
        Some(error) => Err(error.into()),
    }
}
