//! The tables as `docs/formats.md` lists them, generated from the declarations.

use std::fmt::Write;
use std::path::Path;

use arrow::datatypes::{DataType, Field};
use lake_models::{Definition, Model, builtin, catalog};

const BEGIN: &str = "<!-- lake:tables -->\n";
const END: &str = "<!-- /lake:tables -->";

/// Set to any value, the page is written instead of compared.
const WRITE: &str = "LASTMILE_WRITE_DOCS";

/// This page's word for what a column holds.
fn kind(field: &Field) -> Option<&'static str> {
    Some(match field.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => "text",
        DataType::Binary => "bytes",
        DataType::Boolean => "boolean",
        DataType::Int64 => "integer",
        DataType::Float64 => "number",
        DataType::Date32 => "date",
        DataType::Timestamp(..) => "instant",
        _ => return None,
    })
}

fn row(table: &Definition, model: Option<&Model>) -> String {
    let may_lack = |field: &Field| match model {
        Some(model) => model
            .nullable
            .as_ref()
            .is_some_and(|columns| columns.contains(field.name())),
        None => field.is_nullable(),
    };
    let column = |field: &Field| {
        let mark = if may_lack(field) { "?" } else { "" };
        format!("`{}` {}{mark}", field.name(), kind(field).unwrap())
    };
    let partitions = table.schema.partitions.iter();
    let partitions: Vec<_> = partitions.map(|f| format!("`{}`", f.name())).collect();
    let fields = table.schema.file.fields().iter();
    let columns: Vec<_> = fields.map(|field| column(field)).collect();
    format!(
        "| `{}` | {} | {} | {} |\n",
        table.full_name(),
        partitions.join(", "),
        table.about,
        columns.join(", "),
    )
}

#[tokio::test]
async fn the_page_lists_the_tables_that_are_declared() {
    let models = builtin();
    let mut listed = "| table | partition | rows | columns |\n|---|---|---|---|\n".to_owned();
    for table in catalog(&models).await.unwrap() {
        let model = models.iter().find(|m| m.full_name() == table.full_name());
        assert!(model.is_none_or(|m| m.nullable.is_some()), "{}", table.name);
        write!(listed, "{}", row(&table, model)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os(WRITE).is_some() {
        let page = format!("{before}{BEGIN}{listed}{END}{after}");
        std::fs::write(path, page).unwrap();
        return;
    }
    assert!(
        found == listed,
        "docs/formats.md is out of date; write it with {WRITE}=1 cargo test -p lake -p lake_models \
         -p lake_ingest documents"
    );
}
