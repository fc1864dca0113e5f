"""The last words of a program: what the end of its log says about why it ended.

A log may name an error that the program survived. Only the error that nothing later overrules counts: a
traceback of something else after it means that the program had gone on. Tracebacks chained to an error
(``During handling of the above exception``), errors of launchers that merely report a dead child, and
exceptions that Python ignores at exit do not overrule it.

Every pattern has bounded gaps and is tried on short pieces of a capped tail, so reading is linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from backends.units import parse_size
from orchestrator.text import without_escapes

TAIL_CHARS = 64 * 1024
_TAIL_PIECES = 200
_QUOTED_CHARS = 240
_ABSURD_BYTES = 10**15


class Symptom(StrEnum):
    """What one line of a log complains of."""

    SHARED_MEMORY = "shared memory"
    """``/dev/shm`` is full: a small file system in RAM that worker processes pass tensors through."""
    DISK = "disk"
    GPU_MEMORY = "GPU memory"
    HOST_MEMORY = "host memory"
    DEVICE_MEMORY = "device memory"
    """Memory of the device in use; the text is the same for GPU and CPU (JAX, TensorFlow, ONNX Runtime)."""
    GPU_LIBRARY = "GPU library"
    """A CUDA library could not start: out of memory where the GPU is full, and anything where it is not."""
    WORKER_KILLED = "worker killed"
    """A parent lived to see one of its workers die of SIGKILL, which is how the kernel's OOM killer picks."""
    CHILD_KILLED = "child killed"
    """A shell or launcher reports that its only child died of SIGKILL: the same as dying of it."""

    @property
    def is_hint(self) -> bool:
        """Whether it says that something died, and not of what. It never outweighs a line that says it."""
        return self in (Symptom.GPU_LIBRARY, Symptom.WORKER_KILLED, Symptom.CHILD_KILLED)


# Texts as the programs print them; the first symptom that matches a line is its symptom.
_TEXTS: dict[Symptom, tuple[str, ...]] = {
    Symptom.SHARED_MEMORY: (
        r"insufficient shared memory \(shm\)",
        r"workers are out of shared memory",
        r"unable to allocate shared memory",
        r"error while creating shared memory segment",
        r"</torch_\d{1,10}_.{0,80}no space left on device",
        r"no space left on device.{0,80}/dev/shm",
        r"/dev/shm/.{0,200}no space left on device",  # noqa: S108  a text to find, not a file to make
    ),
    Symptom.DISK: (
        # inotify reports its limit on watches with the same words.
        r"^(?!.{0,200}inotify).{0,4000}no space left on device",
        r"disk quota exceeded",
        r"database or disk is full",
        r"\bENOSPC\b(?!.{0,80}file watchers)",
    ),
    Symptom.GPU_MEMORY: (
        r"\b(?:CUDA|HIP|XPU|NPU|MPS backend) out of memory",
        r"\bCUDA (?:driver |runtime )?error:? (?:\(\w{1,40}\) ?: )?out of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory|ErrorOutOfDeviceMemory",
        r"\b(?:cuda|hip)Malloc\w{0,20} failed: out of memory",
        r"Cuda failure[^']{0,20}'out of memory'",
        r"\b(?:CU|HIP|ROC)[A-Z]{2,8}_(?:STATUS_)?(?:[A-Z]{1,12}_){0,4}ALLOC(?:ATION)?_FAILED",
        r"\btorch\.(?:cuda\.)?OutOfMemoryError|\bcupy\.cuda\.memory\.OutOfMemoryError",
        r"out of memory (?:allocating|to allocate) [\d,]{1,20} bytes \((?:allocated so far|total)",
        r"out_of_memory: CUDA error|RMM_ERROR_OUT_OF_MEMORY|RMM failure.{0,200}pool size exceeded",
        r"\bparallel_for failed: out of memory",
        r"(?:unable|failed) to allocate (?:CUDA|ROCm|Vulkan|Metal|SYCL)\d{0,3} buffer",
        r"\berror out of memory at line \d{1,6} in file",
        r"no available memory for the cache blocks",
        r"less than desired GPU memory utilization",
        r"larger than the (?:available KV cache memory|maximum number of tokens that can be stored in KV cache)",
        r"enough GPU RAM to fit the quantized model",
        r"OOM when allocating tensor.{0,300}(?:device:GPU|allocator GPU)",
    ),
    Symptom.HOST_MEMORY: (
        r"OOM when allocating tensor.{0,300}(?:device:CPU|allocator cpu)",
        r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)",
        r"\bstd::bad_alloc\b",
        r"(?:^|[\s.:])(?:_Array|Arrow)?MemoryError(?::|\s*$)",
        r"unable to allocate .{1,20} for an array with shape",
        r"\bcannot allocate memory\b|cannot allocate vector of size",
        r"memory allocation of \d{1,20} bytes failed|LLVM ERROR: out of memory|\bmemory exhausted\b",
        r"out of memory allocating \d{1,20} bytes after a total",
        r"model requires more system memory",
        r"(?:unable|failed) to allocate CPU buffer",
        r"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate",
        r"killed due to the node running low on memory|killed due to memory pressure \(OOM\)",
        r"worker exceeded 95% memory budget",
        r"\bOOMKilled\b|out of memory: kill(?:ed)? process|\boom[_-]kill event|\bsystemd-oomd\b.{0,80}kill",
    ),
    Symptom.DEVICE_MEMORY: (
        r"RESOURCE_EXHAUSTED: .{0,120}out of memory|resource exhausted: out of memory",
        r"OOM when allocating tensor",
        r"failed to allocate memory for requested buffer of size",
    ),
    Symptom.GPU_LIBRARY: (r"CUBLAS_STATUS_NOT_INITIALIZED|CUDNN_STATUS_NOT_INITIALIZED|CUDNN_STATUS_INTERNAL_ERROR",),
    Symptom.WORKER_KILLED: (
        r"DataLoader worker \(pid.{0,20}\) is killed by signal: Killed",
        r"exit codes of the workers are \{.{0,200}SIGKILL\(-9\)",
        r"exitcode\s{0,4}: -9\b|Signal 9 \(SIGKILL\) received by PID",
        r"Killed signal terminated program",
    ),
    Symptom.CHILD_KILLED: (
        r"died with <Signals\.SIGKILL: 9>",
        r"\b(?:exit|return) ?(?:code|status)\W{1,4}(?:-9|137)\b",
        r"(?:^|: line \d{1,6}: {1,4}\d{1,10} )Killed(?:\s{2,}|\s*$)|^zsh: killed",
    ),
}
_SYMPTOMS = tuple((symptom, re.compile("|".join(texts), re.IGNORECASE)) for symptom, texts in _TEXTS.items())

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PIECES = re.compile(r"[^\r\n]{1,4000}")
_ERROR = re.compile(
    r"^(?:.{0,120}\]:? ?)?"  # [rank0]: or a logger's prefix
    r"(?:[A-Za-z_]\w{0,80}\.){0,10}[A-Z]\w{0,80}(?:Error|Exception|Interrupt)(?::|\s*$)"
)
_NOT_FINAL = re.compile(
    r"During handling of the above exception|The above exception was the direct cause"
    r"|^Exception ignored in|^Exception in thread|^Error in atexit"
)
_AFTERMATH = re.compile(
    r"ChildFailedError|CalledProcessError|Process(?:Raised|Exited)Exception|DistBackendError|DistNetworkError"
    r"|RayTaskError|ActorDiedError|WorkerCrashedError|BrokenProcessPool|TerminatedWorkerError|EngineDeadError"
    r"|Engine core initialization failed|Engine process failed to start|DataLoader worker .{0,40}exited unexpectedly"
    r"|ConnectionResetError|ConnectionRefusedError|BrokenPipeError|EOFError|KeyboardInterrupt"
    r"|\bNCCL\b|\bGloo\b|Connection (?:reset|closed) by peer"
)
_REQUESTED = re.compile(
    r"(?:allocat(?:e|ing)|memory \(|allocation of|vector of size|after a total of)\s{0,4}"
    r"(?P<number>\d[\d,]{0,24}(?:\.\d{1,6})?)\s{0,2}(?P<unit>bytes|[KMGT]i?B)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Words:
    """One line of a log that names what went wrong, in the stream ``stderr`` or ``stdout``."""

    symptom: Symptom
    line: str
    stream: str

    @property
    def quote(self) -> str:
        """The line as evidence, with its stream before it."""
        return f"{self.stream}: {self.line[:_QUOTED_CHARS]}"

    @property
    def requested_bytes(self) -> int:
        """Bytes of the allocation that failed; 0 where the line does not say, or says something absurd."""
        match = _REQUESTED.search(self.line)
        if match is None:
            return 0
        unit = "B" if match["unit"].lower() == "bytes" else match["unit"]
        size = parse_size(match["number"].replace(",", "") + unit)
        return size if size < _ABSURD_BYTES else 0


@dataclass(frozen=True, slots=True)
class Log:
    """What the two log tails end with: the last symptom that nothing overrules, and the line to show."""

    words: Words | None
    last_line: str


@dataclass(frozen=True, slots=True)
class _Stream:
    """One stream read to its end: its standing symptom, the error that overruled all before it, its last line."""

    words: Words | None
    final_error: str
    last_line: str


def read_log(stdout: str, stderr: str) -> Log:
    """What the last lines of a program's two streams say. An error on stderr overrules the talk on stdout."""
    errors, output = _read("stderr", stderr), _read("stdout", stdout)
    words = errors.words or (None if errors.final_error else output.words)
    shown = words.quote if words else errors.last_line or output.last_line
    return Log(words, shown)


def tail(text: str) -> str:
    """The last part of a log, as much of it as is ever read."""
    return text[-TAIL_CHARS:]


def _read(name: str, text: str) -> _Stream:
    words: Words | None = None
    final_error = last_error = line = ""
    chained = False
    for line in _lines(text):
        symptom = _symptom(line)
        is_error = _ERROR.match(line) is not None
        if symptom is not None:
            if words is None or not symptom.is_hint:  # launchers kill the ranks that a dead one leaves behind
                words, final_error = Words(symptom, line, name), ""
        elif is_error and not _AFTERMATH.search(line) and not (words and chained):
            words, final_error = None, line
        last_error = line if is_error else last_error
        chained = _NOT_FINAL.search(line) is not None or (chained and not is_error)
    shown = final_error or last_error or line
    return _Stream(words, final_error, f"{name}: {shown[:_QUOTED_CHARS]}" if shown else "")


def _lines(text: str) -> list[str]:
    """The last lines without colours and control characters; a progress bar's redraws are lines of their own."""
    plain = _CONTROLS.sub("", without_escapes(tail(text)))
    return [piece.rstrip() for piece in _PIECES.findall(plain) if not piece.isspace()][-_TAIL_PIECES:]


def _symptom(line: str) -> Symptom | None:
    return next((symptom for symptom, pattern in _SYMPTOMS if pattern.search(line)), None)
