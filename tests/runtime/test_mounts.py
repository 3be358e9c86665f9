from pathlib import Path

from tunesmith.runtime import mounts
from tunesmith.runtime.staging import Mount

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
90 22 0:40 / /project/data rw,relatime shared:2 - nfs4 nas:/data rw
91 90 0:41 / /project/data/raw/two\040words rw,relatime - nfs4 nas:/raw rw
92 22 0:42 / /project/models rw,relatime - ext4 /dev/vdb rw
93 92 0:43 / /project/models/base/cache rw,relatime - tmpfs tmpfs rw
96 92 0:46 / /project/data/gone//deleted rw,relatime - tmpfs tmpfs rw
94 22 0:44 / /projects rw,relatime - ext4 /dev/vdc rw
95 22 0:45 / /more/inner rw,relatime - ext4 /dev/vdd rw
"""


def test_file_systems_mounted_below_a_read_only_mount_are_mounted_read_only_too(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.lstrip())
    project, staged = Path("/project"), Path("/project/.dvc/tmp/engines/train/models")
    mounted = [
        Mount(project, project, writable=False),
        Mount(staged, project / "models", writable=True),
        Mount(project / "models/base", project / "models/base", writable=False),
        Mount(Path("/more"), Path("/inside"), writable=False),
    ]
    assert mounts.submounts(mounted, table, lambda path: "gone" not in str(path)) == [
        Mount(project / "data", project / "data", writable=False),
        Mount(project / "data/raw/two words", project / "data/raw/two words", writable=False),
        Mount(project / "models/base/cache", project / "models/base/cache", writable=False),
        Mount(Path("/more/inner"), Path("/inside/inner"), writable=False),
    ]


def test_the_table_of_this_machine_can_be_read() -> None:
    below = mounts.submounts([Mount(Path("/"), Path("/"), writable=False)])
    assert Path("/proc") in [mount.source for mount in below]


def test_without_a_table_there_are_no_submounts(tmp_path: Path) -> None:
    assert mounts.submounts([Mount(Path("/"), Path("/"), writable=False)], tmp_path / "none") == []
