"""Model, measures and data of jobs/sparsae against values computed by hand, and its memory against its spec."""

from __future__ import annotations

import random
from pathlib import Path

import jobs_kit
import pytest
import torch
from modules_kit import job_modules
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from backends.runner.tracing.tracker import Tracker

sparse, stream, rehearsal = job_modules("sparsae", "sparse", "stream", "rehearsal")

VOCABULARY = 50_257
TOKENS = 512


@pytest.mark.parametrize(("size", "millions"), [("tiny", 49), ("small", 125), ("medium", 350)])
def test_the_sizes_are_those_of_the_document(size, millions):
    with torch.device("meta"):
        model = sparse.SparseLanguageModel(sparse.SIZES[size], VOCABULARY, TOKENS)
    count = sum(each.numel() for each in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("variant", ["tiny", "small"])
def test_the_peaks_in_the_spec_are_those_of_the_code(variant):
    model = jobs_kit.spec_of("sparsae").variant(variant).model
    for batch, peak in (
        (model.probe.small_batch, model.probe.small_peak),
        (model.probe.large_batch, model.probe.large_peak),
    ):
        assert traced_peak(variant, batch) == pytest.approx(peak, rel=0.01)


def traced_peak(size: str, batch: int) -> int:
    """Bytes that two steps of training allocate at most, on tensors without content."""
    tracker = Tracker()
    with FakeTensorMode(), tracker:
        model = sparse.SparseLanguageModel(sparse.SIZES[size], VOCABULARY, TOKENS)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)  # as on a GPU
        for _ in range(2):
            passed = model(torch.zeros(batch, TOKENS, dtype=torch.long))
            (passed.cross_entropy + sparse.unexplained(passed.stream, passed.read_back)).backward()
            optimizer.step()
            optimizer.zero_grad()
            del passed
    return tracker.high


def test_the_autoencoder_keeps_the_largest_latents():
    """The encoder is the identity and its negative: of (3, -2) and active = 1 only the 3 is left."""
    coder = sparse.SparseAutoencoder(2, 4, active=1)
    both = torch.cat([torch.eye(2), -torch.eye(2)])
    with torch.no_grad():
        coder.encoder.weight.copy_(both)
        coder.decoder.weight.copy_(both.T)
    read_back, latents = coder(torch.tensor([[3.0, -2.0], [-1.0, -4.0], [0.0, 0.0]]))
    assert latents.tolist() == [[3, 0, 0, 0], [0, 0, 0, 4], [0, 0, 0, 0]]
    assert read_back.tolist() == [[3, 0], [0, -4], [0, 0]]
    coder.active = 2
    assert coder(torch.tensor([[3.0, -2.0]]))[0].tolist() == [[3, -2]]


def test_unexplained_is_the_lost_share_of_the_variance():
    """Mean (2, 2), variance 4 * 2 = 8 in sum; read back one off in one channel of each vector: 4 lost. 4 / 8."""
    stream_ = torch.tensor([[[1.0, 3.0], [3.0, 1.0]], [[1.0, 1.0], [3.0, 3.0]]])
    off = stream_ + torch.tensor([1.0, 0.0])
    assert sparse.unexplained(stream_, off).item() == pytest.approx(0.5)
    assert sparse.unexplained(stream_, stream_).item() == 0
    mean = torch.full_like(stream_, 2.0)
    assert sparse.unexplained(stream_, mean).item() == pytest.approx(1)


def test_sparsity_counts_over_batches():
    """Tokens have 2, 0 and 1 latents of 4; the third never fires, the last only in the second batch."""
    counted = sparse.Sparsity()
    counted.see(torch.tensor([[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]))
    counted.see(torch.tensor([[[0.0, 0.0, 0.0, 5.0]]]))
    assert counted.measures() == {"l0": 1.0, "active_share": 0.25, "dead_share": 0.25}


def test_a_token_is_predicted_from_those_before_it_only():
    torch.manual_seed(0)
    model = sparse.SparseLanguageModel(sparse.SIZES["nano"], 30, 8).eval()
    ids = torch.randint(30, (1, 8))
    other = ids.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 30
    with torch.no_grad():
        same = [model(each).latents[0, :5] for each in (ids, other)]
        told = model(ids)
    assert torch.allclose(*same, atol=1e-5)
    assert ((told.latents != 0).sum(-1) <= model.autoencoder.active).all()
    assert told.cross_entropy.item() == pytest.approx(torch.log(torch.tensor(30.0)).item(), rel=0.2)


def test_the_second_half_knows_only_what_the_latents_say():
    """With latents that are always zero, what came before cannot matter any more but for the text's own statistics."""
    torch.manual_seed(0)
    model = sparse.SparseLanguageModel(sparse.SIZES["nano"], 30, 8)
    with torch.no_grad():
        model.autoencoder.encoder.weight.zero_()
        model.autoencoder.encoder.bias.fill_(-1)
    passes = [model(torch.randint(30, (2, 8))) for _ in range(2)]
    assert all(each.latents.count_nonzero() == 0 for each in passes)
    assert torch.equal(passes[0].read_back, passes[1].read_back)


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Generated text as files, its lines and its tokenizer, by the loading code of the job."""
    from transformers import AutoTokenizer

    def make(lines: int):
        monkeypatch.chdir(tmp_path)
        data, tokenizer = rehearsal.rehearse(lines)
        return stream.load_lines(data, "train"), AutoTokenizer.from_pretrained(tokenizer)

    return make


def test_examples_are_the_text_cut_into_equal_lengths(text):
    lines, tokenizer = text(200)
    found = list(stream.Examples(lines, tokenizer, 16, most=50))
    assert [len(each) for each in found] == [16] * 50
    written = Path("rehearsal/train.txt").read_text().splitlines()
    ids = [token for line in written for token in [*tokenizer(line)["input_ids"], tokenizer.eos_token_id]]
    assert torch.cat(found).tolist() == ids[: 16 * 50]


def test_reading_stops_when_there_are_enough(text, monkeypatch):
    lines, tokenizer = text(2000)
    asked = 0

    def counted(self, *args, **kwargs):
        nonlocal asked
        asked += 1
        return real(self, *args, **kwargs)

    real = type(tokenizer).__call__
    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    assert len(list(stream.Examples(lines, tokenizer, 16, most=10))) == 10
    assert asked == 1  # of 32 runs of 64 lines


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_share_the_text_and_the_examples(text, workers):
    lines, tokenizer = text(600)
    loaded = DataLoader(stream.Examples(lines, tokenizer, 16, most=101), 8, num_workers=workers)
    assert sum(len(batch) for batch in loaded) == 101


def test_the_order_is_that_of_the_seed(text, monkeypatch):
    monkeypatch.setattr(stream, "SHUFFLED_AMONG", 20)
    lines, tokenizer = text(600)
    orders = [[tuple(each.tolist()) for each in stream.Examples(lines, tokenizer, 16, 100, seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_shuffling_loses_nothing_and_repeats_nothing(monkeypatch):
    monkeypatch.setattr(stream, "SHUFFLED_AMONG", 10)
    found = list(stream.shuffled(iter(range(100)), random.Random(0)))
    assert sorted(found) == list(range(100))
    assert found != list(range(100))


def anonymous_bytes() -> int:
    """RAM of this process that is no page of a file."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="NOT TESTED: RAM is measured by Linux's /proc")
def test_ram_does_not_grow_with_the_number_of_examples(text):
    """4,000 examples of 512 tokens are 16 MB when held, and next to nothing when streamed. Held ones would show."""
    lines, tokenizer = text(64_000)
    examples = iter(stream.Examples(lines, tokenizer, 512, most=4_000, seed=0))
    for _ in range(100):  # the buffer of the shuffle is full by then
        next(examples)
    before = most = anonymous_bytes()
    count = 100
    for count, _ in enumerate(examples, 101):
        if count % 250 == 0:
            most = max(most, anonymous_bytes())
    assert count == 4_000
    assert most - before < 8_000_000
    before = anonymous_bytes()
    held = [torch.ones(512, dtype=torch.long) for _ in range(20_000)]  # 82 MB
    assert anonymous_bytes() - before > 60_000_000
    del held
