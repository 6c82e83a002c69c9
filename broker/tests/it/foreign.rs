//! Clients that others wrote, each with a script of its own in `tests/clients`: they say what MQTT 5 is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::Broker;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a script against a new broker, if what it needs is there.
async fn holds(test: &str, needs: &mut Command, script: &mut Command, by_url: bool) {
    if !needs.output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED {test}: the client is not installed; run tools/install.sh");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let port = broker.addr().port();
    script.arg(if by_url {
        format!("mqtt://127.0.0.1:{port}")
    } else {
        port.to_string()
    });
    let output = tokio::task::block_in_place(|| script.output().unwrap());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{test}: {said}");
    assert!(said.starts_with("ok "), "{said}");
    broker.stop().await;
}

async fn python_holds(test: &str, module: &str, script: &str) {
    let python = at("../.venv/bin/python");
    let mut needs = Command::new(&python);
    needs.args(["-c", &format!("import {module}")]);
    let mut run = Command::new(&python);
    run.arg(at(script));
    holds(test, &mut needs, &mut run, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_holds_the_broker_to_mqtt_5() {
    python_holds("paho", "paho.mqtt.client", "tests/clients/paho_v5.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gmqtt_holds_the_broker_to_mqtt_5() {
    python_holds("gmqtt", "gmqtt", "tests/clients/gmqtt_v5.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_js_holds_the_broker_to_mqtt_5() {
    let modules = at("../.venv/mqttjs/node_modules");
    let mut needs = Command::new("node");
    needs
        .env("NODE_PATH", &modules)
        .args(["-e", "require('mqtt')"]);
    let mut run = Command::new("node");
    run.env("NODE_PATH", &modules)
        .arg(at("tests/clients/mqttjs_v5.js"));
    holds("MQTT.js", &mut needs, &mut run, true).await;
}
