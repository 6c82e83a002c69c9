//! Where settings come from, and what is said when they are wrong.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::probe::{output, probe, text};

fn file(content: &str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path: PathBuf = directory.path().join("probe.toml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// Runs `--print-config` and reads the answer.
fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> toml::Table {
    let mut command = probe(arguments);
    command
        .arg("--print-config")
        .envs(environment.iter().copied());
    let end = output(&mut command);
    assert_eq!(end.status.code(), Some(0), "{}", text(&end.stderr));
    toml::from_str(text(&end.stdout)).unwrap()
}

fn queue_wait(table: &toml::Table) -> &str {
    table["queue"]["queue_wait"].as_str().unwrap()
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let (_directory, path) = file("[queue]\nqueue_wait = \"3s\"\n");
    let env = [("LASTMILE_QUEUE_WAIT", "2s")];
    let with_file = ["--config", &path];
    let all = ["--config", &path, "--queue-wait", "1s"];
    assert_eq!(queue_wait(&printed(&all, &env)), "1s");
    assert_eq!(queue_wait(&printed(&with_file, &env)), "2s");
    assert_eq!(queue_wait(&printed(&with_file, &[])), "3s");
    assert_eq!(queue_wait(&printed(&[], &[])), "250ms");
    // The file may also come from the environment, and its other values stay.
    let table = printed(&[], &[("LASTMILE_CONFIG", &path)]);
    assert_eq!(queue_wait(&table), "3s");
    assert_eq!(table["queue"]["queue_bytes"].as_str(), Some("1MiB"));
}

#[test]
fn common_settings_come_from_the_file_too() {
    let (_directory, path) = file("data = \"/tmp/x\"\nport_base = 10\nstop_timeout = \"5s\"\n");
    let table = printed(&["--config", &path, "--data", "/tmp/y"], &[]);
    assert_eq!(table["data"].as_str(), Some("/tmp/y"));
    assert_eq!(table["port_base"].as_integer(), Some(10));
    assert_eq!(table["stop_timeout"].as_str(), Some("5s"));
}

#[test]
fn the_port_base_moves_default_ports_only() {
    let mut command = probe(&["--port-base", "100", "--print-config"]);
    let end = output(command.env_remove("LASTMILE_PROBE_LISTEN"));
    assert!(text(&end.stdout).contains("probe_listen = \"127.0.0.1:9299\""));
    let given = printed(
        &["--port-base", "100", "--probe-listen", "127.0.0.1:7"],
        &[],
    );
    assert_eq!(given["probe_listen"].as_str(), Some("127.0.0.1:7"));
}

#[test]
fn secrets_pass_through_the_layers_and_are_never_printed() {
    let (_directory, path) = file("password = \"from-file\"\n");
    for (arguments, environment) in [
        (vec!["--config", &path], vec![]),
        (vec!["--password", "from-flag"], vec![]),
        (vec![], vec![("PROBE_PASSWORD", "from-env")]),
    ] {
        let table = printed(&arguments, &environment);
        assert_eq!(table["password"].as_str(), Some("***"));
    }
    let mut help = probe(&["--help"]);
    let help = output(help.env("PROBE_PASSWORD", "hunter2"));
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("PROBE_PASSWORD"));
    assert!(!text(&help.stdout).contains("hunter2"));
}

#[test]
fn check_config_says_every_problem_at_once_and_exits_2() {
    let (_directory, path) =
        file("worker_threads = 0\n[queue]\nqueue_bytes = 0\nqueue_wait = \"2m\"\n");
    let end = output(&mut probe(&["--config", &path, "--check-config"]));
    assert_eq!(end.status.code(), Some(2));
    let said = text(&end.stderr);
    for setting in [
        "worker_threads is 0",
        "queue.queue_bytes is 0",
        "queue.queue_wait",
    ] {
        assert!(said.contains(setting), "{said}");
    }
    let right = output(&mut probe(&["--check-config"]));
    assert_eq!(right.status.code(), Some(0));
    assert!(right.stdout.is_empty());
}

#[test]
fn a_wrong_file_is_refused_by_name() {
    let cases = [
        ("nonsense = 1\n", "nonsense"),
        ("[queue]\nquue_wait = \"1s\"\n", "quue_wait"),
        ("[queue]\nqueue_wait = \"soon\"\n", "queue.queue_wait"),
        ("port_base = \"x\"\n", "port_base"),
        ("data = [\n", "no TOML"),
    ];
    for (content, expected) in cases {
        let (_directory, path) = file(content);
        let end = output(&mut probe(&["--config", &path]));
        assert_eq!(end.status.code(), Some(2), "{content}");
        let said = text(&end.stderr);
        assert!(said.contains(expected) && said.contains(&path), "{said}");
    }
    let absent = output(&mut probe(&["--config", "/nonexistent.toml"]));
    assert_eq!(absent.status.code(), Some(2));
    assert!(text(&absent.stderr).contains("cannot be read"));
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [
        ["--nonsense", "1"],
        ["--queue-wait", "soon"],
        ["--log", "a=b=c"],
    ] {
        let end = output(&mut probe(&arguments));
        assert_eq!(end.status.code(), Some(2), "{arguments:?}");
        assert!(!end.stderr.is_empty());
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let table = printed(&[], &[("LASTMILE_QUEUE_WAIT", ""), ("LASTMILE_DATA", "")]);
    assert_eq!(queue_wait(&table), "250ms");
    assert_eq!(table["data"].as_str(), Some("./data"));
}

#[test]
fn the_settings_table_says_what_the_help_says() {
    let own = output(&mut probe(&["--print-settings-table"]));
    let own = text(&own.stdout);
    let row = "| `--queue-wait QUEUE_WAIT` | `LASTMILE_QUEUE_WAIT` | 250ms | Longest wait |";
    assert!(own.lines().any(|line| line == row), "{own}");
    assert!(!own.contains("--worker-threads"), "{own}");
    let mut command = probe(&["--print-settings-table", "common"]);
    let common = output(command.env("LASTMILE_DATA", "hunter2"));
    let common = text(&common.stdout);
    assert!(common.contains("| `--data DIR` | `LASTMILE_DATA` | ./data |"));
    assert!(!common.contains("hunter2") && !common.contains("--queue-wait"));
}
