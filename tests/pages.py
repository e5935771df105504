"""README and the pages of docs/ as data: their blocks, command lines, files, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")) + tuple(
    sorted(ROOT.glob("docs/*.md")))
NAMES = tuple(str(page.relative_to(ROOT)) for page in PAGES)

# What a command line may say of itself: what it needs of the machine, or the exit code that it shows.
NEEDS = ("a GPU", "a Kata host", "a GPU and a container registry", "a host with systemd")
REMARK = re.compile(r"\s+# (?P<text>.*)$")
# In what a plan prints, the titles of its steps look like a root prompt.
TITLE = re.compile(r"# (\d+\. |undo: )")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is the number of its first line of content."""

    page: str
    line: int
    language: str
    lines: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name that its first line gives it, as in `# chat.yaml`; empty when it is no file."""
        named = re.fullmatch(r"# ([\w.-]+\.(yaml|toml))", self.lines[0]) if self.lines else None
        return named[1] if named else ""


@dataclass(frozen=True)
class Command:
    """A command line that a page shows, without its remark; `output` is what the page shows of its output."""

    page: str
    line: int
    text: str
    remark: str = ""
    output: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def needs(self) -> str:
        """The hardware without which it cannot run; empty when it needs none."""
        return self.remark.removeprefix("needs ") if self.remark.startswith("needs ") else ""

    @property
    def status(self) -> int:
        """The exit code that the page says it has."""
        shown = re.fullmatch(r"exit code (\d)", self.remark)
        return int(shown[1]) if shown else 0

    @property
    def programs(self) -> tuple[tuple[str, ...], ...]:
        """The argument list of each program in it: the parts of a pipeline, without redirections."""
        lexer = shlex.shlex(self.text.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set("|&;()<"):
                parts.append([])
            else:
                parts[-1].append(word)
        return tuple(tuple(_without_output(part)) for part in parts if part)


def _without_output(words: list[str]) -> list[str]:
    return words[:words.index(">")] if ">" in words else words


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    language, start, content = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("```"):
            content.append(line)
        elif language is None:
            language, start, content = line[3:], number + 1, []
        else:
            yield Block(str(page.relative_to(ROOT)), start, language, tuple(content))
            language = None
    assert language is None, f"{page}: a block that starts above line {start} has no end"


def commands(page: Path) -> Iterator[Command]:
    """Every command line that a page shows: behind a prompt in console blocks, each line of sh blocks."""
    for block in blocks(page):
        if block.language == "console":
            yield from _joined(block, ("# ", "$ "))
        elif block.language == "sh":
            yield from _joined(block, ("",))


def _joined(block: Block, prompts: tuple[str, ...]) -> Iterator[Command]:
    """A line that ends with a backslash or a pipe goes on in the next one."""
    typed: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.lines, block.line):
        if typed and typed[-1][1].endswith(("\\", "|")):
            typed[-1] = (typed[-1][0], f"{typed[-1][1]}\n{line}", [])
        elif line and line.startswith(prompts) and (prompts == ("",) or not TITLE.match(line)):
            typed.append((number, line[max(len(prompt) for prompt in prompts):], []))
        elif typed:
            typed[-1][2].append(line)
    for number, text, output in typed:
        remark = REMARK.search(text)
        yield Command(block.page, number, text[:remark.start()] if remark else text, remark["text"] if remark else "",
                      tuple(line for line in output if line.strip() and line.strip() != "[...]"))


def inline_commands(page: Path) -> Iterator[Command]:
    """Every `vmtool ...` in running text and tables; a table writes | as \\|."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        inside ^= line.startswith("```")
        if not inside:
            for text in re.findall(r"`(vmtool [^`]+)`", line):
                yield Command(str(page.relative_to(ROOT)), number, text.replace("\\|", "|"))


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link outside of blocks."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        inside ^= line.startswith("```")
        if not inside:
            yield from ((number, target) for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)))


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may say after #, as GitHub makes it."""
    inside, found = False, set()
    for line in page.read_text().splitlines():
        inside ^= line.startswith("```")
        if not inside and (heading := re.match(r"#+ (.*)", line)):
            plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading[1]).lower()
            found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found
