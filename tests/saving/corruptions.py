"""Ways in which a file can be damaged, by accident or on purpose."""

import hashlib
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

from mixpyro.saving.checksum import N_BYTES, TAG

Damage = Callable[[random.Random, bytes, bytes], bytes]
# Instructions of the description that a damaged file has in places of others.
CODES = b"()NKMJGX}]\x85\x86\x87taesuqrhjcQRb.\x88\x89\x8a\x80i0129lLIVSU\x8b\x8c\x94\x93\x92"


def sealed(archive: bytes) -> bytes:
    """Return a zip file without a comment with the checksum of its bytes, as mixpyro writes it."""
    head = archive[:-2] + N_BYTES.to_bytes(2, "little") + TAG
    return head + hashlib.sha256(head).hexdigest().encode()


def records_of(content: bytes) -> dict[str, bytes]:
    """Return the records of a zip file by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def archive_of(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return file.getvalue()


def description_name(records: dict[str, bytes]) -> str:
    """Return the name of the record that describes the content."""
    return next(name for name in records if name.endswith("data.pkl"))


def _flipped(draw: random.Random, data: bytes, other: bytes) -> bytes:
    found = bytearray(data)
    found[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _truncated(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def _appended(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data + draw.randbytes(draw.randrange(1, 200))


def _range(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.randrange(1, 300))


def _zeroed(draw: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _range(draw, data)
    return data[:start] + bytes(end - start) + data[end:]


def _swapped(draw: random.Random, data: bytes, other: bytes) -> bytes:
    size = draw.choice([8, 64, 512])
    first, second = sorted(draw.randrange(len(data) // size) * size for _ in range(2))
    blocks = data[first : first + size], data[second : second + size]
    return data[:first] + blocks[1] + data[first + size : second] + blocks[0] + data[second + size :]


def _duplicated(draw: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _range(draw, data)
    return data[:end] + data[start:end] + data[end:]


def _joined(draw: random.Random, data: bytes, other: bytes) -> bytes:
    place = draw.randrange(1, min(len(data), len(other)))
    return data[:place] + other[place:]


def _mixed(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Records of two files, with the end of the first."""
    records, foreign = records_of(data), records_of(other)
    shared = [name for name in records if foreign.get(name, records[name]) != records[name]]
    for name in shared[:1] + [name for name in shared[1:] if draw.random() < 0.5]:
        records[name] = foreign[name]
    return archive_of(records)[:-2] + data[-N_BYTES - 2 :]


def _changed_codes(draw: random.Random, data: bytes) -> dict[str, bytes]:
    records = records_of(data)
    name = description_name(records)
    found = bytearray(records[name])
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(found))
        found[place] = draw.choice(CODES) if draw.random() < 0.7 else draw.randrange(256)
    return {**records, name: bytes(found)}


def _other_codes(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return archive_of(_changed_codes(draw, data))


def _other_codes_sealed(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return sealed(archive_of(_changed_codes(draw, data)))


def _compressed(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return sealed(archive_of(records_of(data), zipfile.ZIP_DEFLATED))


# What nobody can have meant: each must be refused.
ACCIDENTS: dict[str, Damage] = {
    "flipped bit": _flipped,
    "truncated": _truncated,
    "appended": _appended,
    "zeroed": _zeroed,
    "swapped blocks": _swapped,
    "duplicated block": _duplicated,
    "end of another file": _joined,
    "records of another file": _mixed,
    "other instructions": _other_codes,
}
# With a right checksum: refused, or read as what they say.
FORGERIES: dict[str, Damage] = {"other instructions, sealed": _other_codes_sealed, "compressed, sealed": _compressed}


def damaged(kind: str, draw: random.Random, path: Path, other: Path) -> bytes:
    """Return the content of a damaged file; the content differs from that of both files.

    Args:
        kind: a name in :data:`ACCIDENTS` or :data:`FORGERIES`.
        draw: of the places.
        path: of the file.
        other: of another file of the same kind.
    """
    data, foreign = path.read_bytes(), other.read_bytes()
    while True:
        found = {**ACCIDENTS, **FORGERIES}[kind](draw, data, foreign)
        if found not in (data, foreign):
            return found
