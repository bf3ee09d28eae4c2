"""How hard the tests bite: small faults planted in a box, a sample of all that mutmut knows, and how many of them the
box's tests see.

    pip install '.[mutants]'
    python benchmarks/mutants.py [BOX…] [--sample 60] [--seed 1] [--show] [--json FILE]

Works on a copy of the checkout, without the shared material; ``mutants_trial.py`` runs the tests there. Faults that
make them run several times as long, or end the process, are seen as well; they are counted apart, for a busy machine
may do the same. Faults that only spell a sentence otherwise are left out: tests are not to copy what people are told.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import libcst as cst
from mutmut.mutation.file_mutation import Mutation, combine_mutations_to_source, create_mutations
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

TRIAL = Path(__file__).resolve().with_name("mutants_trial.py")
PLANTED = TRIAL.with_name("mutants_planted.py")
ROOT = TRIAL.parent.parent
OUTCOMES = ("seen", "too long", "survived", "no test")

# Tests that count calls would count those of the planted faults.
COUNTED = "--ignore=tests/server/line/test_work_per_token.py"

# A box: what is mutated, and the tests that must see it.
BOXES: dict[str, tuple[list[str], list[str]]] = {
    "decoding": (["decoding/*"], ["decoding"]),
    "generation": (["generation/*"], ["generation", "engines/test_replay.py"]),
    "gate": (["server/http/gate"], ["server/http/test_gate.py"]),
    "sinks": (["server/line/sinks", "server/line/writing"], ["server/line/test_sinks.py"]),
    "line": (["server/line/*"], ["server/line"]),
    "parsing": (["parsing/**/*"], ["parsing"]),
    "constraints": (["constraints/**/*"], ["constraints", "generation/test_custom_tools.py"]),
    "protocols": (["protocols/*"], ["protocols"]),
    "scheduler": (["engines/llamacpp/scheduler"], ["engines/test_llamacpp_scheduler.py"]),
}


def copied(target: Path) -> None:
    """The checkout as it is, uncommitted changes too."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.decode().splitlines()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def planted(source: Path, patterns: list[str], sample: int, seed: int) -> tuple[int, dict[str, str]]:
    """Plant a sample of the faults in the files of a box: how many faults there are, and the sample by name, as diffs.

    Only the sample is written out, for that is what costs.
    """
    every = []
    for path in sorted({path for pattern in patterns for path in source.glob(f"portico/{pattern}.py")}):
        module, mutations, *_ = create_mutations(str(path), path.read_text())
        inside = [one for one in mutations if isinstance(one.contained_by_top_level_function, cst.FunctionDef)]
        every += [(path, module, mutation) for mutation in inside if not _respelled(mutation)]
    chosen = defaultdict(list)
    for path, module, mutation in random.Random(seed).sample(every, min(sample, len(every))):
        chosen[path, module].append(mutation)
    found = {}
    for (path, module), mutations in chosen.items():
        watched = {one.contained_by_top_level_function: _watched(one) for one in mutations}
        made = combine_mutations_to_source(module, [*watched.values(), *mutations])
        code = made.code.replace("mutmut.mutation.trampoline", "planted")
        path.write_text(f"{code}\nimport planted\nplanted.wake()\n")
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        lines = made.code.splitlines()
        text = {
            of: [line.replace(of, "") for line in lines[at.start - 1 : at.end]]
            for of, at in made.line_span_by_function_name.items()
        }
        for fault in (fault for fault in made.mutant_names if not fault.endswith("__mutmut_1")):
            before = text[fault.rpartition("_")[0] + "_orig"]
            changes = list(difflib.unified_diff(before, text[fault], n=1, lineterm=""))[2:]
            found[f"{name}.{fault}"] = "\n".join([f"# {name}.{fault}", *changes])
    shutil.copy2(PLANTED, source / "planted.py")
    return len(every), found


def _respelled(mutation: Mutation) -> bool:
    """Whether it only spells a sentence otherwise."""
    before, after = mutation.original_node, mutation.mutated_node
    if not (isinstance(before, cst.SimpleString) and isinstance(after, cst.SimpleString)):
        return False
    return before.value.count(" ") >= 2 and before.value.casefold() in after.value.casefold().replace("xx", "")


def _watched(mutation: Mutation) -> Mutation:
    """Its function as it is, but for saying that it was called."""
    function = mutation.contained_by_top_level_function
    body = function.body
    says = cst.parse_statement("import planted; planted.called()")
    return Mutation(body, body.with_changes(body=[says, *body.body]), function)


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
        where = Path(directory) / "copy"
        copied(where)
        bar = progress.add_task(f"{box}: planting", total=None)
        code, tests = BOXES[box]
        known, faults = planted(where / "src", code, sample, seed)
        given, told, log = (where.parent / name for name in ("given", "told", "log"))
        given.write_text(json.dumps(list(faults)))
        told.touch()
        bare = {name: value for name, value in os.environ.items() if name != "PORTICO_SHARED"}
        command = [sys.executable, str(TRIAL), str(given), str(told), COUNTED, *(f"tests/{path}" for path in tests)]
        with log.open("w") as file:
            environment = bare | {"PYTHONPATH": str(where / "src")}
            running = subprocess.Popen(command, cwd=where, stdout=file, stderr=file, env=environment)
        progress.update(bar, description=box, total=len(faults))
        while running.poll() is None:
            progress.update(bar, completed=len(told.read_text().splitlines()))
            time.sleep(1)
        found = [json.loads(line) for line in told.read_text().splitlines()]
        if len(found) < len(faults):
            raise SystemExit(f"{box}: the trial ended early\n{log.read_text()[-4000:]}")
        by = {outcome: [faults[name] for name, it in found if it == outcome] for outcome in OUTCOMES}
        seen = len(by["seen"]) + len(by["too long"])
        return Score(box, known, len(found), seen, len(by["too long"]), by["survived"], by["no test"])


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
