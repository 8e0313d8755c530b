"""Fingerprint of a store: the hash of everything that determines its bytes."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_cards.dataset.table import Picture


def compute_fingerprint(identity: dict, pictures: Iterable["Picture"]) -> str:
    """Return a store's fingerprint: the hexadecimal sha256 of `Plan.identity` and of every picture.

    A picture contributes its hash, label, split, source and path below its folder.
    """
    *_, last = iterate_fingerprints(identity, pictures)
    return last


def iterate_fingerprints(identity: dict, pictures: Iterable["Picture"]) -> Iterator[str]:
    """Yield the fingerprint of no picture, of the first picture, of the first two pictures, and so on."""
    digest = hashlib.sha256(encode_identity(identity))
    yield digest.hexdigest()
    for picture in pictures:
        file = picture.file
        digest.update(picture.facts.sha256)
        digest.update(f"{file.label}/{file.split}/{file.source}/{file.image}\n".encode())
        yield digest.hexdigest()


def encode_identity(identity: dict) -> bytes:
    """Encode an identity for a hash."""
    return json.dumps(identity, sort_keys=True).encode()
