"""How many tokens a prompt has and what its chunks cost, in words; no weights are needed for it."""

from html import escape
from threading import Lock
from typing import Any

from core.chunks import Text, text_of
from core.models import tokenizer
from core.prompt_syntax import find_syntax, require_short
from core.request import Model
from core.run import TextSize


def in_words(size: TextSize) -> str:
    """A prompt's length, and what it costs where it is more than one chunk."""
    room = size.chunk_tokens
    if size.cut:
        return f"{size.tokens} tokens, of which the last {size.cut} are cut: plain reads {room}"
    if size.chunks == 1:
        told = f"{size.tokens} of {room} tokens"
    else:
        told = f"{size.tokens} tokens, {size.chunks} chunks of {room}"
    padded = f", padded to {size.padded_to} chunks" if size.padded_to > size.chunks else ""
    if size.padded_to == 1:
        return told
    times = "doubles" if size.padded_to == 2 else f"takes {size.padded_to} times as much"
    one, all_ = size.keys // size.padded_to, size.keys
    return f"{told}{padded}: the UNet's cross-attention {times}, from {one} to {all_} keys"


class TokenCounter:
    """Counts as the engine does, by the model's own tokenizer, which is loaded at the first count.

    Threads wait for each other: a tokenizer serves one at a time.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tokenizer: Any = None
        self._one_at_a_time = Lock()

    def text(self, written: str, syntax: str, what: str = "prompt") -> Text:
        """A `prompt` or `negative prompt`. Raises ValueError as making a picture of it would."""
        known = find_syntax(syntax)
        require_short(written, what)
        with self._one_at_a_time:
            self._tokenizer = self._tokenizer or tokenizer(self._model)
            return text_of(self._tokenizer, written, known, what)

    def markup(self, written: str, syntax: str, what: str) -> str:
        """What stands below a prompt: its length and what will surprise in it, or why no picture
        can be made of it."""
        try:
            text = self.text(written.strip(), syntax, what)
        except ValueError as error:
            return f'<p class="sp-tokens sp-tokens-bad">{escape(str(error))}</p>'
        told = (in_words(text.size()), *text.notes)
        return "".join(f'<p class="sp-tokens">{escape(words)}</p>' for words in told)
