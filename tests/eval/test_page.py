"""`page`: what it answers, whom it refuses, bounds on uploads; and the page itself in a real browser."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise
from PIL import Image, PngImagePlugin

from data_cards.core.console import PROGRAM
from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.cli.main import cli
from eval.verdict.examine import Examiner
from eval.verdict.predict import predict_files
from eval.verdict.wording import TITLES
from train.run.folder import load_detector, open_run
from train.run.locate import STARTER

pytest.importorskip("starlette", reason="the page needs Starlette, the extra `page`")
uvicorn = pytest.importorskip("uvicorn", reason="the page needs uvicorn, the extra `page`")
httpx = pytest.importorskip("httpx", reason="no httpx to ask the page with")

import eval.page.uploads  # noqa: E402
from eval.page.app import create_application  # noqa: E402
from eval.page.connections import BoundedProtocol  # noqa: E402
from eval.page.guard import is_own_host  # noqa: E402
from eval.page.serve import open_listener, serve_page  # noqa: E402

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return open_run(make_run(folder / "runs" / "001", make_store(folder / "features.zarr")))


@pytest.fixture(scope="module")
def examiner(run):
    return Examiner(run, "cpu")


@contextmanager
def served(application):
    """Serve an application on a port of this computer, in a thread; gives its address."""
    with open_listener("127.0.0.1", 0) as listener:
        config = uvicorn.Config(application, log_level="error", lifespan="off", ws="none", http=BoundedProtocol)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def address(examiner):
    with served(create_application(examiner)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=120) as client:
        yield client


def encode(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


PICTURE = draw_noise(1, 60, 50)


# --- answers


def test_page_judges_as_predict(client, run, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "Steps: 20, Sampler: <script>alert(1)</script>\x1b")
    data = encode(PICTURE, pnginfo=info)
    (tmp_path / "a.png").write_bytes(data)
    (verdict,) = predict_files(run, [tmp_path / "a.png"], device="cpu", progress=False)
    response = client.post("/judge", content=data)
    assert response.status_code == 200
    answer = response.json()
    assert answer["verdict"] == verdict.verdict
    assert answer["probability_fake"] == pytest.approx(verdict.probability_fake, abs=1e-5)
    own = json.loads(json.dumps(verdict.to_dict()))
    for name in ("reason", "why", "score_valid", "flips_under", "unlike_after", "unsure_after"):
        assert answer[name] == own[name]
    assert answer["run"] == str(run.path)
    assert (answer["sha256"], answer["version"]) == (hashlib.sha256(data).hexdigest(), version(PROGRAM))
    assert answer["checks"] == pytest.approx(verdict.judgement.checks, abs=1e-5)
    assert answer["declared"] == [one.to_dict() for one in verdict.declared]
    assert "\x1b" not in answer["declared"][0]["value"]
    assert (answer["width"], answer["height"]) == (60, 50)
    assert answer["thumbnail"].startswith("data:image/jpeg;base64,")
    assert len(answer["explanation"]["bands"]) == len(answer["explanation"]["band_edges"]) - 1
    assert len(client.get("/about").json()["profiles"]["mean"]["real"]) == len(answer["explanation"]["profile"])


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"no picture", 422, "not a picture in a known format"),
        (b"", 422, "the file is empty"),
        (encode(PICTURE)[:300], 422, "broken or truncated"),
        (encode(Image.new("1", (15_000, 15_000))), 422, "too large: "),
        (b"\0\0\0\x18ftypisom" + b"\0" * 600, 422, "a clip"),
    ],
)
def test_page_refuses_what_cannot_be_judged(client, data, status, text):
    response = client.post("/judge", content=data)
    assert response.status_code == status
    assert text in response.json()["error"]


def test_uploads_are_bounded_in_bytes(client, monkeypatch):
    monkeypatch.setattr(eval.page.uploads, "MAX_UPLOAD", 1000)
    told = client.post("/judge", content=b"x" * 1001)
    assert (told.status_code, told.json()["error"][:9]) == (413, "too large")
    untold = client.post("/judge", content=(b"x" * 100 for _ in range(100)))  # in chunks, its length not told
    assert untold.status_code == 413


def test_page_writes_nothing_to_disk(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened, watching = [], True

    def watch(event, arguments):  # a hook cannot be removed again
        if watching and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(arguments[0])

    sys.addaudithook(watch)
    status = client.post("/judge", content=encode(PICTURE)).status_code
    watching = False
    assert (status, opened) == (200, [])
    assert list(tmp_path.iterdir()) == []


# --- strangers


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/about"])
def test_page_headers_forbid_other_origins(client, path):
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    for address in ("http://", "https://", "//cdn"):
        assert address not in response.text.replace("http://www.w3.org/2000/svg", "")


def test_unknown_paths_get_status_404(client):
    for path in ("/absent", "/../app.py", "/static/page.js", "/..%2fapp.py"):
        response = client.get(path)
        assert response.status_code == 404
        assert "content-security-policy" in response.headers
    for response, status in (
        (client.get("/judge"), 405),
        (client.get("/nothing"), 404),
        (client.post("/judge", files={"file": encode(PICTURE)}), 415),
    ):
        assert response.status_code == status
        assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("host", "closed", "opened"),
    [
        ("127.0.0.1:8123", True, True),
        ("localhost:8123", True, True),
        ("LOCALHOST", True, True),
        ("[::1]:8123", True, True),
        ("127.0.0.9", True, True),
        ("192.168.1.5:8123", False, True),
        (socket.gethostname(), socket.gethostname() == "localhost", True),
        ("evil.example:8123", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("", False, False),
        ("[::1", False, False),
        ("user@evil.example", False, False),
    ],
)
def test_is_own_host_accepts_loopback_names(host, closed, opened):
    assert is_own_host(host, False) is closed
    assert is_own_host(host, True) is opened


def test_foreign_hosts_and_origins_are_refused(client, address):
    data, own = encode(PICTURE), address.rstrip("/")
    for path in ("/", "/about", "/page.js"):
        assert client.get(path, headers={"host": "evil.example:8123"}).status_code == 403
    for headers in (
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": own.replace("http:", "https:")},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        response = client.post("/judge", content=data, headers=headers)
        assert response.status_code == 403, headers
        assert "refused" in response.json()["error"]
    headers = {"origin": own, "sec-fetch-site": "same-origin"}
    assert client.post("/judge", content=data, headers=headers).status_code == 200


def test_page_with_a_token_refuses_requests_without_it(examiner):
    with served(create_application(examiner, "secret")) as address, httpx.Client(base_url=address) as client:
        for path in ("/", "/about", "/page.js", "/?token=", "/?token=Secret", "/about?token=secre"):
            response = client.get(path, headers={"cookie": "page-token-1=secret"})
            assert (response.status_code, response.json()["error"][:7]) == (403, "refused"), path
        assert client.post("/judge", content=encode(PICTURE)).status_code == 403
        assert client.get("/about?token=secret").status_code == 200  # for programs
        response = client.get("/?token=secret")
        assert (response.status_code, response.headers["location"]) == (303, "/")
        assert "httponly; path=/; samesite=lax" in response.headers["set-cookie"].lower()
        assert client.get("/").status_code == 200
        assert client.post("/judge", content=encode(PICTURE)).status_code == 200
        assert client.get("/", headers={"host": "evil.example"}).status_code == 403


# --- the command


def test_page_with_wrong_options_is_refused(run, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}: in use by another program; give another --port"):
            serve_page(run, port=port)
        result = CliRunner().invoke(cli, ["page", "--run", str(run.path), "--port", str(port), "--no-open"])
        assert (result.exit_code, result.stderr[:6]) == (1, "error:")
    with pytest.raises(UsageError, match="port 99999: expected 0 to 65535"):
        serve_page(run, port=99999)
    with pytest.raises(UserError, match=r"host 192\.0\.2\.1: not an address of this computer"):
        serve_page(run, host="192.0.2.1", port=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"needs Starlette and uvicorn: `.*install"):
        serve_page(run)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_public_host_needs_an_option_and_warns(run, monkeypatch, host, warned):
    applications = []

    async def end_at_once(server):
        applications.append(server.config.app)

    monkeypatch.setattr(uvicorn.Server, "main_loop", end_at_once)
    told, warnings = [], []
    serve_page(run, host=host, port=0, device="cpu", echo=told.append, warn=warnings.append)
    (application,) = applications
    assert len(warnings) == warned
    assert told[0].startswith("page: http://127.0.0.1:" if not warned else "page: http://localhost:")
    if warned:
        assert len(application.token) >= 32
        assert f"/?token={application.token} " in told[0]
    else:
        assert application.token is None


@pytest.mark.slow
def test_page_on_ctrl_c_ends_without_an_error(run):
    with subprocess.Popen(
        [sys.executable, "-m", "eval", "page", "--run", str(run.path), "--port", "0", "--no-open", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
        # Tests that a shell started in the background hand on that it is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout.readline().startswith("page: http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_page_memory_returns_after_a_burst(run):
    psutil = pytest.importorskip("psutil", reason="no psutil to measure memory with")
    large = encode(draw_noise(2, 2500, 2500))
    with subprocess.Popen(
        [sys.executable, "-m", "eval", "page", "--run", str(run.path), "--port", "0", "--no-open", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            address = process.stdout.readline().split()[1]

            def ask(data):
                return httpx.post(f"{address}judge", content=data, timeout=120).status_code

            def resident():
                time.sleep(2)
                return psutil.Process(process.pid).memory_info().rss

            assert ask(encode(PICTURE)) == 200
            before = resident()
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(ask, [large] * 8)) == [200] * 8
            assert resident() < before + (64 << 20)
        finally:
            process.kill()


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive a browser with")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this computer")
    with playwright.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A fresh page; a script error, or anything loaded from elsewhere, fails the test."""
    context = browser.new_context(viewport={"width": 375, "height": 700})
    page = context.new_page()
    page.set_default_timeout(120_000)  # many tests may run beside this one
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    context.close()


DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, type, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
  const event = %s;
  document.body.dispatchEvent(event);
}"""
DROPPED = DROP % 'new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })'
PASTED = DROP % 'new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })'
JPEG = list(encode(PICTURE, "JPEG", quality=90))


def test_browser_judges_dropped_pictures_and_refuses_a_text(page):
    name = "<img src=x onerror=alert(1)>.jpg"
    page.evaluate(DROPPED, [[name, "image/jpeg", JPEG], ["notes.txt", "text/plain", list(b"no picture")]])
    page.get_by_text("1 judged, 1 cannot be judged.").wait_for()
    cards = page.locator("article")
    assert cards.count() == 2
    first = cards.nth(0)
    assert first.locator("h2").inner_text() in TITLES.values()
    assert name in first.inner_text()
    assert first.locator(".scale").get_attribute("aria-label").startswith("Probability that the picture is fake")
    assert first.locator("svg").count() == 2
    assert first.locator("img").count() == 1
    assert first.locator("img").evaluate("image => image.naturalWidth") == 60
    assert not first.locator("svg").first.is_visible()
    first.get_by_text("The figures behind this").click()
    assert first.locator("svg").first.is_visible()
    assert hashlib.sha256(bytes(JPEG)).hexdigest() in first.inner_text()
    assert first.locator("polyline").count() == 3
    assert first.locator("rect.bar").count() == 13
    failed = cards.nth(1)
    assert "Cannot be judged" in failed.inner_text()
    assert "not a picture in a known format" in failed.inner_text()
    # Nothing is wider than a phone's screen.
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("width", [320, 390])
def test_browser_names_each_verdict_on_the_scale_of_a_phone(page, width):
    calibration = load_detector(open_run(STARTER), "cpu").calibration
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_text("Detector:").wait_for()
    page.evaluate("([low, high]) => Object.assign(about, { low, high })", [calibration.low, calibration.high])
    page.evaluate(DROPPED, [["a.jpg", "image/jpeg", JPEG]])
    words = page.locator(".scale em")
    words.first.wait_for(state="attached")
    assert words.all_inner_texts() == ["real", "unsure", "fake"]
    for number in range(3):
        assert words.nth(number).is_visible()
        assert words.nth(number).evaluate("word => word.scrollWidth <= word.parentElement.clientWidth")


def test_browser_shows_a_score_that_is_no_probability_among_the_details_only(page):
    grey = Image.linear_gradient("L")
    page.evaluate(DROPPED, [["grey.jpg", "image/jpeg", list(encode(grey, "JPEG"))], ["a.jpg", "image/jpeg", JPEG]])
    page.get_by_text("2 judged.").wait_for()
    card = page.locator("article").nth(0)
    assert card.locator("h2").inner_text() == "Unsure"
    assert "too little of them: hardly any" in card.inner_text()
    assert "%" not in card.inner_text()
    assert card.locator(".scale").count() == 0
    card.get_by_text("The figures behind this").click()
    assert "This is not a probability" in card.inner_text()
    other = page.locator("article").nth(1)
    assert other.locator(".ends > strong").count() == (other.locator("h2").inner_text() != "Unsure")


def test_browser_takes_pasted_and_chosen_pictures_by_keyboard(page, tmp_path):
    page.evaluate(PASTED, [["image.png", "image/png", list(encode(PICTURE))]])
    page.get_by_text("1 judged.").wait_for()
    (tmp_path / "a.jpg").write_bytes(bytes(JPEG))
    (tmp_path / "b.webp").write_bytes(encode(PICTURE, "WEBP"))
    page.keyboard.press("Tab")
    # The browser's own control, which it opens by key; that it has the focus is seen on the button.
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.locator("label.button").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    assert page.locator("#files").get_attribute("multiple") is not None
    page.set_input_files("#files", [tmp_path / "a.jpg", tmp_path / "b.webp"])
    page.get_by_text("2 judged. Verdicts: ").wait_for()
    # The newest stand first, those of one go in their order.
    assert [one.split(" ")[0] for one in page.locator(".name").all_inner_texts()] == ["a.jpg", "b.webp", "image.png"]


def test_page_shows_the_simulation_notice(page, examiner, monkeypatch):
    monkeypatch.setattr(examiner, "simulated", True)
    page.reload()
    page.get_by_text(SIMULATION_NOTICE).wait_for()


def test_browser_shows_that_the_server_is_gone(page, address):
    page.route("**/judge", lambda route: route.abort())
    page.evaluate(DROPPED, [["a.jpg", "image/jpeg", JPEG]])
    page.get_by_text("no answer; is `page` still running?").wait_for()


def test_browser_says_what_is_wrong_with_what_was_dropped_or_refused(page):
    page.evaluate(DROPPED, [])
    page.get_by_text("No picture file was dropped.").wait_for()
    page.evaluate(PASTED, [])
    page.get_by_text("The clipboard holds no picture.").wait_for()
    page.evaluate("() => { Blob.prototype.arrayBuffer = () => Promise.reject(new Error()); }")  # as of a folder
    page.evaluate(DROPPED, [["folder", "", []]])
    page.get_by_text("expected a picture file, got a folder").wait_for()
    page.route("**/about", lambda route: route.fulfill(status=403, json={"error": "refused: no valid token"}))
    page.reload()
    page.get_by_text("refused: no valid token").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_contrast_suffices_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert abs(brightness[0] - brightness[1]) > 400


def test_page_help_names_the_commands():
    text = CliRunner().invoke(cli, ["page", "--help"]).stdout
    assert "page --run" in text
    assert json.dumps(sorted(cli.commands)) == '["page", "predict", "report"]'
