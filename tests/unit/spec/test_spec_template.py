from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.spec.shell import Quoting, quoting
from orchestrator.spec.template import UnsafePlaceError, escape, fill_command, fill_text, uses

# Surrogates and NUL cannot be in an argument; everything else can.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)

UNHARMED = [
    "echo ${HOME} ${X:-y} ${#X} ${X%%.*}",
    "awk '{print $1}' file",
    "awk '{ print }' file",
    "find . -exec ls {} +",
    "touch {a,b} {1..3} {a..z}",
    "{ echo a; echo b; }",
    """curl -d '{"a": {"b": 1}}' host""",
    """echo '[{"a": 1}, {"b": {"c": {"d": 2}}}]'""",
    "docker ps --format '{{.Names}}'",
    "git show stash@{0}",
    "jq '{a: .b}'",
    "f() { echo ${1}; }",
    "echo {é}",
    "# a comment with {braces}\necho",
    "echo a # not {replaced}",
]


@pytest.mark.parametrize("command", UNHARMED)
def test_what_is_not_a_parameter_passes_unharmed(command):
    assert fill_command(command, {}) == command
    assert uses(command, command=True) == []


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{x}", "1"),
        ("{{x}}", "{x}"),
        ("{{{x}}}", "{1}"),
        ("{{{{x}}}}", "{{x}}"),
        ('{"lr":{x}}', '{"lr":1}'),
        ("{x}{x}-{y}", "11-true"),
        ("${x} {x}", "${x} 1"),
        ("a#{x}", "a#1"),
    ],
)
def test_braces(text, filled):
    assert fill_text(text, {"x": 1, "y": True}) == filled
    assert fill_command(text, {"x": 1, "y": True}) == filled


@pytest.mark.parametrize("word", ["print", "batch-size", "params.lr", "HOME"])
def test_a_word_in_braces_wants_a_value(word):
    with pytest.raises(KeyError):
        fill_command(f"echo {{{word}}}", {"x": 1})


def test_values_are_written_as_in_yaml():
    assert fill_text("{a} {b} {c} {d}", {"a": True, "b": 0.1, "c": 3, "d": "x y"}) == "true 0.1 3 x y"


def shell(command: str) -> str:
    return subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=20).stdout.decode()


# Each prints the value between brackets, whatever is in it.
PLACES = [
    "printf '[%s]' {x}",
    "printf '[%s]' \"{x}\"",
    "printf '[%s]' '{x}'",
    "printf '%s' '['{x}\"]\"",
    "A=b; printf '[%s]' \"${A#b}{x}\"",
    "A=; printf '[%s]' $A{x}",
    "A=; printf '[%s]' \"$A{x}\"",
    "printf '[%s]' \"$(printf '%s.' {x})\"",
    "printf '[%s]' \"$(printf '%s.' \"{x}\")\"",
    "# it's a comment\nprintf '[%s]' {x}",
    "printf '%s' it\\'s >/dev/null; printf '[%s]' {x} # {x} isn't here",
    "x={x}; printf '[%s]' \"$x\"",
    "( printf '[%s]' {x} ) | cat",
    "echo \"a\\\"b\" >/dev/null; printf '[%s]' '{x}'",
    "echo \\ #'a' >/dev/null; printf '[%s]' {x}",
]


@settings(max_examples=60)
@given(value=VALUES, place=st.sampled_from(PLACES))
@example(value="$(echo run)", place=PLACES[1])
@example(value="'; echo run; '", place=PLACES[2])
@example(value="\\", place=PLACES[1])
@example(value='`echo run`"$HOME\n', place=PLACES[1])
@example(value="", place=PLACES[0])
@example(value="a\nb", place=PLACES[10])
def test_a_value_reaches_the_command_as_it_is_and_is_never_run(value, place):
    printed = shell(fill_command(place, {"x": value}))
    assert printed == (f"[{value}.]" if "%s." in place else f"[{value}]")


def test_a_value_after_a_variable_does_not_become_part_of_its_name():
    assert shell(fill_command("A=1; printf %s $A{x}", {"x": "BC"})) == "1BC"
    assert shell(fill_command('A=1; printf %s "$A{x}"', {"x": "BC"})) == "1BC"


UNSURE = [
    "cat <<END\n{x}\nEND",
    "cat <<'END'\n{x}\nEND",
    "echo `echo {x}`",
    "echo $(( {x} + 1 ))",
    "(( i = {x} ))",
    "echo $[ {x} ]",
    "echo $'a' {x}",
    "echo ${A:-{x}}",
    'echo "${A:-"b"}" {x}',
    'echo "$(case a in a) echo {x};; esac)"',
    "echo \\{x}",
    'echo "\\{x}"',
]


@pytest.mark.parametrize("command", UNSURE)
def test_a_value_is_not_put_where_it_cannot_be_quoted_with_certainty(command):
    with pytest.raises(UnsafePlaceError):
        fill_command(command, {"x": "1"})
    assert [use.safe for use in uses(command, command=True)] == [False]


def test_the_uses_of_a_parameter_tell_which_of_them_is_meant():
    found = uses("# {x}\necho {x} {{x}} $(( {x} ))", command=True)
    assert [(use.word, use.nth, use.safe) for use in found] == [("x", 1, True), ("x", 3, False)]


@given(st.text(alphabet="ab'\"\\ \n$(){}#`<;", max_size=40))
def test_every_character_has_a_place(command):
    assert len(quoting(command)) == len(command)
    assert set(quoting(command)) <= set(Quoting)


@given(st.text(alphabet="{}ab$-. \"'", max_size=40))
def test_an_escaped_text_is_its_own_value(text):
    assert fill_text(escape(text), {}) == text
