//! The order models run in: each after those it reads.

use std::collections::BTreeSet;

use super::Model;
use crate::error::ModelError;

/// Orders models, keeping the given order wherever they do not read each other.
///
/// # Errors
/// [`ModelError::Declaration`] when models read each other in a circle.
pub(super) fn ordered(models: Vec<Model>) -> Result<Vec<Model>, ModelError> {
    let mut waiting = models;
    let mut ordered: Vec<Model> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let names: BTreeSet<String> = waiting.iter().map(Model::full_name).collect();
        let is_ready = |model: &Model| !model.reads().any(|table| names.contains(table));
        let Some(next) = waiting.iter().position(is_ready) else {
            let circle: Vec<_> = names.into_iter().collect();
            return Err(ModelError::Declaration {
                file: circle.join(", "),
                detail: "they read each other in a circle".to_owned(),
            });
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, inputs: &str) -> Model {
        let text = format!(
            "-- model: final.{name}\n-- about: a\n-- partition: d\n-- inputs: {inputs}\n\
             -- scope: history\n-- order: d\n"
        );
        Model::parse(name, &text).unwrap()
    }

    #[test]
    fn a_model_runs_after_those_it_reads() {
        let models = vec![
            model("a", "final.c, raw.x"),
            model("b", "raw.x"),
            model("c", "final.b"),
        ];
        let names: Vec<_> = ordered(models)
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        assert_eq!(names, ["b", "c", "a"]);
        let circle = vec![model("a", "final.b"), model("b", "final.a")];
        let error = ordered(circle).unwrap_err().to_string();
        assert!(error.contains("final.a, final.b"), "{error}");
    }
}
