"""An index of the strings in an ``ARRAY<VARCHAR>`` column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fiftyone_milvus.embedded.executor.parts import LivePart, Mask


class Tokens:
    """An index of one array column of one part: 8 bytes an element and 4 bytes a row.

    Attributes:
        lengths: number of elements of each row, int32; 0 where the row is null.
        valid: False where the row is null.
    """

    __slots__ = ("_codes", "_rows", "_words", "lengths", "valid")

    def __init__(self, column: pa.Array) -> None:
        lengths = pc.fill_null(column.value_lengths(), 0)
        self.lengths: npt.NDArray[np.int32] = lengths.to_numpy(zero_copy_only=False)
        self.valid: Mask = column.is_valid().to_numpy(zero_copy_only=False)
        numbered = column.flatten().dictionary_encode()
        self._words = numbered.dictionary
        # Elements that are null get a number of their own, past the words.
        codes = pc.fill_null(numbered.indices, len(self._words))
        self._codes: npt.NDArray[np.int32] = codes.to_numpy(zero_copy_only=False)
        self._rows = np.repeat(np.arange(len(column), dtype=np.int32), self.lengths)

    def having_any(self, words: Sequence[str]) -> Mask:
        """Which rows have at least one of some strings."""
        found = np.zeros(len(self._words) + 1, dtype=bool)
        found[:-1] = pc.is_in(self._words, value_set=pa.array(words, pa.string()))
        mask = np.zeros(len(self.valid), dtype=bool)
        mask[self._rows[found[self._codes]]] = True
        return mask

    def having_all(self, words: Sequence[str]) -> Mask:
        """Which rows are not null and have every one of some strings."""
        mask = self.valid.copy()
        for word in dict.fromkeys(words):
            if not mask.any():
                break
            mask &= self.having_any([word])
        return mask


def tokens(part: LivePart, field: str) -> Tokens:
    """The index of a part's array column, built once per part and number of rows."""
    found = part.part.tokens.get(field)
    if found is None or len(found.valid) != part.rows:
        found = part.part.tokens[field] = Tokens(part.column(field))
    return found
