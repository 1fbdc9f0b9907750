//! The page: the verdict, counts and faults as plain HTML, and the room where scripts draw.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::STYLE;
use super::escape::html;
use super::stored::{Skipped, Stored, Window};
use crate::judgement::{Judgement, Word};
use crate::operation::Operation;
use crate::workload::RegisterSummary;

/// In the order in which the page runs them.
const SCRIPTS: [&str; 4] = [
    include_str!("assets/data.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/charts.js"),
    include_str!("assets/page.js"),
];
/// What the page may do: nothing but what stands in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'";

/// Operations of a failing part that the page lists; `result.json` has all.
const FAILING_SHOWN: usize = 200;
/// Digits of the hash of the server binary that the page shows; all are in its hint.
const HASH_DIGITS_SHOWN: usize = 12;

/// The whole page. `data` is JSON that an element `script` can hold.
pub fn render(stored: &Stored, history: &[Operation], data: &str) -> String {
    let mut out = String::with_capacity(data.len() + 128 * 1024);
    let title = html(&stored.result.run);
    let worst = worst(stored);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    push(
        &mut out,
        format_args!(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            worst.as_str()
        ),
    );
    header(&mut out, stored, worst);
    verdicts(&mut out, stored);
    push(
        &mut out,
        format_args!(
            "<section class=\"replay\">\n<h2>Run it again</h2>\n<pre><code>{}</code></pre>\n</section>\n",
            html(&stored.result.replay)
        ),
    );
    counts(&mut out, RegisterSummary::of(history), history.len());
    out.push_str(include_str!("assets/drawings.html"));
    faults(&mut out, &stored.result.skipped, &stored.run.fault);
    push(
        &mut out,
        format_args!("</main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n"),
    );
    for script in SCRIPTS {
        push(&mut out, format_args!("<script>\n{script}</script>\n"));
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// Writes to a string.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all that is written");
}

fn worst(stored: &Stored) -> Word {
    let words = stored.result.checks.iter().map(|check| check.verdict);
    words.max().expect("a result was read with at least one verdict")
}

fn header(out: &mut String, stored: &Stored, worst: Word) {
    let sentence = match worst {
        Word::Valid => "All promises were kept.",
        Word::Invalid => "A promise was broken.",
        Word::Unknown => "Nobody knows whether all promises were kept.",
    };
    push(
        out,
        format_args!(
            "<header class=\"{0}\">\n<p class=\"word\">{0}</p>\n<div>\n<h1>{1}</h1>\n\
         <p class=\"sentence\">{sentence}</p>\n<p class=\"quiet\">seed {2} · lab {3}",
            worst.as_str(),
            html(&stored.result.run),
            html(&stored.result.seed),
            html(&stored.run.lab_version),
        ),
    );
    if let Some(version) = &stored.run.server_version {
        push(out, format_args!(" · {}", html(version)));
    }
    if let Some(sha256) = &stored.run.server_sha256 {
        let begin: String = sha256.chars().take(HASH_DIGITS_SHOWN).collect();
        push(
            out,
            format_args!(" · <span title=\"{}\">sha256 {}</span>", html(sha256), html(&begin)),
        );
    }
    if let Some(begun) = &stored.run.begun {
        push(out, format_args!(" · begun {}", html(begun)));
    }
    if stored.result.interrupted {
        out.push_str(" · stopped before its time");
    }
    out.push_str("</p>\n");
    if let Some(error) = &stored.result.error {
        push(out, format_args!("<p class=\"error\">Not finished: {}</p>\n", html(error)));
    }
    out.push_str("</div>\n</header>\n");
}

/// A part for each model, the worst first.
fn verdicts(out: &mut String, stored: &Stored) {
    out.push_str("<section class=\"verdicts\">\n<h2>Verdicts</h2>\n");
    let mut checks: Vec<&Judgement> = stored.result.checks.iter().collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    for check in checks {
        verdict(out, check);
    }
    out.push_str("</section>\n");
}

fn verdict(out: &mut String, check: &Judgement) {
    push(
        out,
        format_args!(
            "<article class=\"{0}\">\n<h3><span class=\"badge\">{0}</span> {1} \
         <span class=\"quiet\">{2} operations</span></h3>\n",
            check.verdict.as_str(),
            html(&check.model),
            check.operations,
        ),
    );
    if let Some(explanation) = &check.explanation {
        push(out, format_args!("<p>{}</p>\n", html(explanation)));
    }
    if let Some(key) = check.key.as_ref().filter(|key| !key.is_empty()) {
        push(out, format_args!("<p>Key <code>{}</code></p>\n", html(key)));
    }
    if !check.failing.is_empty() {
        out.push_str("<h4>Smallest failing part found</h4>\n<ol class=\"failing\">\n");
        for line in check.failing.iter().take(FAILING_SHOWN) {
            push(out, format_args!("<li><code>{}</code></li>\n", html(line)));
        }
        out.push_str("</ol>\n");
        if check.failing.len() > FAILING_SHOWN {
            let more = check.failing.len() - FAILING_SHOWN;
            push(out, format_args!("<p>{more} more are in <code>result.json</code>.</p>\n"));
        }
    }
    out.push_str("</article>\n");
}

fn counts(out: &mut String, summary: RegisterSummary, total: usize) {
    out.push_str("<section>\n<h2>Operations</h2>\n<dl class=\"counts\">\n");
    let RegisterSummary { ok, fail, info } = summary;
    for (class, name, count) in [
        ("total", "in all", total),
        ("ok", "succeeded", ok),
        ("fail", "failed, certainly without effect", fail),
        ("info", "unknown", info),
    ] {
        push(out, format_args!("<div class=\"{class}\"><dt>{name}</dt><dd>{count}</dd></div>\n"));
    }
    out.push_str("</dl>\n</section>\n");
}

/// Counts of one kind of fault.
#[derive(Default)]
struct Kind {
    times: usize,
    effects: Option<u64>,
    total_ns: u64,
    open: usize,
}

/// What was left out, how often each kind of fault was done and had an effect, then each fault by itself.
fn faults(out: &mut String, skipped: &[Skipped], faults: &[Window]) {
    out.push_str("<section>\n<h2>Faults</h2>\n");
    for Skipped { nemesis, why } in skipped {
        push(
            out,
            format_args!("<p class=\"error\">Skipped: {}: {}</p>\n", html(nemesis), html(why)),
        );
    }
    if faults.is_empty() {
        out.push_str("<p>Nothing was done to the cluster.</p>\n</section>\n");
        return;
    }
    let mut kinds: BTreeMap<(&str, &str), Kind> = BTreeMap::new();
    for fault in faults {
        let kind = kinds.entry((&fault.nemesis, &fault.what)).or_default();
        kind.times += 1;
        if let Some(effects) = fault.effects {
            kind.effects = Some(kind.effects.unwrap_or(0).saturating_add(effects));
        }
        match fault.end_ns {
            Some(end) => kind.total_ns += end.saturating_sub(fault.begin_ns),
            None => kind.open += 1,
        }
    }
    out.push_str(
        "<table>\n<thead><tr><th>nemesis</th><th>what</th><th>times</th><th>effects</th>\
         <th>in force</th></tr></thead>\n<tbody>\n",
    );
    for ((nemesis, what), kind) in kinds {
        let class = if kind.effects == Some(0) { " class=\"idle\"" } else { "" };
        push(
            out,
            format_args!(
                "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>\n",
                html(nemesis),
                html(what),
                kind.times,
                effects(kind.effects),
                seconds(kind.total_ns),
                if kind.open > 0 { format!(", {} did not end", kind.open) } else { String::new() },
            ),
        );
    }
    out.push_str(
        "</tbody>\n</table>\n<details>\n<summary>Each fault</summary>\n<table>\n<thead><tr>\
        <th>from</th><th>to</th><th>what</th><th>nodes</th><th>place</th><th>effects</th>\
        </tr></thead>\n<tbody>\n",
    );
    for fault in faults {
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                seconds(fault.begin_ns),
                fault.end_ns.map_or_else(|| "did not end".to_owned(), seconds),
                html(&fault.what),
                html(&fault.nodes.join(" ")),
                html(&fault.place),
                effects(fault.effects),
            ),
        );
    }
    out.push_str("</tbody>\n</table>\n</details>\n</section>\n");
}

fn effects(effects: Option<u64>) -> String {
    effects.map_or_else(|| "not counted".to_owned(), |effects| effects.to_string())
}

/// Nanoseconds as seconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}
