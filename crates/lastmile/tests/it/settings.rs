//! The settings of all parts, side by side.

use std::fs;

use tempfile::tempdir;

use crate::process::{lastmile, output, text};

fn printed(arguments: &[&str]) -> toml::Table {
    let end = output(lastmile("/nonexistent".as_ref(), arguments).arg("--print-config"));
    assert_eq!(end.status.code(), Some(0), "{}", text(&end.stderr));
    toml::from_str(text(&end.stdout)).unwrap()
}

#[test]
fn the_help_names_the_settings_of_every_part() {
    let end = output(lastmile("/nonexistent".as_ref(), &[]).arg("--help"));
    assert_eq!(end.status.code(), Some(0), "{}", text(&end.stderr));
    let help = text(&end.stdout);
    for flag in [
        "--mqtt-listen",
        "--http-listen",
        "--lake-schedule",
        "--port-base",
        "--data",
    ] {
        assert!(help.contains(flag), "{help}");
    }
}

#[test]
fn each_part_is_a_section_of_the_file() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("lastmile.toml");
    fs::write(
        &file,
        "[broker]\nmqtt_window = 7\n[api]\nhttp_max_requests = 8\n[lake]\nlake_schedule = \"off\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let table = printed(&["--config", file]);
    assert_eq!(table["broker"]["mqtt_window"].as_integer(), Some(7));
    assert_eq!(table["api"]["http_max_requests"].as_integer(), Some(8));
    assert!(table["lake"].get("lake_schedule").is_none());
    let table = printed(&["--config", file, "--mqtt-window", "9"]);
    assert_eq!(table["broker"]["mqtt_window"].as_integer(), Some(9));
}

#[test]
fn by_default_the_lake_is_in_the_data_and_offloaded_every_minute() {
    let table = printed(&[]);
    assert_eq!(table["lake"]["lake_schedule"].as_str(), Some("* * * * *"));
    assert_eq!(table["lake"]["lake"].as_str(), Some("/nonexistent/lake"));
}

#[test]
fn problems_of_all_parts_are_said_at_once() {
    let arguments = [
        "--mqtt-window",
        "0",
        "--http-max-requests",
        "0",
        "--lake-schedule",
        "soon",
    ];
    let end = output(lastmile("/nonexistent".as_ref(), &arguments).arg("--check-config"));
    assert_eq!(end.status.code(), Some(2));
    let said = text(&end.stderr);
    for name in [
        "broker.mqtt_window",
        "api.http_max_requests",
        "lake.lake_schedule",
    ] {
        assert!(said.contains(name), "{said}");
    }
}
