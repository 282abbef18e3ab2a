"""Claim: a dataset behind a URL costs its two small files each time it is opened, and each other file once a machine.

python benchmarks/dataset_url.py [URL]: storage to copy examples/al4 to, say s3://bucket/folder; by default file://.
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.mirror import copy_dataset

AL4 = Path(__file__).parents[1] / "examples" / "al4"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DFTUNE_CACHE"] = f"{folder}/cache"
        base, _, options = (sys.argv[1] if len(sys.argv) > 1 else f"file://{folder}/store").partition("?")
        url = f"{base}/{uuid4().hex}" + (f"?{options}" if options else "")
        row("copy there", lambda: copy_dataset(str(AL4), url))
        for case, location in (("folder", str(AL4)), ("URL, first", url), ("URL, again", url)):
            row(f"open, {case}", lambda location=location: Dataset.open(location))
            opened = Dataset.open(location)
            row(f"all LDOS and densities with their SHA-256, {case}", opened.verify)


def row(case: str, function) -> None:
    started = time.perf_counter()
    function()
    seconds = time.perf_counter() - started
    print(json.dumps({"case": case, "seconds": round(seconds, 4), "pyarrow": version("pyarrow")}), flush=True)


if __name__ == "__main__":
    main()
