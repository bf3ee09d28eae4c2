"""Hostile templates: whatever repeats, multiplies or reaches out is refused, soon, in few words."""

from __future__ import annotations

import tracemalloc

import pytest

from portico.errors import BadRequestError
from portico.prompting import ChatTemplate

GROW = "{%% set ns = namespace(x=%s) %%}{%% for i in range(200) %%}%s{%% endfor %%}{{ ns.x | length }}"
ENDLESS = {
    "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
    "nested loops without output": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "branching recursion": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loop": "{% for x in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "mapped filters": "{% for i in range(100000) %}{{ range(100000) | map('string') | list | length }}{% endfor %}",
    "a generator in a loop": "{% for i in range(100000) | map('center', 9) %}{% for j in range(9999) %}{% endfor %}"
    "{% endfor %}",
}
GROWING = {
    "plus": GROW % ("'ab'", "{% set ns.x = ns.x + ns.x %}"),
    "tilde": GROW % ("'ab'", "{% set ns.x = ns.x ~ ns.x %}"),
    "lists": GROW % ("[1]", "{% set ns.x = ns.x + ns.x %}"),
    "captured blocks": GROW % ("'ab'", "{% set t %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = t %}"),
    "macros": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + GROW % ("'ab'", "{% set ns.x = m(ns.x) %}"),
    "replace filter": GROW % ("'ab'", "{% set ns.x = ns.x | replace('a', 'aaaa') %}"),
    "replace method": GROW % ("'ab'", "{% set ns.x = ns.x.replace('a', 'aaaa') %}"),
    "join filter": GROW % ("'ab'", "{% set ns.x = [ns.x, ns.x, ns.x] | join(ns.x) %}"),
    "join method": GROW % ("'ab'", "{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}"),
    "numbers": GROW.replace("length", "string | length") % ("7", "{% set ns.x = ns.x * ns.x %}"),
}
AT_ONCE = {
    "times": "{{ 'a' * 10000000000 }}",
    "times a list": "{{ ([1] * 1000000000) | length }}",
    "power": "{{ 10 ** 100000000 }}",
    "center filter": "{{ 'a' | center(100000000000) }}",
    "ljust": "{{ 'a'.ljust(100000000000) }}",
    "zfill": "{{ 'a'.zfill(100000000000) }}",
    "expandtabs": "{{ '\\t'.expandtabs(100000000000) }}",
    "indent": "{{ 'a\nb' | indent(100000000000) }}",
    "percent": "{{ '%99999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (99999999999, 1) }}",
    "format filter": "{{ '%99999999999d' | format(1) }}",
    "format method": "{{ '{:99999999999}'.format(1) }}",
    "nested format width": "{{ '{:{}}'.format(1, 99999999999) }}",
    "tojson indent": "{{ [[1]] | tojson(indent=100000000000) }}",
    "range": "{{ range(100000000000) | list }}",
    "lipsum": "{{ lipsum(n=100000000) }}",
    "deep recursion": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a long complaint": "{{ raise_exception('é' * 100000) }}",
}
REACHING_OUT = {
    "class": "{{ ''.__class__.__mro__ }}",
    "attr filter": "{{ (messages | attr('__class__')).__mro__ }}",
    "mapped attribute": "{{ (messages | map(attribute='__class__') | list)[0].mro() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('true') }}",
    "format": "{{ '{0.__class__.__mro__}'.format(1) }}",
    "format_map": "{{ '{x.__class__.__mro__}'.format_map({'x': 1}) }}",
    "self": "{{ self._TemplateReference__context.eval_ctx }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "mutation": "{{ messages.append(1) }}",
    "mutation of a key": "{{ messages[0].update({'role': 'x'}) }}",
    "a private namespace name": "{{ namespace(__class__=1) }}",
    "a private name set": "{% set ns = namespace() %}{% set ns.__x = 1 %}",
}


def refused(source: str, seconds: float = 5.0) -> str:
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(BadRequestError) as error:
        ChatTemplate(source, seconds=seconds).render(messages)
    assert messages == [{"role": "user", "content": "x"}], "the caller's messages were changed"
    assert len(error.value.message.encode()) < 2048
    assert "Traceback" not in error.value.message
    assert "/site-packages" not in error.value.message
    return error.value.message


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_the_clock_stops_what_would_not_end(source: str) -> None:
    message = refused(source, seconds=0.2)
    assert "too long" in message or "too deeply" in message


@pytest.mark.parametrize("source", [*GROWING.values(), *AT_ONCE.values()], ids=[*GROWING, *AT_ONCE])
def test_what_would_fill_the_memory_is_refused_before_it_is_made(source: str) -> None:
    tracemalloc.start()
    try:
        refused(source)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", REACHING_OUT.values(), ids=REACHING_OUT)
def test_the_sandbox_holds(source: str) -> None:
    refused(source)


def test_a_rendering_may_be_large_but_not_larger() -> None:
    assert len(ChatTemplate("{% for i in range(100) %}{{ 'x' * 100000 }}{% endfor %}").render([])) == 10_000_000
    refused("{% for i in range(1000) %}{{ 'x' * 100000 }}{% endfor %}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'a' * 3 }}{{ [1] * 2 }}{{ 2 ** 10 }}{{ 2 ** 0.5 > 1.4 }}{{ 7 % 4 }}", "aaa[1, 1]1024True3"),
        ("{{ '%5.2f|%s' % (1.5, 'x') }}{{ '%03d' | format(7) }}{{ '{:>4}'.format('x') }}", " 1.50|x007   x"),
        ("{{ 'ab' | center(6) }}|{{ 'a\nb' | indent(2) }}|{{ 'x'.rjust(3) }}", "  ab  |a\n  b|  x"),
        ("{{ 'a,b'.replace(',', ';') }}{{ 'a,b' | replace(',', ';') }}", "a;ba;b"),
        ("{{ ['a', 'b'] | join('-') }}{{ '-'.join(['a', 'b']) }}{{ 1 ~ 'x' ~ none }}", "a-ba-b1xNone"),
        ("{% for a in 'abc' %}{{ loop.index }}{{ a }}{{ ',' if not loop.last }}{% endfor %}", "1a,2b,3c"),
        ("{% for a in nothing %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for x in range(3) | map('string') %}{{ x }}{{ loop.length }}{% endfor %}", "031323"),
        ("{% set l = [] %}{% set _ = l.append(3) %}{{ l }}{{ l | length }}", "[3]1"),
        ("{{ '{\"a\": 1}' | from_json }}{{ ('[1]' | fromjson)[0] }}", "{'a': 1}1"),
        ("{{ messages[0].get('role') }}{{ messages[0]['nothing'] is defined }}", "userFalse"),
        ("{{ messages[0].items() | list | length }}", "2"),
    ],
)  # fmt: skip
def test_honest_templates_do_not_feel_it(source: str, text: str) -> None:
    assert ChatTemplate(source).render([{"role": "user", "content": "x"}]) == text
