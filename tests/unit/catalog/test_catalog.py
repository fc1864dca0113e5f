"""The price and GPU tables: every row is checked when it is read, and names are matched."""

import csv
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.catalog.catalog import ages, install, load_catalog
from orchestrator.catalog.fetching import fetch_table
from orchestrator.catalog.gpus import BUNDLED_GPUS, bundled_gpus, load_gpus
from orchestrator.catalog.offers import BUNDLED_OFFERS, load_offers
from orchestrator.catalog.rows import CatalogError

TODAY = date(2026, 7, 1)
HEADER = BUNDLED_OFFERS.read_text(encoding="utf-8").splitlines()[0]
GOOD = "acme,small,T4,1,16,32,8,eu,0.50,0.20,price page,2026-06-30,"


def table(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows, ""]).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("RTX4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("RTX 4090 Laptop", "RTX 4090 Laptop"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"),
    ],
)
def test_drivers_and_providers_names_are_understood(name, model):
    gpu = bundled_gpus().find(name)
    assert gpu is not None
    assert gpu.name == model


@pytest.mark.parametrize("name", ["", "Quadro RTX 6000", "A1000", "T4G", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"])
def test_what_only_looks_alike_is_not_matched(name):
    assert bundled_gpus().find(name) is None


def test_a_name_of_two_sizes_is_told_apart_by_vram_and_else_the_smaller():
    gpus = bundled_gpus()
    assert [gpu.name for gpu in (gpus.find("A100"), gpus.find("V100")) if gpu] == ["A100 40GB", "V100 16GB"]
    by_size = gpus.find("A100", 80 * 10**9)
    assert by_size is not None
    assert by_size.marketing_bytes == 80 * 10**9


def test_usable_vram_is_less_than_the_driver_reports():
    t4 = bundled_gpus().find("T4")
    assert t4 is not None
    assert t4.usable_bytes == pytest.approx(14.56 * 2**30, rel=0.001)
    assert all(0.93 * gpu.vram_bytes < gpu.usable_bytes < gpu.vram_bytes for gpu in bundled_gpus().gpus)


def test_the_bundled_prices_are_sound_and_say_where_they_are_from():
    offers = load_offers(BUNDLED_OFFERS, bundled_gpus())
    assert len(offers) > 200
    assert all(offer.source and offer.dated for offer in offers)
    free = [offer for offer in offers if not offer.micros_per_hour]
    assert [(offer.provider, offer.instance) for offer in free] == [("colab", "free T4")]


def test_what_the_notes_say_of_a_price_is_respected():
    offers = load_offers(BUNDLED_OFFERS, bundled_gpus())
    with BUNDLED_OFFERS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for offer, row in zip(offers, rows, strict=True):
        assert offer.old == (row["note"] == "old")
        assert offer.unverified or "MEMORY" not in row["source"]
        assert offer.partial or "accelerator part" not in row["note"]
    recent = date(2025, 7, 1)
    assert all(offer.stale(recent) for offer in offers if offer.old), "old stays old, whatever its date"


def test_a_slice_of_a_gpu_has_its_share_of_vram():
    offers = load_offers(BUNDLED_OFFERS, bundled_gpus())
    half = next(offer for offer in offers if offer.gpu_count == 0.5)
    assert half.vram_bytes == pytest.approx(12e9, rel=0.05)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (GOOD.replace("0.50", "0"), "on_demand_usd_h is 0"),
        (GOOD.replace("0.50", "-1"), "'-1' is not an amount of money"),
        (GOOD.replace("0.50", ""), "on_demand_usd_h is empty"),
        (GOOD.replace("0.20", "0.70"), "spot_usd_h is 0.70, above the price on demand of 0.50"),
        (GOOD.replace("0.20", "0"), "spot_usd_h is 0"),
        (GOOD.replace(",16,", ",24,"), "vram_gb_per_gpu is 24, but a T4 has 16 GB"),
        (GOOD.replace(",T4,", ",Voodoo 2,"), "gpu_name is 'Voodoo 2'"),
        (GOOD.replace(",1,16", ",-1,16"), "gpu_count is -1, which is not above 0"),
        (GOOD.replace(",32,", ",lots,"), "ram_gb is 'lots', which is not a number"),
        (GOOD.replace("2026-06-30", "soon"), "date is 'soon'"),
        (GOOD.replace("2026-06-30", "2026-13-01"), "date is '2026-13-01'"),
        (GOOD.replace("price page", ""), "source is empty"),
        (GOOD + ",more", "more or fewer cells"),
        ("acme,small", "more or fewer cells"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line_and_nothing_changes(folder, row, said):
    with pytest.raises(CatalogError) as caught:
        install(folder, "mine.csv", table(GOOD, row), TODAY)
    assert "mine.csv, line 3: " in str(caught.value)
    assert said in str(caught.value)
    assert not folder.exists()
    assert load_catalog(folder).refreshed is None


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe\x00", "UTF-8"), (b"", "columns are missing"), (b"a,b\n1,2\n", "provider")]
)
def test_what_is_no_price_table_is_refused(folder, content, said):
    with pytest.raises(CatalogError, match=said):
        install(folder, "mine.csv", content, TODAY)


def test_the_users_table_replaces_provider_by_provider_and_the_newest_counts(folder):
    install(folder, "mine.csv", table(GOOD.replace("0.50", "0.90")), date(2026, 6, 1))
    install(folder, "mine.csv", table(GOOD, GOOD.replace("acme", "lambda")), TODAY)
    catalog = load_catalog(folder)
    assert catalog.refreshed == TODAY
    assert [o.micros_per_hour for o in catalog.offers if o.provider == "acme"] == [500_000]
    assert [o.instance for o in catalog.offers if o.provider == "lambda"] == ["small"]
    assert any(o.provider == "runpod" for o in catalog.offers)


def test_ages_tell_what_is_stale(folder):
    install(folder, "mine.csv", table(GOOD, GOOD.replace("2026-06-30", "2025")), TODAY)
    age = next(age for age in ages(load_catalog(folder).offers, TODAY) if age.provider == "acme")
    assert (age.rows, age.oldest, age.newest, age.stale) == (2, date(2025, 1, 1), date(2026, 6, 30), 1)


def test_a_gpu_whose_sizes_contradict_each_other_is_named(tmp_path):
    lines = BUNDLED_GPUS.read_text(encoding="utf-8").splitlines()
    wrong = tmp_path / "gpus.csv"
    wrong.write_text("\n".join([lines[0], lines[1].replace("15360", "81920")]), encoding="utf-8")
    with pytest.raises(CatalogError, match=r"line 2: VRAM of .* does not go with 16 GB"):
        load_gpus(wrong)


class Keeper(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/prices.csv" else 404)
        self.end_headers()
        self.wfile.write(table(GOOD))

    def log_message(self, *_: object) -> None:
        pass


def test_a_table_is_fetched_from_where_it_is_kept():
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        assert fetch_table(f"{at}/prices.csv") == table(GOOD)
        with pytest.raises(CatalogError, match="404"):
            fetch_table(f"{at}/gone.csv")
        server.shutdown()
    with pytest.raises(CatalogError, match="cannot be reached"):
        fetch_table(f"{at}/prices.csv")


@pytest.mark.parametrize("url", ["http://example.com/p.csv", "file:///etc/passwd", "ftp://example.com/p.csv"])
def test_only_https_is_fetched(url):
    with pytest.raises(CatalogError, match="only https"):
        fetch_table(url)
