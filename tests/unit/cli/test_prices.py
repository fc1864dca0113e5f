"""``gpujob offers`` and ``gpujob catalog``: what they list, and what a newer table changes."""

import json
import re
from pathlib import Path

import pytest

from orchestrator.catalog.offers import BUNDLED_OFFERS
from orchestrator.catalog.rows import CatalogError
from orchestrator.cli.prices import Wanted, refresh, show_age, show_offers
from orchestrator.home import Home

GB = 10**9
HEADER = BUNDLED_OFFERS.read_text(encoding="utf-8").splitlines()[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def listed(home: Home, wanted: Wanted, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    show_offers(home, wanted, 40, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_offers_are_those_asked_for_cheapest_first(home, capsys):
    found = listed(home, Wanted(gpu="A100", max_micros=2_000_000, min_vram_bytes=70 * GB, provider="runpod"), capsys)
    prices = [float(offer["usd_per_hour"]) for offer in found]
    assert found
    assert prices == sorted(prices)
    for offer in found:
        assert offer["gpu"].startswith("A100 80GB")
        assert offer["provider"] == "runpod"
        assert float(offer["spot_usd_per_hour"] or offer["usd_per_hour"]) <= 2


def test_a_laptop_gpu_is_not_the_desktop_one(home, capsys):
    assert {offer["gpu"] for offer in listed(home, Wanted(gpu="RTX 4090"), capsys)} == {"RTX 4090"}


def test_no_offer_is_exit_code_3_and_says_what_to_do(home, capsys):
    assert show_offers(home, Wanted(gpu="H100", max_micros=1), 40, as_json=False) == 3
    assert "gpujob offers" in capsys.readouterr().out


def test_the_table_marks_what_to_mind_and_says_how_many_more(home, capsys):
    assert show_offers(home, Wanted(provider="gcp"), 5, as_json=False) == 0
    text = capsys.readouterr().out
    assert "5 more, dearer" in text
    assert re.search(r"T4 .* stale, unverified", text)
    assert re.search(r"^partial: ", text, re.MULTILINE)


def test_a_refreshed_table_is_in_force_and_dated(home, tmp_path, capsys):
    mine = tmp_path / "mine.csv"
    mine.write_text(f"{HEADER}\nmodal,T4,T4,1,16,,,any,0.30,,price page,2026-11-20,\n", encoding="utf-8")
    assert refresh(home, str(mine)) == 0
    capsys.readouterr()
    assert [offer["usd_per_hour"] for offer in listed(home, Wanted(provider="modal"), capsys)] == ["0.30"]
    show_age(home, as_json=True)
    age = json.loads(capsys.readouterr().out)
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", age["refreshed"])
    assert {"provider": "modal", "offers": 1, "oldest": "2026-11-20", "newest": "2026-11-20"}.items() <= next(
        each for each in age["providers"] if each["provider"] == "modal"
    ).items()


@pytest.mark.parametrize(
    ("source", "said"), [(None, "catalog.url"), ("no.csv", "No such file"), ("http://a.b/c", "https")]
)
def test_without_a_usable_source_nothing_changes(home, source, said):
    with pytest.raises(CatalogError, match=re.escape(said)):
        refresh(home, source)
    assert not home.catalog.exists()
