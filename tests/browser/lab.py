"""JupyterLab in a real browser: the server of `make lab`, a headless Chromium, a notebook in it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[2]
START, OPEN, RUN = 120, 120, 300  # seconds to wait at most: for the server, for the notebook, for all its cells
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1500"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
]
# Every cell is in the page, whether it is in view or not; nothing asks the user or the network for anything.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@contextmanager
def make_lab(workspace: Path, scratch: Path) -> Iterator[str]:
    """The server of `make lab` on a workspace, its settings in `scratch`; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, values in SETTINGS.items():
        path = scratch / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    folders = {f"JUPYTER_{k}_DIR": str(scratch / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"JUPYTERLAB_{k}_DIR": str(scratch / k.lower()) for k in ("SETTINGS", "WORKSPACES")}
    flags = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=course"]
    flags += ["--ServerApp.password=", "--ServerApp.port_retries=0"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    env |= {**folders, "COURSE_FAST": "1"}
    command = ["make", "--old-file=.venv/ready.stamp", "lab", f"WORKSPACE={workspace}", f"LAB_FLAGS={' '.join(flags)}"]
    with (scratch / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process, scratch / "server.log")
            yield address
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):  # to make, the server and its kernels
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until the server answers."""
    for _ in range(START * 2):
        if process.poll() is not None:
            break
        try:
            with urlopen(f"{address}/api?token=course", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start ({process.poll()}):\n{log.read_text()[-3000:]}")


@contextmanager
def chromium(scratch: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={scratch / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=str(scratch / "chromedriver.log"))
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, driver: webdriver.Chrome, address: str, name: str):
        self.driver = driver
        driver.get(f"{address}/lab/tree/{name}?token=course")
        self._until(lambda: driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"), OPEN)
        self._until(lambda: self._status() == "idle", OPEN)

    def run_all(self) -> None:
        """Run > Run All Cells, and wait for the last one."""
        self._menu("Run", "Run All Cells")
        self._until(lambda: self._prompts()[-1] != "[ ]:" and "[*]:" not in self._prompts(), RUN)
        self._until(lambda: self._status() == "idle", RUN)

    def save(self) -> None:
        """File > Save Notebook."""
        self._menu("File", "Save Notebook")
        dirty = ".jp-mod-dirty, .jp-mod-current.jp-mod-dirty"
        self._until(lambda: not self.driver.find_elements(By.CSS_SELECTOR, dirty), OPEN)

    def cells_with(self, selector: str) -> list[WebElement]:
        """The code cells whose output has such an element."""
        cells = self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")
        return [cell for cell in cells if cell.find_elements(By.CSS_SELECTOR, f".jp-OutputArea {selector}")]

    def move_slider(self, cell: WebElement, steps: int) -> None:
        """Take the cell's first slider and move it with the arrow keys, to the left where it is at its end."""
        handle = cell.find_element(By.CSS_SELECTOR, ".noUi-handle")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", handle)
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        ActionChains(self.driver).send_keys(*[Keys.ARROW_LEFT if at_end else Keys.ARROW_RIGHT] * steps).perform()

    def picture(self, cell: WebElement) -> str:
        """The picture in the cell's output, as its data."""
        return cell.find_element(By.CSS_SELECTOR, ".jp-OutputArea img").get_attribute("src")

    def until_picture_is_not(self, cell: WebElement, old: str) -> str:
        """Wait for another picture in the cell's output."""
        self._until(lambda: self.picture(cell) != old, OPEN)
        return self.picture(cell)

    def _menu(self, menu: str, item: str) -> None:
        """Choose from the menu bar."""
        for kind, label in (("lm-MenuBar-itemLabel", menu), ("lm-Menu-itemLabel", item)):
            path = f"//div[contains(@class, '{kind}') and normalize-space()='{label}']"
            self._until(lambda path=path: self.driver.find_elements(By.XPATH, path), OPEN)[0].click()

    def _prompts(self) -> list[str]:
        """What stands before the code cells: [ ]:, [*]:, [3]:."""
        script = (
            "return [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(e => e.innerText)"
        )
        return self.driver.execute_script(script)

    def _status(self) -> str | None:
        """What the kernel does."""
        found = self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator")
        return found[0].get_attribute("data-status") if found else None

    def _until(self, condition, seconds: float):
        """Wait for a condition; its value."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.3).until(lambda _: condition())
