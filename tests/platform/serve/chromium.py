"""Chromium without a window, driven over a pipe by its DevTools protocol."""

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image


class Tab:
    """A page in a browser.

    Args:
        write, read: file descriptors of the pipes to and from the browser.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._left, self._number = write, read, b"", 0
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._left:
                self._left += os.read(self._read, 2**20)
            text, _, self._left = self._left.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of a script; of a promise, what it comes to."""
        found = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 300.0) -> Any:
        """Wait until a script has a value that is true."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"{script}: {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it."""
        text, code = {"Enter": ("\r", 13), "Tab": ("", 9), "ArrowRight": ("", 39), " ": (" ", 32)}.get(key, (key, 0))
        for kind in ("keyDown", "keyUp"):
            said = {"text": text} if kind == "keyDown" and text else {}
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code or ord(key), **said)

    def read_aloud(self) -> list[tuple[str, str, bool]]:
        """Role and name of all that a screen reader is told of, and whether the keyboard reaches it."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        found = []
        for node in nodes:
            if not node.get("ignored"):
                about = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
                name = node.get("name", {}).get("value", "")
                found.append((node["role"]["value"], name, bool(about.get("focusable"))))
        return found

    def scheme(self, name: str) -> None:
        """Show it to who prefers ``light`` or ``dark``."""
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def download_to(self, folder: Path) -> None:
        self._ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self, file: Path, width: int = 1060, *, dark: bool = False) -> None:
        """The whole page as PNG, in few colours: a third of the bytes."""
        self.scheme("dark" if dark else "light")
        self._ask("Emulation.setScrollbarsHidden", hidden=True)
        for height in ("1", "document.documentElement.scrollHeight"):  # once the width is set, the page has its height
            of_one = {"width": width, "deviceScaleFactor": 1, "mobile": False}
            self._ask("Emulation.setDeviceMetricsOverride", height=self.run(height), **of_one)
        content = base64.b64decode(self._ask("Page.captureScreenshot")["data"])
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)


@contextmanager
def chromium() -> Iterator[Tab]:
    """A page in a browser of its own, which ends with the block (`apt-get install chromium`)."""
    browser = shutil.which("chromium")
    assert browser, "no chromium is installed: apt-get install chromium"
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # The browser reads from descriptor 3 and writes to 4.
    script = f'exec 3<&{to_read} 4>&{from_write}; exec "$@"'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", browser, *options],
            pass_fds=(to_read, from_write),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(from_write)
        try:
            yield Tab(to_write, from_read)
        finally:
            os.close(to_write)  # which ends it
            try:
                process.wait(60)
            finally:
                process.kill()
                os.close(from_read)
