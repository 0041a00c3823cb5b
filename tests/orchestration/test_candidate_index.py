"""What the page of an index says of its choice."""

from __future__ import annotations

from cascade.index.build import IndexChoice
from cascade.index.choose import Trial
from orchestration.assets.training import about_index


def test_the_choice_and_what_else_was_tried_are_shown() -> None:
    tried = (
        Trial("ivf_sq8", {"nprobe": 40}, 0.9731, 300.0, True),
        Trial("ivf_pq", {"nprobe": 31, "k_factor_rf": 2}, 0.9512, 299.0, False),
    )
    choice = IndexChoice("ivf_sq8", {"structure": "ivf_sq8", "nprobe": 40}, 0.9731, 300, "since it is quick", tried)
    told = about_index(choice, 512)
    assert (told["kind"], told["recall"], told["queries"]) == ("ivf_sq8", 0.9731, 512)
    assert told["reason"] == "since it is quick"
    assert told["parameters"].value == {"structure": "ivf_sq8", "nprobe": 40}
    lines = told["tried"].value.splitlines()
    assert len(lines) == 4
    assert "0.9731 | 0.30 | reaches it" in lines[2]
    assert "0.9512 | 0.30 | falls short" in lines[3]


def test_flat_without_asking_has_no_table() -> None:
    assert "tried" not in about_index(IndexChoice("flat", {}, 1.0, 300, "small"), 10)
