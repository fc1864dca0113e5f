"""Vision-language models that read pages: how they are loaded, and the one way to ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import torch
import transformers
from PIL import Image

LOADS = ("default", "bf16", "fp16", "nf4")
"""default: as the model card loads it, without a dtype: transformers 4 then makes 4 bytes of every parameter in RAM.
bf16: what the file holds, so that it stays mapped. fp16: for GPUs without bf16, 2 bytes in RAM. nf4: 4 bits in VRAM."""


class Reader(Protocol):
    """Reads one page."""

    def read(self, page: Path) -> str:
        """The text on the picture at ``page``."""


def load_reader(model: str, load: str, prompt: str, max_tokens: int, revision: str = "") -> Reader:
    """The reader at ``model``, a folder or a name on the hub, loaded as ``load`` says.

    A model that brings its own ``infer`` (DeepSeek-OCR does, with code from its repository) is asked by that; any
    other of transformers' image-text-to-text models by ``generate``.
    """
    source = {"pretrained_model_name_or_path": model, "trust_remote_code": True} | (
        {"revision": revision} if revision else {}
    )
    config = transformers.AutoConfig.from_pretrained(**source)
    own_code = "AutoModel" in getattr(config, "auto_map", {})
    kind = transformers.AutoModel if own_code else transformers.AutoModelForImageTextToText
    net = kind.from_pretrained(**source, use_safetensors=True, **load_arguments(load)).eval()
    net = placed(net, load)
    if own_code and hasattr(net, "infer"):
        return OwnCode(net, transformers.AutoTokenizer.from_pretrained(**source), prompt)
    return Generating(net, transformers.AutoProcessor.from_pretrained(**source), prompt, max_tokens)


def load_arguments(load: str) -> dict[str, Any]:
    """What ``from_pretrained`` is told; ``default`` tells it nothing, which is the trap."""
    dtype_key = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    if load == "default":
        return {}
    if load == "bf16":
        return {dtype_key: torch.bfloat16, "low_cpu_mem_usage": True}
    if load == "fp16":
        return {dtype_key: torch.float16, "low_cpu_mem_usage": True}
    half = half_dtype()
    quantised = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half,
        # transformers 4 looks for the name anywhere in a module's path, 5 takes it as a pattern from its beginning
        llm_int8_skip_modules=[*FULL_WIDTH, *(f".*{part}" for part in FULL_WIDTH)],
    )  # fmt: skip
    return {dtype_key: half, "quantization_config": quantised, "device_map": {"": device()}}


FULL_WIDTH = [
    "sam_model", "vision_model", "projector",  # as DeepSeek-OCR names them,
    "vision_tower", "visual", "multi_modal_projector", "encoder",  # and transformers its own
    "lm_head", "output_projection",
]  # fmt: skip
"""Parts that stay in 16 bit under nf4: what sees, where 4 bits cost most, and what chooses the words."""


def device() -> str:
    """The GPU, or this CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def half_dtype() -> torch.dtype:
    """bf16, or fp16 on GPUs older than Ampere, which only imitate bf16."""
    old = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] < 8
    return torch.float16 if old else torch.bfloat16


def placed(net: Any, load: str) -> Any:
    """``net`` where it computes: nf4 is there already; the default load is narrowed now, as the model card does."""
    if load == "nf4":
        return net
    return net.to(device()).to(half_dtype()) if load == "default" else net.to(device())


class OwnCode:
    """DeepSeek-OCR and its kin: ``infer`` opens the picture, makes the prompt and generates."""

    def __init__(self, net: Any, tokenizer: Any, prompt: str) -> None:
        self._net, self._tokenizer, self._prompt = net, tokenizer, prompt
        self._dtype = next(p.dtype for p in net.parameters() if p.is_floating_point())

    def read(self, page: Path) -> str:
        """The text on ``page``, in the "Gundam" mode: the page at 1024 pixels and crops of it at 640.

        ``infer`` writes ``torch.bfloat16`` out where it means the dtype of its weights: with fp16 weights that would
        end in "Input type (BFloat16) and bias type (Half) should be the same". While it runs, the name stands for the
        dtype that was loaded. It returns text only with ``eval_mode``.
        """
        with mock.patch.object(torch, "bfloat16", self._dtype):
            text = self._net.infer(
                self._tokenizer,
                prompt=f"<image>\n{self._prompt}",
                image_file=str(page),
                output_path=str(page.parent),
                base_size=1024,
                image_size=640,
                crop_mode=True,
                save_results=False,
                test_compress=False,
                eval_mode=True,
            )
        return str(text)


class Generating:
    """Any image-text-to-text model of transformers, by its processor and ``generate``."""

    def __init__(self, net: Any, processor: Any, prompt: str, max_tokens: int) -> None:
        self._net, self._processor = net, processor
        self._prompt, self._max_tokens = prompt, max_tokens

    def read(self, page: Path) -> str:
        """The text on ``page``; greedy, so that two runs agree."""
        image = Image.open(page).convert("RGB")
        # An encoder-decoder is given the picture alone; the others a prompt with a place for it
        alone = self._net.config.is_encoder_decoder
        asked = {} if alone else {"text": self._processor.image_token + "\n" + self._prompt}
        inputs = self._processor(images=image, return_tensors="pt", **asked)
        inputs = {name: self._moved(tensor) for name, tensor in inputs.items()}
        with torch.inference_mode():
            tokens = self._net.generate(**inputs, max_new_tokens=self._max_tokens, do_sample=False)
        start = 0 if alone else inputs["input_ids"].shape[1]
        return str(self._processor.batch_decode(tokens[:, start:], skip_special_tokens=True)[0])

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._net.device, self._net.dtype if tensor.is_floating_point() else None)
