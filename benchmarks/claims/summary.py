"""One page of all claims from results/claims: what the literature says, what was found, whether it holds.

python benchmarks/claims/summary.py --out docs/claims.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

HEAD = """# Claims of the literature, tried

Small experiments, each a script in `benchmarks/claims/` that prints what is expected beside what was found; `python -m nox
-s claims` runs them all on one core in twenty minutes. Where a claim does not hold here, it does not hold *at
this size*: invented facts, models of less than a million parameters, three seeds. In brackets: smallest and largest over
seeds.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read what was found, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/claims"))
    parser.add_argument("--out", type=Path, default=Path("docs/claims.md"))
    options = parser.parse_args(arguments)
    options.out.write_text("\n".join(page(options.results)) + "\n")
    print(f"wrote {options.out}")


def page(folder: Path) -> Iterator[str]:
    """The lines of the page."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    yield HEAD
    yield "| experiment | expectations that hold |\n|---|---|"
    for one in found:
        held = sum(check["holds"] for check in one["checks"])
        yield f"| [{one['name']}](#{one['name']}) | {held} of {len(one['checks'])} |"
    for one in found:
        yield f"\n## {one['name']}\n\n{one['claim']}\n\n{one['setting']}\n"
        yield "| expected | found | holds |\n|---|---|---|"
        for check in one["checks"]:
            yield f"| {cell(check['expected'])} | {cell(check['found'])} | {'yes' if check['holds'] else '**no**'} |"
        if one["remark"]:
            yield f"\n{one['remark']}"


def cell(text: str) -> str:
    """Text that does not end a cell."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
