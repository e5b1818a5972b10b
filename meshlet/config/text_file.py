"""Files that are written for us and may change at any time: the config, lists of endpoints."""

from __future__ import annotations

import errno
import os
import stat

from meshlet.config.mistakes import ConfigError, Mistake

# A thousand routes are some 100 KiB. Whatever is larger than this is not what was meant but a wrong path.
_MAX_BYTES = 4 * 1024 * 1024

_ADVICE = {
    errno.ENOENT: ("no such file", "{what}; check the path"),
    errno.EISDIR: ("a directory", "{what}; name the file inside it"),
    errno.EACCES: ("a file that may not be read", "one that this user may read; check its owner and mode"),
}

# What the machine lacks for the moment, or what its disk does: no word about the file or about what is asked for.
_PASSING = frozenset(
    (
        errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE,
        errno.ENOBUFS, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT,
    )
)  # fmt: skip


class Unreadable(ConfigError):
    """The machine could not read the file just now. What is in it may be right."""


def is_passing(error: OSError) -> bool:
    """Say whether the same may well succeed the next time."""
    return error.errno in _PASSING


def read_text(path: str, what: str) -> str:
    """Return the text of a regular file, which may be reached through symlinks. `what` it is, for the error messages.

    Never waits for a writer, as it would with a pipe. Raises ConfigError; Unreadable where it is not the file's fault.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        found, expected = _ADVICE.get(error.errno or 0, (f"an error ({error})", "{what} that can be read"))
        kind = Unreadable if is_passing(error) else ConfigError
        raise kind((whole_file(path, 0, found, expected.format(what=what)),)) from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError((whole_file(path, 0, f"an error ({error})", f"{what} that can be read"),)) from error
    if data is None:
        raise ConfigError((whole_file(path, 0, "a device, a pipe or a socket", f"{what}: a regular file"),))
    if len(data) > _MAX_BYTES:
        raise ConfigError((whole_file(path, 0, "more than 4 MiB", what),))
    try:
        # Some editors begin a file with a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise ConfigError((whole_file(path, line, found, "text in UTF-8"),)) from error


def read_regular(path: str) -> bytes | None:
    """Return what is in a regular file, up to a little more than 4 MiB; None for what is none. Raises OSError."""
    # O_NONBLOCK: to open a pipe would wait for whoever writes to it. O_NOCTTY: a terminal must not become ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def whole_file(path: str, line: int, found: str, expected: str) -> Mistake:
    """Return a mistake that concerns no single value; `line` is 0 where no line is to blame."""
    return Mistake(path, line, "(top level)", found, expected)
