"""What files declare of themselves: every container, strangers' texts made harmless, broken and huge metadata."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from eval.verdict.containers import MOST_BYTES, read_segments
from eval.verdict.metadata import MOST_SHOWN, Declaration, read_declarations

URI = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>'
)
MANIFEST = (
    struct.pack(">I4s", 60, b"jumb") + struct.pack(">I4s", 30, b"jumd") + b"c2pa\0\x11\0\x10\x80\0\0\xaa\x03c2pa\0"
)
PARAMETERS = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
JOB = "0a1b2c3d-0a1b-4c2d-8e3f-0a1b2c3d4e5f"
PICTURE = Image.linear_gradient("L").convert("RGB").resize((24, 16))


def read_from_bytes(data: bytes) -> tuple[Declaration, ...]:
    return read_declarations(io.BytesIO(data))


def save(form: str, **options) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


def save_png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=len(text) > 1000)
    return save("PNG", pnginfo=info)


def with_png_chunk(kind: bytes, data: bytes) -> bytes:
    png = save("PNG")
    chunk = struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def with_jpeg_segments(*segments: tuple[int, bytes]) -> bytes:
    jpeg = save("JPEG")
    return (
        jpeg[:2]
        + b"".join(bytes((0xFF, code)) + struct.pack(">H", len(data) + 2) + data for code, data in segments)
        + jpeg[2:]
    )


def with_webp_chunk(kind: bytes, data: bytes) -> bytes:
    webp = save("WEBP") + struct.pack("<4sI", kind, len(data)) + data + b"\0" * (len(data) % 2)
    return webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]


def with_box(kind: bytes, data: bytes, form: str = "AVIF") -> bytes:
    return save(form) + struct.pack(">I4s", 8 + len(data), kind) + data


def in_app11(manifest: bytes) -> bytes:
    """Over two packets, cut within the words that are looked for."""
    middle = manifest.find(b"trained") + 3 if b"trained" in manifest else 30
    parts = manifest[:middle], manifest[middle:]
    return with_jpeg_segments(*((0xEB, b"JP\0\1" + struct.pack(">I", 1 + at) + part) for at, part in enumerate(parts)))


def exif(**tags: str) -> bytes:
    block = Image.Exif()
    for name, tag in {
        "Software": 0x0131,
        "Make": 0x010F,
        "Model": 0x0110,
        "Description": 0x010E,
        "Artist": 0x013B,
    }.items():
        if name in tags:
            block[tag] = tags[name]
    if "UserComment" in tags:
        block.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + tags["UserComment"].encode("utf-16-be")
    return block.tobytes()


C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MADE = MANIFEST + b"qdigitalSourceTypexF" + f"{URI}trainedAlgorithmicMedia".encode()
CAMERA, GENERATOR = "cameras and editors", "content credentials (C2PA) of a generator"
TRAINED = XMP.format(f"{URI}trainedAlgorithmicMedia")
COMPOSITE = XMP.format(f"{URI}compositeWithTrainedAlgorithmicMedia")

DECLARING = {
    "c2pa jpeg": (in_app11(MANIFEST), CAMERA, ""),
    "c2pa jpeg generator": (in_app11(MADE), GENERATOR, "trainedAlgorithmicMedia"),
    "c2pa png": (with_png_chunk(b"caBX", MANIFEST), CAMERA, ""),
    "c2pa png generator": (with_png_chunk(b"caBX", MADE), GENERATOR, "trainedAlgorithmicMedia"),
    "c2pa webp": (with_webp_chunk(b"C2PA", MADE), GENERATOR, "trainedAlgorithmicMedia"),
    "c2pa avif": (with_box(b"uuid", C2PA_UUID + b"\0\0\0\0manifest\0" + MADE), GENERATOR, "trainedAlgorithmicMedia"),
    "c2pa jpeg 2000": (with_box(b"jumb", MANIFEST[8:], "JPEG2000"), CAMERA, ""),
    "iptc jpeg": (save("JPEG", xmp=TRAINED.encode()), "(IPTC)", "trainedAlgorithmicMedia"),
    "iptc composite": (save("JPEG", xmp=COMPOSITE.encode()), "(IPTC)", "compositeWithTrainedAlgorithmicMedia"),
    "iptc png": (save_png(**{"XML:com.adobe.xmp": TRAINED}), "(IPTC)", "trainedAlgorithmicMedia"),
    "iptc webp": (save("WEBP", xmp=TRAINED.encode()), "(IPTC)", "trainedAlgorithmicMedia"),
    "iptc avif": (save("AVIF", xmp=TRAINED.encode()), "(IPTC)", "trainedAlgorithmicMedia"),
    "iptc tiff": (save("TIFF", tiffinfo={700: TRAINED.encode()}), "(IPTC)", "trainedAlgorithmicMedia"),
    "stable diffusion": (save_png(parameters=PARAMETERS), "Stable Diffusion parameters", "Steps: 20"),
    "stable diffusion, packed": (save_png(parameters=PARAMETERS * 20), "Stable Diffusion parameters", "a cat"),
    "comfyui": (save_png(prompt='{"3": {"class_type": "KSampler"}}'), "ComfyUI workflow", "KSampler"),
    "comfyui workflow": (save_png(workflow='{"nodes": []}'), "ComfyUI workflow", "nodes"),
    "png software": (save_png(Software="NovelAI"), "a generator's name", "NovelAI"),
    "exif software": (save("JPEG", exif=exif(Software="Midjourney v6")), "a generator's name", "Midjourney v6"),
    "exif comment": (save("JPEG", exif=exif(UserComment=PARAMETERS)), "Stable Diffusion parameters", "Steps: 20"),
    "exif webp": (save("WEBP", exif=exif(Software="ComfyUI")), "a generator's name", "ComfyUI"),
    "comfyui webp": (
        save("WEBP", exif=exif(Model='prompt:{"3": {"inputs": {}, "class_type": "KSampler"}}')),
        "ComfyUI workflow",
        "KSampler",
    ),
    "comfyui webp workflow": (
        save("WEBP", exif=exif(Make='workflow:{"last_node_id": 9, "nodes": []}')),
        "ComfyUI workflow",
        "last_node_id",
    ),
    "comfyui jpeg": (
        save("JPEG", exif=exif(UserComment='{"1": {"class_type": "KSampler"}}')),
        "ComfyUI workflow",
        "KSampler",
    ),
    "midjourney png": (save_png(Description=f"a cat --v 6 Job ID: {JOB}"), "Midjourney's job", JOB),
    "midjourney exif": (save("JPEG", exif=exif(Description=f"a cat --v 6 Job ID: {JOB}")), "Midjourney's job", JOB),
    "midjourney xmp": (
        save_png(**{"XML:com.adobe.xmp": f"<dc:description>a cat --v 6 Job ID: {JOB}</dc:description>"}),
        "Midjourney's job",
        JOB,
    ),
    "easy diffusion png": (save_png(use_stable_diffusion_model="sd-v1-5"), "Easy Diffusion parameters", "sd-v1-5"),
    "easy diffusion labels": (save_png(**{"Stable Diffusion model": "sd"}), "Easy Diffusion parameters", "sd"),
    "easy diffusion jpeg": (
        save("JPEG", exif=exif(UserComment='{"prompt": "a cat", "use_stable_diffusion_model": "sd-v1-5"}')),
        "Easy Diffusion parameters",
        "a cat",
    ),
    "grok": (save("JPEG", exif=exif(Description="Signature: " + "aB3+" * 22, Artist=JOB)), "Grok", "Signature: aB3+"),
    "iptc ai system": (
        save("JPEG", xmp=b'<rdf:Description Iptc4xmpExt:AISystemUsed="Painter 3"/>'),
        "AI system (IPTC)",
        "Painter 3",
    ),
    "iptc ai system as an element": (
        save(
            "WEBP", xmp=b"<Iptc4xmpExt:AISystemUsed>\n <rdf:Alt><rdf:li>Painter 3</rdf:li></Iptc4xmpExt:AISystemUsed>"
        ),
        "AI system (IPTC)",
        "Painter 3",
    ),
    "jpeg comment": (save("JPEG", comment="made with Stable Diffusion"), "a generator's name", "Stable Diffusion"),
    "gif comment": (save("GIF", comment=PARAMETERS), "Stable Diffusion parameters", "Steps: 20"),
    "exif png": (save("PNG", exif=exif(Software="Adobe Firefly")), "a generator's name", "Adobe Firefly"),
}


def test_texts_of_a_png_are_read_without_its_pixels():
    data = save_png(parameters=PARAMETERS)
    pixels = data.index(b"IDAT")
    text = data.index(b"tEXt") - 4
    end = text + 12 + int.from_bytes(data[text : text + 4])
    header = bytearray(data[8:33])
    header[8:16] = struct.pack(">II", 50_000, 50_000)  # no memory for so many
    header[21:25] = struct.pack(">I", zlib.crc32(header[4:21]))
    late = data[:8] + header + data[pixels - 4 : -12] + data[text:end] + data[-12:]
    (found,) = read_from_bytes(late)
    assert found.what == "Stable Diffusion parameters"


@pytest.mark.parametrize("name", DECLARING)
def test_declared_origin_is_found_in_every_container(name):
    data, what, value = DECLARING[name]
    (found,) = read_from_bytes(data)
    assert what in found.what
    assert " ".join(value.split()) in found.value
    assert found.where
    Image.open(io.BytesIO(data)).load()  # a picture all the same


@pytest.mark.parametrize(
    "data",
    [
        *(save(form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")),
        save("JPEG", exif=exif(Software="GIMP 2.10", UserComment="Steps to the sea")),
        save_png(parameters="length 3 m, width 2 m", prompt="What is this?", Software="Sorabji 2"),
        save("JPEG", xmp=XMP.format(f"{URI}digitalCapture").encode()),
        save("JPEG", exif=exif(Description="Signature: A. Painter", Artist="A. Painter")),
        save("JPEG", exif=exif(Description="Job ID: 1234 of the print shop", Make="Model: {}")),
        save("JPEG", comment="CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90"),
        save_png(Comment='{"title": "nodes of a plant"}'),
        with_jpeg_segments((0xEB, b"JP\0\1\0\0\0\1" + struct.pack(">I4s", 12, b"jumb") + b"JPEG 360")),
        # The words among the pixels, or behind them, are no metadata.
        save("JPEG") + MADE,
        Image.frombytes("RGB", (len(MADE) // 3, 1), MADE[: len(MADE) // 3 * 3]).tobytes(),
        b"",
        b"text",
    ],
)
def test_file_without_declarations_gives_none(data):
    assert read_from_bytes(data) == ()


def test_texts_are_shown_readable_in_one_line():
    (found,) = read_from_bytes(save_png(parameters="a cat\n\ton\u200b a mat\r\nSteps: 20, <b>Sampler</b>: é\0x"))
    assert found.value == "a cat on a mat Steps: 20, <b>Sampler</b>: é x"
    xmp = "<x:xmpmeta><rdf:Description xmp:CreatorTool='Midjourney &amp; &quot;I&quot;&#xA;v6'/></x:xmpmeta>"
    (found,) = read_from_bytes(save_png(**{"XML:com.adobe.xmp": xmp}))
    assert found.value == 'Midjourney & "I" v6'


def test_names_of_generators_are_shown_also_from_the_end_of_a_long_text():
    text = "a couple at the sea, " * 20 + "App: SD.Next, Pipeline: StableDiffusionXLPipeline, again stablediffusion"
    (found,) = read_from_bytes(save("JPEG", exif=exif(UserComment=text)))
    assert found.what == "a generator's name: SD.Next, StableDiffusion"
    assert found.value.startswith("… ")
    assert "App: SD.Next, Pipeline: StableDiffusionXLPipeline" in found.value


def test_declarations_are_read_before_any_picture_was_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(save_png(Software="NovelAI"))
    code = "from eval.verdict.metadata import read_declarations; print(read_declarations(open('a.png', 'rb'))[0].value)"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert done.stdout == "NovelAI\n", done.stderr


def test_texts_are_shown_without_control_characters_and_cut():
    (found,) = read_from_bytes(save_png(parameters="Steps: 1 \x1b[31m\x07\u202e" + "x" * 5000))
    assert found.value.startswith("Steps: 1 [31mxxx")
    assert all(one.isprintable() for one in found.value)
    assert len(found.value) < MOST_SHOWN + 40
    (found,) = read_from_bytes(with_png_chunk(b"tEXt", b"invokeai\x1b]0;x\0{}"))
    assert "\x1b" not in found.where


def test_packed_text_is_unpacked_up_to_a_bound():
    for times in (1000, 8 << 20):  # the second is larger than Pillow unpacks
        bomb = with_png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"seed " * times))
        segments = read_segments(io.BytesIO(bomb))
        assert sum(len(one.data) for one in segments) <= MOST_BYTES
        assert len(read_from_bytes(bomb)) == len(segments) == (times == 1000)


def test_texts_behind_the_pixels_are_read():
    png = save("PNG")
    data = b"parameters\0" + PARAMETERS.encode()
    chunk = struct.pack(">I4s", len(data), b"tEXt") + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    assert [one.what for one in read_from_bytes(png[:-12] + chunk + png[-12:])] == ["Stable Diffusion parameters"]


@pytest.mark.parametrize(
    ("near", "far"),
    [
        pytest.param("Steps: 1 " * 20 + "Sampler:", "Steps: 1 " + "x" * 400 + "Sampler:", id="gap"),
        pytest.param("Steps: 1 " * 20 + "Sampler:", "x" * (1 << 16) + "Steps: 1 Sampler:", id="length"),
    ],
)
def test_texts_are_searched_within_bounds(near, far):
    # Without both bounds backtracking over texts made for it would take hours.
    assert len(read_from_bytes(save("PNG", exif=exif(UserComment=near)))) == 1
    assert read_from_bytes(save("PNG", exif=exif(UserComment=far))) == ()


def test_content_credentials_are_searched_within_bounds():
    for gap, what in ((100, GENERATOR), (300, CAMERA)):
        words = b"c2pa digitalSourceType" + b" " * gap + b"trainedAlgorithmicMedia" + b" digitalSourceType" * 20_000
        (found,) = read_from_bytes(with_png_chunk(b"caBX", words))
        assert what in found.what


def test_nested_elements_of_xmp_are_searched_in_linear_time():
    hostile = b"<rdf:AISystemUsed>" * 20_000
    began = time.process_time()
    assert read_from_bytes(save("WEBP", xmp=hostile)) == ()
    assert time.process_time() - began < 2


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_broken_files_declare_nothing(data):
    whole = data.draw(st.sampled_from([one for one, _, _ in DECLARING.values()]))
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    read_from_bytes(bytes(broken))
