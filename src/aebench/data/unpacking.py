"""Compressed content, unpacked to no more than is expected, so that a few bytes cannot fill the memory."""

import tarfile
import zlib
from zipfile import ZipFile

# zlib's number for its own format and for gzip, whichever it is.
_EITHER = 47


def inflate(content: bytes, limit: int) -> bytes:
    """What `content`, packed by gzip or zlib, unpacks to, or the first bytes of it: one more than `limit` at most.

    Raises:
        ValueError: it is damaged, or breaks off.
    """
    unpacker = zlib.decompressobj(wbits=_EITHER)  # takes memory as it unpacks, not beforehand
    try:
        unpacked = unpacker.decompress(content, limit + 1)
    except zlib.error as error:
        raise ValueError(f"damaged gzip ({error})") from None
    if not unpacker.eof and len(unpacked) <= limit:
        raise ValueError("damaged gzip (it breaks off)")
    return unpacked


def from_zip(archive: ZipFile, name: str, limit: int) -> bytes:
    """One member of a zip archive.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is larger than `limit` bytes.
    """
    with archive.open(name) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{name} is larger than {limit} bytes")
    return content


def from_tar(archive: tarfile.TarFile, name: str) -> bytes:
    """One member of a tar archive, which is not compressed, so that no member is larger than the archive.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is no file.
    """
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no file")
    return stream.read()
