"""Shows frames in a window (pygame). Used on the main thread."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from ferserve_client.video.extras import load_pygame

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

_SIZE: Final = (960, 540)
"""Width and height of a new window in pixels; it can be resized."""


class Window:
    """Shows the frames of one source or several, side by side. Q, Escape or the close button ends it.

    Args:
        title: Title of the window.
        source_count: Sources that are shown, 1 or more.

    Raises:
        MissingExtraError: pygame is not installed.
        OSError: There is no display.
    """

    def __init__(self, title: str, source_count: int) -> None:
        if not has_display(os.environ, sys.platform):
            raise OSError("there is no display for a window; open the page of the server in a browser instead")
        self._pygame: Any = load_pygame()
        try:
            self._pygame.display.init()
            self._screen = self._pygame.display.set_mode(_SIZE, self._pygame.RESIZABLE)
        except self._pygame.error as error:
            raise OSError(f"a window cannot be opened: {error}") from None
        self._pygame.display.set_caption(title)
        self._columns = math.ceil(math.sqrt(source_count))
        self._rows = math.ceil(source_count / self._columns)
        self.asked_to_close = False
        """Whether the user has ended it."""

    def show(self, source_index: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Show a frame: uint8 [H, W, 3], blue, green, red."""
        pygame = self._pygame
        width, height = self._screen.get_size()
        cell_width, cell_height = width // self._columns, height // self._rows
        rows, columns = pixels.shape[:2]
        scale = min(cell_width / columns, cell_height / rows)
        size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
        surface = pygame.transform.smoothscale(
            pygame.image.frombuffer(pixels.tobytes(), (columns, rows), "BGR"), size
        )
        left = (source_index % self._columns) * cell_width + (cell_width - size[0]) // 2
        top = (source_index // self._columns) * cell_height + (cell_height - size[1]) // 2
        self._screen.blit(surface, (left, top))
        pygame.display.flip()
        self.poll()

    def poll(self) -> None:
        """Read the keys and buttons that were pressed."""
        pygame = self._pygame
        for event in pygame.event.get():
            ends = event.type == pygame.KEYDOWN and event.key in {pygame.K_q, pygame.K_ESCAPE}
            self.asked_to_close |= ends or event.type == pygame.QUIT

    def close(self) -> None:
        """Close the window. A second time does nothing."""
        self._pygame.display.quit()


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Tell whether there is a display to open a window on."""
    if platform in {"darwin", "win32"}:
        return True
    return bool(
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY") or environment.get("SDL_VIDEODRIVER")
    )
