"""What every workload keeps to, in every overlay."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cascade.store.canary import CANARIED

SERVICES = ("gateway", "retrieval", "filter", "ranker", "features")
BEHIND_THE_GATEWAY = ("retrieval", "filter", "ranker")
K8S = Path(__file__).parents[2] / "k8s"


def test_every_service_has_all_that_runs_it(rendered: Any) -> None:
    kinds = ("Rollout", "Service", "ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget")
    missing = {(kind, name) for kind in kinds for name in SERVICES if name not in rendered.of(kind)}

    assert missing == set()


def test_every_container_has_requests_and_limits(rendered: Any) -> None:
    without = [
        (name, container["name"], bound, resource)
        for name, _, container in rendered.containers()
        for bound in ("requests", "limits")
        for resource in ("cpu", "memory")
        if resource not in container["resources"][bound]
    ]

    assert without == []


def test_replicas_have_room_for_a_canary_and_the_version_being_loaded(rendered: Any) -> None:
    """The request is for one bundle; up to three are held at once."""
    found = {}
    for name, _, container in rendered.containers():
        if name in CANARIED:
            asked, limit = (container["resources"][bound]["memory"] for bound in ("requests", "limits"))
            assert {asked[-2:], limit[-2:]} == {"Gi"}
            found[name] = int(limit[:-2]) / int(asked[:-2])

    assert set(found) == set(CANARIED)
    assert min(found.values()) >= 3


def test_every_container_has_three_probes(rendered: Any) -> None:
    for name, _, container in rendered.containers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert probe in container, (name, probe)
        if name in SERVICES:
            paths = [
                container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            ]
            assert paths == ["/healthz", "/readyz", "/healthz"]


def test_no_container_may_more_than_it_needs(rendered: Any) -> None:
    for name, pod, container in rendered.containers():
        of_pod, own = pod["securityContext"], container["securityContext"]
        assert of_pod["runAsNonRoot"] is True, name
        assert of_pod["runAsUser"] > 0, name
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert own["readOnlyRootFilesystem"] is True, name
        assert own["allowPrivilegeEscalation"] is False, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["serviceAccountName"] == name


def test_volumes_and_mounts_match(rendered: Any) -> None:
    claims = set(rendered.of("PersistentVolumeClaim"))
    for name, workload in rendered.workloads().items():
        templates = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        pod = workload["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | templates
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert volumes == mounts, name
        sources = [volume.get("persistentVolumeClaim") for volume in pod.get("volumes", [])]
        named = {source["claimName"] for source in sources if source}
        assert named <= claims, name


def test_services_select_a_workload_and_reach_a_port_of_it(rendered: Any) -> None:
    workloads = rendered.workloads()
    for name, service in rendered.of("Service").items():
        template = workloads[name]["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items(), name
        ports = {port["name"]: port["containerPort"] for c in template["spec"]["containers"] for port in c["ports"]}
        for port in service["spec"]["ports"]:
            # headless: a caller reaches the pod's own port, whatever the Service says
            assert port["port"] == ports[port["targetPort"]], name
    headless = {name for name, service in rendered.of("Service").items() if service["spec"].get("clusterIP") == "None"}
    assert set(BEHIND_THE_GATEWAY) <= headless


def test_selectors_match_the_pods_and_no_others(rendered: Any) -> None:
    labels = {
        name: workload["spec"]["template"]["metadata"]["labels"] for name, workload in rendered.workloads().items()
    }
    selectors = [(name, found["spec"]["selector"]["matchLabels"]) for name, found in rendered.workloads().items()]
    selectors += [
        (name, found["spec"]["selector"]["matchLabels"]) for name, found in rendered.of("PodDisruptionBudget").items()
    ]
    for name, selector in selectors:
        assert [other for other in labels if selector.items() <= labels[other].items()] == [name]


def test_everything_is_in_the_namespace(rendered: Any) -> None:
    of_the_cluster = {"Namespace", "NodePool", "EC2NodeClass", "StorageClass"}
    elsewhere = [
        (found["kind"], found["metadata"]["name"])
        for found in rendered.objects
        if found["kind"] not in of_the_cluster and found["metadata"].get("namespace") != "cascade"
    ]

    assert elsewhere == []


def test_budgets_let_a_node_be_drained(rendered: Any) -> None:
    for budget in rendered.of("PodDisruptionBudget").values():
        assert budget["spec"]["maxUnavailable"] >= 1


def test_pods_spread_over_zones_and_nodes(rendered: Any) -> None:
    for name in SERVICES:
        spread = rendered.one("Rollout", name)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [rule["topologyKey"] for rule in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        assert all("app.kubernetes.io/name" in rule["matchLabelKeys"] for rule in spread)


def test_every_image_has_a_tag_that_the_overlay_set(rendered: Any) -> None:
    images = {container["image"] for _, _, container in rendered.containers()}
    set_here = {
        f"{entry.get('newName', entry['name'])}:{entry['newTag']}"
        for entry in _yaml(K8S / "overlays" / rendered.overlay / "kustomization.yaml")["images"]
    }

    assert images == set_here
    assert not any(image.endswith(":latest") for image in images)


def test_base_leaves_tags_to_the_overlays() -> None:
    found = [line for file in (K8S / "base").rglob("*.yaml") for line in re.findall(r"image: \S+", file.read_text())]

    assert len(found) == len(SERVICES)
    assert not any(":" in line.removeprefix("image: ") for line in found)


@pytest.mark.parametrize("service", SERVICES)
def test_environment_is_settings_of_the_service(rendered: Any, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(f"services.{service}.settings")
    settings = getattr(module, f"{service.capitalize()}Settings")
    prefix = f"CASCADE_{service.upper()}_"
    environment = rendered.settings(service)
    assert {name for name in environment if name.startswith("CASCADE_")} == set(environment)
    unknown = {name for name in environment if name.removeprefix(prefix).lower() not in settings.model_fields}
    assert unknown == set()

    secrets = {"redis_url": "rediss://:TOKEN@redis:6379/0", "internal_token": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value or secrets[name.removeprefix(prefix).lower()])
    taken = settings(_env_file=None)

    container = rendered.one("Rollout", service)["spec"]["template"]["spec"]["containers"][0]
    assert taken.host == "0.0.0.0"  # noqa: S104  (a pod has no other address for its port)
    assert [port["containerPort"] for port in container["ports"]] == [taken.port]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for value in environment.values():
        if value.startswith("/"):
            assert any(value.startswith(f"{path}/") for path in mounted), value
    # what the service reads or writes by default lies on no volume: a path left at its default is a mistake
    for field in ("model_store", "feast_registry", "dataset"):
        if field in settings.model_fields:
            assert f"{prefix}{field.upper()}" in environment


def test_gateway_calls_the_services_that_are_there(rendered: Any) -> None:
    environment = rendered.settings("gateway")
    for name in BEHIND_THE_GATEWAY:
        (port,) = rendered.one("Service", name)["spec"]["ports"]
        assert environment[f"CASCADE_GATEWAY_{name.upper()}_URL"] == f"http://{name}:{port['port']}"


def test_pods_have_time_to_finish(rendered: Any) -> None:
    for name in SERVICES:
        pod = rendered.one("Rollout", name)["spec"]["template"]["spec"]
        before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        settings = getattr(import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings")
        given = rendered.settings(name).get(f"CASCADE_{name.upper()}_SHUTDOWN_TIMEOUT_S")
        shutdown = int(given or settings.model_fields["shutdown_timeout_s"].default)
        assert before >= 5
        assert pod["terminationGracePeriodSeconds"] > before + shutdown, name


def test_autoscalers_own_the_replicas(rendered: Any) -> None:
    for name, scaler in rendered.of("HorizontalPodAutoscaler").items():
        target, spec = scaler["spec"]["scaleTargetRef"], scaler["spec"]
        rollout = rendered.one(target["kind"], target["name"])
        assert (target["name"], target["apiVersion"]) == (name, rollout["apiVersion"])
        assert "replicas" not in rollout["spec"]
        assert [metric["type"] for metric in spec["metrics"]] == ["Pods", "Resource"]
        assert spec["minReplicas"] < spec["maxReplicas"]
        assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300
        assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
        queue = spec["metrics"][0]["pods"]["metric"]["name"]
        assert name not in BEHIND_THE_GATEWAY or queue == "cascade_queue_wait_seconds_mean"


def test_new_code_comes_in_steps_with_a_pause_each(rendered: Any) -> None:
    templates = rendered.of("AnalysisTemplate")
    for name in SERVICES:
        canary = rendered.one("Rollout", name)["spec"]["strategy"]["canary"]
        assert [step["setWeight"] for step in canary["steps"] if "setWeight" in step] == [1, 5, 25, 100]
        assert [("pause" in step) for step in canary["steps"]] == [False, True] * 3 + [False]
        assert canary["maxUnavailable"] == 0
        analysis = canary["analysis"]
        given = {arg["name"] for arg in analysis["args"]}
        for template in analysis["templates"]:
            spec = templates[template["templateName"]]["spec"]
            needed = {arg["name"] for arg in spec["args"] if "value" not in arg}
            assert needed <= given
            declared = {arg["name"] for arg in spec["args"]}
            for metric in spec["metrics"]:
                used = set(re.findall(r"\{\{args\.([\w-]+)\}\}", str(metric)))
                assert used <= declared, metric["name"]


def test_gpu_pods_ask_for_one_and_tolerate_its_nodes(rendered: Any) -> None:
    for name, pod, container in rendered.containers():
        wants = container["resources"]["limits"].get("nvidia.com/gpu")
        device = rendered.settings(name).get(f"CASCADE_{name.upper()}_DEVICE") if name in SERVICES else None
        assert (device == "cuda") == (wants == 1), name
        if wants:
            assert container["image"].endswith("-cuda")
            assert container["resources"]["requests"]["nvidia.com/gpu"] == wants
            (pool,) = [p for p in rendered.of("NodePool").values() if "taints" in p["spec"]["template"]["spec"]]
            assert pod["nodeSelector"].items() <= pool["spec"]["template"]["metadata"]["labels"].items()
            taints = {taint["key"] for taint in pool["spec"]["template"]["spec"]["taints"]}
            assert taints <= {toleration["key"] for toleration in pod["tolerations"]}
            assert "nvidia.com/gpu" in pool["spec"]["limits"]


def test_eks_has_gpus_and_local_has_none(rendered: Any) -> None:
    asking = {n for n, _, container in rendered.containers() if "nvidia.com/gpu" in container["resources"]["limits"]}

    assert asking == ({"retrieval", "ranker"} if rendered.overlay == "eks" else set())


def test_node_pools_have_room_for_every_gpu_pod(rendered: Any) -> None:
    wanted = 0
    for name, _, container in rendered.containers():
        if gpus := container["resources"]["limits"].get("nvidia.com/gpu"):
            most = rendered.one("HorizontalPodAutoscaler", name)["spec"]["maxReplicas"]
            surge = rendered.one("Rollout", name)["spec"]["strategy"]["canary"]["maxSurge"]
            wanted += gpus * most * (100 + int(surge.removesuffix("%"))) // 100
    limits = [pool["spec"]["limits"].get("nvidia.com/gpu", 0) for pool in rendered.of("NodePool").values()]

    assert wanted <= sum(map(int, limits))


def test_node_pools_are_bounded_and_consolidate(rendered: Any) -> None:
    classes = rendered.of("EC2NodeClass")
    for pool in rendered.of("NodePool").values():
        spec = pool["spec"]
        assert {"cpu", "memory"} <= set(spec["limits"])
        assert spec["disruption"]["consolidationPolicy"] == "WhenEmptyOrUnderutilized"
        assert spec["template"]["spec"]["nodeClassRef"]["name"] in classes
        capacity = [
            rule["values"] for rule in spec["template"]["spec"]["requirements"] if "capacity-type" in rule["key"]
        ]
        assert capacity == [["spot", "on-demand"]]


def test_visitors_reach_the_public_api_alone(rendered: Any) -> None:
    for ingress in rendered.of("Ingress").values():
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        assert {(path["path"], path["pathType"]) for path in paths} == {
            ("/v1", "Prefix"),
            ("/images", "Prefix"),
            ("/", "Exact"),
        }
        for path in paths:
            service = rendered.one("Service", path["backend"]["service"]["name"])
            assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize("header", ["TRACK", "TRACE"])
def test_visitors_from_the_internet_choose_neither_their_tracks_nor_to_be_traced(rendered: Any, header: str) -> None:
    public = bool(rendered.of("Ingress"))

    assert (rendered.settings("gateway").get(f"CASCADE_GATEWAY_{header}_HEADER") == "false") == public


def test_secrets_that_are_read_are_there(rendered: Any) -> None:
    external = [found["spec"] for found in rendered.of("ExternalSecret").values()]
    keys = {spec["target"]["name"]: {data["secretKey"] for data in spec["data"]} for spec in external}
    keys |= {name: set(found.get("data", {})) for name, found in rendered.of("Secret").items()}
    for name, _, container in rendered.containers():
        for entry in container.get("env", []):
            reference = entry["valueFrom"]["secretKeyRef"]
            if not reference.get("optional") or _in_production(rendered):
                assert reference["key"] in keys[reference["name"]], name


def _in_production(rendered: Any) -> bool:
    """Whether all services are; some of them alone would be a mistake."""
    (profile,) = {rendered.settings(service)[f"CASCADE_{service.upper()}_PROFILE"] for service in SERVICES}
    return bool(profile == "production")


def test_whoever_is_open_to_others_is_in_production(rendered: Any) -> None:
    assert _in_production(rendered) == (rendered.overlay != "local")


def test_in_production_every_service_asks_for_the_same_token_and_prometheus_has_it(rendered: Any) -> None:
    references = set()
    for service in SERVICES:
        container = rendered.one("Rollout", service)["spec"]["template"]["spec"]["containers"][0]
        environment = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container["env"]}
        reference = environment[f"CASCADE_{service.upper()}_INTERNAL_TOKEN"]
        references.add((reference["name"], reference["key"]))
    assert references == {("access", "internal-token")}
    (endpoint,) = rendered.one("ServiceMonitor", "cascade")["spec"]["endpoints"]
    sent = {"credentials": {"name": "access", "key": "internal-token"}}
    assert endpoint.get("authorization") == (sent if _in_production(rendered) else None)


def test_the_gateway_reads_its_keys_from_a_secret_that_is_replaced_while_it_runs(rendered: Any) -> None:
    pod = rendered.one("Rollout", "gateway")["spec"]["template"]["spec"]
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "access")
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "access")
    assert "subPath" not in mount, "a file mounted by itself is never replaced"
    path = f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert path == rendered.settings("gateway")["CASCADE_GATEWAY_API_KEYS_FILE"]
    assert volume["secret"]["defaultMode"] == 0o440


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found
