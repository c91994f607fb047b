"""What people call the items: ids and titles, and which item is meant by a text."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UnknownIdError, did_you_mean
from ..kg.snapshot import IdMap

MOST_HINTED = 50_000  # names compared with a misspelt one


class ItemNames:
    """Ids and titles in row order; a title may be missing (None or empty) or belong to several items."""

    def __init__(self, shop: str, ids: IdMap, titles: Sequence[str | None]) -> None:
        self._shop, self._ids = shop, ids
        self._titles = [title or id_ for title, id_ in zip(titles, ids.ids, strict=True)]
        self._rows: dict[str, list[int]] = {}
        for row, title in enumerate(titles):
            if title:
                self._rows.setdefault(title, []).append(row)

    def __contains__(self, text: object) -> bool:
        """Whether it is an id or a title."""
        return text in self._ids or text in self._rows

    def title(self, row: int) -> str:
        """The title of an item, else its id."""
        return self._titles[row]

    def item(self, text: str) -> str:
        """The id of the item people mean: by its id, or by its exact title where one item alone has it.

        Raises:
            UnknownIdError: no item, or several of that title.
        """
        if text in self._ids:
            return text
        rows = self._rows.get(text, [])
        if len(rows) > 1:
            some = ", ".join(repr(self._ids.ids[row]) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
            raise UnknownIdError(f"{len(rows)} items in {self._shop} are called {text!r}; name one by its id: {some}")
        if not rows:
            known = {*self._ids.ids, *self._rows} if len(self._ids) < MOST_HINTED else ()
            raise UnknownIdError(f"no item {text!r} in {self._shop}{did_you_mean(text, known)}")
        return str(self._ids.ids[rows[0]])
