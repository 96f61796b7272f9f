"""Which tokens of Verilog code are syntax (words and signs of the language) and which content (what somebody wrote).

Syntax: reserved words of IEEE 1364-2005, standard compiler directives, operators, punctuation and white space. Content:
identifiers, system tasks (`$display`), macros, numbers, strings and comments. A token is syntax if it covers no
character of content, so that " clk", a space and a name, is content, and the end token syntax.

    syntax = given("syntax", {row.id: syntax_mask(answers[row.id], offsets[row.id]) for row in rows}, rows)

`offsets` are those of `unlearnkit.data.selection.answer_offsets`. A small lexer, not a parser: it never fails, and a
character that no rule knows is content. Words that SystemVerilog added are identifiers to it.

Paper: Liang, Li, Wang, Cao. When Forgetting Builds Reliability. 2025, arXiv:2512.05341.

Reconstructed: that syntax is kept while content is forgotten is the paper's; which tokens are which is ours.

Checked: laws only; no code was to be had.

Deviations: none that could be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from unlearnkit.data.selection import Characters

_RESERVED = """
    always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam
    design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify endtable
    endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include initial inout
    input instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor
    noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown pullup
    pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1
    scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table task time tran tranif0
    tranif1 tri tri0 tri1 triand trior trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor xor
"""

KEYWORDS = frozenset(_RESERVED.split())
"""The reserved words."""

_STANDARD = """
    `begin_keywords `celldefine `default_nettype `define `else `elsif `end_keywords `endcelldefine `endif `ifdef
    `ifndef `include `line `nounconnected_drive `pragma `resetall `timescale `unconnected_drive `undef
"""

DIRECTIVES = frozenset(_STANDARD.split())
"""The standard compiler directives; any other word after a backtick is a macro."""

_SYNTAX = KEYWORDS | DIRECTIVES

_LEXEME = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<string> "(?:\\.|[^"\\\n])*"? )
    | (?P<number> \d[\d_]*\.\d[\d_]*(?:[eE][+-]?\d[\d_]*)? | \d[\d_]*[eE][+-]?\d[\d_]*
                | (?:\d[\d_]*\s*)?'[sS]?[bBoOdDhH]\s*[0-9a-fA-FxXzZ?_]+ | \d[\d_]* )
    | (?P<word> [`$]?[A-Za-z_][A-Za-z0-9_$]* | \\\S+ )
    | (?P<space> \s+ )
    | (?P<sign> [-+*/%=!<>&|^~?:;,.()\[\]{}@#'] )
    """,
    re.VERBOSE | re.DOTALL,
)


def content_spans(code: str) -> tuple[Characters, ...]:
    """Where a text has content: identifiers, literals and comments, in order; all else is syntax."""
    spans = []
    place = 0
    while place < len(code):
        found = _LEXEME.match(code, place)
        end = place + 1 if found is None else found.end()
        kind = "unknown" if found is None else found.lastgroup
        if kind not in ("space", "sign") and code[place:end] not in _SYNTAX:
            spans.append((place, end))
        place = end
    return tuple(spans)


def syntax_mask(code: str, offsets: Iterable[Characters]) -> tuple[bool, ...]:
    """Whether each token covers no character of content.

    Args:
        code: the answer.
        offsets: the characters of it that each token covers.
    """
    content = bytearray(len(code))
    for first, last in content_spans(code):
        content[first:last] = b"\x01" * (last - first)
    return tuple(not any(content[begin:end]) for begin, end in offsets)
