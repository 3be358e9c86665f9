from typing import Any

from tunesmith.data import splits
from tunesmith.data.images import parts

CAR: Any = {"type": "image", "image": "a" * 64, "width": 640, "height": 480}
DOG: Any = {"type": "image", "image": "b" * 64, "width": 8, "height": 6}


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def test_marks_become_parts_in_the_order_of_the_text() -> None:
    text = f"Look: {parts.mark(1)}{parts.mark(0)}\nWhich is faster?"
    row = parts.with_images({"prompt": [user("Hi"), user(text)]}, [CAR, DOG])
    look, question = ({"type": "text", "text": said} for said in ("Look: ", "\nWhich is faster?"))
    assert row["prompt"] == [user("Hi"), user([look, DOG, CAR, question])]
    assert parts.images(row) == [DOG, CAR]


def test_another_image_is_another_prompt_and_the_same_one_is_the_same() -> None:
    keys = [splits.prompt_key([user([image, {"type": "text", "text": "What?"}])]) for image in (CAR, DOG, dict(CAR))]
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]
    assert keys[0] != splits.prompt_key([user("What?")])
