//! Who may depend on what, held over the output of `cargo metadata`.
//!
//! The rules are data ([`RULES`]); a rule that names a package nobody depends on (yet) holds trivially.
//! Dev-dependencies count for what a package *sees* and do not count for what it *reaches*: a test may
//! need tokio where the library is pure, but not a foreign protocol crate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata};

/// The five services; each is a library and a program, and none knows another.
pub const SERVICES: [&str; 5] = ["broker", "publisher", "subscriber", "api", "lake_ingest"];

/// A rule about packages.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Only the packages `seen_by`, of this workspace, may name `package` among their dependencies.
    Sees {
        /// What is fenced in.
        package: &'static str,
        /// Who may use it.
        seen_by: &'static [&'static str],
    },
    /// `from` must not get to `package` over any chain of normal or build dependencies.
    NeverReaches {
        /// Where the chain would begin.
        from: &'static str,
        /// Where it must not end.
        package: &'static str,
    },
}

/// The rules, beside the one that services never depend on each other.
pub const RULES: &[Rule] = &[
    sees("rumqttc", &["mqtt_client"]),
    sees("rumqttd", &["broker"]),
    sees("mongodb", &["store_mongo"]),
    sees("bson", &["store_mongo"]),
    sees("parquet", &["lake"]),
    sees("aws-sdk-s3", &["lake"]),
    sees("datafusion", &["lake_models"]),
    sees("deltalake", &["lake_models"]),
    sees("rusqlite", &["store_sqlite"]),
    never("model", "tokio"),
    never("formats", "tokio"),
    never("lastmile", "datafusion"),
    never("lastmile", "deltalake"),
    never("store", "rusqlite"),
];

const fn sees(package: &'static str, seen_by: &'static [&'static str]) -> Rule {
    Rule::Sees { package, seen_by }
}

const fn never(from: &'static str, package: &'static str) -> Rule {
    Rule::NeverReaches { from, package }
}

/// One dependency of a package on another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The package depended on.
    pub on: String,
    /// Only for its tests.
    pub dev_only: bool,
}

/// Packages by name, with what they depend on. Versions of one name are one package here.
#[derive(Debug, Default)]
pub struct Graph {
    /// Packages of this workspace.
    pub members: BTreeSet<String>,
    /// Dependencies of every package.
    pub edges: BTreeMap<String, BTreeSet<Edge>>,
}

impl Graph {
    /// Takes the resolved graph out of `cargo metadata`.
    pub fn from_metadata(metadata: &Metadata) -> Self {
        let name = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
        let mut graph = Self {
            members: metadata.workspace_members.iter().map(name).collect(),
            edges: BTreeMap::new(),
        };
        let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        for node in nodes {
            let edges = node.deps.iter().map(|dependency| Edge {
                on: name(&dependency.pkg),
                dev_only: dependency
                    .dep_kinds
                    .iter()
                    .all(|kind| kind.kind == DependencyKind::Development),
            });
            graph.edges.entry(name(&node.id)).or_default().extend(edges);
        }
        graph
    }

    fn direct(&self, package: &str) -> impl Iterator<Item = &Edge> {
        self.edges.get(package).into_iter().flatten()
    }

    /// Returns a shortest chain from `from` to `package` without dev-dependencies.
    fn chain(&self, from: &str, package: &str) -> Option<Vec<String>> {
        let mut queue = VecDeque::from([vec![from.to_owned()]]);
        let mut seen = BTreeSet::from([from.to_owned()]);
        while let Some(chain) = queue.pop_front() {
            let last = chain.last()?;
            if last == package && chain.len() > 1 {
                return Some(chain);
            }
            for edge in self.direct(last).filter(|edge| !edge.dev_only) {
                if seen.insert(edge.on.clone()) {
                    let mut longer = chain.clone();
                    longer.push(edge.on.clone());
                    queue.push_back(longer);
                }
            }
        }
        None
    }
}

/// Returns every breach, in words; none when all rules hold.
pub fn breaches(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for service in SERVICES {
        for other in SERVICES.into_iter().filter(|other| *other != service) {
            if graph.direct(service).any(|edge| edge.on == other) {
                found.push(format!("service {service} depends on service {other}"));
            } else if let Some(chain) = graph.chain(service, other) {
                found.push(format!(
                    "service {service} reaches service {other}: {}",
                    chain.join(" -> ")
                ));
            }
        }
    }
    for rule in RULES {
        match rule {
            Rule::Sees { package, seen_by } => {
                let others = graph
                    .members
                    .iter()
                    .filter(|member| !seen_by.contains(&member.as_str()))
                    .filter(|member| graph.direct(member).any(|edge| edge.on == *package));
                found.extend(others.map(|member| {
                    format!("{member} depends on {package}, which only {seen_by:?} may")
                }));
            }
            Rule::NeverReaches { from, package } => {
                if let Some(chain) = graph.chain(from, package) {
                    found.push(format!(
                        "{from} must not reach {package}: {}",
                        chain.join(" -> ")
                    ));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str, bool)]) -> Graph {
        let mut graph = Graph::default();
        for (from, on, dev_only) in edges {
            graph.members.insert((*from).to_owned());
            let edge = Edge {
                on: (*on).to_owned(),
                dev_only: *dev_only,
            };
            graph
                .edges
                .entry((*from).to_owned())
                .or_default()
                .insert(edge);
        }
        graph
    }

    /// Negative control of each kind of rule: a graph made to break it is reported.
    #[test]
    fn each_kind_of_breach_is_found() {
        let direct = breaches(&graph(&[("api", "broker", true)]));
        assert_eq!(direct, ["service api depends on service broker"]);
        let reached = breaches(&graph(&[
            ("api", "helper", false),
            ("helper", "broker", false),
        ]));
        assert_eq!(
            reached,
            ["service api reaches service broker: api -> helper -> broker"]
        );
        let seen = breaches(&graph(&[("api", "rumqttc", true)]));
        assert_eq!(
            seen,
            ["api depends on rumqttc, which only [\"mqtt_client\"] may"]
        );
        let impure = breaches(&graph(&[
            ("model", "helper", false),
            ("helper", "tokio", false),
        ]));
        assert_eq!(
            impure,
            ["model must not reach tokio: model -> helper -> tokio"]
        );
    }

    #[test]
    fn what_is_allowed_is_not_reported() {
        let allowed = graph(&[
            ("lastmile", "api", false),
            ("lastmile", "broker", false),
            ("mqtt_client", "rumqttc", false),
            ("model", "tokio", true),
        ]);
        assert_eq!(breaches(&allowed), Vec::<String>::new());
    }
}
