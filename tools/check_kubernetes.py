#!/usr/bin/env python3
"""Checks the Kubernetes manifests without a cluster.

Builds each overlay with `kubectl kustomize` (or `kustomize build`), validates every object strictly
against the schemas of several Kubernetes versions (kubernetes-validate), and then what no schema
knows: selectors that match, ports and references that exist, images pinned by a tag, pods that may
not write or run as root, a grace period longer than the program's own, a network policy for every
connection the settings name, and settings that the programs themselves accept.

Without kubectl and kustomize only the files are validated against the schemas, and that is said.

    tools/check_kubernetes.py [--bin-dir target/debug] [--control]

--control also breaks the manifests in many ways and expects every break to be noticed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import yaml

from kubernetes_breaks import BREAKS, PRODUCTION_BREAKS, PROGRAM_BREAKS, change

ROOT = Path(__file__).resolve().parent.parent / "deploy/kubernetes"
# The oldest promised (ReadWriteOncePod is for everybody from 1.29 on), a middle one, the newest known here.
VERSIONS = ["1.30", "1.33", "1.37"]
# The default of --stop-timeout.
PROGRAM_STOP_SECONDS = 20


def load(text):
    return [document for document in yaml.safe_load_all(text) if document]


def build(folder):
    """Returns the objects of an overlay; None when neither kubectl nor kustomize is there."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        return None
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{folder}: {result.stderr.strip()}")
    if result.stderr.strip():
        print(f"{folder.name}: {result.stderr.strip()}", file=sys.stderr)
    return load(result.stdout)


def title(thing):
    return f"{thing['kind']} {thing['metadata']['name']}"


def schema_problems(things):
    """Returns what the schemas of each version say."""
    return [sentence for thing in things if (sentence := schema_problem(json.dumps(thing)))]


@cache
def schema_problem(text):
    """Returns what the first schema that refuses an object says, or None."""
    import kubernetes_validate

    thing = json.loads(text)
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            return f"{title(thing)}: {where}: {error.message} (Kubernetes {version})"
        except kubernetes_validate.SchemaNotFoundError as error:
            return f"{title(thing)}: {error.message}"
    return None


def variant(folder):
    """Writes the production overlay with the lake's other way to run and with queries over it, as their comments tell to do."""
    production = ROOT / "overlays/production"
    text = yaml.safe_load((production / "kustomization.yaml").read_text())
    text["components"] += ["../../components/lake-schedule", "../../components/lake-query"]
    for key in ("resources", "components"):
        text[key] = [os.path.relpath((production / path).resolve(), folder) for path in text[key]]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
    shutil.copy(production / "secret.example.yaml", folder)
    return folder


def pod_of(thing):
    """Returns the pod template of a workload, or None."""
    spec = thing.get("spec") or {}
    if thing["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        return spec["template"]
    if thing["kind"] == "CronJob":
        return spec["jobTemplate"]["spec"]["template"]
    return None


def matches(selector, labels):
    """Tells whether a label selector selects `labels`."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        value = labels.get(term["key"])
        if term["operator"] == "In" and value not in term["values"]:
            return False
        if term["operator"] == "NotIn" and value in term["values"]:
            return False
        if term["operator"] == "Exists" and value is None:
            return False
    return True


class Overlay:
    """The objects of one overlay, by kind and name."""

    def __init__(self, things, external):
        self.things = things
        self.workloads = [(thing, pod_of(thing)) for thing in things if pod_of(thing)]
        self.external = {thing["metadata"]["name"]: thing for thing in external}
        self.found = []

    def of(self, *kinds):
        return [thing for thing in self.things if thing["kind"] in kinds]

    def named(self, kind, name):
        return next((thing for thing in self.of(kind) if thing["metadata"]["name"] == name), None)

    def say(self, thing, sentence):
        self.found.append(f"{title(thing)}: {sentence}")

    def pods(self, selector):
        """Returns the workloads whose pods a selector selects."""
        return [(thing, pod) for thing, pod in self.workloads if matches(selector, pod["metadata"].get("labels") or {})]

    def problems(self, bin_dir):
        self.names()
        for thing, pod in self.workloads:
            self.workload(thing, pod)
        for service in self.of("Service"):
            self.service(service)
        for ingress in self.of("Ingress"):
            self.ingress(ingress)
        for thing in self.of("PodDisruptionBudget"):
            self.disruption(thing)
        for thing in self.of("HorizontalPodAutoscaler"):
            self.autoscaler(thing)
        self.network()
        for thing, pod in self.workloads:
            self.settings(thing, pod, bin_dir)
        return self.found

    def names(self):
        seen = set()
        spaces = {thing["metadata"].get("namespace") for thing in self.things if thing["kind"] != "Namespace"}
        if len(spaces) != 1 or self.named("Namespace", next(iter(spaces)) or "") is None:
            self.found.append(f"objects are in the namespaces {spaces}; one of the overlay's own is meant")
        for thing in self.things:
            if title(thing) in seen:
                self.say(thing, "is there twice")
            seen.add(title(thing))

    def workload(self, thing, pod):
        spec = thing["spec"]
        labels = pod["metadata"].get("labels") or {}
        if "selector" in spec and not matches(spec["selector"], labels):
            self.say(thing, "its selector does not match its own pods")
        for other, its in self.workloads:
            if other is not thing and "selector" in spec and matches(spec["selector"], its["metadata"].get("labels") or {}):
                self.say(thing, f"its selector matches the pods of {title(other)} too")
        body = pod["spec"]
        if thing["kind"] == "StatefulSet":
            service = self.named("Service", spec["serviceName"])
            if service is None or service["spec"].get("clusterIP") != "None":
                self.say(thing, f"its serviceName {spec['serviceName']} is no headless Service")
            if thing["metadata"]["name"] == "broker" and spec.get("replicas", 1) != 1:
                self.say(thing, "one log has one broker: replicas must be 1")
        account = body.get("serviceAccountName", "default")
        if account != "default" and self.named("ServiceAccount", account) is None:
            self.say(thing, f"the ServiceAccount {account} is not there")
        if body.get("automountServiceAccountToken") is not False:
            self.say(thing, "its pods carry a token of the cluster's API")
        security = body.get("securityContext") or {}
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            self.say(thing, "its pods may run as root")
        if (security.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
            self.say(thing, "its pods have no seccomp profile")
        templates = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or []}
        volumes = {volume["name"]: volume for volume in body.get("volumes") or []}
        for volume in volumes.values():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and self.named("PersistentVolumeClaim", claim) is None:
                self.say(thing, f"the claim {claim} is not there")
            for kind, key, field in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                if key in volume:
                    self.reference(thing, kind, volume[key][field], None, False)
        for container in [*body["containers"], *body.get("initContainers", [])]:
            self.container(thing, body, container, set(volumes) | templates)

    def container(self, thing, body, container, volumes):
        image = container["image"]
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        if not tag or tag == "latest":
            self.say(thing, f"the image {image} is not pinned by a tag")
        security = container.get("securityContext") or {}
        if security.get("readOnlyRootFilesystem") is not True:
            self.say(thing, f"{container['name']} may write to its image")
        if security.get("allowPrivilegeEscalation") is not False or (security.get("capabilities") or {}).get("drop") != ["ALL"]:
            self.say(thing, f"{container['name']} keeps privileges")
        resources = container.get("resources") or {}
        if not (resources.get("requests") or {}).get("cpu") or not (resources.get("limits") or {}).get("memory"):
            self.say(thing, f"{container['name']} asks for no CPU or has no bound of memory")
        ports = {port["name"]: port["containerPort"] for port in container.get("ports") or []}
        long_running = thing["kind"] in ("Deployment", "StatefulSet")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if long_running and probe not in container:
                self.say(thing, f"{container['name']} has no {probe}")
            for way in ("httpGet", "tcpSocket"):
                port = ((container.get(probe) or {}).get(way) or {}).get("port")
                if port is not None and port not in ports and port not in ports.values():
                    self.say(thing, f"the {probe} asks port {port}, which {container['name']} does not have")
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                self.say(thing, f"{container['name']} mounts {mount['name']}, which is no volume")
        environment = self.environment(thing, container)
        stop = environment.get("LASTMILE_STOP_TIMEOUT", "")
        seconds = int(stop[:-1]) if re.fullmatch(r"\d+s", stop) else PROGRAM_STOP_SECONDS
        pause = (((container.get("lifecycle") or {}).get("preStop") or {}).get("exec") or {}).get("command") or []
        seconds += int(pause[1]) if pause[:1] == ["sleep"] else 0
        if body.get("terminationGracePeriodSeconds", 30) <= seconds:
            self.say(thing, f"its grace period is not longer than the {seconds} s its program may take to stop")
        for name in environment:
            if name.endswith("_LISTEN"):
                port = int(environment[name].rpartition(":")[2])
                if port not in ports.values():
                    self.say(thing, f"{name} is port {port}, which {container['name']} does not declare")

    def reference(self, thing, kind, name, key, optional):
        """Returns the text a reference leads to; says so when it leads nowhere."""
        target = self.named(kind, name) or (self.external.get(name) if kind == "Secret" else None)
        if target is None:
            if not optional:
                self.say(thing, f"the {kind} {name} is not there")
            return None
        data = {**(target.get("data") or {}), **(target.get("stringData") or {})}
        if key is not None and key not in data and not optional:
            self.say(thing, f"the {kind} {name} has no {key}")
        return data.get(key) if key is not None else data

    def environment(self, thing, container):
        """Returns what a container's environment holds, as far as the manifests tell."""
        environment = {}
        for source in container.get("envFrom") or []:
            for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if field in source:
                    data = self.reference(thing, kind, source[field]["name"], None, source[field].get("optional", False))
                    environment.update(data or {})
        for entry in container.get("env") or []:
            if "value" in entry:
                environment[entry["name"]] = entry["value"]
            for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                reference = (entry.get("valueFrom") or {}).get(field)
                if reference:
                    text = self.reference(thing, kind, reference["name"], reference["key"], reference.get("optional", False))
                    if isinstance(text, str):
                        secret = kind == "Secret" and self.named(kind, reference["name"])
                        environment[entry["name"]] = decoded(text) if secret else text
        return environment

    def service(self, service):
        targets = self.pods({"matchLabels": service["spec"].get("selector") or {}}) if service["spec"].get("selector") else []
        if len(targets) != 1:
            self.say(service, f"selects the pods of {len(targets)} workloads; one is meant")
        for _, pod in targets:
            ports = {}
            for container in pod["spec"]["containers"]:
                ports.update({port["name"]: port["containerPort"] for port in container.get("ports") or []})
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in ports and target not in ports.values():
                    self.say(service, f"leads to port {target}, which the pods do not have")

    def ingress(self, ingress):
        for tls in ingress["spec"].get("tls") or []:
            self.reference(ingress, "Secret", tls["secretName"], None, False)
        hosts = {host for tls in ingress["spec"].get("tls") or [] for host in tls["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule.get("host") not in hosts:
                self.say(ingress, f"the host {rule.get('host')} has no certificate")
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = self.named("Service", backend["name"])
                names = {port["name"] for port in service["spec"]["ports"]} if service else set()
                if backend["port"].get("name") not in names:
                    self.say(ingress, f"{path['path']} leads to {backend}, which is not there")

    def disruption(self, thing):
        targets = self.pods(thing["spec"]["selector"])
        if len(targets) != 1:
            self.say(thing, f"selects the pods of {len(targets)} workloads; one is meant")
        for target, _ in targets:
            if thing["spec"].get("minAvailable") == target["spec"].get("replicas", 2):
                self.say(thing, f"no pod of {title(target)} may ever leave its node")

    def autoscaler(self, thing):
        reference = thing["spec"]["scaleTargetRef"]
        target = self.named(reference["kind"], reference["name"])
        if target is None:
            self.say(thing, "what it scales is not there")
        elif "replicas" in target["spec"]:
            self.say(thing, f"{title(target)} sets replicas, which every apply would put back")

    def network(self):
        policies = self.of("NetworkPolicy")
        denied = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
        if not any(set(policy["spec"].get("policyTypes", [])) == {"Ingress", "Egress"} and not policy["spec"].get("ingress") and not policy["spec"].get("egress") for policy in denied):
            self.found.append("no NetworkPolicy denies what is not listed")
        for policy in policies:
            if policy["spec"]["podSelector"] and not self.pods(policy["spec"]["podSelector"]):
                self.say(policy, "selects no pods")
            for rule in policy["spec"].get("ingress") or []:
                for port in rule.get("ports") or []:
                    for target, pod in self.pods(policy["spec"]["podSelector"]):
                        ports = [its["containerPort"] for container in pod["spec"]["containers"] for its in container.get("ports") or []]
                        if port["port"] not in ports:
                            self.say(policy, f"opens port {port['port']}, which {title(target)} does not have")
        # Every connection the settings name must be allowed at both of its ends, and no other inside.
        wanted = set()
        for thing, pod in self.workloads:
            for container in pod["spec"]["containers"]:
                environment = self.environment(thing, container)
                command = (container.get("command") or [""])[0]
                for name, scheme, default in (("LASTMILE_BROKER", "mqtt", 1883), ("MONGODB_URI", r"mongodb(?:\+srv)?", 27017), ("LASTMILE_LAKE_QUERY", "http", 80), ("AWS_ENDPOINT_URL", "https?", 443)):
                    found = re.match(rf"{scheme}://(?:[^@/]*@)?([^/?,]+)", environment.get(name, ""))
                    if not found or (name == "LASTMILE_BROKER" and command not in ("subscriber", "api")):
                        continue
                    host, _, port = found.group(1).partition(":")
                    wanted.add((thing["metadata"]["name"], host, int(port or default)))
        for source, host, port in sorted(wanted):
            self.connection(source, host, port)

    def connection(self, source, host, port):
        """Checks that the pods of `source` may talk to `port` of `host`."""
        from_labels = next(pod["metadata"]["labels"] for thing, pod in self.workloads if thing["metadata"]["name"] == source)
        service = self.named("Service", host)
        if service is None and "." not in host:
            self.found.append(f"{source} talks to {host}, which is no Service here")
            return
        target = self.pods({"matchLabels": service["spec"]["selector"]})[0] if service else None
        if service and port not in [its["port"] for its in service["spec"]["ports"]]:
            self.found.append(f"{source} talks to port {port} of {host}, which that Service does not have")
        to_labels = target[1]["metadata"]["labels"] if target else None

        def allowed(direction, own, peer):
            for policy in self.of("NetworkPolicy"):
                if not matches(policy["spec"]["podSelector"], own):
                    continue
                for rule in policy["spec"].get(direction) or []:
                    peers = rule.get("from" if direction == "ingress" else "to")
                    peer_fits = not peers or (peer is not None and any("podSelector" in one and "namespaceSelector" not in one and matches(one["podSelector"], peer) for one in peers))
                    port_fits = "ports" not in rule or any(its["port"] == port for its in rule["ports"])
                    if peer_fits and port_fits:
                        return True
            return False

        if not allowed("egress", from_labels, to_labels):
            self.found.append(f"no NetworkPolicy lets {source} out to {host}:{port}")
        if target and not allowed("ingress", to_labels, from_labels):
            self.found.append(f"no NetworkPolicy lets {source} in to {host}:{port}")

    def settings(self, thing, pod, bin_dir):
        """Asks the program whether it takes the settings its container is given."""
        for container in pod["spec"]["containers"]:
            command = container.get("command") or []
            program = Path(bin_dir) / command[0] if bin_dir and command else None
            if program is None or not program.is_file():
                continue
            environment = self.environment(thing, container)
            shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
            known = set(re.findall(r"\[env: (\w+)", shown))
            for entry in container.get("env") or []:
                if entry["name"] not in known and not entry["name"].startswith(("AWS_", "TMPDIR", "MALLOC_ARENA_MAX")):
                    self.say(thing, f"{command[0]} knows no {entry['name']}")
            result = subprocess.run([program, *command[1:], *(container.get("args") or []), "--check-config"], env=environment, capture_output=True, text=True, check=False)
            if result.returncode:
                self.say(thing, f"{command[0]} refuses its settings: {result.stderr.strip()}")


def decoded(text):
    import base64

    return base64.b64decode(text).decode()


def shared_settings(things, bin_dir):
    """Returns settings of the shared ConfigMap that no program knows."""
    known = set()
    for program in ("broker", "subscriber", "api", "lake_ingest"):
        path = Path(bin_dir or "") / program
        if not bin_dir or not path.is_file():
            return []
        known |= set(re.findall(r"\[env: (\w+)", subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout))
    found = []
    for thing in things:
        if thing["kind"] == "ConfigMap":
            found += [f"{title(thing)}: no program knows {name}" for name in thing["data"] if name not in known and not name.startswith("AWS_")]
    return found


def problems(things, external, bin_dir):
    return schema_problems(things) + Overlay(things, external).problems(bin_dir) + shared_settings(things, bin_dir)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bin-dir", default=os.environ.get("LASTMILE_BIN_DIR"), help="where the programs are that are asked about their settings")
    parser.add_argument("--control", action="store_true", help="also check that breaks are noticed")
    arguments = parser.parse_args()
    failed = False
    files = sorted(path for path in ROOT.rglob("*.yaml") if path.name != "kustomization.yaml")
    found = [f"{path.relative_to(ROOT)}: {sentence}" for path in files for sentence in schema_problems(load(path.read_text()))]
    print(f"{len(files)} files against the schemas of Kubernetes {', '.join(VERSIONS)}: {len(found)} problem(s)")
    scratch = tempfile.TemporaryDirectory()
    folder = Path(scratch.name).resolve() / "production-with-lake-query"
    folder.mkdir()
    for folder in [*sorted((ROOT / "overlays").iterdir()), variant(folder)]:
        things = build(folder)
        if things is None:
            print("SKIPPED kustomize overlays: neither kubectl nor kustomize is installed; only the files were validated")
            break
        example = folder / "secret.example.yaml"
        external = load(example.read_text()) if example.is_file() else []
        its = problems(things, external, arguments.bin_dir)
        found += [f"{folder.name}: {sentence}" for sentence in its]
        print(f"{folder.name}: {len(things)} objects, {len(its)} problem(s)")
        if arguments.control and folder.parent.name == "overlays":
            breaks = list(BREAKS)
            if folder.name == "production":
                breaks += PRODUCTION_BREAKS
            if arguments.bin_dir and (Path(arguments.bin_dir) / "subscriber").is_file():
                breaks += PROGRAM_BREAKS
            missed = [what for what, *edit in breaks if not set(problems(change(things, *edit), external, arguments.bin_dir)) - set(its)]
            found += [f"{folder.name}: not noticed: {what}" for what in missed]
            print(f"{folder.name}: {len(breaks) - len(missed)} of {len(breaks)} breaks noticed")
    for sentence in found:
        print(sentence, file=sys.stderr)
        failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
