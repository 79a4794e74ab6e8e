"""Where the images of an archive go."""

import pytest

from data_store import folder, layout
from data_store.layout import Arrangement
from problems import Problem


def arrange(*paths: str, known: tuple[str, ...] = ()) -> Arrangement:
    return layout.arrange(dict(enumerate(paths)), known=known)


def placed(*paths: str, known: tuple[str, ...] = ()) -> list[str]:
    return list(arrange(*paths, known=known).places.values())


def refused(*paths: str, known: tuple[str, ...] = ()) -> Problem:
    with pytest.raises(Problem) as caught:
        arrange(*paths, known=known)
    return caught.value


FLAT = ["cat/1.jpg", "dog/1.png"]
PARTS = ["train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg"]


@pytest.mark.parametrize("inside", [FLAT, PARTS, ["cat/old/1.jpg", "dog/1.jpg"]])
@pytest.mark.parametrize("around", ["", "pets/", "download/pets/"])
def test_folders_around_everything_are_taken_off(inside: list[str], around: str) -> None:
    assert placed(*(around + path for path in inside)) == inside


def test_a_third_folder_is_one_class() -> None:
    assert "only the class 'pets'" in refused(*(f"a/b/pets/{path}" for path in FLAT)).detail


def test_junk_is_nobodys_loss_and_is_in_nobodys_way() -> None:
    junk = [
        *("__MACOSX/pets/cat/._1.jpg", "pets/.DS_Store", "pets/cat/Thumbs.db", "desktop.ini"),
        *("pets/cat/.1.jpg", "pets/.git/logo.png", "pets/@eaDir/1.jpg/x.jpg", "pets/Icon\r", ""),
    ]

    arranged = arrange(*junk, *(f"pets/{path}" for path in FLAT))

    assert list(arranged.places.values()) == FLAT
    assert arranged.left_out == []


def test_what_is_left_out_is_listed_with_the_reason() -> None:
    arranged = arrange(*PARTS, "readme.txt", "test/9.jpg", "samples/a/1.jpg", "train/cat/a.mov")

    assert list(arranged.places.values()) == PARTS
    assert {each.file: each.why for each in arranged.left_out} == {
        "readme.txt": "no image",
        "train/cat/a.mov": "no image",
        "test/9.jpg": "in no class folder",
        "samples/a/1.jpg": "in none of the parts",
    }


def test_images_beside_the_classes_are_left_out() -> None:
    arranged = arrange("pets/preview.jpg", *(f"pets/{path}" for path in FLAT))

    assert list(arranged.places.values()) == FLAT
    assert [each.file for each in arranged.left_out] == ["pets/preview.jpg"]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "nothing in the archive"),
        (["a.txt", "b/c.txt", "d.csv"], "no images among the 3 files (2 .txt, 1 .csv)"),
        (["a.txt"], "The only file is no image (1 .txt)"),
        (["1.jpg", "2.jpg"], "The 2 images lie in no class folder: '1.jpg', '2.jpg'"),
        (["1.jpg"], "The image lies in no class folder: '1.jpg'"),
        (["cat/1.jpg", "cat/2.jpg"], "only the class 'cat', with 2 images"),
        (["train/cat/1.jpg", "test/cat/1.jpg"], "only the class 'cat', with 1 image;"),
        (["test/cat/1.jpg", "val/dog/1.jpg"], "no train folder"),
        ([*PARTS, "test/cow/1.jpg"], "test has 'cow', which train has no images of"),
    ],
)
def test_what_makes_no_data_set_is_refused(paths: list[str], said: str) -> None:
    problem = refused(*paths)

    assert problem.code == "dataset_invalid"
    assert said in problem.detail
    assert "NAME/cat/1.jpg" in problem.hint


def test_files_without_an_ending_are_counted_as_such() -> None:
    problem = refused("cat/1", "cat/2", "dog.v2/1", "read.me")

    assert "the 4 files (3 without an ending, 1 .me)" in problem.detail
    assert "that have an ending" in problem.hint


@pytest.mark.parametrize("paths", [["pets.zip"], ["cat.ZIP", "dog.tar.gz", "read.me"]])
def test_archives_in_an_archive_are_to_be_unpacked(paths: list[str]) -> None:
    assert "unpack it" in refused(*paths).hint


def test_more_classes_than_danlu_takes_are_refused() -> None:
    problem = refused(*(f"{n}/1.jpg" for n in range(folder.MOST_CLASSES + 1)))

    assert problem.code == "dataset_invalid"
    assert "There are 5,001 classes; danlu takes at most 5,000" in problem.detail
    assert "one folder" in problem.hint


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cat/1.jpg", "cat/1.JPG"),
        ("cat/straße.jpg", "cat/STRASSE.jpg"),
        ("cat/1.jpg/2.jpg", "cat/1.jpg"),
        ("cat/1.jpg", "cat/1.jpg/2.jpg"),
        ("cat/1.jpg", "cat/1.JPG/a/2.jpg"),
        ("cat/old/1.jpg", "cat/Old/1.jpg"),
    ],
)
@pytest.mark.parametrize("part", ["", "train/"])
def test_of_files_whose_names_meet_the_first_is_taken(part: str, first: str, second: str) -> None:
    arranged = arrange(*(part + path for path in (first, second, "dog/1.jpg")))

    assert list(arranged.places.values()) == [part + first, f"{part}dog/1.jpg"]
    assert [(each.file, each.why) for each in arranged.left_out] == [
        (part + second, "named like another")
    ]


def test_folders_in_a_class_are_written_in_one_way() -> None:
    paths = ["cat/old/1.jpg", "cat/OLD/2.jpg", "cat/OLD/A/3.jpg", "cat/old/a/4.jpg", "dog/1.jpg"]

    assert placed(*paths) == [
        *("cat/old/1.jpg", "cat/old/2.jpg", "cat/old/A/3.jpg", "cat/old/A/4.jpg", "dog/1.jpg")
    ]


def test_classes_whose_names_meet_are_refused_and_all_named() -> None:
    one = refused("cat/1.jpg", "Cat/2.jpg", "Cat/3.jpg", "dog/1.jpg")
    parts = refused(*PARTS, "train/Cat/3.jpg", "test/DOG/1.jpg", "test/dog/2.jpg")
    many = refused(*(f"{name}{n}/1.jpg" for n in range(12) for name in ("a", "A")))

    assert [each.code for each in (one, parts, many)] == ["archive_invalid"] * 3
    assert "a pair of classes" in one.detail
    assert one.detail.endswith(": 'cat' and 'Cat'.")
    assert "2 pairs of classes" in parts.detail
    assert parts.detail.endswith("'train/cat' and 'train/Cat', 'test/DOG' and 'test/dog'.")
    assert "12 pairs" in many.detail
    assert many.detail.endswith("'a9' and 'A9' and 2 more.")


def test_what_is_there_twice_is_refused_and_all_named() -> None:
    one = refused("cat/1.jpg", "cat/1.jpg", "dog/1.jpg")
    many = refused(*[f"cat/{n}.jpg" for n in range(12)] * 2, "dog/1.jpg")

    assert (one.code, one.detail) == (
        "archive_invalid",
        "The archive has a file twice: 'cat/1.jpg'.",
    )
    assert "has 12 files twice: 'cat/0.jpg', " in many.detail
    assert many.detail.endswith("'cat/9.jpg' and 2 more.")


def test_a_part_that_is_written_in_two_ways_is_one_folder() -> None:
    two = ["validation/cat/1.jpg", "val/cat/2.jpg", "Training/cat/3.jpg", "test/cat/4.jpg"]

    assert placed(*PARTS[:2], *two) == [
        *PARTS[:2],
        *("validation/cat/1.jpg", "validation/cat/2.jpg", "train/cat/3.jpg", "test/cat/4.jpg"),
    ]
    assert placed("valid/cat/1.jpg", "val/cat/2.jpg", known=("cat",)) == [
        *("valid/cat/1.jpg", "valid/cat/2.jpg"),
    ]
    assert "twice" in refused(*PARTS, "val/cat/1.jpg", "validation/cat/1.jpg").detail


def test_one_class_is_enough_to_be_added() -> None:
    known = ("cat", "dog")
    assert placed("cat/1.jpg", known=known) == ["cat/1.jpg"]
    assert placed("pets/cat/1.jpg", known=known) == ["cat/1.jpg"]
    assert placed("Cat/a/1.jpg", "Cat/b/1.jpg", known=known) == ["Cat/a/1.jpg", "Cat/b/1.jpg"]
    assert placed("test/cat/1.jpg", known=known) == ["test/cat/1.jpg"]
    assert placed("pets/test/cat/1.jpg", known=known) == ["test/cat/1.jpg"]


def test_images_are_told_by_their_endings() -> None:
    assert placed("a/1.JPG", "b/1.webp") == ["a/1.JPG", "b/1.webp"]
