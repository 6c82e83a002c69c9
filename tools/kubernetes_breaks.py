"""Ways to break the Kubernetes manifests, each of which check_kubernetes.py has to notice."""

import copy


def change(things, kind, name, path, value):
    """Returns the objects with one field of one of them changed, or removed when `value` is None."""
    changed = copy.deepcopy(things)
    at = next(thing for thing in changed if thing["kind"] == kind and thing["metadata"]["name"] == name)
    for part in path[:-1]:
        at = at[part]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


POD = ["spec", "template", "spec"]
CONTAINER = [*POD, "containers", 0]
BREAKS = [
    ("a number that is none", "StatefulSet", "broker", ["spec", "replicas"], "two"),
    ("a misspelt field", "Deployment", "api", [*CONTAINER, "livenessprobe"], {}),
    ("an unknown version", "CronJob", "lake-ingest", ["apiVersion"], "batch/v9"),
    ("a second broker", "StatefulSet", "broker", ["spec", "replicas"], 2),
    ("a selector of others", "Deployment", "api", ["spec", "selector", "matchLabels", "app.kubernetes.io/name"], "apy"),
    ("a Service of nobody", "Service", "api", ["spec", "selector", "app.kubernetes.io/name"], "apy"),
    ("a Service to no port", "Service", "api", ["spec", "ports", 0, "targetPort"], "web"),
    ("a probe of no port", "Deployment", "subscriber", [*CONTAINER, "readinessProbe", "httpGet", "port"], "http"),
    ("no readiness", "Deployment", "api", [*CONTAINER, "readinessProbe"], None),
    ("an image without a tag", "Deployment", "api", [*CONTAINER, "image"], "lastmile"),
    ("the latest image", "Deployment", "api", [*CONTAINER, "image"], "lastmile:latest"),
    ("root", "Deployment", "api", [*POD, "securityContext", "runAsNonRoot"], False),
    ("a writable image", "StatefulSet", "broker", [*CONTAINER, "securityContext", "readOnlyRootFilesystem"], False),
    ("capabilities", "StatefulSet", "broker", [*CONTAINER, "securityContext", "capabilities", "drop"], []),
    ("no memory limit", "Deployment", "subscriber", [*CONTAINER, "resources", "limits"], None),
    ("too little grace", "Deployment", "api", [*POD, "terminationGracePeriodSeconds"], 25),
    ("a mount of nothing", "StatefulSet", "broker", [*CONTAINER, "volumeMounts", 0, "name"], "logs"),
    ("a ConfigMap that is not there", "Deployment", "api", [*CONTAINER, "envFrom", 0, "configMapRef", "name"], "settings"),
    ("a Secret that is not there", "Deployment", "api", [*CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "name"], "secrets"),
    ("a key that is not there", "Deployment", "api", [*CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "key"], "MONGO_URI"),
    ("an account that is not there", "Deployment", "api", [*POD, "serviceAccountName"], "admin"),
    ("a port that is not declared", "ConfigMap", "lastmile-settings", ["data", "LASTMILE_BROKER"], "mqtt://broker:1884"),
    ("a host that is no Service", "ConfigMap", "lastmile-settings", ["data", "LASTMILE_BROKER"], "mqtt://brokers:1883"),
    ("an open network", "NetworkPolicy", "default-deny", ["spec", "policyTypes"], ["Ingress"]),
    ("nobody let in to the broker", "NetworkPolicy", "broker", ["spec", "ingress", 0, "from", 0, "podSelector", "matchLabels", "app.kubernetes.io/name"], "subscribers"),
    ("nobody let out to the broker", "NetworkPolicy", "subscriber", ["spec", "egress"], []),
    ("nobody let out to the database", "NetworkPolicy", "database-and-names", ["spec", "egress", 1, "ports", 0, "port"], 27018),
    ("a budget that stops every drain", "PodDisruptionBudget", "broker", ["spec"], {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "broker"}}}),
    ("another namespace", "Service", "api", ["metadata", "namespace"], "default"),
]
PRODUCTION_BREAKS = [
    ("an autoscaler of nothing", "HorizontalPodAutoscaler", "api", ["spec", "scaleTargetRef", "name"], "apis"),
    ("an autoscaler that is overruled", "Deployment", "api", ["spec", "replicas"], 2),
    ("an Ingress to nothing", "Ingress", "api", ["spec", "rules", 0, "http", "paths", 0, "backend", "service", "name"], "web"),
    ("a host without a certificate", "Ingress", "api", ["spec", "rules", 0, "host"], "other.example"),
]
PROGRAM_BREAKS = [
    ("a setting no program has", "Deployment", "subscriber", [*CONTAINER, "env", 1, "name"], "LASTMILE_REPLICAS"),
    ("a value the program refuses", "Deployment", "subscriber", [*CONTAINER, "env", 2, "value"], "many"),
    ("a shared setting no program has", "ConfigMap", "lastmile-settings", ["data", "LASTMILE_BROKER_URL"], "mqtt://broker:1883"),
]
