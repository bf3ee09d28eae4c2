"""What is in deploy/ fits the program: settings, paths and ports that there are, by the judgement of the real tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from portico.config import Settings, load_settings
from portico.server.http.auth import PROBES
from support.shared import ROOT
from support.wait import SAFETY

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "portico"
FLAGS = {"--" + name.replace("_", "-") for name in Settings.model_fields} | {"--config"}
VARIABLES = {f"PORTICO_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize(
    "path", [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()], ids=lambda path: path.name
)
def test_flags_variables_and_probes_exist(path: Path) -> None:
    text = path.read_text()
    variables = set(re.findall(r"\bPORTICO_[A-Z_]+\b", text))
    assert variables <= VARIABLES
    if path.name in ("Dockerfile", "compose.yaml", "portico.service", "deployment.yaml"):
        of_portico = [line for line in text.splitlines() if re.search(r"portico serve|^ +- --", line)]
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(of_portico))) <= FLAGS
        assert set(re.findall(r"/(?:livez|readyz|health)\b", text)) <= PROBES


def test_the_image() -> None:
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word.isupper()]
    last = steps[max(number for number, (word, _) in enumerate(steps) if word == "FROM") :]
    given = dict(last)
    assert given["USER"].split(":")[0].isdecimal()  # Kubernetes must see that it is not root
    assert given["USER"] != "0:0"
    assert given["ENTRYPOINT"] == '["portico"]'  # no shell between the signal and the server
    assert "/livez" in given["HEALTHCHECK"]
    copied = [word for kind, rest in steps if kind == "COPY" and "--from" not in rest for word in rest.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", " ".join(rest for word, rest in steps if word == "RUN"))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_compose() -> None:
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    services = compose["services"]
    assert services["portico"]["read_only"] is True
    for service in services.values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        named = {volume.split(":")[0] for volume in service.get("volumes", ()) if not volume.startswith("./")}
        assert named <= set(compose["volumes"])
        published = service.get("ports", ())
        assert all(port.startswith("127.0.0.1:") for port in published)
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["job_name"] == "portico"
    assert [port for one in scrape["static_configs"] for port in one["targets"]] == ["portico:8000"]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed")
    service = (DEPLOY / "systemd" / "portico.service").read_text()
    (command,) = re.findall(r"^ExecStart=(\S+)", service, re.M)
    (tmp_path / "portico.service").write_text(service.replace(command, "/bin/true"))
    shutil.copy(DEPLOY / "systemd" / "portico.socket", tmp_path)
    done = subprocess.run(
        [program, "verify", *tmp_path.iterdir()], capture_output=True, text=True, timeout=SAFETY, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "portico" in line]
    assert ours == []


@pytest.mark.slow
@pytest.mark.parametrize("by", ["", "hpa", "keda"])
def test_the_chart_renders_and_kubernetes_takes_it(by: str, tmp_path: Path) -> None:
    helm: Any = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: pip install '.[deploy]'")
    kubernetes: Any = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate: pip install '.[deploy]'")
    assert helm.lint(str(CHART))["errors"] == []
    values = {"autoscaling": {"by": by}}
    if by:
        values |= {"models": {"size": "20Gi"}, "store": {"secret": "database"}, "podAnnotations": {"a": "b"}}
    manifests = helm.Chart.load(str(CHART)).render(values, name="demo", namespace="prod")
    documents = [
        document
        for name, text in manifests.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document is not None
    ]
    for document in documents:
        if document["kind"] != "ScaledObject":  # KEDA's own; Kubernetes has no schema for it
            kubernetes.validate(document, "1.37", strict=True)
    kinds = {document["kind"]: document for document in documents}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    assert ("HorizontalPodAutoscaler" in kinds, "ScaledObject" in kinds) == (by == "hpa", by == "keda")
    assert ("replicas" in kinds["Deployment"]["spec"]) == (not by)
    file = tmp_path / "portico.toml"
    file.write_text(kinds["ConfigMap"]["data"]["portico.toml"])
    assert load_settings({}, file).log_format == "json"
    drain = next(one for one in container["args"] if one.startswith("--drain-timeout="))
    assert int(drain.partition("=")[2]) < pod["terminationGracePeriodSeconds"]
