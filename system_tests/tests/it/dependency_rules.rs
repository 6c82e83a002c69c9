//! The rules of the rooms hold in this workspace; the rules themselves are tested beside their code.

use cargo_metadata::MetadataCommand;
use system_tests::binaries::workspace_root;
use system_tests::dependency_rules::{Edge, Graph, breaches};

fn workspace_graph() -> Graph {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        // Only what this machine builds: packages for other systems were never downloaded.
        .other_options(
            ["--locked", "--offline", "--filter-platform", "host-tuple"].map(str::to_owned),
        )
        .exec()
        .unwrap();
    Graph::from_metadata(&metadata)
}

#[test]
fn services_and_crates_see_only_what_they_may() {
    let breaches = breaches(&workspace_graph());
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// Negative control: the same check over the real graph with one forbidden line added must report it.
#[test]
fn a_forbidden_dependency_would_be_reported() {
    for (from, on) in [
        ("api", "broker"),
        ("subscriber", "rumqttc"),
        ("model", "tokio"),
        ("api", "datafusion"),
    ] {
        let mut graph = workspace_graph();
        assert!(graph.members.contains(from), "{from} is no member");
        let edge = Edge {
            on: on.to_owned(),
            dev_only: false,
        };
        graph.edges.entry(from.to_owned()).or_default().insert(edge);
        let found = breaches(&graph);
        assert!(
            found.iter().any(|breach| breach.contains(on)),
            "{from} -> {on} was not reported: {found:?}"
        );
    }
}
