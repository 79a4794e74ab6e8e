"""Deleting data sets: nothing is seen half, links lose no images, what was decoded goes too."""

import os

import pytest
from sqlalchemy import text

from app import removal
from data_store import arrays, catalog
from problems import Problem


@pytest.fixture
def pets(server, png):
    folder = server.settings.datasets / "pets"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.png").write_bytes(png())
    return folder


def load(server) -> None:
    settings = server.settings
    arrays.load(
        "pets", root=settings.datasets, cache=settings.cache, size=(8, 8), channels=1,
        progress=lambda *_: None,
    )  # fmt: skip


def test_what_was_decoded_goes_too(server, pets):
    load(server)
    assert list(server.settings.cache.iterdir())
    deleting = removal.remove(server.app.state.resources, "Pets")
    assert not pets.exists()
    deleting.join()
    assert list(server.settings.cache.iterdir()) == []
    assert list(server.settings.datasets.iterdir()) == []


def test_what_was_decoded_of_files_that_were_written_over_goes_too(server, pets, png):
    for path in [pets, *pets.rglob("*")]:
        os.utime(path, (0, 1e9))
    catalog.facts("pets", server.settings.datasets)
    (pets / "cat" / "1.png").write_bytes(png())
    load(server)
    assert list(server.settings.cache.iterdir())
    removal.remove(server.app.state.resources, "pets").join()
    assert list(server.settings.cache.iterdir()) == []


def test_nobody_waits_for_a_large_folder_to_be_read(server, pets, monkeypatch):
    held, read = server.app.state.resources, catalog.key

    def key(name, root):
        with held.writing.begin() as session:  # as other requests do meanwhile
            session.execute(text("SELECT 1"))
        return read(name, root)

    monkeypatch.setattr(catalog, "key", key)
    removal.remove(held, "pets").join()
    assert not pets.exists()


def test_of_a_link_the_link_goes(server, pets, tmp_path):
    elsewhere = pets.rename(tmp_path / "elsewhere")
    pets.symlink_to(elsewhere)
    removal.remove(server.app.state.resources, "pets").join()
    assert (elsewhere / "cat" / "1.png").exists()
    assert not pets.is_symlink()


def test_a_folder_that_cannot_be_used_can_be_deleted(server, pets):
    (pets / "cat" / "1.png").unlink()
    removal.remove(server.app.state.resources, "pets").join()
    assert not pets.exists()


@pytest.mark.parametrize("folder", ["cifar-10-batches-py", "MNIST"])
def test_the_files_of_a_built_in_set_are_its_own(server, folder):
    path = server.settings.datasets / folder
    path.mkdir(parents=True)
    with pytest.raises(Problem) as caught:
        removal.remove(server.app.state.resources, folder)
    assert caught.value.code == "invalid_request"
    assert path.exists()


def test_what_a_killed_server_left_is_swept(server, pets):
    pets.rename(pets.with_name(".deleted-1"))
    removal.sweep(server.settings.datasets)
    assert list(server.settings.datasets.iterdir()) == []
