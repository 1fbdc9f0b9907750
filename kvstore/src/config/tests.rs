//! One case per kind of bad input, and what a good file comes to.

use std::sync::LazyLock;

use super::*;

static EXAMPLE: LazyLock<String> = LazyLock::new(example);

fn settings(path: &str, text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::read(Path::new(path), text, variables)
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_settings(&settings("/etc/kvstore/kvstore.toml", text, &[])?)
}

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_settings(&settings("kvstore.toml", &EXAMPLE, variables)?)
}

/// The example with one piece of text replaced by another.
fn replaced(from: &str, to: &str) -> Result<Config, ConfigError> {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from:?} stands once in the example");
    parse(&EXAMPLE.replace(from, to))
}

/// The line of the example that starts with this text.
fn line_of(start: &str) -> usize {
    1 + EXAMPLE.lines().position(|line| line.starts_with(start)).unwrap()
}

#[test]
fn the_example_is_the_reference() {
    let config = parse(&EXAMPLE).unwrap();
    assert_eq!(config.node.name, "n1");
    assert_eq!(config.node.data_dir, Path::new("/var/lib/kvstore"));
    assert_eq!(config.listen.client, "127.0.0.1:7610".parse().unwrap());
    assert_eq!(config.listen.peer, "127.0.0.1:7611".parse().unwrap());
    assert_eq!(config.listen.admin, "127.0.0.1:7612".parse().unwrap());
    assert_eq!(config.advertise, AdvertiseSection::default());
    assert_eq!(config.cluster.name, "prod");
    let names: Vec<&str> = config.cluster.initial.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    assert_eq!(config.cluster.initial[2].address, "127.0.0.1:7631".parse().unwrap());
    assert_eq!(config.tls.ca, Path::new("/etc/kvstore/pki/ca.crt"));
    assert_eq!(config.client_address(config.listen.client), "127.0.0.1:7610");
}

#[test]
fn the_example_names_every_key() {
    for keys::Key { path, .. } in keys::KEYS {
        let (section, last) = path.split_once('.').unwrap();
        let start = EXAMPLE.find(&format!("[{section}]")).unwrap();
        let body = EXAMPLE[start + 1..].split("\n[").next().unwrap();
        let named = body
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(&format!("{last} = ")));
        assert!(named, "{path}");
    }
    assert!(EXAMPLE.lines().all(|line| line.len() <= 100), "{}", *EXAMPLE);
}

/// What stands in comments could be set as well: each such line alone, `join` instead of `initial`.
#[test]
fn every_commented_key_of_the_example_is_good() {
    let mut seen = 0;
    for key in keys::KEYS.iter().filter(|key| !key.in_example) {
        let (_, name) = key.path.split_once('.').unwrap();
        let line = format!("# {name} = ");
        let text = EXAMPLE.replacen(&line, &line[2..], 1);
        assert_ne!(text, *EXAMPLE, "{name}");
        let text = match name {
            "join" => text.replace("\ninitial", "\n# initial"),
            _ => text,
        };
        let config = parse(&text).unwrap();
        seen += usize::from(!config.cluster.join.is_empty());
        seen += [&config.advertise.client, &config.advertise.peer, &config.advertise.admin]
            .into_iter()
            .flatten()
            .count();
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_takes_effect_is_shown_with_its_origin() {
    let variables =
        [("KVSTORE_LISTEN__PEER", "10.0.0.1:7611"), ("KVSTORE_CLUSTER__NAME", "te\"st")];
    // A name that cannot be used is refused before anything is shown.
    let bad = settings("/etc/kvstore/k.toml", &EXAMPLE, &variables).unwrap();
    assert!(Effective::of(&bad).unwrap_err().to_string().contains("`cluster.name`"));
    let settings = settings("/etc/kvstore/k.toml", &EXAMPLE, &variables[..1]).unwrap();
    let shown = Effective::of(&settings).unwrap();
    let text = shown.to_toml(true);
    let file = |start: &str| format!("  # /etc/kvstore/k.toml:{}", line_of(start));
    for line in [
        format!("name = \"n1\"{}", file("name = \"n1\"")),
        format!("client = \"127.0.0.1:7610\"{}", file("client = ")),
        "client = \"127.0.0.1:7610\"  # default: listen.client".to_owned(),
        "peer = \"10.0.0.1:7611\"  # env KVSTORE_LISTEN__PEER".to_owned(),
        "peer = \"127.0.0.1:7611\"  # default: cluster.initial".to_owned(),
        format!("ca = \"/etc/kvstore/pki/ca.crt\"{}", file("ca = ")),
        format!(
            "initial = [\"n1=127.0.0.1:7611\", \"n2=127.0.0.1:7621\", \"n3=127.0.0.1:7631\"]{}",
            file("initial = ")
        ),
    ] {
        assert_eq!(text.lines().filter(|shown| **shown == *line).count(), 1, "{line}\n{text}");
    }
    assert!(!text.contains("join"), "{text}");
    assert_eq!(shown.variables().collect::<Vec<_>>(), ["KVSTORE_LISTEN__PEER"]);
    // What is shown is a configuration again: the same one, with or without the comments.
    let original = Config::from_settings(&settings).unwrap();
    for text in [text, shown.to_toml(false)] {
        let again = parse(&text).unwrap();
        assert_eq!((&again.node, &again.listen), (&original.node, &original.listen));
        assert_eq!((&again.cluster, &again.tls), (&original.cluster, &original.tls));
        assert_eq!(again.advertise.peer, Some("127.0.0.1:7611".parse().unwrap()));
    }
}

#[test]
fn a_node_that_joins_is_shown_to_advertise_what_it_listens_on() {
    let text = EXAMPLE.replace("\ninitial", "\n# ").replace("# join", "join");
    let shown = Effective::of(&settings("k.toml", &text, &[]).unwrap()).unwrap().to_toml(true);
    assert!(shown.contains("peer = \"127.0.0.1:7611\"  # default: listen.peer"), "{shown}");
}

#[test]
fn the_environment_stands_above_the_file() {
    let config = with(&[
        ("KVSTORE_NODE__NAME", "n2"),
        ("KVSTORE_NODE__DATA_DIR", "data"),
        ("KVSTORE_CLUSTER__INITIAL", "n2=h2:1, n3=h3:2"),
        ("KVSTORE_ADVERTISE__CLIENT", "h2:7610"),
        ("KVSTORE_PORT", "tcp://10.0.0.1:7610"),
        ("KVSTORE_NODE_SERVICE_HOST", "10.0.0.1"),
        ("KVSTORE_LOG", "debug"),
        ("HOME", "/root"),
    ])
    .unwrap();
    assert_eq!(config.node.name, "n2");
    assert_eq!(config.node.data_dir, Path::new("data"));
    assert_eq!(config.cluster.initial.len(), 2);
    assert_eq!(config.cluster.initial[1].address, "h3:2".parse().unwrap());
    assert_eq!(config.client_address(config.listen.client), "h2:7610");
}

#[test]
fn peers_are_told_the_first_address_that_is_known() {
    let bound = "0.0.0.0:7611".parse().unwrap();
    let initial = "initial = [\"n1=127.0.0.1:7611\", \"n2=127.0.0.1:7621\", \"n3=127.0.0.1:7631\"]";
    let joins = replaced(initial, "join = [\"h2:7611\"]").unwrap();
    assert_eq!(joins.peer_address(bound), "0.0.0.0:7611");
    let founds = replaced(initial, "initial = [\"n2=h2:1\", \"n1=h1:2\"]").unwrap();
    assert_eq!(founds.peer_address(bound), "h1:2");
    let advertises = with(&[("KVSTORE_ADVERTISE__PEER", "h9:3")]).unwrap();
    assert_eq!(advertises.peer_address(bound), "h9:3");
}

#[test]
fn bad_variables_are_named() {
    let refused = with(&[("KVSTORE_LISTEN__CLEINT", "127.0.0.1:1")]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "environment variable KVSTORE_LISTEN__CLEINT: unknown key `listen.cleint`; did you mean \
         `listen.client`?"
    );
    let refused = with(&[("KVSTORE_LISTEN_CLIENT", "127.0.0.1:1")]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "environment variable KVSTORE_LISTEN_CLIENT sets nothing; did you mean \
         KVSTORE_LISTEN__CLIENT (`listen.client`)? Rename it, or remove it: unset \
         KVSTORE_LISTEN_CLIENT"
    );
    assert_eq!(proto::Failure::from(refused).code.exit(), 2);
    let refused = with(&[("KVSTORE_LISTEN__CLIENT", "here")]).unwrap_err().to_string();
    assert!(
        refused.starts_with("environment variable KVSTORE_LISTEN__CLIENT: key `listen.client`")
    );
}

#[test]
fn bad_files_are_refused_with_line_and_key() {
    let initial = "initial = [\"n1=127.0.0.1:7611\", \"n2=127.0.0.1:7621\", \"n3=127.0.0.1:7631\"]";
    let client = "client = \"127.0.0.1:7610\"";
    let rows: &[(&str, &str, &str, &str)] = &[
        // what is replaced, by what, the line that the error names (its start), what it says
        ("name = \"n1\"", "name = n1", "name = \"n1\"", ""),
        ("name = \"n1\"", "name = \"n1\"\nname = \"n1\"", "# Everything", "duplicate key"),
        ("name = \"n1\"", "name = 1", "name = \"n1\"", "`node.name` expects a string"),
        ("name = \"n1\"", "name = \"\"", "name = \"n1\"", "`node.name`: is empty"),
        ("name = \"n1\"", "name = \"n/1\"", "name = \"n1\"", "is not a name"),
        ("name = \"n1\"", "name = \"-n1\"", "name = \"n1\"", "is not a name"),
        (
            "name = \"n1\"",
            "nmae = \"n1\"",
            "name = \"n1\"",
            "unknown key `node.nmae`; did you mean `node.name`?",
        ),
        ("data_dir = ", "name.first = ", "data_dir = ", ""),
        ("[listen]", "[listn]", "[listen]", "unknown key `listn`; did you mean `listen`?"),
        (
            "[node]",
            "node_name = \"n1\"\n[node]",
            "[node]",
            "unknown key `node_name`; did you mean `node.name`?",
        ),
        ("[tls]", "[[tls]]", "[tls]", "unknown key `tls`"),
        (client, "client = \"localhost:7610\"", client, "is not an IP address and a port"),
        (client, "client = \"127.0.0.1\"", client, "is not an IP address and a port"),
        (client, "client = \"127.0.0.1:7611\"", "peer = ", "taken by `listen.client`"),
        (client, "client = \"0.0.0.0:7612\"", "admin = ", "taken by `listen.client`"),
        (client, "client = \"0.0.0.0:7610\"", client, "`advertise.client` must say"),
        (
            "admin = \"127.0.0.1:7612\"",
            "admin = \"10.0.0.1:7612\"",
            "admin = ",
            "not a loopback address",
        ),
        (
            "# client = \"n1.example.com:7610\"",
            "client = \"n1.example.com\"",
            "# client = ",
            "HOST:PORT",
        ),
        (initial, "join = [\"127.0.0.1:7611\"]", "initial", "nothing but this node's own address"),
        (initial, "join = []", "initial", "`cluster.join`: is empty"),
        (initial, "join = \"h:1\"", "initial", "expects a list of strings"),
        (initial, "join = [\"n1=h:1\"]", "initial", "HOST:PORT"),
        (initial, "join = [\"h:1\", \"h:1\"]", "initial", "has the address h:1 twice"),
        (initial, "jion = [\"h:1\"]", "initial", "did you mean `cluster.join`?"),
        (
            initial,
            "join = [\"127.0.0.1:7611\"]\ninitial = [\"n1=a:1\"]",
            "initial",
            "stands beside `cluster.initial`",
        ),
        (initial, "initial = \"n1=127.0.0.1:7611\"", "initial", "expects a list of strings"),
        (initial, "initial = [1]", "initial", "expects a list of strings"),
        (initial, "initial = []", "initial", "`cluster.initial`: is empty"),
        (
            initial,
            "initial = [\"n2=127.0.0.1:7621\"]",
            "initial",
            "does not hold this node, \"n1\"",
        ),
        (initial, "initial = [\"n1=a:1\", \"n1=b:1\"]", "initial", "names \"n1\" twice"),
        (initial, "initial = [\"n1=a:1\", \"n2=a:1\"]", "initial", "has the address a:1 twice"),
        (initial, "initial = [\"n1\"]", "initial", "NAME=HOST:PORT"),
        (initial, "initial = [\"n1=a\"]", "initial", "HOST:PORT"),
        (initial, "initial = [\"n1=a:0\"]", "initial", "port between 1 and 65535"),
        (initial, "initial = [\"n 1=a:1\"]", "initial", "is not a name"),
    ];
    for (from, to, line, says) in rows {
        let error = replaced(from, to).expect_err(to);
        let text = error.to_string();
        let place = format!("/etc/kvstore/kvstore.toml:{}: ", line_of(line));
        assert!(text.starts_with(&place), "{to}: {text}, expected {place}");
        assert!(text.contains(says), "{to}: {text}");
        assert!(!text.contains('\n'), "{to}: {text}");
        let failure = proto::Failure::from(error);
        assert_eq!((failure.code, failure.code.exit()), (proto::Code::ConfigInvalid, 2));
    }
}

#[test]
fn a_node_that_joins_needs_addresses_only() {
    let initial = "initial = [\"n1=127.0.0.1:7611\", \"n2=127.0.0.1:7621\", \"n3=127.0.0.1:7631\"]";
    // Its own address may stand among them: the list can be the same on each node.
    let config = replaced(initial, "join = [\"127.0.0.1:7611\", \"h2:7611\"]").unwrap();
    assert_eq!(config.cluster.initial, []);
    assert_eq!(config.cluster.join, ["127.0.0.1:7611", "h2:7611"].map(|one| one.parse().unwrap()));
    // Nothing else says where the others reach it.
    let everywhere = EXAMPLE
        .replace(initial, "join = [\"h2:7611\"]")
        .replace("\npeer = \"127.0.0.1:7611\"", "\npeer = \"0.0.0.0:7611\"");
    let error = parse(&everywhere).unwrap_err().to_string();
    assert!(error.contains("`listen.peer`") && error.contains("`advertise.peer` must"), "{error}");
    let told = everywhere.replace("# peer = ", "peer = ");
    assert!(parse(&told).unwrap().advertise.peer.is_some());
    let none = replaced(initial, "").unwrap_err().to_string();
    assert!(none.contains("key `cluster.initial` is missing") && none.contains("join"), "{none}");
    let many: Vec<String> = (1..=16).map(|n| format!("\"h{n}:1\"")).collect();
    let error = replaced(initial, &format!("join = [{}]", many.join(","))).unwrap_err().to_string();
    assert!(error.contains("`cluster.join`: has more than 15 addresses"), "{error}");
}

#[test]
fn missing_keys_are_named() {
    for key in ["node.name", "node.data_dir", "listen.peer", "cluster.initial", "tls.key"] {
        let (_, last) = key.split_once('.').unwrap();
        let line = EXAMPLE.lines().rfind(|line| {
            // `name` stands in two sections; the first is the node's.
            line.starts_with(&format!("{last} = ")) && (last != "name" || line.contains("n1"))
        });
        let error = parse(&EXAMPLE.replace(line.unwrap(), "")).unwrap_err().to_string();
        assert!(error.contains(&format!("key `{key}` is missing")), "{key}: {error}");
    }
    let too_many: Vec<String> = (1..=16).map(|n| format!("\"n{n}=h:{n}\"")).collect();
    let text = format!("[cluster]\nname = \"c\"\ninitial = [{}]", too_many.join(","));
    let (before, _) = EXAMPLE.split_once("[cluster]").unwrap();
    let error = parse(&format!("{before}{text}")).unwrap_err().to_string();
    assert!(error.contains("more than 15 members"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent.toml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("absent.toml: cannot be read"), "{error}");
}
