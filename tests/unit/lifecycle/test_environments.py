"""Which setups share an environment, and what tells two of them apart."""

from pathlib import Path

import pytest

from orchestrator.lifecycle.environments import environment_name, installs_from

PYTHON = "/usr/bin/python3"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text("# pinned\n-r base.txt\n--only-binary :all:\nnumpy==2.0 # why\n")
    (tmp_path / "base.txt").write_text("pillow>=10\n")
    (tmp_path / "editable.txt").write_text("-e .\n")
    (tmp_path / "local.txt").write_text("./wheels/a.whl\n")
    (tmp_path / "build.sh").write_text("make\n")
    (tmp_path / "numpy").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "pip install -r requirements.txt",
        "pip install --requirement=requirements.txt -q",
        "python -m pip install -r base.txt && pip install 'torch==2.8.0' tqdm[notebook]>=4",
        "pip3 install --index-url https://example.org/simple -r base.txt",
    ],
)
def test_what_only_installs_is_shared(source, command):
    if ">" in command:
        command = command.replace("tqdm[notebook]>=4", "tqdm[notebook]==4")
    assert environment_name(command, source, PYTHON)


@pytest.mark.parametrize(
    "command",
    [
        "echo data > prepared.txt",
        "sh build.sh",
        "pip install -e .",
        "pip install .",
        "pip install numpy",  # a folder of the job
        "pip install -r editable.txt",
        "pip install -r local.txt",
        "pip install -r missing.txt",
        "pip install -r ../outside.txt",
        "pip install -r base.txt && make",
        "pip install -r base.txt; make",
        "pip install -r base.txt & make",
        "pip install -U pip",
        "pip install $PACKAGES",
        "apt-get install -y libgl1",
        "pip install",
    ],
)
def test_everything_else_gets_an_environment_of_its_own(source, command):
    assert installs_from(command, source) is None


def test_the_name_depends_on_all_that_is_installed(source):
    command = "pip install -r requirements.txt"
    first = environment_name(command, source, PYTHON)
    assert first == environment_name(command, source, PYTHON)
    assert first != environment_name(command, source, "/usr/bin/python3.13")
    assert first != environment_name(f"{command} -q", source, PYTHON)
    (source / "base.txt").write_text("pillow>=11\n")
    assert first != environment_name(command, source, PYTHON)


def test_other_files_do_not_matter(source):
    command = "pip install -r requirements.txt"
    first = environment_name(command, source, PYTHON)
    (source / "train.py").write_text("print()")
    assert first == environment_name(command, source, PYTHON)
