"""Tests the properties that docker-compose.yml must keep."""

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from ferserve_server.config.settings import SETTINGS
from ferserve_training.cli import app as training_app

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def _seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", duration)
    assert match, duration
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def _port(address: str) -> str:
    return address.rpartition(":")[2]


@each_service
def test_no_service_can_write_to_its_root_or_win_rights(service: dict):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_no_service_runs_as_root(service: dict):
    user = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", service["user"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@each_service
def test_every_image_is_pinned(service: dict):
    _, tag = service["image"].split(":", 1)
    assert tag
    assert "latest" not in tag


@each_service
def test_ports_are_published_on_loopback_unless_asked_otherwise(service: dict):
    for port in service.get("ports", []):
        assert port.startswith(("127.0.0.1:", "${FERSERVE_PUBLISH:-127.0.0.1}:"))


@each_service
def test_what_is_mounted_from_deploy_is_there_and_read_only(service: dict):
    for mount in service.get("volumes", []):
        source, _, rest = mount.partition(":")
        if source.startswith("./deploy"):
            assert (ROOT / source).is_dir()
            assert rest.endswith(":ro")


def test_the_server_only_reads_the_models():
    assert "./model_repo:/models:ro" in SERVICES["server"]["volumes"]


def test_the_server_may_write_to_tmp():
    (mount,) = SERVICES["server"]["tmpfs"]
    assert mount.startswith("/tmp:")  # noqa: S108 - a mount point, no file of ours


def test_the_server_has_longer_to_stop_than_to_drain():
    server = SERVICES["server"]
    drain_s = float(server["environment"]["FERSERVE_DRAIN_TIMEOUT_S"])
    assert drain_s == SETTINGS["drain_timeout_s"][1].default
    assert _seconds(server["stop_grace_period"]) >= drain_s + 10


def test_the_server_is_asked_for_its_health_by_its_own_settings():
    check = SERVICES["server"]["healthcheck"]
    assert check["test"][:3] == ["CMD", "python", "-m"]
    assert importlib.util.find_spec(check["test"][3])
    assert len(check["test"]) == 4
    assert _seconds(check["timeout"]) < _seconds(check["interval"])


def test_every_setting_of_the_server_exists():
    names = {name for name in SERVICES["server"]["environment"] if name.startswith("FERSERVE_")}
    assert {name.removeprefix("FERSERVE_").lower() for name in names} <= SETTINGS.keys()


def test_the_server_publishes_the_ports_that_it_listens_on():
    published = {_port(port) for port in SERVICES["server"]["ports"]}
    listened = ("listen", "http_listen", "metrics_listen")
    assert published == {_port(SETTINGS[name][1].default) for name in listened}


def test_prometheus_scrapes_the_metrics_port_of_the_server():
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{_port(SETTINGS['metrics_listen'][1].default)}"]}]


def test_grafana_asks_the_prometheus_of_this_file():
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_grafana_finds_its_dashboards_where_they_are_mounted():
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards/provider.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).relative_to(folder)).is_file()


def test_nobody_can_log_in_to_grafana_with_a_default_password():
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"].endswith(":-true}")
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_training_runs_only_when_asked_for():
    assert SERVICES["training"]["profiles"] == ["training"]


def test_training_cannot_change_its_data():
    assert [mount for mount in SERVICES["training"]["volumes"] if mount.endswith(":/data:ro")]


def test_the_commands_of_training_exist():
    commands = get_command(training_app).commands
    lines = [
        line for line in SERVICES["training"]["command"][0].splitlines() if line.startswith("ferserve-train ")
    ]
    assert [line.split()[1] for line in lines] == ["train", "evaluate", "export"]
    for line in lines:
        known = {name for parameter in commands[line.split()[1]].params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_the_gpu_variant_builds_with_the_gpu_lock_and_reserves_a_gpu():
    for name, service in yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"].items():
        assert service["build"]["args"] == {"TF": "gpu"}
        assert service["image"] == f"{SERVICES[name]['image']}-gpu"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert "gpu" in device["capabilities"]


@pytest.mark.parametrize("files", [("docker-compose.yml",), ("docker-compose.yml", "docker-compose.gpu.yml")])
def test_docker_compose_accepts_the_files(files):
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no docker compose here")
    named = [argument for file in files for argument in ("-f", file)]
    command = ["docker", "compose", *named, "--profile", "training", "config", "-q"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
