"""Files are written whole, and never through a link."""

import os
import stat
from pathlib import Path

import pytest

from aebench.errors import FileError
from aebench.paths import write


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_what_a_link_leads_to_is_not_written_through(tmp_path: Path, link: object) -> None:
    """DVC protects what lies in its cache from all but root."""
    cached, output = tmp_path / "cache" / "0123", tmp_path / "data" / "output"
    for path in (cached, output):
        path.parent.mkdir()
    cached.write_text("what it was")
    cached.chmod(0o444)
    link(cached, output)  # type: ignore[operator]
    write(output, "new")
    assert (cached.read_text(), output.read_text()) == ("what it was", "new")
    assert not output.is_symlink()
    assert stat.S_IMODE(cached.stat().st_mode) == 0o444
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in output.parent.iterdir()] == ["output"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write(path, "what it was")

    def no_space(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(FileError, match=r"/file cannot be written: No space left on device$"):
        write(path, "new")
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"file": "what it was"}
