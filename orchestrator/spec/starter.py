"""The commented spec that ``gpujob init`` writes."""

from __future__ import annotations

import re

from orchestrator.spec.template import escape

_PLAIN = re.compile(r"[A-Za-z./][A-Za-z0-9_./=+-]*(?: [A-Za-z0-9_./=+-]+)*")
_WORDS_OF_YAML = frozenset({"true", "false", "null"})

_STARTER = """\
# A gpujob spec. Check it with `gpujob validate`, see what it would cost with `gpujob plan`, run it with
# `gpujob submit`. Keys that begin with # are examples: remove the # to use one.
name: {name}
workdir: .                          # what is uploaded; .gitignore and .gpujobignore are honoured

# Prepares the machine, once for all attempts that install the same.
{setup}

# The job itself. {{param}} is replaced by its value, quoted for the shell.
run: {run}
results: [results/]                 # what is brought home

# checkpoints: [checkpoints/]       # carried from a failed or preempted attempt to the next
# env: {{OMP_NUM_THREADS: "2"}}
# secrets: [HF_TOKEN]               # by name; the values come from your environment or keyring at run time
# params: {{batch_size: 16}}          # then write {{batch_size}} in run

needs:
  # none, a count such as 1, a name such as T4, or {{count: 1, vram: 16 GB}}
  gpu: {gpu}
  ram: auto                         # a size is also the job's memory cap, such as 8 GB
  disk: auto

# variants:                         # best first; the next one is tried when memory runs out
#   - {{name: full}}
#   - {{name: small, params: {{batch_size: 4}}, quality: 0.95}}
# duration: {{on: cpu, minutes: 30}}  # a first guess; recorded runs replace it

# smoke: {{params: {{batch_size: 1}}}}  # tiny: `gpujob submit --smoke-first` tries it here before anything is rented

limits:
  runtime: 2h                       # one attempt is ended after this time
  idle: 15m                         # and when it does nothing for so long
  attempts: 4
"""


def starter_spec(name: str, run: str, gpu: str | None, setup: str | None = None) -> str:
    """The text of a spec that loads as it is, with ``run`` and ``setup`` taken word for word.

    ``name`` must be a job's name (``job_name`` makes one) and ``gpu`` a count, a GPU's name, or None.
    """
    return _STARTER.format(
        name=_scalar(name),
        setup=f"setup: {_scalar(escape(setup))}" if setup else "# setup: pip install -r requirements.txt",
        run=_scalar(escape(run)),
        gpu=gpu if gpu and gpu.isdecimal() else _scalar(gpu or "none"),
    )


def job_name(text: str) -> str:
    """The job name nearest to ``text``, such as a folder's name: ``"My Job_2"`` gives ``"my-job-2"``."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-")
    return name or "job"


def _scalar(text: str) -> str:
    """``text`` as one YAML value: plain where it can mean nothing else, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
