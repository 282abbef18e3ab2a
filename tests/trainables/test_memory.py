import os

import pytest

from dftune.trainables.memory import free_memory, host_memory


@pytest.mark.parametrize(
    "group, limits, expected",
    [
        ("0::/slurm/job_1", {"slurm/job_1/memory.max": "max", "slurm/memory.max": "4000", "memory.max": "9000"}, 4000),
        ("3:memory:/job", {"memory/job/memory.limit_in_bytes": "5000", "memory.max": "10"}, 5000),
        ("3:memory:/of/the/host", {"memory/memory.limit_in_bytes": "6000"}, 6000),  # seen from inside a container
        ("3:cpu:/job", {"memory/job/memory.limit_in_bytes": "5000"}, None),
    ],
)
def test_the_memory_of_a_machine_is_that_of_the_narrowest_control_group(tmp_path, group, limits, expected):
    (tmp_path / "groups").write_text(f"9:name=systemd:/\n{group}\n")
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host_memory(tmp_path / "groups", tmp_path) == (expected or whole)


@pytest.mark.parametrize(
    "used, stat, expected",
    [("700", "", 300), ("700", "anon 100\ninactive_file 500\n", 800), ("1200", "", 0), (None, "", 1000)],
)
def test_what_a_control_group_leaves_is_free(tmp_path, used, stat, expected):
    (tmp_path / "groups").write_text("0::/job\n")
    (tmp_path / "job").mkdir()
    files = {"memory.max": "1000", "memory.stat": stat} | ({} if used is None else {"memory.current": used})
    for name, content in files.items():
        (tmp_path / "job" / name).write_text(content)
    assert free_memory(tmp_path / "groups", tmp_path) == expected


def test_what_the_machine_has_available_is_free(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:  7 kB\n")
    assert free_memory(tmp_path / "none", tmp_path, tmp_path / "meminfo") == 7 * 1024
    assert 0 < free_memory() <= host_memory()
