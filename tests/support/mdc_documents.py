"""Metadata Config documents of any content, for property tests."""

from datetime import UTC

from hypothesis import strategies as st

from pipeline.bundle import mdc

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"END", "TYPE"}
)
texts = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="#\n"))
    .map(lambda text: text.strip(" \t\r"))
    .filter(lambda text: text != "NULL")
)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="#\n \t\r,"), min_size=1).filter(
    lambda text: text != "NULL"
)
scalars = {
    "STR": words,
    "BOOL": st.booleans(),
    **{f"S{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"U{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    "F32": st.floats(width=32),
    "F64": st.floats(),
    "C32": st.complex_numbers(),
    "C64": st.complex_numbers(),
    "UTC": st.datetimes(timezones=st.just(UTC)),
    **{scale: st.datetimes() for scale in ("UT1", "TAI", "TT")},
}


@st.composite
def scopes(draw, depth=3):
    scope = mdc.Scope()
    for name in draw(st.lists(names, max_size=3)):
        if name not in {*scalars, "STRING", "METADATA", "MULTI"} and name not in scope.types:
            scope.add_type(name, draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    for name in draw(st.lists(names, max_size=5)):
        multi = name in scope or draw(st.booleans())
        comment = draw(st.just("") | texts | st.just("a # b"))
        if depth and draw(st.integers(0, 3)) == 0:
            scope.append(mdc.Entry(name, "METADATA", draw(scopes(depth - 1)), comment))
            scope.multi |= {name} if multi else set()
            continue
        kind = draw(st.sampled_from([*scalars, *scope.types]))
        if kind in scope.types:
            value = [draw(st.none() | words) for _ in scope.types[kind]]
        elif draw(st.booleans()):
            value = draw(st.lists(scalars[kind] | st.none(), max_size=4).filter(lambda v: v != [None]))
        else:
            value = draw(texts if kind == "STR" else scalars[kind] | st.none())
        scope.add(name, kind, value, comment, multi)
    return scope
