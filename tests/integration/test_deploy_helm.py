"""Renders the Helm chart with the real helm and checks every object strictly."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from ferserve_server.config.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "ferserve"
SCHEMAS = ROOT / "deploy" / "helm" / "schemas"

pytestmark = pytest.mark.skipif(not shutil.which("helm"), reason="needs helm (make tools fetches it)")

EVERYTHING = {
    "serviceMonitor": {"enabled": True},
    "grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["faces.example.org"]},
    "networkPolicy": {"enabled": True},
    "tls": {"secretName": "identity", "clientCAKey": "ca.crt"},
    "modelRepo": {"existingClaim": "models"},
    "settings": {"PROCESSES": 2, "LOG_LEVEL": "debug"},
}
MATRIX = {
    "defaults": {},
    "one tier, all parts": EVERYTHING,
    "two tiers": {"detection": {"enabled": True}},
    "two tiers, all parts, hpa": EVERYTHING
    | {"detection": {"enabled": True, "autoscaling": {"kind": "hpa"}}, "models": {"autoscaling": {"kind": "hpa"}}},
    "keda": {"models": {"autoscaling": {"kind": "keda", "queueAgeSeconds": 0.1}}, "detection": {"enabled": False}},
    "no budget, no spread": {"podDisruptionBudget": {"enabled": False}, "topologySpread": False},
}


def helm(*arguments, values=None, folder):
    environment = {**os.environ, "HELM_CONFIG_HOME": str(folder), "HELM_CACHE_HOME": str(folder)}
    command = ["helm", *arguments]
    if values is not None:
        path = folder / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        command += ["--values", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def rendered(values, folder):
    done = helm("template", "demo", str(CHART), "--namespace", "faces", values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def named(objects, kind):
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def test_the_chart_passes_lint(tmp_path):
    done = helm("lint", "--strict", str(CHART), folder=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_every_object_is_valid(values, tmp_path):
    for each in rendered(values, tmp_path):
        own = SCHEMAS / f"{each['apiVersion'].replace('/', '_')}_{each['kind']}.json"
        if own.exists():
            jsonschema.validate(each, json.loads(own.read_text()))
        else:
            kubernetes_validate.validate(each, "1.37", strict=True)


def test_a_pod_has_time_to_drain(tmp_path):
    values = {"lameDuckSeconds": 3, "drainTimeoutSeconds": 20}
    (deployment,) = named(rendered(values, tmp_path), "Deployment").values()
    pod = deployment["spec"]["template"]["spec"]
    environment = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert environment["FERSERVE_LAME_DUCK_S"] == "3"
    assert environment["FERSERVE_DRAIN_TIMEOUT_S"] == "20"
    assert pod["terminationGracePeriodSeconds"] == 33


def test_pods_can_write_nowhere_but_in_memory_folders(tmp_path):
    for deployment in named(rendered(MATRIX["two tiers"], tmp_path), "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/tmp", "/dev/shm"}  # noqa: S108  # paths in the pod


def test_detection_comes_before_the_models(tmp_path):
    deployments = named(rendered(MATRIX["two tiers"], tmp_path), "Deployment")
    (container,) = deployments["demo-ferserve-detection"]["spec"]["template"]["spec"]["containers"]
    upstream = next(each["value"] for each in container["env"] if each["name"] == "FERSERVE_UPSTREAM")
    assert upstream == "dns:///demo-ferserve-models.faces.svc:50051"
    services = named(rendered(MATRIX["two tiers"], tmp_path), "Service")
    assert services["demo-ferserve-models"]["spec"]["clusterIP"] == "None"


def test_the_route_leads_to_the_tier_that_takes_calls(tmp_path):
    for detection, name in ((False, "demo-ferserve-models"), (True, "demo-ferserve-detection")):
        values = EVERYTHING | {"detection": {"enabled": detection}}
        (route,) = named(rendered(values, tmp_path), "GRPCRoute").values()
        assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == name


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"models": {"autoscaling": {"kind": "magic"}}}, "kind"),
        ({"service": {"grpcPort": 80}}, "grpcPort"),
        ({"replicas": 3}, "replicas"),
        ({"settings": {"log-level": "debug"}}, "log-level"),
    ],
)
def test_misspelt_values_are_rejected_by_name(values, word, tmp_path):
    done = helm("template", "demo", str(CHART), values=values, folder=tmp_path)
    assert done.returncode != 0
    assert word in done.stderr


def test_settings_of_the_values_are_settings_of_the_server(tmp_path):
    for deployment in named(rendered(MATRIX["two tiers, all parts, hpa"], tmp_path), "Deployment").values():
        for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
            assert each["name"].removeprefix("FERSERVE_").lower() in SETTINGS


def test_the_plain_manifests_are_those_of_the_chart(tmp_path):
    done = helm("template", "ferserve", str(CHART), folder=tmp_path)
    assert (ROOT / "deploy" / "kubernetes" / "ferserve.yaml").read_text() == done.stdout
