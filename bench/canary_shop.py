"""A shop whose ranker has a canary: two gateways, the services and Redis as processes, and visitors who click.

Works on a copy of a built state folder. Visitors click by the truth of the built-in shop: each wants a few items, drawn
from the probabilities that the shop's generator drew its interactions from, and clicks on the list if it has one.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import redis
import torch

from bench.faulty_ranker import FAULTS
from bench.system import Running, System
from cascade.api.impressions import Impression
from cascade.canary.judge import Ending
from cascade.canary.wiring import judge_of
from cascade.data.generator import Shop
from cascade.local.parts import python
from cascade.models import Dlrm
from cascade.online import keys
from cascade.online.impressions import impression_of
from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store import canary as canaries
from cascade.store.artifacts import RankerArtifacts
from services.gateway.tracks import Draw

SERVICE = "ranker"
NOON = 1_768_219_200  # 2026-01-12 12:00 UTC
_K = 20
_WANTED = 2
_ROWS = 512
_KNOWN = 0.5
"""Share of the visitors whom the shop knows; the others come for the first time."""


@dataclass(frozen=True)
class Answer:
    """What a visitor got. sent: UTC seconds; seconds: until the answer was there."""

    user: str
    sent: float
    seconds: float
    status: int
    degraded: tuple[str, ...]


class Visitors:
    """Ask at a steady rate, whether or not earlier ones were answered, and click."""

    def __init__(self, urls: Sequence[str], shop: Shop, known: Sequence[str], rate: float, seed: int = 7) -> None:
        self.answers: list[Answer] = []
        self.clicks = 0
        self._urls = urls
        self._shop = shop
        self._known = list(known)
        self._rate = rate
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311  (which visitors come is no secret)
        self._rng = np.random.default_rng(seed)
        self._items: list[str] = shop.catalog.table.column("item_id").to_pylist()
        self._ended = threading.Event()
        self._random.shuffle(self._known)
        self._cold = self._chances("nobody")

    @contextmanager
    def coming(self) -> Iterator[None]:
        """While the block runs."""
        thread = threading.Thread(target=lambda: asyncio.run(self._come()))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    async def _come(self) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            asking: set[asyncio.Task[None]] = set()
            began, number = time.monotonic(), 0
            while not self._ended.is_set():
                task = asyncio.create_task(self._visit(client, number))
                asking.add(task)
                task.add_done_callback(asking.discard)
                number += 1
                await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
            await asyncio.gather(*asking)

    async def _visit(self, client: httpx.AsyncClient, number: int) -> None:
        known = self._random.random() < _KNOWN
        user = self._known[number % len(self._known)] if known else f"visitor-{self._seed}-{number}"
        url, sent, began = self._urls[number % len(self._urls)], time.time(), time.perf_counter()
        body = {"user_id": user, "k": _K, "device_type": "mobile", "timestamp": NOON}
        try:
            answer = await client.post(f"{url}/v1/recommendations", json=body)
        except httpx.HTTPError:
            self.answers.append(Answer(user, sent, time.perf_counter() - began, 0, ()))
            return
        took = time.perf_counter() - began
        content = answer.json() if answer.is_success else {"degraded": [], "items": []}
        self.answers.append(Answer(user, sent, took, answer.status_code, tuple(content["degraded"])))
        shown = {item["item_id"] for item in content["items"]}
        wanted = self._rng.choice(len(self._items), _WANTED, p=self._chances(user) if known else self._cold)
        met = [self._items[item] for item in wanted if self._items[item] in shown]
        if met:
            click = {"user_id": user, "item_id": met[0], "request_id": content["request_id"]}
            answered = await client.post(f"{url}/v1/interactions", json=click)
            self.clicks += answered.is_success

    def _chances(self, user: str) -> np.ndarray:
        chances = self._shop.click_probability([user], None, ["mobile"], [NOON], [[]])[0].astype(np.float64)
        return chances / chances.sum()


@dataclass(frozen=True)
class Course:
    """How a canary went. seconds: from its start to its end.

    off_s: from the end until the last gateway sent nobody there
    shown: lists of the time, in order, with the moment each was logged (UTC seconds)
    """

    ending: Ending
    seconds: float
    off_s: float
    answers: Sequence[Answer]
    shown: Sequence[tuple[float, Impression]]
    clicks: int

    @property
    def failed(self) -> int:
        """Answers that were none."""
        return sum(answer.status != 200 for answer in self.answers)

    @property
    def degraded(self) -> int:
        """Lists made without a stage."""
        return sum(bool(answer.degraded) for answer in self.answers)

    @property
    def faults(self) -> str:
        """What went wrong, whoever's fault it was."""
        told = [f"status {answer.status}" for answer in self.answers if answer.status != 200]
        told += [f"without {' and '.join(answer.degraded)}" for answer in self.answers if answer.degraded]
        return ", ".join(f"{count} {what}" for what, count in Counter(told).items()) or "–"

    @property
    def harmed(self) -> int:
        """Of the users who had the canary: answers that were none, and lists made without a stage."""
        draw = Draw(SERVICE, replace(self.ending.canary, percent=self.ending.record.percent))
        wrong = (answer for answer in self.answers if answer.status != 200 or answer.degraded)
        return sum(draw.has(answer.user) for answer in wrong)


class CanaryShop:
    """The processes, and how to try a version on their visitors."""

    def __init__(self, system: System, gateways: Sequence[Running], faults: Path, values: dict[str, object]) -> None:
        self.gateways = gateways
        self.store = ModelStore(system.settings.model_store_url)
        self.users = system.users
        self._redis_url = system.redis_url
        self._faults = faults
        self._shop = Shop.load(system.settings.dataset_dir)
        urls = ",".join(gateway.url for gateway in gateways)
        base = system.settings.model_dump() | {"canary_gateways": urls, "redis_url": system.redis_url}
        self.settings = Settings(_env_file=None, **(base | values))

    def variant(self, name: str, *, slow_s: float | None = None, failing: bool = False, random_: bool = False) -> str:
        """A version like the stable one but for this; → its version."""
        stable = self.store.bundle(SERVICE, "stable")
        ranker = RankerArtifacts.load(stable.path)
        if random_:
            torch.manual_seed(1)
            ranker = replace(ranker, dlrm=Dlrm(ranker.dlrm.config).eval())
        lineage = {**stable.manifest.lineage, "tried_as": name}
        made = self.store.write(
            SERVICE, ranker.save, training_days=stable.manifest.training_days, lineage=lineage, parent=stable.version
        )
        if slow_s is not None or failing:
            faults = json.loads(self._faults.read_text())
            self._faults.write_text(json.dumps({**faults, made.version: None if failing else slow_s}))
        return made.version

    def tried(self, version: str, rate: float) -> Course:
        """Start it as the canary while visitors come, judge it, and see the gateways let go of it."""
        # Others than before: who comes again finds what he wanted filtered out, and clicks on nothing.
        visitors = Visitors(
            [gateway.url for gateway in self.gateways],
            self._shop,
            self.users,
            rate,
            seed=len(self.store.versions(SERVICE)),
        )
        with redis.Redis.from_url(self._redis_url) as client:
            first = client.time()[0]
            with visitors.coming():
                began = time.time()
                canaries.start(self.store, SERVICE, version, self.settings.canary_steps[0])
                with judge_of(self.settings, SERVICE, lambda canary, record: None) as judge:
                    ending = judge.run()
                self._await_nobody()
                off = time.time()
                time.sleep(1.0)
            entries = client.xrange(keys.IMPRESSIONS, f"{first}000")
        shown = [(int(entry.split(b"-")[0]) / 1000, impression_of(fields)) for entry, fields in entries]
        return Course(
            ending, ending.canary.changed - began, off - ending.canary.changed, visitors.answers, shown, visitors.clicks
        )

    def _await_nobody(self) -> None:
        """Until every gateway's own gauge says that nobody is sent to the canary."""
        deadline = time.monotonic() + 60
        while any(_percent(gateway.url) for gateway in self.gateways):
            assert time.monotonic() < deadline, "a gateway still sends users to the canary"
            time.sleep(0.1)


def _percent(url: str) -> float:
    page = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text
    line = next(line for line in page.splitlines() if line.startswith(f'cascade_canary_percent{{service="{SERVICE}"}}'))
    return float(line.rpartition(" ")[2])


@contextmanager
def canary_shop(
    state: Path, folder: Path, canary: dict[str, object], replicas: int = 2, teach: int = 0, **environment: str
) -> Iterator[CanaryShop]:
    """Over a copy of a built state folder.

    canary: settings of the judge; teach: steps of `taught` for the stable ranker; environment: of gateways and services
    """
    copy = folder / "state"
    for name in ("models", "feast", "shop", "redis"):
        shutil.copytree(state / name, copy / name)
    if teach:
        _teach(ModelStore(copy / "models"), Shop.load(copy / "shop"), teach)
    faults = folder / "faults.json"
    faults.write_text("{}")
    with ExitStack() as stack:
        system = System(copy, stack)
        harmed = python("-m", "bench.faulty_ranker")
        with ThreadPoolExecutor() as starting:  # each takes seconds to import what it needs
            behind = {name: starting.submit(system.service, name, **environment) for name in ("retrieval", "filter")}
            behind[SERVICE] = starting.submit(
                system.service, SERVICE, argv=harmed, **{FAULTS: str(faults)}, **environment
            )
            running = {name: started.result() for name, started in behind.items()}
            gateways = [starting.submit(system.gateway, running, **environment) for _ in range(replicas)]
        yield CanaryShop(system, [started.result() for started in gateways], faults, canary)


@dataclass(frozen=True)
class Steadiness:
    """Of the visitors of a canary, outside the seconds in which gateways learn of a new step.

    lists: looked at; strays: of a track that is not their user's by the draw; flips: users with both tracks in one step
    share_off: by how much the draw's share of many users is off the wanted one, in points, at most
    """

    lists: int
    strays: int
    flips: int
    share_off: float


def steadiness(course: Course, settle_s: float = 3.0, drawn: int = 100_000) -> Steadiness:
    """How true the gateways were to the canary's shares."""
    lists = strays = flips = 0
    share_off = 0.0
    for percent in dict.fromkeys(look.percent for look in course.ending.record.looks):
        times = [look.at for look in course.ending.record.looks if look.percent == percent]
        draw = Draw(SERVICE, replace(course.ending.canary, percent=percent))
        share = sum(draw.has(f"anybody-{number}") for number in range(drawn)) / drawn
        share_off = max(share_off, abs(100 * share - percent))
        tracks: dict[str, set[str]] = {}
        for at, shown in course.shown:
            track = shown.assigned.get(SERVICE)
            if track is not None and times[0] + settle_s <= at <= times[-1]:
                lists += 1
                strays += (track == "canary") != draw.has(shown.user_id)
                tracks.setdefault(shown.user_id, set()).add(track)
        flips += sum(len(seen) > 1 for seen in tracks.values())
    return Steadiness(lists, strays, flips, share_off)


def _teach(store: ModelStore, shop: Shop, steps: int) -> None:
    """Make a taught ranker the stable one."""
    stable = store.bundle(SERVICE, "stable")
    ranker, manifest = taught(RankerArtifacts.load(stable.path), shop, steps), stable.manifest
    made = store.write(SERVICE, ranker.save, training_days=manifest.training_days, lineage=manifest.lineage)
    store.set_alias(SERVICE, "stable", made.version)


def _without_histories(model: Dlrm) -> Dlrm:
    """The same network by its other inputs alone, and nothing added to its logits."""
    plain = Dlrm(replace(model.config, history_length=0)).eval()
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("matches.")}
    first = "over.0.weight"
    weights[first] = weights[first][:, : plain.state_dict()[first].shape[1]]
    plain.load_state_dict(weights)
    plain.calibration = model.calibration
    return plain


def taught(ranker: RankerArtifacts, shop: Shop, steps: int, seed: int = 3) -> RankerArtifacts:
    """The ranker, gone on learning from choices drawn by the shop's truth, at noon on a mobile phone.

    For a shop so small that its ranker is no better than chance: there would be nothing to tell a random one from.
    It reads no histories afterwards, since those it is taught by have none.
    """
    ranker = replace(ranker, dlrm=_without_histories(ranker.dlrm))
    known = shop.people.table.slice(0, 1000).to_pylist()
    fields = [(row["user_id"], row["age"], row["gender"], None) for row in known]
    fields += [(None, None, None, None)] * len(known)  # as many whom nobody knows
    users = ranker.user_transform.encode(*map(list, zip(*fields, strict=True)))
    context = ranker.context_transform.encode(["mobile"], [NOON])
    items, rng = ranker.items, np.random.default_rng(seed)
    asked = [row[0] or "nobody" for row in fields]
    count = len(asked)
    chances = shop.click_probability(asked, items.item_ids, ["mobile"] * count, [NOON] * count, [[]] * count)
    chosen_below = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(ranker.dlrm.train().parameters(), lr=3e-3)
    for _ in range(steps):
        user, clicked = rng.integers(count, size=_ROWS), np.arange(_ROWS) % 2 == 0
        by_truth = (rng.random((_ROWS, 1)) > chosen_below[user]).sum(axis=1).clip(max=len(items) - 1)
        shown = np.where(clicked, by_truth, rng.integers(len(items), size=_ROWS))
        here = np.zeros(_ROWS, np.int64)
        categorical = [users.categorical[user], items.categorical[shown], context.categorical[here]]
        continuous = [users.continuous[user], items.continuous[shown], context.continuous[here]]
        logits = ranker.dlrm(
            torch.from_numpy(np.concatenate(categorical, axis=1)),
            torch.from_numpy(np.concatenate(continuous, axis=1)),
            torch.from_numpy(items.image[shown]),
            torch.from_numpy(items.text[shown]),
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(clicked).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ranker.dlrm.eval()
    return ranker
