# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret's text: typing errors are found, and what is wrong is said without saying it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.security.secret import (
    AUTHORITY,
    JOIN_TOKENS,
    PREFIX,
    SecretError,
    derive_key,
    load_secrets,
    new_secret,
    read_secret,
    read_secrets,
    show_secret,
    write_secret,
)

SECRETS = st.binary(min_size=32, max_size=32)
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
FIXED = bytes(range(32))
FIXED_TEXT = "qs1.aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypzcjt6ri"


def test_new_secrets_are_32_bytes_and_differ() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert {len(new_secret()) for _ in range(100)} == {32}


@given(SECRETS)
def test_a_text_is_the_secret_again_in_any_letters_and_with_spaces_around(secret: bytes) -> None:
    text = show_secret(secret)
    assert len(text) == 62
    assert read_secret(text) == secret
    assert read_secret(f"  {text.upper()}\n") == secret


@given(SECRETS, st.integers(0, 57), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_found(secret: bytes, place: int, letter: str) -> None:
    text = show_secret(secret)
    place += len(PREFIX)
    wrong = text[:place] + letter + text[place + 1 :]
    if wrong != text:
        with pytest.raises(SecretError):
            read_secret(wrong)


@given(SECRETS, st.integers(0, 56))
def test_two_characters_that_changed_places_are_found(secret: bytes, place: int) -> None:
    text = show_secret(secret)
    place += len(PREFIX)
    wrong = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if wrong != text:
        with pytest.raises(SecretError):
            read_secret(wrong)


@given(st.text(max_size=100) | st.text(ALPHABET + "qs1.", max_size=70))
def test_whatever_is_read_is_a_secret_or_one_line_that_does_not_repeat_it(text: str) -> None:
    for written in (text, PREFIX + text):
        said = complaint(written)
        if said:
            assert "\n" not in said
            assert len(text) < 12 or text not in said
        else:
            assert show_secret(read_secret(written)) == written.strip().lower()


def complaint(text: str) -> str:
    """Why a text is no secret; empty if it is one."""
    try:
        read_secret(text)
    except SecretError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("\n \n", "it is empty"),
        ("hunter2", "begins with qs1."),
        (FIXED_TEXT[:-1], "and this has 57"),
        (FIXED_TEXT + "a", "and this has 59"),
        (FIXED_TEXT[:-1] + "1", "digits 2 to 7 alone"),
        (FIXED_TEXT[:-2] + "aa", "typing error: copy it again, from another node"),
        ("\n".join([FIXED_TEXT] * 3), "3 lines"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(SecretError, match=said):
        read_secrets(text)


def test_two_lines_are_two_secrets_in_their_order() -> None:
    one, two = new_secret(), new_secret()
    text = f"{show_secret(two)}\r\n\n{show_secret(one)}\n"
    assert read_secrets(text) == (two, one)
    assert read_secrets(f"{show_secret(one)}\n" * 2) == (one,)


# --- files --------------------------------------------------------------------------------------


def test_a_file_is_written_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = new_secret()
    write_secret(path, secret)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secrets(path) == (secret,)
    with pytest.raises(FileExistsError):
        write_secret(path, new_secret())
    assert load_secrets(path) == (secret,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, new_secret())
    path.chmod(mode)
    with pytest.raises(SecretError, match="chmod 600"):
        load_secrets(path)


def test_what_is_no_file_with_a_line_or_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="No such file"):
        load_secrets(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for other in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SecretError, match="cannot be read: it is no file"):
            load_secrets(other)
    path = tmp_path / "large"
    path.touch(0o600)
    path.write_bytes(b"a" * 5000)
    with pytest.raises(SecretError, match="more than 4096 bytes"):
        load_secrets(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretError, match="no text"):
        load_secrets(path)


# --- keys ---------------------------------------------------------------------------------------


def test_keys_are_those_that_they_always_were() -> None:
    """What any of these becomes another is another cluster for everybody who has a secret."""
    assert show_secret(FIXED) == FIXED_TEXT
    keys = [derive_key(FIXED, cluster="quorate", purpose=each) for each in (AUTHORITY, JOIN_TOKENS)]
    assert [each.hex() for each in keys] == [
        "edc5bd572a077e26a5bd6041857694d387a6026d3b2ae2fc5b8fa6f9484f82f8",
        "dd4bea22dc4c0d2464f8208e45f4bee7642e9e30ea9fdfd62628a4b56a55b779",
    ]


def test_another_secret_name_or_purpose_is_another_key() -> None:
    made = {
        derive_key(secret, cluster=cluster, purpose=purpose)
        for secret in (FIXED, bytes(32))
        for cluster in ("quorate", "green")
        for purpose in (AUTHORITY, JOIN_TOKENS)
    }
    assert len(made) == 8
