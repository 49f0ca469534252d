"""Chat templates that cannot put a prompt, and tokenizers without an end: told before anything runs."""

from __future__ import annotations

import json

import pytest
from text_samples import CHAT, checkpoint, composed, facts

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.tokens import TextTokens

PLAIN = "; world.style=plain asks without it"


@pytest.fixture
def words(tmp_path):
    """A function from a chat template to the words of a command with it."""

    def made(template):
        path = checkpoint(tmp_path / "model", chat=True)
        (path / "chat_template.jinja").write_text(template)
        files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
        return tmp_path, "world=qa", *files, f"model.path={path}", "method=noop"

    return made


@pytest.mark.parametrize(
    "template, said",
    [
        ("{% for m in messages %}{{ m.content }", "cannot be used (TemplateSyntaxError: unexpected '}')"),
        ("{{ raise_exception('no system role, sorry') }}", "cannot be used (TemplateError: no system role, sorry)"),
        ("{{ messages[0].content + 1 }}", "cannot be used (TypeError: "),
        ("{{ messages[7].content.parts }}", "cannot be used (UndefinedError: "),
        ("hello", "leaves the prompt out"),
    ],
)
@pytest.mark.parametrize("style", ["auto", "chat"])
def test_a_broken_template_is_told_with_what_works(words, tmp_path, template, said, style):
    given = words(template)
    with pytest.raises(ConfigError) as refused:
        composed(*given, f"world.style={style}")
    (problem,) = refused.value.problems
    assert problem.startswith(f"world.style: the chat template of {tmp_path / 'model'} {said}")
    assert problem.endswith(PLAIN)
    composed(*given, "world.style=plain")


def test_a_template_that_trims_is_used(words, tmp_path):
    words(CHAT.replace("m.content", "m.content | trim"))
    assert TextTokens(str(tmp_path / "model"), (), "auto").put(" hi ") == "[user]hi[a]"


def test_a_tokenizer_without_an_end_is_refused(words, tmp_path):
    given, settings = words(CHAT), tmp_path / "model" / "tokenizer_config.json"
    held = json.loads(settings.read_text())
    held.pop("eos_token")
    settings.write_text(json.dumps(held))
    with pytest.raises(ConfigError) as refused:
        composed(*given)
    (problem,) = refused.value.problems
    assert problem.startswith(f"world.tokenizer: {tmp_path / 'model'} has no end-of-sequence token; give one as ")
