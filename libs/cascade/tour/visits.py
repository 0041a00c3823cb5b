"""Chapters about lists: a known visitor, a new one, what was seen, and how clicks change what comes next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cascade.api.gateway import InteractionRequest, Item, RecommendationRequest, RecommendedItem
from cascade.tour.guide import Guide, add_row, new_table, side_by_side
from cascade.tour.shop import Shop

CLICKS = 5
LONG = 30
"""Length of the lists whose categories are counted."""
_FOLLOWS_S = 10.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Visits:
    """visitor: the tour's own, whom the shop forgets afterwards."""

    shop: Shop
    guide: Guide
    visitor: str

    def known(self) -> None:
        """A visitor the models know."""
        guide = self.guide
        guide.chapter(
            "A visitor whom the shop knows", "Features come from Feast's online store, candidates from FAISS."
        )
        found = self.shop.users(12).users
        if not found:
            guide.say("The online store knows nobody: the build writes it, so build first (`cascade up`).")
            return
        user = next((one for one in found if one.top_category), found[0])
        profile = self.shop.profile(user.user_id)
        guide.say(
            f"{user.user_id}: age {_known(user.age)}, gender {_known(user.gender)}, "
            f"top category {_known(user.top_category)}."
        )
        if profile.recent:
            table = new_table("Latest interactions", "when (UTC)", "what", "item", "category")
            for one in profile.recent[:5]:
                moment = datetime.fromtimestamp(one.timestamp, UTC)
                add_row(
                    table,
                    f"{moment:%Y-%m-%d %H:%M}",
                    one.event_type,
                    one.title or one.item_id,
                    one.category_l1 or "",
                )
            guide.table(table)
        request = RecommendationRequest(user_id=user.user_id, k=10)
        answer = self.shop.recommend(request)
        table = new_table(f"The list for {user.user_id}", "#", "item", "category", "click")
        for rank, item in enumerate(answer.items, start=1):
            add_row(table, str(rank), item.title or item.item_id, item.category_l1, _score(item))
        guide.table(table)
        self._degraded(answer.degraded)
        guide.say(f"Made in {answer.timings.total_ms:.1f} ms by {_versions(answer.versions)}.")
        guide.look("the categories beside those of the latest interactions; `click` is the ranker's probability.")
        guide.by_hand(f"cascade recommend {user.user_id}", self.shop.curl_list(request))

    def newcomer(self) -> None:
        """One whom nobody knows, in two situations."""
        guide = self.guide
        guide.chapter(
            "A new visitor: morning on a phone, evening at a desktop",
            "Nothing is known but the device and the hour, so they alone make the difference.",
        )
        today = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        lists, commands = [], []
        for name, device, hour in (("phone, 8 h", "mobile", 8), ("desktop, 22 h", "desktop", 22)):
            moment = int(today.replace(hour=hour).timestamp())
            request = RecommendationRequest(user_id=self.visitor, k=10, device_type=device, timestamp=moment)
            answer = self.shop.recommend(request)
            self._degraded(answer.degraded)
            lists.append((name, answer.items))
            commands.append(self.shop.curl_list(request))
        guide.table(side_by_side(*lists))
        guide.look("the items marked •: they stand in one of the lists alone.")
        guide.by_hand(*commands)

    def seen(self) -> None:
        """What was met is not shown again."""
        guide = self.guide
        guide.chapter("What was seen leaves", "A click is answered when one atomic step in Redis has hidden the item.")
        request = RecommendationRequest(user_id=self.visitor, k=10)
        before = self.shop.recommend(request)
        clicked = before.items[:2]
        events = [
            InteractionRequest(user_id=self.visitor, item_id=item.item_id, request_id=before.request_id)
            for item in clicked
        ]
        for event in events:
            self.shop.interact(event)
        after = self.shop.recommend(request)
        guide.say(f"Clicked: {', '.join(item.title or item.item_id for item in clicked)}.")
        guide.table(side_by_side(("before", before.items), ("after", after.items)))
        self._degraded(after.degraded)
        still = {item.item_id for item in clicked} & {item.item_id for item in after.items}
        guide.say(
            "Both are gone."
            if not still
            else f"{len(still)} of them are still there: the filter did not answer in time."
        )
        guide.look(
            "the places of the two: others have moved up, and the visitor's list has begun to follow the clicks."
        )
        guide.by_hand(*(self.shop.curl_event(event) for event in events), self.shop.curl_list(request))

    def shift(self) -> None:
        """Clicks in a category that the list has little of."""
        guide = self.guide
        guide.chapter(
            "Preferences shift",
            f"{CLICKS} clicks in one category. The query tower reads them in the very next request; the features "
            "worker makes the category the visitor's top one within a second.",
        )
        request = RecommendationRequest(user_id=self.visitor, k=LONG)
        before = self.shop.recommend(request)
        category, clicked = self._rare(before.items)
        if not clicked:
            guide.say("The catalog has no categories, so there is none to shift to.")
            return
        guide.say(f"{CLICKS} clicks on {category}: {', '.join(item.title or item.item_id for item in clicked)}.")
        began = time.monotonic()
        events = [InteractionRequest(user_id=self.visitor, item_id=item.item_id) for item in clicked]
        for event in events:
            self.shop.interact(event)
        with guide.waiting("Waiting for the features …"):
            while (top := self.shop.profile(self.visitor).features.top_category) != category:
                if time.monotonic() - began > _FOLLOWS_S:
                    break
                time.sleep(_LOOK_S)
        took = time.monotonic() - began
        after = self.shop.recommend(request)
        self._degraded(after.degraded)
        then, now = (Counter(item.category_l1 for item in one.items) for one in (before, after))
        table = new_table(f"Categories of {LONG} items", "category", "before", "after")
        most = [name for name, _ in (then + now).most_common(6)]
        for name in dict.fromkeys([category, *most]):
            add_row(table, name, str(then[name]), str(now[name]), style="bold" if name == category else "")
        guide.table(table)
        guide.table(side_by_side(("before", before.items), ("after", after.items)))
        guide.say(f"Top category now: {_known(top)}, {took:.1f} s after the first click.")
        guide.look(f"{category}: {then[category]} of {LONG} items before, {now[category]} after.")
        guide.by_hand(self.shop.curl_event(events[0]), self.shop.curl_list(request))

    def _rare(self, shown: Sequence[RecommendedItem]) -> tuple[str, list[Item]]:
        """Of the larger half of the categories the one that the list has least of, and items outside the list."""
        here = Counter(item.category_l1 for item in shown)
        ids = {item.item_id for item in shown}
        by_size = sorted(self.shop.facets().categories, key=lambda one: -one.items)
        named = [one.name for one in by_size[: max(1, (len(by_size) + 1) // 2)] if one.name]
        for category in sorted(named, key=lambda name: here[name]):
            outside = [item for item in self.shop.items(category, 100).items if item.item_id not in ids]
            if outside:
                return category, [outside[at % len(outside)] for at in range(CLICKS)]
        return "", []

    def _degraded(self, stages: Sequence[str]) -> None:
        if stages:
            self.guide.say(f"This list was made without: {', '.join(stages)}.")


def _known(value: object) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _score(item: RecommendedItem) -> str:
    return "–" if item.score is None else f"{item.score:.1%}"


def _versions(versions: object) -> str:
    items = versions.items() if isinstance(versions, dict) else ()
    return ", ".join(f"{stage} {one.version}" for stage, one in items)
