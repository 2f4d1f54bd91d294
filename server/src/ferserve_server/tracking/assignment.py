"""Assigns rows to columns optimally. Pure.

Implemented here rather than taken from scipy, which would add 35 MB to a server that needs nothing else of it. At
most some tens of faces are ambiguous at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def assign(similarity: npt.NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Pairs rows with columns so that the sum of similarities is the largest possible.

    Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment
    problems", Computing 38 (1987), without its initial reduction. Time: rows squared times columns.

    Args:
        similarity: float64 [rows, columns], finite, 0.0 or more.
        least: Pairs below this similarity, above 0.0, are not made.

    Returns:
        Pairs of row and column, by row.
    """
    if 0 in similarity.shape:
        return []
    if similarity.shape[0] > similarity.shape[1]:
        return sorted((row, column) for column, row in assign(similarity.T, least))
    gain = np.where(similarity >= least, similarity, 0.0)
    cost = gain.max() - gain
    row_count, column_count = cost.shape
    row_price, column_price = np.zeros(row_count), np.zeros(column_count)
    row_of_column = np.full(column_count, -1)
    for first in range(row_count):
        _augment(cost, first, row_of_column, row_price, column_price)
    pairs = ((int(row), column) for column, row in enumerate(row_of_column) if row >= 0)
    return sorted((row, column) for row, column in pairs if similarity[row, column] >= least)


def _augment(
    cost: npt.NDArray[np.float64],
    first: int,
    row_of_column: npt.NDArray[np.int_],
    row_price: npt.NDArray[np.float64],
    column_price: npt.NDArray[np.float64],
) -> None:
    """Gives row `first` a column along the shortest path, and lets the rows on it change theirs."""
    column_count = cost.shape[1]
    shortest = np.full(column_count, np.inf)
    before = np.full(column_count, -1)
    done = np.zeros(column_count, bool)
    row, column, distance = first, -1, 0.0
    rows = [first]
    while True:
        reached = distance + cost[row] - row_price[row] - column_price
        better = ~done & (reached < shortest)
        shortest[better] = reached[better]
        before[better] = column
        column = int(np.where(done, np.inf, shortest).argmin())
        distance = float(shortest[column])
        done[column] = True
        if row_of_column[column] < 0:
            break
        row = int(row_of_column[column])
        rows.append(row)
    held = {int(row_of_column[each]): each for each in np.flatnonzero(done) if row_of_column[each] >= 0}
    for each in rows:
        row_price[each] += distance if each == first else distance - shortest[held[each]]
    settled = done & (shortest <= distance)
    column_price[settled] -= distance - shortest[settled]
    while column >= 0:
        previous = int(before[column])
        row_of_column[column] = first if previous < 0 else row_of_column[previous]
        column = previous
