"""Fuzzing of every loader of files: damaged, hostile and mutated ones (`sim.fuzz_targets`).

    spiketicket check files --minutes 10                  # all loaders in turn
    spiketicket check files --replay findings/ticket-0123456789ab

A case passes if the loader gives a result or raises SpikeTicketError with one line, holds no more
memory than its target allows, takes at most 10 s, and starts no program, opens no connection,
writes no file, imports and unpickles nothing. Each loader runs in a process of its own with a
limit on its memory, so that a crash of a compiled library is a finding too. Findings are kept
with the seed that made them.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import logging
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from sw.compile.fit import DoesNotFit
from sw.errors import BadInput, SpikeTicketError

from .fuzz_targets import TARGETS, Target

CASES = 300
"""Files for each loader where nobody says."""
SECONDS = 10.0
"""Longest a loader may take for one file, of the processor's time."""
PER_BYTE = 60
"""Bytes of memory for each byte of the file, beyond what the target allows any file."""
HEADROOM = 3 << 30
"""Address space that a process may take beyond what it has before the first file."""
LONGEST = 2000
"""Characters of an error's message."""

_FORBIDDEN = ("pickle.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn",
              "subprocess.", "socket.", "os.remove", "os.rename", "os.rmdir", "shutil.", "import",
              "ctypes.dlopen", "webbrowser.", "urllib.")


class Violation(BaseException):
    """A loader did what it must not; not an Exception, so that no loader catches it."""


class _Guard:
    """Python's audit events while a loader runs."""

    active = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        if event == "open":
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            if not writes:
                return
        elif not event.startswith(_FORBIDDEN):
            return
        self.active = False
        raise Violation(f"{event} {arguments!r:.200}")


_guard = _Guard()


@contextmanager
def _guarded() -> Iterator[None]:
    if not getattr(_guard, "installed", False):
        sys.addaudithook(_guard)
        _guard.installed = True

    def late(*_) -> None:
        raise Violation(f"takes more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _guard.active = True
    try:
        yield
    finally:
        _guard.active = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without notes: what a loader repairs is no finding."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def check(target: Target, data: bytes, path: Path) -> str | None:
    """What is wrong with how the loader takes these bytes; None if nothing is."""
    path = path.with_suffix(target.suffix)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with _quiet(), _guarded():
            target.read(path)
    except SpikeTicketError as error:
        text = str(error)
        if not text.isprintable() or len(text) > LONGEST:
            return f"message is not one short line of text: {text!r:.300}"
    except (Exception, Violation) as error:
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(last))
        return f"{type(error).__name__}: {' '.join(str(error).split()):.200} at {where}"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    allowed = target.memory + PER_BYTE * len(data)
    return f"holds {peak:,} bytes, more than {allowed:,}" if peak > allowed else None


def warm_up(target: Target, path: Path) -> None:
    """Valid files first: they must be read, and what is imported only then is imported now."""
    gc.collect()
    for data in target.seeds():
        place = path.with_suffix(target.suffix)
        place.write_bytes(data)
        try:
            with _quiet():
                target.read(place)
        except DoesNotFit:
            pass
    for data in (b"", *target.hostile()[:1]):  # and what only an error imports
        place.write_bytes(data)
        try:
            with _quiet():
                target.read(place)
        except Exception:
            pass


def mutated(target: Target, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One file: a seed, changed once or twice."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 2))):
        data = target.mutate(rng, data)
    return data


def _worker(name: str, seed: int, cases: int, until: float, folder: Path) -> None:
    """Check cases from `seed` on; a line of JSON for each finding, and one at the end."""
    target = TARGETS[name]
    seeds = target.seeds()
    warm_up(target, folder / "case")
    hostile = target.hostile() if seed == 0 else []
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    done = 0
    for number in range(seed, seed + cases):
        if time.time() > until:
            break
        index = number - seed
        data = hostile[index] if index < len(hostile) else mutated(
            target, seeds, random.Random(number))
        (folder / "current").write_bytes(data)
        if what := check(target, data, folder / "case"):
            print(json.dumps({"seed": number, "what": what, "data": data.hex()}), flush=True)
        done += 1
        if done % 20 == 0:
            print(json.dumps({"done": 20}), flush=True)
    print(json.dumps({"done": done % 20, "end": True}), flush=True)


def fuzz(name: str, seed: int, cases: int, seconds: float, bar: tqdm | None = None
         ) -> tuple[int, list[dict]]:
    """Run one loader in processes of its own; (cases, findings as {seed, what, data})."""
    findings: list[dict] = []
    done, until = 0, time.time() + seconds
    while done < cases and time.time() < until:
        with tempfile.TemporaryDirectory() as folder:
            with subprocess.Popen(
                    [sys.executable, "-m", "sim.fuzz_files", name, str(seed + done),
                     str(cases - done), str(until), folder],
                    stdout=subprocess.PIPE, text=True) as process:
                ended = False
                for line in process.stdout:
                    told = json.loads(line)
                    if "what" in told:
                        findings.append({**told, "data": bytes.fromhex(told["data"])})
                    else:
                        done += told["done"]
                        ended |= "end" in told
                        if bar is not None:
                            bar.update(told["done"])
            if ended:
                break
            current = Path(folder) / "current"
            if process.returncode > 0 or not current.exists():
                raise SpikeTicketError(f"target {name}: the fuzzer itself fails or its valid files "
                                       "are not read; run tests/test_fuzz_files.py")
            findings.append({"seed": seed + done, "data": current.read_bytes(),
                             "what": f"the process ended with code {process.returncode}"})
            done += 20
    return done, findings


def _coverage(name: str, seed: int, seconds: float, out: Path) -> None:
    """Guided by coverage: atheris chooses among our mutations. Does not return."""
    try:
        import atheris
    except ImportError:
        raise SpikeTicketError("--coverage needs the package atheris: pip install atheris"
                               ) from None
    target, folder = TARGETS[name], Path(tempfile.mkdtemp())
    warm_up(target, folder / "case")
    corpus = out / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def one(data: bytes) -> None:
        if what := check(target, data, folder / "case"):
            _keep(out, name, {"seed": seed, "what": what, "data": data})
            raise RuntimeError(what)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        return target.mutate(random.Random(number), bytes(data))[:most]

    for module in [module for name, module in sys.modules.items() if name.startswith("sw.")]:
        for value in vars(module).values():  # all modules would be torch and numba, too
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                atheris.instrument_func(value)
    options = (f"-max_total_time={int(seconds)}", f"-seed={seed or 1}", "-max_len=100000",
               "-rss_limit_mb=4096", f"-artifact_prefix={out}/")
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def _keep(out: Path, name: str, finding: dict) -> Path:
    """Save a finding; the file's name says the loader."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}-{hashlib.sha256(finding['data']).hexdigest()[:12]}"
    path.write_bytes(finding["data"])
    with open(out / "findings.jsonl", "a") as file:
        file.write(json.dumps({"file": path.name, "target": name, "seed": finding["seed"],
                               "what": finding["what"]}) + "\n")
    return path


def replay(paths: Sequence[Path]) -> int:
    """Check saved findings again and say what comes of it; the exit code, 1 if one still fails."""
    found = 0
    for path in paths:
        name = path.name.rpartition("-")[0]
        if name not in TARGETS or not path.is_file():
            raise BadInput(f"--replay {path}: not a finding's file (TARGET-HASH)")
        with tempfile.TemporaryDirectory() as folder:
            warm_up(TARGETS[name], Path(folder) / "case")
            what = check(TARGETS[name], path.read_bytes(), Path(folder) / "case")
        print(f"{path}: {what or 'passes'}")
        found += what is not None
    return int(found > 0)


def run(names: Sequence[str], cases: int | None = None, minutes: float | None = None,
        seed: int = 0, out: Path = Path("runs/fuzz"), coverage: bool = False) -> list[dict]:
    """Fuzz loaders in turn, each with so many files (None: CASES) or all for so many minutes; a
    row for each. coverage: one loader, guided; does not return. Raises SpikeTicketError."""
    if coverage:
        if len(names) != 1:
            raise BadInput("--coverage takes one --target")
        _coverage(names[0], seed, 60 * (minutes or 1), out)
    seconds = float("inf") if minutes is None else 60 * minutes / len(names)
    cases = (cases or CASES) if minutes is None else 1 << 40
    rows = []
    with tqdm(total=None if minutes else cases * len(names), unit="file", disable=None) as bar:
        for name in names:
            bar.set_description(name)
            done, findings = fuzz(name, seed, cases, seconds, bar)
            saved = [str(_keep(out, name, finding)) for finding in findings]
            rows.append({"target": name, "seed": seed, "files": done, "findings": len(findings),
                         "saved": saved, "what": sorted({f["what"] for f in findings})})
    return rows


def show(rows: Sequence[dict]) -> None:
    """Print what `run` returned."""
    for row in rows:
        print(f"{row['target']:16} {row['files']:8,} files, {row['findings']} findings")
        for what in row["what"]:
            print(f"    {what}")


if __name__ == "__main__":          # a process of `fuzz`
    name, seed, cases, until, folder = sys.argv[1:]
    _worker(name, int(seed), int(cases), float(until), Path(folder))
