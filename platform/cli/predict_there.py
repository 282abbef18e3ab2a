"""`dftune model predict --url`: structures of files, predicted by an endpoint."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .tables import echo, print_json


def predict_there(
    url: str,
    model: str,
    paths: Sequence[Path],
    *,
    frames: str | None,
    how: Mapping[str, Any],
    wishes: Mapping[str, Any],
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Print what an endpoint predicts of the structures of files.

    Args:
        url, model: the endpoint, and NAME or NAME@VERSION there.
        paths: files, or in place of one the elements on the sites of an alloy's lattice.
        frames, how: which of a file's structures, by default the last, and how it is read.
        wishes: what is asked besides.
        token_file: file with the token; by default it is in DFTUNE_TOKEN.
        as_json: for programs.

    Raises:
        InputError: a file that cannot be read, or as ``Client.predict``.
    """
    from ...trainables.errors import InputError
    from ...trainables.structures import is_configuration, read_structures
    from ..progress import for_terminal
    from ..serve.client import Client
    from ..serve.settings import read_token

    asked: list[tuple[str, Any]] = []
    for path in paths:
        if is_configuration(str(path)):
            asked.append((str(path), str(path)))
            continue
        read = read_structures(path, "-2:" if frames is None else frames, **how)
        if frames is None and len(read) > 1:
            echo(f"{path}: holds several structures; the last is taken (--frames : takes all)", err=True)
            read = read[-1:]
        numbers = [""] if len(read) == 1 else [f" {n}/{len(read)}" for n in range(1, len(read) + 1)]
        asked += [(f"{path}{number}", structure) for number, structure in zip(numbers, read, strict=True)]
    token = None if token_file is None else read_token(token_file)
    failed: InputError | None = None
    found: list[dict[str, Any]] = []
    units: dict[str, str] = {}
    with closing(for_terminal()) as progress, Client(url, token, model=model) as client:
        for number, (name, structure) in enumerate(asked):
            progress.update("predicted", number, len(asked), name)
            try:
                if as_json:
                    answer = client.predict(structure, **wishes)
                    units |= answer.pop("units")
                    found.append({"structure": name, **answer, "files": []})
                else:
                    found.append({"structure": name, "text": client.text(structure, **wishes)})
            except InputError as error:
                failed = InputError(f"{name}: {error}")
                break
    if as_json:
        print_json({"predictions": found}, units)
    elif found:
        for n, one in enumerate(found):
            first, *more = one["text"].split("\n")
            echo(*([""] if n else []), f"{one['structure']}: {first}", *more)
    if failed is not None:  # what was finished before is not lost
        raise failed
