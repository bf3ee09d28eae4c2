"""How hard the tests bite: small faults planted in a box, a sample of all that mutmut knows, and how many of them the
box's tests see.

    pip install '.[mutants]'
    python benchmarks/mutants.py [BOX…] [--sample 60] [--seed 1] [--show] [--json FILE]

Works on a copy of the checkout, without the shared material. A box's tests are run once whole, then for each fault
those that come by the function it is in, the quickest first, until one fails. Faults that make them run several times
as long as without it are seen as well; they are counted apart, for a busy machine may do the same. Faults that only
spell a sentence otherwise are left out: what people are told is not for tests to copy.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SURVIVED, NO_TESTS, TOO_LONG = (0,), (5, 33), (-24, 24, 36, 152, 255)

PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")  # others cost every fault time

# A box: what is mutated, and the tests that must see it.
BOXES: dict[str, tuple[list[str], list[str]]] = {
    "decoding": (["decoding/*"], ["decoding"]),
    "generation": (["generation/*"], ["generation", "engines/test_replay.py"]),
    "gate": (["server/http/gate.py"], ["server/http/test_gate.py"]),
    "sinks": (["server/line/sinks.py", "server/line/writing.py"], ["server/line/test_sinks.py"]),
    "line": (["server/line/*"], ["server/line"]),
    "parsing": (["parsing/*"], ["parsing"]),
    "constraints": (["constraints/*"], ["constraints"]),
    "protocols": (["protocols/*"], ["protocols"]),
    "scheduler": (["engines/llamacpp/scheduler.py"], ["engines/test_llamacpp_scheduler.py"]),
}


def copied(target: Path, box: str) -> None:
    """The checkout as it is, uncommitted changes too, with mutmut's settings for the box."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.decode().splitlines()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    code, tests = BOXES[box]
    settings = {
        "source_paths": ["src/"],
        "only_mutate": [f"src/portico/{path}" for path in code],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(word for name in PLUGINS for word in ("-p", name))],
        "pytest_add_cli_args_test_selection": [f"tests/{path}" for path in tests],
        "also_copy": ["README.md", "docs", "examples"],
        "track_dependencies": False,
        "timeout_multiplier": 5,  # seconds allowed: 5 × (those without the fault + 3)
        "timeout_constant": 3,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (target / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def mutmut(where: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mutmut", *arguments]
    bare = {name: value for name, value in os.environ.items() if name != "PORTICO_SHARED"}
    bare["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    log = (where / "told").open("w")
    return subprocess.Popen(command, cwd=where, stdout=log, stderr=subprocess.STDOUT, text=True, env=bare)


def told(where: Path, *arguments: str) -> str:
    """What mutmut says when it is through."""
    mutmut(where, *arguments).wait()
    return (where / "told").read_text()


def outcomes(where: Path) -> dict[str, int | None]:
    """The faults by name, each with the exit status of its tests; None where it has not been tried."""
    found: dict[str, int | None] = {}
    for path in sorted((where / "mutants").rglob("*.meta")):
        with suppress(json.JSONDecodeError):  # it is being written
            found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def planted(where: Path) -> dict[str, str]:
    """The faults that do more than spell a sentence otherwise, by name, each as a diff."""
    found = {}
    for path in sorted((where / "mutants").rglob("*.meta")):
        names = json.loads(path.read_text())["exit_code_by_key"]
        tree = ast.parse(path.with_suffix("").read_text()) if names else ast.Module([], [])
        kinds = ast.FunctionDef | ast.AsyncFunctionDef
        made = {node.name: node for node in ast.walk(tree) if isinstance(node, kinds)}
        for name in names:
            fault = name.rpartition(".")[2]
            texts = [_text(made[one]) for one in (fault.rpartition("_")[0] + "_orig", fault)]
            if texts[0] != texts[1]:
                changes = [*difflib.unified_diff(*texts, n=1, lineterm="")][2:]
                found[name] = "\n".join([f"# {name}", *changes])
    return found


def _text(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Its lines, with sentences as if nobody minded how they are spelled."""
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
            node.value = node.value.removeprefix("XX").removesuffix("XX").casefold()
    function.name = ""
    return ast.unparse(function).splitlines()


@dataclass(frozen=True)
class Score:
    """What came of a box: how many faults there are, how many were tried and seen; the unseen, each as a diff."""

    box: str
    faults: int
    tried: int
    seen: int
    too_long: int
    survived: list[str]
    no_test: list[str]

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of all faults of the box that are seen."""
        z, n = 1.96, max(self.tried, 1)
        middle = (self.seen + z * z / 2) / (n + z * z)
        width = z * math.sqrt(self.seen * (n - self.seen) / n + z * z / 4) / (n + z * z)
        return max(0.0, middle - width), min(1.0, middle + width)


def measure(box: str, sample: int, seed: int) -> Score:
    with tempfile.TemporaryDirectory() as directory, Progress(console=Console(stderr=True)) as progress:
        where = Path(directory)
        copied(where, box)
        bar = progress.add_task(f"{box}: planting", total=None)
        said = told(where, "run", "--max-children", "1", "nothing.of.this.name")  # plants all, tries none
        faults = planted(where)
        if not faults or "failed to collect stats" in said:
            raise SystemExit(f"{box}: the tests fail before anything is planted\n{said[-3000:]}")
        chosen = random.Random(seed).sample(sorted(faults), min(sample, len(faults)))

        def tried() -> dict[str, int]:
            return {name: status for name, status in outcomes(where).items() if name in chosen and status is not None}

        progress.update(bar, description=box, total=len(chosen))
        running = mutmut(where, "run", "--max-children", "1", *chosen)
        while running.poll() is None:
            progress.update(bar, completed=len(tried()))
            try:
                running.wait(2)
            except subprocess.TimeoutExpired:
                continue
        found = tried()
        if not found:
            raise SystemExit(f"{box}: nothing was tried\n{(where / 'told').read_text()[-3000:]}")
        survived = [faults[name] for name, status in found.items() if status in SURVIVED]
        no_test = [faults[name] for name, status in found.items() if status in NO_TESTS]
        too_long = sum(status in TOO_LONG for status in found.values())
        seen = len(found) - len(survived) - len(no_test)
        return Score(box, len(faults), len(found), seen, too_long, survived, no_test)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", nargs="*", metavar="BOX", help=f"of {', '.join(BOXES)}")
    parser.add_argument("--sample", type=int, default=60, help="faults per box")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the faults that were not seen")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that is known of each box, a line per box")
    given = parser.parse_args()
    table = Table("box", "faults", "tried", "seen", "%", "95 %", "too long", "no test comes by")
    for box in given.boxes or BOXES:
        score = measure(box, given.sample, given.seed)
        low, high = score.interval()
        counts = (score.faults, score.tried, score.seen, f"{score.seen / score.tried:.0%}", f"{low:.0%}–{high:.0%}")
        table.add_row(box, *map(str, counts), str(score.too_long), str(len(score.no_test)))
        if given.show:
            print(*score.survived, *(f"{fault}\n# no test comes by" for fault in score.no_test), sep="\n\n")
        if given.json:
            with given.json.open("a") as file:
                file.write(json.dumps(asdict(score) | {"seed": given.seed}) + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
