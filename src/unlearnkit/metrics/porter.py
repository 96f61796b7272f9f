"""The Porter stemmer, in the variant that ROUGE uses: "authors" and "author" become one word.

Five steps strip suffixes, the longest that fits, as long as enough word is left. "Enough" is counted in the *measure*:
how often a run of consonants follows a run of vowels ("tree" 0, "trouble" 1, "private" 2).

Paper: Porter. An algorithm for suffix stripping. Program 14(3), 1980, pages 130-137.

Checked: nltk 3.10.4, `PorterStemmer` in its default mode, on 1032 words and on generated ones.

Deviations from the paper, all of them those of nltk's default mode, which Google's rouge_score uses: irregular words
have a table; "dies" and "died" keep "die"; "y" becomes "i" after any consonant but a word's first ("fly" becomes "fli",
"enjoy" stays); "-bli", "-fulli" and "-logi" are suffixes, and "-alli" is stripped before the others; a vowel and a
consonant alone make a short syllable; words of one or two letters are left alone.
"""

from __future__ import annotations

from functools import lru_cache

_IRREGULAR = {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "innings": "inning",
    "outings": "outing",
    "cannings": "canning",
} | {word: word for word in ("sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed")}

# Of the suffixes of a step, the first that fits decides: longer ones precede those they end in.
_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "fulli": "ful",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = dict.fromkeys(
    ["al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ou", "ism", "ate", "iti", "ous"],
    "",
) | {"ive": "", "ize": ""}


@lru_cache(maxsize=1 << 16)
def porter_stem(word: str) -> str:
    """The stem of a word of letters and digits, lower-cased (digits count as consonants)."""
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _final_y(_past_and_participle(_plural(word)))
    return _final_double_l(_final_e(_step_4(_replace(_step_2(word), _STEP_3, above=0))))


def _shape(word: str) -> str:
    """Consonants as "c", vowels as "v": "trouble" is "ccvvccv". "y" is a vowel after a consonant: "toy" is "cvc"."""
    shape = ""
    for letter in word:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape.endswith("c")) else "c"
    return shape


def _measure(stem: str) -> int:
    return _shape(stem).count("vc")


def _ends_in_short_syllable(stem: str) -> bool:
    """Consonant, vowel, consonant other than w, x, y ("hop"), or a whole stem of vowel and consonant ("us")."""
    shape = _shape(stem)
    return shape == "vc" or (shape.endswith("cvc") and stem[-1] not in "wxy")


def _replace(word: str, rules: dict[str, str], *, above: int) -> str:
    """Apply the rule of the first suffix that fits, if what precedes the suffix has a measure above a number."""
    for suffix, replacement in rules.items():
        if word.endswith(suffix):
            stem = word.removesuffix(suffix)
            return stem + replacement if _measure(stem) > above else word
    return word


def _plural(word: str) -> str:
    """Step 1a: "caresses", "ponies", "cats" become "caress", "poni", "cat"."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_participle(word: str) -> str:
    """Step 1b: "agreed", "plastered", "motoring" become "agree", "plaster", "motor"."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        stem = word.removesuffix(suffix)
        if stem != word and "v" in _shape(stem):
            return _mend(stem)
    return word


def _mend(stem: str) -> str:
    """What "-ed" and "-ing" had changed: "conflat", "hopp", "fil" become "conflate", "hop", "file"."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem[-1:] == stem[-2:-1] and _shape(stem).endswith("c"):
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_in_short_syllable(stem) else stem


def _final_y(word: str) -> str:
    """Step 1c: "happy" becomes "happi"; "enjoy" and "by" stay."""
    stem = word.removesuffix("y")
    return stem + "i" if stem != word and len(stem) > 1 and _shape(stem).endswith("c") else word


def _step_2(word: str) -> str:
    """Double suffixes to single ones: "relational" becomes "relate"."""
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word  # the "l" belongs to what is measured
    return _replace(word, _STEP_2, above=0)


def _step_4(word: str) -> str:
    """Single suffixes: "allowance", "adoption" become "allow", "adopt"."""
    if word.endswith("ion"):
        stem = word[:-3]
        return stem if stem.endswith(("s", "t")) and _measure(stem) > 1 else word
    return _replace(word, _STEP_4, above=1)


def _final_e(word: str) -> str:
    """Step 5a: "probate", "cease" become "probat", "ceas"; "rate" stays."""
    stem = word.removesuffix("e")
    enough = _measure(stem) > 1 or (_measure(stem) == 1 and not _ends_in_short_syllable(stem))
    return stem if stem != word and enough else word


def _final_double_l(word: str) -> str:
    """Step 5b: "controll" becomes "control"; "roll" stays."""
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
