"""Canaries: a secret goes in, in every form it may travel in, and must not come out."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.redaction import MASK, Redactor

CANARY = 'canary/+=&"q x%41:zebra'
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAcanary\nc2VjcmV0Y2FuYXJ5\n-----END RSA PRIVATE KEY-----"

KNOWN_FORMS = {
    "plain": CANARY,
    "percent": quote(CANARY, safe=""),
    "percent, slashes kept": quote(CANARY),
    "percent, mixed case": quote(CANARY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "form encoding": quote_plus(CANARY),
    "json": json.dumps({"env": CANARY}),
}


@pytest.mark.parametrize("form", KNOWN_FORMS.values(), ids=KNOWN_FORMS.keys())
def test_a_known_value_is_hidden_in_every_form(form: str) -> None:
    out = Redactor([CANARY])(f"curl: ({form}) failed")
    assert "canary" not in out
    assert "zebra" not in out
    assert out.startswith("curl: (")
    assert out.endswith(") failed")


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_known_value_is_hidden_inside_base64(before: str, encode: object) -> None:
    assert callable(encode)
    secret = "hunter2-hunter2??>>"
    text = encode(f"{before}{secret} tail".encode()).decode()
    out = Redactor([secret])(f"got {text}.")
    assert MASK in out
    left = out.removeprefix("got ").split(MASK)
    assert all(len(part) <= len(before) * 2 + 12 for part in left)


TOKENS = {
    "hugging face": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "openai": "sk-proj-Ab1_Cd2-Ef3Gh4Ij5Kl6Mn7Op8",
    "anthropic": "sk-ant-api03-Ab1_Cd2-Ef3Gh4Ij5Kl6Mn7Op8",
    "runpod": "rpa_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcd",
    "github classic": "ghp_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "github fine-grained": "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
    "aws key id": "AKIAIOSFODNN7EXAMPLE",
    "aws temporary key id": "ASIAIOSFODNN7EXAMPLE",
    "google oauth": "ya29.a0AfH6SMBx-canary_canary",
    "google api key": "AIzaSyA-canarycanarycanarycanary1234567",
    "json web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl_canary",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
@pytest.mark.parametrize("frame", ["{}", "TOKEN={}", 'key: "{}",', "a {}\nb"])
def test_a_token_is_known_by_its_shape(token: str, frame: str) -> None:
    assert Redactor()(frame.format(token)) == frame.format(MASK)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer short", "Authorization: Bearer ***"),
        ("'Authorization': 'Basic dXNlcjpwYXNz'", "'Authorization': 'Basic ***'"),
        ("sent Bearer abcdefghijklmnop.qrs", "sent Bearer ***"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = ***"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY;", "AWS_SECRET_ACCESS_KEY=***;"),
        ('{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfi"}', '{"SecretAccessKey": "***"}'),
        ("git clone https://me:p@ss:w0rd@host.example/x.git", "git clone https://me:***@host.example/x.git"),
        ("postgresql+psycopg://u:canary@db:5432/jobs", "postgresql+psycopg://u:***@db:5432/jobs"),
        ("GET /graphql?api_key=canary&x=1", "GET /graphql?api_key=***&x=1"),
        ("https://s3.example/m?X-Amz-Date=1&X-Amz-Signature=ab12", "https://s3.example/m?X-Amz-Date=1&X-Amz-Signature=***"),
        (f"key: {PEM}\nend", "key: ***\nend"),
        (json.dumps({"private_key": PEM, "n": 1}), '{"private_key": "***", "n": 1}'),
        (f"x {PEM[:60]}", "x ***"),
        (PEM[40:] + "\nend", "***\nend"),
    ],
)  # fmt: skip
def test_credentials_are_known_by_where_they_stand(text: str, expected: str) -> None:
    assert Redactor()(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "task-based scheduler, risk-averse-and-long-enough",
        "http://localhost:8080/path?x=a@b",
        "Loading hf_model from AKIA, the bearer of news",
        "num_tokens: 4096, tokenizer: gpt2",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_other_text_passes_unchanged(text: str) -> None:
    assert Redactor(["1", "yes", "", "   "])(text) == text


def test_the_longest_value_is_replaced_first() -> None:
    assert Redactor(["hunter", "hunter2-long"])("hunter2-long hunter") == "*** ***"


def test_each_line_of_a_long_value_is_hidden() -> None:
    out = Redactor(["first-secret-line\nsecond-secret-line\n"])("log: second-secret-line | first-secret-line")
    assert out == "log: *** | ***"


def test_a_value_that_is_not_unicode_is_hidden() -> None:
    assert Redactor(["canary\udcff\udcfe"])("x canary\udcff\udcfe y") == "x *** y"


SECRETS = st.text(min_size=4, max_size=30).filter(lambda value: len(value.strip()) >= 4 and "*" not in value)


@given(st.lists(SECRETS, max_size=4), st.text(max_size=80), st.text(max_size=80))
def test_no_value_comes_out_and_twice_is_once(values: list[str], left: str, right: str) -> None:
    redact = Redactor(values)
    once = redact(left + "".join(values) + right)
    assert not [value for value in values if value.strip() in once]
    assert redact(once) == once


@pytest.mark.parametrize("unit", ["-----BEGIN PRIVATE KEY-----", "://a:", "eyJ-", "Bearer ", "sk-", "A", "hf_a ", "%2"])
def test_a_hostile_megabyte_ends(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    assert len(Redactor(["canary-value"])(text)) <= len(text)
