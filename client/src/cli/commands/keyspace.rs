//! `kv keyspace`.

use std::ffi::OsStr;

use proto::v1::keyspace::{Kind, Policy, Settings, State};
use proto::{Applied, Code, Failure, v1};
use serde::Serialize;

use crate::cli::args::{CreateArgs, KeyspaceCommand, LimitArgs};
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, SCHEMA, grouped, json_line, json_row, one_line, shell_quoted, size, table,
};
use crate::cli::run::Run;
use crate::config::CallOptions;
use crate::error::ClientError;
use crate::keyspaces::Keyspaces;

/// How often settings are read again because somebody else has changed them meanwhile.
const SET_REPEATS_MAX: u32 = 5;

#[derive(Serialize)]
struct ListJson {
    schema: u32,
    keyspaces: Vec<KeyspaceJson>,
}

#[derive(Serialize)]
struct OneJson {
    schema: u32,
    #[serde(flatten)]
    keyspace: KeyspaceJson,
}

/// A keyspace; what it holds is absent where it was not asked for.
#[derive(Serialize)]
struct KeyspaceJson {
    name: String,
    id: u64,
    kind: &'static str,
    /// Only a keyspace of kind eventual has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'static str>,
    state: &'static str,
    #[serde(flatten)]
    settings: SettingsJson,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    holds: Option<HoldsJson>,
}

/// 0 of the first means the default, of the last two no limit.
#[derive(Serialize)]
struct SettingsJson {
    history_revisions: u64,
    history_seconds: u64,
    max_keys: u64,
    max_bytes: u64,
}

#[derive(Serialize)]
struct HoldsJson {
    rev: u64,
    compacted: u64,
    keys: u64,
    bytes: u64,
}

/// What shows the outcome of a change.
const LOOK: &str = "kv keyspace ls";

pub(super) async fn keyspace(command: KeyspaceCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    let keyspaces = run.client()?.keyspaces();
    match command {
        KeyspaceCommand::Ls => {
            let views = keyspaces.list(None, &run.options()).await?;
            list(views.into_iter().map(KeyspaceJson::of_view).collect(), run)
        }
        KeyspaceCommand::Create(args) => create(&args, &keyspaces, run).await,
        KeyspaceCommand::Show { name } => {
            let view = view(&name, "keyspace", &keyspaces, &run.options()).await?;
            show(KeyspaceJson::of_view(view), run)
        }
        KeyspaceCommand::Set { name, limits } => set(&name, &limits, &keyspaces, run).await,
        KeyspaceCommand::Rm { name } => {
            run.confirm(&format!("removing keyspace \"{name}\" and all it holds"))?;
            let options = run.options();
            let sent = keyspaces.remove(&name, &options);
            let removed = run.change(format!("removal of keyspace {name:?}"), LOOK, sent).await;
            let reply = removed.map_err(|error| change_error(error, &name))?;
            report("removed", &name, reply, run)
        }
    }
}

async fn create(
    args: &CreateArgs,
    keyspaces: &Keyspaces,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let mut settings = Settings::default();
    apply(&args.limits, &mut settings);
    if let Some(merge) = &args.merge {
        let subject = format!("creation of keyspace \"{}\"", one_line(&args.name));
        let why =
            format!("no kind of keyspace merges values, by {:?} or otherwise", one_line(merge));
        let refused = Failure::new(Code::SettingNotOffered, subject, why).applied(Applied::No);
        return Err(refused.into());
    }
    let policy = args.policy.map_or(Policy::Unspecified, Policy::from);
    let keyspace = v1::Keyspace {
        name: args.name.clone(),
        kind: Kind::from(args.kind).into(),
        settings: Some(settings),
        policy: policy.into(),
        ..v1::Keyspace::default()
    };
    let options = run.options();
    let sent = keyspaces.create_as(keyspace, &options);
    let created = run.change(format!("creation of keyspace {:?}", args.name), LOOK, sent).await;
    let reply = created.map_err(|error| change_error(error, &args.name))?;
    report("created", &args.name, reply, run)
}

/// Changes what is named and nothing else: when somebody else has changed the settings since they were
/// read, they are read again.
async fn set(
    name: &str,
    limits: &LimitArgs,
    keyspaces: &Keyspaces,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    if limits.history.is_none() && limits.max_keys.is_none() && limits.max_bytes.is_none() {
        let why = "name at least one of --history, --max-keys, --max-bytes";
        return Err(CliError::Usage(why.into()));
    }
    let time = run.time_left()?;
    let mut again = SET_REPEATS_MAX;
    loop {
        let view = view(name, "change of keyspace", keyspaces, &time.options()).await?;
        let seen = view.keyspace.unwrap_or_default();
        let mut settings = seen.settings.unwrap_or_default();
        apply(limits, &mut settings);
        let options = time.options();
        let sent = keyspaces.set(name, settings, Some(&seen), &options);
        match run.change(format!("change of keyspace {name:?}"), LOOK, sent).await {
            Ok(reply) => return report("changed", name, reply, run),
            Err(error) if error.code() == Code::KeyspaceChanged && again > 0 => again -= 1,
            Err(error) => return Err(change_error(error, name)),
        }
    }
}

fn apply(limits: &LimitArgs, settings: &mut Settings) {
    if let Some(history) = limits.history {
        history.set_in(settings);
    }
    settings.keys_max = limits.max_keys.unwrap_or(settings.keys_max);
    settings.bytes_max = limits.max_bytes.unwrap_or(settings.bytes_max);
}

/// The keyspace of this name.
async fn view(
    name: &str,
    what: &str,
    keyspaces: &Keyspaces,
    options: &CallOptions,
) -> Result<v1::KeyspaceView, CliError> {
    let found = keyspaces.list(Some(name), options).await?.into_iter().next();
    found.ok_or_else(|| {
        let subject = format!("{what} \"{}\"", one_line(name));
        let why = "no keyspace has that name";
        CliError::from(Failure::new(Code::KeyspaceNotFound, subject, why)).hint("kv keyspace ls")
    })
}

fn change_error(error: ClientError, name: &str) -> CliError {
    CliError::of_change(error, format!("kv keyspace show {}", shell_quoted(OsStr::new(name))))
}

impl KeyspaceJson {
    fn new(keyspace: v1::Keyspace) -> Self {
        let settings = keyspace.settings.unwrap_or_default();
        Self {
            kind: match keyspace.kind() {
                Kind::Linearizable => "linearizable",
                Kind::Eventual => "eventual",
                Kind::Unspecified => "-",
            },
            policy: match keyspace.policy() {
                Policy::Siblings => Some("siblings"),
                Policy::Lww => Some("lww"),
                Policy::Unspecified => None,
            },
            state: match keyspace.state() {
                State::Creating => "creating",
                State::Ready => "ready",
                State::Removing => "removing",
                State::Unspecified => "-",
            },
            name: keyspace.name,
            id: keyspace.id,
            settings: SettingsJson {
                history_revisions: settings.history_revisions,
                history_seconds: settings.history_seconds,
                max_keys: settings.keys_max,
                max_bytes: settings.bytes_max,
            },
            holds: None,
        }
    }

    fn of_view(view: v1::KeyspaceView) -> Self {
        let holds = HoldsJson {
            rev: view.revision,
            compacted: view.compacted,
            keys: view.live_keys,
            bytes: view.live_bytes,
        };
        Self { holds: Some(holds), ..Self::new(view.keyspace.unwrap_or_default()) }
    }

    /// Name and text of what people and scripts see, in order.
    fn fields(&self, form: Form) -> Vec<(&'static str, String)> {
        let people = form == Form::People;
        let number = |number: u64| if people { grouped(number) } else { number.to_string() };
        let bytes = |bytes: u64| if people { size(bytes) } else { bytes.to_string() };
        let or_none = |limit: u64, text: String| match limit {
            0 if people => "no limit".to_owned(),
            _ => text,
        };
        let mut fields = vec![
            ("name", one_line(&self.name).into_owned()),
            ("kind", self.kind.to_owned()),
            ("state", self.state.to_owned()),
        ];
        if let Some(holds) = &self.holds {
            fields.extend([
                ("rev", number(holds.rev)),
                ("compacted", number(holds.compacted)),
                ("keys", number(holds.keys)),
                ("bytes", bytes(holds.bytes)),
            ]);
        }
        let SettingsJson { max_keys, max_bytes, .. } = self.settings;
        fields.extend([
            ("history", self.history()),
            ("max_keys", or_none(max_keys, number(max_keys))),
            ("max_bytes", or_none(max_bytes, bytes(max_bytes))),
            ("policy", self.policy.unwrap_or("-").to_owned()),
        ]);
        fields
    }

    /// As it would be typed after --history; an eventual keyspace has none.
    fn history(&self) -> String {
        if self.policy.is_some() {
            return "-".to_owned();
        }
        match (self.settings.history_revisions, self.settings.history_seconds) {
            (0, 0) => "default".to_owned(),
            (0, seconds) => {
                let kept = std::time::Duration::from_secs(seconds);
                humantime::format_duration(kept).to_string().replace(' ', "")
            }
            (revisions, _) => revisions.to_string(),
        }
    }
}

fn list(keyspaces: Vec<KeyspaceJson>, run: &mut Run<'_>) -> Result<(), CliError> {
    let form = run.form;
    match form {
        Form::Json => json_line(run.out(), &ListJson { schema: SCHEMA, keyspaces })?,
        Form::JsonLines => {
            for keyspace in &keyspaces {
                json_row(run.out(), keyspace)?;
            }
        }
        Form::Raw => {
            for keyspace in &keyspaces {
                let fields = keyspace.fields(form).into_iter().map(|(_, text)| text);
                writeln!(run.out(), "{}", fields.collect::<Vec<_>>().join("\t"))?;
            }
        }
        Form::People => {
            let header = [
                "NAME",
                "KIND",
                "STATE",
                "REV",
                "COMPACTED",
                "KEYS",
                "BYTES",
                "HISTORY",
                "MAX KEYS",
                "MAX BYTES",
                "POLICY",
            ];
            let rows = keyspaces
                .iter()
                .map(|keyspace| keyspace.fields(form).into_iter().map(|(_, text)| text));
            run.out().write_all(table(&header, rows).as_bytes())?;
        }
    }
    Ok(())
}

fn show(keyspace: KeyspaceJson, run: &mut Run<'_>) -> Result<(), CliError> {
    let form = run.form;
    match form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &OneJson { schema: SCHEMA, keyspace })?;
        }
        Form::People => {
            for (name, text) in keyspace.fields(form) {
                writeln!(run.out(), "{name:<10} {text}")?;
            }
        }
        Form::Raw => {
            for (name, text) in keyspace.fields(form) {
                writeln!(run.out(), "{name}\t{text}")?;
            }
        }
    }
    Ok(())
}

/// What a change came to: a note for people, nothing in a pipe.
fn report(
    verb: &str,
    name: &str,
    reply: v1::KeyspaceReply,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let keyspace = KeyspaceJson::new(reply.keyspace.unwrap_or_default());
    match run.form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &OneJson { schema: SCHEMA, keyspace })?;
        }
        Form::People => {
            let ok = run.paint_err.good("ok");
            run.note(&format!("{ok}  {verb} keyspace \"{}\"", one_line(name)));
        }
        Form::Raw => {}
    }
    Ok(())
}
