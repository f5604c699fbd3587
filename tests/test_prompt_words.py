"""A prompt is read only where every word of it means something to the model."""

import pytest

from audit.prompt_words import Asked, Thing, Vocabulary, asked

WORDS = Vocabulary(
    objects=("cat", "owl", "red apple", "palm tree"),
    styles=("cartoon", "flat"),
    tints=("red", "blue", "golden"),
    backgrounds={"white": (250, 250, 250), "blue": (45, 95, 205)},
    small_up_to=0.4,
)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a cat", Asked(things=(Thing(name="cat"),))),
        (
            "a small golden owl on the left, flat style, blue background",
            Asked(
                things=(Thing(name="owl", tint="golden", position="on the left", small=True),),
                style="flat",
                background="blue",
            ),
        ),
        ("An OWL,  blue background", Asked(things=(Thing(name="owl"),), background="blue")),
        ("a red apple", Asked(things=(Thing(name="red apple"),))),
        ("a blue apple", Asked(things=(Thing(name="red apple", tint="blue"),))),
        (
            "a cat and a blue palm tree, cartoon style",
            Asked(
                things=(Thing(name="cat"), Thing(name="palm tree", tint="blue")), style="cartoon"
            ),
        ),
    ],
)
def test_what_is_asked_for(prompt: str, wanted: Asked) -> None:
    assert asked(prompt, WORDS) == wanted


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "cat",
        "a dog",
        "a cat in the rain",
        "a cat, flat style, flat style",
        "a cat, oil style",
        "a cat, green background",
        "a cat, masterpiece",
        "a (cat:1.2)",
        "a green cat",
        "a cat and an owl and a cat",
        "a cat on the left and an owl",
        "a small cat and an owl",
    ],
)
def test_one_unknown_word_leaves_the_whole_prompt_unread(prompt: str) -> None:
    assert asked(prompt, WORDS) is None
