"""Declarations in a file's metadata that name a generator: not verified, and not used in the score.

Anybody can write such metadata into any file, and most programs remove it, so neither its presence nor its
absence proves anything. Signatures of content credentials are not checked.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import unescape
from typing import BinaryIO

from PIL import Image

from data_cards.core.text import escape_untrusted
from eval.verdict.containers import Segment, read_segments

MOST_SHOWN = 120  # characters of a value
MOST_DECLARATIONS = 20
_MOST_TEXT = 1 << 16  # bytes of a text that are searched for names
_MOST_NAMES = 3  # of generators in one text
_BEFORE_NAME = 30  # characters of a long text that are shown before the first name

# IPTC's vocabulary of digital source types; C2PA uses the same words.
_SOURCE_TYPE = re.compile(
    rb"digital_?source_?type.{0,200}?\b(compositeWithTrainedAlgorithmicMedia|trainedAlgorithmicMedia)\b", re.I | re.S
)
_NAMED_IN_XMP = re.compile(rb"(CreatorTool|Credit|Software)(?:\s*=\s*[\"']|>)([^\"'<]{1,300})")
# Of IPTC's photo metadata 2025.1: the program that made the picture, as an attribute, an element or an item of a list.
# The number of nested elements is bounded, because without a bound a hostile block takes hours.
_AI_SYSTEM = re.compile(
    rb"\bAISystem(?:Version)?Used(?:\s*=\s*[\"']|\s*>\s*(?:<rdf:[^>]*>\s*){0,4})([^\"'<]{1,300})", re.I
)
# Names that are used almost only by generators.
_GENERATORS = re.compile(
    r"midjourney|stable[ _-]?diffusion|dall[ ._·-]?e\b|\bopenai\b|\bchatgpt\b|\bfirefly\b|comfyui|automatic1111"
    r"|\bwebui\b|invokeai|novelai|fooocus|google ai\b|\bimagen[ -]?\d|\bgemini\b|image creator|microsoft designer"
    r"|black forest labs|\bflux[.]?\d|ideogram|leonardo[.]ai|dreamstudio|stability[ .]ai|craiyon|\bgrok\b"
    r"|diffusionbee|draw things|\brecraft\b|\bsdxl\b|\bsora\b|nightcafe|playground ?ai|\bplayground-v\d|\bsd[.]next\b",
    re.I,
)
# What Stable Diffusion's front ends write: "a cat. Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1".
_PARAMETERS = re.compile(r"\bsteps\b|\bsampler\b|\bcfg\b|\bseed\b|prompt", re.I)
# Midjourney ends the description with the number of its job.
_JOB = re.compile(r"\bJob ID: *[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I)
# Grok writes a signature as the description, and a number as the artist.
_SIGNATURE = re.compile(r"Signature: *[A-Za-z0-9+/=]{64,}")
_NUMBER = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
# A workflow of ComfyUI, recognised by the keys of its nodes; its name may precede it.
_WORKFLOW = re.compile(r"(?:(?:prompt|workflow) *: *)?\{.{0,65536}?\"(?:class_type|last_node_id)\"", re.I | re.S)
_EASY_DIFFUSION = ("use_stable_diffusion_model", "stable diffusion model")
_STEPS = re.compile(r"\bSteps: *\d+\b.{0,300}?\bSampler:", re.S)

_SOFTWARE, _DESCRIPTION, _MAKE, _MODEL, _ARTIST = 0x0131, 0x010E, 0x010F, 0x0110, 0x013B
_EXIF_BLOCK, _USER_COMMENT = 0x8769, 0x9286


@dataclass(frozen=True)
class Declaration:
    """One declaration in a file's metadata.

    Attributes
    ----------
    what : str, in a few words
    where : str, part of the file
    value : str, beginning of its text in one line, without control characters; "" if there is nothing to show
    """

    what: str
    where: str
    value: str = ""

    def to_dict(self) -> dict:
        """Return JSON values."""
        return asdict(self)


def read_declarations(file: BinaryIO) -> tuple[Declaration, ...]:
    """Read what an open picture or clip declares, each thing once; no pixel is decoded."""
    parsers = {"c2pa": _parse_c2pa, "xmp": _parse_xmp, "exif": _parse_exif, "text": _parse_text}
    found = (one for segment in read_segments(file) for one in parsers[segment.kind](segment))
    return tuple(dict.fromkeys(found))[:MOST_DECLARATIONS]


def _parse_c2pa(segment: Segment) -> Iterator[Declaration]:
    if b"c2pa" not in segment.data.lower():  # other programs use JUMBF boxes too
        return
    kinds = dict.fromkeys(match[1].decode() for match in _SOURCE_TYPE.finditer(segment.data))
    names = _find_generators(segment.data.decode("latin-1"))
    if kinds or names:
        what = _name("content credentials (C2PA) of a generator", names)
        yield _declaration(what, segment.where, ", ".join((*kinds, *names)))
    else:
        yield Declaration("content credentials (C2PA), which cameras and editors write too", segment.where)


def _parse_xmp(segment: Segment) -> Iterator[Declaration]:
    for match in _SOURCE_TYPE.finditer(segment.data):
        yield _declaration("made with a trained algorithm (IPTC)", f"XMP in {segment.where}", match[1].decode())
    for match in _AI_SYSTEM.finditer(segment.data):
        value = unescape(match[1].decode("utf-8", "replace"))
        yield _declaration("made with an AI system (IPTC)", f"XMP in {segment.where}", value)
    if job := _JOB.search(segment.data[:_MOST_TEXT].decode("utf-8", "replace")):
        yield _declaration("Midjourney's job", f"XMP in {segment.where}", job[0])
    for match in _NAMED_IN_XMP.finditer(segment.data):
        value = unescape(match[2].decode("utf-8", "replace"))
        yield from _declare_generators(f"XMP {match[1].decode()} in {segment.where}", value)


def _parse_exif(segment: Segment) -> Iterator[Declaration]:
    try:
        exif = Image.Exif()
        exif.load(segment.data)
        tags = {"Software": _SOFTWARE, "ImageDescription": _DESCRIPTION, "Make": _MAKE, "Model": _MODEL}
        values = {name: exif.get(tag) for name, tag in {**tags, "Artist": _ARTIST}.items()}
        values["UserComment"] = _decode_comment(exif.get_ifd(_EXIF_BLOCK).get(_USER_COMMENT))
    except Exception:  # a broken EXIF block declares nothing
        return
    values = {name: value[:_MOST_TEXT] for name, value in values.items() if isinstance(value, str)}
    description, artist = values.get("ImageDescription", ""), values.get("Artist", "")
    if _SIGNATURE.match(description) and _NUMBER.fullmatch(artist.strip("\0 ")):
        yield _declaration("a signature as Grok writes it", f"EXIF ImageDescription in {segment.where}", description)
    for name, value in values.items():
        if what := _find_parameters(value):
            yield _declaration(what, f"EXIF {name} in {segment.where}", value)
        else:
            yield from _declare_generators(f"EXIF {name} in {segment.where}", value)


def _find_parameters(text: str) -> str | None:
    """Return the name of the generator's parameters that a text contains; None if it contains none."""
    if _STEPS.search(text):
        return "Stable Diffusion parameters"
    if any(f'"{name}"' in text.lower() for name in _EASY_DIFFUSION):
        return "Easy Diffusion parameters"
    if _WORKFLOW.match(text):
        return "ComfyUI workflow"
    return "Midjourney's job" if _JOB.search(text) else None


def _decode_comment(value: object) -> str | None:
    """Decode EXIF's UserComment, whose first eight bytes name the encoding (Exif 2.32, 4.6.6)."""
    if not isinstance(value, bytes):
        return value if isinstance(value, str) else None
    kind, text = value[:8], value[8:]
    if kind.startswith(b"UNICODE"):
        # The standard prescribes the byte order of the block; programs write either order.
        little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace")
    return (text if kind[:5] in (b"ASCII", b"JIS\0\0", b"\0" * 5) else value).decode("utf-8", "replace")


def _parse_text(segment: Segment) -> Iterator[Declaration]:
    text = segment.data[:_MOST_TEXT].decode("utf-8", "replace")
    name, where = segment.name.lower(), f"{segment.where} “{escape_untrusted(segment.name, 40)}”"
    if name == "parameters" and _PARAMETERS.search(text):
        yield _declaration("Stable Diffusion parameters", where, text)
    elif name in ("prompt", "workflow") and text.lstrip().startswith("{"):
        yield _declaration("ComfyUI workflow", where, text)
    elif name in _EASY_DIFFUSION:
        yield _declaration("Easy Diffusion parameters", where, text)
    elif name.startswith("invokeai") or name in ("sd-metadata", "dream"):
        yield _declaration("InvokeAI parameters", where, text)
    elif name in ("software", "source", "author", "title", "description", "comment"):
        if what := _find_parameters(text):
            yield _declaration(what, where, text)
        else:
            yield from _declare_generators(where, text)


def _declare_generators(where: str, text: str) -> Iterator[Declaration]:
    """Declare the generators that a text names; a long text is shown from shortly before the first name."""
    text = _make_readable(text)
    if names := _find_generators(text):
        first = text.index(names[0])
        start = 0 if first + len(names[0]) <= MOST_SHOWN else first - _BEFORE_NAME
        yield _declaration(_name("a generator's name", names), where, f"{'… ' if start else ''}{text[start:]}")


def _find_generators(text: str) -> list[str]:
    """Return the first different names of generators in a text, as it writes them."""
    names = {match[0].lower(): match[0] for match in reversed([*_GENERATORS.finditer(text)])}
    return sorted(names.values(), key=text.index)[:_MOST_NAMES]


def _name(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else what


def _declaration(what: str, where: str, value: str) -> Declaration:
    return Declaration(what, where, escape_untrusted(_make_readable(value), MOST_SHOWN))


def _make_readable(text: str) -> str:
    """Write a text in one line: white space becomes one space, and characters that are not shown are left out."""
    words = text[:_MOST_TEXT].replace("\0", " ").split()
    return "".join(one for one in " ".join(words) if unicodedata.category(one) not in ("Cc", "Cf"))
