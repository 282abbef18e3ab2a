"""The Python in Markdown files, to be run as it stands there.

A block opens with ```python and words of ours behind it, which GitHub does not show:

    ray        it needs a running Ray
    model      it needs the surrogate ``al4.model`` in its folder
    slow       it takes more than 20 s
    continued  it goes on with the names of the block before it
"""

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

WORDS = {"ray", "model", "slow", "continued"}
_BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block, with those that continue it.

    Attributes:
        name: file and line, ``README.md:42``.
        blocks: line of the first statement and source of each block.
        words: all words of its blocks.
    """

    name: str
    blocks: tuple[tuple[int, str], ...]
    words: frozenset[str]

    def run(self, document: Path) -> ModuleType:
        """Run it in the working directory, and give the names that it leaves; a traceback names the Markdown's line."""
        # A module called __main__: what is defined in it travels to Ray's workers, as from a script.
        module = ModuleType("__main__")
        for line, source in self.blocks:
            exec(compile("\n" * (line - 1) + source, str(document), "exec"), vars(module))
        return module


def examples(document: Path) -> list[Example]:
    """The examples of a Markdown file, in its order.

    Raises:
        ValueError: a block has a word that means nothing, or continues none.
    """
    text = document.read_text(encoding="utf-8")
    found: list[Example] = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        words = frozenset(match[1].split())
        name = f"{document.name}:{line}"
        if unknown := words - WORDS:
            raise ValueError(f"{name}: unknown word '{min(unknown)}'; there are {', '.join(sorted(WORDS))}")
        if "continued" not in words:
            found.append(Example(name, ((line, match[2]),), words))
        elif not found:
            raise ValueError(f"{name}: continues no block")
        else:
            before = found.pop()
            found.append(Example(before.name, (*before.blocks, (line, match[2])), before.words | words))
    return found
