"""Mutation testing of one module: break a sampled operator or condition, run its tests, list what they do not notice.

    python -m tests.mutation core/lake/ingest.py

Each mutant runs in a fork of this process, which has the heavy libraries imported, and is compiled in place of the
module: no file is written. Programs that a test starts see the module as it is.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PRELOADED = ("pandas", "pyarrow.parquet", "scipy.stats", "sklearn.ensemble", "deltalake", "great_expectations")
PAIRS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)]
PAIRS += [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or)]
SWAPPED = {**dict(PAIRS), **{other: one for one, other in PAIRS}}


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """Yield line, change and tree of each mutant: an operator swapped, or a condition that never holds."""
    for index in range(len(list(ast.walk(ast.parse(source))))):
        tree = ast.parse(source)
        node = list(ast.walk(tree))[index]
        before = ast.unparse(node).splitlines()[0] if isinstance(node, ast.stmt | ast.expr) else ""
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
            node.ops[0] = SWAPPED[type(node.ops[0])]()
        elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPPED:
            node.op = SWAPPED[type(node.op)]()
        elif isinstance(node, ast.If | ast.IfExp):
            node.test = ast.Constant(False)
        else:
            continue
        yield node.lineno, f"{before}  ->  {ast.unparse(node).splitlines()[0]}", ast.fix_missing_locations(tree)


def survives(path: Path, tree: ast.Module, tests: list[str], timeout: float) -> bool:
    """Run the tests in a fork that imports the mutant in place of the module."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 0
    signal.alarm(int(timeout))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    changed, loader = compile(tree, str(path), "exec"), importlib.machinery.SourceFileLoader
    usual = loader.get_code
    loader.get_code = lambda self, name: changed if Path(self.path) == path else usual(self, name)
    os._exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]))


def main() -> None:
    """Print the sampled mutants that survive, and how many did not."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("module", type=Path)
    asked.add_argument("tests", nargs="*", help="default: the module's own, then those of its folder")
    asked.add_argument("--sample", type=int, default=10)
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    folder = Path("tests") / options.module.parent
    own = folder / f"test_{options.module.stem}.py"
    tests = options.tests or [str(own)] * own.exists() + [str(folder)]
    for name in PRELOADED:
        importlib.import_module(name)
    path, source, begun = options.module.resolve(), options.module.read_text(), time.monotonic()
    if not survives(path, ast.parse(source), tests, timeout=3600):
        raise SystemExit(f"{' '.join(tests)}: fails without any change")
    timeout, found = 10 + 5 * (time.monotonic() - begun), list(mutants(source))
    picked = random.Random(options.seed).sample(found, min(options.sample, len(found)))  # noqa: S311 - only a sample
    lived = 0
    for line, change, tree in picked:
        if survives(path, tree, tests, timeout):
            lived += 1
            print(f"survived: {options.module}:{line}: {change}", flush=True)
    print(f"{options.module}: {len(picked) - lived} of {len(picked)} killed; {len(found)} places")


if __name__ == "__main__":
    main()
