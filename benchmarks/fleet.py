"""Many front doors over many engines, simulated: the fewest requests against the prefix's own engine.

    python benchmarks/fleet.py [--fronts 10] [--engines 100] [--load 0.6] [--requests 20000] [--dying 0.02]

What chooses is Portico's own ``Placement``, one in each front door, which knows only its own requests. The rest is
assumed, and stands below as constants: conversations that come at random, each turn by a front door that a balancer
picks at random; engines that compute so many answers at a time and keep so many prompts; a share of them that dies
half way, whose answers go on elsewhere when their prompts have been read again. Told are, for each way of choosing,
the share of prompt tokens that were cached, what the first token waited for, how uneven the load was, and the
processor time of choosing.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from portico.engines.placement import Placement
from portico.events import EngineRequest, SamplingParams

SLOTS = 16  # answers that an engine computes at a time; more wait
KEPT = 400_000  # tokens of prompts that an engine keeps
READ = 10_000.0  # prompt tokens a second that one answer's prompt is read at
WRITTEN = 40.0  # tokens a second of each answer
ANSWER = 250  # tokens of an answer
BEGINNING = 1500  # tokens of a conversation's first prompt
MORE = 400  # tokens that a turn adds
TURNS = 6.0  # of a conversation, on average
THINKING = 10.0  # seconds between an answer and the next turn, on average
RULES = SamplingParams(max_tokens=ANSWER)


@dataclass
class Turn:
    """One request on its way."""

    conversation: int
    tokens: int  # of its prompt
    front: int
    began: float
    engine: int = -1
    slot: float = 0.0  # when its engine began with it
    first: float = 0.0  # when its first token came


@dataclass
class Engine:
    alive: bool = True
    running: list[Turn] = field(default_factory=list)
    waiting: list[Turn] = field(default_factory=list)
    kept: OrderedDict[int, int] = field(default_factory=OrderedDict)  # conversation -> tokens
    kept_tokens: int = 0

    def cached(self, turn: Turn) -> int:
        """How many of its tokens are kept; from now on all are."""
        had = self.kept.pop(turn.conversation, 0)
        self.kept[turn.conversation] = turn.tokens
        self.kept_tokens += turn.tokens - had
        while self.kept_tokens > KEPT:
            self.kept_tokens -= self.kept.popitem(last=False)[1]
        return min(had, turn.tokens)


class Fleet:
    """One run. ``by_prefix`` is how front doors choose."""

    def __init__(self, given: argparse.Namespace, by_prefix: bool) -> None:
        self.random = random.Random(1)
        self.given = given
        self.engines = [Engine() for _ in range(given.engines)]
        self.placements = [Placement(by_prefix=by_prefix) for _ in range(given.fronts)]
        self.loads = [{str(number): 0 for number in range(given.engines)} for _ in range(given.fronts)]
        self.now, self.order = 0.0, 0
        self.due: list[tuple[float, int, Callable[[], None]]] = []
        self.waits: list[float] = []
        self.asked = self.cached = self.begun = self.moved = 0
        self.choosing = 0.0
        self.peaks: list[float] = []

    def at(self, when: float, work: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.due, (when, self.order, work))

    def run(self) -> None:
        own = ANSWER / WRITTEN + BEGINNING / READ
        rate = self.given.load * len(self.engines) * SLOTS / own / TURNS  # conversations a second
        when = 0.0
        for number in range(int(self.given.requests / TURNS)):
            when += self.random.expovariate(rate)
            self.at(when, lambda number=number: self.ask(number, BEGINNING))  # type: ignore[misc]
        self.at(when / 2, self.die)
        while self.due:
            self.now, _, work = heapq.heappop(self.due)
            work()

    def ask(self, conversation: int, tokens: int) -> None:
        self.begun += 1
        front = self.random.randrange(len(self.placements))
        self.place(Turn(conversation, tokens, front, self.now))
        if self.begun % 200 == 0:
            loads = [len(one.running) + len(one.waiting) for one in self.engines if one.alive]
            self.peaks.append(max(loads) / max(1e-9, sum(loads) / len(loads)))

    def place(self, turn: Turn) -> None:
        request = EngineRequest("", (), RULES, cache_key=str(turn.conversation))
        loads = self.loads[turn.front]
        started = time.process_time()
        chosen = self.placements[turn.front].choose(loads, request)
        self.choosing += time.process_time() - started
        loads[chosen] += 1
        turn.engine = int(chosen)
        engine = self.engines[turn.engine]
        (engine.running if len(engine.running) < SLOTS else engine.waiting).append(turn)
        if turn in engine.running:
            self.begin(turn)

    def begin(self, turn: Turn) -> None:
        cached = self.engines[turn.engine].cached(turn)
        self.asked += turn.tokens
        self.cached += cached
        turn.slot = self.now
        first = self.now + (turn.tokens - cached) / READ
        if not turn.first:
            turn.first = first
            self.waits.append(first - turn.began)
        left = ANSWER - max(0.0, self.now - turn.first) * WRITTEN  # of one that was moved
        engine = turn.engine
        self.at(first + max(0.0, left) / WRITTEN, lambda: self.end(turn, engine))

    def end(self, turn: Turn, number: int) -> None:
        engine = self.engines[number]
        if turn.engine != number or turn not in engine.running:
            return  # it was moved
        engine.running.remove(turn)
        self.loads[turn.front][str(number)] -= 1
        if engine.waiting:
            engine.running.append(engine.waiting.pop(0))
            self.begin(engine.running[-1])
        if self.random.random() < 1 - 1 / TURNS:
            next_turn = turn.tokens + MORE
            self.at(self.now + self.random.expovariate(1 / THINKING), lambda: self.ask(turn.conversation, next_turn))

    def die(self) -> None:
        """A share of the engines is gone; what they had goes on at others."""
        for number in self.random.sample(range(len(self.engines)), int(self.given.dying * len(self.engines))):
            engine = self.engines[number]
            engine.alive = False
            for loads in self.loads:
                loads.pop(str(number), None)
            lost, engine.running, engine.waiting = [*engine.running, *engine.waiting], [], []
            self.moved += len(lost)
            for turn in lost:
                self.place(turn)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fronts", type=int, default=10)
    options.add_argument("--engines", type=int, default=100)
    options.add_argument("--load", type=float, default=0.6, help="of what the engines can compute")
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--dying", type=float, default=0.02, help="share of the engines that dies half way")
    given = options.parse_args()
    for name, by_prefix in (("fewest requests", False), ("prefix", True)):
        fleet = Fleet(given, by_prefix)
        fleet.run()
        waits = sorted(fleet.waits)
        middle, worst = waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3
        print(
            f"{name}: {fleet.cached / fleet.asked:.1%} cached; first token p50 {middle:.0f} ms, p99 {worst:.0f} ms; "
            f"busiest engine {sum(fleet.peaks) / len(fleet.peaks):.2f} times the mean; {fleet.moved} answers moved; "
            f"choosing {fleet.choosing / fleet.begun * 1e6:.0f} us a request"
        )


main()
