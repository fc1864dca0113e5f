#!/usr/bin/env python3
"""The runner: one file, standard library only, carried to every machine to run one job directory.

    runner.py start JOB_DIR              secrets as one JSON object on stdin; returns once the run is under way
    runner.py status JOB_DIR             one JSON line: {"phase": ..., "record": {...}}
    runner.py stop JOB_DIR --reason R    ask the run to end
    runner.py sweep JOB_DIR              kill what is left of the run, remove its control group

``start`` leaves a *supervisor* behind: one process, one thread, one loop. It starts the commands, copies
their output, takes samples, keeps the limits and writes the exit record. On a rented machine it leaves a *watchdog*
behind as well, which ends the machine itself when its time is over or nobody needs it. ``docs/runner.md`` describes
every file they write. It needs Python 3.8 and nothing else, and must not import anything of ours.

Durations are in seconds, sizes in bytes. Limits use the monotonic clock, which stands still while a computer
sleeps; only ``lease_ends_utc`` is bound to the wall clock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
import zlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

VERSION = "1"
JOB_VERSION = 1
LINUX = sys.platform.startswith("linux")

HEARTBEAT_SECONDS = 1.0
LONGEST_PAUSE = 0.25
WATCH_SECONDS = 0.05
"""How often memory is looked at when no kernel limit stands behind the cap."""
FIRST_SAMPLE_SECONDS = 0.02
CPU_WINDOW_SECONDS = 1.0
IDLE_PERCENT = 5.0
GPU_SECONDS = 2.0
GPU_TIMEOUT_SECONDS = 20.0
UNKILLABLE_SECONDS = 30.0
"""How long processes may outlive SIGKILL (stuck in the kernel) before the run is closed without them."""
COMPUTING_PERCENT = 5.0
"""A GPU as busy as that computes; before, the job was loading."""
SAMPLES_PER_PACE = 2048
RESERVE_BYTES = 512 * 1024
LOG_TAIL_BYTES = 128 * 1024
DEFAULT_LOG_BYTES = 50_000_000
RECORD_RETRY_SECONDS = 300.0
READ_BYTES = 1 << 16
SWEEP_SECONDS = 20.0
SWEEP_PATIENCE_SECONDS = 2.0
WATCHDOG_SECONDS = 0.5
"""How often the watchdog looks."""
SILENT_SECONDS = 60.0
"""A supervisor whose heartbeat stands still for so long is asked no more: the watchdog looks at the job itself."""
USUAL_IDLE_SECONDS = 900.0
"""What counts as idle under a silent supervisor where the job has no idle limit."""
USUAL_LINGER_SECONDS = 1800.0
STOP_TIMEOUT_SECONDS = 60.0
AFTER_STOP_SECONDS = 20.0
"""How long a command that ends the machine is given to take effect, before the next means is tried."""
LONGEST_STOP_PAUSE = 60.0
OOM_SCORE = 500
OOM_SHIELD = -1000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
COMPLETE = ".gpujob-complete"
FETCHED = "fetched"
"""The reason of a stop request that says: everything is at home, nobody needs this machine any more."""
RESERVE = "reserve"
METRICS = "metrics.json"
STARTED = "started\n"
SESSION_NAMES = ("_", "OLDPWD", "PWD", "SHLVL", "TERM")
CREDENTIAL = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)(_ID)?$", re.IGNORECASE)
"""Names of environment variables that hold credentials."""
PHASES = ("starting", "setup", "running", "ended")
LOG_NAMES = ("setup", "preflight", "stdout", "stderr")
PREFLIGHT_REFUSES = 69
"""Exit code by which a preflight forbids the run; whatever else it ends with, the run begins."""

Record = Dict[str, Any]

PASSING = (OSError, ValueError, LookupError, subprocess.SubprocessError)
"""What odd files, full disks, vanished processes and strange tools raise: noted, never fatal to a run."""


class JobError(Exception):
    """The job directory cannot be run as it is; the text says why and what to do."""


# --- files --------------------------------------------------------------------------------------------------


def write_atomically(path: str, text: str, *, durable: bool) -> None:
    """Replace ``path`` by ``text`` in one step; ``durable`` waits until it would survive a power cut."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_all(descriptor, text.encode())
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; raises OSError where the disk takes no more."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_text(path: str) -> str:
    """The file's text; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def read_record(path: str) -> Record:
    """The JSON object in ``path``; empty where there is none (yet), or a torn one."""
    try:
        value = json.loads(read_text(path) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_table(path: str) -> Dict[str, int]:
    """A kernel file of ``name value`` lines."""
    rows = (line.split() for line in read_text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def free_bytes(path: str) -> Optional[int]:
    """Free space that a user may fill on the disk of ``path``; None where it cannot be told."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


# --- the job directory, as anybody may read it --------------------------------------------------------------


def read_status(job_dir: str) -> Record:
    """``{"phase": absent|starting|setup|running|ended|lost, "record": {...}}``.

    The claim is looked at before the lock: a run that starts in between must not look lost.
    """
    claimed = os.path.exists(os.path.join(job_dir, "claim"))
    held = lock_is_held(job_dir)
    record = read_record(os.path.join(job_dir, "status.json"))
    phase = record.get("phase")
    if phase != "ended" and not held:
        phase = "lost" if claimed else "absent"
    return {"phase": phase if phase in (*PHASES, "lost", "absent") else "starting", "record": record}


def lock_is_held(job_dir: str, name: str = "lock") -> bool:
    """Whether a supervisor lives. Looking takes a shared lock for an instant; ``take_lock`` waits that out."""
    try:
        descriptor = os.open(os.path.join(job_dir, name), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def request_stop(job_dir: str, reason: str) -> None:
    """Ask the run to end, now or as soon as it starts. Asking twice is harmless."""
    write_atomically(os.path.join(job_dir, "stop.request"), json.dumps({"reason": reason}), durable=False)


def load_job(job_dir: str) -> Record:
    """job.json with defaults filled in. Raises JobError."""
    path = os.path.join(job_dir, "job.json")
    try:
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
    except (OSError, ValueError) as error:
        raise JobError("%s cannot be read (%s): write it before starting the run" % (path, error)) from error
    if not isinstance(given, dict) or given.get("version") != JOB_VERSION:
        raise JobError(
            "%s is not of version %d, the one this runner knows: use the runner of the same release as its writer"
            % (path, JOB_VERSION)
        )
    for name in ("key", "run"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise JobError("%s has no %r: it must be a text" % (path, name))
    if given.get("base_env", {}) is None:
        given["base_env"] = own_environment()
    for name in ("env", "base_env"):
        if not is_text_table(given.get(name, {})):
            raise JobError("%s: %r must hold texts by name" % (path, name))
    if not is_machine(given.get("machine")):
        raise JobError("%s: 'machine' must be an object whose 'stop' is a list of commands" % path)
    defaults: Record = {
        "env": {}, "base_env": {}, "secret_names": [], "inputs": None, "setup": None, "preflight": None, "limits": {},
        "memory": {}, "gpus": [], "grace": 10, "sample_every": 0.25, "gpu_every": GPU_SECONDS, "machine": None,
    }  # fmt: skip
    return {**defaults, **given}


def is_machine(value: object) -> bool:
    """Whether it says how to end this machine, or that it is not to be ended."""
    stop = value.get("stop", []) if isinstance(value, dict) else None
    return value is None or (isinstance(stop, list) and all(isinstance(each, str) for each in stop))


def own_environment() -> Dict[str, str]:
    """The environment that the runner was started in: without what only that session means, and without credentials,
    which a job gets as secrets or not at all."""
    kept = {name: value for name, value in os.environ.items() if name not in SESSION_NAMES}
    return {name: value for name, value in kept.items() if not name.startswith("SSH_") and not CREDENTIAL.search(name)}


def is_text_table(value: object) -> bool:
    """Whether it is an object of texts, as an environment must be."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


# --- processes ----------------------------------------------------------------------------------------------


class Process(NamedTuple):
    """One process: parent, process group, state letter, CPU seconds (its reaped children's too), RSS from ps."""

    parent: int
    group: int
    state: str
    cpu: float
    rss: int


def processes(pids: Optional[Iterable[int]] = None) -> Dict[int, Process]:
    """The machine's processes, or those of ``pids`` that still exist."""
    table = processes_by_proc(pids) if LINUX else processes_by_ps()
    return table if pids is None else {pid: table[pid] for pid in pids if pid in table}


def processes_by_proc(pids: Optional[Iterable[int]] = None) -> Dict[int, Process]:
    """Read from ``/proc/PID/stat``; a process that ends meanwhile is left out."""
    tick = os.sysconf("SC_CLK_TCK")
    table = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()) if pids is None else pids:
        try:
            with open("/proc/%d/stat" % pid, "rb") as file:
                text = file.read().decode("ascii", "replace")
        except OSError:
            continue
        # The command name, in brackets, may itself hold brackets and blanks: the last one ends it.
        fields = text[text.rfind(")") + 2 :].split()
        cpu = sum(int(field) for field in fields[11:15]) / tick
        table[pid] = Process(int(fields[1]), int(fields[2]), fields[0], cpu, 0)
    return table


def processes_by_ps() -> Dict[int, Process]:
    """Read from ``ps``, where there is no ``/proc``; that ``ps`` itself, our child for a moment, is left out."""
    table = {}
    for line in output_of(["ps", "-axo", "pid=,ppid=,pgid=,stat=,rss=,time=,comm="]).splitlines():
        fields = line.split(None, 6)
        if len(fields) == 7:
            pid, parent, group = (int(field) for field in fields[:3])
            if parent == os.getpid() and os.path.basename(fields[6]) == "ps":
                continue
            table[pid] = Process(parent, group, fields[3][0], ps_seconds(fields[5]), int(fields[4]) * 1024)
    return table


def ps_seconds(text: str) -> float:
    """Seconds in ps's ``[[DD-]HH:]MM:SS[.ss]``."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * int(days or 0)


def output_of(argv: List[str]) -> str:
    """What a small tool prints; empty where it is missing, fails to answer in time, or prints nothing."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def descendants(table: Dict[int, Process], root: int, leave_out: Iterable[int]) -> List[int]:
    """Live processes below ``root``, without those of ``leave_out`` and what is below them."""
    children: Dict[int, List[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    left_out = set(leave_out)
    found: List[int] = []
    ahead = [root]
    while ahead:
        below = [pid for pid in children.get(ahead.pop(), ()) if pid not in left_out]
        ahead += below
        found += below
    return [pid for pid in found if table[pid].state != "Z"]


def ram_of(table: Dict[int, Process]) -> int:
    """RAM that only ending these processes would give back: no page cache, shared pages counted once.

    The cheap sum counts shared pages once per process. Where one process does not dominate it, the
    kernel is asked for proportional shares instead, which is exact but slow for large processes.
    """
    if not LINUX:
        return sum(process.rss for process in table.values())
    shares = [resident(pid) for pid in table]
    if not shares or max(shares) >= 0.9 * sum(shares):
        return sum(shares)
    exact = [proportional(pid) for pid in table]
    return sum(exact) or sum(shares)


def resident(pid: int) -> int:
    """Anonymous, shared and swapped memory of one process, by ``/proc/PID/status``."""
    sizes = kilobyte_table("/proc/%d/status" % pid)
    if "RssAnon" not in sizes:
        return sizes.get("VmRSS", 0)
    return sizes["RssAnon"] + sizes.get("RssShmem", 0) + sizes.get("VmSwap", 0)


def proportional(pid: int) -> int:
    """The same, each page divided by the number of processes that map it; 0 where the kernel cannot tell."""
    sizes = kilobyte_table("/proc/%d/smaps_rollup" % pid)
    return sizes.get("Pss_Anon", 0) + sizes.get("Pss_Shmem", 0) + sizes.get("SwapPss", 0)


def kilobyte_table(path: str) -> Dict[str, int]:
    """Bytes by name, from a kernel file of ``Name:  123 kB`` lines."""
    rows = (line.split() for line in read_text(path).splitlines() if line.endswith(" kB"))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def carriers(key: str) -> List[int]:
    """Live processes whose environment holds ``GPUJOB_RUN=key``, whoever their parent is."""
    return carriers_by_proc(key) if LINUX else carriers_by_ps(key)


def carriers_by_proc(key: str) -> List[int]:
    """Read from ``/proc/PID/environ``; other users' processes cannot be read, and are not ours."""
    mark = ("GPUJOB_RUN=" + key).encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def carriers_by_ps(key: str) -> List[int]:
    """Read from ``ps``, where there is no ``/proc``."""
    mark = "GPUJOB_RUN=" + key
    rows = (line.split() for line in output_of(["ps", "axeww", "-o", "pid=,command="]).splitlines())
    return [int(row[0]) for row in rows if mark in row]


def send(pids: Iterable[int], number: int) -> None:
    """Signal each process that still exists and is ours."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def boot_id() -> str:
    """Changes whenever the machine restarts."""
    if LINUX:
        return read_text("/proc/sys/kernel/random/boot_id").strip()
    return output_of(["sysctl", "-n", "kern.boottime"]).strip()


def ram_total() -> Optional[int]:
    """The machine's RAM, or the container's where that is less."""
    with contextlib.suppress(ValueError, OSError):
        limits = [group.limit() for group in own_cgroups()]
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(each for each in limits if each)])
    return None


def load_libc() -> Any:
    """The C library, for prctl; None where it cannot be had."""
    if not LINUX:
        return None
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None


# --- the memory cap -----------------------------------------------------------------------------------------


class Cgroup:
    """A memory control group of the kernel, version 1 or 2."""

    def __init__(self, path: str, version: int) -> None:
        self.path = path
        self.version = version

    def file(self, name: str) -> str:
        """Path of one of its control files."""
        return os.path.join(self.path, name)

    def write(self, name: str, value: object) -> None:
        """Write a control file that exists already. Raises OSError where the kernel refuses."""
        descriptor = os.open(self.file(name), os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def pids(self) -> List[int]:
        """Processes in it, the kernel's own list."""
        return [int(pid) for pid in read_text(self.file("cgroup.procs")).split()]

    def ram(self) -> int:
        """Memory charged to it, without page cache."""
        table = read_table(self.file("memory.stat"))
        if self.version == 2:
            return table.get("anon", 0) + table.get("shmem", 0)
        return table.get("total_rss", 0) + table.get("total_shmem", 0)

    def oom_kills(self) -> Optional[int]:
        """How often the kernel has killed in it for memory; None where the kernel does not count."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return read_table(self.file(name)).get("oom_kill")

    def high_water(self) -> int:
        """The most ever charged to it, page cache included."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        text = read_text(self.file(name)).strip()
        return int(text) if text.isdigit() else 0

    def limit(self) -> Optional[int]:
        """What bounds it; None for nothing."""
        if self.version == 2:
            text = read_text(self.file("memory.max")).strip()
            return int(text) if text.isdigit() else None
        return read_table(self.file("memory.stat")).get("hierarchical_memory_limit")

    def can_be_entered(self) -> bool:
        """Whether a child of this process may put itself in: tried with one that ends at once."""
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                self.write("cgroup.procs", 0)
                os._exit(0)
            os._exit(1)
        return os.waitpid(pid, 0)[1] == 0

    def remove(self) -> None:
        """Remove it once it is empty; the kernel may need a moment after the last process. Raises OSError."""
        for attempt in range(100):
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == 99:
                    raise
                time.sleep(0.01)


class Cap:
    """A memory cap in force, and the means that hold it. ``bytes`` None means no cap."""

    def __init__(
        self,
        size: Optional[int] = None,
        means: Optional[str] = None,
        cgroup: Optional[Cgroup] = None,
        unit: Optional[str] = None,
    ) -> None:
        self.bytes = size
        self.means = means
        self.cgroup = cgroup
        self.unit = unit

    def prefix(self) -> List[str]:
        """What goes before the command's own argv."""
        return [] if self.unit is None or self.bytes is None else systemd_scope(self.unit, self.bytes)

    def environment(self, given: Dict[str, str]) -> Dict[str, str]:
        """What systemd-run needs to find the user's service manager, where ``given`` does not say it."""
        names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS") if self.unit else ()
        return {name: os.environ[name] for name in names if name in os.environ and name not in given}

    def locate(self, pid: int) -> None:
        """Find the control group that systemd made, as soon as the command is in it."""
        if self.unit and self.cgroup is None:
            found = [group for group in own_cgroups(pid) if group.path.endswith(self.unit)]
            self.cgroup = found[0] if found else None

    def oom_kills(self, last_seen: Optional[int]) -> Optional[int]:
        """The kernel's count of kills in the cap; systemd removes its group at once, but remembers the result."""
        count = self.cgroup.oom_kills() if self.cgroup else None
        count = last_seen if count is None else count
        if self.unit and not count:
            shown = output_of(["systemctl", "--user", "show", "--property=Result", "--value", self.unit])
            count = 1 if shown.strip() == "oom-kill" else count
        return count

    def remove(self) -> None:
        """Leave nothing of it behind. Raises OSError."""
        if self.unit:
            output_of(["systemctl", "--user", "reset-failed", self.unit])
        elif self.cgroup:
            self.cgroup.remove()


def cgroup_name(job_dir: str, key: str) -> str:
    """The name of the run's control group: the same whenever asked, different for every job directory."""
    place = zlib.crc32(os.path.realpath(job_dir).encode("utf-8", "surrogateescape"))
    return "gpujob-%s-%08x" % (re.sub(r"[^A-Za-z0-9_-]", "_", key)[:80], place)


def own_cgroups(pid: Optional[int] = None) -> List[Cgroup]:
    """The memory control groups that ``pid`` (None: this process) lives in, where they can be seen."""
    found = []
    for version, (mount, root) in cgroup_mounts().items():
        for line in read_text("/proc/%s/cgroup" % (pid or "self")).splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(",") if version == 1 else number == "0":
                # In a container the mount may show only a part of the tree, whose root is then cut off.
                inner = path[len(root.rstrip("/")) :] if path.startswith(root) else "/"
                found.append(Cgroup(os.path.join(mount, inner.strip("/")).rstrip("/"), version))
    return found


def kills_in(groups: List[Cgroup]) -> Optional[int]:
    """How often the kernel has killed for memory in these groups; None where none of them counts."""
    counts = [count for count in (group.oom_kills() for group in groups) if count is not None]
    return sum(counts) if counts else None


def cgroup_mounts() -> Dict[int, Tuple[str, str]]:
    """Mount point and root of the control group trees that could hold memory, by version."""
    found = {}
    for line in read_text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup2":
            found[2] = (point, root)
        elif kind == "cgroup" and "memory" in options.split(","):
            found[1] = (point, root)
    return found


def open_cgroup1(name: str, size: int) -> Optional[Cap]:
    """A version 1 group below our own, else at the top."""
    if 1 not in cgroup_mounts():
        return None
    parents = [group.path for group in own_cgroups() if group.version == 1] + [cgroup_mounts()[1][0]]
    for parent in parents:
        cap = settle(Cgroup(os.path.join(parent, name), 1), size, "cgroup1", limit_cgroup1)
        if cap:
            return cap
    return None


def open_cgroup2(name: str, size: int) -> Optional[Cap]:
    """A version 2 group at the top, else beside our own, else below it: the first place we may write to."""
    if 2 not in cgroup_mounts():
        return None
    top = cgroup_mounts()[2][0]
    own = next((group.path for group in own_cgroups() if group.version == 2), top)
    for parent in dict.fromkeys([top, os.path.dirname(own) if own != top else top, own]):
        # A slice belongs to systemd, which is asked properly by systemd-run.
        if not parent.endswith(".slice") and offer_memory(Cgroup(parent, 2), vacate=own == top):
            cap = settle(Cgroup(os.path.join(parent, name), 2), size, "cgroup2", limit_cgroup2)
            if cap:
                return cap
    return None


def offer_memory(parent: Cgroup, *, vacate: bool) -> bool:
    """Let groups below ``parent`` limit memory. False where that is not possible.

    The kernel forbids it while ``parent`` itself holds processes, except at the true root. In a container,
    where everything below the visible top is its own, ``vacate`` moves them into a group beside ours.
    """
    if "memory" not in read_text(parent.file("cgroup.controllers")).split():
        return False
    try:
        parent.write("cgroup.subtree_control", "+memory")
    except OSError as error:
        if error.errno != errno.EBUSY or not vacate:
            return False
        return move_out(parent)
    return True


def move_out(parent: Cgroup) -> bool:
    """Move the processes of ``parent`` into ``gpujob-rest`` below it, then let it limit memory."""
    rest = Cgroup(parent.file("gpujob-rest"), 2)
    try:
        os.makedirs(rest.path, exist_ok=True)
        for pid in parent.pids():
            with contextlib.suppress(ProcessLookupError):
                rest.write("cgroup.procs", pid)
        parent.write("cgroup.subtree_control", "+memory")
    except OSError:
        return False
    return True


def settle(group: Cgroup, size: int, means: str, limit: Callable[[Cgroup, int], None]) -> Optional[Cap]:
    """Make ``group``, limit it and try it; None, with nothing left behind, where any of that is refused."""
    try:
        os.makedirs(group.path, exist_ok=True)
        limit(group, size)
        if group.can_be_entered():
            return Cap(size, means, group)
    except OSError:
        pass  # refused here: the caller has other places and other means
    with contextlib.suppress(OSError):
        os.rmdir(group.path)
    return None


def limit_cgroup1(group: Cgroup, size: int) -> None:
    """RAM, and RAM with swap, so that nothing is swapped out to stay below the cap."""
    group.write("memory.limit_in_bytes", size)
    if os.path.exists(group.file("memory.memsw.limit_in_bytes")):
        group.write("memory.memsw.limit_in_bytes", size)


def limit_cgroup2(group: Cgroup, size: int) -> None:
    """RAM without swap; all processes of the job end together, where the kernel can do that."""
    group.write("memory.max", size)
    for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
        with contextlib.suppress(FileNotFoundError):
            group.write(name, value)


def open_systemd(name: str, size: int) -> Optional[Cap]:
    """A scope of the user's own service manager, tried first with a command that does nothing."""
    if shutil.which("systemd-run") is None:
        return None
    trial = [*systemd_scope(name + "-trial.scope", size), "true"]
    try:
        works = subprocess.run(
            trial,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return Cap(size, "systemd", unit=name + ".scope") if works == 0 else None


def systemd_scope(unit: str, size: int) -> List[str]:
    """Start of an argv that runs the rest of it in a scope with a memory limit, in the same process."""
    limits = ["-p", "MemoryMax=%d" % size, "-p", "MemorySwapMax=0"]
    return ["systemd-run", "--user", "--scope", "--quiet", "--unit=" + unit, *limits, "--"]


MEANS: Dict[str, Callable[[str, int], Optional[Cap]]] = {
    "cgroup2": open_cgroup2,
    "cgroup1": open_cgroup1,
    "systemd": open_systemd,
    "watch": lambda _, size: Cap(size, "watch"),
}


def open_cap(name: str, memory: Record) -> Cap:
    """The cap by the first means that works here; the runner's own watch always does."""
    size = memory.get("cap_bytes")
    if size is None:
        return Cap()
    for means in memory.get("means") or MEANS:
        cap = MEANS[means](name, size) if means in MEANS else None
        if cap:
            return cap
    return Cap(size, "watch")


def best_means() -> str:
    """The first means of capping memory that works here, found out by making and removing a small cap."""
    cap = open_cap("gpujob-trial-%d" % os.getpid(), {"cap_bytes": 64 << 20})
    cap.remove()
    return cap.means or "watch"


# --- the GPUs -----------------------------------------------------------------------------------------------


class Probe:
    """One call of a tool whose answer is collected when it comes, never waited for."""

    def __init__(self, argv: List[str]) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self.process.stdout
        self._pipe = self.process.stdout
        self._answer = b""
        os.set_blocking(self._pipe.fileno(), False)

    def answer(self) -> Optional[str]:
        """The whole answer once the tool has ended, else None."""
        ended = self.process.poll() is not None
        self._answer += read_ready(self._pipe.fileno())
        if not ended:
            return None
        self._pipe.close()
        return self._answer.decode("utf-8", "replace")


def read_ready(descriptor: int) -> bytes:
    """What a non-blocking pipe holds now, up to 1 MiB."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        for _ in range(16):
            part = os.read(descriptor, READ_BYTES)
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


class Gpu(NamedTuple):
    """One device: used and total memory, utilisation in percent (None: unknown)."""

    used: int
    total: int
    percent: Optional[float]


class GpuWatch:
    """Asks nvidia-smi every so many seconds about the job's GPUs and who uses them."""

    GPUS = "--query-gpu=index,uuid,memory.used,memory.total,utilization.gpu"
    APPS = "--query-compute-apps=pid,gpu_uuid,used_memory"

    def __init__(self, indices: List[int], every: float) -> None:
        self._indices = indices
        self._every = every
        self._tool = shutil.which("nvidia-smi") if indices else None
        self._probes: List[Probe] = []
        self._asked = float("-inf")
        self._gpus: Dict[str, Gpu] = {}
        self._before: Dict[str, int] = {}
        self._apps: List[Tuple[int, str, int]] = []

    def children(self) -> List[subprocess.Popen[bytes]]:
        """The tool's running processes, which are ours and not the job's."""
        return [probe.process for probe in self._probes]

    def poll(self, now: float) -> None:
        """Collect answers that have come, ask again when it is time. Raises what PASSING lists."""
        if self._probes:
            self._collect(now)
        elif self._tool and now - self._asked >= self._every:
            self._asked = now
            form = "--format=csv,noheader,nounits"
            for query in (self.GPUS, self.APPS):
                self._probes.append(Probe([self._tool, query, form]))

    def _collect(self, now: float) -> None:
        if now - self._asked > GPU_TIMEOUT_SECONDS:
            send([child.pid for child in self.children() if child.poll() is None], signal.SIGKILL)
        if any(child.poll() is None for child in self.children()):
            return
        answers = [probe.answer() or "" for probe in self._probes]
        self._probes = []
        self._gpus = dict(self._parse_gpus(answers[0]))
        self._before = self._before or {uuid: gpu.used for uuid, gpu in self._gpus.items()}
        self._apps = list(parse_apps(answers[1])) if len(answers) > 1 else []

    def _parse_gpus(self, text: str) -> Iterator[Tuple[str, Gpu]]:
        for line in text.splitlines():
            fields = [field.strip() for field in line.split(",")]
            if len(fields) == 5 and fields[0].isdigit() and int(fields[0]) in self._indices:
                percent = float(fields[4]) if fields[4].isdigit() else None
                yield fields[1], Gpu(mebibytes(fields[2]), mebibytes(fields[3]), percent)

    def used(self, pids: Iterable[int]) -> Optional[int]:
        """VRAM that the processes ``pids`` hold on their fullest GPU; None while unknown.

        In a container nvidia-smi cannot name processes: then it is what the device has more in use than
        before the command. That guess is not made where somebody else's process is in sight.
        """
        own = set(pids)
        ours = [app for app in self._apps if app[0] in own]
        if not ours and not any(os.path.exists("/proc/%d" % pid) for pid, _, _ in self._apps):
            return max((gpu.used - self._before.get(uuid, 0) for uuid, gpu in self._gpus.items()), default=None)
        held = [sum(used for _, at, used in ours if at == uuid) for uuid in self._gpus]
        return max(held, default=None)

    def device_used(self) -> Optional[int]:
        """VRAM in use on the job's fullest GPU, whoever holds it."""
        return max((gpu.used for gpu in self._gpus.values()), default=None)

    def used_before(self) -> Optional[int]:
        """VRAM that was in use on the job's fullest GPU when it was first looked at."""
        return max(self._before.values(), default=None)

    def total(self) -> Optional[int]:
        """VRAM of the job's smallest GPU."""
        return min((gpu.total for gpu in self._gpus.values()), default=None)

    def percent(self) -> Optional[float]:
        """Utilisation of the job's busiest GPU."""
        return max((gpu.percent for gpu in self._gpus.values() if gpu.percent is not None), default=None)

    def close(self) -> None:
        """End the tool if it still runs; one that hangs in the kernel is left to init."""
        send([child.pid for child in self.children() if child.poll() is None], signal.SIGKILL)


def preflight_vram(told: str) -> Optional[int]:
    """The VRAM that the run needs at least, by what the preflight has left in the file ``told``."""
    size = read_record(told).get("vram_bytes")
    return size if isinstance(size, int) and 0 < size < 1 << 53 else None


def step_seconds(metrics: str) -> Optional[float]:
    """The seconds per step that the command told, if it told any that can be."""
    told = read_record(metrics).get("step_seconds")
    return float(told) if isinstance(told, (int, float)) and 0 < told < 1e6 else None


def versions_of(environment: Optional[str], system_too: bool) -> Dict[str, str]:
    """Versions of what memory depends on: the driver, and packages in the command's environment or beside ours."""
    import site  # slow to load, both, and asked for once
    from importlib import metadata

    places = glob.glob(os.path.join(environment, "lib", "python*", "site-packages")) if environment else []
    places += site.getsitepackages() if system_too or not environment else []
    found = {}
    for name in ("torch", "transformers"):
        installed = next(iter(metadata.distributions(name=name, path=places)), None)
        if installed:
            found[name] = str(installed.version)
    driver = re.search(r"Module\s+([\d.]+)", read_text("/proc/driver/nvidia/version"))
    return {**found, "driver": driver.group(1)} if driver else found


def parse_apps(text: str) -> Iterator[Tuple[int, str, int]]:
    """(pid, GPU's uuid, bytes) of each compute process, from nvidia-smi's CSV."""
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdigit():
            yield int(fields[0]), fields[1], mebibytes(fields[2])


def mebibytes(text: str) -> int:
    """Bytes in nvidia-smi's MiB; 0 for its ``[N/A]``."""
    return int(text) << 20 if text.isdigit() else 0


# --- logs ---------------------------------------------------------------------------------------------------


class Redactor:
    """Replaces secret values in a stream by ``***``, also where a value is split over two chunks."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for value in secrets for form in (value, value.strip(), *long_lines(value)) if form}
        self._values = sorted((form.encode() for form in forms), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(value) for value in self._values) or b"(?!)")
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown by now; the end is held back while it could be the start of a secret."""
        if not self._values:
            return data
        data = self._held + data
        cut = self._safe_end(data)
        self._held = data[cut:]
        return self._pattern.sub(b"***", data[:cut])

    def flush(self) -> bytes:
        """What was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return self._pattern.sub(b"***", held)

    def _safe_end(self, data: bytes) -> int:
        first = max(0, len(data) - len(self._values[0]) + 1)
        spans = [match.span() for match in self._pattern.finditer(data) if match.end() > first]
        for start in range(first, len(data)):
            inside = any(begin < start < end for begin, end in spans)
            if not inside and self._may_grow(data[start:]):
                return start
        return len(data)

    def _may_grow(self, tail: bytes) -> bool:
        return any(len(value) > len(tail) and value.startswith(tail) for value in self._values)


def long_lines(value: str) -> List[str]:
    """Lines of a many-line secret that are secret by themselves."""
    return [line for line in value.splitlines() if len(line) >= 8]


class LogFile:
    """A log of bounded size: its beginning, live, and its end, added when the run is over.

    What comes after the beginning is full goes to a bounded tail in memory. A full disk ends the
    beginning early; nothing here raises.
    """

    def __init__(self, path: str, limit: int, secrets: Iterable[str]) -> None:
        self._path = path
        self._redactor = Redactor(secrets)
        self._tail_room = min(limit // 4, LOG_TAIL_BYTES)
        self._head_room = max(0, limit - self._tail_room - 100)
        self._tail = bytearray()
        self._beyond = 0
        self._descriptor: Optional[int] = None
        self.total = 0
        """Bytes that the command printed."""
        self.truncated = False

    def write(self, data: bytes) -> None:
        """Take what the command printed."""
        self.total += len(data)
        self._keep(self._redactor.feed(data))

    def _keep(self, shown: bytes) -> None:
        written = self._append(shown[: self._head_room])
        self._head_room -= written
        if written < len(shown):
            self._head_room = 0
            self._beyond += len(shown) - written
            self._tail += shown[written:]
            if len(self._tail) > 2 * self._tail_room:
                del self._tail[: len(self._tail) - self._tail_room]

    def _append(self, data: bytes) -> int:
        """Number of bytes that the disk took."""
        written = 0
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        return written

    def close(self) -> None:
        """Add the tail, with a word on what was left out."""
        self._keep(self._redactor.flush())
        tail = bytes(self._tail[-self._tail_room :]) if self._tail_room else b""
        left_out = self._beyond - len(tail)
        self.truncated = left_out > 0
        if self.truncated:
            tail = b"\n[gpujob: %d bytes left out here]\n" % left_out + tail
        self._append(tail)
        if self._descriptor is not None:
            os.close(self._descriptor)


# --- measuring ----------------------------------------------------------------------------------------------


class Meter:
    """CPU use of the job as percent of one core, and how long CPU and GPU have been idle."""

    def __init__(self, limits: Record) -> None:
        self._cpu_idle, self._gpu_idle = (
            IDLE_PERCENT if limits.get(name) is None else limits[name]
            for name in ("cpu_idle_percent", "gpu_idle_percent")
        )
        self._window = min(CPU_WINDOW_SECONDS, (limits.get("idle") or 3600) / 4)
        self._since: Optional[float] = None
        self._cpu_then = 0.0
        self._busy_at = time.monotonic()
        self.percent: Optional[float] = None

    def see(self, now: float, cpu_seconds: float, gpu_percent: Optional[float]) -> None:
        """Take a reading of the CPU time that the job's processes have used in all."""
        if gpu_percent is not None and gpu_percent >= self._gpu_idle:
            self._busy_at = now
        if self._since is not None and now - self._since < self._window:
            return
        if self._since is not None:
            self.percent = max(0.0, 100 * (cpu_seconds - self._cpu_then) / (now - self._since))
            if self.percent >= self._cpu_idle:
                self._busy_at = now
        self._since, self._cpu_then = now, cpu_seconds

    def count_as_busy(self, now: float) -> None:
        """Whatever the readings say, the job is at work now."""
        self._busy_at = now

    def idle_seconds(self, now: float) -> float:
        """Time since the job last did something."""
        return now - self._busy_at


class SampleFile:
    """samples.jsonl: a line per pace, which doubles after every 2048 lines; three days are under 2 MB.

    A line holds the newest reading, with the highest RAM and VRAM since the line before.
    """

    def __init__(self, path: str, pace: float) -> None:
        self._path = path
        self._pace = pace
        self._last = float("-inf")
        self._high = {"ram": 0, "vram": 0}
        self.count = 0

    def add(self, at: float, sample: Record) -> None:
        """Take a reading at ``at`` seconds since the start. Raises OSError on a full disk."""
        for name in self._high:
            self._high[name] = max(self._high[name], sample[name] or 0)
        if at - self._last < self._pace:
            return
        self._last = at
        line = {"t": round(at, 3), **sample, "ram": self._high["ram"]}
        if sample["vram"] is not None:
            line["vram"] = self._high["vram"]
        self._high = dict.fromkeys(self._high, 0)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.count += 1
        if self.count % SAMPLES_PER_PACE == 0:
            self._pace *= 2


def new_record(key: str) -> Record:
    """The exit record as it starts: every key that it will ever have."""
    unknown = (
        "heartbeat pid command_started_at ended_at setup_seconds run_seconds failed_phase exit_code signal stopped_by"
        " stop_reason memory_cap_bytes memory_cap_means memory_cap_cgroup oom_kills_in_cap oom_kills_on_machine"
        " ram_bytes peak_ram_bytes load_ram_bytes vram_bytes peak_vram_bytes peak_device_vram_bytes"
        " vram_used_before_bytes vram_total_bytes gpu_percent cpu_percent disk_free_bytes shm_free_bytes versions"
        " step_seconds preflight_exit_code preflight_vram_bytes"
    )
    return {
        "version": JOB_VERSION,
        "runner_version": VERSION,
        "key": key,
        "phase": "starting",
        "boot_id": boot_id(),
        "supervisor_pid": os.getpid(),
        "started_at": time.time(),
        **dict.fromkeys(unknown.split()),
        "ram_total_bytes": ram_total(),
        "log_bytes": {"stdout": 0, "stderr": 0},
        "log_truncated": False,
        "sample_count": 0,
    }


# --- the supervisor -----------------------------------------------------------------------------------------


def enter_job(libc: Any, supervisor: int, cgroup: Optional[Cgroup]) -> None:
    """In the new child, before its program: die with the supervisor, be killed before it, obey the cap."""
    if libc:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before we asked
            os._exit(1)
        with contextlib.suppress(OSError):
            prefer_as_oom_victim()
    if cgroup:
        cgroup.write("cgroup.procs", 0)


def prefer_as_oom_victim() -> None:
    """Have the kernel take this process and what it starts before others. Raises OSError."""
    write_oom_score(max(int(read_text("/proc/self/oom_score_adj") or 0), OOM_SCORE))


def write_oom_score(score: int) -> None:
    """Tell the kernel how soon it may take this process when memory runs out. Raises OSError."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(score))


class Supervisor:
    """Runs one job directory to its end. Troubles of its own go to stderr, which is runner.log."""

    def __init__(self, job_dir: str, job: Record, secrets: Dict[str, str]) -> None:
        self._dir = job_dir
        self._job = job
        self._limits: Record = job["limits"]
        self._work = os.path.join(job_dir, "work")
        metrics = os.path.join(os.path.abspath(job_dir), METRICS)
        self._env = {**job["base_env"], **job["env"], **secrets, "GPUJOB_RUN": job["key"], "GPUJOB_METRICS": metrics}
        self._began = time.monotonic()
        self._libc = load_libc()
        room = self._limits.get("log_bytes") or DEFAULT_LOG_BYTES
        self._logs = {name: LogFile(os.path.join(job_dir, name + ".log"), room, secrets.values()) for name in LOG_NAMES}
        self._samples = SampleFile(os.path.join(job_dir, "samples.jsonl"), job["sample_every"])
        self._meter = Meter(self._limits)
        self._gpus = GpuWatch(job["gpus"] or [], job["gpu_every"])
        self._computed = False
        self._cap = Cap()
        self._oom_in_cap: Optional[int] = None
        self._around = own_cgroups()
        self._oom_around_before = kills_in(self._around)
        self._oom_before = read_table("/proc/vmstat").get("oom_kill")
        self._beside: Optional[str] = None
        """The log of a command that is not the run itself."""
        self._child: Optional[subprocess.Popen[bytes]] = None
        self._child_began = self._began
        self._kill_at: Optional[float] = None
        self._told_to_end = False
        self._next_sample = self._next_save = 0.0
        self._selector = selectors.DefaultSelector()
        self._troubles: Dict[str, int] = {}
        self._record = new_record(job["key"])

    def run(self) -> None:
        """Setup, command, exit record. Whatever goes wrong in here, no process of the job survives it."""
        self._listen()
        self._save()
        try:
            if self._set_up() and self._preflight():
                self._run_command()
        except BaseException:
            send(self._members(), signal.SIGKILL)
            raise
        self._finish()

    def _listen(self) -> None:
        """Let a child's end wake the loop, adopt the job's orphans, take SIGTERM as a request to end."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: read_ready(reader))
        # Handlers, not SIG_IGN: ignoring would be inherited by the job.
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._tell_to_end())
        if self._libc:
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def _tell_to_end(self) -> None:
        self._told_to_end = True

    # Phases

    def _set_up(self) -> bool:
        """Whether the command may run."""
        inputs, setup = self._job["inputs"], self._job["setup"]
        if not (inputs or setup):
            return True
        self._record["phase"] = self._beside = "setup"
        self._save()
        began = time.monotonic()
        try:
            code = self._execute(self._shell(inputs)) if inputs else 0
            if code == 0 and setup:
                code = self._prepare(setup)
        except OSError as error:
            code = self._explain("the environment of the job cannot be made: %s" % error)
        self._record["setup_seconds"] = time.monotonic() - began
        if code == 0 and not self._stopped:
            return True
        self._conclude("setup", code)
        return False

    def _prepare(self, setup: Record) -> Optional[int]:
        """Make the environment unless it is there, complete. The exit code; None if stopped before."""
        environment = setup.get("environment")
        if not environment:
            return self._execute(self._shell(setup["command"]))
        os.makedirs(os.path.dirname(environment), exist_ok=True)
        lock = os.open(environment + ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            return self._build(environment, setup, lock) if self._wait_for(lock) else None
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> bool:
        """Wait for another run that builds the same environment. False if stopped meanwhile."""
        while not self._stopped:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._tick()
            else:
                return True
        return False

    def _build(self, environment: str, setup: Record, lock: int) -> Optional[int]:
        """Build it, from nothing if a crash left it half done.

        The commands share the lock, so that it is held until they are dead even if the supervisor is killed.
        """
        marker = os.path.join(environment, COMPLETE)
        code: Optional[int] = 0
        if not os.path.exists(marker):
            if os.path.exists(environment):
                shutil.rmtree(environment)
            options = ["--system-site-packages"] if setup.get("system_site_packages") else []
            venv = [setup.get("python") or sys.executable, "-m", "venv", *options, environment]
            code = self._execute(venv, share=lock)
            self._use(environment)
            if code == 0 and setup.get("command"):
                code = self._execute(self._shell(setup["command"]), share=lock)
            if code == 0 and not self._stopped:
                write_atomically(marker, "", durable=True)
        self._use(environment)
        return code

    def _use(self, environment: str) -> None:
        first = os.path.join(environment, "bin")
        rest = [part for part in self._env.get("PATH", os.defpath).split(os.pathsep) if part != first]
        self._env.update(VIRTUAL_ENV=environment, PATH=os.pathsep.join([first, *rest]))

    def _preflight(self) -> bool:
        """Whether the command may run. Only a preflight's clear word forbids it; its troubles are only recorded."""
        preflight = self._job["preflight"]
        if not preflight:
            return True
        self._record["phase"], self._beside = "setup", "preflight"
        self._save()
        began = time.monotonic()
        code = self._execute(self._shell(preflight["command"]), seconds=preflight["seconds"])
        self._record.update(
            setup_seconds=(self._record["setup_seconds"] or 0) + time.monotonic() - began,
            preflight_exit_code=code,
            preflight_vram_bytes=preflight_vram(os.path.join(self._dir, "preflight.json")),
        )
        if code != PREFLIGHT_REFUSES and not self._stopped:
            return True
        self._conclude("preflight", code)
        return False

    def _run_command(self) -> None:
        self._beside = None
        self._cap = open_cap(cgroup_name(self._dir, self._job["key"]), self._job["memory"])
        self._env.update(self._cap.environment(self._env))
        self._computed = False
        self._note_versions()
        self._record.update(
            phase="running",
            memory_cap_bytes=self._cap.bytes,
            memory_cap_means=self._cap.means,
            memory_cap_cgroup=self._cap.cgroup.path if self._cap.cgroup else None,
            command_started_at=time.time(),
            # What setup used is no measure of the job.
            **dict.fromkeys(name for name in self._record if re.match("(peak|load)_|v?ram_bytes", name)),
        )
        began = time.monotonic()
        code = self._execute([*self._cap.prefix(), *self._shell(self._job["run"])])
        self._record["run_seconds"] = time.monotonic() - began
        self._conclude("run", code)

    def _note_versions(self) -> None:
        setup = self._job["setup"] or {}
        with self._troubled("looking up versions"):
            self._record["versions"] = versions_of(setup.get("environment"), bool(setup.get("system_site_packages")))

    def _conclude(self, phase: str, code: Optional[int]) -> None:
        """Note how a phase ended: ``code`` is an exit code, minus a signal's number, or None (never started)."""
        self._record["exit_code"] = code if code is not None and code >= 0 else None
        self._record["signal"] = -code if code is not None and code < 0 else None
        self._record["failed_phase"] = phase if code != 0 or self._stopped else None

    def _finish(self) -> None:
        """Read what only the end tells, clear away, and leave the exit record whatever it takes."""
        with self._troubled("reading the last figures"):
            self._note_memory()
        self._record["step_seconds"] = step_seconds(os.path.join(self._dir, METRICS))
        self._record["disk_free_bytes"] = free_bytes(self._dir)
        self._record["shm_free_bytes"] = free_bytes("/dev/shm")  # noqa: S108  a mount point, no file of ours
        self._gpus.close()
        with self._troubled("removing the memory cap"):
            self._cap.remove()
        with self._troubled("giving up the reserve"):
            os.unlink(os.path.join(self._dir, RESERVE))
        for log in self._logs.values():
            log.close()
        self._record.update(phase="ended", pid=None, ended_at=time.time())
        give_up = time.monotonic() + RECORD_RETRY_SECONDS
        while not self._save(durable=True) and time.monotonic() < give_up:
            time.sleep(0.5)

    def _note_memory(self) -> None:
        """The kernel's own word on kills for memory, and on the peak where it refused more."""
        if self._oom_before is not None:
            now = read_table("/proc/vmstat").get("oom_kill", self._oom_before)
            self._record["oom_kills_on_machine"] = now - self._oom_before
        kills = self._cap.oom_kills(self._oom_in_cap)
        around = kills_in(self._around)
        if self._cap.cgroup is None and around is not None:
            kills = kills or around - (self._oom_around_before or 0)
        self._record["oom_kills_in_cap"] = kills
        if kills and self._cap.bytes and self._cap.means != "watch":
            # It killed only after giving up all page cache: what was charged then was needed.
            high = self._cap.cgroup.high_water() if self._cap.cgroup else 0
            self._raise_peak("ram", min(high or self._cap.bytes, self._cap.bytes))

    # One command

    def _shell(self, command: str) -> List[str]:
        bash = shutil.which("bash", path=self._env.get("PATH")) or shutil.which("bash")
        return [bash or "/bin/sh", "-c", command]

    def _execute(self, argv: List[str], share: Optional[int] = None, seconds: Optional[float] = None) -> Optional[int]:
        """Run ``argv`` until it and all that it started are gone: its exit code, or minus the signal's number.

        None if the run was stopped before. ``share`` is a descriptor that the command holds too; after ``seconds`` it
        is killed.
        """
        self._enforce(time.monotonic())
        if self._stopped:
            return None
        try:
            child = self._launch(argv, share)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return self._explain("%s cannot be started: %s" % (argv[0], error))
        self._child, self._child_began = child, time.monotonic()
        self._kill_at = None if seconds is None else self._child_began + seconds
        self._next_sample = self._child_began + FIRST_SAMPLE_SECONDS
        self._record["pid"] = child.pid
        self._save()
        pipes = self._open_pipes(child)
        self._attend(child)
        self._close_pipes(pipes)
        self._child = None
        return child.returncode

    def _explain(self, text: str) -> int:
        """Tell the user in the command's own log; returns the exit code that shells use for it."""
        self._log_of("stderr").write(("gpujob: %s\n" % text).encode("utf-8", "replace"))
        return 127

    def _launch(self, argv: List[str], share: Optional[int]) -> subprocess.Popen[bytes]:
        supervisor, cgroup = os.getpid(), self._cap.cgroup
        os.makedirs(self._work, exist_ok=True)
        return subprocess.Popen(
            argv,
            cwd=self._work,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=() if share is None else (share,),
            preexec_fn=lambda: enter_job(self._libc, supervisor, cgroup),  # noqa: PLW1509  there are no threads
        )

    def _open_pipes(self, child: subprocess.Popen[bytes]) -> List[Tuple[Any, LogFile]]:
        pipes: List[Tuple[Any, LogFile]] = [
            (child.stdout, self._log_of("stdout")),
            (child.stderr, self._log_of("stderr")),
        ]
        for pipe, log in pipes:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, lambda pipe=pipe, log=log: self._copy(pipe, log))
        return pipes

    def _log_of(self, stream: str) -> LogFile:
        """The command's streams have a log each; what setup and preflight say is kept apart from both."""
        return self._logs[self._beside or stream]

    def _copy(self, pipe: Any, log: LogFile) -> None:
        data = os.read(pipe.fileno(), READ_BYTES)
        log.write(data)
        if not data:
            self._selector.unregister(pipe)

    def _close_pipes(self, pipes: List[Tuple[Any, LogFile]]) -> None:
        for pipe, log in pipes:
            log.write(read_ready(pipe.fileno()))
            with contextlib.suppress(KeyError):
                self._selector.unregister(pipe)
            pipe.close()

    def _attend(self, child: subprocess.Popen[bytes]) -> None:
        """Tick until the command and its descendants are gone; those it leaves behind get ``grace`` to end."""
        while True:
            self._tick()
            now = time.monotonic()
            if self._kill_at is not None and now > self._kill_at + UNKILLABLE_SECONDS:
                return self._note("processes outlive SIGKILL: %s" % sorted(self._members()))
            if child.returncode is None:
                continue
            left = self._left_behind()
            if not left:
                return None
            if self._kill_at is None:
                self._kill_at = now + self._job["grace"]
                send(left, signal.SIGTERM)

    # The loop

    def _tick(self) -> None:
        """Wait for output, a child's end or the next thing due; then do what is due."""
        for ready, _ in self._selector.select(self._pause()):
            with self._troubled("copying output"):
                ready.data()
        self._reap()
        now = time.monotonic()
        if self._child and now >= self._next_sample:
            self._next_sample = now + LONGEST_PAUSE
            with self._troubled("sampling"):
                self._sample(now)
        if now >= self._next_save:
            self._save()
        self._enforce(now)

    def _pause(self) -> float:
        due = self._next_sample - time.monotonic() if self._child else LONGEST_PAUSE
        if self._kill_at is not None:
            due = min(due, max(0.01, self._kill_at - time.monotonic()))
        return min(max(due, 0.0), LONGEST_PAUSE)

    def _reap(self) -> None:
        """Collect ended children, and on Linux the orphans of the job that became ours."""
        own = {child.pid: child for child in (self._child, *self._gpus.children()) if child}
        own = {pid: child for pid, child in own.items() if child.poll() is None}
        with contextlib.suppress(ChildProcessError):
            while LINUX:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                child = own.pop(ended.si_pid, None)
                if child is None:
                    os.waitpid(ended.si_pid, os.WNOHANG)
                else:
                    child.poll()

    def _enforce(self, now: float) -> None:
        """End the run if a limit is reached or somebody asks; finish off what SIGTERM did not end."""
        over = self._child is not None and self._child.returncode is not None
        ending = None if self._stopped or over else self._why_end(now)
        if ending:
            self._stop(ending[0], ending[1], now)
        if self._child and self._kill_at is not None and now >= self._kill_at:
            send(self._left_behind(), signal.SIGKILL)

    def _stop(self, by: str, reason: str, now: float) -> None:
        """Record who ends the run before it is felt, so that no kill of ours looks like somebody else's."""
        self._record.update(stopped_by=by, stop_reason=reason)
        self._save()
        if by == "memory_cap":
            self._kill_at = now
        elif self._child:
            self._kill_at = min(self._kill_at or now + self._job["grace"], now + self._job["grace"])
            send(self._members(), signal.SIGTERM)

    @property
    def _stopped(self) -> bool:
        return self._record["stopped_by"] is not None

    def _why_end(self, now: float) -> Optional[Tuple[str, str]]:
        """(who, why) when the run has to end now."""
        request = os.path.join(self._dir, "stop.request")
        if os.path.exists(request):
            return "request", str(read_record(request).get("reason") or "asked to end")
        if self._told_to_end:
            return "shutdown", "the runner got SIGTERM: the machine may be shutting down"
        used, allowed = self._record["ram_bytes"] or 0, self._cap.bytes or 0
        if self._cap.means == "watch" and used > allowed:
            return "memory_cap", "%d bytes of RAM in use, %d allowed" % (used, allowed)
        return self._out_of_time(now) or self._out_of_work(now)

    def _out_of_time(self, now: float) -> Optional[Tuple[str, str]]:
        runtime, lease, ends = (self._limits.get(name) for name in ("runtime", "lease", "lease_ends_utc"))
        if runtime is not None and now - self._began >= runtime:
            return "deadline", "the allowed time of %g s is over" % runtime
        lease_began = self._limits.get("lease_began_monotonic")
        lease_began = self._began if lease_began is None else lease_began
        # A beginning in the future means a restart since: then the lease is at least as old as the uptime.
        if lease is not None and now - (lease_began if lease_began <= now else 0.0) >= lease:
            return "lease", "the %g s that the machine is paid for are over" % lease
        if ends is not None and time.time() >= ends:
            return "lease", "the machine is paid for until %s" % time.strftime("%F %T UTC", time.gmtime(ends))
        return None

    def _out_of_work(self, now: float) -> Optional[Tuple[str, str]]:
        idle = self._limits.get("idle")
        if self._record["phase"] != "running":
            self._meter.count_as_busy(now)
        if idle is None or self._meter.idle_seconds(now) < idle:
            return None
        return "idle", "neither CPU nor GPU did anything for %g s" % idle

    # Looking

    def _sample(self, now: float) -> None:
        self._gpus.poll(now)
        if self._child:
            self._cap.locate(self._child.pid)
        cgroup = self._cap.cgroup
        table = processes(cgroup.pids() if cgroup else self._members())
        ram = cgroup.ram() if cgroup else ram_of(table)
        vram, gpu = self._gpus.used(table), self._gpus.percent()
        self._meter.see(now, sum(process.cpu for process in table.values()), gpu)
        self._oom_in_cap = cgroup.oom_kills() if cgroup else None
        sample = {"ram": ram, "vram": vram, "gpu": gpu, "cpu": self._meter.percent}
        self._record.update(
            ram_bytes=ram, vram_bytes=vram, gpu_percent=gpu, cpu_percent=sample["cpu"],
            vram_total_bytes=self._gpus.total(), vram_used_before_bytes=self._gpus.used_before(),
            oom_kills_in_cap=self._oom_in_cap,
        )  # fmt: skip
        self._raise_peak("ram", ram)
        self._raise_peak("vram", vram)
        self._raise_peak("device_vram", self._gpus.device_used())
        self._note_loading(gpu)
        self._plan_next_sample(now)
        self._samples.add(now - self._began, sample)

    def _plan_next_sample(self, now: float) -> None:
        """Often at first, for the peaks of short jobs; never so often that looking costs a fifth of a core."""
        usual = WATCH_SECONDS if self._cap.means == "watch" else self._job["sample_every"]
        pace = min(usual, max(FIRST_SAMPLE_SECONDS, (now - self._child_began) / 10))
        self._next_sample = now + max(pace, 5 * (time.monotonic() - now))

    def _note_loading(self, gpu: Optional[float]) -> None:
        """Until a GPU of the job first computes, the job is loading: its peak so far is that of loading."""
        self._computed = self._computed or (gpu or 0) >= COMPUTING_PERCENT
        if self._job["gpus"] and not self._computed:
            self._record["load_ram_bytes"] = self._record["peak_ram_bytes"]

    def _raise_peak(self, what: str, value: Optional[int]) -> None:
        name = "peak_%s_bytes" % what
        if value is not None:
            self._record[name] = max(self._record[name] or 0, value)

    def _members(self) -> List[int]:
        """Live processes of the job: below us, in the command's process group, or in the cap."""
        table = processes()
        found = set(descendants(table, os.getpid(), [probe.pid for probe in self._gpus.children()]))
        group = self._child.pid if self._child else None
        found.update(pid for pid, process in table.items() if process.group == group)
        found.update(self._cap.cgroup.pids() if self._cap.cgroup else ())
        return [pid for pid in found if pid in table and table[pid].state != "Z"]

    def _left_behind(self) -> List[int]:
        """The same, with orphans that only their environment gives away where the system gives us none."""
        return self._members() if LINUX else [*self._members(), *carriers(self._job["key"])]

    # Telling

    def _save(self, *, durable: bool = False) -> bool:
        """Write status.json; False where that failed. Only the exit record waits for the disk, never the watch."""
        self._next_save = time.monotonic() + HEARTBEAT_SECONDS
        self._record["heartbeat"] = time.time()
        self._record["log_bytes"] = {name: log.total for name, log in self._logs.items()}
        self._record["log_truncated"] = any(log.truncated for log in self._logs.values())
        self._record["sample_count"] = self._samples.count
        try:
            write_atomically(os.path.join(self._dir, "status.json"), json.dumps(self._record), durable=durable)
        except PASSING as error:
            self._note("writing status.json: %s" % error)
            return False
        return True

    @contextlib.contextmanager
    def _troubled(self, doing: str) -> Iterator[None]:
        """Nothing that goes wrong on the side may end the run: it is noted instead."""
        try:
            yield
        except PASSING as error:
            self._note("%s: %s: %s" % (doing, type(error).__name__, error))

    def _note(self, text: str) -> None:
        """A line in runner.log; the same one at most three times."""
        self._troubles[text] = self._troubles.get(text, 0) + 1
        if self._troubles[text] <= 3:
            say(text)


def say(text: str) -> None:
    """A line in runner.log, if it can be written."""
    with contextlib.suppress(OSError):
        os.write(2, ("%s %s\n" % (time.strftime("%FT%TZ", time.gmtime()), text)).encode("utf-8", "replace"))


# --- starting -----------------------------------------------------------------------------------------------


def start(job_dir: str) -> int:
    """Leave a supervisor behind; returns when it holds lock and claim, or has said why not.

    Where the machine is to be ended from inside, the watchdog comes first: no run is started without it.
    """
    secrets = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    if read_record(os.path.join(job_dir, "job.json")).get("machine"):
        code, answer = leave_behind("watch", job_dir, b"")
        if code:
            sys.stdout.write("the watchdog does not start: %s" % answer)
            return code
    code, answer = leave_behind("supervise", job_dir, secrets)
    sys.stdout.write(answer)
    return code


def leave_behind(verb: str, job_dir: str, given: bytes) -> Tuple[int, str]:
    """Start this program detached, to do ``verb``: 0 once it says that it is under way, and what it said."""
    with open(os.path.join(job_dir, "runner.log"), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), verb, job_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(given)
    answer = process.stdout.read().decode("utf-8", "replace")
    if answer == STARTED:
        return 0, answer
    return (process.wait(), answer) if answer else (1, "the runner died at its start: see runner.log in %s\n" % job_dir)


def supervise(job_dir: str) -> int:
    """Body of the process that ``start`` leaves behind: claim the job directory, then run it."""
    secrets = read_secrets()
    lock = take_lock(job_dir)
    if lock is None:
        sys.stdout.write("already started\n")
        return 0
    job = load_job(job_dir)
    missing = sorted(set(job["secret_names"]) - set(secrets))
    if missing:
        raise JobError("no value for the secret %s: pass it on standard input" % ", ".join(missing))
    claim(job_dir)
    with contextlib.suppress(OSError):
        reserve(job_dir)
    answer_and_detach()
    Supervisor(job_dir, job, secrets).run()
    os.close(lock)
    return 0


def read_secrets() -> Dict[str, str]:
    """Secret values by name, from standard input. Raises JobError, and never says what it read."""
    try:
        given = json.loads(sys.stdin.buffer.read() or b"{}")
    except ValueError:
        given = None
    if not is_text_table(given):
        raise JobError("standard input must be empty or one JSON object of secret values by name, all text")
    return dict(given)


def take_lock(job_dir: str) -> Optional[int]:
    """The lock's descriptor, held until it is closed; None if the run was started before, by whomever."""
    descriptor = os.open(os.path.join(job_dir, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    claimed = os.path.join(job_dir, "claim")
    for _ in range(2000):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(claimed):
                break
            return descriptor
        if os.path.exists(claimed):
            break
        time.sleep(0.005)  # somebody looks at the lock, or is about to claim
    else:
        raise JobError("the lock in %s is held by something that does not start the run" % job_dir)
    os.close(descriptor)
    return None


def claim(job_dir: str) -> None:
    """Say for ever that this job directory has been started. Raises OSError, and then it is not claimed."""
    path = os.path.join(job_dir, "claim")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    who = {"pid": os.getpid(), "boot_id": boot_id(), "started_at": time.time()}
    try:
        write_all(descriptor, json.dumps(who).encode())
        os.fsync(descriptor)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    folder = os.open(job_dir, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def reserve(job_dir: str) -> None:
    """Take disk space now that the exit record will need if the job fills the disk. Raises OSError."""
    with open(os.path.join(job_dir, RESERVE), "wb") as file:
        file.write(b"\0" * RESERVE_BYTES)


def answer_and_detach() -> None:
    """Tell ``start`` that the run is under way, then let go of its pipes."""
    os.write(1, STARTED.encode())
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)


# --- the watchdog of a rented machine -----------------------------------------------------------------------


class Watchdog:
    """Ends this machine when its time is over or nobody needs it, whoever else is dead, asleep or out of reach.

    What it must know is in ``watchdog.json``, so that one that is started again counts on from there.
    """

    def __init__(self, job_dir: str, job: Record) -> None:
        self._dir = job_dir
        self._key = job["key"]
        self._machine: Record = job["machine"]
        self._idle = job["limits"].get("idle") or USUAL_IDLE_SECONDS
        before = read_record(os.path.join(job_dir, "watchdog.json"))
        if before.get("boot_id") != boot_id():
            before = {}
        self._state: Record = {
            "began": lasting_clock(), "waiting_since": None, "ending": None, "tries": 0,
            **before, "pid": os.getpid(), "boot_id": boot_id(),
        }  # fmt: skip
        self._heartbeat: object = None
        self._heard = self._busy = self._looked = lasting_clock()
        self._cpu = 0.0
        self._save()

    def run(self) -> None:
        """Look, and end the machine when it is time; again and again, for as long as it is still there."""
        while True:
            reason = self._why_end()
            if reason:
                self._end_machine(reason)
            time.sleep(WATCHDOG_SECONDS)

    def _why_end(self) -> Optional[str]:
        now = lasting_clock()
        lease, ends = self._machine.get("lease"), self._machine.get("ends_utc")
        if lease is not None and now - self._state["began"] >= lease:
            return "the %g s that it is paid for are over" % lease
        if ends is not None and time.time() >= ends:
            return "it is paid for until %s" % time.strftime("%F %T UTC", time.gmtime(ends))
        return self._not_needed(now)

    def _not_needed(self, now: float) -> Optional[str]:
        """Nobody needs a machine on which nothing runs, once its results are fetched or have waited long enough."""
        found = read_status(self._dir)
        working = found["phase"] in ("starting", "setup", "running") and not self._is_stuck(found["record"], now)
        if working != (self._state["waiting_since"] is None):
            self._state["waiting_since"] = None if working else now
            self._save()
        if working:
            return None
        if read_record(os.path.join(self._dir, "stop.request")).get("reason") == FETCHED:
            return "everything on it has been fetched"
        linger = self._machine.get("linger")
        linger = USUAL_LINGER_SECONDS if linger is None else linger
        if now - self._state["waiting_since"] < linger:
            return None
        return "nothing runs here (%s), and nobody came for what is left within %g s" % (found["phase"], linger)

    def _is_stuck(self, record: Record, now: float) -> bool:
        """Whether the supervisor is silent and the job does nothing, for as long as counts as idle."""
        if record.get("heartbeat") != self._heartbeat:
            self._heartbeat, self._heard, self._busy = record.get("heartbeat"), now, now
        if now - self._heard < SILENT_SECONDS:
            return False
        if now - self._looked >= CPU_WINDOW_SECONDS:
            cpu = sum(process.cpu for process in processes(carriers(self._key)).values())
            if 100 * (cpu - self._cpu) / (now - self._looked) >= IDLE_PERCENT:
                self._busy = now
            self._looked, self._cpu = now, cpu
        return now - self._busy >= self._idle

    def _end_machine(self, reason: str) -> None:
        """Every means there is, in order; the pause before the next round grows."""
        self._state.update(ending=reason, tries=self._state["tries"] + 1)
        self._save()
        say("watchdog: ending this machine: %s" % reason)
        for number, command in enumerate(self._machine.get("stop", []), start=1):
            code = self._stop_by(command)
            say("watchdog: stop command %d: %s" % (number, code))
            if code == "exit code 0":
                time.sleep(AFTER_STOP_SECONDS)
        mark = self._machine.get("stop_pid1")
        if mark:
            say("watchdog: %s" % end_process_1(mark))
        time.sleep(min(LONGEST_STOP_PAUSE, 2.0 ** self._state["tries"]))

    def _stop_by(self, command: str) -> str:
        """How the command ended, in words; what it prints is not shown, it may hold a key."""
        try:
            code = subprocess.run(
                ["/bin/sh", "-c", command], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=STOP_TIMEOUT_SECONDS, check=False,
            ).returncode  # fmt: skip
        except PASSING as error:
            return type(error).__name__
        return "exit code %d" % code

    def _save(self) -> None:
        """A full disk, or a job directory that is gone, must not keep the machine alive."""
        with contextlib.suppress(*PASSING):
            write_atomically(os.path.join(self._dir, "watchdog.json"), json.dumps(self._state), durable=False)


def lasting_clock() -> float:
    """Seconds that nobody can set, and that go on while the machine is suspended, where the system can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def end_process_1(mark: str) -> str:
    """End the container by ending its first process; what was done, in words.

    Only where the environment of process 1 holds ``mark`` (``NAME=value``), which says that it is the container that
    was rented: anywhere else this would end a machine that is not ours to end. Its children go first, since the kernel
    lets nobody inside kill a process 1 that does not listen; it then ends because what it waited for is gone.
    """
    try:
        with open("/proc/1/environ", "rb") as file:
            known = mark.encode() in file.read().split(b"\0")
    except OSError as error:
        return "process 1 cannot be looked at: %s" % error
    if not known:
        return "process 1 is left alone: its environment does not say that it is the machine that was rented"
    send([1], signal.SIGTERM)
    time.sleep(2.0)
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)  # all but process 1 and this one
    time.sleep(2.0)
    send([1], signal.SIGKILL)
    return "everything but process 1 has been killed"


def watch(job_dir: str) -> int:
    """Body of the watchdog that ``start`` leaves behind; where there is one already, that one goes on."""
    lock = os.open(os.path.join(job_dir, "watchdog.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    if not take_soon(lock):
        sys.stdout.write(STARTED)
        return 0
    job = load_job(job_dir)
    if not job["machine"]:
        raise JobError("%s does not say how to end this machine" % job_dir)
    with contextlib.suppress(OSError):  # only root may: elsewhere the job's own readiness to be killed must do
        write_oom_score(OOM_SHIELD)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the commands that end the machine would inherit
    watchdog = Watchdog(job_dir, job)
    answer_and_detach()
    watchdog.run()
    return 0


def take_soon(lock: int) -> bool:
    """Take the lock unless another watchdog holds it: who only looks lets go of it at once."""
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


def watchdog_of(job_dir: str) -> List[int]:
    """The watchdog's pid while it lives."""
    pid = read_record(os.path.join(job_dir, "watchdog.json")).get("pid")
    return [pid] if isinstance(pid, int) and lock_is_held(job_dir, "watchdog.lock") else []


# --- sweeping -----------------------------------------------------------------------------------------------


def sweep(job_dir: str, key: str) -> List[int]:
    """End run ``key`` at once and leave nothing of it: kill its processes, remove its control group.

    A living supervisor is given a moment to write its record. Returns the processes that do not die.
    """
    groups = cgroups_left(job_dir, key)
    send(watchdog_of(job_dir), signal.SIGKILL)
    if lock_is_held(job_dir):
        request_stop(job_dir, "swept")
    patience, give_up = (time.monotonic() + wait for wait in (SWEEP_PATIENCE_SECONDS, SWEEP_SECONDS))
    left: List[int] = []
    quiet = 0
    while quiet < 2 and time.monotonic() < give_up:  # twice: a process on its way between fork and exec hides
        left = sorted({*carriers(key), *(pid for group in groups for pid in group.pids())} - {os.getpid()})
        held = lock_is_held(job_dir)
        send(left, signal.SIGKILL)
        if held and time.monotonic() > patience:
            send(supervisor_of(job_dir), signal.SIGKILL)
        quiet = 0 if left or held else quiet + 1
        time.sleep(0.01)
    for group in groups:
        with contextlib.suppress(OSError):
            group.remove()
    return left


def supervisor_of(job_dir: str) -> List[int]:
    """The supervisor's pid, for who knows that the lock is held: then it cannot be somebody else's."""
    pid = read_record(os.path.join(job_dir, "claim")).get("pid")
    return [pid] if isinstance(pid, int) else []


def cgroups_left(job_dir: str, key: str) -> List[Cgroup]:
    """Control groups of the run that still exist: where its record says, and where one would be made from here."""
    name = cgroup_name(job_dir, key)
    recorded = str(read_record(os.path.join(job_dir, "status.json")).get("memory_cap_cgroup"))
    places = [group.file(name) for group in own_cgroups()]
    places += [os.path.join(mount, name) for mount, _ in cgroup_mounts().values()]
    places += [recorded] if os.path.basename(recorded) == name else []
    return [Cgroup(path, 0) for path in dict.fromkeys(places) if os.path.isdir(path)]


# --- command line -------------------------------------------------------------------------------------------


def main(argv: List[str]) -> int:
    """Exit codes: 0 done, 1 not done, 2 the job directory or the call is wrong."""
    commands: Dict[str, Callable[[str], int]] = {
        "start": start,
        "supervise": supervise,
        "watch": watch,
        "status": print_status,
        "sweep": sweep_and_say,
        "stop": lambda job_dir: stop(job_dir, argv[3] if argv[2:3] == ["--reason"] and len(argv) == 4 else ""),
    }
    if len(argv) < 2 or argv[0] not in commands:
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        return commands[argv[0]](os.path.abspath(argv[1]))
    except (JobError, OSError) as error:
        sys.stdout.write("%s\n" % error)
        return 2


def print_status(job_dir: str) -> int:
    """One line of JSON."""
    sys.stdout.write(json.dumps(read_status(job_dir)) + "\n")
    return 0


def stop(job_dir: str, reason: str) -> int:
    """Drop the request."""
    request_stop(job_dir, reason)
    return 0


def sweep_and_say(job_dir: str) -> int:
    """Sweep the run that job.json names."""
    left = sweep(job_dir, load_job(job_dir)["key"])
    sys.stdout.write("processes that do not die: %s\n" % left if left else "nothing is left of the run\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
