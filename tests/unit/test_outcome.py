"""A table of really met endings: what the runner's record and the logs say, and what they mean.

The log texts are those that the programs print, as users report them.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import RunPhase
from orchestrator.lifecycle.last_words import Symptom, read_log
from orchestrator.lifecycle.outcome import ExitFacts, Outcome, Verdict, classify

MB, GB, GIB = 10**6, 10**9, 2**30
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 42, in <module>\n    main()\n'
CHAIN = "\n\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK
CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n" + TRACEBACK
TORCH_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "15.77 GiB of which 1.21 GiB is free. Of the allocated memory 13.90 GiB is allocated by PyTorch, and 330.42 "
    "MiB is reserved by PyTorch but unallocated. See documentation for Memory Management"
)
T4 = {"vram_total_bytes": 16 * GIB, "peak_vram_bytes": 15 * GIB}
NO_GPU: dict[str, Any] = {"ram_total_bytes": 16 * GB, "peak_ram_bytes": 3 * GB}
CGROUP = {"memory_cap_bytes": 400 * MB, "memory_cap_means": "cgroup2", "oom_kills_in_cap": 0}
TQDM = "".join(f"\r {n:3d}%|{'█' * (n // 10)}| {n}/100 [00:{n:02d}<00:10,  4.8it/s]" for n in range(60))


@dataclass(frozen=True)
class Row:
    """One ending: the record, the logs and what we did, and the outcome with a word of its evidence."""

    name: str
    outcome: Outcome
    word: str
    record: dict[str, Any]
    stderr: str = ""
    stdout: str = ""
    phase: RunPhase = RunPhase.ENDED
    did: dict[str, Any] = field(default_factory=dict)

    def classify(self) -> Verdict:
        return classify(
            ExitFacts.from_record(
                self.record, phase=self.phase, stdout_tail=self.stdout, stderr_tail=self.stderr, **self.did
            )
        )


def gpu(name: str, stderr: str, word: str, exit_code: int = 1, **record: Any) -> Row:
    return Row(name, Outcome.OOM_GPU, word, {"exit_code": exit_code, **T4, **record}, stderr)


def host(name: str, stderr: str, word: str, exit_code: int = 1, **record: Any) -> Row:
    return Row(name, Outcome.OOM_HOST, word, {"exit_code": exit_code, **NO_GPU, **record}, stderr)


def failed(name: str, stderr: str, word: str, exit_code: int = 1, **record: Any) -> Row:
    return Row(name, Outcome.FAILED, word, {"exit_code": exit_code, **T4, **record}, stderr)


def ended(name: str, outcome: Outcome, word: str, stderr: str = "", **record: Any) -> Row:
    return Row(name, outcome, word, record, stderr)


def did(name: str, outcome: Outcome, word: str, record: dict[str, Any], **did: Any) -> Row:
    return Row(name, outcome, word, record, did=did)


def gone(name: str, outcome: Outcome, word: str, record: dict[str, Any], **did: Any) -> Row:
    return Row(name, outcome, word, record, phase=RunPhase.LOST, did=did)


KERNEL = [
    ended("kernel kill in our cgroup", Outcome.OOM_HOST, "oom_kill counter", signal=9, ram_bytes=398 * MB,
          **{**CGROUP, "oom_kills_in_cap": 1}),
    ended("kernel kill, 137 through a shell", Outcome.OOM_HOST, "ended 1 process of the job",
          "/bin/sh: line 1: 4242 Killed                  python evaluate.py", exit_code=137,
          **{**CGROUP, "oom_kills_in_cap": 1}),
    ended("kernel kill, 247 through sys.exit(-9)", Outcome.OOM_HOST, "oom_kill counter", exit_code=247,
          **{**CGROUP, "oom_kills_in_cap": 2}),
    ended("kernel killed a worker, the parent raised", Outcome.OOM_HOST, "oom_kill counter",
          TRACEBACK + "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated "
          "abruptly while the future was running or pending.", exit_code=1, **{**CGROUP, "oom_kills_in_cap": 1}),
    ended("runner's own watch at the cap", Outcome.OOM_HOST, "400 MB", signal=9, stopped_by="memory_cap",
          memory_cap_bytes=400 * MB, memory_cap_means="watch", ram_bytes=412 * MB),
    ended("no counter, RAM at the cap in the last sample", Outcome.OOM_HOST, "398 MB of the 400 MB cap",
          signal=9, ram_bytes=398 * MB, memory_cap_bytes=400 * MB, memory_cap_means="systemd"),
    ended("no cap, RAM at the machine's limit", Outcome.OOM_HOST, "machine's RAM", exit_code=137,
          ram_bytes=12_400 * MB, ram_total_bytes=12_700 * MB),
    ended("spike between two samples", Outcome.OOM_HOST, "at its peak", signal=9, ram_bytes=200 * MB,
          peak_ram_bytes=399 * MB, memory_cap_bytes=400 * MB),
    ended("counter of the machine, job is its largest tenant", Outcome.OOM_HOST, "on this machine", signal=9,
          oom_kills_on_machine=1, ram_bytes=9 * GB, peak_ram_bytes=9 * GB, ram_total_bytes=16 * GB),
    ended("worker killed, the rest hung till idle", Outcome.OOM_HOST, "sat idle", signal=15, stopped_by="idle",
          **{**CGROUP, "oom_kills_in_cap": 1}),
    ended("killed by the kernel while handling a GPU OOM", Outcome.OOM_HOST, "oom_kill counter", TORCH_OOM, signal=9,
          **{**CGROUP, "oom_kills_in_cap": 1}),
]  # fmt: skip

NOT_EXPLAINED = [
    ended("user's kill -9", Outcome.KILLED, "no sign of memory pressure", signal=9, ram_bytes=90 * MB,
          oom_kills_on_machine=0, **CGROUP),
    ended("user's kill -15", Outcome.KILLED, "SIGTERM was not ours", exit_code=143, **NO_GPU),
    ended("Ctrl-C in the machine's own terminal", Outcome.KILLED, "SIGINT",
          TRACEBACK + "KeyboardInterrupt", exit_code=130, **NO_GPU),
    ended("kernel killed somebody else: our cgroup counted none", Outcome.KILLED, "nothing says", signal=9,
          oom_kills_on_machine=1, ram_bytes=90 * MB, **CGROUP),
    ended("kernel killed somebody else: the job was small", Outcome.KILLED, "nothing says", signal=9,
          oom_kills_on_machine=3, peak_ram_bytes=1 * GB, ram_total_bytes=512 * GB),
    ended("bash says Killed, nothing says why", Outcome.KILLED, "Killed", "run.sh: line 3:    51 Killed"
          "                  python train.py", exit_code=137, **NO_GPU),
    ended("accelerate's child died of SIGKILL", Outcome.KILLED, "Signals.SIGKILL", TRACEBACK +
          "subprocess.CalledProcessError: Command '['/usr/bin/python3', 'train.py']' died with <Signals.SIGKILL: 9>.",
          exit_code=1, **NO_GPU),
    ended("a worker was killed, and the kernel says not by it", Outcome.KILLED, "DataLoader", TRACEBACK +
          "RuntimeError: DataLoader worker (pid 511) is killed by signal: Killed. ", exit_code=1,
          oom_kills_on_machine=0, **NO_GPU),
    did("the spec wants unexplained kills to fail", Outcome.KILLED, "says fail", {"signal": 9},
        unexplained_sigkill="fail"),
]  # fmt: skip

CHILDREN = [
    host("DataLoader worker killed", TRACEBACK + "RuntimeError: DataLoader worker (pid 511) is killed by signal: "
         "Killed. " + CAUSE + "RuntimeError: DataLoader worker (pid(s) 511) exited unexpectedly", "DataLoader"),
    host("joblib worker killed", TRACEBACK + "joblib.externals.loky.process_executor.TerminatedWorkerError: A worker "
         "process managed by the executor was unexpectedly terminated. This could be caused by a segmentation fault "
         "while calling the function or by an excessive memory usage causing the Operating System to kill the "
         "worker.\n\nThe exit codes of the workers are {SIGKILL(-9)}", "SIGKILL(-9)"),
    host("torchrun rank killed", "E0325 20:57:27 torch/distributed/elastic/multiprocessing/api.py:869] failed "
         "(exitcode: -9) local_rank: 5 (pid: 2630) of binary: /usr/bin/python\n" + TRACEBACK +
         "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntrain.py FAILED\n----\nRoot Cause "
         "(first observed failure):\n[0]:\n  exitcode  : -9 (pid: 2630)\n  error_file: <N/A>\n  traceback : Signal 9 "
         "(SIGKILL) received by PID 2630\n====", "2630"),
    host("compiler killed while building flash-attn", "c++: fatal error: Killed signal terminated program cc1plus\n"
         "compilation terminated.\nerror: command '/usr/bin/c++' failed with exit code 1\nERROR: Failed building "
         "wheel for flash-attn", "cc1plus", failed_phase="setup"),
    host("Ray killed the task", TRACEBACK + "ray.exceptions.OutOfMemoryError: Task was killed due to the node running "
         "low on memory.\nMemory on the node (IP: 192.168.0.107) where the task was running was 59.49GB / 62.58GB "
         "(0.950744), which exceeds the memory usage threshold of 0.95.", "running low on memory"),
    host("Slurm step", "slurmstepd: error: Detected 1 oom_kill event in StepId=1234.batch. Some of the step tasks have "
         "been OOM Killed.", "oom_kill"),
]  # fmt: skip

GPU_TEXTS = [
    gpu("PyTorch", TRACEBACK + TORCH_OOM, "Tried to allocate 2.00 GiB"),
    gpu("PyTorch before 2.0", TRACEBACK + "RuntimeError: CUDA out of memory. Tried to allocate 9.80 GiB (GPU 0; 14.76 "
        "GiB total capacity; 9.94 GiB already allocated; 3.89 GiB free; 160.79 MiB cached).", "9.80 GiB"),
    gpu("PyTorch in C++, aborted", "terminate called after throwing an instance of 'c10::OutOfMemoryError'\n  what():  "
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB", "20.00 MiB", 134),
    gpu("CUDA driver, through Accelerate", TRACEBACK + "torch.AcceleratorError: CUDA error: out of memory\nCUDA kernel "
        "errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect."
        "\n" + TRACEBACK + "subprocess.CalledProcessError: Command '['/usr/bin/python3', 'train.py']' returned "
        "non-zero exit status 1.", "CUDA error: out of memory"),
    gpu("one rank of several, the others lose NCCL", f"[rank0]: {TORCH_OOM}\n[rank1]: torch.distributed."
        "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2006, remote process exited or there was a network "
        "error\n" + TRACEBACK + "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
        "  exitcode  : 1 (pid: 77)\n  exitcode  : -9 (pid: 78)", "rank0"),
    gpu("ROCm", "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of "
        "15.98 GiB", "HIP"),
    gpu("Apple's MPS", "RuntimeError: MPS backend out of memory (MPS allocated: 9.57 GiB, other allocations: 17.35 "
        "GiB, max allowed: 27.20 GiB). Tried to allocate 292.50 MiB on private pool.", "MPS", vram_total_bytes=None),
    gpu("JAX", TRACEBACK + "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to "
        "allocate 7406166528 bytes.\nBufferAssignment OOM Debugging.\n" + "Buffer 1:\n  Size: 6.00MiB\n" * 60,
        "RESOURCE_EXHAUSTED"),
    gpu("TensorFlow on the GPU", "tensorflow.python.framework.errors_impl.ResourceExhaustedError: {{function_node "
        "__wrapped__Conv2D}} OOM when allocating tensor with shape[256,112,112,64] and type float on /job:localhost/"
        "replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc [Op:Conv2D]", "device:GPU:0"),
    gpu("CuPy", TRACEBACK + "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 25,600,000 bytes (allocated "
        "so far: 3,635,267,072 bytes).", "25,600,000"),
    gpu("RAPIDS", TRACEBACK + "MemoryError: std::bad_alloc: out_of_memory: CUDA error at: /opt/conda/include/rmm/mr/"
        "device/cuda_memory_resource.hpp", "CUDA error at"),
    gpu("XGBoost", TRACEBACK + "xgboost.core.XGBoostError: [01:02:03] /workspace/src/tree/updater_gpu_hist.cu:781: "
        "Memory allocation error on worker 0: std::bad_alloc: cudaErrorMemoryAllocation: out of memory", "XGBoost"),
    gpu("Numba", TRACEBACK + "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in "
        "CUDA_ERROR_OUT_OF_MEMORY", "cuMemAlloc"),
    gpu("bitsandbytes", "Error out of memory at line 351 in file /home/dev/bitsandbytes/csrc/pythonInterface.c",
        "pythonInterface"),
    gpu("quantized model spills over the GPU", TRACEBACK + "ValueError: Some modules are dispatched on the CPU or the "
        "disk. Make sure you have enough GPU RAM to fit the quantized model.", "quantized"),
    gpu("cuBLAS handle", TRACEBACK + "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
        "`cublasCreate(handle)`", "CUBLAS_STATUS_ALLOC_FAILED"),
    gpu("cuDNN", TRACEBACK + "RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "ALLOCATION_FAILED"),
    gpu("cuBLAS cannot start and the GPU is full", TRACEBACK + "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIAL"
        "IZED when calling `cublasCreate(handle)`", "GPU memory was", peak_vram_bytes=16 * GIB - 10 * MB),
    gpu("llama.cpp", "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 35533.34 MiB on device 0: cudaMalloc "
        "failed: out of memory\nllama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
        "llama_load_model_from_file: failed to load model", "CUDA0 buffer"),
    gpu("Ollama's client", "Error: llama runner process has terminated: CUDA error: out of memory\n  current device: "
        "0, in function alloc at ggml-cuda.cu:233", "llama runner"),
    gpu("vLLM finds no room for its cache", "(EngineCore_DP0 pid=88) ERROR 10-31 15:15:48 [core.py:708] ValueError: No "
        "available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."
        "\n" + TRACEBACK + "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
        "proc(s): {}", "cache blocks"),
    gpu("vLLM needs a longer cache", "ValueError: To serve at least one request with the models's max seq len (131072)"
        ", (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (5.21 GiB).", "KV cache"),
    gpu("vLLM starts on a GPU that is in use", "ValueError: Free memory on device (67.24/79.25 GiB) on startup is less "
        "than desired GPU memory utilization (0.9, 71.33 GiB).", "less than desired"),
    gpu("error while handling the OOM", TRACEBACK + TORCH_OOM + CHAIN + "NameError: name 'logger' is not defined",
        "CUDA out of memory"),
    gpu("colours and a progress bar", TQDM + "\n\x1b[31m" + TRACEBACK + "\x1b[1m" + TORCH_OOM + "\x1b[0m\r\n"
        "Exception ignored in: <function _Loader.__del__ at 0x7f>\n" + TRACEBACK + "AttributeError: 'NoneType'",
        "stderr: torch.OutOfMemoryError"),
    gpu("a worker was killed and replaced, then the GPU was too small", TRACEBACK + TORCH_OOM, "CUDA",
        **{**CGROUP, "oom_kills_in_cap": 1}),
    Row("script prints the OOM on stdout and exits 1", Outcome.OOM_GPU, "stdout:", {"exit_code": 1, **T4},
        stdout="epoch 1\nCUDA out of memory. Tried to allocate 1.00 GiB\ngiving up\n"),
]  # fmt: skip

HOST_TEXTS = [
    host("Python", TRACEBACK + "MemoryError", "MemoryError"),
    host("NumPy", TRACEBACK + "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 12.0 GiB for an array "
         "with shape (1610612736,) and data type float64", "12.0 GiB"),
    host("C++", "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted "
         "(core dumped)", "bad_alloc", 134),
    host("Rust (Polars, tokenizers)", "memory allocation of 8589934592 bytes failed", "8589934592", 134),
    host("PyTorch on the CPU", TRACEBACK + "RuntimeError: [enforce fail at alloc_cpu.cpp:75] err == 0. "
         "DefaultCPUAllocator: can't allocate memory: you tried to allocate 132426121216 bytes. Error code 12 (Cannot "
         "allocate memory)", "DefaultCPUAllocator", **T4),
    host("fork", TRACEBACK + "OSError: [Errno 12] Cannot allocate memory", "Errno 12"),
    host("TensorFlow on the CPU", "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating "
         "tensor with shape[16,19,19,1024] and type float on /job:localhost/replica:0/task:0/device:CPU:0 by "
         "allocator cpu", "device:CPU:0", **T4),
    host("JAX without a GPU", "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating "
         "20029400304 bytes.", "RESOURCE_EXHAUSTED"),
    host("Ollama", "Error: 500 Internal Server Error: model requires more system memory (5.6 GiB) than is available "
         "(3.9 GiB)", "system memory"),
    host("GPU first, then the CPU as a way out", TRACEBACK + TORCH_OOM + "\nretrying on the CPU\n" + TRACEBACK +
         "RuntimeError: [enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory: you tried to "
         "allocate 68719476736 bytes.", "DefaultCPUAllocator", **T4),
    host("during setup", "MemoryError\n", "MemoryError", 2, failed_phase="setup"),
]  # fmt: skip

SHARED_MEMORY = [
    host("DataLoader's bus error", TRACEBACK + "RuntimeError: DataLoader worker (pid 46794) is killed by signal: Bus "
         "error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared "
         "memory limit.", "/dev/shm", shm_free_bytes=60 * MB),
    host("the worker's own words", "ERROR: Unexpected bus error encountered in worker. This might be caused by "
         "insufficient shared memory (shm).", "/dev/shm"),
    host("tensor file in shared memory", TRACEBACK + "RuntimeError: unable to write to file </torch_1234_5678_9>: No "
         "space left on device (28)", "/dev/shm", disk_free_bytes=50 * GB),
    ended("bus error with shared memory full", Outcome.OOM_HOST, "/dev/shm", "Bus error (core dumped)",
          exit_code=135, shm_free_bytes=0, **NO_GPU),
    failed("bus error with room left", "Bus error (core dumped)", "SIGBUS", 135, shm_free_bytes=8 * GB),
]  # fmt: skip

DISK = [
    ended("pip", Outcome.DISK_FULL, "No space left", "ERROR: Could not install packages due to an OSError: [Errno 28] "
          "No space left on device\n", exit_code=1, failed_phase="setup", disk_free_bytes=0),
    ended("checkpoint", Outcome.DISK_FULL, "Disk quota exceeded", TRACEBACK + "OSError: [Errno 122] Disk quota exceed"
          "ed: 'checkpoints/step-100.pt'", exit_code=1, disk_free_bytes=90 * GB),
    ended("torch.save without a reason, nothing left", Outcome.DISK_FULL, "was free", TRACEBACK + "RuntimeError: "
          "[enforce fail at inline_container.cc:626] . unexpected pos 704 vs 598", exit_code=1, disk_free_bytes=4096),
    failed("inotify's limit has the same words", "OSError: inotify_add_watch failed: No space left on device",
           "inotify", disk_free_bytes=90 * GB),
]  # fmt: skip

OURS = [
    Row("a preflight that refuses", Outcome.OOM_GPU, "at least 20.1 GB are needed",
        {"exit_code": 69, "failed_phase": "preflight", "preflight_vram_bytes": 20 * GB, "vram_total_bytes": 16 * GB},
        "phi, traced: 21.2 GB allocated at its peak (backward), at least 20.1 GB are needed; this GPU has 16 GB"),
    Row("a run that itself ends with a preflight's code", Outcome.FAILED, "code 69", {"exit_code": 69}),
    Row("a preflight that was cancelled", Outcome.CANCELLED, "cancelled",
        {"failed_phase": "preflight", "stopped_by": "request", "stop_reason": "cancelled"}, did={"cancelled": True}),
    did("exit 0", Outcome.SUCCEEDED, "code 0", {"exit_code": 0, "run_seconds": 42.5}),
    Row("exit 0 with an OOM that was caught", Outcome.SUCCEEDED, "code 0", {"exit_code": 0, **T4}, TORCH_OOM),
    did("exit 0 though a worker was killed", Outcome.SUCCEEDED, "code 0", {"exit_code": 0, "oom_kills_in_cap": 1}),
    did("exit 0 just before the cancel", Outcome.SUCCEEDED, "code 0", {"exit_code": 0}, cancelled=True),
    did("cancelled", Outcome.CANCELLED, "by the user",
        {"signal": 15, "stopped_by": "request", "stop_reason": "cancelled"}),
    did("cancelled, and the program saved and exited 0", Outcome.CANCELLED, "by the user",
        {"exit_code": 0, "stopped_by": "request", "stop_reason": "cancelled"}),
    Row("out of memory, then cancelled", Outcome.CANCELLED, "CUDA out of memory", {"exit_code": 1, **T4}, TORCH_OOM,
        did={"cancelled": True}),
    did("over its cap, then cancelled", Outcome.CANCELLED, "by the user", {"signal": 9, "stopped_by": "memory_cap"},
        cancelled=True),
    did("cancelled before it started", Outcome.CANCELLED, "by the user", {}, cancelled=True),
    did("budget", Outcome.BUDGET, "overspent",
        {"signal": 9, "stopped_by": "request", "stop_reason": "budget", "run_seconds": 60}),
    did("budget, the lease's end came first", Outcome.BUDGET, "overspent", {"signal": 9, "stopped_by": "lease"},
        budget_stop=True),
    Row("out of memory before the budget's stop arrived", Outcome.OOM_GPU, "CUDA", {"exit_code": 1, **T4}, TORCH_OOM,
        did={"budget_stop": True}),
    did("deadline, SIGKILL with memory full", Outcome.DEADLINE, "allowed time",
        {"signal": 9, "stopped_by": "deadline", "ram_bytes": 399 * MB, "memory_cap_bytes": 400 * MB}),
    did("idle", Outcome.DEADLINE, "idle", {"signal": 15, "stopped_by": "idle", "oom_kills_in_cap": 0}),
    did("end of the lease", Outcome.DEADLINE, "reserved", {"signal": 15, "stopped_by": "lease"}),
    did("the machine is shut down", Outcome.LOST, "shutting down",
        {"signal": 15, "stopped_by": "shutdown", "stop_reason": "the runner got SIGTERM"}),
    did("another of our reasons", Outcome.CANCELLED, "superseded",
        {"signal": 15, "stopped_by": "request", "stop_reason": "superseded"}),
]  # fmt: skip

GONE = [
    gone("runner lost", Outcome.LOST, "without an exit record", {"ram_bytes": 2 * GB, "ram_total_bytes": 16 * GB}),
    gone("runner lost with memory full", Outcome.OOM_HOST, "12.4 GB of the 12.7 GB machine's RAM",
         {"ram_bytes": 12_400 * MB, "ram_total_bytes": 12_700 * MB}),
    gone("machine gone", Outcome.LOST, "machine is gone", {}, machine_gone=True),
    gone("machine gone with memory full (Colab)", Outcome.OOM_HOST, "machine's RAM",
         {"ram_bytes": 12_500 * MB, "ram_total_bytes": 12_700 * MB}, machine_gone=True),
    gone("unreachable", Outcome.UNREACHABLE, "stopped answering", {"ram_bytes": 2 * GB}, unreachable=True),
    gone("unreachable, an earlier worker kill was survived", Outcome.UNREACHABLE, "stopped", {"oom_kills_in_cap": 1},
         unreachable=True),
    gone("preempted, an earlier worker kill was survived", Outcome.PREEMPTED, "provider", {"oom_kills_in_cap": 1},
         preempted=True),
    gone("runner lost after a kernel kill", Outcome.OOM_HOST, "oom_kill counter", {"oom_kills_in_cap": 1}),
    Row("runner lost, an OOM was survived", Outcome.LOST, "runner", {**T4}, TORCH_OOM + "\nhalving the batch",
        phase=RunPhase.LOST),
    gone("preempted", Outcome.PREEMPTED, "provider", {"ram_bytes": 2 * GB}, preempted=True),
    did("preempted, SIGTERM on shutdown", Outcome.PREEMPTED, "SIGTERM", {"exit_code": 143}, preempted=True),
    Row("out of memory on a machine that was then taken", Outcome.OOM_GPU, "CUDA", {"exit_code": 1, **T4}, TORCH_OOM,
        did={"preempted": True}),
    Row("asked too early", Outcome.LOST, "without", {}, phase=RunPhase.RUNNING),
]  # fmt: skip

FAILURES = [
    failed("plain failure", TRACEBACK + "KeyError: 'label'", "KeyError: 'label'"),
    failed("OOM survived, another error later", TRACEBACK + TORCH_OOM + "\nhalving the batch\nepoch 2 ...\n" +
           TRACEBACK + "FileNotFoundError: [Errno 2] No such file or directory: 'val.json'", "FileNotFoundError"),
    Row("OOM talk on stdout, another error on stderr", Outcome.FAILED, "KeyError", {"exit_code": 1, **T4},
        TRACEBACK + "KeyError: 'label'", "skipping batch 7: CUDA out of memory\n"),
    failed("OOM far above the end", TORCH_OOM + "\nstep done" * 500 + "\nassertion failed", "assertion failed"),
    failed("SIGSEGV", "Segmentation fault (core dumped)", "SIGSEGV", 139),
    failed("SIGABRT without bad_alloc", "free(): invalid pointer\nAborted (core dumped)", "SIGABRT", 134),
    failed("command not found", "/bin/sh: 1: pyhton: not found", "command not found", 127),
    failed("not executable", "/bin/sh: 1: ./train.sh: Permission denied", "not executable", 126),
    failed("setup", "ERROR: No matching distribution found for torhc", "setup exited", failed_phase="setup"),
    failed("Triton's shared memory is not ours", "triton.runtime.errors.OutOfResources: out of resource: shared memo"
           "ry, Required: 147456, Hardware limit: 101376. Reducing block sizes or `num_stages` may help.", "riton"),
    failed("cuBLAS cannot start on an empty GPU", TRACEBACK + "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED "
           "when calling `cublasCreate(handle)`", "NOT_INITIALIZED", peak_vram_bytes=1 * GIB),
    failed("the JVM's own heap limit", "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space",
           "Java heap"),
    failed("too many open files in shared memory", TRACEBACK + "RuntimeError: unable to open shared memory object "
           "</torch_1_2_3> in read-write mode: Too many open files (24)", "Too many open files"),
    failed("nothing in the logs", "", "exited with code 3", 3),
    ended("no exit code", Outcome.FAILED, "no exit code"),
]  # fmt: skip

TABLE = [*KERNEL, *NOT_EXPLAINED, *CHILDREN, *GPU_TEXTS, *HOST_TEXTS, *SHARED_MEMORY, *DISK, *OURS, *GONE, *FAILURES]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_real_ending_has_its_outcome_and_says_why(row: Row) -> None:
    verdict = row.classify()
    assert verdict.outcome is row.outcome, verdict
    assert row.word in "\n".join(verdict.evidence), verdict.evidence
    assert verdict.summary
    assert "\n" not in verdict.summary
    assert "\x1b" not in "".join(verdict.evidence)


LINES = [
    (Symptom.SHARED_MEMORY, "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_3>: Success (0)"),
    (Symptom.SHARED_MEMORY, "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-JFzwZv (size 9637888)"),
    (Symptom.SHARED_MEMORY, "OSError: [Errno 28] No space left on device: '/dev/shm/psm_12ab'"),
    (Symptom.SHARED_MEMORY, "cp: error writing '/dev/shm/data.bin': No space left on device"),
    (Symptom.DISK, "zip: write error: No space left on device"),
    (Symptom.DISK, "sqlite3.OperationalError: database or disk is full"),
    (Symptom.DISK, "npm ERR! code ENOSPC"),
    (Symptom.DISK, "NoSpaceLeftError: No space left on devices."),
    (Symptom.GPU_MEMORY, "alloc_tensor: allocating 12.00 MiB on device 1: hipMalloc failed: out of memory"),
    (Symptom.GPU_MEMORY, "ncclUnhandledCudaError: Cuda failure 2 'out of memory'"),
    (Symptom.GPU_MEMORY, "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory."),
    (Symptom.GPU_MEMORY, "Exception in main training loop: out of memory to allocate 1073741824 bytes (total 1 bytes)"),
    (Symptom.GPU_MEMORY, "what():  parallel_for failed: out of memory"),
    (
        Symptom.GPU_MEMORY,
        "Resource exhausted: OOM when allocating tensor with shape[9] on /device:GPU:0 by allocator x",
    ),
    (Symptom.HOST_MEMORY, "Error: Unable to allocate 1.2 GiB for an array with shape (9, 9)"),
    (Symptom.HOST_MEMORY, "cc1plus: out of memory allocating 65536 bytes after a total of 1081344 bytes"),
    (Symptom.HOST_MEMORY, "llama_model_load: error loading model: unable to allocate CPU buffer"),
    (Symptom.HOST_MEMORY, "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 437944320"),
    (Symptom.HOST_MEMORY, "distributed.nanny - WARNING - Worker exceeded 95% memory budget. Restarting"),
    (Symptom.HOST_MEMORY, "Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB"),
    (Symptom.DEVICE_MEMORY, "ResourceExhaustedError: OOM when allocating tensor with shape[100,4096,32]"),
    (Symptom.DEVICE_MEMORY, "[E:onnxruntime] Failed to allocate memory for requested buffer of size 4831838208"),
    (Symptom.CHILD_KILLED, "[ERROR] [launch.py:321:sigkill_handler] ['python', 't.py'] exits with return code = -9"),
    (Symptom.CHILD_KILLED, "run.sh: line 12:   311 Killed                  python train.py"),
    (Symptom.CHILD_KILLED, "Killed"),
    (None, "ENOSPC: System limit for number of file watchers reached"),
    (None, "Killed the old server, starting a new one"),
    (None, "exit code 13"),
    (None, "Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation"),
]


@pytest.mark.parametrize(("symptom", "line"), LINES, ids=[line for _, line in LINES])
def test_a_line_names_its_symptom(symptom: Symptom | None, line: str) -> None:
    words = read_log("", line).words
    assert (words.symptom if words else None) is symptom


def test_the_table_has_each_outcome_that_a_run_can_have() -> None:
    assert {row.outcome for row in TABLE} == set(Outcome) - {Outcome.NO_CAPACITY}
    assert len({row.name for row in TABLE}) == len(TABLE) >= 45


@pytest.mark.parametrize(
    ("record", "stderr", "ram", "vram"),
    [
        ({"signal": 9, "oom_kills_in_cap": 1, "memory_cap_bytes": 400 * MB, "peak_ram_bytes": 390 * MB}, "",
         400 * MB, None),
        ({"exit_code": 1, "peak_ram_bytes": 3 * GB, "ram_total_bytes": 16 * GB},
         "MemoryError: Unable to allocate 20.0 GiB for an array", 3 * GB + 20 * GIB, None),
        ({"exit_code": 1, **T4}, TORCH_OOM, None, 17 * GIB),
        ({"exit_code": 1, **T4}, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", None, 16 * GIB),
        ({"exit_code": 1, "ram_total_bytes": 16 * GB}, "memory allocation of 4000000000000000 bytes failed",
         16 * GB, None),
        ({"exit_code": 0, "peak_ram_bytes": 2 * GB, **T4}, "", 2 * GB, 15 * GIB),
        ({"exit_code": 135, "shm_free_bytes": 0, "ram_bytes": 2 * GB, "ram_total_bytes": 16 * GB}, "", 2 * GB, None),
    ],
)  # fmt: skip
def test_what_an_ending_teaches_about_the_need(
    record: dict[str, Any], stderr: str, ram: int | None, vram: int | None
) -> None:
    verdict = classify(ExitFacts.from_record(record, phase=RunPhase.ENDED, stderr_tail=stderr))
    assert (verdict.observed_ram_bytes, verdict.observed_vram_bytes) == (ram, vram)


REAL = {
    "MemoryError": ("ulimit -v 1000000; exec '{python}' -c 'b\"x\" * 10**11'", Outcome.OOM_HOST, "MemoryError"),
    "disk full": ("'{python}' -c 'print(1, file=open(\"/dev/full\", \"w\"), flush=True)'", Outcome.DISK_FULL,
                  "No space left"),
    "SIGKILL": ("kill -9 $$", Outcome.KILLED, "SIGKILL"),
    "SIGKILL behind a shell": ("sh -c 'kill -9 $$'; exit $?", Outcome.KILLED, "code 137"),
    "SIGKILL of a child": ("'{python}' -c 'import subprocess as s; s.run([\"sh\", \"-c\", \"kill -9 $$\"], check=1)'",
                           Outcome.KILLED, "died with"),
    "SIGSEGV": ("kill -SEGV $$", Outcome.FAILED, "SIGSEGV"),
    "not found": ("no-such-command-anywhere", Outcome.FAILED, "command not found"),
    "plain failure": ("'{python}' -c '{{}}[7]'", Outcome.FAILED, "KeyError: 7"),
    "success": ("true", Outcome.SUCCEEDED, "code 0"),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: its signal numbers, ulimit -v and /dev/full")
@pytest.mark.parametrize(("script", "outcome", "word"), REAL.values(), ids=REAL.keys())
def test_a_real_process_has_its_outcome(script: str, outcome: Outcome, word: str) -> None:
    done = subprocess.run(["sh", "-c", script.format(python=sys.executable)], capture_output=True, text=True)
    code = done.returncode
    record = {"exit_code": code} if code >= 0 else {"signal": -code}
    verdict = classify(ExitFacts.from_record(record, phase=RunPhase.ENDED, stderr_tail=done.stderr))
    assert verdict.outcome is outcome, verdict
    assert word in "\n".join(verdict.evidence)


@pytest.mark.parametrize(("exit_code", "signal"), [(137, 9), (-9, 9), (247, 9), (143, 15), (139, 11), (255, None)])
def test_a_signal_is_seen_behind_an_exit_code(exit_code: int, signal: int | None) -> None:
    facts = ExitFacts.from_record({"exit_code": exit_code}, phase=RunPhase.ENDED)
    assert (classify(facts).exit_code, classify(facts).signal) == (exit_code, signal)


def test_only_what_another_machine_can_mend_walks_the_ladder() -> None:
    walks = {"oom_host", "oom_gpu", "killed", "preempted", "lost", "unreachable", "no_capacity"}
    assert {str(outcome) for outcome in Outcome if outcome.walks_ladder()} == walks
    assert {str(outcome) for outcome in Outcome if outcome.walks_ladder("fail")} == walks - {"killed"}
    assert {outcome for outcome in Outcome if outcome.is_memory} == {Outcome.OOM_HOST, Outcome.OOM_GPU}


def test_a_failed_setup_is_named_in_the_summary() -> None:
    record = {"exit_code": 1, "failed_phase": "setup"}
    plain = classify(ExitFacts.from_record(record, phase=RunPhase.ENDED, stderr_tail="ValueError: no"))
    oom = classify(ExitFacts.from_record(record, phase=RunPhase.ENDED, stderr_tail="MemoryError"))
    assert plain.summary == "Setup exited with code 1 (stderr: ValueError: no)"
    assert oom.summary.endswith("during setup")


def test_a_record_that_makes_no_sense_is_unknown() -> None:
    record = {"exit_code": "1", "signal": True, "ram_bytes": -5, "vram_bytes": 10**400, "run_seconds": float("nan")}
    assert ExitFacts.from_record(record, phase=RunPhase.ENDED) == ExitFacts(phase=RunPhase.ENDED)


SNIPPETS = st.sampled_from(
    [row.stderr for row in TABLE if row.stderr] + ["\x1b[31m", "\r", "\n", "\0", CHAIN, "é" * 99]
)
LOGS = st.lists(SNIPPETS | st.text(max_size=40), max_size=5).map("".join)
COUNTS = st.none() | st.integers(0, 2**63 - 1)
ANY_JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just([])
FIELDS = [name for name, kind in get_type_hints(ExitFacts).items() if kind in (int | None, float | None, str | None)]
STOPS = st.none() | st.sampled_from(["deadline", "lease", "idle", "memory_cap", "request", "eclipse"])
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, COUNTS | ANY_JSON),
        "exit_code": st.none() | st.integers(-70, 300),
        "signal": st.none() | st.integers(0, 70),
        "stopped_by": STOPS | ANY_JSON,
        "failed_phase": st.sampled_from([None, "setup", "run"]),
    },
)
FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("cancelled", "budget_stop", "preempted", "unreachable", "machine_gone")}
)


@given(RECORDS, LOGS, LOGS, st.sampled_from(RunPhase), FLAGS)
def test_classify_is_total(
    record: dict[str, Any], stdout: str, stderr: str, phase: RunPhase, flags: dict[str, bool]
) -> None:
    facts = ExitFacts.from_record(record, phase=phase, stdout_tail=stdout, stderr_tail=stderr, **flags)
    verdict = classify(facts)
    assert isinstance(verdict.outcome, Outcome)
    assert verdict.outcome is not Outcome.NO_CAPACITY  # only renting can say so
    assert verdict.summary
    assert all(verdict.evidence)
    assert len(verdict.evidence) >= 1
    assert classify(facts) == verdict


UNITS = ["[", "A", "a.", "a.A", "] ", "exit code ", "\x1b[", "\x1b]", "device ", "OOM when allocating tensor ", "\r"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_hostile_log_is_read_in_linear_time(unit: str) -> None:
    text = unit * (10 * 2**20 // len(unit))
    facts = ExitFacts.from_record({"exit_code": 1}, phase=RunPhase.ENDED, stdout_tail=text, stderr_tail=text)
    assert classify(facts).outcome in (Outcome.FAILED, Outcome.OOM_HOST)


def test_a_preflight_rules_out_every_gpu_below_what_it_traced():
    record = {"exit_code": 69, "failed_phase": "preflight", "vram_total_bytes": 16 * GB}
    known = classify(ExitFacts.from_record({**record, "preflight_vram_bytes": 20 * GB}, phase=RunPhase.ENDED))
    assert (known.vram_above_bytes, known.observed_vram_bytes, known.ram_above_bytes) == (20 * GB, 20 * GB, None)
    assert classify(ExitFacts.from_record(record, phase=RunPhase.ENDED)).vram_above_bytes == 16 * GB
