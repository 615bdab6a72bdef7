"""Reads config/compose.yaml and config/kubernetes/*.yaml, and what they give to the relay."""

import re
import sys

import packages
import relay

# Brings PyYAML and jsonschema along.
VALIDATE = "kubernetes_validate==1.37.0"
CONFIG = relay.ROOT / "config"
KUBERNETES = CONFIG / "kubernetes"

SAMPLES = {
    "TENANT_ID": "contoso.onmicrosoft.com",
    "CLIENT_ID": "58d827e0-c69c-401f-8deb-b1224d129dc8",
    "MAILBOX": "relay@contoso.com",
}


def yaml():
    place = str(packages.need_pip(VALIDATE))
    if place not in sys.path:
        sys.path.insert(0, place)
    import yaml as module

    return module


def documents(path):
    return [document for document in yaml().safe_load_all(path.read_text()) if document is not None]


def compose(name="compose.yaml"):
    return documents(CONFIG / name)[0]


def compose_environment(service, name="compose.yaml"):
    """The variables of a service, as if somebody had set what has to be set."""
    given = compose(name)["services"][service].get("environment", {})
    return {key: filled(key, str(value)) for key, value in given.items()}


def pod(name):
    """The specification of the pods of the workload in a file."""
    for document in documents(KUBERNETES / name):
        template = document.get("spec", {}).get("template")
        if template:
            return template["spec"]
    raise relay.Fault(f"{name} has no workload")


def container(name, called):
    spec = pod(name)
    for one in [*spec.get("initContainers", []), *spec["containers"]]:
        if one["name"] == called:
            return one
    raise relay.Fault(f"{name} has no container {called}")


def pod_environment(name, called):
    return {item["name"]: filled(item["name"], item["value"]) for item in container(name, called)["env"]}


def filled(name, value):
    """The value, or one to try with where the reader is asked for his own."""
    if not re.search(r"^<.*>$|\$\{.*\}", value):
        return value
    for end, sample in SAMPLES.items():
        if name.endswith(end):
            return sample
    raise relay.Fault(f"nothing to try with for {name}={value}")
