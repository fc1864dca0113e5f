from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec.files import SelectedFile, select_files, tree_digest
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import SpecError


def spec_in(root: Path, **more: object) -> JobSpec:
    return JobSpec.model_validate({"name": "a", "run": "true", "workdir": root, **more})


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def selected(root: Path, **more: object) -> list[str]:
    return [str(file.path) for file in select_files(spec_in(root, **more))]


def test_every_regular_file_in_order_with_size_and_mode(tmp_path):
    write(tmp_path, {"b": "12", "a/z": "", "a/b/c": "x", "run.sh": "#!"})
    (tmp_path / "run.sh").chmod(0o711)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert select_files(spec_in(tmp_path)) == [
        SelectedFile(PurePosixPath("a/b/c"), 1, 0o644),
        SelectedFile(PurePosixPath("a/z"), 0, 0o644),
        SelectedFile(PurePosixPath("b"), 2, 0o644),
        SelectedFile(PurePosixPath("run.sh"), 2, 0o755),
    ]


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ({".gitignore": "*.log\n"}, ["data/a.bin", "data/b.bin", "src/main.py"]),
        ({".gitignore": "data/\n"}, ["src/main.py", "src/x.log", "x.log"]),
        ({".gitignore": "/x.log\n"}, ["data/a.bin", "data/b.bin", "src/main.py", "src/x.log"]),
        ({".gitignore": "data/*\n!data/a.bin\n*.log\n"}, ["data/a.bin", "src/main.py"]),
        ({".gitignore": "*\n!*/\n!*.py\n"}, ["src/main.py"]),
        ({"src/.gitignore": "*.log\n"}, ["data/a.bin", "data/b.bin", "src/main.py", "x.log"]),
        ({".gitignore": "*.bin\n*.log\n", "src/.gitignore": "!x.log\n"}, ["src/main.py", "src/x.log"]),
        ({".gpujobignore": "data\n"}, ["src/main.py", "src/x.log", "x.log"]),
        ({".gitignore": "data/\n*.log\n", ".gpujobignore": "!data/\n"}, ["data/a.bin", "data/b.bin", "src/main.py"]),
        ({"src/.gitignore": "*\n", ".gpujobignore": "!main.py\n*.log\n*.bin\n"}, ["src/main.py"]),
        ({".gitignore": "# comment\n\n\\#x\n**/a.bin\n*.log\n"}, ["data/b.bin", "src/main.py"]),
    ],
)  # fmt: skip
def test_ignore_files_are_honoured_at_every_level(tmp_path, ignore, kept):
    write(tmp_path, {"data/a.bin": "", "data/b.bin": "", "src/main.py": "", "src/x.log": "", "x.log": ""})
    write(tmp_path, ignore)
    assert [name for name in selected(tmp_path) if "ignore" not in name] == kept


TREE = ["a.py", "b.log", "d/a.py", "d/b.log", "d/e/a.py", "d/e/f/b.log", "e/a.py", "e/d/b.log", "f/e"]
PATTERNS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "!", "/", "!/"]),
    st.sampled_from(
        ["*", "d", "e", "*.py", "d/e", "d/*", "**/e", "d/**", "d/**/b.log", "[de]", "?.log", "e/a.py", "d/a.py", "**"]
    ),
    st.sampled_from(["", "", "/"]),
)


@pytest.mark.skipif(shutil.which("git") is None, reason="NOT TESTED: agreement with git, which is not installed")
@settings(max_examples=60)
@given(top=st.lists(PATTERNS, max_size=5), below=st.lists(PATTERNS, max_size=3))
def test_the_selection_is_what_git_would_add(tmp_path_factory, top, below):
    root = tmp_path_factory.mktemp("repository")
    write(root, dict.fromkeys(TREE, ""))
    write(root, {".gitignore": "\n".join(top), "d/.gitignore": "\n".join(below)})
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
    )
    assert sorted(selected(root)) == sorted(filter(None, listed.stdout.split("\0")))


def test_what_is_never_uploaded(tmp_path):
    left_out = [".git/config", "a/__pycache__/x.pyc", ".venv/bin/python", "web/node_modules/x.js"]
    outputs = ["results/old.json", "out/ckpt/last.pt", "log.txt"]
    write(tmp_path, dict.fromkeys([*left_out, *outputs, "out/code.py", "sub/results/x"], ""))
    write(tmp_path, {".gpujobignore": "!.git/\n!results/\n"})
    kept = selected(tmp_path, results=["results/", "log.txt"], checkpoints=["out/ckpt"])
    assert kept == [".gpujobignore", "out/code.py", "sub/results/x"]


def test_a_file_named_by_inputs_is_uploaded_though_ignored(tmp_path):
    write(tmp_path, {"data/a.bin": "1", "data/b.bin": "2", ".gitignore": "data/\n"})
    inputs = [{"source": "data/a.bin", "dest": "models/"}]
    assert selected(tmp_path, inputs=inputs) == [".gitignore", "data/a.bin"]
    (tmp_path / "data/a.bin").unlink()
    with pytest.raises(SpecError, match=r"'data/a\.bin' is named by inputs, but there is no such file"):
        selected(tmp_path, inputs=inputs)


def test_links_inside_are_taken_as_what_they_point_to(tmp_path):
    write(tmp_path, {"real/file": "content"})
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    files = select_files(spec_in(tmp_path))
    assert [(str(file.path), file.size) for file in files] == [("folder/file", 7), ("link", 7), ("real/file", 7)]


def test_links_that_cannot_be_followed_are_all_told(tmp_path):
    root = tmp_path / "root"
    write(root, {"a/file": ""})
    write(tmp_path, {"secret": ""})
    (root / "out").symlink_to("../secret")
    (root / "away").symlink_to("/")
    (root / "broken").symlink_to("nothing")
    (root / "loop").symlink_to("loop")
    (root / "a" / "up").symlink_to("..")
    with pytest.raises(SpecError) as raised:
        select_files(spec_in(root))
    assert sorted(problem.message for problem in raised.value.problems) == [
        "workdir: 'a/up' is a link to a folder that contains it",
        "workdir: 'away' is a link that leaves workdir",
        "workdir: 'broken' is a link to nothing",
        "workdir: 'loop' is a link to nothing",
        "workdir: 'out' is a link that leaves workdir",
    ]
    write(root, {".gpujobignore": "out\naway\nbroken\nloop\nup\n"})
    assert selected(root) == [".gpujobignore", "a/file"]


def test_a_workdir_that_is_itself_a_link_is_fine(tmp_path):
    write(tmp_path, {"real/file": ""})
    (tmp_path / "link").symlink_to("real")
    assert selected(tmp_path / "link") == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT TESTED: root can read every folder")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    write(tmp_path, {"closed/file": ""})
    (tmp_path / "closed").chmod(0)
    with pytest.raises(SpecError, match="'closed' is a folder that cannot be read"):
        selected(tmp_path)


def test_odd_names_are_kept(tmp_path):
    odd = ["a b", "new\nline", "-rf", "'quote", "ünï", os.fsdecode(b"not-utf8-\xff")]
    write(tmp_path, dict.fromkeys(odd, "x"))
    files = select_files(spec_in(tmp_path))
    assert {str(file.path) for file in files} == set(odd)
    assert len(tree_digest(tmp_path, files)) == 64


def test_the_tree_digest_is_of_names_modes_and_content(tmp_path):
    def digest() -> str:
        return tree_digest(tmp_path, select_files(spec_in(tmp_path)))

    write(tmp_path, {"a": "1", "b": "2"})
    first = digest()
    os.utime(tmp_path / "a", (1, 1))
    assert digest() == first
    seen = {first}
    write(tmp_path, {"a": "2"})
    seen.add(digest())
    (tmp_path / "a").chmod(0o755)
    seen.add(digest())
    (tmp_path / "a").rename(tmp_path / "c")
    seen.add(digest())
    assert len(seen) == 4


def test_a_workdir_that_holds_far_too_much_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.spec.files.MOST_FILES", 20)
    for number in range(30):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "job.yaml").write_text("name: a\nrun: x\n")
    with pytest.raises(SpecError, match="more than 20 files"):
        select_files(load_spec(tmp_path / "job.yaml"))
