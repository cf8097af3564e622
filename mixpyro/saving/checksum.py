"""A checksum of a whole file, at its end, where readers of zip files expect a comment."""

import hashlib
from typing import BinaryIO

# The comment of the zip file: these bytes, then the SHA-256 of all bytes before the digest, hexadecimal.
TAG, N_DIGITS = b"mixpyro sha256 ", 64
N_BYTES = len(TAG) + N_DIGITS
# The last record of a zip file without a comment, which ends with the length of the comment, two bytes.
END, N_END = b"PK\x05\x06", 22
BLOCK = 2**22


class ChecksummedWriter:
    """Writes a zip file, and its checksum as the comment.

    What a write raises is kept: PyTorch's writer may raise another error in its place.

    Args:
        file: open for writing, empty.

    Attributes:
        error: what the last write has raised; None if nothing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.last = file, hashlib.sha256(), b""
        self.error: BaseException | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, of which the last ones wait for :meth:`finish`; return how many.

        Args:
            data: in any pieces.
        """
        try:
            size = len(data)
            if len(data) < N_END:
                data = self.last + bytes(data)
            else:
                self._put(self.last)
            self._put(data[:-N_END])
            self.last = bytes(data[-N_END:])
        except BaseException as error:
            self.error = error
            raise
        return size

    def flush(self) -> None:
        """Do nothing: :meth:`finish` flushes the file."""

    def finish(self) -> None:
        """Write the end of the file with the checksum."""
        assert self.last.startswith(END) and self.last.endswith(b"\0\0")
        self._put(self.last[:-2] + N_BYTES.to_bytes(2, "little") + TAG)
        self.file.write(self.digest.hexdigest().encode())
        self.file.flush()

    def _put(self, data: bytes | memoryview) -> None:
        """Write bytes, and count them in."""
        self.digest.update(data)
        self.file.write(data)


def is_right(file: BinaryIO, size: int) -> bool | None:
    """Return whether a file has the checksum that it ends with; None if it ends with none.

    Args:
        file: open for reading.
        size: in bytes.
    """
    if size < N_BYTES:
        return None
    file.seek(size - N_BYTES)
    end = file.read(N_BYTES)
    if not end.startswith(TAG):
        return None
    file.seek(0)
    digest, left = hashlib.sha256(), size - N_DIGITS
    while left and (data := file.read(min(BLOCK, left))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest().encode() == end[len(TAG) :]
