"""Estimates the growth of memory over cycles of loading and unloading from the readings after each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slope import slope_with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAT_MIB_PER_CYCLE = 0.5
"""A slope below this counts as flat: a day of hourly releases then costs less than 12 MiB."""

_WARM_UP_SHARE = 0.2
"""The first cycles fill caches and the allocator's pools, and do not count."""

_ROWS = {"as_is_mib": "as it is", "trimmed_mib": "after `malloc_trim`"}


def cycle_figures(seen: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Computes slopes over the counted cycles, and whether they are flat.

    Args:
        seen: What was seen after each cycle, `as_is_mib` and `trimmed_mib` among it; 4 or more.
    """
    counted = seen[round(len(seen) * _WARM_UP_SHARE) :]
    figures: dict[str, Any] = {"cycles": len(seen), "cycles_counted": len(counted)}
    for name in _ROWS:
        slope, low, high = slope_with_interval([each[name] for each in counted])
        figures[name] = {
            "first": seen[0][name],
            "first_counted": counted[0][name],
            "last": counted[-1][name],
            "slope_per_cycle": round(slope, 3),
            "slope_low_95": round(low, 3),
            "slope_high_95": round(high, 3),
        }
    figures["flat_below_mib_per_cycle"] = FLAT_MIB_PER_CYCLE
    figures["flat"] = all(abs(figures[name]["slope_per_cycle"]) < FLAT_MIB_PER_CYCLE for name in _ROWS)
    return figures


def cycle_table(figures: Mapping[str, Any]) -> list[str]:
    """Returns the figures as lines of Markdown."""
    first_counted = figures["cycles"] - figures["cycles_counted"] + 1
    heads = ["resident memory", "cycle 1", f"cycle {first_counted}", f"cycle {figures['cycles']}"]
    heads.append(f"MiB a cycle over the last {figures['cycles_counted']} (95 % interval)")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for name, label in _ROWS.items():
        row = figures[name]
        lines.append(
            f"| {label} | {row['first']:.0f} MiB | {row['first_counted']:.0f} MiB | {row['last']:.0f} MiB "
            f"| {row['slope_per_cycle']:+.2f} ({row['slope_low_95']:+.2f} to {row['slope_high_95']:+.2f}) |"
        )
    return lines
