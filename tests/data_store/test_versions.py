"""The version of a set hashes classes, paths and bytes."""

from hashlib import sha256

from data_store.versions import Content


def version(classes: list[str], files: dict[str, bytes]) -> str:
    content = Content(classes)
    for path, data in files.items():
        content.add(path, sha256(data).digest())
    return content.version()


def test_everything_counts() -> None:
    files = {"a/1.png": b"1", "b/2.png": b"2"}
    one = version(["a", "b"], files)

    assert one == version(["a", "b"], dict(files))
    assert len(one) == 16
    others = [
        version(["a", "c"], files),
        version(["a", "b"], {"a/1.png": b"1"}),
        version(["a", "b"], {"a/1.png": b"2", "b/2.png": b"1"}),
        version(["a", "b"], {"a/3.png": b"1", "b/2.png": b"2"}),
        version(["a", "b"], dict(reversed(files.items()))),
    ]
    assert len({one, *others}) == 6
