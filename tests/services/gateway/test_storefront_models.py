"""Model versions over HTTP: looking is free, changing needs the key."""

from __future__ import annotations

import datetime as dt

import pytest

from cascade.access.api_keys import KeyFile, Scope, make_key
from cascade.canary import record as records
from cascade.canary.policy import Policy
from cascade.store import canary as canaries
from cascade.store.artifacts import GatewayArtifacts
from cascade.store.model_store import STABLE

KEY, KEPT = make_key("an admin", [Scope.admin])
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def versions(model_store):
    """The stable version of the gateway and a newer one."""
    old = model_store.alias("gateway", STABLE)
    artifacts = GatewayArtifacts.load(model_store.bundle("gateway", old).path)
    gates = {
        "passed": False,
        "stable": old,
        "candidate": "new",
        "gates": [
            {
                "slice": "all", "metric": "auc", "rows": 9, "stable": 0.9, "candidate": 0.8, "tolerance": 0.01,
                "passed": False, "note": "", "of a later release": 1,
            }
        ],
    }  # fmt: skip
    new = model_store.write(
        "gateway", GatewayArtifacts(dict(list(artifacts.items.items())[:10]), artifacts.popularity).save,
        training_days=[dt.date(2026, 1, 6)], parent=old, metrics={"auc": 0.8}, gates=gates,
    ).version  # fmt: skip
    return old, new


@pytest.fixture
def keys(tmp_path):
    """A file with the admin's key."""
    path = tmp_path / "api-keys.json"
    KeyFile(path).add(KEPT)
    return path


async def test_looking(open_gateway, versions):
    old, new = versions
    async with open_gateway(storefront=True) as client:
        answer = (await client.get("/v1/models")).json()
    assert not answer["can_change"]
    services = {one["service"]: one for one in answer["services"]}
    assert list(services) == ["retrieval", "ranker", "gateway"]
    assert services["ranker"]["versions"] == []
    newest, oldest = services["gateway"]["versions"]
    assert (newest["version"], newest["parent"], newest["aliases"]) == (new, old, [])
    assert (oldest["version"], oldest["aliases"], oldest["passed"]) == (old, ["stable"], None)
    assert newest["metrics"] == {"auc": 0.8}
    assert newest["passed"] is False
    assert newest["gates"][0]["candidate"] == 0.8


async def test_without_a_key_nothing_can_be_changed(open_gateway, versions):
    async with open_gateway(storefront=True) as client:
        for path in ("/v1/models/gateway/promote", "/v1/models/gateway/rollback"):
            assert (await client.post(path, json={"version": versions[1]}, headers=ADMIN)).status_code == 401


async def test_promotion_and_the_way_back(open_gateway, versions, keys):
    old, new = versions
    async with open_gateway(storefront=True, api_keys_file=keys) as client:
        assert (await client.get("/v1/models")).json()["can_change"]
        for headers in ({}, {"authorization": "Bearer something else altogether"}):
            refused = await client.post("/v1/models/gateway/promote", json={"version": new}, headers=headers)
            assert refused.status_code == 401
        assert (await client.get("/v1/items")).json()["total"] == 30
        done = await client.post("/v1/models/gateway/promote", json={"version": new}, headers=ADMIN)
        assert done.json() == {"service": "gateway", "stable": new, "previous": old, "changed": True}
        assert (await client.get("/v1/items")).json()["total"] == 10, "this gateway follows at once"
        back = await client.post("/v1/models/gateway/rollback", headers=ADMIN)
        assert back.json() == {"service": "gateway", "stable": old, "previous": new, "changed": True}
        assert (await client.get("/v1/items")).json()["total"] == 30


async def test_what_cannot_be_changed(open_gateway, versions, keys):
    async with open_gateway(storefront=True, api_keys_file=keys) as client:

        async def status(path, version):
            answer = await client.post(f"/v1/models/{path}", json={"version": version}, headers=ADMIN)
            return answer.status_code, answer.json()["type"].rpartition(":")[2]

        assert await status("nothing/promote", "x") == (404, "unknown-version")
        assert await status("gateway/promote", "20260101-none") == (404, "unknown-version")
        assert await status("gateway/promote", "../../etc") == (422, "validation")
        assert await status("gateway/rollback", "") == (409, "not-released")


async def test_a_harmed_version_is_listed_and_not_promoted(open_gateway, versions, model_store, keys):
    folder = model_store.bundle("gateway", versions[1]).path
    (folder / "popularity.json").write_text("{}")
    async with open_gateway(storefront=True, api_keys_file=keys) as client:
        refused = await client.post("/v1/models/gateway/promote", json={"version": versions[1]}, headers=ADMIN)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:cascade:problem:not-released")
        (folder / "manifest.json").write_text("{")
        listed = (await client.get("/v1/models")).json()["services"][2]["versions"]
        assert {one["version"]: one["fault"] for one in listed}[versions[1]] in (None, "BundleCorrupt")


@pytest.fixture
def two_rankers(model_store):
    """A stable version of the ranker and a newer one; what is in them matters to nobody here."""

    def write(content):
        return model_store.write(
            "ranker", lambda folder: (folder / "model.bin").write_text(content), training_days=[dt.date(2026, 1, 6)]
        ).version

    stable, newer = write("stable"), write("newer")
    model_store.set_alias("ranker", STABLE, stable)
    return stable, newer


async def test_a_canary_is_shown_with_what_its_judge_says(open_gateway, model_store, two_rankers):
    async def shown():
        services = {one["service"]: one for one in (await client.get("/v1/models")).json()["services"]}
        assert services["gateway"]["canary"] is None
        return services["ranker"]

    async with open_gateway(storefront=True) as client:
        assert (await shown())["canary"] is None
        canaries.start(model_store, "ranker", two_rankers[1], 5, lambda: 1_768_204_800.0)
        canaries.advance(model_store, "ranker", 25, lambda: 1_768_205_400.0)
        found = (await shown())["canary"]
        assert (found["version"], found["percent"], found["step"]) == (two_rankers[1], 25, 2)
        assert (found["state"], found["verdict"], found["judged"]) == ("running", "", None)
        assert found["started"] == "2026-01-12T08:00:00Z"
        assert found["changed"] == "2026-01-12T08:10:00Z"

        running = canaries.read(model_store, "ranker")
        record = records.begun(running, "a judge", 1_768_205_460.0, Policy(), None)
        records.write(model_store, "ranker", record)
        found = (await shown())["canary"]
        assert found["judged"] == "2026-01-12T08:11:00Z"
        assert found["evidence"] == [record.sentence(signal) for signal in record.tests]
        assert len(found["evidence"]) == 4

        canaries.abort(model_store, "ranker", "too slow", lambda: 1_768_206_000.0)
        found = (await shown())["canary"]
        assert (found["state"], found["percent"], found["reason"]) == ("aborted", 0, "too slow")
        # Another canary has another judge: what was noted of the one before is not told of it.
        canaries.start(model_store, "ranker", two_rankers[1], 5, lambda: 1_768_207_000.0)
        assert (await shown())["canary"]["evidence"] == []


async def test_a_canary_that_cannot_be_read_says_so(open_gateway, model_store, two_rankers):
    model_store.set_note("ranker", "canary.json", b"{}")
    async with open_gateway(storefront=True) as client:
        answer = await client.get("/v1/models")
    ranker = answer.json()["services"][1]
    assert ranker["canary"] is None
    assert "remove the file" in ranker["canary_fault"]
    assert len(ranker["versions"]) == 2
