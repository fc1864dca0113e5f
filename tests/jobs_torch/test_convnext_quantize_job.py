"""jobs/convnext_quantize: refusals before loading, downloads, INT8 beside the float model, serving under a cap."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jobs_kit
import pytest
import torch
from modules_kit import job_modules
from safetensors.torch import save_file

checkpoint, fetching, images, make_checkpoint, quantize, quantizing, sizes = job_modules(
    "convnext_quantize", "checkpoint", "fetching", "images", "make_checkpoint", "quantize", "quantizing", "sizes"
)
JOB = jobs_kit.JOBS / "convnext_quantize"
MB = 10**6


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The weights of a small ConvNeXt from a seed."""
    return dict(make_checkpoint.make_model("smoke", seed=0, side=64, examples=100).state_dict())


class Server(http.server.ThreadingHTTPServer):
    """Says nothing when a client hangs up, which is what a refusal is."""

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class Unannounced(http.server.BaseHTTPRequestHandler):
    """A server that does not say how much it sends: CONTENT until the connection ends."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)


@pytest.fixture
def serve_folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a real web server gives it out."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def serve(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(JOB / "serve.py"), str(path), "--side", "64", *more]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **jobs_kit.OFFLINE})


def test_smoke_runs_the_jobs_own_command(tmp_path: Path) -> None:
    done = jobs_kit.run_smoke("convnext_quantize", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["weight_bytes"] == 4 * metrics["parameters"]
    assert metrics["input_bytes"] > 3 * metrics["weight_bytes"]  # AdamW's two moments are in the file
    assert metrics[metrics["kept"]]["file_bytes"] == (tmp_path / "results" / "model_int8.pt").stat().st_size
    for mode in ("weight-only", "dynamic"):
        assert metrics[mode]["smaller"] > 2
        lost = metrics["float"]["accuracy"] - metrics[mode]["accuracy"]
        assert metrics[mode]["accuracy_lost"] == pytest.approx(lost, abs=1e-6)
        assert abs(lost) <= 0.1
        assert metrics[mode]["same_class"] >= 0.9
    served = metrics["served"]
    assert served["original_refused"]  # 12.6 MB, and 5 MB are the limit of the smoke run
    assert served["held_bytes"] < served["cap_bytes"] == 512 * MB
    assert sum(served["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["metrics.json", "model_int8.pt"]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (["--min-agreement", "1.01"], "101.0% are wanted"),
        (["--max-accuracy-lost", "-1"], "at most -100.0% may be lost"),
    ],
    ids=["other answers", "fewer right ones"],
)
def test_what_is_too_different_fails_the_job_and_is_written_down(
    limit: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--size", "smoke", "--count", "10", "--examples", "20", "--side", "64", "--mode", "dynamic"]
    monkeypatch.setattr("sys.argv", ["quantize.py", *tiny, "--min-agreement", "0", *limit])
    assert quantize.main() == 1
    assert words in capsys.readouterr().err
    assert "served" not in json.loads(Path("results", "metrics.json").read_text())


def test_too_large_a_checkpoint_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("hole.pth").open("wb") as file:
        file.truncate(1003 * MB)
    monkeypatch.setattr("sys.argv", ["quantize.py", "--checkpoint", "hole.pth", "--max-input", "1 GB"])
    assert quantize.main() == 2
    assert "hole.pth has 1,003 MB, and at most 1,000 MB are allowed" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["weight-only", "dynamic"])
def test_int8_weights_are_rounded_per_channel(mode: str, state: dict[str, torch.Tensor]) -> None:
    """Each row has a scale of its own: its largest weight over 127.5, and no weight is off by more than a step."""
    model = quantizing.quantized(state, mode)
    name = "convnext.encoder.stages.1.layers.0.pwconv1.weight"
    weight, rounded = state[name], model.state_dict()[name]
    assert rounded.qdata.dtype == torch.int8
    assert rounded.scale.numel() == weight.shape[0]
    scale = rounded.scale.reshape(-1, 1)
    torch.testing.assert_close(scale[:, 0], weight.abs().amax(1) / 127.5, rtol=0.01, atol=0)
    assert ((rounded.dequantize() - weight).abs() <= scale * 1.01).all()


def test_a_saved_model_answers_as_before(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pictures, _ = images.generated(8, 64, seed=5)
    for mode in quantizing.MODES:
        model = quantizing.quantized(state, mode)
        size = quantizing.save_quantized(model, mode, tmp_path / "model.pt")
        assert size < 0.5 * checkpoint.bytes_of(state)
        again = quantizing.load_quantized(tmp_path / "model.pt")
        torch.testing.assert_close(quantizing.logits_of(again, pictures), quantizing.logits_of(model, pictures))


def test_comparing_by_hand() -> None:
    exact = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    agreed = quantizing.compare(other, exact, torch.tensor([0, 0, 1, 0]))
    assert (agreed.accuracy, agreed.same_class) == (0.5, 0.75)
    assert agreed.logit_error == pytest.approx(0.25 / exact.std().item())


def test_the_fitted_model_reads_patterns(state: dict[str, torch.Tensor]) -> None:
    pictures, labels = images.generated(60, 64, seed=77)
    logits = quantizing.logits_of(checkpoint.model_of(state), pictures)
    assert quantizing.compare(logits, logits, labels).accuracy > 0.2  # of ten kinds: twice as good as guessing


def timm_name(name: str) -> str:
    """What timm calls the tensor that transformers calls ``name``."""
    fixed = {"convnext.embeddings.patch_embeddings": "stem.0", "convnext.embeddings.layernorm": "stem.1"}
    fixed |= {"convnext.layernorm": "head.norm", "classifier": "head.fc"}
    stem, _, last = name.rpartition(".")
    if stem in fixed:
        return f"{fixed[stem]}.{last}"
    name = (
        name.removeprefix("convnext.encoder.").replace("downsampling_layer", "downsample").replace("layers", "blocks")
    )
    words = {"dwconv": "conv_dw", "layernorm": "norm", "pwconv1": "mlp.fc1", "pwconv2": "mlp.fc2"}
    return re.sub("|".join(words), lambda found: words[found[0]], name).replace("layer_scale_parameter", "gamma")


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s, "args": [1]}])
def test_checkpoints_of_timm_are_understood(
    wrap: Callable[[Any], Any], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    renamed = {timm_name(name): tensor for name, tensor in state.items()}
    assert {"stages.1.downsample.1.weight", "stages.2.blocks.1.gamma", "head.fc.bias"} <= set(renamed)
    torch.save(wrap(renamed), tmp_path / "timm.pth")
    loaded = checkpoint.load_weights(tmp_path / "timm.pth")
    assert {name: tensor.shape for name, tensor in loaded.items()} == {n: t.shape for n, t in state.items()}
    config = checkpoint.config_of(loaded)
    assert (tuple(config.depths), tuple(config.hidden_sizes)) == make_checkpoint.SIZES["smoke"]


def test_what_is_no_checkpoint_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    save_file(state, tmp_path / "cut.safetensors")
    os.truncate(tmp_path / "cut.safetensors", 100_000)
    for name, words in (("other.pth", "not a checkpoint of a ConvNeXt"), ("text.pth", "torch can read")):
        with pytest.raises(sizes.BrokenFileError, match=words):
            checkpoint.load_weights(tmp_path / name)
    with pytest.raises(sizes.BrokenFileError, match="cut off"):
        sizes.checked_size(tmp_path / "cut.safetensors", 10**9)


def test_a_download_comes_whole_in_chunks(serve_folder: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = serve_folder
    content = os.urandom(1000) * 210_000  # 210 MB: two lines of progress
    (folder / "model.pth").write_bytes(content)
    said: list[str] = []
    digest = hashlib.sha256(content).hexdigest()
    path = fetching.fetch(f"{address}/model.pth?download=1", tmp_path / "in", 250 * MB, digest, said.append)
    assert path.name == "model.pth"
    assert path.stat().st_size == len(content)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert said == ["model.pth: 104 MB downloaded", "model.pth: 200 MB downloaded"]
    with pytest.raises(sizes.BrokenFileError, match="not the file you meant"):
        fetching.fetch(f"{address}/model.pth", tmp_path / "other", 250 * MB, "0" * 64, said.append)
    assert not any((tmp_path / "other").iterdir())


def test_too_large_a_download_is_refused_by_its_announcement(serve_folder: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = serve_folder
    with (folder / "model.pth").open("wb") as file:
        file.truncate(1003 * MB)  # the document's file, as a hole
    with pytest.raises(sizes.TooLargeError, match="Content-Length, has 1,003 MB, and at most 350 MB are allowed"):
        fetching.fetch(f"{address}/model.pth", tmp_path / "in", 350 * MB)
    assert not any((tmp_path / "in").iterdir())


def test_without_an_announcement_the_header_or_what_comes_decides(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(state, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    handler = type("Handler", (Unannounced,), {"content": whole})
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(sizes.TooLargeError, match=r"by its own header, has 4\.1"):
            fetching.fetch(f"{address}/model.safetensors", tmp_path / "in", 3 * MB)
        with pytest.raises(sizes.TooLargeError, match="still coming"):
            fetching.fetch(f"{address}/model.pth", tmp_path / "in", 3 * MB)
        path = fetching.fetch(f"{address}/model.safetensors", tmp_path / "in", 5 * MB)
        server.shutdown()
    assert path.read_bytes() == whole
    assert checkpoint.load_weights(path).keys() == state.keys()


def test_serving_refuses_by_size_before_it_loads(tmp_path: Path) -> None:
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(1003 * MB)
    done = serve(tmp_path / "large.pth", "--max-size", "350 MB")
    assert done.returncode == 2
    assert "has 1,003 MB, and at most 350 MB are allowed; nothing was loaded" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux keeps RLIMIT_DATA")
def test_int8_fits_under_512_mb_where_float_runs_out(tmp_path: Path) -> None:
    """The real ConvNeXt-Base, 87.6 million parameters; the kernel keeps the cap."""
    torch.manual_seed(0)
    depths, widths = make_checkpoint.SIZES["base"]
    config = checkpoint.ConvNextConfig(depths=list(depths), hidden_sizes=list(widths), num_labels=10)
    with torch.device("meta"):
        empty = checkpoint.ConvNextForImageClassification(config)
    weights = {name: torch.empty(tensor.shape).uniform_(-0.05, 0.05) for name, tensor in empty.state_dict().items()}
    torch.save(weights, tmp_path / "float.pth")
    size = quantizing.save_quantized(quantizing.quantized(weights, "weight-only"), "weight-only", tmp_path / "int8.pt")
    assert 3.4 < checkpoint.bytes_of(weights) / size < 4
    assert size < 350 * MB
    done = serve(tmp_path / "int8.pt", "--memory", "512 MB")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["held_bytes"] < 512 * MB
    done = serve(tmp_path / "float.pth", "--memory", "512 MB", "--max-size", "400 MB")
    assert done.returncode == 1
    assert "out of memory: 512 MB are not enough" in done.stderr
