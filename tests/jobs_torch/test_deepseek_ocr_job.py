"""jobs/deepseek_ocr as a whole: its own command on tiny models, of transformers and with code of their own."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import jiwer
import jobs_kit
import pytest
import torch
from modules_kit import job_modules
from safetensors.torch import save_file
from tiny_deepseek import write_tiny_deepseek
from transformers import AutoModelForImageTextToText

ocr_eval, pages, reading, scoring, tiny_model = job_modules(
    "deepseek_ocr", "ocr_eval", "pages", "reading", "scoring", "tiny_model"
)

OWN_CODE = '''
"""Stands in for the code in the repository of DeepSeek-OCR: the same call, the same habits, another way of reading."""

import torch
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedModel


class CribbingConfig(PretrainedConfig):
    model_type = "cribbing"


class CribbingModel(PreTrainedModel):
    config_class = CribbingConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Linear(1, 1)
        self.post_init()

    def infer(self, tokenizer, prompt="", image_file="", output_path="", base_size=1024, image_size=640, crop_mode=True,
              test_compress=False, save_results=False, eval_mode=False):
        """Cribs from the text beside the picture, and gets every tenth character wrong."""
        seen = self.scale(torch.ones(1, 1).to(torch.bfloat16))  # the dtype by name, as theirs
        assert torch.isfinite(seen).all() and prompt.startswith("<image>") and tokenizer is not None
        if not eval_mode:
            return None
        text = Path(image_file).with_suffix(".txt").read_text().strip()
        return "".join("#" if place % 10 == 9 else sign for place, sign in enumerate(" ".join(text.split())))
'''


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """A folder with a model that brings its own code, as the hub would give it."""
    folder = tmp_path / "cribbing"
    tiny_model.make_tokenizer().save_pretrained(folder)
    (folder / "cribbing.py").write_text(OWN_CODE)
    auto_map = {"AutoConfig": "cribbing.CribbingConfig", "AutoModel": "cribbing.CribbingModel"}
    config = {"model_type": "cribbing", "auto_map": auto_map, "architectures": ["CribbingModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"scale.weight": torch.ones(1, 1), "scale.bias": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def evaluate(out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, Any]:
    """Run the job in this process, which has torch in memory already; returns its metrics."""
    out.mkdir(exist_ok=True)
    monkeypatch.chdir(out)
    monkeypatch.setattr("sys.argv", ["ocr_eval.py", "--out", "results", *more])
    assert ocr_eval.main() == 0
    return json.loads(Path("results", "metrics.json").read_text())


def predictions(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results" / "predictions.jsonl").read_text().splitlines()]


def check(metrics: dict[str, Any], out: Path) -> None:
    """What must hold of every result: rates are those of jiwer over all pages, and tables add up to the whole."""
    read = predictions(out)
    truths = [scoring.plain(row["text"]) for row in read]
    guesses = [scoring.plain(row["read"]) for row in read]
    assert metrics["cer"] == pytest.approx(jiwer.cer(truths, guesses), abs=1e-5)
    assert metrics["wer"] == pytest.approx(jiwer.wer(truths, guesses), abs=1e-5)
    for kind in ("document", "font", "size", "noise", "rotation"):
        rows = metrics[f"by_{kind}"]
        assert sum(row["pages"] for row in rows) == metrics["pages"] == len(read)
        assert sum(row["char_errors"] for row in rows) == metrics["char_errors"]
    worst = sorted(read, key=lambda row: -row["char_errors"] / row["chars"])
    assert metrics["worst"] == [row["name"] for row in worst[: len(metrics["worst"])]]
    for rank in range(1, len(metrics["worst"]) + 1):
        picture = (out / "results" / f"worst-{rank}.png").read_bytes()
        signature, width, _ = struct.unpack(">8s8xII", picture[:24])
        assert (signature, width) == (b"\x89PNG\r\n\x1a\n", 1400)
    assert metrics["peak_rss_bytes"] >= metrics["loading"]["peak_rss_bytes"] > 100_000_000


def test_smoke_runs_the_jobs_own_command(tmp_path: Path) -> None:
    done = jobs_kit.run_smoke("deepseek_ocr", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert json.loads((tmp_path / jobs_kit.TOLD).read_text()) == {"step_seconds": metrics["seconds_per_page"]}
    assert (metrics["model"], metrics["load"], metrics["pages"]) == ("tiny", "bf16", 2)
    check(metrics, tmp_path)
    assert metrics["wer"] > 0.9  # random weights read nothing


def test_a_model_with_its_own_infer_is_asked_by_it(
    own_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        load: evaluate(
            tmp_path / load, monkeypatch, "--model", str(own_code), "--load", load, "--count", "4", "--worst", "1"
        )
        for load in ("bf16", "fp16", "default")
    }
    for load, metrics in found.items():
        check(metrics, tmp_path / load)
        read = predictions(tmp_path / load)
        wrong = sum(len(scoring.plain(row["text"])) // 10 for row in read)
        assert abs(metrics["char_errors"] - wrong) <= len(read)
        assert len(metrics["by_document"]) == 4
    assert len({metrics["cer"] for metrics in found.values()}) == 1


@pytest.mark.parametrize("load", ["fp16", "nf4"])
def test_generating_twice_gives_the_same(load: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if load == "nf4":
        pytest.importorskip("bitsandbytes", reason="NOT TESTED: bitsandbytes is not installed")
    tiny = tiny_model.write_tiny_model(tmp_path / "tiny")
    asked = ("--model", str(tiny), "--load", load, "--count", "2", "--max-tokens", "6")
    one, two = (evaluate(tmp_path / name, monkeypatch, *asked) for name in ("one", "two"))
    check(one, tmp_path / "one")
    assert one["cer"] == two["cer"]
    assert [row["read"] for row in predictions(tmp_path / "one")] == [
        row["read"] for row in predictions(tmp_path / "two")
    ]


@pytest.mark.parametrize("load", ["bf16", "nf4"])
def test_deepseeks_next_reader_is_read_with_as_well(load: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if load == "nf4":
        pytest.importorskip("bitsandbytes", reason="NOT TESTED: bitsandbytes is not installed")
    folder = str(write_tiny_deepseek(tmp_path / "tiny", tiny_model.make_tokenizer()))
    metrics = evaluate(
        tmp_path / "run", monkeypatch, "--model", folder, "--load", load, "--count", "2", "--max-tokens", "6"
    )
    check(metrics, tmp_path / "run")
    assert all(0 < len(row["read"]) < 100 for row in predictions(tmp_path / "run"))  # six tokens, without the prompt
    net = AutoModelForImageTextToText.from_pretrained(folder, **reading.load_arguments(load))
    small = {name for name, weight in net.named_parameters() if weight.dtype == torch.uint8}
    assert bool(small) is (load == "nf4")
    assert all("language_model" in name for name in small)  # what sees stays in 16 bit


def test_loads_hold_the_weights_as_they_say(tmp_path: Path) -> None:
    tiny = str(tiny_model.write_tiny_model(tmp_path))
    wide = AutoModelForImageTextToText.from_pretrained(tiny).get_memory_footprint()
    for load, share in (("bf16", 0.5), ("fp16", 0.5)):
        net = AutoModelForImageTextToText.from_pretrained(tiny, **reading.load_arguments(load))
        assert net.get_memory_footprint() == pytest.approx(share * wide, rel=0.01)
    pytest.importorskip("bitsandbytes", reason="NOT TESTED: bitsandbytes is not installed")
    net = AutoModelForImageTextToText.from_pretrained(tiny, **reading.load_arguments("nf4"))
    matrices = [name for name, weight in net.named_parameters() if weight.dtype == torch.uint8]
    assert matrices
    assert not any("encoder.layer" in name for name in matrices)  # what sees stays in 16 bit
    assert net.get_memory_footprint() < 0.5 * wide


def test_pages_are_the_same_for_the_same_seed_and_differ_in_all_ways(tmp_path: Path) -> None:
    one, two, other = (pages.write_pages(tmp_path / name, 3, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one == two
    assert one != other
    for page in one:
        assert (tmp_path / "a" / f"{page.name}.png").read_bytes() == (tmp_path / "b" / f"{page.name}.png").read_bytes()
    many = list(pages.plan_pages(27, 0))
    looks = {(page.size, page.noise, page.rotation) for page in many}
    assert len(looks) == 27
    assert {page.font for page in many} == set(pages.FONTS)
    assert all(page.text.split()[0] in pages.documents()[page.document] for page in many)


def test_no_line_leaves_the_page() -> None:
    for font in pages.FONTS:
        for size in pages.SIZES:
            face = pages.load_font(font, size)
            lines = pages.fitting(pages.documents()["alice"], font, size)
            assert max(face.getlength(line) for line in lines) <= pages.WIDTH - pages.MARGIN
            assert len(lines) * 1.4 * size <= pages.HEIGHT - pages.MARGIN


def test_scores_by_hand() -> None:
    """kitten and sitting differ in 3 of 6 characters; one of three words is wrong."""
    assert scoring.score("kitten", "sitting") == (3, 6, 1, 1)
    assert scoring.score("the cat sat", "the cat sit") == (1, 11, 1, 3)
    assert scoring.score("a b", "") == (3, 3, 2, 2)
    both = scoring.total([scoring.score("kitten", "sitting"), scoring.score("the cat sat", "the cat sit")])
    assert (both.cer, both.wer) == (4 / 17, 2 / 4)
    with pytest.raises(ValueError, match="without text"):
        scoring.score(" ", "something")


@pytest.mark.parametrize(
    ("read", "plain"),
    [
        ("<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# Call me\nIshmael", "title Call me Ishmael"),
        ("**Call** me `Ishmael`<\uff5cend\u2581of\u2581sentence\uff5c>", "Call me Ishmael"),
        ("\u201cOh dear!\u201d  \u2014 \u2018late\u2019", "\"Oh dear!\" - 'late'"),
        ("Some years ago - never", "Some years ago - never"),
        ("![](images/0.jpg)\n- one\n- two", "one two"),
    ],
)
def test_markup_is_no_error(read: str, plain: str) -> None:
    assert scoring.plain(read) == plain


def test_own_pages_need_their_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"NAME\.txt"):
        pages.own_pages(tmp_path)
    pages.write_pages(tmp_path, 2, 0)
    assert [page.document for page in pages.own_pages(tmp_path)] == ["page", "page"]
    (tmp_path / "page-001.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"write what is on it into page-001\.txt"):
        pages.own_pages(tmp_path)
