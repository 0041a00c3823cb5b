"""Who reaches whom: exactly the design's arrows, by what the policies mean and not by how they are written."""

from __future__ import annotations

from typing import Any

import pytest

SERVICES = {"gateway": 8000, "retrieval": 8001, "filter": 8002, "ranker": 8003, "features": 8004}
PORTS = SERVICES | {"redis": 6379}
PART = "app.kubernetes.io/part-of"

NAMESPACES = {"prometheus": "monitoring", "dns": "kube-system", "stranger": "elsewhere"}

ARROWS = {
    ("gateway", "retrieval"), ("gateway", "filter"), ("gateway", "ranker"),
    *((other, "gateway") for other in ("visitor", "stranger", "pipeline", "dns")),
    *(("prometheus", service) for service in SERVICES),
}  # fmt: skip
"""Between pods; anyone may be a visitor of the gateway, but none of our own services is one: their egress ends it."""
REDIS_ARROWS = {(service, "redis") for service in ("gateway", "filter", "features", "pipeline")}


def _labels(rendered: Any) -> dict[str, dict[str, str]]:
    own = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in rendered.workloads().items()}
    return own | {
        "pipeline": {"cascade.role": "pipeline", "app.kubernetes.io/name": "dagster"},
        "prometheus": {"app.kubernetes.io/name": "prometheus"},
        "dns": {"k8s-app": "kube-dns"},
        "stranger": {"app.kubernetes.io/name": "gateway", PART: "cascade"},  # the same labels in another namespace
        "visitor": {},
    }


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        wanted = wanted and labels.get(rule["key"]) in rule["values"]
    return wanted


def _namespace(name: str) -> str:
    return NAMESPACES.get(name, "cascade")


def _peer(rule: dict[str, Any], side: str, name: str, labels: dict[str, dict[str, str]]) -> bool:
    if side not in rule:
        return True
    for peer in rule[side]:
        if "ipBlock" in peer:  # addresses outside: pods are not reached by them
            continue
        namespace = {"kubernetes.io/metadata.name": _namespace(name)}
        inside = (
            _selects(peer["namespaceSelector"], namespace)
            if "namespaceSelector" in peer
            else _namespace(name) == "cascade"
        )
        if inside and name != "visitor" and _selects(peer.get("podSelector", {}), labels[name]):
            return True
    return False


def _port(rule: dict[str, Any], port: int) -> bool:
    # all our services name their one port `http`, Redis its own `redis`
    names = {**dict.fromkeys(SERVICES.values(), "http"), 6379: "redis"}
    return "ports" not in rule or any(entry["port"] in (port, names.get(port)) for entry in rule["ports"])


def _allowed(rendered: Any, source: str, target: str, port: int) -> bool:
    """What Kubernetes would say: both sides' policies, each side open where none selects it."""
    labels = _labels(rendered)

    def side(name: str, other: str, direction: str, key: str) -> bool:
        if _namespace(name) != "cascade" or name == "visitor":
            return True
        policies = [
            policy["spec"]
            for policy in rendered.of("NetworkPolicy").values()
            if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], labels[name])
        ]
        return not policies or any(
            _peer(rule, key, other, labels) and _port(rule, port)
            for policy in policies
            for rule in policy.get(direction.lower(), [])
        )

    return side(source, target, "Egress", "to") and side(target, source, "Ingress", "from")


def test_arrows_between_pods_are_the_designs(rendered: Any) -> None:
    labels = _labels(rendered)
    ours = [name for name in PORTS if name in labels]
    found = {
        (source, target)
        for source in labels
        for target in ours
        if source != target and _allowed(rendered, source, target, PORTS[target])
    }

    assert found == ARROWS | (REDIS_ARROWS if "redis" in labels else set())


def test_no_other_port_is_reached(rendered: Any) -> None:
    labels = _labels(rendered)
    for source in labels:
        for target in (name for name in PORTS if name in labels):
            assert not _allowed(rendered, source, target, 22), (source, target)


def test_everyone_may_look_up_names(rendered: Any) -> None:
    for service in SERVICES:
        assert _allowed(rendered, service, "dns", 53)


@pytest.mark.parametrize("service", [*SERVICES, "redis"])
def test_outside_is_reached_for_redis_and_the_model_store_alone(rendered: Any, service: str) -> None:
    labels = _labels(rendered)
    if service not in labels:
        pytest.skip(f"{rendered.overlay} runs no {service}")
    ports = {
        entry["port"]
        for policy in rendered.of("NetworkPolicy").values()
        if _selects(policy["spec"]["podSelector"], labels[service])
        for rule in policy["spec"].get("egress", [])
        if any("ipBlock" in peer for peer in rule["to"])
        for entry in rule["ports"]
    }

    expected: set[int] = set()
    if rendered.overlay == "eks":
        expected |= {6379} if (service, "redis") in REDIS_ARROWS else set()
        expected |= {443, 80} if service in ("gateway", "retrieval", "ranker", "features") else set()  # S3, credentials
    assert ports == expected


def test_no_rule_says_anything_goes(rendered: Any) -> None:
    for name, policy in rendered.of("NetworkPolicy").items():
        spec = policy["spec"]
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            assert rule.get("ports"), name
        for rule in spec.get("egress", []):
            assert rule.get("to"), name
