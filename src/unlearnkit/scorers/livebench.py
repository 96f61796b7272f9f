r"""LiveBench: questions with an objective answer, and the string rules that find it in what a model writes.

    score of a question in [0, 1] -> mean per task -> mean of tasks per category -> mean of categories (times 100)

Each task has its rule: a function of the right answer and the model's. They look where a model was told to put the
answer (between <solution> tags, in a LaTeX box, in bold), then where models put it anyway (the last line, the last
characters). Zebra puzzles, table joins, orders of sentences or of proof steps, and groups of words earn partial credit;
the rest is right or wrong. `score_livebench` picks the rule by an item's task, and drops what a model thought before it
answered. Higher is more useful. Items carry dates: `released_after` keeps those younger than a model.

Covered: amc (and smc), aime, imo and usamo, web_of_lies_v2, zebra_puzzle, theory_of_mind, spatial, house_traversal,
cta, tablejoin, typos, plot_unscrambling, connections; of zebra_puzzle and connections also the rules of questions
released before 2024-11-25. Not covered: AMPS (needs a computer algebra system), instruction following, table reformatting,
coding, and tasks added later.

Known failure modes: rules are lenient. A number anywhere in the last 50 characters solves an aime question, and an
answer that contains the right one passes (typos, theory_of_mind). Words around three verdicts spoil them if one is
"unknown", which holds a "no" (web_of_lies_v2).

Paper: White et al. LiveBench: A Challenging, Contamination-Limited LLM Benchmark. ICLR 2025, arXiv:2406.19314.

Checked: LiveBench/LiveBench@b0fb577, all rules above and the aggregation (exact; recorded cases, and random text).

Deviations: where the released rule raises (an unbalanced or unusual box, and the question then counts as an error with
score 0), ours goes on as if there were no box. The released rule for connections counts a group each time it is
repeated, and can exceed 1; ours counts it once (`count_repeats=True` is theirs). For amc it accepts the word "FAILURE"
where a question's options cannot be read, and any answer to an option without text; ours does neither. Scores of -1
mean "not judged" there, and nan does here. `proof_order` compares by edit distance as the released evaluation does;
with `edit_distance=False` it is the released function's default, where leaving steps out costs nothing.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

from unlearnkit.errors import DataError
from unlearnkit.scorers.item import Balanced, Item, Scored, balanced

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_NUMBERS = {word: str(number) for number, word in enumerate((*_DIGITS, *_TEENS, "twenty"))}
_NEW_RULES = "2024-11-25"


# --- where answers are looked for -------------------------------------------------------------------------------------


def last_boxed(text: str) -> str | None:
    r"""The last \boxed{...} (or \fbox{...}, as \boxed) of a LaTeX text, dollars removed; None if it never closes.

    Where the form "\boxed 5" occurs, that is preferred, and reaches up to the next dollar.
    """
    if "\\boxed " in text:
        return "\\boxed " + text.split("\\boxed ")[-1].split("$")[0]
    box, frame = text.rfind("\\boxed"), text.rfind("\\fbox")
    start = frame if box < 0 else box
    if start < 0:
        return None
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if text[place] == "}" and depth == 0:
            return text[start : place + 1].replace("$", "").replace("fbox", "boxed")
    return None


def boxed_content(text: str) -> str | None:
    r"""What stands in the last box of a text; None without a box that can be read."""
    box = last_boxed(text)
    if box is None:
        return None
    if "\\boxed " in box:
        return box.removeprefix("\\boxed ") if box.startswith("\\boxed ") else None
    return box[len("\\boxed{") : -1] if box.startswith("\\boxed{") else None


def _frames_as_boxes(text: str) -> str:
    return text.replace("\\\\fbox{", "\\\\boxed{")


def _plain(latex: str) -> str:
    return latex.replace("\\text{", "").replace("}", "").replace("\\", "")


def _solutions(answer: str) -> list[str]:
    return re.findall(r"<solution>(.*?)</solution>", answer)


def _last_line(answer: str) -> str:
    return answer.strip().split("\n")[-1]


def _repeats_one(text: str, letter: str) -> bool:
    return len(set(text)) == 1 and text[0].lower() == letter.lower()


# --- mathematics ------------------------------------------------------------------------------------------------------


def amc(gold: str, answer: str, question: str) -> float:
    """A competition's multiple choice: the letter (asked for five times over), a box, or the option's own value.

    Raises:
        DataError: `gold` is no letter from A to E.
    """
    if gold not in tuple("ABCDE"):
        raise DataError(f"gold is {gold!r}; a competition's multiple choice has a letter from A to E.")
    solutions = _solutions(answer)
    if (solutions and _repeats_one(solutions[-1], gold)) or gold * 4 in answer:
        return 1.0
    answer = _frames_as_boxes(answer)
    box = boxed_content(answer)
    if box is not None and _plain(box).lower() == gold.lower():
        return 1.0
    value = _option_value(question, gold)
    if value and value in answer[-(20 + len(value)) :]:
        return 1.0
    line = _last_line(answer)
    if line.strip().replace("*", "").lower() == gold.lower():
        return 1.0
    in_brackets = line.split("(")[1].split(")")[0] if "(" in line and ")" in line else ""
    return float(in_brackets.lower() == gold.lower())


def _option_value(question: str, letter: str) -> str:
    options: list[tuple[str, str]] = re.findall(r"\\textbf{\(([A-E])\)\s?}(.*?)(?:\\qquad|\$)", question)
    return dict(options).get(letter, "").strip().strip("$").strip("~")


def aime(gold: str, answer: str) -> float:
    """A competition's number: one digit repeated as the solution, or the number in the last 50 characters."""
    solutions = _solutions(answer)
    return float(bool(solutions) and _repeats_one(solutions[-1], gold)) or float(gold in answer[-50:])


def proof_order(gold: str, answer: str, *, edit_distance: bool = True) -> float:
    """Numbers of a proof's missing steps, in order ("3,1,2").

    Args:
        gold: the right numbers, with commas.
        answer: what the model wrote; the numbers follow "Answer:", are boxed, or make the last line.
        edit_distance: 1 - distance / length of the longer list; or else the share of the given numbers that stand in
            their place.

    Raises:
        DataError: `gold` is no list of numbers.
    """
    right = [_integer(number) for number in gold.split(",")]
    if None in right:
        raise DataError(f"gold is {gold!r}; the order of steps is whole numbers with commas, such as '3,1,2'.")
    given = _step_numbers(answer)
    if edit_distance:
        return 1 - levenshtein(given, right) / max(len(given), len(right))
    hits = [ours == theirs for ours, theirs in zip(given, right, strict=False)]
    return sum(hits) / len(given) if given else 0.0


def _step_numbers(answer: str) -> list[int | None]:
    """Numbers found by the first place that has any; None stands for something that is not one."""
    for place in (_numbers_after_answer, _numbers_in_box, _numbers_in_last_line):
        numbers = place(answer)
        if any(number is not None for number in numbers):
            return numbers
    return _numbers_anyhow(answer)


def _numbers_after_answer(answer: str) -> list[int | None]:
    lines = answer.lower().strip().split("\n")
    marked = [place for place, line in enumerate(lines) if "answer:" in line]
    if not marked:
        return []
    found = _unmarked(lines[marked[-1]].split("answer:")[1])
    if not found and marked[-1] + 1 < len(lines):
        found = _unmarked(lines[marked[-1] + 1])
    return [_integer(_last_word_bare(part)) for part in found.split(",")]


def _unmarked(text: str) -> str:
    return text.replace("answer:", "").replace("**", "").replace(".", "").strip()


def _last_word_bare(text: str) -> str:
    word = text.strip().split(" ")[-1]
    for mark in ("$", "{", "}", "\\", "boxed", "<", ">"):
        word = word.replace(mark, "")
    return word


def _numbers_in_box(answer: str) -> list[int | None]:
    if "\\boxed" not in answer:
        return []
    content = boxed_content(answer)
    return [_integer(part) for part in _plain(answer if content is None else content).strip().split(",")]


def _numbers_in_last_line(answer: str) -> list[int | None]:
    digits = (_first_digits(part) for part in _last_line(answer).lower().strip().split(","))
    return [_integer(number) for number in digits if number]


def _numbers_anyhow(answer: str) -> list[int | None]:
    """Numbers between commas after the last "answer:", up to the first part that holds more than digits."""
    numbers: list[int | None] = []
    for place, part in enumerate(answer.lower().split("answer:")[-1].split(",")):
        digits = _first_digits(part.strip())
        number = _integer(digits)
        if number is not None:
            numbers.append(number)
        if place > 0 and len(digits) < len(part.strip()):
            break
    return numbers


def _first_digits(text: str) -> str:
    """The first run of digits."""
    rest = itertools.dropwhile(lambda character: not character.isdigit(), text)
    return "".join(itertools.takewhile(str.isdigit, rest))


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def levenshtein(first: Sequence[object], second: Sequence[object]) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other."""
    above = list(range(len(second) + 1))
    for i, ours in enumerate(first, start=1):
        row = [i]
        for j, theirs in enumerate(second, start=1):
            row.append(above[j - 1] if ours == theirs else 1 + min(above[j], row[-1], above[j - 1]))
        above = row
    return above[-1]


# --- reasoning --------------------------------------------------------------------------------------------------------


def web_of_lies(gold: str, answer: str) -> float:
    """Three verdicts ("yes, no, unknown"): tagged, the last three in bold, boxed, or written out."""
    given = _verdicts(answer)
    if given is None:
        return 0.0
    verdicts = given.count("yes") + given.count("no") + given.count("unknown")  # "unknown" holds a "no"
    return float(bool(given) and (given == gold.lower() or (verdicts == 3 and gold.lower() in given)))


def _verdicts(answer: str) -> str | None:
    tagged = _solutions(answer) or re.findall(r"</solution>(.*?)</solution>", answer)
    given = tagged[-1] if tagged else _bold_verdicts(answer)
    if given is None or not given.strip():
        bold_boxes = answer.replace("\\\\boxed{\\\\textbf{", "\\\\boxed{")
        box = boxed_content(_frames_as_boxes(bold_boxes).replace("\\textbf{", "\\boxed{"))
        given = given if box is None else box
    return _written_verdicts(answer) if given is None else given


def _bold_verdicts(answer: str) -> str | None:
    words = [word for bold in re.findall(r"\*\*(.*?)\*\*", answer) for word in bold.split()]
    bare = [word.lower().strip().replace(",", "").replace(".", "") for word in words]
    return ", ".join([word for word in bare if word in ("yes", "no", "unknown")][-3:]) or None


def _written_verdicts(answer: str) -> str | None:
    """Of all combinations that occur, the one whose first occurrence is the last."""
    combinations = [", ".join(words) for words in itertools.product(("yes", "no", "unknown"), repeat=3)]
    places = {words: answer.lower().find(words) for words in combinations}
    last = max(combinations, key=lambda words: places[words])
    return last if places[last] >= 0 else None


def zebra(gold: str, answer: str) -> float:
    """Several facts with commas: half of the score for the share that is right, half for all being right."""
    right = gold.split(",")
    given = _zebra_answers(answer, len(right))
    pairs = zip(right, given, strict=False)
    hits = sum(_bare(fact) in _bare(text).replace("position", "") for fact, text in pairs)
    return ((hits == len(right)) + hits / len(right)) / 2


def _bare(text: str) -> str:
    return text.strip().lower().replace("-", " ")


def _zebra_answers(answer: str, wanted: int) -> list[str]:
    tagged = _solutions(answer) or re.findall(r"</solution>(.*?)</solution>", answer)
    if len(tagged) > 1:
        return [part for text in tagged for part in text.split(",")][-wanted:]
    if tagged:
        return tagged[0].split(",")
    answer = _frames_as_boxes(answer)
    box = boxed_content(answer)
    if box is not None:
        return _plain(box).split(",")
    line = _last_line(answer)
    return line.split(",") if line.count(",") == wanted - 1 else []


def zebra_before_2024_11_25(gold: str, answer: str) -> float:
    """One word: the last in bold italics, or else the last; a digit from 1 to 9 stands for its word."""
    marked: list[str] = re.findall(r"\*\*\*(\w+)\*\*\*", answer)
    words = marked or re.findall(r"\b\w+\b", answer)
    last = words[-1] if words else ""
    spelled = _DIGITS[int(last)] if last in tuple("123456789") else None
    return float(gold.lower() in (last.lower(), spelled, f"{last.lower()} movies"))


def theory_of_mind(gold: str, answer: str) -> float:
    """A thing or a place, contained in the solution or in the last line."""
    flags = re.IGNORECASE | re.DOTALL
    tagged = re.findall(r"<solution>(.*?)</solution>", answer, flags)
    tagged = tagged or re.findall(r"</solution>(.*?)</solution>", answer, flags)
    given = tagged[-1] if tagged else _without_introduction(_last_line(answer).strip())
    return float(gold.strip().lower() in re.sub(r"[.,!?;:]", "", given.strip().lower()).strip())


def _without_introduction(line: str) -> str:
    for words in ("Answer:", "answer:", "The answer is", "the answer is"):
        if line.startswith(words):
            line = line.removeprefix(words).strip()
    return line


def spatial(gold: str, answer: str) -> float:
    """A number or a shape: one of the last three texts in bold, or boxed."""
    right = gold.strip().lower()
    bold = [text.strip().lower() for text in re.findall(r"\*\*([^\*]+)\*\*", answer)[-3:]]
    if answer == gold or any(_same_shape(right, text) for text in bold):
        return 1.0
    box = boxed_content(_frames_as_boxes(answer))
    if box is None:
        return 0.0
    for mark in ("\\textbf{", "\\mathbf{", "\\text{", "}"):
        box = box.replace(mark, "")
    return float(box == gold)


def _same_shape(right: str, text: str) -> bool:
    if right == text or _NUMBERS.get(text) == right:
        return True
    shapes = ("tetrahedra", "tetrahedron", "triangle", "square")  # "equilateral triangle", but not a list of shapes
    return right in shapes and right in text and len(text) < 2 * len(right) + 5


def house_traversal(gold: str, answer: str) -> float:
    """Names in order: the last texts in bold are the names, or the last one holds them all."""
    bold: list[tuple[str, str]] = re.findall(r"(\*{2,})(.*?)\1", answer.lower())
    if not bold:
        return 0.0
    names = gold.lower().split(" ")
    if len(bold) >= len(names) and all(name in marked for name, marked in zip(names, bold[-len(names) :], strict=True)):
        return 1.0
    places = [bold[-1][1].find(name) for name in names]
    return float(places[0] >= 0 and all(here < there for here, there in itertools.pairwise(places)))


# --- tables -----------------------------------------------------------------------------------------------------------


def column_type(gold: str, answer: str) -> float:
    """The name of a column (task "cta"), at the end of the answer or boxed; only letters, digits and "_" count."""
    box = boxed_content(answer) if "\\boxed{" in answer else None
    given, right = _letters(answer if box is None else _plain(box)), _letters(gold)
    return float(given.endswith(right) if right else not given)


def _letters(text: str) -> str:
    return re.sub(r"[^\w]", "", text.lower().strip())


def table_join(gold: Mapping[str, str], answer: str) -> float:
    """Which column of one table is which of another, as a Python or JSON dictionary: F1, in hundredths."""
    given = _dictionary(answer)
    if not given:
        return 0.0
    hits = sum(1 for ours, theirs in given.items() if gold.get(ours) and gold[ours] == theirs)
    false = len(given) - hits
    changed = sum(1 for ours, theirs in given.items() if gold.get(ours) and gold[ours] != theirs)
    missing = changed + sum(1 for column in gold if not given.get(column))
    return round(100 * (2 * hits / (2 * hits + false + missing))) / 100


def _dictionary(answer: str) -> dict[str, object]:
    """The last dictionary of the answer, without entries that are null; empty if none can be read."""
    tagged = re.findall(r"<solution>(.*?)</solution>", answer, re.DOTALL)
    if tagged:
        return _dictionary(tagged[-1].strip())
    found = _literal(answer)
    if found is None:
        found = _literal(_fenced(answer).replace("null", "None"))
    return {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _fenced(answer: str) -> str:
    """What stands in the last code fence, or in a box; or else the answer itself."""
    line = answer.replace("\n", "")
    for fence in ("```python", "```json", "```"):
        blocks: list[str] = re.findall(f"{fence}(.*?)```", line)
        if blocks:
            return blocks[-1]
    box = boxed_content(line) if "\\boxed" in answer else None
    if box is None:
        return answer
    return re.sub(r"\\text{['|\"](.*?)['|\"]}", r"'\1'", box).replace("\\", "")


def _literal(text: str) -> object:
    """The text read as a Python literal, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in what a model wrote
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


# --- language ---------------------------------------------------------------------------------------------------------


def typos(gold: str, answer: str) -> float:
    """The corrected text occurs in the solution, or in the answer; line breaks count as blanks."""
    solutions = _solutions(answer)
    if solutions:
        given = solutions[-1]
    else:
        untagged = answer.replace("<solution>", "").replace("</solution>", "")
        between = re.search(r".* --- (.*?) --- .*", untagged)
        given = between.group(1) if between else untagged
    return float(gold in " ".join(filter(None, given.strip().split("\n"))))


def plot_order(gold: str, answer: str) -> float:
    """Sentences put in order: 1 - edit distance / sentences, each right sentence matched with the most similar one.

    Raises:
        DataError: `gold` has no sentence.
    """
    tagged = re.search(r"<PLOT_SUMMARY>(.*)</PLOT_SUMMARY>", answer, re.DOTALL)
    tagged = tagged or re.search(r"<PLOT_SUMMARY>(.*)", answer, re.DOTALL)
    right = _sentences(gold)
    if not right:
        raise DataError(f"gold is {gold!r}; the order of a plot needs a sentence.")
    marks = ("</PLOT_SUMMARY>", "**End of Plot Summary**")
    given = [text for text in _sentences(tagged.group(1) if tagged else answer) if text not in marks]
    similar = [difflib.get_close_matches(sentence, given, n=1, cutoff=0.0) for sentence in right]
    order = [given.index(found[0]) for found in similar if found]
    return 1 - levenshtein(range(len(right)), order) / len(right)


def _sentences(text: str) -> list[str]:
    return [stripped for part in text.split(".") if (stripped := part.strip())]


def connections(gold: str, answer: str, *, count_repeats: bool = False) -> float:
    """Words in groups of four: the share of right groups.

    Args:
        gold: all words, with commas, group after group; the order within a group does not matter.
        answer: what the model wrote; the words are tagged or boxed.
        count_repeats: whether a group counts again when it is repeated.
    """
    tagged = _tagged_words(answer)
    words = gold.split(",")
    if not tagged:
        return 0.0
    given = [word for text in tagged for word in text.split(",")]
    groups = _groups(given[-len(words) :] if len(tagged) > 1 else given)
    right = _groups(words)
    counted = groups if count_repeats else list(dict.fromkeys(groups))
    return sum(group in right for group in counted) / len(right)


def _tagged_words(answer: str) -> list[str]:
    line = answer.replace("\n", "")
    for tag in ("<solution>", "</solution>"):
        for text in (answer, line):
            if found := re.findall(f"{tag}(.*?)</solution>", text):
                return found
    box = boxed_content(answer) if "\\boxed" in answer else None
    return [] if box is None else [_plain(box).replace("\n", "")]


def connections_before_2024_11_25(gold: str, answer: str) -> float:
    """The best share of right groups among the texts in bold, each a list of words."""
    right = _groups(gold.split(","))
    lists = [_groups(text.split(",")) for text in re.findall(r"\*\*(.*?)\*\*", answer.replace("\n", ""))]
    shares = [sum(any(group <= given for given in groups) for group in right) / len(right) for groups in lists]
    return max(shares, default=0.0)


def _groups(words: Iterable[str]) -> list[frozenset[str]]:
    """Four different words after the other; the last group may have fewer."""
    groups: list[set[str]] = [set()]
    for word in words:
        if len(groups[-1]) == 4:
            groups.append(set())
        groups[-1].add(word.strip().lower())
    return [frozenset(group) for group in groups]


# --- items ------------------------------------------------------------------------------------------------------------

RULES: Mapping[str, Callable[[str, str], float]] = {
    "aime": aime,
    "imo": proof_order,
    "usamo": proof_order,
    "web_of_lies_v2": web_of_lies,
    "zebra_puzzle": zebra,
    "theory_of_mind": theory_of_mind,
    "spatial": spatial,
    "house_traversal": house_traversal,
    "cta": column_type,
    "typos": typos,
    "plot_unscrambling": plot_order,
    "connections": connections,
}
"""The rule of each task, from the right answer and the model's; "amc", "smc" and "tablejoin" need more than these."""

_RULES_BEFORE: Mapping[str, Callable[[str, str], float]] = {
    "zebra_puzzle": zebra_before_2024_11_25,
    "connections": connections_before_2024_11_25,
}


def score_livebench(item: Item, answer: str) -> float:
    """Score of an answer by the rule of the item's task; a `Scorer`.

    An item of "tablejoin" has its dictionary written out as `gold`. `meta["release_date"]` (YYYY-MM-DD) decides between
    old and new rules; without it the new ones hold.

    Raises:
        DataError: no rule for this task, or a `gold` that cannot be read.
    """
    given = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL)
    if item.task in ("amc", "smc"):
        return amc(item.gold, given, item.prompt or item.messages[0].content)
    if item.task == "tablejoin":
        gold = _literal(item.gold)
        if not isinstance(gold, dict) or not gold:
            raise DataError(f"gold of item {item.id!r} is {item.gold!r}; a table join needs a dictionary of columns.")
        return table_join(gold, given)
    old = item.task in _RULES_BEFORE and item.meta.get("release_date", _NEW_RULES) < _NEW_RULES
    rule = (_RULES_BEFORE if old else RULES).get(item.task)
    if rule is None:
        raise DataError(f"task of item {item.id!r} is {item.task!r}; there are rules for {', '.join(sorted(RULES))}.")
    return rule(item.gold, given)


def released_after(items: Iterable[Item], day: str) -> tuple[Item, ...]:
    """Items released after a day (YYYY-MM-DD): those that a model trained up to it cannot have seen.

    Raises:
        DataError: an item has no `meta["release_date"]`.
    """
    kept = []
    for item in items:
        released = item.meta.get("release_date")
        if released is None:
            raise DataError(f"item {item.id!r} has no meta['release_date']; without it, it cannot be dated.")
        if released > day:
            kept.append(item)
    return tuple(kept)


def livebench_average(scored: Iterable[Scored]) -> Balanced:
    """Means of tasks, of categories and overall, in percent; a score of -1 or nan was not judged and is left out."""
    return balanced(
        Scored(category, task, math.nan if score == -1 else 100 * score) for category, task, score in scored
    )
