"""What memory there is, as the system tells."""

from pathlib import Path

import pytest

from workers import memory


@pytest.fixture
def system(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    return tmp_path


def group(system: Path, path: str, **files: str) -> None:
    folder = system / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_what_the_machine_has(system: Path) -> None:
    assert memory.available(system=system) == 4000 * 1024
    assert memory.for_images(system=system) == 2000 * 1024


@pytest.mark.parametrize(("most", "left"), [("1000000", 650_000), ("max", 4000 * 1024)])
def test_a_limit_of_a_group_above_counts(system: Path, most: str, left: int) -> None:
    (system / "proc/self/cgroup").write_text("0::/service/worker\n")
    stat = "anon 1\nactive_file 20000\ninactive_file 30000\n"
    group(system, "service", memory_max=most, memory_current="400000", memory_stat=stat)
    group(system, "service/worker", memory_max="max")
    assert memory.available(system=system) == left


def test_a_full_group_has_nothing(system: Path) -> None:
    (system / "proc/self/cgroup").write_text("0::/\n")
    group(system, "", memory_max="10", memory_current="99", memory_stat="")
    assert memory.available(system=system) == 0


def test_elsewhere_it_is_half_of_all(tmp_path: Path) -> None:
    assert memory.available(system=tmp_path) > 10**8


def test_giving_back_harms_nobody() -> None:
    kept = [bytes(100) for _ in range(1000)]
    memory.give_back()
    assert kept[-1] == bytes(100)
