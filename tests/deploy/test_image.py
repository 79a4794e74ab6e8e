"""What Dockerfile, .dockerignore and compose.yaml promise, as far as can be read without Docker."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from danlu.serve import GRACE
from settings import Settings

HOUSE = Path(__file__).parent.parent.parent
DOCKERFILE = (HOUSE / "Dockerfile").read_text()
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
# One instruction a line, as Docker sees them.
STEPS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()


def steps(instruction: str) -> list[str]:
    return [
        step.removeprefix(instruction).strip()
        for step in STEPS
        if step.startswith(f"{instruction} ")
    ]


def compose(file: str = "compose.yaml") -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((HOUSE / file).read_text())["services"]["danlu"]
    return service


def test_versions_are_pinned() -> None:
    assert len(steps("FROM")) == 2
    assert all(step.startswith("python:${PYTHON}-slim-") for step in steps("FROM"))
    assert "latest" not in DOCKERFILE
    assert any("--require-hashes" in step for step in steps("RUN"))
    assert re.search(r"^ARG UV=\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)
    assert "://" not in DOCKERFILE  # no address of an index


@pytest.mark.parametrize("file", ["Dockerfile", "Makefile"])
def test_builds_without_cuda_keep_the_versions_of_the_lock(file: str) -> None:
    lines = re.sub(r"\\\n\s*", "", (HOUSE / file).read_text()).splitlines()

    [command] = [line for line in lines if "--torch-backend cpu" in line]

    assert "--constraints requirements.lock -r pyproject.toml" in command


def test_nothing_runs_as_root() -> None:
    [user] = steps("USER")
    uid, gid = user.split(":")

    assert int(uid) == int(gid) > 0
    final = STEPS[STEPS.index(f"FROM {steps('FROM')[1]}") :]
    assert not [s for s in final[final.index(f"USER {user}") :] if s.startswith(("RUN", "COPY"))]


def test_signals_and_orphans_are_taken_care_of() -> None:
    assert steps("ENTRYPOINT") == ['["tini", "--"]']
    assert steps("CMD") == ['["danlu", "serve"]']
    assert steps("STOPSIGNAL") == ["SIGTERM"]


def test_dependencies_come_before_the_source() -> None:
    copies = [step for step in STEPS if step.startswith("COPY")]

    assert copies[:2] == ["COPY pyproject.toml requirements.lock ./", "COPY . ."]


def test_the_image_holds_the_rooms_and_nothing_else() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel.get("force-include", {})}
    patterns = [
        line
        for line in (HOUSE / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    # Everything is left out, among it .git, .venv, data and keys, but for these.
    assert patterns[0] == "*"
    named = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert named == needed | {"pyproject.toml", "requirements.lock", "README.md"}
    assert [name for name in named if not (HOUSE / name).exists()] == []


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check(status: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        code = check_health(server.server_port)
        thread.join(timeout=10)

    assert asked == ["/healthz"]
    assert (code == 0) == (status == 200)


def test_the_health_check_of_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert check_health(port) != 0


def check_health(port: int) -> int:
    [step] = steps("HEALTHCHECK")
    _, *words = json.loads(step.partition("CMD ")[2])
    command = [sys.executable, *words]
    variables = {**os.environ, "DANLU_PORT": str(port)}
    done = subprocess.run(command, env=variables, capture_output=True, timeout=30, check=False)
    return done.returncode


def test_compose_publishes_on_this_machine_alone() -> None:
    ports = compose()["ports"]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert [port.rpartition(":")[2] for port in ports] == steps("EXPOSE")


def test_compose_hands_the_key_over_as_a_file() -> None:
    service = compose()
    secrets = yaml.safe_load((HOUSE / "compose.yaml").read_text())["secrets"]
    [name] = service["secrets"]

    assert service["environment"]["DANLU_API_KEY_FILE"] == f"/run/secrets/{name}"
    folder = secrets[name]["file"].removeprefix("./").partition("/")[0]
    assert f"/{folder}/" in (HOUSE / ".gitignore").read_text().splitlines()


def test_compose_locks_the_container_up() -> None:
    service = compose()

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["volumes"] == [f"data:{steps('VOLUME')[0]}"]
    assert service["shm_size"]
    assert service["restart"] == "unless-stopped"


def test_compose_gives_danlu_the_time_that_it_takes() -> None:
    assert int(compose()["stop_grace_period"].removesuffix("s")) > GRACE + 10


def test_compose_takes_the_image_of_this_version() -> None:
    assert compose()["image"] == f"danlu:{PROJECT['project']['version']}"


@pytest.mark.parametrize("text", [DOCKERFILE, (HOUSE / "compose.yaml").read_text()])
def test_variables_that_are_set_exist(text: str) -> None:
    known = {f"DANLU_{name.upper()}" for name in Settings.model_fields}

    assert set(re.findall(r"DANLU_[A-Z_]+", text)) <= known


def test_gpus_are_asked_for_beside_it() -> None:
    [device] = compose("deploy/compose.gpu.yaml")["deploy"]["resources"]["reservations"]["devices"]

    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
