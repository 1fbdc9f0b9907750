//! Decides what the admin listener answers.

use std::fmt::Write;
use std::net::SocketAddr;

use http::{Method, StatusCode};

use crate::metrics;
use crate::rpc::front::Checks;

const TEXT: &str = "text/plain; charset=utf-8";

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) host: Option<&'a str>,
    pub(super) has_origin: bool,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, body: body.into() }
    }
}

/// Answers one request; `render` gives the metrics and is called only for them.
pub(super) fn answer(
    address: SocketAddr,
    asked: &Asked<'_>,
    checks: &Checks,
    render: impl FnOnce() -> String,
) -> Answer {
    if asked.has_origin {
        return Answer::text(StatusCode::FORBIDDEN, "requests of web pages are refused\n");
    }
    if !is_own(address, asked.host) {
        let why = format!("Host must be {address}\n");
        return Answer::text(StatusCode::FORBIDDEN, why);
    }
    if asked.method != Method::GET {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    let verbose = asked.query.is_some_and(is_verbose);
    let live = ("live", &checks.live);
    let local = [live, ("running", &checks.running), ("replayed", &checks.replayed)];
    let linearizable = [
        live,
        ("running", &checks.running),
        ("replayed", &checks.replayed),
        ("confirmed", &checks.confirmed),
        ("leader", &checks.leader),
    ];
    match asked.path {
        "/livez" => report(&[live], verbose),
        "/readyz" => report(&linearizable, verbose),
        "/readyz/local" => report(&local, verbose),
        "/metrics" => {
            Answer { status: StatusCode::OK, content_type: metrics::CONTENT_TYPE, body: render() }
        }
        _ => {
            let known = "try /livez, /readyz, /readyz/local or /metrics\n";
            Answer::text(StatusCode::NOT_FOUND, known)
        }
    }
}

/// Whether `Host` names the listen address. `localhost` names loopback on every machine and no
/// name server can point it elsewhere.
fn is_own(address: SocketAddr, host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    host == address.to_string() || host == format!("localhost:{}", address.port())
}

fn is_verbose(query: &str) -> bool {
    query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))
}

/// 200 when every check is fine, else 503 with the first reason.
fn report(checks: &[(&str, &Result<(), String>)], verbose: bool) -> Answer {
    let failed = checks.iter().find_map(|(name, check)| Some((name, check.as_ref().err()?)));
    let status = if failed.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut body = String::new();
    if verbose {
        for (name, check) in checks {
            let line = match check {
                Ok(()) => writeln!(body, "[+] {name} ok"),
                Err(why) => writeln!(body, "[-] {name}: {why}"),
            };
            line.expect("writing to a string cannot fail");
        }
    }
    match failed {
        Some((name, why)) if !verbose => body = format!("{name}: {why}\n"),
        Some(_) => body.push_str("not ready\n"),
        None => body.push_str("ok\n"),
    }
    Answer::text(status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Method = Method::GET;

    fn address() -> SocketAddr {
        "127.0.0.1:7612".parse().unwrap()
    }

    fn asked(path: &str) -> Asked<'_> {
        Asked { method: &GET, host: Some("127.0.0.1:7612"), has_origin: false, path, query: None }
    }

    fn checks() -> Checks {
        Checks {
            live: Ok(()),
            running: Ok(()),
            replayed: Ok(()),
            confirmed: Ok(()),
            leader: Ok(()),
        }
    }

    fn get(asked: &Asked<'_>, checks: &Checks) -> (u16, String) {
        let answer = answer(address(), asked, checks, || "metrics".to_owned());
        (answer.status.as_u16(), answer.body)
    }

    #[test]
    fn a_node_without_quorum_is_alive_but_not_ready() {
        let lost = Checks { leader: Err("no leader is known".into()), ..checks() };
        assert_eq!(get(&asked("/livez"), &lost), (200, "ok\n".into()));
        assert_eq!(get(&asked("/readyz/local"), &lost), (200, "ok\n".into()));
        assert_eq!(get(&asked("/readyz"), &lost), (503, "leader: no leader is known\n".into()));
        assert_eq!(get(&asked("/readyz"), &checks()), (200, "ok\n".into()));
    }

    #[test]
    fn a_stuck_node_is_neither() {
        let stuck = Checks { live: Err("the node's loop is stuck".into()), ..checks() };
        for path in ["/livez", "/readyz", "/readyz/local"] {
            assert_eq!(get(&asked(path), &stuck).0, 503, "{path}");
        }
    }

    #[test]
    fn verbose_names_each_check() {
        let starting = Checks { replayed: Err("3 of 9 entries".into()), ..checks() };
        let asked = Asked { query: Some("verbose"), ..asked("/readyz/local") };
        let expected = "[+] live ok\n[+] running ok\n[-] replayed: 3 of 9 entries\nnot ready\n";
        assert_eq!(get(&asked, &starting), (503, expected.into()));
    }

    #[test]
    fn strangers_are_refused() {
        for host in [None, Some("evil.example"), Some("127.0.0.1"), Some("127.0.0.1:80")] {
            let asked = Asked { host, ..asked("/metrics") };
            assert_eq!(get(&asked, &checks()).0, 403, "{host:?}");
        }
        let page = Asked { has_origin: true, ..asked("/livez") };
        assert_eq!(get(&page, &checks()).0, 403);
        let local = Asked { host: Some("localhost:7612"), ..asked("/livez") };
        assert_eq!(get(&local, &checks()).0, 200);
    }

    #[test]
    fn only_get_of_known_paths() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::HEAD] {
            let asked = Asked { method: &method, ..asked("/livez") };
            assert_eq!(get(&asked, &checks()).0, 405, "{method}");
        }
        for path in ["/", "/readyz/", "/livez/x", "/debug"] {
            assert_eq!(get(&asked(path), &checks()).0, 404, "{path}");
        }
        assert_eq!(get(&asked("/metrics"), &checks()), (200, "metrics".into()));
    }
}
