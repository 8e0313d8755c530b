"""Clips: frames evenly over the length, upright, bounded; broken ones; nothing but the clip itself is opened."""

import io
import json
import struct
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise
from PIL import Image

import eval.verdict.video
from data_cards.core.errors import PictureError, UsageError
from eval.cli.main import cli
from eval.settings import PredictSettings
from eval.verdict.decide import Judgement, Reason, decide_clip
from eval.verdict.predict import predict_files
from eval.verdict.video import find_container, read_frames
from train.model.calibration import Calibration
from train.run.folder import open_run

av = pytest.importorskip("av", reason="clips need PyAV, the extra `video`")

CONTAINERS = {  # suffix: codec
    "mp4": "mpeg4", "mov": "mpeg4", "mkv": "mpeg4", "webm": "libvpx", "avi": "mpeg4",
    "ts": "mpeg2video", "flv": "flv", "wmv": "wmv2",
}  # fmt: skip
RATE = 25


def make_clip(form: str = "mp4", frames: int = 50, gop: int = 10, size: tuple[int, int] = (64, 48)) -> bytes:
    """A clip that grows brighter: 4 levels a frame; its left half is black."""
    file = io.BytesIO()
    file.name = f"clip.{form}"
    with av.open(file, "w", format={"mkv": "matroska", "ts": "mpegts", "wmv": "asf"}.get(form)) as clip:
        stream = clip.add_stream(CONTAINERS[form], rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size, stream.bit_rate = gop, 4_000_000
        for number in range(frames):
            levels = np.full((size[1], size[0], 3), 20 + 4 * (number % 56), np.uint8)
            levels[:, : size[0] // 2] = 0
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        clip.mux(stream.encode())
    return file.getvalue()


def read(data: bytes, count: int = 8, max_pixels: int = 10**6) -> list[tuple[float, Image.Image]]:
    return list(read_frames(io.BytesIO(data), count, max_pixels))


def brightness(picture: Image.Image) -> float:
    return float(np.asarray(picture)[:, -picture.width // 4 :].mean())


@pytest.mark.parametrize("form", CONTAINERS)
def test_frames_are_even_over_the_length(form):
    data = make_clip(form)
    assert find_container(data[:512]) is not None
    found = read(data, 5)
    assert len(found) == 5
    for number, (second, picture) in enumerate(found):
        assert second == pytest.approx((2 * number + 1) / 5, abs=0.09)
        # The frame is the one of that second.
        assert brightness(picture) == pytest.approx(20 + 4 * second * RATE, abs=12)
        assert (picture.mode, picture.size) == ("RGB", (64, 48))


@pytest.mark.parametrize(("frames", "gop"), [(1000, 25), (500, 500)])
def test_long_clips_with_many_key_frames_and_with_one(frames, gop):
    found = read(make_clip(frames=frames, gop=gop, size=(32, 32)), 7)
    assert [second for second, _ in found] == pytest.approx(
        [frames / RATE * (2 * number + 1) / 14 for number in range(7)], abs=0.041
    )
    for second, picture in found:
        assert brightness(picture) == pytest.approx(20 + 4 * (round(second * RATE) % 56), abs=12)


def test_a_clip_of_few_frames_is_judged_on_those():
    assert len(read(make_clip(frames=3), 8)) == 3
    assert len(read(make_clip(frames=1), 8)) == 1


def test_clip_without_a_length_is_judged():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options={"live": "1"}) as clip:
        stream = clip.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(50):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")))
        clip.mux(stream.encode())
    with av.open(io.BytesIO(file.getvalue())) as clip:
        assert clip.duration is None
    assert [second for second, _ in read(file.getvalue(), 2)] == pytest.approx([0.5, 1.5], abs=0.09)


def test_rotated_clip_is_turned_upright():
    data = bytearray(make_clip())
    matrix = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[matrix : matrix + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    _, picture = read(bytes(data))[-1]
    assert picture.size == (48, 64)
    levels = np.asarray(picture).mean(axis=(1, 2))
    assert levels[:20].max() < 30 < levels[-20:].min()  # its dark left half is on top


def test_pixels_are_bounded():
    with pytest.raises(PictureError, match="too large: 64 x 48 pixels, at most 3,000"):
        read(make_clip(), max_pixels=3000)


def test_decoding_is_bounded(monkeypatch):
    monkeypatch.setattr(eval.verdict.video, "MOST_DECODED", 30)
    found = read(make_clip(frames=500, gop=500, size=(32, 32)), 8)
    assert 1 <= len(found) < 8


def frames_or_reason(data: bytes) -> list | str:
    try:
        return read(data)
    except PictureError as error:
        return str(error)


@pytest.mark.parametrize("form", ["mp4", "mkv", "avi", "webm"])
def test_broken_clips_are_refused(form):
    data = make_clip(form)
    for cut in (40, 300, len(data) // 2, len(data) - 30):
        found = frames_or_reason(data[:cut])
        assert 1 <= len(found) <= 8 or "broken or truncated" in found or "without pictures" in found
    rng = np.random.default_rng(0)
    for _ in range(15):
        spoilt = bytearray(data)
        for at in rng.integers(12, len(data), 40):
            spoilt[at] = rng.integers(256)
        assert "\n" not in frames_or_reason(bytes(spoilt))


def test_sound_alone_and_playlists_are_no_clips(tmp_path):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as clip:
        stream = clip.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        clip.mux(stream.encode(frame))
        clip.mux(stream.encode())
    with pytest.raises(PictureError, match="without pictures"):
        read(file.getvalue())
    (tmp_path / "secret.mp4").write_bytes(make_clip())
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n".encode()
    assert find_container(playlist) is None
    with pytest.raises(PictureError):
        read(playlist)


def test_pictures_are_no_clips():
    for form in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "JPEG2000", "TIFF", "BMP"):
        file = io.BytesIO()
        draw_noise(1).save(file, form)
        assert find_container(file.getvalue()[:512]) is None, form
    assert find_container(b"") is None
    assert find_container((b"GIF89a" + b"\x47" * 506)[:512]) is None


# --- the verdict


def said(*probabilities: float) -> list[Judgement]:
    odds = [float(np.log(p / (1 - p))) for p in probabilities]
    words = ["fake" if p >= 0.7 else "real" if p <= 0.3 else "unsure" for p in probabilities]
    return [Judgement(word, p, one) for word, p, one in zip(words, probabilities, odds, strict=True)]


@pytest.mark.parametrize(
    ("frames", "word", "reason"),
    [
        ((0.9, 0.9, 0.8, 0.6), "fake", None),
        ((0.1, 0.2, 0.1, 0.5), "real", None),
        ((0.9, 0.1), "unsure", Reason.IN_BAND),
        ((0.999, 0.999, 0.2, 0.2), "unsure", Reason.FRAMES_DISAGREE),
        ((0.999, 0.999, 0.999, 0.2), "fake", None),
    ],
)
def test_clip_verdict_is_that_of_its_frames(frames, word, reason):
    found = decide_clip(said(*frames), Calibration(temperature=1.7, threshold=0.5, low=0.3, high=0.7))
    assert (found.verdict, found.reason) == (word, reason)
    odds = np.mean([one.log_odds for one in said(*frames)])
    assert found.probability_fake == pytest.approx(1 / (1 + np.exp(-odds)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    return open_run(make_run(folder / "runs" / "001", make_store(folder / "features.zarr")))


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(make_clip())
    (tmp_path / "cut.mp4").write_bytes(make_clip()[:3000])
    draw_noise(1).save(tmp_path / "picture.png")
    return tmp_path


def test_predict_judges_a_clip(run, clips):
    def call(*arguments: str):
        return CliRunner().invoke(cli, ["predict", "--device", "cpu", "--run", str(run.path), str(clips), *arguments])

    result = call("--json")
    assert result.exit_code == 1
    clip, cut, picture = json.loads(result.stdout)
    assert len(clip["frames"]) == PredictSettings.frames
    assert clip["remarks"] == []
    assert {"why", "reason", "score_valid"} <= set(clip["frames"][0])
    assert [one["second"] for one in clip["frames"]] == sorted(one["second"] for one in clip["frames"])
    assert "broken or truncated" in cut["error"]
    assert "frames" not in picture
    frame = next(read_frames(io.BytesIO((clips / "clip.mp4").read_bytes()), PredictSettings.frames, 10**6))[1]
    frame.save(clips / "frame.png")
    (alone,) = predict_files(run, [clips / "frame.png"], device="cpu", quick=True, progress=False)
    assert clip["frames"][0]["probability_fake"] == pytest.approx(alone.probability_fake, abs=1e-5)
    (clips / "frame.png").unlink()
    lines = call("--frames", "3").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [str(clips / "clip.mp4"), *"···", str(clips / "picture.png")]
    lines = call("--csv", "--frames", "3").stdout.splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["", "0.32", "1.0", "1.64", "", ""]


def test_clip_declarations_are_found(run, tmp_path):
    manifest = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"c2pa digitalSourceType /trainedAlgorithmicMedia"
    box = struct.pack(">I4s", 8 + len(manifest), b"uuid") + manifest
    (tmp_path / "clip.mp4").write_bytes(make_clip(frames=5) + box)
    (found,) = predict_files(run, [tmp_path / "clip.mp4"], device="cpu", progress=False)
    assert found.error is None
    assert [one.what for one in found.declared] == ["content credentials (C2PA) of a generator"]
    assert found.remarks == ("5 frames instead of 8: the clip has no more, or the others could not be decoded",)


def test_number_of_frames_out_of_bounds_is_refused(run):
    with pytest.raises(UsageError, match="frames 0: expected 1 to 64"):
        predict_files(run, [], frames=0)


def test_clip_without_the_extra_names_it(run, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    found = predict_files(run, [clips / "clip.mp4", clips / "picture.png"], device="cpu", progress=False)
    assert "reading clips needs PyAV: `" in found[0].error
    assert found[1].error is None
