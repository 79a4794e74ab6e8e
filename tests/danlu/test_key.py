import socket
from pathlib import Path

import pytest

from danlu import DanluError, key


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(key.VARIABLE, raising=False)
    monkeypatch.delenv(key.FILE_VARIABLE, raising=False)


def test_there_may_be_none() -> None:
    assert key.found() is None


def test_it_is_in_a_variable_or_in_a_file_or_the_same_in_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("from-a-file\n")

    monkeypatch.setenv(key.VARIABLE, "  from-a-variable ")
    assert key.found() == "from-a-variable"

    monkeypatch.setenv(key.VARIABLE, "")
    monkeypatch.setenv(key.FILE_VARIABLE, str(file))
    assert key.found() == "from-a-file"

    monkeypatch.setenv(key.VARIABLE, "from-a-file")
    assert key.found() == "from-a-file"

    monkeypatch.setenv(key.VARIABLE, "another")
    with pytest.raises(DanluError, match="differ"):
        key.found()


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"two words", b"two\nlines", "丹".encode(), b"\xff"]
)
def test_a_file_without_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv(key.FILE_VARIABLE, str(tmp_path / "key"))

    with pytest.raises(DanluError) as caught:
        key.found()

    assert caught.value.code == key.UNUSABLE
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "address", "carried"),
    [
        ("http://lab:8000/?key=abc", "http://lab:8000/", "abc"),
        ("lab:8000?x=1&key=a%2Fb", "lab:8000", "a/b"),
        ("http://lab:8000", "http://lab:8000", None),
        ("http://lab:8000/?x=1", "http://lab:8000/?x=1", None),
        ("http://[::1", "http://[::1", None),
    ],
)
def test_an_address_may_carry_it(given: str, address: str, carried: str | None) -> None:
    assert key.in_address(given) == (address, carried)


def test_a_server_asks_for_it_unless_it_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key.found_for_server(no_auth=True) is None

    monkeypatch.setenv(key.VARIABLE, "hush")
    assert key.found_for_server(no_auth=False) == "hush"
    with pytest.raises(DanluError, match="--no-auth"):
        key.found_for_server(no_auth=True)


def test_one_is_made_where_others_reach_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here:
        assert key.made_for(here) is None
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        made = {key.made_for(everywhere) for _ in range(3)}
    assert len(made) == 3
    assert all(one and key.checked(one) == one for one in made)
