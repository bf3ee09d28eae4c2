"""How hard the tests bite: small faults planted in a box, a sample of all that mutmut knows, and how many of them the
box's tests see.

    pip install '.[mutants]'
    python benchmarks/mutants.py [BOX…] [--sample 60] [--seed 1] [--show]

Works on a copy of the checkout. A box's tests are run once whole, then for each fault those that come by the function
it is in. Faults that make a test run far too long are seen as well, so give the machine little else to do.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SURVIVED, NO_TESTS = (0,), (5, 33)

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
        "pytest_add_cli_args": ["-p", "no:xdist", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": [f"tests/{path}" for path in tests],
        "also_copy": ["README.md", "docs", "examples"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (target / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def mutmut(where: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def outcomes(where: Path) -> dict[str, int | None]:
    """The faults by name, each with the exit status of its tests; None where it has not been tried."""
    found: dict[str, int | None] = {}
    for path in sorted((where / "mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def measure(box: str, sample: int, seed: int, show: bool) -> tuple[int, int, int, int]:
    """How many faults there are, how many were tried, seen, and in code that no test comes by."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        copied(where, box)
        told = mutmut(where, "run", "--max-children", "1", "nothing.of.this.name")  # plants all, tries none
        names = sorted(outcomes(where))
        if not names or "failed to collect stats" in told:
            raise SystemExit(f"{box}: the tests fail before anything is planted\n{told[-3000:]}")
        tried = random.Random(seed).sample(names, min(sample, len(names)))
        mutmut(where, "run", "--max-children", "1", *tried)
        found = {name: outcome for name, outcome in outcomes(where).items() if name in tried and outcome is not None}
        for name, outcome in found.items():
            if outcome in SURVIVED and show:
                print(mutmut(where, "show", name))
            elif outcome in NO_TESTS and show:
                print(f"# {name}: no test comes by\n")
        unseen = sum(outcome in (*SURVIVED, *NO_TESTS) for outcome in found.values())
        return len(names), len(found), len(found) - unseen, sum(outcome in NO_TESTS for outcome in found.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", nargs="*", metavar="BOX", help=f"of {', '.join(BOXES)}")
    parser.add_argument("--sample", type=int, default=60, help="faults per box")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the faults that were not seen")
    given = parser.parse_args()
    table = Table("box", "faults", "tried", "seen", "%", "no test comes by")
    for box in given.boxes or BOXES:
        total, tried, seen, untested = measure(box, given.sample, given.seed, given.show)
        share = f"{100 * seen / tried:.0f}" if tried else ""
        table.add_row(box, str(total), str(tried), str(seen), share, str(untested))
    Console().print(table)


if __name__ == "__main__":
    main()
