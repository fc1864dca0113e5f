"""Two steps of training, or a prompt and its continuation, on fake tensors; what they take of a GPU."""

import time
from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, Mapping, Tuple

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING

from .allocator import Allocator, least_reserved
from .model import ENCODERS, VISION, Mode, NotTracedError, build, class_of, cuda_dropout
from .shapes import config_of, without_dropout
from .tracker import STEP, Tracker

DYNAMIC = (1.0, 0.6, 0.85, 0.5, 0.95, 0.7, 1.0, 0.8)
"""Lengths of successive batches, as shares of ``seq_len``, where each is padded to its own longest sequence."""

Request = Mapping[str, Any]
"""``name``: what people call the model; ``model``: the section of a spec, every default written out; ``config``: a
config.json, or None, and then ``shape`` has its sizes; ``dropout``: whether it is on; ``unsupported``: why it cannot be
traced, or empty; ``ram_bytes``: what tracing may take."""

Result = Dict[str, Any]


def traced(request: Request) -> Result:
    """Bytes that the run takes. Raises NotTracedError, and whatever the model raises on fake tensors."""
    began = time.monotonic()
    model = request["model"]
    if request["unsupported"]:
        raise NotTracedError(request["unsupported"])
    config = _config(request)
    with FakeTensorMode(), Tracker() as tracker, cuda_dropout():
        tracker.enter("load")
        network = _network(class_of(config.model_type, model["head"]), config, _mode(model))
        tracker.own("adapters", _trained(network) if model["method"] != "full" else ())
        tracker.own("weights", [*network.parameters(), *network.buffers()])
        parameters = sum(each.numel() for each in network.parameters())
        _train(network, model, tracker) if model["task"] == "train" else _infer(network, model, tracker)
    allocated, phase, terms = tracker.peak()
    reserved = Allocator().replay(tracker.events)
    return {
        "allocated_bytes": allocated,
        "reserved_bytes": reserved,
        "needed_bytes": least_reserved(tracker.events, allocated, reserved),
        "phase": phase,
        "terms": terms,
        "parameters": parameters,
        "seconds": round(time.monotonic() - began, 2),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _network(model_class: str, config: Any, mode: Mode) -> Any:
    """The model; as transformers itself does, with eager attention where its family has no other."""
    try:
        return build(model_class, config, mode)
    except ValueError as error:
        if mode.attention == "eager" or "attention implementation" not in str(error):
            raise
    return build(model_class, config, replace(mode, attention="eager"))


def _config(request: Request) -> Any:
    model, given = request["model"], request["config"]
    config = _from_json(given) if given else config_of(request["shape"], model["seq_len"])
    config.use_cache = model["task"] == "infer"
    if not request["dropout"]:
        without_dropout(config)
    elif model["attention"] != "eager":  # on CUDA no mask is kept of attention's own dropout
        without_dropout(config, "att")
    return config


def _from_json(given: Mapping[str, Any]) -> Any:
    """The configuration of a config.json; code that it names is not run, and nothing is fetched."""
    family = given.get("model_type")
    if family not in CONFIG_MAPPING:
        raise NotTracedError("this version of transformers knows no model type %r" % family)
    left_out = ("auto_map", "quantization_config", "torch_dtype", "dtype")
    return CONFIG_MAPPING[family].from_dict({key: each for key, each in given.items() if key not in left_out})


def _mode(model: Mapping[str, Any]) -> Mode:
    precision = {"fp32": "fp32", "amp-fp16": "amp", "amp-bf16": "amp"}.get(model["precision"], "bf16")
    if model["task"] == "infer" and precision == "amp":
        precision = "bf16"
    targets = {"attention": "qv", "all-linear": "all"}[model["lora"]["targets"]]
    return Mode(
        precision,
        "eager" if model["attention"] == "eager" else "sdpa",
        "none" if model["method"] == "full" or model["task"] == "infer" else targets,
        model["gradient_checkpointing"] and model["task"] == "train",
        model["lora"]["rank"],
        half_frozen=model["method"] != "full",
    )


def _batch(network: Any, model: Mapping[str, Any], tokens: int) -> Dict[str, torch.Tensor]:
    """What the model is called with in training."""
    size, config = model["batch_size"], network.config
    if config.model_type in VISION:
        pixels = torch.zeros(size, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": pixels.to(network.dtype), "labels": torch.zeros(size, dtype=torch.long)}
    labels = (size,) if model["head"] == "classifier" else (size, tokens)
    return {
        "input_ids": torch.zeros(size, tokens, dtype=torch.long),
        "labels": torch.zeros(labels, dtype=torch.long),
    }


# --- training


def _train(network: Any, model: Mapping[str, Any], tracker: Tracker) -> None:
    optimizer = optimizer_of(model["optimizer"], _trained(network))
    mode = _mode(model)
    for share in DYNAMIC if model["lengths"] == "dynamic" else (1.0, 1.0):
        for _ in range(min(model["grad_accumulation"], 2)):
            batch = _batch(network, model, max(round(model["seq_len"] * share), 1))
            _pass(network, batch, mode, tracker)
            del batch
            tracker.own("gradients", [each.grad for each in _trained(network) if each.grad is not None])
        tracker.enter(STEP)
        optimizer.step()
        states = [each for kept in optimizer.state.values() for each in kept.values()]
        tracker.own("optimizer states", [each for each in states if isinstance(each, torch.Tensor)])
        optimizer.zero_grad(set_to_none=True)


def _pass(network: Any, batch: Dict[str, torch.Tensor], mode: Mode, tracker: Tracker) -> None:
    """Forward and backward. The loss ends where the gradient of the logits is there."""
    tracker.enter("forward+loss")
    head = network.get_output_embeddings()
    hook = head.register_forward_hook(_watch_logits(tracker)) if head is not None else None
    with mode.autocast():
        loss = network(**batch).loss
    if hook is None:
        tracker.enter("backward")
    loss.backward()
    if hook is not None:
        hook.remove()


def _watch_logits(tracker: Tracker) -> Callable[..., None]:
    def hook(_module: Any, _args: Any, logits: torch.Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(lambda _grad: tracker.enter("backward"))

    return hook


def _trained(network: Any) -> List[torch.Tensor]:
    return [each for each in network.parameters() if each.requires_grad]


class StateKeeper:
    """An optimizer of which only the states matter: it makes them at its first step, and works in place."""

    def __init__(self, parameters: List[torch.Tensor], make: Callable[[torch.Tensor], List[torch.Tensor]]) -> None:
        self._parameters, self._make = parameters, make
        self.state: Dict[torch.Tensor, Dict[str, torch.Tensor]] = {}

    def step(self) -> None:
        """Make the states that are not there."""
        for each in self._parameters:
            if each not in self.state:
                self.state[each] = {str(index): state for index, state in enumerate(self._make(each))}

    def zero_grad(self, *, set_to_none: bool) -> None:
        """Drop the gradients."""
        for each in self._parameters:
            each.grad = None if set_to_none else torch.zeros_like(each)


def optimizer_of(name: str, parameters: List[torch.Tensor]) -> Any:
    """torch's own, or one that keeps what that of bitsandbytes or transformers keeps."""
    real: Dict[str, Tuple[Any, Dict[str, Any]]] = {
        "adamw": (torch.optim.AdamW, {"foreach": True}),
        "adamw-fused": (torch.optim.AdamW, {"fused": True}),
        "sgd": (torch.optim.SGD, {"lr": 0.1, "foreach": True}),
        "sgd-momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    }
    if name in real:
        cls, arguments = real[name]
        return cls(parameters, **arguments)
    kept: Dict[str, Callable[[torch.Tensor], List[torch.Tensor]]] = {
        "adamw-8bit": _eight_bit,
        "paged-adamw-8bit": _eight_bit,
        "paged-adamw-32bit": lambda each: [torch.empty(each.shape, dtype=torch.float32) for _ in range(2)],
        "adafactor": _factors,
    }
    return StateKeeper(parameters, kept[name])


def _eight_bit(parameter: torch.Tensor) -> List[torch.Tensor]:
    """bitsandbytes: two states of a byte per weight, with a scale per 256; in fp32 for less than 4096 weights."""
    count = parameter.numel()
    if count < 4096:
        return [torch.empty(count, dtype=torch.float32) for _ in range(2)]
    return [
        each
        for _ in range(2)
        for each in (torch.empty(count, dtype=torch.uint8), torch.empty(-(-count // 256), dtype=torch.float32))
    ]


def _factors(parameter: torch.Tensor) -> List[torch.Tensor]:
    """Adafactor: a row and a column of each matrix."""
    shape = parameter.shape
    sizes: Iterable[Any] = (shape,) if len(shape) < 2 else (shape[:-1], (*shape[:-2], shape[-1]))
    return [torch.empty(each, dtype=torch.float32) for each in sizes]


# --- inference


def _infer(network: Any, model: Mapping[str, Any], tracker: Tracker) -> None:
    """Forward; of a decoder the prompt, then one token with a full cache."""
    network.eval()
    tracker.enter("generate")
    batch = _batch(network, model, model["seq_len"])
    del batch["labels"]
    with torch.no_grad():
        if network.config.model_type in VISION | ENCODERS or model["head"] == "classifier":
            network(**batch)
            return
        last = {} if model["transformers"] < 5 else {"logits_to_keep": 1}
        cache = network(**batch, use_cache=True, **last).past_key_values
        _fill(cache, (model["kv_cache_tokens"] or 0) - model["seq_len"] - 1)
        tracker.own("KV cache", [each for layer in cache.layers for each in (layer.keys, layer.values)])
        network(input_ids=batch["input_ids"][:, :1], past_key_values=cache, use_cache=True)
        tracker.own("KV cache", [each for layer in cache.layers for each in (layer.keys, layer.values)])


def _fill(cache: Any, tokens: int) -> None:
    """Let the cache hold so many tokens more."""
    for index, layer in enumerate(cache.layers if tokens > 0 else ()):
        size, heads, _, width = layer.keys.shape
        more = layer.keys.new_empty(size, heads, tokens, width)
        cache.update(more, more, index)
