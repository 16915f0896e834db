"""Spotlight, Time Machine, iCloud, and the git that only opens a dialog."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.mac import folders, programs
from tests.mac import NO_TOOLS, Mac, forget, kept_attributes


def test_spotlight_and_time_machine_leave_folders_alone(libsystem: Any, tmp_path: Path) -> None:
    again = [tmp_path / "tokens", tmp_path / "staging"]
    folders.leave_alone(tmp_path, again)
    assert (tmp_path / ".metadata_never_index").exists()
    name = "com.apple.metadata:com_apple_backup_excludeItem"
    assert kept_attributes(libsystem) == [f"{path}|{name}|61" for path in again]


def test_elsewhere_nothing_is_put_into_folders(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("here it is")
    folders.leave_alone(tmp_path, [tmp_path])
    assert not (tmp_path / ".metadata_never_index").exists()
    assert folders.syncing(tmp_path / "Mobile Documents") == ""


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("Library/Mobile Documents/com~apple~CloudDocs/hub", "iCloud Drive"),
        ("Library/Mobile Documents/com~apple~CloudDocs/hub.nosync", ""),
        ("Library/CloudStorage/Dropbox/hub", "Dropbox"),
        ("Library/CloudStorage/GoogleDrive-ada@example.com/My Drive/hub", "GoogleDrive"),
        ("mlx-hub/storage", ""),
    ],
)
def test_a_folder_in_a_cloud_is_known_by_its_place(
    path: str, service: str, libsystem: Any, tmp_path: Path
) -> None:
    assert folders.syncing(tmp_path / path) == service


@pytest.mark.parametrize(
    ("domain", "service"),
    [
        (b"com.apple.CloudDocs.iCloudDriveFileProvider/1B5C5E86-FCA9", "iCloud Drive"),
        (b"com.example.Provider/1", "com.example.Provider"),
        (b"", ""),
    ],
)
def test_synced_desktop_and_documents_are_known_by_their_attribute(
    domain: bytes, service: str, libsystem: Any, tmp_path: Path
) -> None:
    documents = tmp_path / "Documents"
    (ctypes.c_char * 1024).in_dll(libsystem, "synced").value = str(documents).encode()
    (ctypes.c_char * 256).in_dll(libsystem, "domain").value = domain
    assert folders.syncing(documents / "mlx-hub" / "storage") == service
    assert folders.syncing(documents / "mlx-hub" / "storage.nosync") == ""
    assert folders.syncing(tmp_path / "Desktop" / "storage") == ""


@pytest.fixture
def own_git(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """A Mac whose only git is the one that comes with the system."""
    mac.put("git", "git version 2.50.1 (Apple Git-155)\n")
    monkeypatch.setattr(programs, "_GIT", str(mac._folder / "git"))
    return mac


def test_a_git_that_only_opens_a_dialog_is_not_asked(own_git: Mac) -> None:
    own_git.put("xcode-select", code=2, error=NO_TOOLS)
    assert not programs.has_git()
    assert own_git.asked == ["xcode-select -p"]


def test_tools_that_were_removed_are_no_tools(own_git: Mac, tmp_path: Path) -> None:
    tools = tmp_path / "CommandLineTools"
    own_git.put("xcode-select", f"{tools}\n")
    assert not programs.has_git()
    forget()
    (tools / "usr" / "bin").mkdir(parents=True)
    (tools / "usr" / "bin" / "git").touch()
    assert programs.has_git()


def test_another_git_needs_no_tools(mac: Mac) -> None:
    mac.put("git")
    assert programs.has_git()
    assert mac.asked == []


def test_where_there_is_no_git_there_is_none(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not programs.has_git()


@pytest.mark.parametrize(
    ("said", "version"),
    [("26.0.1", (26, 0, 1)), ("14.7", (14, 7)), ("13.7.8", (13, 7, 8)), ("", ())],
)
def test_the_version_of_macos(
    said: str, version: tuple[int, ...], mac: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "mac_ver", lambda: (said, ("", "", ""), "arm64"))
    assert programs.system_version() == version
    mac.put("sw_vers", "26.1\n")
    assert programs.system_version() == (26, 1)
    assert mac.asked == ["sw_vers -productVersion"]


@pytest.mark.parametrize(("printed", "ours"), [("1\n", True), ("", False)])
def test_apple_silicon_is_known_under_rosetta(printed: str, ours: bool, mac: Mac) -> None:
    mac.put("sysctl", printed)
    assert programs.is_apple_silicon() is ours
    assert mac.asked == ["sysctl -in hw.optional.arm64"]


def test_a_program_that_hangs_or_lacks_prints_nothing(mac: Mac) -> None:
    assert programs.printed("no-such-program") == ""
    mac.put("odd", b"\xff\xfe text")
    assert programs.printed("odd").endswith(" text")
