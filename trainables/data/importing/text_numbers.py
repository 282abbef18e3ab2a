"""Numbers in text files, as Fortran and C write them, read in pieces: some 400 MB of text a second and core.

NumPy's own readers of text take 50 MB/s, and the LDOS of a snapshot may be tens of GB of text.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...descriptors.native.compiled import compiled
from ...errors import DatasetError, printable, unreadable

LEAST_READ = 4096  # bytes
_LOWEST, _HIGHEST = -340, 308
_POWERS = np.array([float(f"1e{n}") for n in range(_LOWEST, _HIGHEST + 1)])
_MOST_DIGITS = 10**17  # of a mantissa; what follows is below the precision of a double


class NumberReader:
    """Reads the numbers of a text file one after another.  No file stays open between two reads.

    Args:
        path: the file.
        offset: where the numbers begin [bytes].
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path, self._offset = path, offset
        self._rest = b""  # was read, and not used so far; it begins at the offset

    def read(self, count: int) -> NDArray[np.float64]:
        """The next ``count`` numbers.

        Raises:
            DatasetError: the file ends before, or has something else there; names the line.
        """
        found, filled = np.empty(count), 0
        while filled < count:
            text, ended = self._more(14 * (count - filled))
            stop, filled, wrong = _parse(np.frombuffer(text, dtype=np.uint8), found, filled, _POWERS)
            self._rest, self._offset = self._rest[stop:], self._offset + stop
            if wrong:
                word = printable(self._rest.split(None, 1)[0].decode("latin-1"))[:30]
                raise DatasetError(f"{self._path}, line {self.line()}: {word!r} is no number; write this file again")
            if ended and filled < count:
                raise DatasetError(
                    f"{self._path}, line {self.line()}: the file ends, and {count - filled} numbers more are needed "
                    "here; it was written by half, so write it again"
                )
        return found

    def words(self) -> list[bytes]:
        """The next words of the file, at most 20; none at its end."""
        text, _ = self._more(LEAST_READ)
        return text.split()[:20]

    def _more(self, n_bytes: int) -> tuple[bytes, bool]:
        """At least one whole word where there is one, with what ends it; and whether the file ends there."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset + len(self._rest))
                while True:
                    read = stream.read(max(n_bytes, LEAST_READ))
                    self._rest += read
                    if not read:
                        return self._rest + b"\n", True
                    if whole := max(self._rest.rfind(space) for space in (b" ", b"\n", b"\t", b"\r")) + 1:
                        return self._rest[:whole], False
        except OSError as error:
            raise unreadable(self._path, error) from error

    def line(self) -> int:
        """Number of the line that the next word is in, from 1."""
        line, left = 1, self._offset
        with self._path.open("rb") as stream:
            while left > 0 and (text := stream.read(min(left, 1 << 20))):
                line, left = line + text.count(b"\n"), left - len(text)
            while (text := stream.read(1)) in (b"\n", b"\r", b" ") and text:  # to the word that comes next
                line += text == b"\n"
        return line


@compiled
def _parse(text: NDArray[np.uint8], out: NDArray[np.float64], filled: int, powers: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    """Parse words into numbers: to the nearest double or the one beside it; below 1e-290 digits are lost.

    Args:
        text: ends with a space or a line end.
        out: (n,), gets the numbers.
        filled: numbers that it has.
        powers: of ten.

    Returns:
        Bytes used, numbers in ``out``, and whether the word that comes next is none.
    """
    at, end = 0, len(text)
    while filled < len(out):
        while at < end and 0 < text[at] <= 32:  # a disk that was full leaves bytes of 0
            at += 1
        if at == end:
            break
        word = at
        negative = text[at] == 45  # -
        if text[at] == 45 or text[at] == 43:
            at += 1
        mantissa, shift, digits, point = 0, 0, 0, False
        while 48 <= text[at] <= 57 or (text[at] == 46 and not point):
            if text[at] == 46:
                point = True
            else:
                digits += 1
                if mantissa < _MOST_DIGITS:
                    mantissa = mantissa * 10 + (text[at] - 48)
                    shift -= point
                else:
                    shift += not point
            at += 1
        exponent, exponent_digits, negative_exponent = 0, 0, False
        letter = text[at] == 69 or text[at] == 101 or text[at] == 68 or text[at] == 100  # E e D d
        if letter:
            at += 1
        if letter or text[at] == 45 or text[at] == 43:  # Fortran writes 0.12345-100
            negative_exponent = text[at] == 45
            if text[at] == 45 or text[at] == 43:
                at += 1
            while 48 <= text[at] <= 57:
                exponent = min(exponent * 10 + (text[at] - 48), 100_000)
                exponent_digits += 1
                at += 1
            if exponent_digits == 0:
                return word, filled, True
        if digits == 0 or text[at] > 32 or text[at] == 0:
            return word, filled, True
        shift += -exponent if negative_exponent else exponent
        if mantissa == 0 or shift < _LOWEST:
            value = 0.0
        elif shift > _HIGHEST:
            return word, filled, True
        elif -22 <= shift < 0:
            value = mantissa / powers[-shift - _LOWEST]  # both are exact, so the quotient is the nearest double
        else:
            value = mantissa * powers[shift - _LOWEST]
        out[filled] = -value if negative else value
        filled += 1
    return at, filled, False
