"""The strings of an ``ARRAY<VARCHAR>`` column, numbered: which rows hold one is then one lookup."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fiftyone_milvus.embedded.executor.parts import LivePart, Mask


class Tokens:
    """An index of one array column of one part; 8 bytes an element and 4 bytes a row.

    Attributes:
        lengths: number of elements of each row, int32; 0 where the row is null.
        given: False where the row is null.
    """

    __slots__ = ("_codes", "_rows", "_words", "given", "lengths")

    def __init__(self, column: pa.Array) -> None:
        lengths = pc.fill_null(column.value_lengths(), 0)
        self.lengths: npt.NDArray[np.int32] = lengths.to_numpy(zero_copy_only=False)
        self.given: Mask = column.is_valid().to_numpy(zero_copy_only=False)
        numbered = column.flatten().dictionary_encode()
        self._words = numbered.dictionary
        # Elements that are null get a number of their own, past the words.
        codes = pc.fill_null(numbered.indices, len(self._words))
        self._codes: npt.NDArray[np.int32] = codes.to_numpy(zero_copy_only=False)
        self._rows = np.repeat(np.arange(len(column), dtype=np.int32), self.lengths)

    def holding_any(self, words: Sequence[str]) -> Mask:
        """Which rows hold at least one of some strings."""
        wanted = np.zeros(len(self._words) + 1, dtype=bool)
        wanted[:-1] = pc.is_in(self._words, value_set=pa.array(words, pa.string()))
        mask = np.zeros(len(self.given), dtype=bool)
        mask[self._rows[wanted[self._codes]]] = True
        return mask

    def holding_all(self, words: Sequence[str]) -> Mask:
        """Which rows are not null and hold every one of some strings."""
        mask = self.given.copy()
        for word in dict.fromkeys(words):
            if not mask.any():
                break
            mask &= self.holding_any([word])
        return mask


def tokens(part: LivePart, field: str) -> Tokens:
    """The index of a part's array column, built once per part and number of rows."""
    found = part.part.tokens.get(field)
    if found is None or len(found.given) != part.rows:
        column = part.table().column(field).combine_chunks()
        found = part.part.tokens[field] = Tokens(column)
    return found
