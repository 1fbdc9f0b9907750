//! `kv cert`.

use std::time::SystemTime;

use serde::Serialize;

use crate::cli::args::{CertCommand, IssueArgs, IssueCommand};
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, json_line, table};
use crate::cli::run::Run;
use crate::pki::{self, CertificateInfo, Issued, Listed, Role, rfc3339};

const DAY_SECONDS: i64 = 24 * 60 * 60;

#[derive(Serialize)]
struct IssuedJson {
    schema: u32,
    cert: String,
    key: String,
}

#[derive(Serialize)]
struct CertificateJson {
    schema: u32,
    file: String,
    role: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    subject: String,
    hosts: Vec<String>,
    not_before: String,
    not_after: String,
    serial: String,
}

pub(super) fn cert(command: CertCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    match command {
        CertCommand::InitCa { dir, cluster, validity } => {
            let issued = pki::init_ca(&dir, cluster.as_deref(), validity)?;
            print_issued(&issued, run)
        }
        CertCommand::Issue(IssueCommand::Node { name, host, issue }) => {
            let IssueArgs { dir, validity, renew } = issue;
            let issued = match renew {
                true => pki::renew(&dir, Role::Node, &name, &host, validity)?,
                false => pki::issue_node(&dir, &name, &host, validity)?,
            };
            print_issued(&issued, run)
        }
        CertCommand::Issue(IssueCommand::Client { name, issue }) => {
            let IssueArgs { dir, validity, renew } = issue;
            let issued = match renew {
                true => pki::renew(&dir, Role::Client, &name, &[], validity)?,
                false => pki::issue_client(&dir, &name, validity)?,
            };
            print_issued(&issued, run)
        }
        CertCommand::Ls { dir } => print_list(&pki::list(&dir)?, run),
    }
}

fn print_issued(issued: &Issued, run: &mut Run<'_>) -> Result<(), CliError> {
    let [cert, key] = [&issued.cert, &issued.key].map(|path| path.display().to_string());
    match run.form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &IssuedJson { schema: SCHEMA, cert, key })?;
        }
        Form::People | Form::Raw => writeln!(run.out(), "{cert}\n{key}")?,
    }
    Ok(())
}

fn print_list(listed: &[Listed], run: &mut Run<'_>) -> Result<(), CliError> {
    match run.form {
        Form::Json | Form::JsonLines => {
            for certificate in listed {
                json_line(run.out(), &certificate_json(certificate))?;
            }
        }
        Form::Raw => {
            for certificate in listed {
                let [role, name] = owner(&certificate.info);
                let end = rfc3339(certificate.info.not_after);
                let file = certificate.path.display();
                writeln!(run.out(), "{name}\t{role}\t{end}\t{file}")?;
            }
        }
        Form::People => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            let rows = listed.iter().map(|certificate| {
                let [role, name] = owner(&certificate.info);
                let hosts = certificate.info.hosts.join(" ");
                let left = time_left(certificate.info.not_after, now);
                [name, role, left, hosts, certificate.path.display().to_string()]
            });
            let text = table(&["NAME", "ROLE", "ENDS", "HOSTS", "FILE"], rows);
            run.out().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

fn certificate_json(listed: &Listed) -> CertificateJson {
    let info = &listed.info;
    let [role, name] = owner(info);
    CertificateJson {
        schema: SCHEMA,
        file: listed.path.display().to_string(),
        role,
        name,
        cluster: info.identity.as_ref().and_then(|identity| identity.cluster.clone()),
        subject: info.subject.clone(),
        hosts: info.hosts.clone(),
        not_before: rfc3339(info.not_before),
        not_after: rfc3339(info.not_after),
        serial: info.serial.clone(),
    }
}

/// Role and name of the owner; of a CA its subject.
fn owner(info: &CertificateInfo) -> [String; 2] {
    match &info.identity {
        Some(identity) => [identity.role.to_string(), identity.name.clone()],
        None if info.is_ca => ["ca".to_owned(), info.subject.clone()],
        None => ["-".to_owned(), info.subject.clone()],
    }
}

/// The days until a certificate ends: `29 d`, `0.5 d`, or that it is over.
pub(super) fn time_left(end: i64, now: i64) -> String {
    let left = end.saturating_sub(now);
    match left {
        ..0 => "expired".to_owned(),
        0..DAY_SECONDS => format!("{} h", left / 3_600),
        _ => format!("{} d", left / DAY_SECONDS),
    }
}
