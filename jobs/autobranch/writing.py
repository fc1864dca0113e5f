"""Having openings written: models fetched and loaded where they belong, each opening once, whatever dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ollama import OllamaError, Server, ServerDied

Answer = TypeVar("Answer")
SAY_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """What an opening depends on, beside its prompt; ``processor`` is ``gpu`` or ``any``."""

    model: str
    embedder: str
    processor: str
    tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Opening:
    """One text, its seed, its tokens, and the seconds that it took, without loading the model."""

    text: str
    seed: int
    tokens: int
    seconds: float


class Openings:
    """What was written so far, in a file to which each opening is added; a line cut short is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, Opening] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                kept = json.loads(line)
                key = kept.pop("key")
                self._kept[key] = Opening(**kept)
            except (ValueError, KeyError, TypeError):
                print("the last opening of an earlier run was cut short, and is written again", flush=True)

    def get(self, key: str) -> Opening | None:
        """The opening with that key, if it was written."""
        return self._kept.get(key)

    def add(self, key: str, opening: Opening) -> None:
        """Keep it; on a line of its own even if the last one was cut short."""
        self._kept[key] = opening
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * (file.tell() > 0) + json.dumps({"key": key, **asdict(opening)}))


@dataclass
class Writer:
    """Asks the server, and has it started again when it dies. Times are in seconds, sizes in bytes."""

    server: Server
    settings: Settings
    openings: Openings
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    resumed: int = 0
    pull_seconds: float = 0.0
    load_seconds: float = 0.0
    embed_seconds: float = 0.0
    loaded: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        """Fetch what is missing, load the model, make sure where it lies. Raises OllamaError."""
        began = time.monotonic()
        for name in (self.settings.model, self.settings.embedder):
            self._lasting(lambda name=name: self._pull(name))
        self.pull_seconds = time.monotonic() - began
        self._lasting(self._load)

    def write(self, prompt: str, candidates: int, name: str) -> list[Opening]:
        """As many openings, those of an earlier run among them. Raises OllamaError."""
        written = []
        for index in range(candidates):
            seed = self.settings.seed + index
            key = self._key(prompt, seed)
            if opening := self.openings.get(key):
                self.resumed += 1
            else:
                opening = self._lasting(lambda seed=seed: self._generate(prompt, seed))
                self.openings.add(key, opening)
                self.seconds.append(opening.seconds)
                self.tokens += opening.tokens
                print(f"{name}: {index + 1} of {candidates}, {opening.seconds:.1f} s", flush=True)
            written.append(opening)
        return written

    def embed(self, texts: list[str]) -> list[list[float]]:
        """An embedding of each text. Raises OllamaError."""
        began = time.monotonic()
        body = {"model": self.settings.embedder, "input": texts}
        answer = self._lasting(lambda: self.server.ask("/api/embed", body))
        self.embed_seconds += time.monotonic() - began
        vectors: list[list[float]] = answer.get("embeddings", [])
        if len(vectors) != len(texts):
            raise OllamaError(f"{self.settings.embedder} gave {len(vectors)} embeddings of {len(texts)} texts")
        return vectors

    def _lasting(self, ask: Callable[[], Answer]) -> Answer:
        """The answer, however often the server must be started again for it (it knows when that is too often)."""
        while True:
            try:
                return ask()
            except ServerDied as error:
                self.server.restart(str(error))
                if self.loaded:
                    self.loaded = {}
                    self._lasting(self._load)

    def _pull(self, model: str) -> None:
        there = {each["name"].removesuffix(":latest") for each in self.server.ask("/api/tags").get("models", [])}
        if model.removesuffix(":latest") in there:
            return
        said = -SAY_EVERY_SECONDS
        for line in self.server.stream("/api/pull", {"model": model}):
            if line.get("total") and time.monotonic() - said > SAY_EVERY_SECONDS:
                said = time.monotonic()
                done, total = line.get("completed", 0) / 1e9, line["total"] / 1e9
                print(f"fetching {model}: {done:.2f} of {total:.2f} GB", flush=True)

    def _load(self) -> None:
        """Load the model without asking it anything, and see by ``/api/ps`` where it lies."""
        began = time.monotonic()
        self.server.ask("/api/generate", {"model": self.settings.model})
        self.load_seconds += time.monotonic() - began
        running = self.server.ask("/api/ps").get("models", [])
        names = {each["name"].removesuffix(":latest"): each for each in running}
        found = names.get(self.settings.model.removesuffix(":latest"))
        if found is None:
            raise OllamaError(f"{self.settings.model} was loaded, and is not among what runs: {sorted(names)}")
        self.loaded = {"size_bytes": found["size"], "size_vram_bytes": found["size_vram"]}
        if self.settings.processor == "gpu" and (why := offloaded(self.settings.model, **self.loaded)):
            raise OllamaError(why)

    def _generate(self, prompt: str, seed: int) -> Opening:
        settings = self.settings
        options = {"seed": seed, "temperature": settings.temperature, "num_predict": settings.tokens}
        began = time.monotonic()
        answer = self.server.ask("/api/generate", {"model": settings.model, "prompt": prompt, "options": options})
        took = time.monotonic() - began - answer.get("load_duration", 0) / 1e9
        text = str(answer.get("response", "")).strip()
        if not text:
            raise OllamaError(f"{settings.model} wrote nothing with seed {seed}")
        return Opening(text, seed, int(answer.get("eval_count", 0)), round(max(took, 0.0), 3))

    def _key(self, prompt: str, seed: int) -> str:
        said = [self.settings.model, prompt, seed, self.settings.tokens, self.settings.temperature]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]


def offloaded(model: str, size_bytes: int, size_vram_bytes: int) -> str:
    """Why the model would be slow, from what ``/api/ps`` says of it; empty if all of it lies in VRAM."""
    if size_vram_bytes >= size_bytes:
        return ""
    size, vram = f"{size_bytes / 1e9:.1f} GB", f"{size_vram_bytes / 1e9:.1f}"
    slow = "An opening takes 40 to 50 s on a CPU that takes 1 to 3 s on a T4. --processor any runs it all the same"
    if size_vram_bytes == 0:
        return (
            f"{model} runs on the CPU: Ollama put none of its {size} into VRAM; does nvidia-smi see a GPU here? {slow}"
        )
    return f"CUDA out of memory: of {model} only {vram} of {size} fit into VRAM, and the CPU would run the rest. {slow}"
