"""Databases on network file systems are refused, whatever the mount table looks like."""

from pathlib import Path

import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.database.engine import file_system, is_network, refuse_network

MOUNTS = r"""
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/local xfs rw 0 0
//server/share /mnt/my\040share cifs rw 0 0
user@host: /mnt/remote fuse.sshfs rw 0 0
tmpfs /over tmpfs rw 0 0
server:/over /over nfs rw 0 0
C:\134 /mnt/c 9p rw 0 0
half a
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/data/exeunt.db", "ext4", False),
        ("/home/ada/exeunt.db", "nfs4", True),
        ("/homes/ada/exeunt.db", "ext4", False),
        ("/home/local/exeunt.db", "xfs", False),
        ("/mnt/my share/exeunt.db", "cifs", True),
        ("/mnt/remote/exeunt.db", "fuse.sshfs", True),
        ("/over/exeunt.db", "nfs", True),
        ("/mnt/c/exeunt.db", "9p", False),
    ],
)
def test_the_longest_and_last_mount_decides(path: str, kind: str, network: bool) -> None:
    assert file_system(Path(path), MOUNTS) == kind
    assert is_network(kind) == network


def test_a_path_without_a_mount_has_no_file_system() -> None:
    assert file_system(Path("/data"), "") is None


@pytest.mark.parametrize("kind", ["fuse", "fuse.ntfs-3g", "fuse.mergerfs", "overlay", "btrfs", "zfs", "virtiofs"])
def test_local_file_systems_are_taken(kind: str) -> None:
    assert not is_network(kind)


def test_refuses_with_the_fix_and_follows_links(tmp_path: Path) -> None:
    real, link, mounts = tmp_path / "real", tmp_path / "link", tmp_path / "mounts"
    real.mkdir()
    link.symlink_to(real)
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {real.resolve()} lustre rw 0 0\n")
    for folder in (real, link):
        with pytest.raises(InputError, match=r"local disk, but .* \(lustre\).*postgresql\+psycopg://"):
            refuse_network(folder / "exeunt.db", mounts)
    refuse_network(tmp_path / "exeunt.db", mounts)


def test_systems_without_a_mount_table_are_not_checked(tmp_path: Path) -> None:
    refuse_network(tmp_path / "exeunt.db", tmp_path / "none")
