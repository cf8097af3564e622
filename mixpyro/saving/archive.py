"""Archives of tensors and plain values, as PyTorch writes them: what they declare is checked before it is read."""

import math
import sys
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mixpyro.saving import plain_values
from mixpyro.saving.plain_values import Storage, View

# Bytes of the record that describes the content; the numbers of tensors are in records of their own.
MOST_BYTES = 2**23
# Values of the content, each counted as often as it is referred to, beyond one for each byte of its description; and
# how deep they may be nested.
MOST_VALUES, MOST_LEVELS = 10_000, 100
# Numbers in views of the same storage, in units of those in the file, and numbers in expanded views beside.
MOST_SHARED, MOST_EXPANDED = 16, 2**20
# Axes of a tensor, as PyTorch has at most.
MOST_AXES = 64
# Bytes of the header of a record, without its name.
HEADER = 30
DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}


def content_of(file: BinaryIO, size: int) -> Any:  # noqa: ANN401
    """Return the content of an archive, its tensors on the CPU.

    Args:
        file: that can be read and sought in.
        size: of the file in bytes.

    Raises:
        ValueError: if the archive is damaged or declares more than it holds.
        zipfile.BadZipFile: if it is none, or a record does not have its checksum.
    """
    with zipfile.ZipFile(file) as archive:
        return Archive(archive, size).content()


class Archive:
    """The records of an archive by their names, without the folder that all of them are in.

    Args:
        archive: open for reading.
        size: of the file in bytes.

    Raises:
        ValueError: if a record is compressed or overlaps another one, or they are larger than the file.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.size = archive, size
        self.records = _records(archive, size)
        self.storages: dict[str, tuple[str, Tensor]] = {}
        self.n_numbers, self.n_viewed = 0, 0
        self.swapped = self._read("byteorder") != sys.byteorder.encode() if "byteorder" in self.records else False

    def content(self) -> Any:  # noqa: ANN401
        """Return the content, of which every value is a plain one.

        Raises:
            ValueError: if its description is damaged, or it has too many values.
        """
        if self.records["data.pkl"].file_size > MOST_BYTES:
            raise ValueError("its description is too long")
        description = self._read("data.pkl")
        found = plain_values.read(description, self.tensor)
        _count(found, MOST_VALUES + len(description))
        read = {f"data/{key}" for key in self.storages}
        for name in self.records.keys() - read - {"data.pkl", "byteorder"}:
            with self.archive.open(self.records[name]) as record:
                while record.read(2**20):
                    pass
        return found

    def _read(self, name: str) -> bytes:
        """Return the bytes of a small record."""
        return self.archive.read(self.records[name])

    def tensor(self, view: View) -> Tensor:
        """Return the tensor of a view.

        Args:
            view: of a storage.

        Raises:
            ValueError: if the storage does not have all of its numbers, or all tensors together are too large.
        """
        # Before anything is multiplied: the product of a million sizes takes minutes.
        if len(view.shape) != len(view.strides) or len(view.shape) > MOST_AXES:
            raise ValueError("it has a tensor of no shape")
        flat, sizes = self._storage(view.storage), (view.offset, *view.shape, *view.strides)
        if not all(type(one) is int and 0 <= one < 2**62 for one in sizes):
            raise ValueError("it has a tensor of no shape")
        numbers = math.prod(view.shape)
        if not numbers:
            # An empty part of an empty tensor may begin anywhere.
            return flat.new_empty(view.shape)
        last = view.offset + sum((n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True))
        if last >= len(flat):
            raise ValueError("it has a tensor that is larger than its numbers")
        self.n_viewed += numbers
        if self.n_viewed > MOST_SHARED * self.n_numbers + MOST_EXPANDED:
            raise ValueError("its tensors are larger than the file")
        return flat.as_strided(view.shape, view.strides, view.offset)

    def _storage(self, storage: Storage) -> Tensor:
        """Return all numbers of a storage."""
        kind, key, n_numbers = storage
        if key not in self.storages:
            self.storages[key] = kind, self._numbers(kind, self.records[f"data/{key}"])
            self.n_numbers += n_numbers
        known, flat = self.storages[key]
        if kind != known or n_numbers != len(flat):
            raise ValueError("it has a storage of another size than it declares")
        return flat

    def _numbers(self, kind: str, record: zipfile.ZipInfo) -> Tensor:
        """Return the numbers of a record, in memory that PyTorch has allocated, which its results can depend on."""
        dtype = DTYPES[kind.removeprefix("torch ").removesuffix("Storage")]
        if record.file_size % dtype.itemsize:
            raise ValueError("it has a storage of another size than it declares")
        data = torch.empty(record.file_size, dtype=torch.uint8, device="cpu")
        place, rest = 0, data.numpy().data
        with self.archive.open(record) as source:
            while found := source.read(2**22):
                rest[place : place + len(found)] = found
                place += len(found)
        if place < len(data):
            raise ValueError("it is not complete")
        if dtype is torch.bool and bool((data > 1).any()):
            raise ValueError("it has truth values that are none")
        flat = data.view(dtype)
        if self.swapped:
            flat.untyped_storage().byteswap(dtype)
        return flat


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the records by name, if the file holds all of them next to each other and as they are."""
    records, end = {}, 0
    for info in sorted(archive.infolist(), key=lambda one: one.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise ValueError("it has a compressed record")
        if info.header_offset < end:
            raise ValueError("its records overlap")
        end = info.header_offset + HEADER + len(info.orig_filename) + info.file_size
        records[info.filename.partition("/")[2]] = info
    roots = {info.filename.partition("/")[0] for info in archive.infolist()}
    if end > size or len(records) < len(archive.infolist()) or len(roots) != 1 or "data.pkl" not in records:
        raise ValueError("its records are not those of one file of mixpyro")
    return records


def _count(content: object, most: int) -> None:
    """Raise if there are too many values, each counted as often as it is referred to, or they are nested too deep."""
    level, n_values = [content], 0
    for _ in range(MOST_LEVELS):
        values = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list | tuple)
        ]
        n_values += sum(map(len, values))
        if n_values > most:
            raise ValueError("its values refer to each other too often")
        if not values:
            return
        level = [value for group in values for value in group]
    raise ValueError("it is nested too deep")
