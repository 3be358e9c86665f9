"""The images of rows as a model gets them: an id of its own for each among the tokens of a row, and its pixels.

A base has one token for all images, and takes their pixels beside the tokens: what carries tokens alone, such as a
cache of prompts, would give two images one meaning, or answer without having seen any. So here every image has a token
id of its own, above all vocabularies: rows with other images are other tokens everywhere, an embedding that meets such
an id fails, and the model exchanges it for the base's token and the pixels just before it computes (`forward`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tunesmith.core.errors import ChatError, DataError, IntegrityError
from tunesmith.core.ready_rows import ImagePart
from tunesmith.models.images import processor
from tunesmith.models.images.tokens import FIRST_ID

OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "text_replacement_offsets")
"""What a processor returns that is as long as the text; the rest is made of pixels."""


@dataclass(frozen=True)
class Placeholder:
    """What a processor puts into a text for an image of some size.

    text: the placeholder. tokens: image tokens in it. grid: patches in time, height and width, (1, 3); None for a model
    whose positions do not follow them.
    """

    text: str
    tokens: int
    grid: Tensor | None


class RowImages:
    """The images in some folders, by digest, for one base, whose processor is opened where it is first used.

    base: its folder, or that of full weights. digests: of all images; each has the id ``FIRST_ID`` plus its place.
    """

    def __init__(self, base: Path, folders: Sequence[Path] = ()) -> None:
        self.base = base
        self.digests: list[str] = []
        self._files: dict[str, Path] = {}
        self._ids: dict[str, int] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._placeholders: dict[tuple[int, int], Placeholder] = {}
        self._last: tuple[tuple[str, ...], dict[str, Tensor]] | None = None
        for folder in folders:
            self._look_in(folder)

    @cached_property
    def processor(self) -> Any:
        opened = processor.open_processor(self.base)
        processor.check(opened, self.base)
        return opened

    @cached_property
    def marker(self) -> str:
        """What stands for an image in a text."""
        marker: str = self.processor.image_token
        return marker

    @cached_property
    def token(self) -> int:
        """The id of the base's token for all images, of which an image takes several."""
        return processor.image_token(self.processor, processor.config(self.base))

    def __getstate__(self) -> dict[str, object]:
        """All but the processor, which another process opens itself."""
        opened = ("processor", "marker", "token")
        return {name: value for name, value in self.__dict__.items() if name not in opened} | {"_last": None}

    def __deepcopy__(self, memo: object) -> "RowImages":
        """The same: a copy of a model sees the same images."""
        return self

    def _look_in(self, folder: Path) -> None:
        """Add the images of ``folder``, whose files are named by their SHA-256; none where there is no such folder."""
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if file.stem not in self._files:
                self._ids[file.stem] = FIRST_ID + len(self.digests)
                self._files[file.stem] = file
                self.digests.append(file.stem)

    def expand(self, text: str, images: Sequence[ImagePart]) -> str:
        """A rendered conversation with the placeholder of each image in place of the template's marker for it.

        Raises ChatError where the text does not have a marker for each image.
        """
        between = text.split(self.marker)
        if len(between) - 1 != len(images):
            raise ChatError(
                f"the conversation has {len(images)} images, and the chat template writes {self.marker!r} "
                f"{len(between) - 1} times",
                fix=f"take {self.marker!r} out of the texts of the row, or name a template that writes every image "
                "(base_model.chat_template in params.yaml)",
            )
        placeholders = [self.placeholder((image["width"], image["height"])).text for image in images]
        return "".join(part for pair in zip(between, [*placeholders, ""], strict=True) for part in pair)

    def mark(self, ids: list[int], images: Sequence[ImagePart]) -> list[int]:
        """The tokens of a conversation, or of its beginning, with each image's id in place of its image tokens.

        Raises ChatError where the image tokens are not those of the images.
        """
        each = [self._own_tokens(image) for image in images]
        places = [place for place, token in enumerate(ids) if token == self.token]
        if len(places) not in accumulate(map(len, each), initial=0):
            raise ChatError(
                f"{len(places)} image tokens, and images of {[len(own) for own in each]}: a text holds {self.marker!r}",
                fix=f"take {self.marker!r} out of the texts of the row",
            )
        marked = list(ids)
        for place, token in zip(places, chain.from_iterable(each), strict=False):
            marked[place] = token
        return marked

    def tokens(self, images: Iterable[ImagePart]) -> int:
        """The number of tokens that images take."""
        return sum(self.placeholder((image["width"], image["height"])).tokens for image in images)

    def _own_tokens(self, image: ImagePart) -> list[int]:
        digest, size = image["image"], (image["width"], image["height"])
        self._file(digest)
        self._sizes[digest] = size
        return [self._ids[digest]] * self.placeholder(size).tokens

    def order(self, ids: Iterable[int]) -> list[str]:
        """The images whose ids these are, one after another. Raises DataError where an image lacks some of its ids."""
        found, begin, all_ids = list[str](), 0, list(ids)
        while begin < len(all_ids):
            digest = self.digests[all_ids[begin] - FIRST_ID]
            tokens = self.of(digest).tokens
            own = all_ids[begin : begin + tokens]
            if own != [all_ids[begin]] * tokens:
                raise DataError(
                    f"{self._files[digest]}: a row was cut within the image, of which the model would see a part",
                    fix="report this with your params.yaml; nothing was trained",
                )
            found.append(digest)
            begin += tokens
        return found

    def pixels(self, digests: Sequence[str]) -> dict[str, Tensor]:
        """What the model takes beside the tokens for these images, in their order."""
        if self._last is None or self._last[0] != tuple(digests):
            images = [[self._open(digest) for digest in digests]]
            made = self.processor(text=[self.marker * len(digests)], images=images, return_tensors="pt")
            self._last = tuple(digests), {name: value for name, value in made.items() if name not in OF_TEXT}
        return self._last[1]

    def of(self, digest: str) -> Placeholder:
        """The placeholder of an image that a conversation had."""
        return self.placeholder(self._sizes[digest])

    def placeholder(self, size: tuple[int, int]) -> Placeholder:
        """The placeholder of an image of some width and height, in pixels. Raises DataError where the base takes none
        of this size.
        """
        if size not in self._placeholders:
            try:
                self._placeholders[size] = self._placeholder_of(Image.new("RGB", size))
            except ValueError as error:
                raise DataError(
                    f"the base takes no image of {size[0]} x {size[1]} pixels: {error}",
                    fix="leave the rows with such images out, or scale the images",
                ) from None
        return self._placeholders[size]

    def _placeholder_of(self, image: Image.Image) -> Placeholder:
        [text], made = processor.placeholders(self.processor, [image])
        tokens: list[int] = self.processor.tokenizer.encode(text, add_special_tokens=False)
        grid = made.get("image_grid_thw")
        return Placeholder(text, tokens.count(self.token), None if grid is None else torch.as_tensor(grid))

    def _file(self, digest: str) -> Path:
        if digest not in self._files:
            raise DataError(
                f"no image {digest[:12]}… beside the ready rows", fix="`dvc checkout` brings back what a stage wrote"
            )
        return self._files[digest]

    def _open(self, digest: str) -> Image.Image:
        file = self._file(digest)
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise IntegrityError(
                f"{file}: its bytes differ from its name",
                fix="`dvc checkout` brings back what the stage wrote",
            )
        try:
            image = Image.open(BytesIO(content)).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{file}: not an image that opens: {error}", fix="`dvc repro` writes it again") from None
        if image.size != self._sizes[digest]:
            raise DataError(
                f"{file}: has {image.size[0]} x {image.size[1]} pixels, and its row says otherwise",
                fix="`dvc repro` writes both again",
            )
        return image
