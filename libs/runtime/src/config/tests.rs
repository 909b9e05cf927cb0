use std::{fs, net::SocketAddr};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Gateway {
    listen: SocketAddr,
    version: String,
    insecure: bool,
    limit: Option<u32>,
    ports: Vec<u16>,
    tls: Tls,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    certificate: String,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7700).into(),
            version: String::new(),
            insecure: false,
            limit: None,
            ports: Vec::new(),
            tls: Tls::default(),
        }
    }
}

fn source(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Source, Error> {
    let arguments = arguments.iter().map(ToString::to_string);
    let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Source::from_parts(arguments, environment.iter().map(pair))
}

fn gateway(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Gateway, String> {
    let source = source(arguments, environment).map_err(|error| error.to_string())?;
    source.section("gateway").map_err(|error| error.to_string())
}

/// A file with `text`, and the argument that names it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasker.toml");
    fs::write(&path, text).unwrap();
    let argument = format!("--config={}", path.display());
    (folder, argument)
}

#[test]
fn the_reference_shows_the_defaults() {
    let (_folder, argument) = file(REFERENCE);
    let source = source(&[&argument], &[]).unwrap();
    assert_eq!(source.section::<Database>("database").unwrap(), Database::default());
    assert_eq!(source.section::<Telemetry>("telemetry").unwrap(), Telemetry::default());
    assert_eq!(source.section::<Drain>("drain").unwrap(), Drain::default());
    assert_eq!(source.section::<Mesh>("mesh").unwrap(), Mesh::default());
    for section in SECTIONS {
        assert!(REFERENCE.contains(&format!("[{section}]")), "{section}");
    }
}

#[test]
fn flags_are_stronger_than_the_environment_and_that_than_the_file() {
    let (_folder, file) =
        file("drain.timeout = '1s'\n[database]\nmax_connections = 1\nurl = 'one'");
    let environment = [("TASKER_DATABASE__MAX_CONNECTIONS", "2"), ("TASKER_DRAIN__TIMEOUT", "2s")];
    let source = source(&[&file, "--drain.timeout", "3s"], &environment).unwrap();
    let database: Database = source.section("database").unwrap();
    assert_eq!((database.url.as_str(), database.max_connections), ("one", 2));
    assert_eq!(source.section::<Drain>("drain").unwrap().timeout.as_secs(), 3);
    assert!(source.is_set("database.url") && !source.is_set("database.acquire_timeout"));
}

#[test]
fn the_environment_can_name_the_file() {
    let (_folder, argument) = file("[gateway]\nlisten = '127.0.0.1:1'");
    let path = argument.split_once('=').unwrap().1;
    let read = gateway(&[], &[("TASKER_CONFIG", path), ("TASKER_HOME", "elsewhere")]).unwrap();
    assert_eq!(read.listen.port(), 1);
}

#[test]
fn text_becomes_what_the_field_wants() {
    let read = gateway(
        &["--gateway.insecure=true", "--gateway.limit=5", "--gateway.ports=[1, 2]"],
        &[("TASKER_GATEWAY__LISTEN", "[::1]:9"), ("TASKER_GATEWAY__TLS__CERTIFICATE", "a.pem")],
    )
    .unwrap();
    assert_eq!((read.insecure, read.limit, read.ports), (true, Some(5), vec![1, 2]));
    assert_eq!((read.listen.port(), read.tls.certificate.as_str()), (9, "a.pem"));
    assert_eq!(gateway(&["--gateway.ports=7"], &[]).unwrap().ports, [7]);
}

#[test]
fn strings_stay_as_they_were_written() {
    for text in
        ["1.10", "007", "true", "[a]", "{a=1}", " x ", "postgres://u:p,w@h/d?a=b#c", "\"q\""]
    {
        let read = gateway(&[&format!("--gateway.version={text}")], &[]).unwrap();
        assert_eq!(read.version, text);
        let source = source(&[], &[("TASKER_DATABASE__URL", text)]).unwrap();
        assert_eq!(source.section::<Database>("database").unwrap().url, text);
    }
}

#[test]
fn lists_are_written_with_commas_or_in_brackets() {
    for text in
        ["http://a:1,http://b:2", "http://a:1, http://b:2", r#"["http://a:1", "http://b:2"]"#]
    {
        let source = source(&[], &[("TASKER_MESH__FINALIZER", text)]).unwrap();
        let mesh: Mesh = source.section("mesh").unwrap();
        assert_eq!(mesh.finalizer, ["http://a:1", "http://b:2"], "{text}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_origin_and_the_three_ways_to_set_it() {
    let error = gateway(&[], &[("TASKER_GATEWAY__LISTEN", "nowhere")]).unwrap_err();
    for part in [
        "`gateway.listen` is wrong",
        "\"nowhere\"",
        "invalid socket address",
        "the variable TASKER_GATEWAY__LISTEN)",
        "[gateway] listen = …",
        "TASKER_GATEWAY__LISTEN=…",
        "--gateway.listen=…",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = gateway(&["--gateway.limit=many"], &[]).unwrap_err();
    assert!(
        error.contains("`gateway.limit`") && error.contains("the flag --gateway.limit"),
        "{error}"
    );
    assert!(error.contains("u32"), "{error}");
}

#[test]
fn a_text_in_a_file_is_not_a_number() {
    let (_folder, file) = file("[gateway]\nlimit = '5'");
    let error = gateway(&[&file], &[]).unwrap_err();
    assert!(error.contains("`gateway.limit`") && error.contains("tasker.toml"), "{error}");
}

#[test]
fn unknown_fields_and_sections_are_refused_wherever_they_stand() {
    let (_folder, field) = file("[gateway]\nlisten_on = 'x'");
    let error = gateway(&[&field], &[]).unwrap_err();
    assert!(error.contains("no field `listen_on`") && error.contains("tasker.toml"), "{error}");
    assert!(error.contains("`gateway.listen_on`") && error.contains("insecure"), "{error}");

    let error = gateway(&["--gateway.tls.key=x"], &[]).unwrap_err();
    assert!(error.contains("`gateway.tls.key`") && error.contains("the flag"), "{error}");

    let (_folder, section) = self::file("[gatway]\nlisten = 'x'");
    let error = gateway(&[&section], &[]).unwrap_err();
    assert!(error.contains("no section `gatway`") && error.contains("tasker.toml"), "{error}");
    let error = gateway(&[], &[("TASKER_GATWAY__LISTEN", "x")]).unwrap_err();
    assert!(error.contains("TASKER_GATWAY__LISTEN"), "{error}");
}

#[test]
fn sections_of_other_services_do_not_matter_to_a_process() {
    let (_folder, file) = file("[gateway]\nlisten = 'nowhere'\n[drain]\ntimeout = '1s'");
    let source = source(&[&file], &[]).unwrap();
    assert_eq!(source.section::<Drain>("drain").unwrap().timeout.as_secs(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = gateway(&["--config=/nowhere/tasker.toml"], &[]).unwrap_err();
    assert!(error.contains("/nowhere/tasker.toml"), "{error}");
    let (_folder, broken) = file("[gateway\n");
    let error = gateway(&[&broken], &[]).unwrap_err();
    assert!(error.contains("tasker.toml is not a TOML file"), "{error}");
}

#[test]
fn what_the_program_sets_is_strongest() {
    let mut source = source(&["--database.url=theirs"], &[]).unwrap();
    source.set("database.url", "ours").unwrap();
    assert_eq!(source.section::<Database>("database").unwrap().url, "ours");
}
