"""Folders and files as bytes, for machines that share no file system: plain zip archives, never code."""

import hashlib
import io
import zipfile
from pathlib import Path

from hdstbench.sweep.claim import claim
from hdstbench.sweep.durable import publish

Parcel = tuple[str, bytes]
"""Hash and content of a zip archive."""


def pack(place: Path) -> Parcel:
    """Pack a folder, or a single file."""
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    base = place if place.is_dir() else place.parent
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, path.relative_to(base))
    content = out.getvalue()
    return hashlib.blake2b(content, digest_size=16).hexdigest(), content


def unpack(content: bytes, folder: Path) -> None:
    """Write a packed folder in its place, whole; `zipfile` lets no name lead outside."""
    part = folder.with_name(f"{folder.name}.part")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(part)
    publish(part, folder)


def unpack_once(parcel: Parcel, cache: Path) -> Path:
    """Have a packed folder below a cache, under its hash.

    Raises:
        FileNotFoundError: If another process unpacks it at this moment; try again.
    """
    name, content = parcel
    folder = cache / name
    with claim(folder) as ours:
        if not folder.is_dir():
            if not ours:
                raise FileNotFoundError(folder)
            unpack(content, folder)
    return folder
