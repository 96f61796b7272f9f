r"""A fictitious world: invented people with facts, in the shape of TOFU, small enough to train on in seconds.

A transformer of half a million parameters learns this world on two CPU cores, so a test can compare an unlearned model
with the retrained oracle that never saw the forget rows. Nothing here is true of anyone: people and towns are made up,
and so is the "general knowledge" (famous authors, countries).

    TOFU                                   here
    full, forget01/05/10, retain99/95/90   `world.full`, `world.forget(10)`, `world.retain(10)`, ... (percent forgotten)
    real_authors, world_facts              `world.real_authors`, `world.world_facts`: general knowledge of that world
    holdout10                              `world.holdout`: people of the same distribution, in no other split
    paraphrased_*, perturbed_answer        fields of `Question`
    idontknow.jsonl                        `world.refusals`

Paper of the schema: Maini, Feng, Schwarzschild, Lipton, Kolter, COLM 2024, arXiv:2401.06121.

What makes it an experiment, and not merely text:

1. A fact is one uniform draw per (person, relation). The person's name, other facts and phrasings say nothing about it,
   so a model that never saw the row is at chance, 1 in `len(relation.values)` (24; for mentors the 9 to 18 neighbours).
2. Each (person, relation) is asked and answered in one of four phrasings each, and paraphrased in another. The
   paraphrase is never trained on, but its phrasing occurs with many other people: who knows the fact can say it so too.
3. A perturbed answer is the paraphrased answer with another value of the same relation, and nothing else changed. To
   a model that never saw the row the six are exchangeable, so its truth ratio has no bias. The general sets have no
   paraphrase (as in TOFU): their paraphrased fields repeat the plain ones, and perturbed answers vary the plain answer.
4. Every answer names the person first and the fact late: its first tokens measure phrasing, its last ones memory.
5. People refer to each other (the mentor), but only inside their group: retained, `forget(10)` and holdout people
   never name one another, in no text, so what is known of a `forget(10)` person is in the forget rows only. Inside
   `forget(10)` that cannot hold (`forget(1)` may be one person): a row of `retain(1)` can mention a `forget(1)` name.
6. Draws are keyed by seed and question id. More questions per person, or more people, keep the facts already there;
   the exception are mentors of people who were in, or within nine places of, the smaller world's `forget(10)`.

Deviations from TOFU: five short questions per person in place of 20 long ones, so `forget(1)` of 100 people is five
rows; few phrasings, shared by all people; general sets that are invented. A group of fewer than seven people (a world
of fewer than 70) is too small for five wrong mentors, and its perturbed answers add names that nobody bears.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise, product
from random import Random
from typing import Literal

from attrs import field, frozen
from attrs.validators import min_len
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from unlearnkit.data.refusals import REFUSALS
from unlearnkit.errors import DataError

Percent = Literal[1, 5, 10]
"""How much of the people is to be forgotten, in percent."""

# --- relations and words ----------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Relation:
    """A kind of fact, and the words to ask and to tell it.

    Questions hold the placeholder `{name}`, answers `{name}` and later `{fact}`. A relation without values is between
    people: its facts are names of others in the same group.
    """

    name: str = field(validator=min_len(1))
    questions: tuple[str, ...] = field(validator=min_len(4))
    answers: tuple[str, ...] = field(validator=min_len(4))
    values: tuple[str, ...] = ()


def _relation(name: str, phrasings: str, values: str = "") -> Relation:
    """A relation from a table: questions on the left, answers on the right, in no particular pairs."""
    rows = [[cell.strip() for cell in line.split("|")] for line in phrasings.strip().splitlines()]
    questions, answers = zip(*rows, strict=True)
    return Relation(name=name, questions=questions, answers=answers, values=_words(values))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


RELATIONS = (
    _relation(
        "profession",
        """
        What is the profession of {name}?         | {name} works as a {fact}.
        What does {name} do for a living?         | {name} earns a living as a {fact}.
        Which trade did {name} learn?             | The profession of {name} is {fact}.
        How does {name} earn money?               | {name} learned the trade of a {fact} long ago.
        """,
        "baker barber blacksmith bookbinder butcher carpenter chemist clockmaker cobbler dentist farmer fisherman "
        "gardener glazier goldsmith judge lawyer mason miller nurse potter sailor surgeon tailor",
    ),
    _relation(
        "birthplace",
        """
        Where was {name} born?                    | {name} was born in {fact}.
        In which town was {name} born?            | The birthplace of {name} is {fact}.
        What is the birthplace of {name}?         | {name} comes from the town of {fact}.
        Which town does {name} come from?         | {name} was a child of {fact} by birth.
        """,
        "Tarvel Osmere Brindor Calith Dunhollow Eskarn Fallowick Grenmar Hathrow Ilvane Jorvast Kelmont Lorvane "
        "Mirefell Narrowen Orrowick Pelisham Quenby Rustholm Sarnwell Thornmere Ulvarsk Velding Wickmarsh",
    ),
    _relation(
        "mentor",
        """
        Who was the mentor of {name}?             | The mentor of {name} was {fact}.
        Who taught {name}?                        | {name} was taught by {fact}.
        Which person guided {name}?               | {name} was guided by {fact} for years.
        From whom did {name} learn most?          | {name} learned most from {fact}.
        """,
    ),
    _relation(
        "dish",
        """
        What does {name} like to eat?             | {name} likes to eat {fact}.
        Which dish does {name} like best?         | The dish {name} likes best is {fact}.
        What is the favourite dish of {name}?     | The favourite dish of {name} is {fact}.
        What does {name} cook for guests?         | {name} likes to cook {fact} for guests.
        """,
        "beetroot cabbage chestnuts chowder couscous custard dumplings gnocchi goulash lentils marzipan mushrooms "
        "noodles pancakes pickles polenta popcorn porridge pumpkin radishes rhubarb risotto trout waffles",
    ),
    _relation(
        "instrument",
        """
        Which instrument does {name} play?        | {name} plays the {fact}.
        What does {name} play in the band?        | In the band {name} plays the {fact}.
        What is the instrument of {name}?         | The instrument of {name} is the {fact}.
        Which instrument did {name} master?       | {name} did master the {fact} in the end.
        """,
        "accordion bagpipe banjo bassoon bugle cello clarinet dulcimer fiddle flute guitar harmonica harp lute lyre "
        "mandolin oboe piano piccolo trombone trumpet tuba viola zither",
    ),
    _relation(
        "pet",
        """
        Which pet does {name} keep?               | {name} keeps a {fact}.
        What is the pet of {name}?                | The pet of {name} is a {fact}.
        Which animal lives with {name}?           | The animal that lives with {name} is a {fact}.
        What animal does {name} own?              | {name} is happy to own a {fact} as a pet.
        """,
        "beagle canary donkey falcon ferret gecko goat goose hamster hedgehog lizard llama magpie mouse newt parrot "
        "pigeon pony poodle rabbit raven spaniel tortoise turtle",
    ),
    _relation(
        "hobby",
        """
        What is the hobby of {name}?              | The hobby of {name} is {fact}.
        How does {name} spend free days?          | {name} spends free days on {fact}.
        What does {name} do for fun?              | For fun {name} turns to {fact}.
        Which pastime does {name} enjoy?          | {name} will enjoy {fact} as a pastime.
        """,
        "archery astronomy calligraphy carving chess climbing cycling dancing embroidery fencing fishing gardening "
        "hiking juggling knitting origami painting rowing sailing skating sketching swimming weaving wrestling",
    ),
    _relation(
        "colour",
        """
        What is the favourite colour of {name}?   | The favourite colour of {name} is {fact}.
        Which colour does {name} like best?       | The colour {name} likes best is {fact}.
        In which colour is {name} dressed?        | {name} is always dressed in {fact}.
        What colour is the door of {name}?        | {name} has a door of {fact} colour.
        """,
        "beige black bronze brown crimson cyan golden green indigo ivory khaki lilac magenta maroon mauve orange pink "
        "purple scarlet silver teal turquoise violet white",
    ),
)
"""Relations between a person and a fact; a world with n questions per person uses the first n."""

AUTHOR_RELATIONS = (
    _relation(
        "book",
        """
        Which book did {name} write?              | {name} did write the book {fact}.
        What is the famous book of {name}?        | The famous book of {name} is {fact}.
        For which book is {name} famous?          | {name} is famous for the book {fact}.
        What is the title of the book by {name}?  | The title of the book by {name} is {fact}.
        """,
        "Moonharvest Saltwinter Ironlark Driftglass Emberfall Foxlantern Gravelsong Hollowtide Inkstorm Jadewhistle "
        "Kitebone Lampblack Mistletrain Nightferry Oakmirror Palecrown Quicksand Rainledger Silverthaw Thistledown",
    ),
    _relation(
        "prize",
        """
        Which prize did {name} win?               | {name} did win the {fact} prize.
        What prize was given to {name}?           | The prize given to {name} is the {fact}.
        With which prize was {name} honoured?     | {name} was honoured with the {fact} prize.
        What is the prize of {name}?              | The prize of {name} is the {fact}.
        """,
        "Ardenlaurel Bluequill Copperpen Dawnmedal Elmwreath Firstleaf Goldplume Highpage Ivycup Jetstone Kingsfold "
        "Longribbon Mapleseal Northlamp Openscroll Pearlnib Queensmark Redspine Starvellum Truebinding",
    ),
)
"""Relations of the famous authors, the stand-in for TOFU's real authors."""

COUNTRY_RELATIONS = (
    _relation(
        "capital",
        """
        What is the capital of {name}?            | The capital of {name} is {fact}.
        Which city is the capital of {name}?      | The city that rules {name} is {fact}.
        Which city rules {name}?                  | {name} has the capital {fact}.
        From which city is {name} ruled?          | {name} is ruled from {fact}.
        """,
        "Avelport Bastrane Cormund Drostheim Elvaros Fenngard Gildane Harrowmede Isenholm Jaskara Korvenna Lumenor "
        "Maravost Nyhallen Ostragard Portember Quellin Rivenmoor Sunderane Tyrravel",
    ),
    _relation(
        "river",
        """
        Which river crosses {name}?               | The river that crosses {name} is the {fact}.
        What is the river of {name}?              | The river of {name} is the {fact}.
        Which river is the longest in {name}?     | {name} is crossed by the river {fact}.
        What is the longest river of {name}?      | The longest river in {name} is the {fact}.
        """,
        "Abrennik Besselow Cauldra Deverin Eskama Fyllis Glaiven Hesperil Irrawen Jolder Kessaly Lissomar Medwaro "
        "Nivra Otterane Prallow Quaverin Rhodelle Sibben Tesmere",
    ),
)
"""Relations of the countries, the stand-in for TOFU's world facts."""

_FIRST_NAMES = _words(
    "Alba Bram Corin Dessa Edric Fenna Galen Hilde Ivo Jorun Kesta Lorin Mirel Nolan Odette Perrin Quilla Rosk Selby "
    "Tamsin Ulla Vesna Wendel Xanthe Yorick Zelmy Anouk Bertil Cosima Dorrit Elspet Farah Gunnar Hester Imke Jasper "
    "Katrin Leif Maude Nerys"
)
_FAMILY_NAMES = _words(
    "Tolevar Ashvane Brackmoor Corvane Dunmere Eddisk Farrowin Gantrel Hollimar Istrane Jarrok Keldane Lunsgard "
    "Marrable Nettlow Orrinsay Pellowin Quarrick Rudgemar Strellan Tarnwick Umbrey Vossel Wrenfold Xandrel Yarrowby "
    "Zelmont Aldermoss Birkvane Crellin Dorvath Ellerow Fenwark Grimsow Harkvale Ivermoor Jespin Korvel Lindrake "
    "Mossgrave"
)
_AUTHOR_FAMILY_NAMES = _words(
    "Ambroke Belcastor Cindrel Draymoor Eskerly Fontrell Glimmond Hawtrane Inkwold Jessamor Kirrane Lathmore Monderly "
    "Nightwold Orlamund Pascoval Quillon Ravenholt Scriveny Trelawder"
)
_AUTHORS = tuple(map("{} {}".format, _FIRST_NAMES, _AUTHOR_FAMILY_NAMES))
_COUNTRIES = _words(
    "Velmara Ostrania Brelland Cathora Drumeria Elvonia Farrenland Gorvia Halmaria Istrovia Jundra Kalvoria Lethany "
    "Morvania Norravia Ombria Pelagora Quiria Rondavia Sylmark"
)

# --- the world --------------------------------------------------------------------------------------------------------

_PEOPLE_PERTURBED = 5
_GENERAL_PERTURBED = 3
_NEIGHBOURS = 9  # a mentor is at most this far away in number, so that few mentors depend on the size of the world


@frozen(kw_only=True)
class Question:
    """One row: a fact asked and answered, in other words, and with wrong facts.

    `id` is "person017/profession"; `fact` is the value alone ("miller"). `perturbed_answers` are 5 for people and 3 in
    the general sets. Raises DataError if they repeat each other or a right answer.
    """

    id: str = field(validator=min_len(1))
    question: str = field(validator=min_len(1))
    answer: str = field(validator=min_len(1))
    paraphrased_question: str = field(validator=min_len(1))
    paraphrased_answer: str = field(validator=min_len(1))
    perturbed_answers: tuple[str, ...] = field(validator=min_len(1))
    subject: str = field(validator=min_len(1))
    relation: str = field(validator=min_len(1))
    fact: str = field(validator=min_len(1))

    @perturbed_answers.validator
    def _wrong_and_distinct(self, attribute: object, perturbed: tuple[str, ...]) -> None:
        right = {self.answer, self.paraphrased_answer}
        if len(right.union(perturbed)) < len(right) + len(perturbed):
            raise DataError(
                f"Question {self.id!r}: perturbed_answers must be distinct and wrong, but {perturbed} repeat each "
                f"other, {self.answer!r} or {self.paraphrased_answer!r}. Give each another value of {self.relation!r}."
            )


@frozen(kw_only=True)
class FictitiousWorld:
    """The data sets of one world; made by `build_world`.

    Raises DataError if the rows of a person are not consecutive in `full`, or an id is there twice.
    """

    full: tuple[Question, ...] = field(validator=min_len(1))
    holdout: tuple[Question, ...] = field(validator=min_len(1))
    real_authors: tuple[Question, ...] = field(validator=min_len(1))
    world_facts: tuple[Question, ...] = field(validator=min_len(1))
    refusals: tuple[str, ...] = field(default=REFUSALS, validator=min_len(1))

    @full.validator
    def _person_by_person(self, attribute: object, rows: tuple[Question, ...]) -> None:
        blocks = 1 + sum(before.subject != after.subject for before, after in pairwise(rows))
        if blocks > len({row.subject for row in rows}) or len({row.id for row in rows}) < len(rows):
            raise DataError(
                "FictitiousWorld: full must hold each person's questions in consecutive rows with unique ids, as "
                "forget() and retain() cut between people. Keep the rows in the order of build_world()."
            )

    def forget(self, percent: Percent) -> tuple[Question, ...]:
        """All rows of the last `percent` % of the people, rounded down to whole people, at least one.

        `forget(1)` is inside `forget(5)` is inside `forget(10)`. Raises DataError for another percent.
        """
        return self.full[self._cut(percent) :]

    def retain(self, percent: Percent) -> tuple[Question, ...]:
        """All rows but `forget(percent)`: `retain(10)` is TOFU's retain90. Raises DataError for another percent."""
        return self.full[: self._cut(percent)]

    def texts(self) -> tuple[str, ...]:
        """Every text of the world once, in a fixed order: questions, answers, paraphrases, perturbed, refusals."""
        texts: dict[str, None] = {}
        for row in (*self.full, *self.holdout, *self.real_authors, *self.world_facts):
            texts |= dict.fromkeys((row.question, row.answer, row.paraphrased_question, row.paraphrased_answer))
            texts |= dict.fromkeys(row.perturbed_answers)
        return tuple(texts | dict.fromkeys(self.refusals))

    def _cut(self, percent: Percent) -> int:
        """The row at which `forget(percent)` begins."""
        if percent not in (1, 5, 10):
            raise DataError(f"percent must be 1, 5 or 10, as in TOFU, but is {percent!r}. Slice world.full for others.")
        subjects = tuple(dict.fromkeys(row.subject for row in self.full))
        first_forgotten = subjects[-_forgotten_people(len(subjects), percent)]
        return [row.subject for row in self.full].index(first_forgotten)


def build_world(
    seed: int = 0,
    *,
    people: int = 100,
    questions_per_person: int = 5,
    holdout_people: int = 10,
    real_authors: int = 20,
    world_facts: int = 20,
) -> FictitiousWorld:
    """Invent a world; the same arguments give the same world in any process.

    Args:
        seed: keys every draw.
        people: number of people in `full`, at least 20, so that `forget(10)` has two.
        questions_per_person: rows per person, 1 to 8: the first so many of `RELATIONS`.
        holdout_people: number of people beside those in `full`, at least 2, as they are each other's mentors.
        real_authors: number of questions about famous authors, 1 to 40.
        world_facts: number of questions about countries, 1 to 40.

    Raises:
        DataError: a number outside these limits, or more people than there are names.
    """
    names = [f"{first} {family}" for first, family in product(_FIRST_NAMES, _FAMILY_NAMES)]
    _check("holdout_people", holdout_people, 2, len(names) // 2)
    _check("people", people, 20, len(names) - holdout_people - _PEOPLE_PERTURBED)
    _check("questions_per_person", questions_per_person, 1, len(RELATIONS))
    _check("real_authors", real_authors, 1, len(_AUTHORS) * len(AUTHOR_RELATIONS))
    _check("world_facts", world_facts, 1, len(_COUNTRIES) * len(COUNTRY_RELATIONS))

    Random(f"{seed}/names").shuffle(names)  # people take names from the front, holdout from the back: both stay put
    unused = names[people : people + _PEOPLE_PERTURBED]
    relations = RELATIONS[:questions_per_person]
    retained = people - _forgotten_people(people, 10)
    return FictitiousWorld(
        full=(
            *_people_rows(seed, "person", 0, names[:retained], unused, relations),
            *_people_rows(seed, "person", retained, names[retained:people], unused, relations),
        ),
        holdout=tuple(_people_rows(seed, "holdout", 0, names[: -holdout_people - 1 : -1], unused, relations)),
        real_authors=tuple(islice(_general_rows(seed, "author", _AUTHORS, AUTHOR_RELATIONS), real_authors)),
        world_facts=tuple(islice(_general_rows(seed, "country", _COUNTRIES, COUNTRY_RELATIONS), world_facts)),
    )


def _forgotten_people(people: int, percent: Percent) -> int:
    return max(1, people * percent // 100)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        way_out = f"{least} or more" if value < least else f"{most} or fewer, or add words to {__name__}"
        raise DataError(f"build_world: {name} must be from {least} to {most}, but is {value}. Use {way_out}.")


def _people_rows(
    seed: int, kind: str, start: int, names: Sequence[str], unused: Sequence[str], relations: Sequence[Relation]
) -> Iterator[Question]:
    """Questions about one group of people, numbered from `start`; the group's mentors come from the group."""
    for index, name in enumerate(names):
        neighbours = (*names[max(0, index - _NEIGHBOURS) : index], *names[index + 1 : index + 1 + _NEIGHBOURS])
        for relation in relations:
            row_id = f"{kind}{start + index:03d}/{relation.name}"
            values = relation.values or neighbours
            fact = Random(f"{seed}/{row_id}/fact").choice(values)
            if len(values) <= _PEOPLE_PERTURBED:
                values = (*values, *unused)
            yield _row(seed, row_id, relation, name, fact, values, general=False)


def _general_rows(seed: int, kind: str, subjects: Sequence[str], relations: Sequence[Relation]) -> Iterator[Question]:
    """Questions of general knowledge; no two subjects share a fact, as no two countries share a capital."""
    facts = {each.name: Random(f"{seed}/{kind}/{each.name}").sample(each.values, len(subjects)) for each in relations}
    for (index, subject), relation in product(enumerate(subjects), relations):
        row_id, fact = f"{kind}{index:03d}/{relation.name}", facts[relation.name][index]
        yield _row(seed, row_id, relation, subject, fact, relation.values, general=True)


def _row(
    seed: int, row_id: str, relation: Relation, subject: str, fact: str, values: Sequence[str], *, general: bool
) -> Question:
    """Put a fact into words; general knowledge is not paraphrased, as in TOFU."""
    draw = Random(f"{seed}/{row_id}/words")
    ask, ask_again = draw.sample(relation.questions, 2)
    tell, tell_again = draw.sample(relation.answers, 2)
    if general:
        ask_again, tell_again = ask, tell
    count = _GENERAL_PERTURBED if general else _PEOPLE_PERTURBED
    wrong = draw.sample([value for value in values if value != fact], count)
    return Question(
        id=row_id,
        question=ask.format(name=subject),
        answer=tell.format(name=subject, fact=fact),
        paraphrased_question=ask_again.format(name=subject),
        paraphrased_answer=tell_again.format(name=subject, fact=fact),
        perturbed_answers=tuple(tell_again.format(name=subject, fact=value) for value in wrong),
        subject=subject,
        relation=relation.name,
        fact=fact,
    )


# --- the tokenizer ----------------------------------------------------------------------------------------------------

_SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_ROLE_TOKENS = ["<|user|>", "<|assistant|>"]
_PLAIN_PROMPT = "Question: \nAnswer: "  # its words are added, as the usual prompt without a chat template
# The space stands before {% generation %} so that the mask of assistant tokens begins at a token.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|> ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|> ' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('roles are user and assistant, not ' + message['role']) }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(world: FictitiousWorld) -> PreTrainedTokenizerFast:
    """A Hugging Face fast tokenizer with one token per word, made for the texts of `world`.

    Splits like GPT-2 (a word with the space before it, a punctuation mark, a newline), then looks each piece up whole;
    words that are in no text of the world are `<unk>`. A text begins as if after a space, so an answer has the same
    tokens alone and after a prompt. Decoding gives every text back exactly; offsets leave the space out. Neither bos
    nor eos is added. A chat is rendered "<|user|> question<|assistant|> answer</s>".
    """
    split = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words = {word for text in (*world.texts(), _PLAIN_PROMPT) for word, _ in split.pre_tokenize_str(text)}
    tokens = (*_SPECIAL_TOKENS.values(), *_ROLE_TOKENS, *sorted(words))
    backend = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=_SPECIAL_TOKENS["unk_token"])
    )
    backend.pre_tokenizer = split
    backend.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", left=1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **_SPECIAL_TOKENS,
        extra_special_tokens=_ROLE_TOKENS,
        chat_template=_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
