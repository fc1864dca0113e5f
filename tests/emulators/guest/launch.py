"""Runs one rented machine as a container with its own processes, files and memory limit. Standard library, Linux, root.

    python -I -S launch.py      the guest as one line of JSON on standard input, which then stays open

Standard input is the guest's lifeline: when its other end is closed, by :class:`Container` or because the emulator
was killed, the guest's PID 1 is killed and the kernel ends everything else in its process namespace. The exit status
is PID 1's, 128 + N for signal N. The guest keeps the capabilities that Docker gives a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID = 0x00020000, 0x04000000, 0x08000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
PR_CAPBSET_DROP = 24
DOCKER_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
"""chown dac_override fowner fsetid kill setgid setuid setpcap net_bind net_raw sys_chroot mknod audit_write setfcap."""
SHARED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix")
"""Top-level folders that a guest shares with this machine, read-only; /usr too, but for /usr/local/bin."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OWN_ETC = {"passwd", "group", "shadow", "hostname", "hosts", "ssh", "rp_environment", "mtab"}

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> None:
    """A C function that returns non-zero on failure. Raises OSError."""
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{args}: {os.strerror(number)}")


def mount(source: str | Path, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    call("mount", str(source).encode(), str(target).encode(), kind.encode(), flags, options.encode())


def bind(source: str | Path, target: Path, *, read_only: bool = False) -> None:
    """Show ``source`` at ``target``, which is made if need be."""
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, flags=MS_BIND)
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


# --- the guest's file system ----------------------------------------------------------------------------------


def build_root(guest: dict[str, Any]) -> Path:
    """A root of its own, below which only programs are shared with this machine."""
    root = Path(guest["root"])
    if guest["disk_bytes"]:
        mount("guest", root, "tmpfs", options=f"size={guest['disk_bytes']},mode=755")
    else:
        mount(root, root, flags=MS_BIND)  # so that df and mount show a disk at /
    for name in ("root", "workspace", "var/log", "var/tmp", "run/sshd", "home", "mnt", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "run/sshd").chmod(0o755)
    share_programs(root)
    share_python(root, guest["python"])
    write_etc(root, guest)
    make_devices(root)
    show_cgroup(root, guest["cgroup"])
    mount("proc", root / "proc", "proc", MS_NOSUID)
    bind(guest["control"], root / "run/guest")
    for source, path in guest["mounts"]:
        bind(source, root / path.strip("/"))
    return root


def share_programs(root: Path) -> None:
    """This machine's programs and libraries."""
    for name in SHARED:
        here = Path("/", name)
        if here.is_symlink():
            (root / name).symlink_to(here.readlink())
        elif here.is_dir():
            bind(here, root / name, read_only=True)
    for entry in Path("/usr").iterdir():
        if entry.name != "local":
            share(entry, root / "usr" / entry.name)
    for entry in Path("/usr/local").iterdir():
        if entry.name != "bin":
            share(entry, root / "usr/local" / entry.name)
    own = root / "usr/local/bin"
    own.mkdir(parents=True)
    bind("/usr/local/bin", root / "usr/local/.bin", read_only=True)
    for entry in Path("/usr/local/bin").iterdir():
        (own / entry.name).symlink_to(Path("/usr/local/.bin", entry.name))


def share(entry: Path, target: Path) -> None:
    """One entry of a folder that is rebuilt: links as links, folders as read-only views."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.is_symlink():
        target.symlink_to(entry.readlink())
    elif entry.is_dir():
        bind(entry, target, read_only=True)


def share_python(root: Path, python: dict[str, str]) -> None:
    """The interpreter that runs the emulator, as the guest's python3.

    Not by a link: an environment made with it would look for its library beside the link.
    """
    if not (root / python["prefix"].strip("/") / "bin").is_dir():
        bind(python["prefix"], root / python["prefix"].strip("/"), read_only=True)
    for name in ("python3", "python"):
        program = root / "usr/local/bin" / name
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\nexec {python["program"]} "$@"\n')
        program.chmod(0o755)


def write_etc(root: Path, guest: dict[str, Any]) -> None:
    """/etc of its own: users, host name, sshd; the rest are links to a read-only view of this machine's."""
    etc = root / "etc"
    (etc / "ssh").mkdir(parents=True)
    bind("/etc", root / ".etc", read_only=True)
    for entry in Path("/etc").iterdir():
        if entry.name not in OWN_ETC:
            (etc / entry.name).symlink_to(Path("/.etc", entry.name))
    files = {
        "passwd": "root:x:0:0:root:/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
        "shadow": "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nnobody:*:19000:0:99999:7:::\n",
        "hostname": guest["hostname"] + "\n",
        "hosts": f"127.0.0.1 localhost\n127.0.0.1 {guest['hostname']}\n",
        "ssh/sshd_config": sshd_config(guest["sshd"]),
    }
    for name, text in files.items():
        (etc / name).write_text(text)
    (etc / "shadow").chmod(0o640)
    # As in Ubuntu's images: what is not interactive stops here, before the line that start.sh appends.
    (root / "root/.bashrc").write_text('[ -z "$PS1" ] && return\n')
    for name, (source, mode) in guest["files"].items():
        path = root / name.strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(Path(source).read_bytes())
        path.chmod(mode)


def sshd_config(address: list[Any]) -> str:
    """As in a provider's images; all guests share this machine's network, so each has an address of its own."""
    host, port = address
    return f"""\
ListenAddress {host}:{port}
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PidFile /run/sshd.pid
X11Forwarding no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""


def make_devices(root: Path) -> None:
    """/dev as a container has it."""
    dev = root / "dev"
    mount("dev", dev, "tmpfs", MS_NOSUID, "mode=755,size=65536k")
    for name in DEVICES:
        bind(f"/dev/{name}", dev / name)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
        ("shm", "tmpfs", "mode=1777"),
    ):
        (dev / name).mkdir()
        mount(name, dev / name, kind, MS_NOSUID, options)
    (dev / "ptmx").symlink_to("pts/ptmx")


def show_cgroup(root: Path, cgroup: dict[str, Any] | None) -> None:
    """/sys, read-only, with the guest's own control group where programs look for their limits."""
    bind("/sys", root / "sys", read_only=True)
    place = root / "sys/fs/cgroup"
    if cgroup is None or not place.is_dir():
        return
    if cgroup["version"] == 1:
        mount("cgroup", place, "tmpfs", MS_NOSUID, "mode=755")
        place = place / "memory"
    bind(cgroup["path"], place, read_only=True)


# --- the guest's processes ------------------------------------------------------------------------------------


def become_guest(guest: dict[str, Any]) -> NoReturn:
    """Turn this process, the first of its namespace, into the guest's PID 1. A failure is said and ends it with 127."""
    try:
        os.setsid()
        if guest["cgroup"]:
            Path(guest["cgroup"]["path"], "cgroup.procs").write_text("0")
        call("sethostname", guest["hostname"].encode(), len(guest["hostname"]))
        os.chroot(build_root(guest))
        os.chdir("/")
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        for number in range(64):
            if number not in DOCKER_CAPABILITIES:
                libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(guest["command"][0], guest["command"], guest["env"])
    except Exception as error:
        print(f"container could not be started: {error}", flush=True)
    os._exit(127)


def wait_for(child: int) -> int:
    """PID 1's exit status; standard input's end kills it first."""
    process = os.pidfd_open(child)
    ready, _, _ = select.select([process, 0], [], [])
    if process not in ready:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def remove_cgroup(path: Path, *, orphaned: bool) -> None:
    """Remove the guest's control group, and the emulator's if this was its last guest and the emulator is gone."""
    for _ in range(500):
        try:
            path.rmdir()
            break
        except FileNotFoundError:
            break
        except OSError:
            time.sleep(0.01)
    if orphaned:
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def main() -> int:
    """Run the guest that standard input describes."""
    parent = os.getppid()
    text = b""
    while not text.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            return 127
        text += part
    guest = json.loads(text)
    call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
    child = os.fork()
    if child == 0:
        become_guest(guest)
    status = wait_for(child)
    if guest["cgroup"]:
        Path(guest["control"], "oom-kills").write_text(oom_kills(guest["cgroup"]))
        remove_cgroup(Path(guest["cgroup"]["path"]), orphaned=os.getppid() != parent)
    return status


def oom_kills(cgroup: dict[str, Any]) -> str:
    """How often the kernel has killed in the guest for memory."""
    name = "memory.events" if cgroup["version"] == 2 else "memory.oom_control"
    for line in Path(cgroup["path"], name).read_text().splitlines():
        if line.startswith("oom_kill "):
            return line.split()[1]
    return "0"


if __name__ == "__main__":
    sys.exit(main())
