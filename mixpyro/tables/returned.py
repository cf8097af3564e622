"""Results as frames with the row labels of the frames that they were computed from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mixpyro.tables import frames


class RowLabels(NamedTuple):
    """Of which library results shall be, and how their rows are labelled."""

    package: str  # "pandas" or "polars"; "" for tensors
    index: Any = None  # labels of the rows; None to number them

    def frame(self, values: Tensor, columns: Sequence[Any]) -> Any:  # noqa: ANN401 (a frame, or the tensor)
        """Return values [N, C] as a frame, or as they are where no frame was given.

        Args:
            values: [N, C].
            columns: names [C].
        """
        if not self.package:
            return values
        return frames.new_frame(self.package, values.detach().cpu().numpy(), columns, self.index)

    def series(self, values: Tensor, name: str | None) -> Any:  # noqa: ANN401 (a Series, or the tensor)
        """Return values [N] as a Series, or as they are where no frame was given.

        Args:
            values: [N].
            name: of the Series.
        """
        if not self.package:
            return values
        return frames.new_series(self.package, values.detach().cpu().numpy(), name, self.index)
