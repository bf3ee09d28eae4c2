"""The dashboard and the alerts are about metrics that there are, in Prometheus's own judgement, too."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from portico.server.observe.metrics import Metrics
from support.prometheus import prometheus, promtool
from support.server import running_server
from support.shared import ROOT
from support.wait import SAFETY, until

DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "portico.json").read_text())
RULES = DEPLOY / "prometheus" / "rules.yml"
OF_PANELS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OF_ALERTS = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
NAME = re.compile(r"\b(?:portico|process|vllm)[_:]\w+")
OWN = {"le", "job", "instance"}  # labels that histograms have, and that Prometheus gives


def test_every_expression_is_about_what_is_counted() -> None:
    metrics = Metrics()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics.render().decode(), re.M))
    counted = {f"{name}_bucket" if kind == "histogram" else name for name, kind in kinds.items()}
    labels = OWN | {label for one in vars(metrics).values() for label in getattr(one, "_labelnames", ())}
    for expr in OF_PANELS + OF_ALERTS:
        names = set(NAME.findall(expr))
        assert names <= counted, expr
        assert names or expr.startswith("up"), expr
        used = re.findall(r"\bby \(([\w, ]+)\)", expr) + re.findall(r"(\w+)[!=]?[=~]\"", expr)
        assert {label.strip() for one in used for label in one.split(",")} <= labels, expr


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "job"}
    assert all("$job" in expr for expr in OF_PANELS)


def test_prometheus_takes_the_rules_and_they_fire(tmp_path: Path) -> None:
    assert "8 rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    series, fire = [], []
    for name, labels, values, alert, minute in (
        ("up", 'instance="gone"', "0x60", "PorticoDown", 5),
        ("portico_engine_restarts_total", 'model="m"', "0 1 2 3 4 5x60", "PorticoEngineRestarts", 6),
        ("portico_requests_waiting", 'model="m"', "30x60", "PorticoQueueing", 15),
        ("portico_requests_running", 'model="m"', "8x60", "", 0),
        ("portico_requests_total", 'api="openai",outcome="ok"', "0+9x60", "", 0),
        ("portico_requests_total", 'api="openai",outcome="failed"', "0+1x60", "PorticoFailing", 15),
    ):
        series.append({"series": f'{name}{{job="portico",{labels}}}', "values": values})
        fires = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
        if alert:
            fire.append({"expr": fires, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": 1}]})
    test = {
        "rule_files": [str(RULES)],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": fire}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", tmp_path / "test.yml")


@pytest.mark.slow
def test_a_real_prometheus_knows_every_name(tmp_path: Path, smollm2_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text(json.dumps({"text": "Hello."}) + "\n")
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--workers", "2")
    with (
        running_server(*arguments) as server,
        prometheus(tmp_path, [server.url.removeprefix("http://")], RULES) as client,
    ):

        def asked(expr: str) -> list[Any]:
            query = expr.replace("$__rate_interval", "30s").replace("$job", ".*")
            body = client.get("/api/v1/query", params={"query": query}).json()
            assert body["status"] == "success", (expr, body)
            found: list[Any] = body["data"]["result"]
            return found

        def talked() -> bool:
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            assert httpx.post(server.base_url + "/chat/completions", json=body, timeout=SAFETY).status_code == 200
            return bool(asked(OF_PANELS[0]))

        until(talked)
        known = client.get("/api/v1/metadata").json()["data"]
        for expr in OF_PANELS + OF_ALERTS:
            asked(expr)
            assert {name.removesuffix("_bucket") for name in NAME.findall(expr)} <= set(known), expr
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        assert all(rule["health"] != "err" for group in groups for rule in group["rules"])
        picture = drawing().drawn(DASHBOARD, lambda expr: drawing().asked(client, expr, 60))
        assert all(panel["title"].partition("'")[0] in picture for panel in DASHBOARD["panels"])
        assert picture.count("<path") > 20


def drawing() -> Any:
    """The script that draws the dashboard."""
    spec = importlib.util.spec_from_file_location("dashboard", ROOT / "examples" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboard"] = module
    spec.loader.exec_module(module)
    return module
